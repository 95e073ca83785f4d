"""AUROC taken apart by group: against DeLong by hand and by simulation."""

import numpy as np
import pytest

from probes.reading.metrics import auroc, auroc_difference
from probes.reading.ranking import interval, rank


def test_influences_of_four_rows_by_hand():
    """Positives 2 and 0, negatives 1 and -1: the positive 0 loses one of two comparisons.

    V of the positives 1 and 1/2, of the negatives 1/2 and 1; A = 3/4. Each row is a group, two hold each class, so
    every deviation of 1/4 is divided by 2 rows and widened by sqrt(2 / 1).
    """
    found = rank(np.array([2.0, 0.0, 1.0, -1.0]), np.array([True, True, False, False]), np.arange(4))
    assert found.value == 0.75
    assert found.influence == pytest.approx(np.sqrt(2) * np.array([1, -1, -1, 1]) / 8)
    assert (found.positive_groups, found.negative_groups, found.pairs) == (2, 2, 2)


def test_variance_with_one_row_a_group_is_delongs():
    rng = np.random.default_rng(0)
    labels = np.arange(50) < 18
    scores = rng.standard_normal(50).round(1) + labels
    found = rank(scores, labels, np.arange(50))
    wins = np.sign(scores[labels][:, None] - scores[~labels][None, :]) / 2 + 0.5
    delong = wins.mean(1).var(ddof=1) / 18 + wins.mean(0).var(ddof=1) / 32
    assert found.value == pytest.approx(wins.mean(), abs=1e-12)
    assert (found.influence**2).sum() == pytest.approx(delong, rel=1e-10)


def test_variance_with_twins_is_obuchowskis():
    """The formula of the paper, written out: S10, S01 and S11 over clusters."""
    rng = np.random.default_rng(1)
    n = 30
    entity = rng.standard_normal(n)
    scores = np.concatenate([entity + rng.standard_normal(n) + 1, entity + rng.standard_normal(n)])
    labels, codes = np.repeat([True, False], n), np.tile(np.arange(n), 2)
    found = rank(scores, labels, codes)
    wins = (scores[labels][:, None] > scores[~labels][None, :]).astype(float)
    x, y, a = wins.mean(1), wins.mean(0), wins.mean()
    s10, s01 = ((x - a) ** 2).sum() / (n - 1), ((y - a) ** 2).sum() / (n - 1)
    s11 = ((x - a) * (y - a)).sum() / (n - 1)
    assert (found.influence**2).sum() == pytest.approx((s10 + s01 + 2 * s11) / n, rel=1e-10)


def test_perfect_separation_has_the_bound_of_that_many_successes():
    """Ten twins make five disjoint pairs of entities; the bound is that of 5 successes in 5: .025 ** (1 / 5)."""
    scores, labels = np.repeat([1.0, 0.0], 10), np.repeat([True, False], 10)
    lower, upper = interval(rank(scores, labels, np.tile(np.arange(10), 2)), 0.05)
    assert (lower, upper) == (pytest.approx(0.025 ** (1 / 5)), 1.0)
    assert interval(rank(-scores, labels, np.tile(np.arange(10), 2)), 0.05) == (
        0.0,
        pytest.approx(1 - 0.025 ** (1 / 5)),
    )
    many, truth = np.repeat([1.0, 0.0], 400), np.repeat([True, False], 400)
    assert interval(rank(many, truth, np.arange(800)), 0.05)[0] == pytest.approx(0.025 ** (1 / 400))


def test_an_interval_of_one_group_a_class_is_all_that_is_possible():
    found = rank(np.array([1.0, 0.0]), np.array([True, False]), np.arange(2))
    assert interval(found, 0.05) == (0.0, 1.0)


def _world(rng, kind, groups, shift):
    """Scores of a clustered world: an entity's own offset, and a label's shift."""
    if kind == "twins":
        codes, labels, offset = np.repeat(np.arange(groups), 2), np.tile([True, False], groups), 1.5
    else:  # every row of an entity has its label, and the rows are nearly copies
        codes, offset = np.repeat(np.arange(groups), 4), 3.0
        labels = codes % 2 == 0
    entity = offset * rng.standard_normal(groups)
    return entity[codes] + rng.standard_normal(len(codes)) + shift * labels, labels, codes


@pytest.mark.parametrize(
    ("kind", "groups", "shift"),
    [("twins", 20, 0.0), ("twins", 60, 2.0), ("twins", 60, 5.5), ("pure", 20, 3.0), ("pure", 60, 10.0)],
)
def test_intervals_cover_what_they_promise_on_clustered_rows(kind, groups, shift):
    truth = auroc(*_world(np.random.default_rng(9), kind, 40_000, shift)[:2]).value
    rng = np.random.default_rng(3)
    runs = [_world(rng, kind, groups, shift) for _ in range(400)]
    honest = [auroc(scores, labels, groups=codes) for scores, labels, codes in runs]
    assert np.mean([e.lower <= truth <= e.upper for e in honest]) >= 0.92
    # An interval that always covers is worthless: 3.9 standard deviations are ideal, the skew near 1 costs some.
    assert np.median([e.upper - e.lower for e in honest]) < 6 * np.std([e.value for e in honest])
    if kind == "pure":
        blind = [auroc(scores, labels) for scores, labels, _ in runs]
        assert np.mean([e.lower <= truth <= e.upper for e in blind]) < 0.85


def test_paired_differences_cover_zero_and_are_narrower_than_unpaired_ones():
    rng = np.random.default_rng(4)
    covered, paired, unpaired = [], [], []
    for _ in range(400):
        scores, labels, codes = _world(rng, "twins", 40, 2.0)
        noise = 0.5 * rng.standard_normal((2, len(scores)))
        found = auroc_difference(scores + noise[0], scores + noise[1], labels, groups=codes)
        covered.append(found.lower <= 0 <= found.upper)
        paired.append(found.upper - found.lower)
        each = [auroc(scores + part, labels, groups=codes) for part in noise]
        unpaired.append(np.hypot(*(e.upper - e.lower for e in each)))
    assert np.mean(covered) >= 0.92
    assert np.mean(paired) < 0.7 * np.mean(unpaired)
