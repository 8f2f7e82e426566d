"""Simulated card payments with fraud, window features and an evaluation protocol.

The simulator, the features and the protocol reimplement those of Le Borgne, Siblini, Lebichot & Bontempi, *Reproducible
Machine Learning for Credit Card Fraud Detection – Practical Handbook* (Université Libre de Bruxelles, 2022), with NumPy
arrays. Column names are the handbook's, so that its own tables can be used instead.
"""

import datetime
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.neighbors import KDTree

from data import ranges, table, table_files
from data.dataset import BadInput, Dataset, Provenance, Split
from data.embedded import Protocol, Simulation

DAY = 86_400
LARGEST_AMOUNT = 1e12  # sums of cents stay exact in 64 bits
WINDOWS = (1, 7, 30)  # days

RAW_COLUMNS = {  # and their kinds
    "TX_DATETIME": "time",
    "CUSTOMER_ID": "category",
    "TERMINAL_ID": "category",
    "TX_AMOUNT": "number",
    "TX_FRAUD": "number",
}
SCENARIOS = {1: "large amount", 2: "compromised terminal", 3: "compromised customer"}
FEATURES = (
    "TX_AMOUNT",
    "TX_DURING_WEEKEND",
    "TX_DURING_NIGHT",
    *(name for w in WINDOWS for name in (f"CUSTOMER_ID_NB_TX_{w}DAY_WINDOW", f"CUSTOMER_ID_AVG_AMOUNT_{w}DAY_WINDOW")),
    *(name for w in WINDOWS for name in (f"TERMINAL_ID_NB_TX_{w}DAY_WINDOW", f"TERMINAL_ID_RISK_{w}DAY_WINDOW")),
)


def simulate(simulation: Simulation | None = None) -> pd.DataFrame:
    """Simulate card payments with three kinds of fraud.

    Returns one row per payment, ordered by time: TRANSACTION_ID, TX_DATETIME, CUSTOMER_ID, TERMINAL_ID, TX_AMOUNT
    (two decimals), TX_TIME_SECONDS and TX_TIME_DAYS since the start, TX_FRAUD (0, 1) and TX_FRAUD_SCENARIO: 0 genuine,
    1 large amount, 2 compromised terminal, 3 compromised customer, whose amounts are multiplied. A later scenario
    overwrites an earlier one.

    Raises:
        BadInput: A setting is out of its range, or the settings give no payment.
    """
    settings = simulation or Simulation()
    ranges.check(settings, "--simulation.")
    if settings.mean_amount_low > settings.mean_amount_high:
        raise BadInput(
            f"--simulation.mean-amount-low: found {settings.mean_amount_low}, expected at most "
            f"{settings.mean_amount_high}, the mean-amount-high"
        )
    payments_stream, fraud_stream = np.random.default_rng(settings.seed).spawn(2)
    payments = _genuine_payments(settings, payments_stream)
    if payments.empty:
        raise BadInput("--simulation: found no payment, expected more customers, days or payments per day")
    return _add_frauds(payments, settings, fraud_stream)


def _genuine_payments(settings: Simulation, random: np.random.Generator) -> pd.DataFrame:
    customer_places = random.uniform(0, 100, (settings.customers, 2))
    mean_amount = random.uniform(settings.mean_amount_low, settings.mean_amount_high, settings.customers)
    payments_per_day = random.uniform(0, settings.payments_per_day_high, settings.customers)
    terminal_places = random.uniform(0, 100, (settings.terminals, 2))

    near = KDTree(terminal_places).query_radius(customer_places, settings.radius)
    near_count = np.array([len(terminals) for terminals in near])
    near_first = np.concatenate([[0], np.cumsum(near_count)[:-1]])
    near_terminals = np.concatenate([np.sort(terminals) for terminals in near])

    # A customer with no terminal in reach makes no payment.
    rate = np.where(near_count > 0, payments_per_day, 0.0)
    count = random.poisson(rate[:, None], (settings.customers, settings.days))
    cell = np.repeat(np.arange(count.size), count.ravel())
    customer, day = cell // settings.days, cell % settings.days
    second = random.normal(DAY / 2, 20_000, len(cell)).astype(np.int64)
    inside = (second > 0) & (second < DAY)
    customer, day, second = customer[inside], day[inside], second[inside]

    mean = mean_amount[customer]
    amount = random.normal(mean, mean / 2)
    amount = np.where(amount < 0, random.uniform(0, 2 * mean), amount)
    choice = near_first[customer] + (random.random(len(customer)) * near_count[customer]).astype(np.int64)

    time = day * DAY + second
    order = np.argsort(time, kind="stable")
    time = time[order]
    return pd.DataFrame(
        {
            "TRANSACTION_ID": np.arange(len(order)),
            "TX_DATETIME": np.datetime64(settings.start, "s") + time.astype("timedelta64[s]"),
            "CUSTOMER_ID": customer[order],
            "TERMINAL_ID": near_terminals[choice[order]],
            "TX_AMOUNT": np.round(amount[order], 2),
            "TX_TIME_SECONDS": time,
            "TX_TIME_DAYS": time // DAY,
        }
    )


def _add_frauds(payments: pd.DataFrame, settings: Simulation, random: np.random.Generator) -> pd.DataFrame:
    day = payments["TX_TIME_DAYS"].to_numpy()
    customer = payments["CUSTOMER_ID"].to_numpy()
    terminal = payments["TERMINAL_ID"].to_numpy()
    amount = payments["TX_AMOUNT"].to_numpy().copy()
    scenario = np.where(amount > settings.large_amount, 1, 0)
    first_of_day = np.searchsorted(
        day, np.arange(settings.days + max(settings.terminal_days, settings.customer_days) + 1)
    )

    for start in range(settings.days):
        compromised = random.choice(
            settings.terminals, min(settings.terminals_compromised_per_day, settings.terminals), replace=False
        )
        rows = np.arange(first_of_day[start], first_of_day[start + settings.terminal_days])
        scenario[rows[np.isin(terminal[rows], compromised)]] = 2

    for start in range(settings.days):
        compromised = random.choice(
            settings.customers, min(settings.customers_compromised_per_day, settings.customers), replace=False
        )
        rows = np.arange(first_of_day[start], first_of_day[start + settings.customer_days])
        rows = rows[np.isin(customer[rows], compromised)]
        # The share is of the payments of all the day's compromised customers together, as in the handbook.
        frauds = random.choice(rows, int(len(rows) * settings.customer_fraud_share), replace=False)
        amount[frauds] = np.round(amount[frauds] * settings.customer_fraud_factor, 2)
        scenario[frauds] = 3

    return payments.assign(
        TX_AMOUNT=amount, TX_FRAUD=(scenario > 0).astype(np.int8), TX_FRAUD_SCENARIO=scenario.astype(np.int8)
    )


def add_features(payments: pd.DataFrame, label_delay_days: int = 7) -> pd.DataFrame:
    """Add the handbook's features to payments that are ordered by time.

    `payments` needs TX_DATETIME, CUSTOMER_ID, TERMINAL_ID, TX_AMOUNT and TX_FRAUD. For windows of w = 1, 7 and 30 days,
    the features are the customer's count and mean amount in (t − w, t], including the current payment; and the
    terminal's count and share of frauds in (t − delay − w, t − delay], as a label is known only after
    `label_delay_days`, 0 if that window is empty. Others: whether the day is a Saturday or Sunday, and whether the hour
    is 6 or less.
    """
    moment = payments["TX_DATETIME"].to_numpy().astype("datetime64[s]")
    time = moment.astype(np.int64)
    weekday = (time // DAY + 3) % 7  # 1970-01-01 was a Thursday
    added = {
        "TX_DURING_WEEKEND": (weekday >= 5).astype(np.int8),
        "TX_DURING_NIGHT": (time % DAY // 3600 <= 6).astype(np.int8),
    }
    # Integer sums of cents are exact.
    cents = np.round(payments["TX_AMOUNT"].to_numpy() * 100).astype(np.int64)
    fraud = payments["TX_FRAUD"].to_numpy().astype(np.int64)
    windows = [w * DAY for w in WINDOWS]
    for w, (count, total) in zip(
        WINDOWS, _windows(payments["CUSTOMER_ID"].to_numpy(), time, cents, windows, 0), strict=True
    ):
        added[f"CUSTOMER_ID_NB_TX_{w}DAY_WINDOW"] = count
        added[f"CUSTOMER_ID_AVG_AMOUNT_{w}DAY_WINDOW"] = total / 100 / count
    delay = label_delay_days * DAY
    for w, (count, total) in zip(
        WINDOWS, _windows(payments["TERMINAL_ID"].to_numpy(), time, fraud, windows, delay), strict=True
    ):
        added[f"TERMINAL_ID_NB_TX_{w}DAY_WINDOW"] = count
        added[f"TERMINAL_ID_RISK_{w}DAY_WINDOW"] = total / np.maximum(count, 1)
    return payments.assign(**added)


def _windows(
    owner: np.ndarray, time: np.ndarray, value: np.ndarray, windows: Sequence[int], delay: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Count and sum of `value` over the owner's rows in (t − delay − w, t − delay] for each w; times in seconds."""
    _, owner = np.unique(owner, return_inverse=True)
    # One sorted key for all owners, with gaps between owners that are wider than any window.
    stride = int(time.max() - time.min()) + max(windows) + delay + 1
    key = owner * stride + (time - time.min())
    order = np.argsort(key, kind="stable")
    key = key[order]
    before = np.concatenate([[0], np.cumsum(value[order])])
    end = np.searchsorted(key, key - delay, side="right")
    results = []
    for window in windows:
        start = np.searchsorted(key, key - delay - window, side="right")
        count, total = np.empty_like(end), np.empty_like(before[1:])
        count[order] = end - start
        total[order] = before[end] - before[start]
        results.append((count, total))
    return results


def read(paths: Sequence[Path]) -> pd.DataFrame:
    """Read tables in the handbook's layout, CSV or Parquet, such as its daily files, ordered by time.

    Only `RAW_COLUMNS` are read, and TX_FRAUD_SCENARIO if there is one.

    Raises:
        BadInput: A file can't be read, lacks a column, or a column holds values of another kind.
    """
    return _read(table_files.find_files(paths))


def _read(files: table_files.Tables) -> pd.DataFrame:
    kinds = dict(RAW_COLUMNS)
    if "TX_FRAUD_SCENARIO" in files[0].positions:
        kinds["TX_FRAUD_SCENARIO"] = "number"

    def columns_of(batch: table_files.Batch) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        for name, kind in kinds.items():
            if kind == "category":
                columns[name] = table.texts(batch, name, "a value")
                continue
            columns[name] = values = table.numbers(batch, name, kind)
            table_files.reject(batch, name, np.isnan(values), "a value in every row")
            if name == "TX_AMOUNT":
                table_files.reject(batch, name, np.abs(values) > LARGEST_AMOUNT, f"an amount up to {LARGEST_AMOUNT:g}")
            if name == "TX_FRAUD":
                table_files.reject(batch, name, (values != 0) & (values != 1), "0 or 1")
        return columns

    if files.skip_bad:
        table_files.leave_out(files, kinds, columns_of)
    parts: dict[str, list[Any]] = {name: [] for name in kinds}
    for batch in table_files.stream(files, kinds):
        for name, values in columns_of(batch).items():
            parts[name].append(values)
    columns = {
        name: _codes(arrays) if kinds[name] == "category" else np.concatenate(arrays) for name, arrays in parts.items()
    }
    columns["TX_DATETIME"] = columns["TX_DATETIME"].astype("datetime64[s]")
    for name in set(columns) & {"TX_FRAUD", "TX_FRAUD_SCENARIO"}:
        columns[name] = columns[name].astype(np.int8)
    return pd.DataFrame(columns).sort_values("TX_DATETIME", kind="stable", ignore_index=True)


def _codes(texts: list[pa.StringArray]) -> np.ndarray:
    """Integers as they are; other names as codes in sorted order."""
    column = pa.chunked_array(texts)
    try:
        return column.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        return np.unique(column.to_numpy(), return_inverse=True)[1]


def split(payments: pd.DataFrame, protocol: Protocol) -> dict[str, Split]:
    """Split payments with their features by time, as the handbook does.

    "train" is the training week and "test" the week after the delay. "validation_train" and "validation" are the same
    weeks shifted back, so that the validation week is the training week and every choice is made before the test week
    begins. "validation" and "test" exclude customers known to be compromised: those with a fraud since the start of the
    corresponding training week that is older than the delay on the day of the payment.

    Raises:
        BadInput: A week holds no payment or no fraud, or the validation days would overlap the test days.
    """
    ranges.check(protocol, "--protocol.")
    if protocol.test_days > protocol.train_days + protocol.delay_days:
        raise BadInput(
            f"--protocol.test-days: found {protocol.test_days}, expected at most "
            f"{protocol.train_days + protocol.delay_days}, the days of training and delay, so that validation ends "
            "before the test begins"
        )
    shift = datetime.timedelta(days=protocol.train_days + protocol.delay_days)
    day = payments["TX_DATETIME"].to_numpy().astype("datetime64[D]")
    splits = {}
    for train_name, test_name, train_start in (
        ("validation_train", "validation", protocol.train_start - shift),
        ("train", "test", protocol.train_start),
    ):
        test_start = train_start + shift
        train_rows = _days(day, train_start, protocol.train_days)
        test_rows = _days(day, test_start, protocol.test_days)
        test_rows = test_rows[~_known_compromised(payments, day, train_start, test_rows, protocol.delay_days)]
        for name, rows, start in ((train_name, train_rows, train_start), (test_name, test_rows, test_start)):
            part = payments.iloc[rows]
            if not part["TX_FRAUD"].any():
                found = f"{len(part):,} payments and no fraud" if len(part) else "no payment"
                raise BadInput(
                    f"--protocol.train-start {protocol.train_start}: found {found} in the {name} days from {start}, "
                    f"expected payments with some fraud; the payments run from {day[0]} to {day[-1]}"
                )
            splits[name] = Split(
                inputs=part[list(FEATURES)].to_numpy(np.float32),
                labels=part["TX_FRAUD"].to_numpy(np.int8),
                extra={
                    "time": part["TX_DATETIME"].to_numpy().astype("datetime64[s]").astype(np.float64),
                    "day": (day[rows] - day[rows].min()).astype(np.int32),
                    "customer": part["CUSTOMER_ID"].to_numpy(),
                    "row": rows,
                    **({"scenario": part["TX_FRAUD_SCENARIO"].to_numpy()} if "TX_FRAUD_SCENARIO" in part else {}),
                },
            )
    return splits


def _days(day: np.ndarray, start: datetime.date, count: int) -> np.ndarray:
    first, last = np.searchsorted(day, [np.datetime64(start), np.datetime64(start) + count])
    return np.arange(first, last)


def _known_compromised(
    payments: pd.DataFrame, day: np.ndarray, train_start: datetime.date, rows: np.ndarray, delay_days: int
) -> np.ndarray:
    """Whether a row's customer had a fraud between the start of training and the row's day minus the delay."""
    customer = payments["CUSTOMER_ID"].to_numpy()
    frauds = (payments["TX_FRAUD"].to_numpy() == 1) & (day >= np.datetime64(train_start))
    first_fraud = pd.Series(day[frauds]).groupby(customer[frauds]).min()
    first = first_fraud.reindex(customer[rows]).to_numpy()
    return first < day[rows] - delay_days  # false for NaT, no fraud


def load_simulated(simulation: Simulation, protocol: Protocol) -> tuple[Dataset, table.Encoder]:
    """Simulate payments, add the features and split them.

    Raises:
        BadInput: A week of the protocol holds no payment or no fraud.
    """
    payments = simulate(simulation)
    digest = hashlib.sha256()
    for name in payments:
        digest.update(payments[name].to_numpy().tobytes())
    provenance = Provenance(
        name="simulated card payments",
        source="simulated after the description in the Fraud Detection Handbook (Le Borgne et al. 2022)",
        licence="none needed: no payment is real",
        rows=len(payments),
        size_bytes=int(payments.memory_usage(index=False).sum()),
        sha256=digest.hexdigest(),
        units="amounts in an unspecified currency, windows in days",
        seed=simulation.seed,
        notes=(
            f"{simulation.customers:,} customers, {simulation.terminals:,} terminals, {simulation.days} days from "
            f"{simulation.start}",
            *_protocol_notes(protocol),
        ),
    )
    return _dataset(payments, protocol, provenance)


def load_tables(
    paths: Sequence[Path], protocol: Protocol, *, encoding: str | None = None, skip_bad: bool = False
) -> tuple[Dataset, table.Encoder]:
    """Read the handbook's own tables, add the features and split them; see `read`, and `table.load` for the options.

    Raises:
        BadInput: A file can't be used, or a week of the protocol holds no payment or no fraud.
    """
    files = table_files.find_files(paths, encoding=encoding, skip_bad=skip_bad)
    payments = _read(files)
    provenance = Provenance.of_files(
        files.paths,
        name="card payments in the handbook's layout",
        source=table_files.describe(files),
        rows=len(payments),
        units="amounts as in the table, windows in days",
        notes=_protocol_notes(protocol),
        understood=files.understood,
    )
    return _dataset(payments, protocol, provenance)


def _dataset(payments: pd.DataFrame, protocol: Protocol, provenance: Provenance) -> tuple[Dataset, table.Encoder]:
    splits = split(add_features(payments, protocol.delay_days), protocol)
    medians = np.median(splits["validation_train"].inputs, axis=0)
    # New payments to score have the features as columns.
    encoder = table.Encoder(
        tuple(
            table.Column(name, "number", missing=False, fill=float(fill))
            for name, fill in zip(FEATURES, medians, strict=True)
        )
    )
    return Dataset(splits, FEATURES, table.CLASSES, provenance), encoder


def _protocol_notes(protocol: Protocol) -> tuple[str, ...]:
    days = f"{protocol.train_days} days from {protocol.train_start}"
    return (
        f"trained on {days}, tested on {protocol.test_days} days after {protocol.delay_days} days of label delay; "
        f"validated in the same way {protocol.train_days + protocol.delay_days} days earlier",
        "customers known to be compromised are left out of validation and test",
    )
