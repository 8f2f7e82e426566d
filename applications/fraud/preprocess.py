"""Score a row of a table with an exported anomaly detector; needs only numpy and the runtime of the export.

    model = Model(Path("exported"))
    model.answers([{"Amount": "12.50", "Country": "FR"}])  # [{"score": ..., "alert": ..., "shares": {...}}]

or from a terminal, with a row as JSON: python exported/preprocess.py '{"Amount": "12.50", "Country": "FR"}'
"""

import datetime
import json
import math
import re
import sys
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from applications.runtime import Network

EXAMPLE = "row"  # what `Model.answers` takes a list of


class Model:
    """The detector: rows in, scores and alerts out."""

    def __init__(self, folder: Path):
        self.network = Network(folder)
        self.columns = [Column(column, self.network.preparation) for column in self.network.preparation["columns"]]

    def answers(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Score rows.

        Args:
            rows: each with the values of all input columns by name, as text spelled as in the training table, as
                numbers, or None for a missing value; further values are ignored.

        Returns:
            For each row: score, the mean squared error of the standardised features; alert, whether it is above the
            threshold or the row lacks a value in a column that always had one in training; shares, of each feature in
            the score.

        Raises:
            ValueError: for a value that is not of its column's kind, or a missing column.
        """
        matrix, lacking = self.inputs(rows)
        found = self.network(raw=matrix)
        names = [name for column in self.columns for name in column.features]
        answers = []
        for row, score in enumerate(found["score"].tolist()):
            known = math.isfinite(score)
            answers.append(
                {
                    "score": score if known else self.network.preparation["largest_score"],
                    "alert": bool(lacking[row] or found["alert"][row] or not known),
                    "shares": dict(zip(names, np.nan_to_num(found["share"][row], nan=0.0).tolist(), strict=True)),
                }
            )
        return answers

    def inputs(self, rows: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
        """The features (rows, features), and the rows without a value where training always had one (rows,)."""
        matrix, lacking = [], []
        for row in rows:
            encoded = [column.encode(row) for column in self.columns]
            matrix.append([value for values, _ in encoded for value in values])
            lacking.append(any(absent for _, absent in encoded))
        return np.array(matrix, np.float32), np.array(lacking, bool)


class Column:
    """An input column, and how its values become features."""

    def __init__(self, column: Mapping[str, Any], spellings: Mapping[str, Any]):
        self.name, self.kind, self.features = column["name"], column["kind"], column["features"]
        self.column, self.spellings = column, spellings

    def encode(self, row: Mapping[str, Any]) -> tuple[list[float], bool]:
        """The features of the column, and whether a value is missing that never was in training."""
        if self.name not in row:
            raise ValueError(f"column {self.name!r}: found no value, expected one, or None where it is missing")
        value = row[self.name]
        features = [0.0] * len(self.features)
        if self.kind == "category":
            text = None if value is None or value in self.spellings["usual_marks"] else str(value)
            if text is None and self.column["missing"]:
                features[-1] = 1.0
            else:
                features[self._slot(text or "")] = 1.0
            return features, text is None and not self.column["missing"]
        number = self._number(value)
        if self.column["varies"]:
            features[0] = self.column["fill"] if math.isnan(number) else number
        if self.column["missing"]:
            features[-1] = float(math.isnan(number))
        return features, math.isnan(number) and not self.column["missing"]

    def _slot(self, text: str) -> int:
        vocabulary = self.column["vocabulary"]
        if not vocabulary:
            return zlib.crc32(text.encode()) % self.spellings["hash_buckets"]
        return vocabulary.index(text) if text in vocabulary else len(vocabulary)

    def _number(self, value: Any) -> float:
        """A value as a number, NaN where it is missing; times are seconds since 1970, or of the day."""
        number = math.nan
        if isinstance(value, str):
            text = re.sub("[\u200b-\u200f\u2060\ufeff]", "", value).strip()
            if text.lower() not in self.spellings["marks"]:
                number = self._parsed(text)
                if math.isnan(number):
                    self._refuse(value)
        elif isinstance(value, datetime.datetime) and self.column["family"] == "time":
            number = seconds_since_1970(value)
        elif value is not None and (self.column["family"] == "time" or not self.column["takes_numbers"]):
            self._refuse(value)
        elif value is not None:
            number = float(value)  # type: ignore
        if abs(number) > self.spellings["largest"]:
            self._refuse(value)
        return number

    def _refuse(self, value: Any) -> None:
        raise ValueError(f"column {self.name!r}: found {value!r}, expected {self.column['expected']}")

    def _parsed(self, text: str) -> float:
        if any(character.isdecimal() and not character.isascii() for character in text):
            return math.nan  # as in training, which reads no other digits
        if self.kind == "boolean":
            return {"false": 0.0, "true": 1.0, "0": 0.0, "1": 1.0}.get(text.lower(), math.nan)
        if self.kind == "number" and re.search(self.spellings["printed"], text):
            return float(text)
        if self.column["spelling"]:
            return amount(text, self.column["spelling"], self.spellings)
        if self.kind == "time of day":
            text = re.sub(self.spellings["minutes_and_seconds"], r"0:\1:\2", text)
            return seconds_of_day(re.search(self.spellings["clock"], text), 10_000)
        return moment(text, self.kind, self.spellings)


# --- Numbers as people write them ---


def amount(text: str, spelling: Mapping[str, Any], spellings: Mapping[str, Any]) -> float:
    """The number of a text such as "$1,234.50", "(12.00)" or "45%"; NaN if it is not spelled this way."""
    if re.search(spellings["infinite"], text):
        return math.inf
    # "5.-" and "5,--" are whole amounts; the point of "Rs.5" belongs to the currency.
    text = re.sub(rf"(\d)[.,][{spellings['minus']}—]{{1,2}}(\D*)$", r"\1\2", text)
    text = re.sub(r"^(\D*[^\W\d_])\.", r"\1", text)
    parts = re.search(spellings["parts"], text)
    around = parts and affixes(parts["before"], parts["after"], spellings)
    if not parts or not around:
        return math.nan
    sign, percent = around
    body = parts["body"].strip()
    plain = not spelling["grouped"] and re.search(spelling["one_group"], body)  # thousands, or three decimals
    if plain or not re.search(spelling["body"], body):
        return math.nan
    comma = spelling["decimal"] == "comma"
    body = re.sub(f"[{spellings['blanks']}{spellings['apostrophes']}{'.' if comma else ','}]", "", body)
    value = sign * float(body.replace(",", ".") + parts["exponent"])
    return value if percent == spelling["percent"] or value == 0 else math.nan


def affixes(before: str, after: str, spellings: Mapping[str, Any]) -> tuple[int, bool] | None:
    """Sign, and whether per cent, from the text before and after a number; None if it is something else."""
    if len(before) + len(after) + 1 > spellings["longest_affix"]:
        return None
    before, after = "".join(before.split()), "".join(after.split())
    brackets = before.count("(") == after.count(")") == 1 and "(" not in after and ")" not in before
    if brackets:
        before, after = before.replace("(", ""), after.replace(")", "")
    both = before + after
    minus = sum(character in spellings["minus"] for character in both)
    if minus + brackets + both.count("+") > 1 or both.count("%") > 1:
        return None
    before, after = (re.sub(f"[{spellings['minus']}+%]", "", part) for part in (before, after))
    if not all(is_currency(part, spellings) for part in (before, after) if part) or ("%" in both and before + after):
        return None
    return -1 if minus or brackets else 1, "%" in both


def is_currency(text: str, spellings: Mapping[str, Any]) -> bool:
    """Whether a text is a currency's code, name or sign."""
    name = text.removesuffix(".")
    signs = [character for character in name if unicodedata.category(character) == "Sc"]
    return name in spellings["currencies"] or (
        len(signs) == 1 and len(name) <= 4 and all(c.isalpha() for c in name if c != signs[0])
    )


# --- Dates and times ---


def seconds_of_day(fields: re.Match | None, most: int) -> float:
    """Seconds of a time of day whose hours go up to a maximum; NaN if there is none."""
    if not fields or not fields["hour"]:
        return math.nan
    hour, half = int(fields["hour"]), (fields["half"] or "").lower()
    if hour > most or (half and not 1 <= hour <= 12):
        return math.nan
    if half:
        hour = hour % 12 + 12 * half.startswith("p")
    seconds = hour * 3_600 + int(fields["minute"]) * 60 + float((fields["second"] or "0").replace(",", "."))
    return math.nan if seconds > most * 3_600 else seconds


def seconds_since_1970(time: datetime.datetime) -> float:
    """A time without a zone is in UTC."""
    time = time if time.tzinfo else time.replace(tzinfo=datetime.UTC)
    return (time - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) / datetime.timedelta(seconds=1)


def moment(text: str, kind: str, spellings: Mapping[str, Any]) -> float:
    """Seconds since 1970 of a date with or without a time; NaN if it isn't one."""
    if re.search(r"^\d{4}-", text):
        try:
            return seconds_since_1970(datetime.datetime.fromisoformat(text))
        except ValueError:
            pass
    if kind != "time" or not re.search(spellings["year_last"], text):
        seconds = date(text, kind != "month-first time", spellings)
        if not math.isnan(seconds):
            return seconds
    day_first, month_first = spellings["named"]
    if not re.search(day_first, text) and not re.search(month_first, text):
        return math.nan
    text = re.sub(month_first, r"\2/\1/\3\4", re.sub(day_first, r"\1/\2/\3\4", text))
    for number, name in enumerate(spellings["months"], start=1):
        text = re.sub(rf"(?i)^(\d+)/{name}[a-z]*/", rf"\1/{number}/", text)
    return date(text, True, spellings)


def date(text: str, day_first: bool, spellings: Mapping[str, Any]) -> float:
    """Seconds since 1970 of a date whose day and month are numbers, with or without a time; NaN if it isn't one."""
    fields = re.search(spellings["date"], text)
    year_first = bool(re.search(spellings["year_first"], text))
    if not fields or not (year_first or re.search(spellings["year_last"], text)):
        return math.nan
    a, b, c = (int(fields[name]) for name in "abc")
    year, month, day = (a, b, c) if year_first else (c, b, a) if day_first else (c, a, b)
    year += 2_000 if year < 69 else 1_900 if year < 100 else 0
    try:
        midnight = seconds_since_1970(datetime.datetime(year, month, day))
    except ValueError:
        return math.nan
    in_range = 1_677 < year < 2_262
    return midnight + (seconds_of_day(fields, 24) if ":" in text else 0) if in_range else math.nan


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("expected one row as JSON: a value for each column by name")
    answers = Model(Path(__file__).parent).answers([json.loads(sys.argv[1])])
    print(json.dumps(answers[0], ensure_ascii=False))
