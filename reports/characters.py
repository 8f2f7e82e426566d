"""Strings as figures and documents can show them: names come from the user's files and may hold any character."""

import re
from collections.abc import Mapping
from typing import Any

# What XML (SVG) or PDF/UA doesn't allow: control characters but line ends and tabs, halves of a surrogate pair (which
# stand for stray bytes in a file's name), the byte-order mark, and the two code points that are no characters.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff]")


def shown(value: Any) -> Any:
    """The value, with every unfit character of the strings in it named by its code point, such as ‹U+001B›.

    Goes into lists, tuples and mappings with their keys; all else, arrays too, stays as it is.
    """
    if isinstance(value, str):
        return _UNFIT.sub(lambda found: f"‹U+{ord(found[0]):04X}›", value)
    if isinstance(value, Mapping):
        return {shown(key): shown(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(shown, value))
    return value
