import dataclasses
import datetime
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data import fraud, table_files
from data.dataset import BadInput
from data.fraud import FEATURES, Protocol, Simulation, add_features, load_simulated, load_tables, read, simulate, split
from tests.bad_input import refusal, write

DAY = 86_400
SMALL = Simulation(customers=120, terminals=60, days=20, radius=30.0, terminals_compromised_per_day=1, terminal_days=4)
# The weeks of the default protocol reach from 11 July to 14 August 2018.
SEASON = Simulation(
    customers=150,
    terminals=600,
    days=45,
    start=datetime.date(2018, 7, 4),
    radius=20.0,
    customers_compromised_per_day=1,
    seed=1,
)


def hand_made(rows: list[tuple[int, int, int, float]]) -> pd.DataFrame:
    """Payments of (day, customer, terminal, amount), a minute apart."""
    day, customer, terminal, amount = zip(*rows, strict=True)
    seconds = np.array(day) * DAY + np.arange(len(rows)) * 60
    return pd.DataFrame(
        {
            "TRANSACTION_ID": np.arange(len(rows)),
            "TX_DATETIME": np.datetime64("2018-04-01", "s") + seconds.astype("timedelta64[s]"),
            "CUSTOMER_ID": customer,
            "TERMINAL_ID": terminal,
            "TX_AMOUNT": amount,
            "TX_TIME_SECONDS": seconds,
            "TX_TIME_DAYS": day,
        }
    )


def frauds(payments: pd.DataFrame, seed: int = 0, **settings) -> pd.DataFrame:
    chosen = Simulation(**{"terminals_compromised_per_day": 0, "customers_compromised_per_day": 0} | settings)
    return fraud._add_frauds(payments, chosen, np.random.default_rng(seed))


# Simulator: payments


def test_payments_are_ordered_and_their_times_agree():
    payments = simulate(SMALL)
    assert list(payments) == [
        "TRANSACTION_ID",
        "TX_DATETIME",
        "CUSTOMER_ID",
        "TERMINAL_ID",
        "TX_AMOUNT",
        "TX_TIME_SECONDS",
        "TX_TIME_DAYS",
        "TX_FRAUD",
        "TX_FRAUD_SCENARIO",
    ]
    seconds = payments["TX_TIME_SECONDS"].to_numpy()
    assert len(payments) > 3000
    assert np.all(np.diff(seconds) >= 0)
    np.testing.assert_array_equal(payments["TRANSACTION_ID"], np.arange(len(payments)))
    np.testing.assert_array_equal(payments["TX_TIME_DAYS"], seconds // DAY)
    assert np.all((seconds % DAY > 0) & (seconds % DAY < DAY))
    midnight = pd.Timestamp(2018, 4, 1)
    assert list(payments["TX_DATETIME"]) == [midnight + pd.Timedelta(seconds=int(second)) for second in seconds]
    assert set(payments["TX_TIME_DAYS"]) == set(range(20))
    assert set(payments["CUSTOMER_ID"]) <= set(range(120))
    assert set(payments["TERMINAL_ID"]) == set(range(60))


def test_the_start_moves_the_dates_alone():
    moved = simulate(dataclasses.replace(SMALL, start=datetime.date(2020, 2, 29)))
    payments = simulate(SMALL)
    assert moved["TX_DATETIME"].min().date() == datetime.date(2020, 2, 29)
    pd.testing.assert_frame_equal(moved.drop(columns="TX_DATETIME"), payments.drop(columns="TX_DATETIME"))


def test_amounts_are_of_two_decimals_and_not_negative():
    amount = simulate(SMALL)["TX_AMOUNT"].to_numpy()
    assert amount.min() >= 0
    assert all(float(f"{x:.2f}") == x for x in amount)
    assert len(set(np.round(amount * 100) % 100)) > 90  # and not of fewer


def test_seeds_reproduce_and_differ():
    pd.testing.assert_frame_equal(simulate(SMALL), simulate(SMALL))
    other = simulate(dataclasses.replace(SMALL, seed=1))
    assert len(other) != len(simulate(SMALL)) or not other.equals(simulate(SMALL))
    assert set(other["TX_AMOUNT"][:100]) != set(simulate(SMALL)["TX_AMOUNT"][:100])


def test_rates_times_and_amounts_are_as_in_the_handbook():
    settings = Simulation(customers=4000, terminals=3, days=30, radius=200.0, customers_compromised_per_day=0)
    payments = simulate(settings)
    # A customer's rate is 2 a day on average; times beyond the day, 2.16 deviations from noon, are dropped.
    kept_share = math.erf(DAY / 2 / 20_000 / math.sqrt(2))
    assert len(payments) / (4000 * 30) == pytest.approx(2 * kept_share, rel=0.03)
    per_customer = np.bincount(payments["CUSTOMER_ID"], minlength=4000) / 30 / kept_share
    assert np.var(per_customer) == pytest.approx(4**2 / 12 + 2 / 30 / kept_share, rel=0.06)
    second = payments["TX_TIME_SECONDS"] % DAY
    assert second.mean() == pytest.approx(DAY / 2, rel=0.01)
    edge = DAY / 2 / 20_000
    cut = 2 * edge * math.exp(-(edge**2) / 2) / math.sqrt(2 * math.pi)
    assert second.std() == pytest.approx(20_000 * math.sqrt(1 - cut / kept_share), rel=0.01)
    # Amounts are normal around a mean m of 52.5 on average, deviation m / 2; the negative ones become m on average.
    tail = (1 - math.erf(2 / math.sqrt(2))) / 2
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    assert payments["TX_AMOUNT"].mean() == pytest.approx(52.5 * (1 - tail + density / 2 + tail), rel=0.03)
    terminal_share = np.bincount(payments["TERMINAL_ID"]) / len(payments)
    np.testing.assert_allclose(terminal_share, 1 / 3, atol=0.005)


def test_amounts_are_normal_and_drawn_again_uniformly_where_negative():
    settings = Simulation(customers=1000, terminals=3, days=30, radius=200.0, mean_amount_low=50, mean_amount_high=50)
    amount = np.sort(simulate(dataclasses.replace(settings, customers_compromised_per_day=0))["TX_AMOUNT"])
    places = np.linspace(0, 120, 25)

    def below(x: float) -> float:
        return (1 + math.erf((x - 50) / 25 / math.sqrt(2))) / 2

    expected = [below(x) - below(0) + below(0) * min(x / 100, 1) for x in places]
    np.testing.assert_allclose(np.searchsorted(amount, places) / len(amount), expected, atol=0.006)


def test_without_terminals_in_reach_nobody_pays():
    with pytest.raises(BadInput, match="found no payment"):
        simulate(dataclasses.replace(SMALL, radius=0.0))
    near, far = (simulate(dataclasses.replace(SMALL, radius=radius)) for radius in (4.0, 200.0))
    assert 0 < near["CUSTOMER_ID"].nunique() < far["CUSTOMER_ID"].nunique()
    # All terminals are in reach of everybody, or just a few.
    assert far.groupby("CUSTOMER_ID")["TERMINAL_ID"].nunique().mean() > 20
    assert near.groupby("CUSTOMER_ID")["TERMINAL_ID"].nunique().max() < 10


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [
        ("customers", 0, 1),
        ("terminals", 0, 1),
        ("days", 0, 1),
        ("terminals_compromised_per_day", -1, 0),
        ("customer_days", -1, 0),
    ],
)
def test_impossible_settings_are_refused(name, value, least):
    flag = re.escape(f"--simulation.{name.replace('_', '-')}: found {value}, expected {least} or more")
    with pytest.raises(BadInput, match=f"^{flag}$"):
        simulate(dataclasses.replace(SMALL, **{name: value}))
    assert simulate(dataclasses.replace(SMALL, **{name: least})) is not None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"customer_fraud_share": 1.5}, "customer-fraud-share: found 1.5, expected 0 to 1"),
        ({"radius": float("nan")}, "radius: found nan, expected 0 or more"),
        ({"mean_amount_low": 200.0}, "mean-amount-low: found 200.0, expected at most 100.0"),
    ],
)
def test_other_impossible_settings_are_refused(changes, said):
    with pytest.raises(BadInput, match=re.escape(said)):
        simulate(dataclasses.replace(SMALL, **changes))


# Simulator: frauds


def test_scenario_1_is_every_amount_above_the_limit():
    payments = hand_made([(0, 0, 0, 219.99), (0, 1, 0, 220.0), (1, 2, 0, 220.01), (1, 0, 0, 900.0)])
    found = frauds(payments)
    assert list(found["TX_FRAUD_SCENARIO"]) == [0, 0, 1, 1]
    assert list(found["TX_FRAUD"]) == [0, 0, 1, 1]
    pd.testing.assert_frame_equal(found[list(payments)], payments)
    assert list(frauds(payments, large_amount=800.0)["TX_FRAUD_SCENARIO"]) == [0, 0, 0, 1]


def test_scenario_2_is_every_payment_at_a_compromised_terminal_for_its_days():
    # The one terminal is compromised on the days 0 and 1, for three days each time.
    payments = hand_made([(0, 0, 0, 10.0), (2, 1, 0, 300.0), (3, 1, 0, 20.0), (4, 1, 0, 30.0), (4, 1, 0, 300.0)])
    settings = {"terminals": 1, "terminals_compromised_per_day": 2, "terminal_days": 3, "days": 2, "customer_days": 1}
    found = frauds(payments, **settings)
    assert list(found["TX_FRAUD_SCENARIO"]) == [2, 2, 2, 0, 1]
    assert list(found["TX_AMOUNT"]) == list(payments["TX_AMOUNT"])
    assert list(frauds(payments, **settings | {"days": 1})["TX_FRAUD_SCENARIO"]) == [2, 2, 0, 0, 1]


def test_scenario_3_multiplies_a_share_of_the_payments_of_compromised_customers():
    # Eight of the payments are on the two compromised days, a quarter of them is 2.
    payments = hand_made([(day, customer, 0, 10.01 + day) for day in (0, 1, 2) for customer in (0, 1, 0, 1)])
    settings = {"customers": 2, "customers_compromised_per_day": 2, "customer_days": 2, "days": 1}
    chosen = set()
    for seed in range(30):
        found = frauds(payments, seed, **settings, customer_fraud_share=0.25)
        rows = np.flatnonzero(found["TX_FRAUD_SCENARIO"])
        chosen |= set(rows)
        assert len(rows) == 2
        assert set(found["TX_FRAUD_SCENARIO"]) == {0, 3}
        expected = payments["TX_AMOUNT"].to_numpy().copy()
        expected[rows] = np.where(rows < 4, 50.05, 55.05)
        np.testing.assert_array_equal(found["TX_AMOUNT"], expected)
    assert chosen == set(range(8))
    # A third of eight is two whole ones, a third of the four of the first day is one.
    assert frauds(payments, **settings)["TX_FRAUD"].sum() == 2
    assert frauds(payments, **settings | {"customer_days": 1})["TX_FRAUD"].sum() == 1
    assert frauds(payments, **settings | {"customer_fraud_factor": 2.0})["TX_AMOUNT"].max() <= 2 * 12.01


def test_later_scenarios_overwrite_earlier_ones():
    payments = hand_made([(0, 0, 0, 300.0), (0, 1, 0, 300.0), (1, 0, 0, 7.0), (1, 1, 0, 7.0), (2, 1, 0, 300.0)])
    all_terminals = {"terminals": 1, "terminals_compromised_per_day": 1, "terminal_days": 2, "days": 1}
    assert list(frauds(payments, **all_terminals)["TX_FRAUD_SCENARIO"]) == [2, 2, 2, 2, 1]
    all_customers = {
        "customers": 2,
        "customers_compromised_per_day": 2,
        "customer_days": 1,
        "customer_fraud_share": 1.0,
    }
    found = frauds(payments, **all_terminals, **all_customers)
    assert list(found["TX_FRAUD_SCENARIO"]) == [3, 3, 2, 2, 1]
    assert list(found["TX_AMOUNT"]) == [1500.0, 1500.0, 7.0, 7.0, 300.0]
    # A genuine payment that is multiplied beyond the limit of scenario 1 is still of scenario 3.
    small = hand_made([(0, 0, 0, 100.0), (0, 1, 0, 100.0)])
    assert list(frauds(small, days=1, **all_customers)["TX_FRAUD_SCENARIO"]) == [3, 3]


def test_a_payment_that_is_compromised_twice_is_multiplied_twice():
    payments = hand_made([(1, 0, 0, 3.33)])
    settings = {"customers": 1, "customers_compromised_per_day": 1, "customer_fraud_share": 1.0}
    assert list(frauds(payments, days=2, customer_days=2, **settings)["TX_AMOUNT"]) == [83.25]
    assert list(frauds(payments, days=1, customer_days=2, **settings)["TX_AMOUNT"]) == [16.65]


def test_scenario_2_of_a_simulation_covers_whole_days_of_a_terminal():
    settings = dataclasses.replace(SMALL, customers_compromised_per_day=0, large_amount=1e9, days=40)
    payments = simulate(settings)
    assert set(payments["TX_FRAUD_SCENARIO"]) == {0, 2}
    by_day = payments.groupby(["TERMINAL_ID", "TX_TIME_DAYS"])["TX_FRAUD_SCENARIO"].agg(["min", "max"])
    assert (by_day["min"] == by_day["max"]).all()
    free_days = by_day["max"].eq(0).groupby("TERMINAL_ID")
    starts = []
    for terminal, free in free_days:
        genuine = [-1, *free.index.get_level_values("TX_TIME_DAYS")[free.to_numpy()]]
        last = [*genuine[1:], settings.days + settings.terminal_days]
        # Between two genuine days that hold a fraud there's room for one whole period at least.
        for before, after in zip(genuine, last, strict=True):
            between = by_day.loc[terminal].loc[before + 1 : after - 1]
            if len(between):
                assert after - before - 1 >= settings.terminal_days
                starts.append(before + 1)
    assert len(starts) > 20
    assert min(starts) == 0
    assert max(starts) > 20


def test_scenario_3_of_a_simulation_row_by_row():
    settings = dataclasses.replace(SMALL, terminals_compromised_per_day=0, customers_compromised_per_day=5)
    payments = simulate(settings)
    genuine = simulate(dataclasses.replace(settings, customers_compromised_per_day=0))  # has the same payments
    other = [name for name in payments if name not in ("TX_AMOUNT", "TX_FRAUD", "TX_FRAUD_SCENARIO")]
    pd.testing.assert_frame_equal(payments[other], genuine[other])
    scenarios = set()
    for before, row in zip(genuine["TX_AMOUNT"], payments.itertuples(), strict=True):
        scenarios.add(row.TX_FRAUD_SCENARIO)
        assert (row.TX_FRAUD_SCENARIO > 0) == row.TX_FRAUD
        if row.TX_FRAUD_SCENARIO == 3:
            times = [round(before * 5**count, 2) for count in range(1, 8)]
            assert any(pytest.approx(amount, abs=0.005) == row.TX_AMOUNT for amount in times)
        else:
            assert before == row.TX_AMOUNT
            assert (row.TX_AMOUNT > 220) == row.TX_FRAUD_SCENARIO
    assert scenarios == {0, 1, 3}
    # A third of the payments of 5 of 120 customers for 14 days, less what is drawn twice and what begins too late.
    expected = 1 - np.mean([(1 - 5 / 120 / 3) ** min(day + 1, 14) for day in range(20)])
    assert np.mean(payments["TX_FRAUD_SCENARIO"] == 3) == pytest.approx(expected, rel=0.15)


@pytest.mark.slow
def test_default_size_and_share_of_fraud():
    payments = simulate()
    assert 1_700_000 < len(payments) < 1_850_000
    assert 0.007 < payments["TX_FRAUD"].mean() < 0.010
    assert payments["TX_DATETIME"].min().date() == datetime.date(2018, 4, 1)
    assert payments["TX_DATETIME"].max().date() == datetime.date(2018, 9, 30)
    assert np.all(np.diff(payments["TX_TIME_SECONDS"]) >= 0)
    assert set(payments["TX_FRAUD_SCENARIO"]) == {0, *fraud.SCENARIOS}
    only_large = payments["TX_FRAUD_SCENARIO"] == 1
    assert payments["TX_AMOUNT"][only_large].min() > 220
    assert payments["TX_AMOUNT"][payments["TX_FRAUD"] == 0].max() <= 220


# Features


def random_payments(seed: int, step: int, rows: int = 200) -> pd.DataFrame:
    """Few customers and terminals, with many equal times where the step (seconds) is long."""
    random = np.random.default_rng(seed)
    seconds = np.sort(random.integers(0, 60 * DAY // step, rows)) * step
    return pd.DataFrame(
        {
            "TX_DATETIME": np.datetime64("2018-04-01", "s") + seconds.astype("timedelta64[s]"),
            "CUSTOMER_ID": random.choice([4, 7, 10**12], rows),
            "TERMINAL_ID": random.integers(0, 4, rows),
            "TX_AMOUNT": np.round(random.uniform(0, 300, rows), 2),
            "TX_FRAUD": (random.random(rows) < 0.2).astype(np.int8),
        },
        index=random.permutation(rows),
    )


@pytest.mark.parametrize("delay", [7, 0, 3])
@pytest.mark.parametrize("step", [1, DAY // 2])
def test_window_features_by_brute_force(step, delay):
    payments = random_payments(step, step)
    assert payments["TX_DATETIME"].duplicated().any() == (step > 1)
    found = add_features(payments, label_delay_days=delay)
    pd.testing.assert_frame_equal(found[list(payments)], payments)
    assert set(found) == {*payments, *FEATURES}
    rows = list(payments.itertuples())
    for row, features in zip(rows, found.to_dict("records"), strict=True):
        for window in (1, 7, 30):
            start = row.TX_DATETIME - pd.Timedelta(days=window)
            own = [x for x in rows if x.CUSTOMER_ID == row.CUSTOMER_ID and start < x.TX_DATETIME <= row.TX_DATETIME]
            assert features[f"CUSTOMER_ID_NB_TX_{window}DAY_WINDOW"] == len(own)
            assert features[f"CUSTOMER_ID_AVG_AMOUNT_{window}DAY_WINDOW"] == pytest.approx(
                sum(x.TX_AMOUNT for x in own) / len(own), rel=1e-12
            )
            known = row.TX_DATETIME - pd.Timedelta(days=delay)
            start = known - pd.Timedelta(days=window)
            there = [x for x in rows if x.TERMINAL_ID == row.TERMINAL_ID and start < x.TX_DATETIME <= known]
            risk = sum(x.TX_FRAUD for x in there) / len(there) if there else 0
            assert features[f"TERMINAL_ID_NB_TX_{window}DAY_WINDOW"] == len(there)
            assert features[f"TERMINAL_ID_RISK_{window}DAY_WINDOW"] == pytest.approx(risk, rel=1e-12)


def at(*times: str, **columns) -> pd.DataFrame:
    payments = pd.DataFrame(
        {
            "TX_DATETIME": pd.to_datetime(list(times)),
            "CUSTOMER_ID": 1,
            "TERMINAL_ID": 1,
            "TX_AMOUNT": 1.0,
            "TX_FRAUD": 0,
        }
    )
    return payments.assign(**columns)


def test_windows_end_at_the_payment_and_leave_out_their_start():
    times = ("2018-04-01 12:00:00", "2018-04-02 11:59:59", "2018-04-02 12:00:00", "2018-04-08 12:00:00")
    found = add_features(at(*times, TX_AMOUNT=[1.0, 2.0, 6.0, 4.0], TX_FRAUD=[1, 0, 0, 0]))
    assert list(found["CUSTOMER_ID_NB_TX_1DAY_WINDOW"]) == [1, 2, 2, 1]  # after just a day the first is out
    assert list(found["CUSTOMER_ID_AVG_AMOUNT_1DAY_WINDOW"]) == [1, 1.5, 4, 4]
    assert list(found["CUSTOMER_ID_NB_TX_7DAY_WINDOW"]) == [1, 2, 3, 3]
    assert list(found["CUSTOMER_ID_AVG_AMOUNT_7DAY_WINDOW"]) == [1, 1.5, 3, 4]
    assert list(found["CUSTOMER_ID_NB_TX_30DAY_WINDOW"]) == [1, 2, 3, 4]
    assert list(found["TERMINAL_ID_NB_TX_1DAY_WINDOW"]) == [0, 0, 0, 1]  # after just the delay the first is in
    assert list(found["TERMINAL_ID_RISK_30DAY_WINDOW"]) == [0, 0, 0, 1]


def test_a_fraud_is_unknown_until_its_label_is():
    payments = random_payments(5, 3600)
    late = payments["TX_DATETIME"] > payments["TX_DATETIME"].max() - pd.Timedelta(days=7)
    relabelled = payments.assign(TX_FRAUD=np.where(late, 1 - payments["TX_FRAUD"], payments["TX_FRAUD"]))
    assert late.sum() > 10
    names = list(FEATURES)
    pd.testing.assert_frame_equal(add_features(payments)[names], add_features(relabelled)[names])


def test_weekend_and_night_on_known_dates():
    found = add_features(
        at(
            "2018-03-30 23:59:59",  # Friday
            "2018-03-31 00:00:00",  # Saturday
            "2018-04-01 06:59:59",  # Sunday
            "2018-04-01 07:00:00",
            "2018-04-01 23:59:59",
            "2018-04-02 00:00:00",  # Monday
            "2018-04-04 12:00:00",
            "2024-02-29 05:00:00",  # Thursday
            "2024-03-03 18:00:00",  # Sunday
        )
    )
    assert list(found["TX_DURING_WEEKEND"]) == [0, 1, 1, 1, 1, 0, 0, 0, 1]
    assert list(found["TX_DURING_NIGHT"]) == [0, 1, 1, 0, 0, 1, 0, 1, 0]


def test_the_unit_of_the_times_does_not_matter():
    payments = random_payments(6, 1)
    for unit in ("s", "ms", "ns"):
        other = payments.assign(TX_DATETIME=payments["TX_DATETIME"].astype(f"datetime64[{unit}]"))
        pd.testing.assert_frame_equal(add_features(other)[list(FEATURES)], add_features(payments)[list(FEATURES)])


def test_sums_are_exact_whatever_came_before():
    times = pd.date_range("2018-04-01", periods=2000, freq="40D")
    amount = np.where(np.arange(2000) == 1999, 0.01, 99_999_999.99)
    found = add_features(at(*times.astype(str), TX_AMOUNT=amount))
    np.testing.assert_array_equal(found["CUSTOMER_ID_AVG_AMOUNT_30DAY_WINDOW"], amount)


# Protocol


def plain_features(payments: pd.DataFrame) -> pd.DataFrame:
    """Features that name their row, for what the splits do with them."""
    values = np.arange(len(payments))[:, None] + np.arange(len(FEATURES)) / 16
    drop = [name for name in FEATURES if name in payments]
    return pd.concat(
        [payments.drop(columns=drop), pd.DataFrame(values, columns=list(FEATURES), index=payments.index)], axis=1
    )


def hourly(days: int, start: str, seed: int = 0, rate: float = 0.08) -> pd.DataFrame:
    """A payment each hour on the hour, of the customers 100 to 299, with random frauds."""
    random = np.random.default_rng(seed)
    rows = days * 24
    return plain_features(
        pd.DataFrame(
            {
                "TX_DATETIME": pd.date_range(start, periods=rows, freq="h"),
                "CUSTOMER_ID": random.integers(100, 300, rows),
                "TX_FRAUD": (random.random(rows) < rate).astype(np.int8),
                "TX_FRAUD_SCENARIO": random.integers(0, 4, rows),
            }
        )
    )


DATES = {  # first and last day of training, first and last day of the evaluation, by hand
    Protocol(): {
        "validation_train": ("2018-07-11", "2018-07-17"),
        "validation": ("2018-07-25", "2018-07-31"),
        "train": ("2018-07-25", "2018-07-31"),
        "test": ("2018-08-08", "2018-08-14"),
    },
    Protocol(datetime.date(2018, 8, 1), train_days=5, delay_days=2, test_days=4): {
        "validation_train": ("2018-07-25", "2018-07-29"),
        "validation": ("2018-08-01", "2018-08-04"),
        "train": ("2018-08-01", "2018-08-05"),
        "test": ("2018-08-08", "2018-08-11"),
    },
}


@pytest.mark.parametrize("protocol", DATES, ids=["default", "other"])
@pytest.mark.parametrize("seed", [1, 2])
def test_splits_by_brute_force(protocol, seed):
    payments = hourly(60, "2018-07-01", seed)
    splits = split(payments, protocol)
    assert list(splits) == ["validation_train", "validation", "train", "test"]
    dropped = 0
    for name, (first, last) in DATES[protocol].items():
        first, last = (datetime.date.fromisoformat(day) for day in (first, last))
        training = {"validation": "validation_train", "test": "train"}.get(name)
        expected = []
        for row, payment in enumerate(payments.itertuples()):
            day = payment.TX_DATETIME.date()
            if not first <= day <= last:
                continue
            if training is not None:
                training_start = datetime.date.fromisoformat(DATES[protocol][training][0])
                known_days = {
                    fraud_time.date()
                    for fraud_time, customer, label in zip(
                        payments["TX_DATETIME"], payments["CUSTOMER_ID"], payments["TX_FRAUD"], strict=True
                    )
                    if customer == payment.CUSTOMER_ID and label == 1 and fraud_time.date() >= training_start
                }
                if any((day - known).days > protocol.delay_days for known in known_days):
                    dropped += 1
                    continue
            expected.append(row)
        part = splits[name]
        chosen = payments.iloc[expected]
        assert len(part) == len(expected)
        np.testing.assert_array_equal(part.extra["row"], expected)
        np.testing.assert_array_equal(part.labels, chosen["TX_FRAUD"])
        np.testing.assert_array_equal(part.extra["customer"], chosen["CUSTOMER_ID"])
        np.testing.assert_array_equal(part.extra["scenario"], chosen["TX_FRAUD_SCENARIO"])
        np.testing.assert_array_equal(part.extra["day"], [(time.date() - first).days for time in chosen["TX_DATETIME"]])
        np.testing.assert_array_equal(part.inputs, chosen[list(FEATURES)].to_numpy(np.float32))
        assert part.inputs.dtype == np.float32
    assert dropped > 10


def test_a_compromised_customer_is_dropped_once_the_fraud_is_known():
    payments = hourly(60, "2018-07-01", rate=0).assign(CUSTOMER_ID=100 + np.arange(60 * 24) % 10)
    day = payments["TX_DATETIME"].dt.strftime("%m-%d")

    def fraud_on(date: str, customer: int) -> None:
        row = payments.index[(day == date) & (payments["CUSTOMER_ID"] == customer)][0]
        payments.loc[row, "TX_FRAUD"] = 1

    for date in ("07-11", "07-24", "07-25", "07-31", "08-14"):
        fraud_on(date, 109)  # something to learn from, in every week
    fraud_on("08-08", 108)
    fraud_on("07-25", 100)  # in training: never tested
    fraud_on("07-24", 101)  # before training: tested
    fraud_on("08-02", 102)  # in the delay, known from 10 August on
    fraud_on("08-08", 103)  # in the test week, not known within it
    part = split(payments, Protocol())["test"]
    days = {customer: set(part.extra["day"][part.extra["customer"] == customer]) for customer in range(100, 110)}
    assert days[100] == set()
    assert days[101] == days[103] == days[105] == set(range(7))
    assert days[102] == {0, 1}
    assert days[109] == set()  # its fraud of 25 July is known long before
    assert part.labels.sum() == 2


def test_scenarios_are_optional():
    parts = split(hourly(60, "2018-07-01", 1).drop(columns="TX_FRAUD_SCENARIO"), Protocol())
    assert all(set(part.extra) == {"time", "day", "customer", "row"} for part in parts.values())


@pytest.mark.parametrize("name", ["validation_train", "validation", "train", "test"])
def test_a_week_without_fraud_or_payment_is_refused(name):
    # Each customer pays once, so none is known to be compromised.
    payments = hourly(60, "2018-07-01", 1, rate=0.1).assign(CUSTOMER_ID=np.arange(60 * 24))
    first, last = DATES[Protocol()][name]
    week = payments["TX_DATETIME"].between(first, pd.Timestamp(last) + pd.Timedelta(hours=23))
    # The validation and the training week are one, and the first to be looked at is named.
    named = "validation" if name == "train" else name
    with pytest.raises(BadInput, match=f"found 168 payments and no fraud in the {named} days from {first}, expected "):
        split(payments.assign(TX_FRAUD=payments["TX_FRAUD"].where(~week, 0)), Protocol())
    with pytest.raises(
        BadInput, match=f"found no payment in the {named} days from {first}, expected payments with some "
    ):
        split(payments[~week], Protocol())


def test_payments_of_other_months_are_refused():
    for start, end in (("2017-01-01", "2017-03-01"), ("2019-01-01", "2019-03-01")):
        assert refusal(split, hourly(60, start, 1), Protocol()) == (
            "--protocol.train-start 2018-07-25: found no payment in the validation_train days from 2018-07-11, "
            f"expected payments with some fraud; the payments run from {start} to {end}"
        )


# Loading


@pytest.fixture(scope="module")
def season() -> pd.DataFrame:
    return simulate(SEASON)


@pytest.fixture(scope="module")
def simulated():
    return load_simulated(SEASON, Protocol())


def check_same_splits(found, expected) -> None:
    assert list(found.splits) == list(expected.splits) == ["validation_train", "validation", "train", "test"]
    for name, part in expected.splits.items():
        other = found.splits[name]
        np.testing.assert_array_equal(other.inputs, part.inputs)
        np.testing.assert_array_equal(other.labels, part.labels)
        assert set(other.extra) == set(part.extra)
        for key in part.extra:
            np.testing.assert_array_equal(other.extra[key], part.extra[key])


def test_load_simulated(season, simulated):
    data, encoder = simulated
    check_same_splits(dataclasses.replace(data, splits=split(add_features(season, 7), Protocol())), data)
    assert data.feature_names == FEATURES == encoder.feature_names
    assert len(FEATURES) == 15
    assert data.classes == ("genuine", "fraud")
    assert data.provenance.rows == len(season)
    assert data.provenance.seed == 1
    assert all(0 < part.labels.mean() < 0.5 for part in data.splits.values())
    again, _ = load_simulated(SEASON, Protocol())
    assert again.provenance == data.provenance
    other, _ = load_simulated(dataclasses.replace(SEASON, customer_fraud_factor=6.0), Protocol())
    assert other.provenance.rows == data.provenance.rows
    assert other.provenance.sha256 != data.provenance.sha256


def test_the_delay_of_the_protocol_is_that_of_the_features():
    protocol = Protocol(delay_days=3)
    data, _ = load_simulated(SEASON, protocol)
    expected = split(add_features(simulate(SEASON), 3), protocol)
    np.testing.assert_array_equal(data.splits["test"].inputs, expected["test"].inputs)


def write_days(folder: Path, payments: pd.DataFrame, suffix: str) -> None:
    for day, part in payments.groupby(payments["TX_DATETIME"].dt.date):
        write(folder / f"{day}.{suffix}", part)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_daily_files_give_the_splits_of_the_simulation(suffix, tmp_path, season, simulated):
    write_days(tmp_path, season, suffix)
    assert len(list(tmp_path.iterdir())) == 45
    data, encoder = load_tables([tmp_path], Protocol())
    check_same_splits(data, simulated[0])
    assert encoder == simulated[1]
    assert data.provenance.rows == len(season)
    assert data.provenance.size_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert data.provenance.seed is None
    assert data.provenance.notes == simulated[0].provenance.notes[1:]


def test_read_sorts_rows_and_keeps_what_is_needed(tmp_path, season):
    few = season.iloc[:500]
    shuffled = few.sample(frac=1, random_state=1)
    shuffled.iloc[:200].assign(more="text").to_csv(tmp_path / "b.csv", index=False)
    shuffled.iloc[200:].assign(more="text").to_csv(tmp_path / "a.csv", index=False)
    found = read([tmp_path / "b.csv", tmp_path / "a.csv"])
    assert set(found) == {"TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD", "TX_FRAUD_SCENARIO"}
    keys = ["TX_DATETIME", "CUSTOMER_ID", "TX_AMOUNT"]
    pd.testing.assert_frame_equal(
        found.sort_values(keys, ignore_index=True),
        few.sort_values(keys, ignore_index=True)[list(found)],
        check_dtype=False,
    )
    assert found["TX_DATETIME"].is_monotonic_increasing
    without = few.drop(columns="TX_FRAUD_SCENARIO")
    without.to_csv(tmp_path / "c.csv", index=False)
    assert set(read([tmp_path / "c.csv"])) == set(found) - {"TX_FRAUD_SCENARIO"}


def test_rows_of_equal_time_keep_their_order(tmp_path):
    payments = at(*["2018-04-02 10:00:00"] * 50, *["2018-04-01 10:00:00"] * 50, CUSTOMER_ID=np.arange(100))
    payments.to_parquet(tmp_path / "a.parquet")
    assert list(read([tmp_path / "a.parquet"])["CUSTOMER_ID"]) == [*range(50, 100), *range(50)]


def test_the_encoder_reads_features_as_columns(tmp_path, season, simulated):
    data, encoder = simulated
    part = data.splits["test"]
    features = add_features(season)[list(FEATURES)].iloc[part.extra["row"]]
    features.to_csv(tmp_path / "new.csv", index=False)
    rows = [
        encoder.encode(batch)
        for batch in table_files.stream(table_files.find_files([tmp_path / "new.csv"]), encoder.kinds)
    ]
    np.testing.assert_array_equal(np.concatenate(rows), part.inputs)
    medians = np.median(data.splits["validation_train"].inputs, axis=0)
    np.testing.assert_array_equal(np.float32([column.fill for column in encoder.columns]), medians)


def message(*paths: Path) -> str:
    return refusal(load_tables, paths, Protocol())


@pytest.mark.parametrize(
    ("column", "value", "found"),
    [
        ("TX_FRAUD", "2", "holds '2', expected 0 or 1"),
        ("TX_FRAUD", "0.5", "holds '0.5', expected 0 or 1"),
        ("TX_FRAUD", "", "is empty, expected a value in every row"),
        ("TX_AMOUNT", "a lot", "holds 'a lot', expected a finite number"),
        ("TX_AMOUNT", "inf", "holds 'inf', expected a finite number"),
        ("TX_AMOUNT", "", "is empty, expected a value in every row"),
        ("TX_AMOUNT", "1e13", "holds '1e13', expected an amount up to 1e+12"),
        ("CUSTOMER_ID", "", "is empty, expected a value in every row"),
        ("TERMINAL_ID", "", "is empty, expected a value in every row"),
        ("TX_DATETIME", "yesterday", "holds 'yesterday', expected an ISO 8601 date or time"),
        ("TX_DATETIME", "", "is empty, expected a value in every row"),
        ("TX_FRAUD_SCENARIO", "three", "holds 'three', expected a finite number"),
    ],
)
def test_a_bad_value_is_named_by_file_line_and_column(column, value, found, tmp_path, season):
    season.iloc[:50].to_csv(tmp_path / "a.csv", index=False)
    text = season.iloc[50:100].astype(str)
    text.iloc[9, text.columns.get_loc(column)] = value  # on line 11, as the header is line 1
    text.to_csv(tmp_path / "b.csv", index=False)
    assert re.match(re.escape(f"{tmp_path / 'b.csv'}: line 11, column {column!r} {found}"), message(tmp_path))


def test_a_bad_value_is_named_by_file_row_and_column(tmp_path, season):
    labels = np.where(np.arange(50) == 9, 2, 0)
    season.iloc[:50].assign(TX_FRAUD=labels).to_parquet(tmp_path / "a.parquet")
    assert message(tmp_path).startswith(f"{tmp_path / 'a.parquet'}: row 10, column 'TX_FRAUD' holds 2, expected 0 or 1")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("column", fraud.RAW_COLUMNS)
def test_a_missing_column_is_named(column, suffix, tmp_path, season):
    file = tmp_path / f"a.{suffix}"
    write(file, season.iloc[:50].drop(columns=column))
    assert message(tmp_path).startswith(f"{file}: no column {column!r}, expected it in the table: ")


@pytest.mark.parametrize("rename", [lambda code: 10**17 + code, lambda code: f"card {code:05}"], ids=["long", "names"])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_long_and_named_ids_stay_apart(rename, suffix, tmp_path, season):
    renamed = season.assign(
        CUSTOMER_ID=season["CUSTOMER_ID"].map(rename), TERMINAL_ID=season["TERMINAL_ID"].map(rename)
    )
    path = tmp_path / f"payments.{suffix}"
    write(path, renamed)
    found = fraud.read([path])
    for name in ("CUSTOMER_ID", "TERMINAL_ID"):
        pairs = pd.DataFrame({"given": renamed[name], "read": found[name]}).drop_duplicates()
        assert len(pairs) == renamed[name].nunique() == pairs["read"].nunique()


def test_columns_that_are_not_needed_stop_nothing(tmp_path, season):
    path = tmp_path / "payments.csv"
    season.to_csv(path)  # pandas writes its index as a column without a name
    assert len(fraud.read([path])) == len(season)


def test_weeks_that_make_no_sense_are_refused(season):
    payments = fraud.add_features(season)
    for changes, said in (
        ({"train_days": 0}, "--protocol.train-days: found 0, expected 1 or more"),
        ({"delay_days": -1}, "--protocol.delay-days: found -1"),
        ({"test_days": 15}, "--protocol.test-days: found 15, expected at most 14"),
    ):
        with pytest.raises(BadInput, match=said):
            fraud.split(payments, dataclasses.replace(fraud.Protocol(), **changes))


def test_tables_of_other_weeks_are_refused(tmp_path, season):
    season.iloc[:500].to_csv(tmp_path / "a.csv", index=False)
    assert "found no payment in the validation_train days from 2018-07-11" in message(tmp_path)
    assert "no such file" in message(tmp_path / "b.csv")
