"""An option for a second backend, on which each test is run on its first case alone; and mixed precision."""

import keras
import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--one-case", action="store_true", help="of each test its first case alone; but of all templates")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the further cases."""
    if not config.getoption("--one-case"):
        return
    first: dict[str, pytest.Item] = {}
    for item in items:
        every_template = item.path.name == "test_templates.py"
        first.setdefault(item.nodeid if every_template else item.nodeid.split("[")[0], item)
    config.hook.pytest_deselected(items=[item for item in items if item not in first.values()])
    items[:] = first.values()


@pytest.fixture
def half_precision():
    """Set mixed precision for a test, and give the half one's name and how exact it is."""
    # On a CPU JAX has no attention in float16.
    dtype, exactness = ("bfloat16", 0.06) if keras.backend.backend() == "jax" else ("float16", 0.01)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(f"mixed_{dtype}")
    yield dtype, exactness
    keras.config.set_dtype_policy(policy)
