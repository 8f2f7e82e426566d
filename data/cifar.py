"""CIFAR-10's Python batches, read without unpickling.

A batch is a pickle of a dictionary with `data`, an array (n, 3072) uint8, and `labels`, a list of n numbers. The
standard library's `pickletools` lists its opcodes without executing them. Only those that dictionaries, lists, strings,
numbers and NumPy's arrays of numbers need are interpreted here; any other is an error. A `pickle.Unpickler` that allows
no classes would not be safe: a memo of gigabytes, or a string encoded many times, needs no class.
"""

import dataclasses
import math
import pickletools
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.dataset import BadInput
from data.picture_files import reason

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
LARGEST_BATCH = 2 * 10**8  # bytes; the published batches have 31 million
MOST_STEPS = 500_000  # opcodes in a batch; the largest published batch has 40,000

_NOTHING = {"PROTO", "FRAME", "STOP"}
_VALUES = {
    *("NONE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS = {"NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


@dataclasses.dataclass(frozen=True)
class _Name:
    """A function or class that the pickle names; it is never imported."""

    text: str


class _Array:
    """An array whose contents may come later."""

    value: np.ndarray | None = None


def read_batch(path: Path, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return the pictures of a batch, (n, 32, 32, 3) uint8, and their labels, (n,) int64.

    Raises:
        BadInput: The content of the file `path` isn't a batch.
    """
    expected = "expected one of CIFAR-10's Python batches"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in damaged strings
            batch = parse(content)
    except Exception as error:  # a damaged pickle can raise almost any exception
        raise BadInput(f"{path}: found a file that can't be read ({reason(error)}), {expected}") from None
    if not isinstance(batch, dict):
        raise BadInput(f"{path}: found a pickled {type(batch).__name__}, {expected}")
    fields = {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
    pixels, numbers = fields.get("data"), fields.get("labels")
    if not isinstance(pixels, np.ndarray):
        raise BadInput(f"{path}: data: found no array, expected uint8 of (n, 3072)")
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3072 or not len(pixels):
        raise BadInput(f"{path}: data: found {pixels.dtype} of {pixels.shape}, expected uint8 of (n, 3072)")
    if isinstance(numbers, np.ndarray) and numbers.ndim == 1 and numbers.dtype.kind in "iu":
        numbers = numbers.tolist()
    if not isinstance(numbers, list) or not all(isinstance(number, int) for number in numbers):
        raise BadInput(f"{path}: labels: found no list of integers, {expected}")
    if len(numbers) != len(pixels):
        raise BadInput(f"{path}: labels: found {len(numbers):,}, expected {len(pixels):,}, one per image")
    for row, number in enumerate(numbers):
        if not 0 <= number < len(CLASSES):
            raise BadInput(f"{path}: labels: image {row + 1}: found {number}, expected 0 to 9")
    images = np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return images, np.array(numbers, np.int64)


def parse(content: bytes) -> Any:
    """Return the content of a pickle of Python's own containers and NumPy's arrays of numbers.

    Raises:
        ValueError: The pickle is damaged, or holds something else. A damaged pickle may raise other exceptions, too.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    encoded: dict[int, tuple[str, bytes]] = {}
    argument: Any
    for step, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if step >= MOST_STEPS:
            raise ValueError(f"more than {MOST_STEPS:,} opcodes")
        name = opcode.name
        if name in _NOTHING:
            continue
        if name in _VALUES:
            if isinstance(argument, int) and argument.bit_length() > 63:
                raise ValueError("a number of more than 63 bits")
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(_last(stack, _TUPLES[name]))]
        elif name in ("TUPLE", "LIST", "DICT"):
            values = _since_mark(stack)
            pairs = dict(zip(values[::2], values[1::2], strict=True)) if name == "DICT" else {}
            stack.append({"TUPLE": tuple(values), "LIST": values, "DICT": pairs}[name])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("APPEND", "APPENDS"):
            values = _since_mark(stack) if name == "APPENDS" else [stack.pop()]
            _of(stack[-1], list).extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            values = _since_mark(stack) if name == "SETITEMS" else [stack.pop() for _ in range(2)][::-1]
            _of(stack[-1], dict).update(zip(values[::2], values[1::2], strict=True))
        elif name == "GLOBAL":
            stack.append(_name(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            module, attribute = _last(stack, 2)
            stack[-2:] = [_name(_of(module, str), _of(attribute, str))]
        elif name == "REDUCE":
            function, arguments = _last(stack, 2)
            stack[-2:] = [_result(_of(function, _Name).text, _of(arguments, tuple), encoded)]
        elif name == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], _Array):
                _, shape, dtype, by_columns, raw = _of(state, tuple)
                stack[-1].value = _array(raw, dtype, shape, "F" if by_columns else "C", encoded)
            elif not isinstance(stack[-1], np.dtype):  # the state of a dtype adds nothing
                raise ValueError("an object of another type")
        else:
            raise ValueError(f"the opcode {name}")
    (result,) = stack
    if isinstance(result, dict):
        return {key: value.value if isinstance(value, _Array) else value for key, value in result.items()}
    return result


def _last(stack: list[Any], count: int) -> list[Any]:
    if len(stack) < count:
        raise ValueError("an opcode without its values")
    return stack[-count:]


def _since_mark(stack: list[Any]) -> list[Any]:
    place = next((i for i in range(len(stack) - 1, -1, -1) if stack[i] is _MARK), None)
    if place is None:
        raise ValueError("an opcode without its mark")
    values = stack[place + 1 :]
    del stack[place:]
    return values


def _of(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"a {type(value).__name__} in place of a {kind.__name__.lstrip('_').lower()}")
    return value


def _name(module: str, attribute: str) -> _Name:
    text = f"{module}.{attribute}".replace("numpy._core", "numpy.core").replace("__builtin__", "builtins")
    known = (
        *("numpy.core.multiarray._reconstruct", "numpy.core.numeric._frombuffer", "numpy.ndarray", "numpy.dtype"),
        *("_codecs.encode", "builtins.bytes"),
    )
    if text not in known:
        raise ValueError(f"{text[:60]} isn't allowed")
    return _Name(text)


def _result(function: str, arguments: tuple, encoded: dict[int, tuple[str, bytes]]) -> Any:
    match function.rsplit(".", 1)[1], arguments:
        case "_reconstruct", (_Name(text="numpy.ndarray"), _, _):
            return _Array()
        case "_frombuffer", (raw, dtype, shape, order):
            array = _Array()
            array.value = _array(raw, dtype, shape, order, encoded)
            return array
        case "dtype", (str() as text, *_) if re.fullmatch(r"[|<>=]?[biufc][0-9]{1,2}", text):
            return np.dtype(text)
        case "encode", (str() as text, str() as encoding) if encoding.lower() in ("latin1", "latin-1", "iso-8859-1"):
            return _bytes(text, encoded)  # Python 3 pickles bytes like this for Python 2
        case "bytes", ():
            return b""
    raise ValueError(f"a call of {function} with other values")


def _bytes(text: str, encoded: dict[int, tuple[str, bytes]]) -> bytes:
    """Encode a string of the file, only once even if the pickle refers to it many times."""
    if id(text) not in encoded:
        encoded[id(text)] = text, text.encode("latin-1")
    return encoded[id(text)][1]


def _array(raw: Any, dtype: Any, shape: Any, order: Any, encoded: dict[int, tuple[str, bytes]]) -> np.ndarray:
    if isinstance(raw, str):  # Python 2's strings are bytes
        raw = _bytes(raw, encoded)
    dtype, sizes = _of(dtype, np.dtype), _sizes(shape)
    if not isinstance(raw, bytes | bytearray) or len(raw) != math.prod(sizes) * dtype.itemsize:
        raise ValueError(f"an array that isn't as long as {sizes} of {dtype}")
    return np.frombuffer(raw, dtype).reshape(sizes, order="F" if order == "F" else "C")


def _sizes(shape: Any) -> Sequence[int]:
    if not isinstance(shape, tuple) or len(shape) > 4 or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError("an array of an unexpected shape")
    return shape
