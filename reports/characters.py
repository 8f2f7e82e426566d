"""Make strings safe for figures and documents: names from the user's files may have any character."""

import re
from collections.abc import Collection, Mapping
from typing import Any

# Not allowed in XML (SVG) or PDF/UA: control characters except line ends and tabs, halves of a surrogate pair (stray
# bytes in a file's name), the byte order mark, and two noncharacters. Also, marks that change the text direction.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]")


def shown(value: Any, missing: Collection[str] = ()) -> Any:
    """The value with each unfit character in its strings replaced by its code point, such as ‹U+001B›.

    Recurses into lists, tuples and mappings with their keys; everything else, including arrays, is unchanged.

    Args:
        value: of any kind.
        missing: other characters to replace, as no font has them.
    """
    if isinstance(value, str):
        value = _UNFIT.sub(lambda match: code_point(match[0]), value)
        return value.translate({ord(character): code_point(character) for character in missing}) if missing else value
    if isinstance(value, Mapping):
        return {shown(key, missing): shown(inner, missing) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(shown(inner, missing) for inner in value)
    return value


def code_point(character: str) -> str:
    """A character's code point, such as ‹U+001B›."""
    return f"‹U+{ord(character):04X}›"


def used(value: Any) -> set[str]:
    """All characters of the strings in a value, recursively as in `shown`."""
    if isinstance(value, str):
        return set(value)
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    return set().union(*map(used, value)) if isinstance(value, list | tuple) else set()
