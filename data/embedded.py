"""Settings of the data that are generated offline: card payments, their weeks, and speech.

They are separate from the code that generates the data, so that a program's --help needn't import it.
"""

import dataclasses
import datetime
from typing import Annotated

from data.ranges import Count, NotNegative, Range, Seed, at_least, between


@dataclasses.dataclass(frozen=True)
class Simulation:
    """Sizes and rates of the simulated payments; the defaults are the handbook's."""

    customers: Count = 5_000
    terminals: Count = 10_000
    days: Count = 183
    start: datetime.date = datetime.date(2018, 4, 1)
    """The first day."""
    radius: NotNegative = 5.0
    """A customer pays at the terminals within this distance on the 100 × 100 grid."""
    mean_amount_low: NotNegative = 5.0
    """Lower end of the range from which a customer's mean amount is drawn."""
    mean_amount_high: NotNegative = 100.0
    """Upper end of that range; the standard deviation is half the mean."""
    payments_per_day_high: NotNegative = 4.0
    """A customer's rate is uniform between 0 and this."""
    large_amount: NotNegative = 220.0
    """Scenario 1: every larger amount is a fraud."""
    terminals_compromised_per_day: Annotated[int, at_least(0)] = 2
    """Scenario 2: terminals where all payments become fraud."""
    terminal_days: Annotated[int, at_least(0)] = 28
    """Scenario 2: number of days."""
    customers_compromised_per_day: Annotated[int, at_least(0)] = 3
    """Scenario 3: customers of whose payments some become fraud."""
    customer_days: Annotated[int, at_least(0)] = 14
    """Scenario 3: number of days."""
    customer_fraud_share: Annotated[float, between(0, 1)] = 1 / 3
    """Scenario 3: share of their payments."""
    customer_fraud_factor: NotNegative = 5.0
    """Scenario 3: factor by which the amounts of these payments are multiplied."""
    seed: Seed = 0
    """Seed of the simulation; training has its own."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The weeks of the evaluation; a label is known `delay_days` after its payment."""

    train_start: datetime.date = datetime.date(2018, 7, 25)
    """First day of the training week."""
    train_days: Count = 7
    delay_days: Annotated[int, at_least(0)] = 7
    """Days until a label is known: between training and test, and in the terminals' features."""
    test_days: Count = 7


@dataclasses.dataclass(frozen=True)
class Synthesis:
    """The synthetic corpus."""

    minutes: Annotated[float, Range(0, 600, above=True)] = 30.0
    """Total length of all sentences, shared equally among the speakers."""
    speakers: Annotated[int, between(6, 600)] = 48
    """Number of speakers, half of them women; about 60 % for training, 15 % for validation and 25 % for test."""
    snr: tuple[Annotated[float, between(-20, 100)], ...] = (10.0, 5.0, 0.0, -5.0)
    """Signal-to-noise ratios in dB, one of which is drawn for each sentence; none for no noise."""
    telephone: bool = False
    """Keep only the band of a telephone line, 300 to 3,400 Hz."""
    seed: Seed = 0
    """Seed of speakers, sentences and noise; training has its own."""
