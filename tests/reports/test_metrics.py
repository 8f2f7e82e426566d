import itertools
import json
import math
import warnings

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from reports.classification import Classification
from reports.language import Prediction
from reports.metrics import CardPrecision, Ranking, bootstrap, mean, over_seeds
from reports.pronunciation import Pronunciation
from reports.tagging import Tagging


def scored_rows(seed: int, *, ties: bool, rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = (random.random(rows) < 0.15).astype(int)
    scores = random.normal(size=rows) + labels
    return labels, np.round(scores * 2) if ties else scores


# Ranking


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_ranking_agrees_with_scikit_learn(seed, ties):
    labels, scores = scored_rows(seed, ties=ties)
    assert (len(np.unique(scores)) < 20) == ties
    ranking = Ranking(labels, scores)
    assert ranking.auc_roc() == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert ranking.average_precision() == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_weights_are_scikit_learns_sample_weights(seed, ties):
    labels, scores = scored_rows(seed, ties=ties)
    ranking = Ranking(labels, scores)
    weights = np.random.default_rng(seed + 100).exponential(size=len(labels))
    assert ranking.auc_roc(weights) == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights), abs=1e-12)
    assert ranking.average_precision(weights) == pytest.approx(
        average_precision_score(labels, scores, sample_weight=weights), abs=1e-12
    )
    np.testing.assert_allclose(ranking.auc_roc(weights), ranking.auc_roc(7 * weights))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_whole_weights_are_repeated_rows(seed, ties):
    labels, scores = scored_rows(seed, ties=ties)
    ranking = Ranking(labels, scores)
    weights = np.random.default_rng(seed + 200).integers(0, 4, len(labels))
    repeated = Ranking(np.repeat(labels, weights), np.repeat(scores, weights))
    weights = weights.astype(float)
    assert ranking.auc_roc(weights) == pytest.approx(repeated.auc_roc(), abs=1e-12)
    assert ranking.average_precision(weights) == pytest.approx(repeated.average_precision(), abs=1e-12)
    for rate in (0.0, 0.01, 0.1, 0.37, 1.0):
        assert ranking.recall_at_rate(rate, weights) == pytest.approx(repeated.recall_at_rate(rate), abs=1e-12)


def test_weights_belong_to_the_units_of_the_rows():
    labels, scores = scored_rows(3, ties=True)
    units = np.random.default_rng(4).integers(0, 40, len(labels))
    weights = np.random.default_rng(5).integers(0, 3, 40).astype(float)
    by_unit, by_row = Ranking(labels, scores, units), Ranking(labels, scores)
    assert by_unit.auc_roc(weights) == pytest.approx(by_row.auc_roc(weights[units]), abs=1e-12)
    assert by_unit.average_precision(weights) == pytest.approx(by_row.average_precision(weights[units]), abs=1e-12)
    assert by_unit.recall_at_rate(0.1, weights) == pytest.approx(by_row.recall_at_rate(0.1, weights[units]), abs=1e-12)
    assert by_unit.auc_roc() == by_row.auc_roc()


def test_areas_by_hand():
    # Positives at ranks 1 and 3 of four: three of the four pairs are in order; precision is 1/1 and 2/3 there.
    ranking = Ranking(np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4]))
    assert ranking.auc_roc() == pytest.approx(3 / 4)
    assert ranking.average_precision() == pytest.approx((1 + 2 / 3) / 2)
    same = Ranking(np.array([0, 1, 0, 1, 0]), np.zeros(5))
    assert same.auc_roc() == pytest.approx(0.5)
    assert same.average_precision() == pytest.approx(2 / 5)


@pytest.mark.parametrize(
    ("rate", "recall"),
    [(0, 0), (0.125, 0.25), (0.25, 0.5), (0.375, 0.5), (0.5, 0.5), (0.625, 0.75), (0.75, 1), (0.9, 1), (1, 1)],
)
def test_recall_at_rate_by_hand(rate, recall):
    ranking = Ranking(np.array([1, 0, 1, 0]), np.array([4.0, 3.0, 2.0, 1.0]))
    assert ranking.recall_at_rate(rate) == pytest.approx(recall)


@pytest.mark.parametrize(
    ("rate", "recall"),
    [(0.1, 1 / 3), (0.2, (1 + 1 / 2) / 3), (0.3, 2 / 3), (0.5, 1), (0.8, 1)],
)
def test_recall_at_rate_shares_ties_evenly(rate, recall):
    # One alert above, then four rows of one score that hold two frauds: each further alert finds half a fraud.
    labels, scores = np.array([0, 1, 0, 1, 1, 0, 0, 0, 0, 0]), np.array([2, 2, 2, 2, 9, 1, 1, 1, 0, 0])
    assert Ranking(labels, scores).recall_at_rate(rate) == pytest.approx(recall)


def test_recall_at_rate_is_the_rate_where_nothing_is_ranked():
    ranking = Ranking(np.array([0, 1] * 20), np.ones(40))
    for rate in (0.0, 0.01, 0.33, 1.0):
        assert ranking.recall_at_rate(rate) == pytest.approx(rate)


def test_order_of_the_rows_does_not_matter():
    labels, scores = scored_rows(6, ties=True)
    order = np.random.default_rng(7).permutation(len(labels))
    one, other = Ranking(labels, scores), Ranking(labels[order], scores[order])
    assert one.average_precision() == pytest.approx(other.average_precision(), abs=1e-12)
    assert one.recall_at_rate(0.05) == pytest.approx(other.recall_at_rate(0.05), abs=1e-12)


def test_booleans_are_labels():
    labels, scores = scored_rows(8, ties=False)
    assert Ranking(labels == 1, scores).auc_roc() == Ranking(labels, scores).auc_roc()


def test_a_class_without_weight_has_no_figure():
    ranking = Ranking(np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4]))
    without_positives, without_negatives = np.array([1.0, 0, 1, 0]), np.array([0, 1.0, 0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(ranking.auc_roc(without_positives))
        assert np.isnan(ranking.average_precision(without_positives))
        assert np.isnan(ranking.recall_at_rate(0.1, without_positives))
        assert np.isnan(ranking.auc_roc(without_negatives))
        assert ranking.average_precision(without_negatives) == 1
        # Rows of no weight at the very top give no alert, so that their precision would be 0 / 0.
        assert ranking.average_precision(np.array([1.0, 1, 1, 0])) == pytest.approx(1 / 2)
        assert ranking.average_precision(np.array([1.0, 1, 0, 0])) == 1


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1, 0], [0.1, np.nan, 0.2], "not finite"),
        ([0, 1, 0], [0.1, np.inf, 0.2], "not finite"),
        ([0, 1, 0], [0.1, 0.2], "3 labels for 2 scores"),
        ([0, 0, 0], [0.1, 0.2, 0.3], "one class only"),
        ([1, 1, 1], [0.1, 0.2, 0.3], "one class only"),
        ([], [], "one class only"),
    ],
)
def test_a_ranking_that_has_no_figures_is_refused(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        Ranking(np.array(labels), np.array(scores))


# Card precision


def card_precision(labels, scores, cards, days, k, weights=None) -> float:
    columns = (np.array(column) for column in (labels, scores, cards, days))
    return CardPrecision(*columns, k=k)(None if weights is None else np.array(weights, float))


def slow_card_precision(labels, scores, cards, days, k) -> float:
    """The definition, word by word."""
    rows = list(zip(labels, scores, cards, days, strict=True))
    blocked = set()
    precisions = []
    for today in sorted(set(days)):
        highest, fraudulent = {}, set()
        for label, score, card, day in rows:
            if day == today and card not in blocked:
                highest[card] = max(score, highest.get(card, -math.inf))
                if label == 1:
                    fraudulent.add(card)
        checked = sorted(highest, key=highest.get, reverse=True)[:k]
        found = fraudulent.intersection(checked)
        blocked |= found
        precisions.append(len(found) / k)
    return sum(precisions) / len(precisions)


def card_rows(seed: int, rows: int = 200, days: int = 6) -> tuple[list, list, list, list]:
    random = np.random.default_rng(seed)
    labels = (random.random(rows) < 0.25).astype(int)
    scores = random.permutation(rows) + 60 * labels + random.random(rows)  # no ties
    return (
        labels.tolist(),
        scores.tolist(),
        random.integers(0, 25, rows).tolist(),
        random.integers(3, 3 + days, rows).tolist(),
    )


def test_the_highest_score_of_a_card_counts():
    # Card 0 is first by its genuine payment, card 1 has two payments but is one card, card 2 isn't checked.
    labels, scores, cards = [0, 1, 0, 0, 1], [9, 1, 8, 7, 6], [0, 0, 1, 1, 2]
    assert card_precision(labels, scores, cards, [0] * 5, 1) == 1
    assert card_precision(labels, scores, cards, [0] * 5, 2) == 1 / 2
    assert card_precision(labels, scores, cards, [0] * 5, 3) == pytest.approx(2 / 3)


def test_a_found_card_is_blocked_on_later_days():
    # Card 0 is found on the first day, so card 1 with its fraud is the first of the second day.
    labels, scores, cards, days = [1, 0, 0, 1], [9, 1, 9, 5], [0, 1, 0, 1], [0, 0, 1, 1]
    assert card_precision(labels, scores, cards, days, 1) == 1
    # Were card 0 genuine on the first day, it would be the first of the second day too.
    assert card_precision([0, 0, 0, 1], scores, cards, days, 1) == 0
    assert card_precision([0, 0, 1, 0], scores, cards, days, 1) == 1 / 2
    # A fraud that nobody checked blocks no card.
    assert card_precision([1, 0, 1, 0], [1, 9, 9, 1], cards, days, 1) == 1 / 2


def test_a_card_is_not_blocked_on_earlier_days_whatever_the_order_of_the_rows():
    labels, scores, cards, days = [1, 0, 0, 1], [9, 1, 9, 5], [0, 1, 0, 1], [0, 0, 1, 1]
    for order in itertools.permutations(range(4)):
        columns = [[column[index] for index in order] for column in (labels, scores, cards, days)]
        assert card_precision(*columns, 1) == 1


def test_fewer_cards_than_checks_count_as_checks_without_fraud():
    labels, scores, cards, days = [1, 0, 1], [3, 2, 1], [0, 1, 2], [5, 5, 5]
    assert card_precision(labels, scores, cards, days, 3) == pytest.approx(2 / 3)
    assert card_precision(labels, scores, cards, days, 10) == pytest.approx(2 / 10)
    # On the second day there's no card left.
    assert card_precision([1, 1], [1, 1], [0, 0], [0, 1], 1) == 1 / 2


@pytest.mark.parametrize("k", [1, 3, 8, 40])
@pytest.mark.parametrize("seed", range(5))
def test_card_precision_agrees_with_its_definition(seed, k):
    rows = card_rows(seed)
    assert card_precision(*rows, k) == pytest.approx(slow_card_precision(*rows, k), abs=1e-12)


def expanded(rows, weights) -> list[list]:
    """Every row as often as its card weighs, each time with a card of its own."""
    copies = [
        (label, score, (card, copy), day)
        for label, score, card, day in zip(*rows, strict=True)
        for copy in range(weights[card])
    ]
    return [list(column) for column in zip(*copies, strict=True)]


@pytest.mark.parametrize("k", [2, 6, 10])
@pytest.mark.parametrize("seed", range(5))
def test_a_weight_stands_for_so_many_cards(seed, k):
    rows = card_rows(seed)
    weights = 2 * np.random.default_rng(seed + 50).integers(0, 2, 25)  # two copies never lie across an even k
    expected = slow_card_precision(*expanded(rows, weights), k)
    # A day on which only cards of no weight pay is a day still.
    assert {day for _, _, card, day in zip(*rows, strict=True) if weights[card]} == set(rows[3])
    assert card_precision(*rows, k, weights) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("k", [1, 5, 12])
@pytest.mark.parametrize("seed", range(5))
def test_a_weight_across_the_last_check_counts_in_part(seed, k):
    rows = card_rows(seed, rows=60, days=1)
    weights = np.random.default_rng(seed + 70).integers(0, 4, 25)
    expected = slow_card_precision(*expanded(rows, weights), k)
    assert card_precision(*rows, k, weights) == pytest.approx(expected, abs=1e-12)


def test_weights_of_one_are_the_default():
    rows = card_rows(9)
    assert card_precision(*rows, 4, np.ones(25)) == card_precision(*rows, 4)


# Bootstrap


@pytest.mark.parametrize(("level", "quantile"), [(0.95, 1.959964), (0.5, 0.674490)])
def test_interval_of_a_mean_is_that_of_normal_theory(level, quantile):
    x = np.random.default_rng(1).exponential(size=500)
    estimate = bootstrap(lambda weights: weights @ x / weights.sum(), len(x), resamples=4000, level=level)
    deviation = x.std() / np.sqrt(len(x))
    assert estimate["value"] == pytest.approx(x.mean())
    assert estimate["low"] == pytest.approx(x.mean() - quantile * deviation, abs=0.12 * deviation)
    assert estimate["high"] == pytest.approx(x.mean() + quantile * deviation, abs=0.12 * deviation)


def test_seeds_reproduce_and_differ():
    x = np.random.default_rng(2).normal(size=50)

    def intervals(seed):
        return bootstrap(lambda weights: weights @ x / weights.sum(), 50, resamples=50, seed=seed)

    assert intervals(3) == intervals(3)
    assert intervals(3) != intervals(4)


def test_the_same_seed_draws_the_same_units_for_two_statistics():
    seen = [[], []]
    for draws, resamples in zip(seen, (20, 30), strict=True):
        bootstrap(lambda weights, draws=draws: draws.append(weights) or 0.0, 12, resamples=resamples, seed=5)
    np.testing.assert_array_equal(seen[0], seen[1][:21])


def test_draws_are_counts_of_units_with_replacement():
    draws = []
    bootstrap(lambda weights: draws.append(weights) or 0.0, 40, resamples=1000)
    np.testing.assert_array_equal(draws[0], np.ones(40))  # the figure itself is of all units once
    drawn = np.array(draws[1:])
    assert drawn.shape == (1000, 40)
    np.testing.assert_array_equal(drawn.sum(axis=1), 40)
    np.testing.assert_array_equal(drawn, np.round(drawn))
    assert np.mean(drawn == 0) == pytest.approx((1 - 1 / 40) ** 40, abs=0.01)
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.15)  # nearly 5 standard deviations


def test_a_tree_has_the_estimate_of_each_of_its_figures():
    x = np.random.default_rng(6).normal([0, 10], size=(80, 2))

    def tree(weights):
        first, second = weights @ x / weights.sum()
        return {"of one": {"z": first, "a": [second, first]}, "of none": {}, 0.5: float(second)}

    found = bootstrap(tree, 80, resamples=100, seed=7)
    first, second = (
        bootstrap(lambda weights, column=column: (weights @ x / weights.sum())[column], 80, resamples=100, seed=7)
        for column in (0, 1)
    )
    assert first["low"] < first["value"] < first["high"] < second["low"] < second["value"] < second["high"]
    assert found == {"of one": {"z": first, "a": [second, first]}, "of none": {}, 0.5: second}
    assert list(found["of one"]) == ["z", "a"]  # keys keep their order
    json.dumps(found)  # plain numbers, whatever the statistic returned


def test_estimates_are_to_the_last_bit_those_of_draws_in_a_matrix():
    labels, scores = scored_rows(11, ties=True)
    rankings = [Ranking(labels, scores + shift) for shift in np.random.default_rng(12).normal(size=(3, 300))]
    names = ("auc_roc", "average_precision")

    def measures(weights):
        return [{name: getattr(ranking, name)(weights) for name in names} for ranking in rankings]

    found = bootstrap(lambda weights: mean(measures(weights)), 300, resamples=200, biased={"auc_roc"})
    random = np.random.default_rng(0)
    draws = np.array(
        [
            np.mean([list(of_seed.values()) for of_seed in measures(weights)], axis=0)
            for weights in (np.bincount(random.integers(0, 300, 300), minlength=300).astype(float) for _ in range(200))
        ]
    )
    values = np.mean([list(of_seed.values()) for of_seed in measures(np.ones(300))], axis=0)
    quantiles = [np.quantile(of_measure, [(1 - 0.95) / 2, 0.5, (1 + 0.95) / 2]).tolist() for of_measure in draws.T]
    (value, precision), (low, middle, high) = values.tolist(), quantiles[0]
    assert found["auc_roc"] == {"value": value, "low": low + value - middle, "high": min(1, high + value - middle)}
    low, _, high = quantiles[1]
    assert found["average_precision"] == {"value": precision, "low": low, "high": high}

    of_seeds = measures(np.ones(300))
    result = over_seeds(of_seeds, found)
    assert list(result) == list(names)
    for name in names:
        seeds = [of_seed[name] for of_seed in of_seeds]
        assert result[name] == found[name] | {"seeds": seeds, "deviation": float(np.std(seeds, ddof=1))}
    assert over_seeds(of_seeds[:1], found)["auc_roc"]["deviation"] == 0


def test_draws_without_a_figure_are_left_out():
    figures = []

    def statistic(weights):
        figures.append(weights[0] if weights[0] else np.nan)
        return [figures[-1], weights[1]]

    missing, whole = bootstrap(statistic, 10, resamples=400, level=0.8)
    drawn = np.array(figures[1:])
    assert np.isnan(drawn).sum() > 80
    assert missing["low"] == np.quantile(drawn[~np.isnan(drawn)], 0.1) == 1
    assert missing["high"] == np.quantile(drawn[~np.isnan(drawn)], 0.9)
    assert whole["low"] == 0


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    random = np.random.default_rng(8)
    covered = []
    for seed in range(200):
        x = random.normal(size=60)
        estimate = bootstrap(lambda weights, x=x: weights @ x / weights.sum(), 60, resamples=200, level=0.8, seed=seed)
        covered.append(estimate["low"] < 0 < estimate["high"])
    assert 0.71 < np.mean(covered) < 0.87  # 0.8 less the little that a percentile interval of 60 units loses


def test_resampling_customers_widens_the_interval_where_their_payments_go_together():
    random = np.random.default_rng(9)
    customer = np.repeat(np.arange(50), 20)
    labels = (np.arange(1000) // 20 % 5 == 0).astype(int)
    scores = labels + np.repeat(random.normal(size=50), 20)
    widths = []
    for ranking, units in ((Ranking(labels, scores), 1000), (Ranking(labels, scores, customer), 50)):
        estimate = bootstrap(ranking.auc_roc, units, resamples=200)
        assert estimate["low"] < estimate["value"] < estimate["high"]
        widths.append(estimate["high"] - estimate["low"])
    assert widths[1] > 3 * widths[0]


def test_a_card_of_weight_two_counts_as_two_cards_where_one_alone_is_checked():
    labels, scores = np.array([1, 0, 1, 0]), np.array([0.9, 0.1, 0.8, 0.2])
    cards, days = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    weighted = CardPrecision(labels, scores, cards, days, k=1)(np.array([2.0, 1.0]))
    assert weighted == 1.0  # one of the two on each day


def measures_of(rows):
    """Every measure that a program takes intervals of, with its units, of rows of 0 and 1 and their scores."""
    labels, scores = np.array(rows["labels"]), np.array(rows["scores"], float)
    ranking = Ranking(labels, scores)
    cards = CardPrecision(labels, scores, np.arange(len(labels)) // 2, np.arange(len(labels)) % 3, k=2)
    # The same rows as classes, as frames of sentences, as tokens of blocks and as words.
    sure = (scores - scores.min() + 1) / (np.ptp(scores) + 2)
    classes = Classification(labels, np.column_stack([1 - sure, sure]))
    found = (sure > 0.5).astype(int)
    tagging = Tagging([labels, labels[::-1]], [found, found], tolerance=1)
    blocks = np.arange(len(labels)) // 2
    size = np.full(blocks[-1] + 1, 3)
    text = Prediction(-np.log2(sure), found == labels, blocks, size, size)
    spoken, meant = ([tuple("ab"[: 1 + code]) for code in codes] for codes in (found, labels))
    words = Pronunciation(spoken, [(phones,) for phones in meant])
    return {
        "ranking": (ranking.auc_roc, len(labels)),
        "precision": (ranking.average_precision, len(labels)),
        "recall": (lambda weights: ranking.recall_at_rate(0.1, weights), len(labels)),
        "cards": (cards, int(np.ceil(len(labels) / 2))),
        "accuracy": (classes.accuracy, len(labels)),
        "log-loss": (classes.log_loss, len(labels)),
        "calibration": (classes.calibration_error, len(labels)),
        "frames": (tagging.frame_accuracy, 2),
        "phones": (tagging.phone_error_rate, 2),
        "boundaries": (tagging.boundary_f1, 2),
        "text": (text.measures, blocks[-1] + 1),
        "words": (words.measures, len(labels)),
    }


@pytest.mark.parametrize(
    "rows",
    [
        {"labels": [0] * 19 + [1], "scores": range(20)},
        {"labels": [1] + [0] * 19, "scores": range(20)},
        {"labels": [0, 1] * 10, "scores": [0, 1] * 10},
        {"labels": [0, 1] * 10, "scores": [0] * 20},
        {"labels": [1] * 6 + [0] * 14, "scores": np.random.default_rng(0).normal(size=20)},
        {"labels": [1] * 19 + [0], "scores": np.random.default_rng(1).normal(size=20)},
        {"labels": [0, 1], "scores": [0, 1]},
        {"labels": [1, 0], "scores": [0, 1e30]},
    ],
    ids=["one fraud", "one fraud at the end", "perfect", "constant", "a third", "nearly all", "two rows", "reversed"],
)
def test_every_measure_lies_in_its_interval(rows):
    for name, (statistic, units) in measures_of(rows).items():
        for biased in ((), {name}):
            tree = bootstrap(
                lambda weights, name=name, statistic=statistic: {name: statistic(weights)},
                units,
                resamples=60,
                biased=biased,
            )
            estimates = tree[name].values() if name in ("text", "words") else tree.values()
            for estimate in estimates:
                assert 0 <= estimate["low"] <= estimate["value"] <= estimate["high"], (name, estimate)


def test_the_interval_of_a_biased_figure_is_moved_to_it():
    x = np.random.default_rng(3).normal(0.01, 1, size=400)

    def distance(weights):
        return abs(weights @ x / weights.sum())

    def drawn(weights):
        return np.mean(weights > 0)

    plain, moved = bootstrap(
        lambda weights: [distance(weights), {"distance": distance(weights)}], 400, biased={"distance"}
    )
    moved = moved["distance"]
    assert moved["low"] == 0 < moved["value"] < moved["high"] < plain["high"]
    # Of 400 units 63 % are drawn at least once; with all of them the share is 1, which no draw comes near.
    share = bootstrap(drawn, 400)
    assert share["value"] == share["high"] == 1
    assert share["low"] == pytest.approx(1 - 1.96 * 0.0156, abs=0.006)
    nothing = bootstrap(lambda weights: 0.5 if (weights == 1).all() else np.nan, 400, resamples=20)
    assert nothing == {"value": 0.5, "low": 0.5, "high": 0.5}
