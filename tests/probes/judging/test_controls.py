"""What the score would be without knowledge: and that each control can tell."""

import dataclasses

import numpy as np
import pytest
import torch

from probes.errors import NotFound, TooFew
from probes.judging.controls import (
    MEANINGS,
    NEEDS_MODEL,
    bag_of_words,
    check_draws,
    data_controls,
    lead,
    length,
    shuffle_labels,
)
from probes.judging.splits import row_labels, select, split_groups
from probes.model.sites import Site
from probes.reading.fitting import ESTIMATORS
from probes.reading.metrics import Estimate, auroc
from probes.reading.probe import LinearProbe

SITE = Site("resid_post", 0)


def _halves(acts, seed=0):
    split = split_groups(acts.labels, acts.groups, fractions=(0.4, 0.2, 0.4), seed=seed)
    return select(acts, split.train), select(acts, split.test)


def _controls(acts, method="logistic", seed=0):
    train, test = _halves(acts, seed)
    probe = ESTIMATORS[method](train.values[SITE], row_labels(train), site=SITE)
    return data_controls(probe, train, test, seed=seed)


def test_shuffled_twins_swap_or_stay_with_probability_one_half():
    """Two entities with a true and a false statement each: four labellings, each as likely as the next."""
    labels = np.array([True, False, True, False])
    drawn = shuffle_labels(labels, ["a", "a", "b", "b"], 4000, np.random.default_rng(0))
    assert (drawn[0] != drawn[1]).all()
    assert (drawn[2] != drawn[3]).all()
    counts = np.bincount(2 * drawn[0] + drawn[2], minlength=4)
    assert (abs(counts - 1000) < 120).all()  # 4.4 standard deviations


def test_shuffled_pure_groups_stay_whole_and_as_many_of_each():
    groups = ["a", "a", "b", "c", "c", "c", "d"]
    labels = np.array([True, True, False, False, False, False, True])
    drawn = shuffle_labels(labels, groups, 500, np.random.default_rng(0))
    by_group = drawn[[0, 2, 3, 6]]
    assert (drawn == by_group[[0, 0, 1, 2, 2, 2, 3]]).all()
    assert (by_group.sum(0) == 2).all()
    assert 0.4 < by_group[0].mean() < 0.6


def test_shuffles_of_mixed_and_pure_groups_do_not_touch_each_other():
    groups, labels = ["twin", "twin", "x", "y"], np.array([True, False, True, False])
    drawn = shuffle_labels(labels, groups, 400, np.random.default_rng(0))
    assert (drawn[0] != drawn[1]).all()
    assert (drawn[2] != drawn[3]).all()
    assert 0.1 < (drawn[0] == drawn[2]).mean() < 0.9


@pytest.mark.parametrize("method", ESTIMATORS)
def test_shuffled_labels_stay_near_one_half_and_real_ones_do_not(planted, method):
    found = _controls(planted({0: 2.0}, groups=100, layers=1), method)
    assert found["auroc"].lower > 0.8
    assert found["shuffled"].value == pytest.approx(0.5, abs=0.02)
    assert found["shuffled_95"].upper < 0.7 < found["auroc"].lower
    assert found["shuffled_p"].value == pytest.approx(1 / 201)
    assert found["over_bag_of_words"].lower > 0.2
    assert set(found) == set(MEANINGS) - set(NEEDS_MODEL)


def test_without_knowledge_no_control_is_beaten(planted):
    found = _controls(planted({}, groups=100, layers=1))
    assert found["shuffled_p"].value > 0.05
    assert found["auroc"].value < found["random_95"].upper
    assert found["over_bag_of_words"].lower < 0 < found["over_bag_of_words"].upper


def test_p_is_spread_evenly_where_labels_mean_nothing(planted):
    p = [_controls(planted({}, groups=40, layers=1, d_model=3, seed=i), seed=i)["shuffled_p"].value for i in range(60)]
    assert 0.38 < np.mean(p) < 0.62  # 3.2 standard deviations of the mean of 60
    assert np.mean(np.array(p) <= 0.2) < 0.4
    assert min(p) < 0.25
    assert max(p) > 0.75


def test_random_directions_show_how_large_the_planted_direction_is(planted):
    """A direction that is most of the variance is found by chance; a small one is not."""
    small, large = (_controls(planted({0: s}, groups=100, layers=1))["random_95"] for s in (0.2, 8.0))
    assert small.upper < 0.75 < 0.9 < large.lower
    assert small.value > 0.5


def test_bag_of_words_sees_words_and_nothing_else(planted):
    acts = planted({}, groups=40, layers=1)
    told = tuple(
        f"{text} {'indeed' if label else 'never'}" for text, label in zip(acts.texts, acts.labels, strict=True)
    )
    train, test = _halves(dataclasses.replace(acts, texts=told))
    scores = bag_of_words(train, test)
    assert ((scores > 0) == row_labels(test)).all()
    chats = tuple(({"role": "user", "content": text},) for text in told)
    assert torch.equal(bag_of_words(*_halves(dataclasses.replace(acts, texts=chats))), scores)
    blank = dataclasses.replace(acts, texts=tuple(" " * (i + 1) for i in range(len(told))))
    assert bag_of_words(*_halves(blank)).unique().numel() == 1


def test_rows_of_one_text_share_its_shuffled_label(planted):
    found = _controls(planted({0: 1.0}, groups=40, layers=1, rows=3))
    assert found["auroc"].n == 16 * 2 * 3
    assert found["shuffled"].value == pytest.approx(0.5, abs=0.05)


def test_too_few_draws_and_a_method_that_cannot_be_refitted_are_refused(planted):
    train, test = _halves(planted({}, groups=40, layers=1))
    probe = ESTIMATORS["lda"](train.values[SITE], row_labels(train), site=SITE)
    with pytest.raises(TooFew, match="at least 200") as caught:
        data_controls(probe, train, test, draws=199)
    assert caught.value.needed == 200
    with pytest.raises(TooFew, match="over 10 checks take at least 400: give draws=400") as caught:
        data_controls(probe, train, test, draws=399, checks=10)
    assert caught.value.needed == 400
    with pytest.raises(NotFound, match="'given' is no estimator"):
        data_controls(LinearProbe.from_weights(torch.ones(12), 0.0, SITE), train, test)


def test_draws_are_forty_a_check_and_two_hundred_at_least():
    check_draws(200, 5)
    check_draws(240, 6)
    with pytest.raises(TooFew, match="at least 240") as caught:
        check_draws(239, 6)
    assert caught.value.needed == 240


def test_length_takes_its_sign_from_the_training_texts(planted):
    """By hand: true texts are longer in training, so longer is truer, though in the test part it is the other way."""
    acts = planted({}, groups=40, layers=1)
    train, test = _halves(acts)

    def told(part, longer):
        return dataclasses.replace(part, texts=tuple("x" * (9 if bool(y) == longer else 4) for y in part.labels))

    assert set(length(told(train, True), told(test, False)).tolist()) == {4.0, 9.0}
    assert set(length(told(train, False), told(test, False)).tolist()) == {-4.0, -9.0}
    probe = ESTIMATORS["lda"](train.values[SITE], row_labels(train), site=SITE)
    assert data_controls(probe, told(train, False), told(test, False))["length"].value == 1.0
    assert data_controls(probe, told(train, True), told(test, False))["length"].value == 0.0
    plain = data_controls(probe, train, test)
    assert plain["length"].lower < 0.5 < plain["length"].upper


def test_selectivity_is_the_lead_over_the_mean_of_the_shuffles(planted):
    known, unknown = (_controls(planted(s, groups=100, layers=1)) for s in ({0: 1.0}, {}))
    for found in (known, unknown):
        assert found["selectivity"].value == pytest.approx(found["auroc"].value - found["shuffled"].value)
        # The mean of 200 shuffles is known well: what is uncertain is nearly all the probe's own.
        width, own = (found[name].upper - found[name].lower for name in ("selectivity", "auroc"))
        assert 0.8 * own < width < 1.4 * own
    assert known["selectivity"].lower > 0.2
    assert unknown["selectivity"].lower < 0 < unknown["selectivity"].upper


def test_the_lead_of_one_estimate_over_another_takes_the_ends_that_face_each_other():
    """By hand: .8 [.77, .90] over .5 [.45, .54] is .3, down by sqrt(.03^2 + .04^2) and up by sqrt(.10^2 + .05^2)."""
    found = lead(Estimate(0.8, 0.77, 0.90, 100), Estimate(0.5, 0.45, 0.54, 200), how="by hand")
    assert found.value == pytest.approx(0.3)
    assert found.lower == pytest.approx(0.25)
    assert found.upper == pytest.approx(0.3 + 0.0125**0.5)
    assert (found.n, found.how) == (100, "by hand")
    assert lead(Estimate(0.9, 0.2, 1.0, 5), Estimate(0.1, 0.0, 0.9, 5), how="").upper < 0.95
    assert lead(Estimate(1.0, 0.2, 1.0, 5), Estimate(0.1, -0.9, 0.9, 5), how="").upper == 1.0, "no more than 1"


@pytest.mark.slow
def test_the_interval_of_selectivity_holds_what_the_probe_would_score_on_many_entities(planted):
    """A probe fitted once, then many test sets: the truth is its AUROC on 3,000 entities, less one half."""
    train = planted({0: 0.6}, groups=60, layers=1, seed=1)
    probe = ESTIMATORS["lda"](train.values[SITE], row_labels(train), site=SITE)
    many = planted({0: 0.6}, groups=3000, layers=1, seed=2)
    truth = auroc(probe.scores(many.values[SITE]), row_labels(many)).value - 0.5
    held = 0
    for seed in range(100):
        test = planted({0: 0.6}, groups=40, layers=1, seed=100 + seed)
        interval = data_controls(probe, train, test, seed=seed)["selectivity"]
        held += interval.lower <= truth <= interval.upper
        assert interval.upper - interval.lower < 0.4
    assert held >= 89
