"""Strings as figures and documents can show them: names come from the user's files and may hold any character."""

import re
from collections.abc import Collection, Mapping
from typing import Any

# What XML (SVG) or PDF/UA doesn't allow: control characters but line ends and tabs, halves of a surrogate pair (which
# stand for stray bytes in a file's name), the byte-order mark, and the two code points that are no characters. And what
# turns the text behind it around.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]")


def shown(value: Any, missing: Collection[str] = ()) -> Any:
    """The value, with every unfit character of the strings in it named by its code point, such as ‹U+001B›.

    Goes into lists, tuples and mappings with their keys; all else, arrays too, stays as it is.

    Args:
        value: of any kind.
        missing: characters that are to be named as well, since no font draws them.
    """
    if isinstance(value, str):
        value = _UNFIT.sub(lambda found: code_point(found[0]), value)
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
    """All characters of the strings in a value, as `shown` finds them."""
    if isinstance(value, str):
        return set(value)
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    return set().union(*map(used, value)) if isinstance(value, list | tuple) else set()
