"""What the score would be without knowledge: and that each control can tell."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from probes.activations.capture import capture
from probes.errors import Mismatch, NotFound, TooFew
from probes.model.sites import Site
from probes.reading.controls import (
    MEANINGS,
    bag_of_words,
    controls,
    data_controls,
    log_probability,
    shuffle_labels,
)
from probes.reading.fitting import ESTIMATORS
from probes.reading.probe import LinearProbe
from probes.reading.splits import row_labels, select, split_groups
from probes.reading.sweep import sweep

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
    assert set(found) == {name for name in MEANINGS if "log_probability" not in name}


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
    with pytest.raises(NotFound, match="'given' is no estimator"):
        data_controls(LinearProbe.from_weights(torch.ones(12), 0.0, SITE), train, test)


def test_log_probability_in_batches_is_that_of_each_text_alone(tiny):
    texts = [
        "Paris is the capital of France",
        "cheese",
        "Rome is not the capital of the river me now",
        "Italy is a city",
    ]
    total, tokens = log_probability(tiny, texts, batch_size=3)
    for text, sum_, count in zip(texts, total, tokens, strict=True):
        ids = torch.tensor([tiny.encode(text)])
        with torch.no_grad():
            logs = tiny.module(input_ids=ids).logits.log_softmax(-1)
        alone = sum(logs[0, i, ids[0, i + 1]].item() for i in range(ids.shape[1] - 1))
        assert sum_.item() == pytest.approx(alone, abs=1e-4)
        assert count == max(1, ids.shape[1] - 1)
    assert total[1] == 0


@pytest.fixture
def swept(build):
    """A sweep of a tiny random model over statements that it finds likely (true) or unlikely (false)."""
    model, rng = build(d_model=32), np.random.default_rng(0)
    words = sorted(word for word in model.tokenizer.get_vocab() if not word.startswith("<"))
    pairs = {(*rng.choice(words, 4), i) for i in range(60)}
    texts = [" ".join(pair[:4]) + tail for pair in sorted(pairs) for tail in (f" {pair[0]}", f" {pair[1]}")]
    total, _ = log_probability(model, texts)
    likely = (total.view(-1, 2) == total.view(-1, 2).max(1, keepdim=True).values).flatten()
    groups = [" ".join(text.split()[:4]) for text in texts]
    acts = capture(model, texts, "resid_post.*", labels=likely.tolist(), groups=groups)
    return model, sweep(acts, estimators="logistic")


def test_controls_with_the_model_add_the_statements_own_log_probability(swept):
    model, found = swept
    assert "log-probability of the statement" in str(found.table)
    assert "missing (needs the model" in str(found.table)
    added = controls(found, model)
    assert set(added) == set(MEANINGS)
    assert added["log_probability"].value > 0.6  # labels follow it within each pair
    assert added["log_probability"].how.startswith("log-probability ")
    gap = added["auroc"].value - added["log_probability"].value
    assert added["over_log_probability"].value == pytest.approx(gap)
    whole = found.with_controls(added)
    assert "missing" not in str(whole.table)
    assert whole.best.controls == added
    assert "missing" in str(found.table)


def test_controls_refuse_another_model(swept, build):
    with pytest.raises(Mismatch):
        controls(swept[1], build(seed=5))


def test_controls_ask_no_more_of_a_sweep_than_its_probe_and_its_test_texts(swept):
    model, found = swept
    bare = SimpleNamespace(best=found.best, test=found.test)
    assert controls(bare, model) == controls(found, model)
