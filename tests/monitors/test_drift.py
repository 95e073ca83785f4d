"""A certificate is revoked where streams drift, and with the probability stated at most where they do not."""

import math
import random

import numpy as np
import pytest
from scipy.stats import binom

from monitors.drift import LATE, watch_drift
from probes.errors import BadInput


def run(values, calibrated, **options):
    state = watch_drift(values[:calibrated], **options)
    for value in values[calibrated:]:
        state = state.after(float(value))
    return state


def test_one_stream_by_hand():
    """One of three values lies above 2.5, so p = (1 + U) / 4; the bets pay 1, p^-.5 / 2 and p^-.75 / 4."""
    state = watch_drift([3.0, 1.0, 2.0], seed=5)
    assert (state.wealth, state.streams, state.revoked) == (pytest.approx(1.0), 0, False)
    p = (1 + 1 - random.Random("5|1").random()) / 4
    after = state.after(2.5)
    assert after.wealth == pytest.approx((1 + 0.5 * p**-0.5 + 0.25 * p**-0.75) / 3)
    assert (after.seen, after.streams) == ((1.0, 2.0, 2.5, 3.0), 1)
    q = (2 + 2 * (1 - random.Random("5|2").random())) / 5  # of four values one equals 2, two are above
    jump = 1 / (2 + LATE)
    dealt = [(1 - jump) * own + jump * after.wealth / 3 for own in after.capital]
    once_more = sum(own * k * q ** (k - 1) for own, k in zip(dealt, (1, 0.5, 0.25), strict=True))
    assert after.after(2.0).wealth == pytest.approx(once_more)
    assert state.wealth == pytest.approx(1.0), "the state before is as it was"


@pytest.mark.parametrize("calibrated", [1, 20])
def test_exchangeable_streams_revoke_no_more_often_than_promised(calibrated):
    """At 5 %, 300 runs of 400 streams; ties, too. With the calibration values alone it would be a third of the runs."""
    rng = np.random.default_rng(calibrated)
    runs = [np.round(rng.normal(size=calibrated + 400), 1) for _ in range(300)]
    revoked = sum(run(values, calibrated, error=0.05, seed=i).revoked for i, values in enumerate(runs))
    assert binom.sf(revoked - 1, 300, 0.05) > 0.001


@pytest.mark.parametrize("quiet", [0, 600])
def test_a_drift_is_found_soon_after_many_quiet_streams_too(quiet):
    rng = np.random.default_rng(quiet)
    found = []
    for seed in range(20):
        values = np.concatenate([rng.normal(size=100 + quiet), rng.normal(size=100) + 2])
        state = run(values, 100, seed=seed)
        assert state.revoked
        assert state.revoked_at > quiet
        found.append(state.revoked_at - quiet)
    assert np.median(found) <= 12


def test_lower_scores_break_no_promise_and_revoke_nothing():
    rng = np.random.default_rng(0)
    assert not run(np.concatenate([rng.normal(size=100), rng.normal(size=200) - 2]), 100).revoked


def test_what_is_revoked_stays_so_and_says_when():
    state = run([*range(100), *range(100, 120)], 100)
    assert state.revoked
    assert state.after(-5.0) is state
    assert f"revoked at stream {state.revoked_at}" in repr(state)
    assert "1 streams since the calibration, wealth" in repr(watch_drift([1.0]).after(0.0))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_cannot_be_compared_is_refused(bad):
    state = watch_drift([1.0, 2.0])
    with pytest.raises(BadInput, match="only finite values"):
        state.after(bad)
    with pytest.raises(BadInput, match="give finite ones"):
        watch_drift([1.0, bad])
    with pytest.raises(BadInput, match="give finite ones"):
        watch_drift([])
    with pytest.raises(BadInput, match="not between 0 and 1"):
        watch_drift([1.0], error=1.0)


def test_however_late_a_drift_comes_capital_is_left_to_find_it():
    """After 30,000 quiet streams a shift of two standard deviations is found soon."""
    rng = np.random.default_rng(3)
    state = watch_drift(rng.normal(size=100)).after(*rng.normal(size=30_000))
    assert not state.revoked
    assert state.wealth > 1e-6
    late = state.after(*(rng.normal(size=60) + 2))
    assert late.revoked
