"""Interpret the text of a table's columns: numbers as people and programs write them, dates, times of day.

A column's kind is "empty", "category", "boolean", one of `NUMBERS`, one of `TIMES`, or `CLOCK`. "number" is the way
programs print numbers; the other kinds name other spellings. The kind is decided once, from all values of a column
(`Look`); `parse` then reads any text of that kind without guessing.
"""

import collections
import dataclasses
import functools
import itertools
import re
import reprlib
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

# A column of amounts with one misprint is not a category: from this share on, the other values are reported as errors.
KIND_SHARE = 0.9
FEW_WORDS = 8
VOCABULARY_SIZE = 32

# Marks of missing values in a column of numbers, booleans or times, in lower case and without blanks around them.
MARKS = (
    *("", "na", "n/a", "n.a.", "n.a", "n/d", "n.d.", "n/v", "n.v.", "k.a.", "s/d", "#n/a", "#n/a n/a", "#n/v", "#na"),
    *("<na>", "<n/a>", "[na]", "(na)", "(n/a)", "nan", "-nan", "+nan", "<nan>", "1.#ind", "-1.#ind", "1.#qnan"),
    *("-1.#qnan", "nat", "null", "(null)", "<null>", "[null]", "#null!", "none", "(none)", "<none>", "nil", "(nil)"),
    *("?", "??", "???", "-", "--", "---", "----", "–", "—", "−", ".", "..", "...", "…", "*", "**", "\\n", "_"),
    *("unknown", "(unknown)", "<unknown>", "unk", "missing", "(missing)", "<missing>", "[missing]", "(blank)", "blank"),
    *("empty", "(empty)", "undefined", "not available", "not applicable", "no data", "nodata", "void"),
    *("#div/0!", "#div/0", "#value!", "#ref!", "#name?", "#num!", "#error!", "#wert!", "#zahl!", "#bezug!", "#valeur!"),
)

# --- Kinds ---

POINT, COMMA = "point", "comma"


@dataclasses.dataclass(frozen=True)
class Spelling:
    """How the numbers of a column are written; `grouped`: the other of point and comma separates thousands."""

    decimal: str = POINT
    grouped: bool = False
    percent: bool = False

    @property
    def kind(self) -> str:
        """Its name as a kind of column."""
        thousands = f", {COMMA if self.decimal == POINT else POINT} between thousands" if self.grouped else ""
        return f"number with decimal {self.decimal}{thousands}{', in per cent' if self.percent else ''}"


_SPELLINGS = [Spelling(*choice) for choice in itertools.product((POINT, COMMA), (False, True), (False, True))]
NUMBERS = {"number": Spelling(), **{spelling.kind: spelling for spelling in _SPELLINGS}}
TIMES = ("time", "day-first time", "month-first time")
CLOCK = "time of day"


def family(kind: str) -> str:
    """The kind without its spelling: "number", "time", or the kind itself; a time of day is a number."""
    if kind in NUMBERS or kind == CLOCK:
        return "number"
    return "time" if kind in TIMES else kind


def fits(kind: str, typed: str) -> bool:
    """Whether a column of a Parquet type, "number", "boolean" or "time", can be read as a kind."""
    if (typed == "time") != (family(kind) == "time"):
        return False
    return kind != CLOCK and not (kind in NUMBERS and NUMBERS[kind].percent) and kind != "category"


def expected_of(kind: str) -> str:
    """A description of a value of the kind, for messages."""
    if kind in NUMBERS:
        spelling = NUMBERS[kind]
        example = "1,234.5" if spelling.grouped else "1234.5"
        if spelling.decimal == COMMA:
            example = example.translate(str.maketrans(",.", ".,"))
        return f"a finite number, up to 1e15, such as {example}{'%' if spelling.percent else ''}"
    return {
        "boolean": "true or false",
        "time": "an ISO 8601 date or time such as 2024-01-31 13:45:00",
        "day-first time": "a date such as 31/01/2024, the day first",
        "month-first time": "a date such as 01/31/2024, the month first",
        CLOCK: "a time of day such as 13:45 or 13:45:00",
    }[kind]


# --- Missing values ---

# Those that programs write; the other marks are reported, as they may mean something else.
USUAL_MARKS = (
    *("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "-nan", "NaT", "null", "NULL", "Null", "None"),
)


def without_marks(texts: pa.StringArray) -> pa.StringArray:
    """Trim the texts, and replace marks of missing values by null."""
    # Invisible characters, too: marks of writing direction and byte order.
    trimmed = pc.utf8_trim_whitespace(pc.replace_substring_regex(texts, "[\u200b-\u200f\u2060\ufeff]", ""))
    return pc.if_else(pc.is_in(pc.utf8_lower(trimmed), pa.array(MARKS)), None, trimmed)


# --- Numbers ---

_CODES = re.findall(
    "[A-Z]+",
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTC BTN BWP BYN BZD CAD CDF "
    "CHF CLP CNH CNY COP CRC CUP CVE CZK DEM DJF DKK DOP DZD EGP ERN ETB ETH EUR FJD FKP FRF GBP GEL GHS GIP GMD GNF "
    "GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK ITL JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP "
    "LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK "
    "PHP PKR PLN PYG QAR RMB RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SYP SZL THB TJS TMT TND "
    "TOP TRY TTD TWD TZS UAH UGX USD USDT UYU UZS VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWL",
)
_NAMES = (
    *("Rs", "rs", "kr", "Kr", "dkr", "nkr", "skr", "zł", "zl", "Kč", "Ft", "lei", "лв", "руб", "р", "Fr", "SFr", "sFr"),
    *("Rp", "Ksh", "TL", "euro", "Euro", "EURO", "euros", "Euros", "dollars", "Dollars", "元", "円", "원"),
)
_CURRENCIES = frozenset((*_CODES, *(code.lower() for code in _CODES), *(code.title() for code in _CODES), *_NAMES))
_LONGEST_AFFIX = 16
_MINUS = "-\u2212\u2013\u2010\u2011\uff0d"
_BLANKS = " \u00a0\u2007\u2009\u202f"
_APOSTROPHES = "'\u2019\u02bc`\u00b4"
_PARTS = (
    r"^(?P<before>[^\d]*?)"
    rf"(?P<body>[.,]?\d[\d.,{_BLANKS}{_APOSTROPHES}]*)"
    r"(?P<exponent>(?:[eE][+-]?\d+)?)"
    r"(?P<after>[^\d]*)$"
)


def _body(decimal: str, thousands: str) -> str:
    groups = "|".join(rf"(?:[{sign}]\d{{3}})+" for sign in (thousands, _BLANKS, _APOSTROPHES))
    indian = r"|[1-9]\d?(?:,\d\d)+,\d{3}" if decimal == "." else ""
    # A point may end a number, as in Fortran; a comma that does is more likely a list.
    end = r"(?:\.\d*)?" if decimal == "." else r"(?:,\d+)?"
    return rf"^(?:(?:\d+|[1-9]\d{{0,2}}(?:{groups}){indian}){end}|[{decimal}]\d+)$"


_BODIES = {POINT: _body(".", ","), COMMA: _body(",", ".")}
# Thousands or three decimals: a single value is ambiguous.
_ONE_GROUP = {POINT: r"^[1-9]\d{0,2},\d{3}$", COMMA: r"^[1-9]\d{0,2}\.\d{3}$"}
_PRINTED = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"
_INFINITE = r"(?i)^[+-]?(?:inf|infinity|∞)$"


@functools.lru_cache(4_096)
def _affixes(before: str, after: str) -> tuple[int, bool, str] | None:
    """Sign, whether per cent, and currency in the text before and after a number; None if it's something else."""
    before, after = "".join(before.split()), "".join(after.split())
    brackets = before.count("(") == after.count(")") == 1 and "(" not in after and ")" not in before
    if brackets:
        before, after = before.replace("(", ""), after.replace(")", "")
    both = before + after
    minus = sum(character in _MINUS for character in both)
    if minus + brackets + both.count("+") > 1 or both.count("%") > 1:
        return None
    before, after = (re.sub(f"[{_MINUS}+%]", "", part) for part in (before, after))
    if not all(_is_currency(part) for part in (before, after) if part) or ("%" in both and before + after):
        return None
    return -1 if minus or brackets else 1, "%" in both, " ".join(part for part in (before, after) if part)


def _is_currency(text: str) -> bool:
    """Whether a text is a currency's code, name or sign, including signs with letters such as US$ and R$."""
    name = text.removesuffix(".")
    signs = [character for character in name if unicodedata.category(character) == "Sc"]
    return name in _CURRENCIES or (
        len(signs) == 1 and len(name) <= 4 and all(c.isalpha() for c in name if c != signs[0])
    )


@dataclasses.dataclass(frozen=True)
class _Spelled:
    """The parts of texts: the digits of each, or null, and what surrounds them."""

    body: pa.StringArray
    exponent: pa.StringArray
    sign: np.ndarray
    percent: np.ndarray
    currency: np.ndarray


def _split_numbers(texts: pa.StringArray) -> _Spelled:
    # "5.-" and "5,--" are amounts without cents; the point of "Rs.5" belongs to the currency.
    texts = pc.replace_substring_regex(texts, rf"(\d)[.,][{_MINUS}—]{{1,2}}(\D*)$", r"\1\2")
    texts = pc.replace_substring_regex(texts, r"^(\D*\pL)\.", r"\1")
    parts = pc.extract_regex(texts, _PARTS)
    before, body, exponent, after = (pc.struct_field(parts, index) for index in range(4))
    pairs = pc.binary_join_element_wise(before, after, "\0").dictionary_encode()
    affixes = [
        _affixes(*pair.split("\0", 1)) if len(pair) <= _LONGEST_AFFIX and pair.count("\0") == 1 else None
        for pair in pairs.dictionary.to_pylist()
    ]
    affixes.append(None)
    codes = pairs.indices.fill_null(len(affixes) - 1).to_numpy()
    known = np.array([entry is not None for entry in affixes])[codes]
    return _Spelled(
        body=pc.utf8_trim_whitespace(pc.if_else(pa.array(known), body, None)),
        exponent=exponent,
        sign=np.array([entry[0] if entry else 1 for entry in affixes])[codes],
        percent=np.array([bool(entry and entry[1]) for entry in affixes])[codes],
        currency=np.array([entry[2] if entry else "" for entry in affixes])[codes],
    )


def _matches(texts: pa.StringArray, pattern: str) -> np.ndarray:
    return pc.match_substring_regex(texts, pattern).fill_null(False).to_numpy(zero_copy_only=False)


def printed(texts: pa.StringArray) -> np.ndarray | None:
    """The numbers, (rows,) float64, if all values are as programs print numbers and missing values; else None."""
    try:
        return texts.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        pass
    try:
        trimmed = pc.utf8_trim_whitespace(texts)
        present = pc.if_else(pc.is_in(trimmed, pa.array(USUAL_MARKS)), None, trimmed)
        return present.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return None


def _numbers(texts: pa.StringArray, spelling: Spelling) -> np.ndarray:
    encoded = texts.dictionary_encode()
    spelled = _split_numbers(encoded.dictionary)
    body = spelled.body
    right = _matches(body, _BODIES[spelling.decimal])
    if not spelling.grouped:
        # 1,234 may have thousands or decimals: it's a number only if the column is known to be one or the other.
        right &= ~_matches(body, _ONE_GROUP[spelling.decimal])
    body = pc.replace_substring_regex(
        body, rf"[{_BLANKS}{_APOSTROPHES}{',' if spelling.decimal == POINT else '.'}]", ""
    )
    if spelling.decimal == COMMA:
        body = pc.replace_substring(body, ",", ".")
    body = pc.if_else(pa.array(right), pc.binary_join_element_wise(body, spelled.exponent, ""), None)
    values = body.cast(pa.float64()).to_numpy(zero_copy_only=False) * spelled.sign
    values = np.where((spelled.percent == spelling.percent) | (values == 0), values, np.nan)
    infinite = _matches(encoded.dictionary, _INFINITE)
    values = np.append(np.where(infinite, np.inf, values), np.nan)
    return values[encoded.indices.fill_null(len(values) - 1).to_numpy()]


# --- Dates and times ---

_CLOCK_TIME = (
    r"(?P<hour>\d{1,2}):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d(?:[.,]\d+)?))? ?(?P<half>(?:[AaPp]\.?[Mm]\.?)?)"
)
# A time of day or a duration; spreadsheets also write minutes and seconds, such as 47:22.1.
_CLOCK = f"^{_CLOCK_TIME}$".replace(r"\d{1,2}", r"\d{1,4}", 1).replace(r"[0-5]\d", r"[0-5]?\d", 1)
_MINUTES_AND_SECONDS = r"^([0-5]?\d):([0-5]\d[.,]\d+)$"
_ZONE = r"(?: ?(?:Z|UTC|GMT|\+00:?00))?"
_DATE = rf"^(?P<a>\d{{1,4}})[-/.](?P<b>\d{{1,2}})[-/.](?P<c>\d{{1,4}})\.?(?:(?:T|,? +){_CLOCK_TIME}{_ZONE})?$"
_YEAR_LAST = r"^\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d\d)(?:\D|$)"
_YEAR_FIRST = r"^\d{4}[-/.]\d{1,2}(?:[-/.]\d{1,2}(?:\D|$)|$)"
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAMED = (
    r"^(?:[A-Za-z]{3,9},? )?(\d{1,2})(?:st|nd|rd|th)?[-/. ]*([A-Za-z]{3,9})[-/., ]*(\d{4}|\d\d)((?:\D.*)?)$",
    r"^(?:[A-Za-z]{3,9},? )?([A-Za-z]{3,9})\.? (\d{1,2})(?:st|nd|rd|th)?,? (\d{4})((?:\D.*)?)$",
)
_WITH_UNIT = r"^(?P<before>[-+(]?[\pL/.]{0,4}\p{Sc}?\s?)\d[\d.,]*(?P<after>\s?[\pL°/²³]{0,8}[.)]?)$"
_SURELY_WITH_UNIT = r"\p{Sc}|\d[.,]\d|\d\s"
_BOOLEAN = r"(?i)^(true|false)$"


def _fields(texts: pa.StringArray, pattern: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Groups of a pattern as float64, NaN if a text doesn't match or the group is empty."""
    parts = pc.extract_regex(texts, pattern)
    fields = {}
    for name in names:
        field = pc.replace_substring(pc.struct_field(parts, name), ",", ".")
        fields[name] = pc.if_else(pc.equal(field, ""), None, field).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return fields


def _seconds_of_day(texts: pa.StringArray, pattern: str, most: int) -> np.ndarray:
    """Times of day in seconds, with at most `most` hours."""
    fields = _fields(texts, pattern, ("hour", "minute", "second"))
    half = pc.utf8_lower(pc.struct_field(pc.extract_regex(texts, pattern), "half"))
    afternoon, morning = (_matches(half, f"^{letter}") for letter in "pa")
    hour = fields["hour"]
    bad = (hour > most) | ((afternoon | morning) & ((hour < 1) | (hour > 12)))
    hour = np.where(afternoon | morning, hour % 12, hour) + 12 * afternoon
    seconds = hour * 3_600 + fields["minute"] * 60 + np.nan_to_num(fields["second"])
    return np.where(bad | (seconds > most * 3_600), np.nan, seconds)


def _clock(texts: pa.StringArray) -> np.ndarray:
    return _seconds_of_day(pc.replace_substring_regex(texts, _MINUTES_AND_SECONDS, r"0:\1:\2"), _CLOCK, 10_000)


def _dates(texts: pa.StringArray, day_first: bool) -> np.ndarray:
    """Dates with numeric day and month, with or without a time, as seconds since 1970."""
    fields = _fields(texts, _DATE, ("a", "b", "c"))
    year_first = _matches(texts, _YEAR_FIRST)
    year_last = _matches(texts, _YEAR_LAST)
    a, b, c = fields.values()
    year = np.where(year_first, a, c)
    year = np.where(year < 69, year + 2_000, np.where(year < 100, year + 1_900, year))
    first, second = (a, b) if day_first else (b, a)
    month, day = np.where(year_first, b, second), np.where(year_first, c, first)
    table = pd.DataFrame({"year": year, "month": month, "day": day})
    usable = (year_first | year_last) & table.notna().all(axis=1).to_numpy() & (year > 1_677) & (year < 2_262)
    seconds = np.full(len(texts), np.nan)
    if usable.any():
        stamps = pd.to_datetime(table[usable].astype(np.int64), errors="coerce")
        seconds[usable] = np.where(stamps.isna(), np.nan, pd.DatetimeIndex(stamps).as_unit("s").asi8)
    of_day = _seconds_of_day(texts, _DATE, 24)
    return seconds + np.where(np.isnan(of_day) & ~_matches(texts, ":"), 0, of_day)


def _times(texts: pa.StringArray, kind: str) -> np.ndarray:
    # pandas would also accept words such as "now", and a year alone.
    iso = pc.if_else(pc.match_substring_regex(texts, r"^\d{4}-"), texts, None)
    stamps = pd.to_datetime(iso.to_pandas(), utc=True, format="ISO8601", errors="coerce")
    seconds = np.where(stamps.isna(), np.nan, pd.DatetimeIndex(stamps).as_unit("us").asi8 / 1e6)
    if np.isnan(seconds[texts.is_valid().to_numpy(zero_copy_only=False)]).any():
        rest = pc.if_else(pa.array(np.isnan(seconds)), texts, None)
        numeric = pc.if_else(pc.match_substring_regex(rest, _YEAR_LAST), None, rest) if kind == "time" else rest
        seconds = np.where(np.isnan(seconds), _dates(numeric, kind != "month-first time"), seconds)
        named = _without_month_names(rest)
        seconds = np.where(np.isnan(seconds), _dates(named, day_first=True), seconds)
    return seconds


def _without_month_names(texts: pa.StringArray) -> pa.StringArray:
    """Rewrite 31 Jan 2024 and January 31, 2024 as 31/1/2024, and everything else as null."""
    day_first, month_first = (pc.match_substring_regex(texts, pattern).fill_null(False) for pattern in _NAMED)
    texts = pc.if_else(pc.or_(day_first, month_first), texts, None)
    texts = pc.replace_substring_regex(texts, _NAMED[0], r"\1/\2/\3\4")
    texts = pc.replace_substring_regex(texts, _NAMED[1], r"\2/\1/\3\4")
    for number, name in enumerate(_MONTHS, start=1):
        texts = pc.replace_substring_regex(texts, rf"(?i)^(\d+)/{name}[a-z]*/", rf"\1/{number}/")
    return texts


# --- A column ---


def parse(texts: pa.StringArray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Read text of a kind as float64, NaN if missing; times are in seconds since 1970, or since midnight.

    The second array marks the values that aren't of the kind; infinite numbers are of the kind.
    """
    texts = without_marks(texts)
    if kind == "boolean":
        codes = pc.index_in(pc.utf8_lower(texts), pa.array(["false", "true", "0", "1"]))
        values = codes.to_numpy(zero_copy_only=False) % 2
    elif kind in NUMBERS:
        values = _numbers(texts, NUMBERS[kind])
    else:
        values = _clock(texts) if kind == CLOCK else _times(texts, kind)
    values = np.asarray(values, np.float64)
    return values, np.isnan(values) & texts.is_valid().to_numpy(zero_copy_only=False)


def spellings() -> dict[str, Any]:
    """The patterns and marks of `parse` as JSON, for code that reads values without this module."""
    return {
        "marks": list(MARKS),
        "usual_marks": list(USUAL_MARKS),
        "currencies": sorted(_CURRENCIES),
        "longest_affix": _LONGEST_AFFIX,
        "minus": _MINUS,
        "blanks": _BLANKS,
        "apostrophes": _APOSTROPHES,
        "parts": _PARTS,
        "printed": _PRINTED,
        "infinite": _INFINITE,
        "clock": _CLOCK,
        "minutes_and_seconds": _MINUTES_AND_SECONDS,
        "date": _DATE,
        "year_last": _YEAR_LAST,
        "year_first": _YEAR_FIRST,
        "months": list(_MONTHS),
        "named": list(_NAMED),
    }


def spelling(kind: str) -> dict[str, Any] | None:
    """How numbers of a kind are written, as JSON, with the patterns that match their digits; None for other kinds."""
    if kind not in NUMBERS:
        return None
    own = NUMBERS[kind]
    return dataclasses.asdict(own) | {"body": _BODIES[own.decimal], "one_group": _ONE_GROUP[own.decimal]}


class Unclear(Exception):  # noqa: N818 - the column is unclear
    """The values of a column contradict each other; `row` is the index of the one to report."""

    def __init__(self, row: int, wanted: str):
        super().__init__(wanted)
        self.row = row
        self.wanted = wanted


def is_plain(texts: pa.StringArray) -> bool:
    """A fast check whether a column has only numbers as programs print them; False if in doubt."""
    values = printed(texts)
    if values is None or np.isnan(values).all():
        return False
    fractions = values[values != np.floor(values)]
    thousandths = 1_000 * fractions[np.isfinite(fractions)]
    if len(thousandths) == 0 or np.nanmax(np.abs(values)) >= 1_000:
        return True
    # 1.226 may mean 1226: see `Look`.
    if not np.allclose(thousandths, np.round(thousandths), 0, 1e-6):
        return True
    # Usually a few rows are enough.
    parts = (texts.slice(0, 64), texts)
    return any(pc.any(pc.match_substring_regex(part, r"\.(?:\d{1,2}|\d{4,})\s*$")).as_py() for part in parts)


class Look:
    """Statistics of a column: how many values have each spelling, and where the first of each is.

    If `lenient`, a few values that differ from the others are left to `parse`.
    """

    def __init__(self, *, lenient: bool = False) -> None:
        self.lenient = lenient
        self.counts: collections.Counter[str] = collections.Counter()
        self.first: dict[str, tuple[int, str]] = {}  # its row, and the text
        self.marks: collections.Counter[str] = collections.Counter()
        self.currencies: collections.Counter[str] = collections.Counter()
        self.distinct: dict[str, set[str]] = {"number": set(), "other": set(), "unit": set()}

    def add(self, texts: pa.StringArray, first_row: int) -> None:
        """Count the values of rows from index `first_row` on; null is an empty field."""
        encoded = texts.dictionary_encode()
        words = encoded.dictionary
        codes = encoded.indices.fill_null(len(words)).to_numpy()
        amounts = np.bincount(codes, minlength=len(words) + 1)
        places = np.full(len(words) + 1, len(texts))
        np.minimum.at(places, codes, np.arange(len(codes)))

        def see(name: str, mask: np.ndarray) -> None:
            chosen = np.flatnonzero(mask)
            if len(chosen):
                self.counts[name] += int(amounts[chosen].sum())
                first = chosen[np.argmin(places[chosen])]
                self.first.setdefault(name, (first_row + int(places[first]), words[int(first)].as_py()))

        clean = without_marks(words)
        valid = clean.is_valid().to_numpy(zero_copy_only=False)
        for index in np.flatnonzero(~valid):
            self.marks[words[int(index)].as_py().strip()] += int(amounts[index])
        self.marks.pop("", None)
        see("value", valid)
        # Columns without digits, most categories, need no further checks.
        numeric = _matches(clean, r"[\d∞]|(?i:^[+-]?inf)")
        if not numeric.any():
            see("boolean", _matches(clean, _BOOLEAN))
            see("other", valid)
            self._remember("other", words, valid)
            return

        spelled = _split_numbers(clean)
        point, comma = (_matches(spelled.body, _BODIES[decimal]) for decimal in (POINT, COMMA))
        infinite = _matches(clean, _INFINITE)
        number = point | comma | infinite
        see("number", number)
        see("printed", infinite | _matches(clean, _PRINTED))
        see("percent", number & spelled.percent)
        see("not percent", number & ~spelled.percent & ~_matches(spelled.body, r"^[0.,]+$"))
        see("decimal point", point & ~comma)
        see("decimal comma", comma & ~point)
        see("comma before three", _matches(spelled.body, _ONE_GROUP[POINT]))
        see("point before three", _matches(spelled.body, _ONE_GROUP[COMMA]))
        see("comma between thousands", point & _matches(spelled.body, ","))
        see("point between thousands", comma & _matches(spelled.body, r"\."))
        see("below 1000", _matches(spelled.body, r"^\d{1,3}$"))
        see("from 1000", _matches(spelled.body, r"^\d{4,}$"))
        for name in np.unique(spelled.currency[number]):
            if name:
                self.currencies[name] += int(amounts[:-1][number & (spelled.currency == name)].sum())

        other = valid & ~number
        see("other", other)
        if other.any():
            see("boolean", _matches(clean, _BOOLEAN))
            see(CLOCK, _matches(clean, _CLOCK) | _matches(clean, _MINUTES_AND_SECONDS))
            date = _matches(clean, _DATE) & _matches(clean, _YEAR_LAST)
            see("date", date)
            if date.any():
                fields = _fields(clean, _DATE, ("a", "b"))
                see("day first", date & (fields["a"] > 12))
                see("month first", date & (fields["b"] > 12))
                see("day or month", date & (fields["a"] != fields["b"]))
                see("slashed", date & ~_matches(clean, r"^\d+\."))
            time = _matches(clean, _YEAR_FIRST) | _matches(clean, _NAMED[0]) | _matches(clean, _NAMED[1])
            see("time", time & ~parse(clean, "time")[1] if time.any() else time)
            parts = pc.extract_regex(clean, _WITH_UNIT)
            units = pc.utf8_trim_whitespace(
                pc.binary_join_element_wise(pc.struct_field(parts, "before"), pc.struct_field(parts, "after"), "")
            )
            units = pc.if_else(pc.equal(units, ""), None, units)
            see("with a unit", units.is_valid().to_numpy(zero_copy_only=False))
            see("surely with a unit", _matches(units, "") & _matches(clean, _SURELY_WITH_UNIT))
            self._remember("unit", units, units.is_valid().to_numpy(zero_copy_only=False))
        self._remember("number", words, number)
        self._remember("other", words, other)

    def _remember(self, name: str, words: pa.StringArray, mask: np.ndarray) -> None:
        """Collect distinct words, up to one more than a vocabulary can have."""
        if mask.any() and len(self.distinct[name]) <= VOCABULARY_SIZE:
            self.distinct[name].update(words.filter(pa.array(mask)).unique().slice(0, VOCABULARY_SIZE + 1).to_pylist())

    def settled(self) -> str | None:
        """The kind, if these values leave no doubt about the others; else None."""
        values = self.counts["value"]
        if values == 0:
            return "empty"
        # Whether 1.226 is 1226 may depend on the other columns.
        unclear = self.counts["point before three"] and not self.counts["decimal point"]
        if self.counts["printed"] == values and not self.unusual_marks and not unclear:
            return "number"
        for kind in ("boolean", "time"):
            if self.counts[kind] == values:
                return kind
        some = ("number", "boolean", "time", "date", CLOCK, "with a unit")
        return None if any(self.counts[name] for name in some) else "category"

    def kind(self, commas_elsewhere: bool = False) -> str:
        """Decide the kind from all values; `commas_elsewhere`: other columns of the table have a decimal comma.

        Raises:
            Unclear: Most values are of one kind, and some aren't; or they contradict each other.
        """
        values = self.counts["value"]
        if values == 0:
            return "empty"
        few_words = len(self.distinct["other"]) <= FEW_WORDS and len(self.distinct["number"]) > VOCABULARY_SIZE
        numbers = self.counts["number"] / values
        if numbers >= KIND_SHARE or (few_words and numbers >= 1 - KIND_SHARE):
            kind = self._spelling(commas_elsewhere).kind
            if self.counts["printed"] == values and not self.unusual_marks and kind == Spelling().kind:
                return "number"
        elif self.counts["date"] >= KIND_SHARE * values:
            kind = self._date_order()
        else:
            kinds = [kind for kind in ("boolean", "time", CLOCK) if self.counts[kind] >= KIND_SHARE * values]
            if not kinds:
                self._refuse_units()
                return "category"
            kind = kinds[0]
        if family(kind) == "number" and kind != CLOCK:
            found = f"{self.counts['number']:,} of the column's {values:,} values are numbers"
            remedy = "leave the others empty, or the column out with --drop"
            self._refuse("other", f"{expected_of(kind)}, as {found}; {remedy}")
        return kind

    @property
    def unusual_marks(self) -> dict[str, int]:
        """Unusual marks of missing values, with their counts."""
        return {mark: count for mark, count in self.marks.items() if mark not in USUAL_MARKS}

    def share(self, name: str) -> float:
        """The share of the values with a spelling."""
        return self.counts[name] / max(self.counts["value"], 1)

    def has_decimal_comma(self) -> bool:
        """Whether commas, not points, precede decimals."""
        return self.counts["decimal comma"] > 9 * self.counts["decimal point"]

    def _refuse(self, name: str, wanted: str) -> None:
        if name in self.first and not (self.lenient and self.share(name) <= 1 - KIND_SHARE):
            raise Unclear(self.first[name][0], wanted)

    def _refuse_units(self) -> None:
        few_units = 1 <= len(self.distinct["unit"]) <= FEW_WORDS and len(self.distinct["other"]) > VOCABULARY_SIZE
        if few_units and self.share("with a unit") >= KIND_SHARE and self.share("surely with a unit") >= 0.5:
            unit = min(self.distinct["unit"]).strip()
            self._refuse("surely with a unit", f"numbers without {unit!r}, or the column left out with --drop")

    def _points_separate_thousands(self) -> bool:
        """Whether 1.226 likely means 1226: numbers are integers up to 999, or have three digits after a point."""
        seen = self.counts
        others = seen["decimal point"] or seen["from 1000"] or not seen["below 1000"]
        return seen["point before three"] >= 20 and not others

    def _spelling(self, commas_elsewhere: bool) -> Spelling:
        seen = self.counts
        point, comma = seen["decimal point"], seen["decimal comma"]
        if point and comma:
            sign, other = ("point", "comma") if point >= comma else ("comma", "point")
            example = self.first[f"decimal {sign}"][1]
            self._refuse(f"decimal {other}", f"a decimal {sign} as in {reprlib.repr(example)}")
        if not point and not comma and seen["comma before three"] and seen["point before three"]:
            example = self.first["point before three"][1]
            self._refuse("comma before three", f"consistent points and commas: it also holds {reprlib.repr(example)}")
        unclear = seen["comma before three"] or seen["point before three"]
        by_comma = comma > point or (not point and unclear and (commas_elsewhere or self._points_separate_thousands()))
        percent = seen["percent"] > seen["not percent"]
        if seen["percent"] and seen["not percent"]:
            if percent:
                self._refuse("not percent", f"per cent as in {reprlib.repr(self.first['percent'][1])}")
            self._refuse("percent", f"no per cent, as in {reprlib.repr(self.first['not percent'][1])}")
        return Spelling(
            COMMA if by_comma else POINT,
            grouped=seen["point between thousands" if by_comma else "comma between thousands"] > 0,
            percent=percent,
        )

    def _date_order(self) -> str:
        seen = self.counts
        if seen["day first"] and seen["month first"]:
            first, other = ("day", "month") if seen["day first"] >= seen["month first"] else ("month", "day")
            example = self.first[f"{first} first"][1]
            self._refuse(f"{other} first", f"the {first} first as in {reprlib.repr(example)}")
        if seen["month first"] > seen["day first"]:
            return "month-first time"
        # Dates with points never have the month first.
        if not seen["day first"] and seen["day or month"] and seen["slashed"]:
            wanted = "dates that show whether the day or the month is first; write them as 2024-01-31"
            self._refuse("day or month", wanted)
        return "day-first time"


# --- Units of numeric times ---

UNITS = {
    "nanoseconds": 1e-9,
    "microseconds": 1e-6,
    "milliseconds": 1e-3,
    "seconds": 1.0,
    "minutes": 60.0,
    "hours": 3_600.0,
    "days": 86_400.0,
    "weeks": 7 * 86_400.0,
    "months": 365.25 / 12 * 86_400.0,
}
_FIRST_UNIX, _LAST_UNIX = 1e8, 5e9  # 1973 and 2128
_CALENDARS = {"YYYYMMDD": 1.0, "YYYYMMDDhhmm": 1e4, "YYYYMMDDhhmmss": 1e6}


def guess_unit(times: np.ndarray) -> str | None:
    """The unit of times since 1970, by their size, or the calendar of numbers such as 20240131; None if neither."""
    for calendar in _CALENDARS:
        if not np.isnan(in_seconds(times, calendar)).any():
            return calendar
    for unit in ("nanoseconds", "microseconds", "milliseconds", "seconds"):
        seconds = times * UNITS[unit]
        if seconds.min() >= _FIRST_UNIX and seconds.max() <= _LAST_UNIX:
            return unit
    return None


def in_seconds(times: np.ndarray, unit: str) -> np.ndarray:
    """Convert times in a unit, or numbers such as 20240131, to seconds; NaN if such a number isn't a date."""
    if unit in UNITS:
        return times * UNITS[unit]
    dates, of_day = np.divmod(times, _CALENDARS[unit])
    possible = (dates >= 19_000_101) & (dates <= 21_001_231) & (of_day == np.floor(of_day))
    seconds = np.full(len(times), np.nan)
    if possible.any():
        text = pa.array(dates[possible].astype(np.int64)).cast(pa.string())
        iso = pc.replace_substring_regex(text, r"^(\d{4})(\d\d)(\d\d)$", r"\1-\2-\3")
        seconds[possible] = _times(iso, "time")
    if unit == "YYYYMMDDhhmm":
        of_day = of_day * 100
    hour, minute, second = of_day // 10_000, of_day // 100 % 100, of_day % 100
    seconds[(hour > 23) | (minute > 59) | (second > 59)] = np.nan
    return seconds + hour * 3_600 + minute * 60 + second
