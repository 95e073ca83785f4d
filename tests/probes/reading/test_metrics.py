"""Estimates and the metrics that return them."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from probes.errors import BadInput
from probes.reading.metrics import (
    Estimate,
    auroc,
    auroc_difference,
    auroc_values,
    mean,
    permutation_p,
    proportion,
    quantile,
)

ROWS = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=4, max_size=40).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


def test_an_estimate_prints_as_papers_do():
    assert str(Estimate(0.934, 0.9, 0.951, 180)) == ".93 [.90, .95], n = 180"
    assert str(Estimate(1, 0.884, 1.0, 60)) == "1.00 [.88, 1.00], n = 60"
    assert str(Estimate(-0.051, -0.2, 0.001, 9)) == "-.05 [-.20, .00], n = 9"
    assert str(Estimate(12.5, 10, 20, 30)) == "12.50 [10.00, 20.00], n = 30"
    assert Estimate(0.005, 0, 0.018, 200).interval(3) == ".005 [.000, .018]"
    assert str(Estimate(-0.001, -0.001, 0, 3)) == ".00 [.00, .00], n = 3"


@pytest.mark.parametrize(
    "numbers",
    [(0.5, 0.6, 0.7), (0.8, 0.6, 0.7), (float("nan"), 0, 1), (0.5, float("nan"), 1), (0.5, 0, float("inf"))],
)
def test_an_estimate_outside_its_interval_or_without_a_value_is_refused(numbers):
    with pytest.raises(BadInput, match="not finite|outside its interval"):
        Estimate(*numbers, n=3)


def test_an_estimate_survives_json_to_the_last_bit():
    estimate = Estimate(0.1 + 0.2, 1 / 3 - 0.2, 2 / 3, 17, 0.9, "how é")
    assert Estimate.from_dict(json.loads(json.dumps(estimate.to_dict()))) == estimate


@pytest.mark.parametrize(
    "change", [{"value": "x"}, {"value": None}, {"n": 1.5}, {"n": True}, {"how": 3}, {"more": 1}, {"lower": 0.99}]
)
def test_a_field_of_another_kind_is_refused_when_an_estimate_is_read(change):
    with pytest.raises(BadInput):
        Estimate.from_dict({**Estimate(0.5, 0.4, 0.6, 10).to_dict(), **change})
    fields = Estimate(0.5, 0.4, 0.6, 10).to_dict()
    del fields["how"]
    with pytest.raises(BadInput, match="has the fields"):
        Estimate.from_dict(fields)


def test_auroc_of_four_rows_by_hand():
    """Positives 3 and 1, negatives 2 and 1: of four comparisons two are won, one is lost, one is a tie: 2.5 / 4."""
    found = auroc([3, 1, 2, 1], [True, True, False, False])
    assert found.value == 0.625
    assert found.n == 4
    assert found.lower < 0.625 < found.upper


def test_ties_count_one_half_in_any_order_of_rows():
    """Four equal scores: .5, whichever row comes first."""
    for labels in ([1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]):
        found = auroc([7.0] * 4, labels)
        assert found.value == 0.5
        assert found.lower < 0.5 < found.upper


@settings(max_examples=60, deadline=None, derandomize=True)
@given(ROWS)
def test_auroc_equals_scikit_learns_and_turns_over_with_the_sign(rows):
    scores, labels = np.array(rows, dtype=float).T
    found = auroc(scores, labels)
    assert found.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert auroc_values(scores[:, None], labels.astype(bool))[0] == pytest.approx(found.value, abs=1e-12)
    turned = auroc(-scores, labels)
    assert (turned.value, turned.lower, turned.upper) == pytest.approx(
        (1 - found.value, 1 - found.upper, 1 - found.lower), abs=1e-9
    )
    assert auroc(np.exp(scores), labels).value == pytest.approx(found.value, abs=1e-12)


def test_auroc_takes_tensors_of_any_dtype_and_groups_of_any_kind():
    scores = torch.tensor([3.0, 1.0, 2.0, 0.0], dtype=torch.bfloat16)
    labels = torch.tensor([True, False, True, False])
    by_name = auroc(scores, labels, groups=["a", "a", "b", "b"])
    assert by_name == auroc(scores, labels, groups=torch.tensor([4, 4, 9, 9]))
    assert by_name == auroc(scores.double().numpy(), [1, 0, 1, 0], groups=("x", "x", "y", "y"))
    assert auroc(scores, labels) != by_name


def test_copying_every_row_changes_nothing_where_the_copies_share_a_group():
    rng = np.random.default_rng(0)
    labels, groups = np.arange(60) % 2 == 0, np.arange(60) // 2
    scores = rng.standard_normal(60) + labels
    once, twice = (
        auroc(scores, labels, groups=groups),
        auroc(np.tile(scores, 2), np.tile(labels, 2), groups=np.tile(groups, 2)),
    )
    assert (once.value, once.lower, once.upper) == pytest.approx((twice.value, twice.lower, twice.upper))
    assert auroc(np.tile(scores, 2), np.tile(labels, 2)).lower > once.lower


def test_an_auroc_of_one_keeps_an_interval_that_shrinks_with_the_groups():
    few, many = (auroc(np.arange(n), np.arange(n) >= n / 2) for n in (10, 200))
    assert few.value == many.value == 1.0
    assert few.lower < 0.5 < 0.95 < many.lower < 1.0


@pytest.mark.parametrize(
    ("scores", "labels", "groups", "words"),
    [
        ([1, 2], [True, True], None, "all 2 labels are True"),
        ([1, 2], [False, False], None, "all 2 labels are False"),
        ([1, float("nan")], [True, False], None, "not finite, the first in row 1"),
        ([float("inf"), 1], [True, False], None, "not finite, the first in row 0"),
        ([1, 2, 3], [True, False], None, "3 scores for 2 labels"),
        ([1, 2], [True, False], ["a"], "1 groups for 2 labels"),
        ([1, 2], [-1, 1], None, "other than true and false"),
        ([], [], None, "at least one"),
        ([[1, 2]], [True, False], None, "one number a row"),
    ],
)
def test_what_has_no_auroc_is_refused(scores, labels, groups, words):
    with pytest.raises(BadInput, match=words):
        auroc(scores, labels, groups=groups)
    with pytest.raises(BadInput, match=words):
        auroc_difference(scores, scores, labels, groups=groups)


def test_a_confidence_outside_its_range_is_refused_and_a_higher_one_is_wider():
    scores, labels = np.array([3.0, 1, 2, 0, 5, 1]), [1, 0, 0, 1, 1, 0]
    assert auroc(scores, labels, confidence=0.5).lower > auroc(scores, labels, confidence=0.99).lower
    for confidence in (0, 1, 95):
        with pytest.raises(BadInput, match="confidence"):
            auroc(scores, labels, confidence=confidence)


def test_a_better_score_leads_and_the_lead_changes_sign_when_turned():
    rng = np.random.default_rng(0)
    labels, groups = np.arange(200) % 2 == 0, np.arange(200) // 2
    good, poor = rng.standard_normal(200) + 2 * labels, rng.standard_normal(200)
    lead, lag = (auroc_difference(*pair, labels, groups=groups) for pair in ((good, poor), (poor, good)))
    assert lead.lower > 0
    assert (lag.value, lag.lower, lag.upper) == pytest.approx((-lead.value, -lead.upper, -lead.lower))
    assert lead.value == pytest.approx(auroc(good, labels).value - auroc(poor, labels).value)


def test_two_perfect_scores_differ_by_nothing_known_exactly():
    labels = np.arange(20) % 2 == 0
    found = auroc_difference(labels * 1.0, labels * 2.0, labels)
    assert found.value == 0
    assert found.lower < -0.1 < 0.1 < found.upper


@pytest.mark.parametrize(("k", "n"), [(0, 59), (3, 60), (30, 30), (1, 2)])
def test_a_proportion_has_scipys_exact_interval(k, n):
    found, reference = proportion(k, n), binomtest(k, n).proportion_ci(0.95, "exact")
    assert (found.value, found.n) == (k / n, n)
    assert (found.lower, found.upper) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_no_successes_in_59_stay_above_five_percent_at_one_sided_95():
    assert proportion(0, 59, confidence=0.9).upper < 0.05 < proportion(0, 58, confidence=0.9).upper


@pytest.mark.parametrize(("k", "n"), [(0, 0), (3, 2), (-1, 4)])
def test_an_impossible_proportion_is_refused(k, n):
    with pytest.raises(BadInput, match="no proportion"):
        proportion(k, n)


def test_quantiles_of_a_hundred_draws_by_hand():
    """Of 1 to 100 the 95 % quantile is 95; P(Binomial(100, .95) < 90) <= .025 gives the interval [90, 100]."""
    found = quantile(np.arange(1, 101)[::-1], 0.95)
    assert (found.value, found.lower, found.upper, found.n) == (95, 90, 100, 100)
    assert quantile([4.0], 0.5).value == 4.0


def test_quantile_intervals_cover_the_true_quantile():
    rng = np.random.default_rng(0)
    found = [quantile(rng.random(200), 0.95) for _ in range(500)]
    assert 0.93 <= np.mean([e.lower <= 0.95 <= e.upper for e in found]) < 1


def test_a_mean_has_students_interval():
    found = mean([1.0, 2.0, 3.0])
    assert found.value == 2
    assert found.upper - found.value == pytest.approx(4.302652729911275 / np.sqrt(3))
    for bad in ([1.0], [1.0, float("nan")]):
        with pytest.raises(BadInput):
            mean(bad)
    for q in (0, 1, 95):
        with pytest.raises(BadInput, match="between 0 and 1"):
            quantile([1.0, 2.0], q)


def test_a_permutation_p_by_hand_is_never_0():
    found = permutation_p(0, 19, of="shuffles")
    assert found.value == pytest.approx(1 / 20)
    assert found.n == 19
    assert found.how == "(1 + 0) / (1 + 19 shuffles); Clopper-Pearson interval of the share"
    assert permutation_p(19, 19, of="shuffles").value == 1.0
    with pytest.raises(BadInput):
        permutation_p(20, 19, of="shuffles")
