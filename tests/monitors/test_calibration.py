"""Calibrating: by hand, and the promises by simulation."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm

from monitors.calibration import calibrate, calibrate_streams
from monitors.threshold import needed, order_statistic
from probes.errors import BadInput, TooFew
from probes.reading.statistics import cusum
from probes.reading.streams import Stream

REST = {"horizon": 64, "made": "2026-01-31"}


def numbered(values):
    return {f"g{i}": float(value) for i, value in enumerate(values)}


def test_nineteen_maxima_by_hand():
    """n = 19 at 5 %: k = floor(.05 * 20) = 1, the threshold is the largest; the largest itself does not alarm."""
    threshold = calibrate({"ordinary": numbered(range(19))}, promise="marginal", **REST)
    assert threshold.value == 18.0
    assert not threshold.certified
    assert threshold.confidence is None
    with pytest.raises(TooFew, match="has 18 groups.*needs 19") as error:
        calibrate({"ordinary": numbered(range(18))}, promise="marginal", **REST)
    assert error.value.needed == 19


def test_the_threshold_is_the_largest_of_the_kinds():
    maxima = {"same_relation": numbered(range(60)), "same_subject": numbered(range(100, 200)), "ordinary": [("a", 0.5)]}
    with pytest.raises(TooFew, match="kind 'ordinary' has 1 groups"):
        calibrate(maxima, **REST)
    maxima["ordinary"] = [(f"o{i}", 0.5) for i in range(59)]
    threshold = calibrate(maxima, **REST)
    assert threshold.per_kind == {"max": {"same_relation": 59.0, "same_subject": 198.0, "ordinary": 0.5}}
    assert threshold.groups == {"same_relation": 60, "same_subject": 100, "ordinary": 59}
    assert threshold.value == 198.0
    assert "certified with 0.95 confidence" in threshold.sentence


def test_each_kind_holds_where_the_pool_would_not():
    """One kind alarms far more readily: a threshold of the pool lets it break its rate, that of the kinds does not."""
    rng = np.random.default_rng(0)
    easy, hard = rng.normal(0, 1, 400), rng.normal(1, 1, 100)
    fresh = rng.normal(1, 1, 20_000)
    kinds = calibrate({"easy": numbered(easy), "hard": numbered(hard)}, **REST).value
    pool = calibrate({"pool": numbered(np.concatenate([easy, hard]))}, **REST).value
    assert (fresh > kinds).mean() <= 0.05
    assert (fresh > pool).mean() > 0.05


def test_whichever_of_twelve_looks_best_keeps_its_promise():
    """100 times the lowest limit of twelve is taken, the one that would catch most; 5 % may break theirs (binomial)."""
    rng, repeats = np.random.default_rng(0), 100
    broken = {1: 0, 12: 0}
    for _ in range(repeats):
        drawn = rng.normal(0, 1, (12, 200))
        for among in broken:
            limits = [calibrate({"o": numbered(values)}, among=among, **REST).value for values in drawn]
            broken[among] += norm.sf(min(limits)) > 0.05
    assert binom.sf(broken[12] - 1, repeats, 0.05) > 0.01
    assert broken[1] > 0.15 * repeats, "where the choice is not paid for"


def test_a_choice_is_paid_for_in_groups_and_no_marginal_promise_survives_it():
    assert [needed(0.05, among=m) for m in (1, 2, 30)] == [59, 72, 125]
    with pytest.raises(TooFew, match=r"chosen among 30, needs 125"):
        calibrate({"o": numbered(range(124))}, among=30, **REST)
    threshold = calibrate({"o": numbered(range(125))}, among=30, **REST)
    assert (threshold.value, threshold.among) == (124.0, 30)
    assert "chosen among 30" in threshold.sentence
    with pytest.raises(BadInput, match="choose with 'confident'"):
        calibrate({"o": numbered(range(125))}, among=2, promise="marginal", **REST)
    for wrong in (0, True, 1.5):
        with pytest.raises(BadInput, match="number of monitors to choose among"):
            calibrate({"o": numbered(range(125))}, among=wrong, **REST)


@pytest.mark.parametrize("n", [19, 39, 99, 118])
def test_the_marginal_rate_holds_on_average_and_not_each_time(n):
    rng = np.random.default_rng(n)
    rates = np.array(
        [1 - calibrate({"u": numbered(rng.random(n))}, promise="marginal", **REST).value for _ in range(600)]
    )
    k = math.floor(0.05 * (n + 1))
    assert abs(rates.mean() - k / (n + 1)) < 3 * rates.std() / math.sqrt(len(rates))
    assert (rates > 0.05).mean() > 0.2, "were each calibration inside, the two promises would be one"


@pytest.mark.parametrize("n", [59, 93, 200])
def test_the_confident_rate_holds_nearly_each_time_and_two_ranks_lower_it_does_not(n):
    rng = np.random.default_rng(n)
    maxima = rng.random((600, n))
    rates = np.array([1 - calibrate({"u": numbered(row)}, **REST).value for row in maxima])
    broken = int((rates > 0.05).sum())
    assert binom.sf(broken - 1, 600, 0.05) > 1e-4
    k = order_statistic(n, rate=0.05)
    lower = 1 - np.sort(maxima, axis=1)[:, n - 2 - k]
    assert (lower > 0.05).mean() > 0.09


@pytest.mark.parametrize(("promise", "least"), [("marginal", 39), ("confident", 146)])
def test_two_statistics_share_the_rate_and_take_more_groups(promise, least):
    assert needed(0.05, promise, statistics=2) == least
    streams = [Stream(("a",), torch.tensor([float(i)]), group=f"g{i}", kind="u") for i in range(least)]
    two = calibrate_streams(streams, ["max", "cusum(0.5)"], promise=promise, **REST)
    assert two.limits == {"max": least - 1, "cusum(0.5)": least - 1.5}
    with pytest.raises(TooFew, match=f"5 % .*of 2 statistics needs {least}"):
        calibrate_streams(streams[1:], ["max", "cusum(0.5)"], promise=promise, **REST)


def test_streams_are_calibrated_on_what_the_statistic_came_to_within_the_horizon_once_a_group():
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.normal(size=(118, 80)).astype(np.float32))
    streams = [Stream(("a",) * 80, row, group=f"g{i // 2}", kind="u") for i, row in enumerate(scores)]
    threshold = calibrate_streams(streams, "cusum(0.25)", **REST)
    assert threshold.groups == {"u": 59}
    pairs = cusum(0.25).largest(scores[:, :64]).reshape(59, 2)
    assert threshold.value in pairs
    assert pairs.min(1).values.max() <= threshold.value <= pairs.max(), "one of each group, whichever"
    others = {calibrate_streams(streams, "cusum(0.25)", seed=seed, **REST).value for seed in range(8)}
    assert len(others) > 1, "the draw hangs on the seed"
    alone = [replace(stream, group="") for stream in streams]
    assert calibrate_streams(alone, "cusum(0.25)", **REST).groups == {"u": 118}, "without groups each is its own"


def test_two_statistics_hold_the_rate_together():
    """39 benign groups carry 2.5 % on average for each of two."""
    rng = np.random.default_rng(1)
    rates = []
    for _ in range(60):
        quiet, fresh = (torch.from_numpy(rng.normal(size=(n, 40)).astype(np.float32)) for n in (39, 2000))
        streams = [Stream(("a",) * 40, row, kind="u") for row in quiet]
        both = calibrate_streams(streams, ["max", "cusum(0.5)"], promise="marginal", **REST)
        crossed = [one.largest(fresh) > both.limits[one.name] for one in both.statistics]
        rates.append(float((crossed[0] | crossed[1]).float().mean()))
    assert np.mean(rates) < 0.05 + 3 * np.std(rates) / math.sqrt(len(rates))
    assert np.mean(rates) > 0.02, "and they are used up, not thrown away"


def test_streams_of_several_lengths_count_up_to_their_own_end():
    """Scores of -5: whatever padding holds would be larger."""
    lengths = [1, 7, 3] * 20
    streams = [Stream(("a",) * n, torch.full((n,), -5.0), kind="u") for n in lengths]
    for name, limit in {"max": -5.0, "rolling_mean(2)": -5.0, "cusum(-6.0)": 7.0}.items():
        assert calibrate_streams(streams, name, **REST).limits == {name: limit}
    with pytest.raises(BadInput, match="of kind 'u' is nan"):
        calibrate_streams([*streams, Stream((), torch.zeros(0), kind="u")], **REST)
    with pytest.raises(BadInput, match="of kind 'u' is nan"):
        calibrate_streams([*streams, Stream(("a",), torch.tensor([math.nan]), kind="u")], **REST)


@pytest.mark.parametrize("statistics", [[], ["max", "max"], ["cusum(.5)", "cusum(0.50)"]])
def test_no_statistic_or_one_twice_is_refused(statistics):
    with pytest.raises(BadInput, match="give one at least, and each once"):
        calibrate_streams([], statistics, **REST)


def test_ties_make_the_threshold_safer_never_looser():
    threshold = calibrate({"tied": numbered([1.0] * 60)}, **REST)
    assert threshold.value == 1.0
    assert sum(x > threshold.value for x in [1.0] * 60) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_maximum_that_is_not_finite_is_named(bad):
    maxima = numbered(range(60)) | {"frame 7": bad}
    with pytest.raises(BadInput, match=r"'frame 7' of kind 'ordinary' is -?(nan|inf)"):
        calibrate({"ordinary": maxima}, **REST)


def test_a_group_counts_once_within_a_kind_and_may_come_in_each():
    pairs = [(i, float(i)) for i in range(59)]
    assert calibrate({"a": pairs, "b": pairs}, **REST).groups == {"a": 59, "b": 59}
    with pytest.raises(BadInput, match="group 58 of kind 'a' comes twice"):
        calibrate({"a": [*pairs, (58, 1.0)]}, **REST)


def test_nothing_to_calibrate_on_is_refused():
    with pytest.raises(BadInput, match="no benign responses"):
        calibrate({}, **REST)
    with pytest.raises(TooFew, match="has 0 groups"):
        calibrate({"ordinary": {}}, **REST)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, math.nan, 5, True, "5 %"])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(BadInput, match=r"5 % is \.05"):
        calibrate({"ordinary": numbered(range(60))}, rate=rate, **REST)
