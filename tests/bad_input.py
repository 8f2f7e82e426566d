"""What tests of bad input share: a file of any content, and the one line by which it's refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from data.dataset import BadInput


def write(path: Path, content: str | bytes | pd.DataFrame) -> Path:
    """Write a file and its folder; a table as CSV or, by its name, as Parquet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, pd.DataFrame):
        content.to_parquet(path) if path.suffix == ".parquet" else content.to_csv(path, index=False)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(call: Callable[..., Any], *arguments: Any, **settings: Any) -> str:
    """Call with bad input and return what is said of it."""
    with pytest.raises(BadInput) as caught:
        call(*arguments, **settings)
    text = str(caught.value)
    assert "\n" not in text
    assert "expected" in text
    return text
