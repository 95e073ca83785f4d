"""The odds of k of n, by hand, against closed forms, exact fractions and simulation."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from monitors.breaker.odds import (
    chance_of_trip_within,
    default_k_of_n,
    expected_streams_between_trips,
    uses_to_trip,
)
from probes.errors import BadInput


def test_two_of_three_within_three_by_hand():
    """Of the eight outcomes of three responses at one half, XX-, -XX, X-X and XXX trip: four of eight."""
    assert chance_of_trip_within(3, 0.5, 2, 3) == pytest.approx(0.5, abs=1e-15)


def brute(streams, rate, k, n):
    """Add up every sequence of outcomes that has k alarms within some n in a row."""
    total = Fraction(0)
    for outcomes in product((0, 1), repeat=streams):
        if any(sum(outcomes[max(0, t - n + 1) : t + 1]) >= k for t in range(streams)):
            total += Fraction(rate) ** sum(outcomes) * (1 - Fraction(rate)) ** (streams - sum(outcomes))
    return float(total)


@pytest.mark.parametrize(("k", "n"), [(1, 1), (1, 4), (2, 2), (2, 5), (3, 4), (4, 4), (3, 10)])
def test_the_chain_equals_counting_every_sequence(k, n):
    assert chance_of_trip_within(11, 0.25, k, n) == pytest.approx(brute(11, Fraction(1, 4), k, n), abs=1e-14)


def test_the_figures_that_the_default_rests_on():
    assert chance_of_trip_within(60, 0.05, 1, 1) == pytest.approx(1 - 0.95**60, abs=1e-12)
    assert chance_of_trip_within(60, 0.05, 1, 1) == pytest.approx(0.954, abs=5e-4)
    assert chance_of_trip_within(60, 0.05, 5, 10) == pytest.approx(0.0014, abs=5e-5)
    assert chance_of_trip_within(60, 0.12, 5, 10) == pytest.approx(0.0658, abs=5e-5)


def test_a_simulation_agrees_with_the_chain():
    rng = np.random.default_rng(0)
    alarms = np.pad(rng.random((40_000, 60)) < 0.12, ((0, 0), (10, 0))).cumsum(axis=1)
    tripped = (alarms[:, 10:] - alarms[:, :-10] >= 5).any(axis=1).mean()
    expected = chance_of_trip_within(60, 0.12, 5, 10)
    assert abs(tripped - expected) < 4 * np.sqrt(expected * (1 - expected) / 40_000)


@pytest.mark.parametrize(("rate", "k"), [(0.05, 1), (0.05, 3), (0.5, 10), (0.001, 3), (0.9, 4)])
def test_k_in_a_row_has_its_closed_form(rate, k):
    """The mean wait for k successes in a row is (1 - p^k) / ((1 - p) p^k), Feller (1968), XIII.7."""
    assert expected_streams_between_trips(rate, k, k) == pytest.approx((1 - rate**k) / ((1 - rate) * rate**k), rel=1e-9)


def exact_mean(p, k, n):
    """Solve the chain of all 2^(n-1) windows in fractions."""
    mask, size = (1 << (n - 1)) - 1, 1 << (n - 1)
    rows = []
    for s in range(size):
        row = [Fraction(0)] * size + [Fraction(1)]
        row[s] += 1
        row[(s << 1) & mask] -= 1 - p
        if s.bit_count() + 1 < k:
            row[((s << 1) | 1) & mask] -= p
        rows.append(row)
    for i in range(size):
        pivot = next(j for j in range(i, size) if rows[j][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for j in range(size):
            if j != i and rows[j][i]:
                rows[j] = [a - rows[j][i] * b for a, b in zip(rows[j], rows[i], strict=True)]
    return float(rows[0][-1])


@pytest.mark.parametrize(("k", "n"), [(2, 3), (2, 5), (3, 5), (4, 5)])
@pytest.mark.parametrize("p", [Fraction(1, 20), Fraction(1, 1000), Fraction(17, 20)])
def test_the_mean_equals_the_one_solved_in_fractions(k, n, p):
    assert expected_streams_between_trips(float(p), k, n) == pytest.approx(exact_mean(p, k, n), rel=1e-10)


def test_a_certain_alarm_trips_at_the_kth():
    assert uses_to_trip(1.0, 5, 10) == pytest.approx(5.0)
    assert uses_to_trip(0.85, 5, 10) == pytest.approx(5 / 0.85, abs=0.01)
    assert chance_of_trip_within(4, 1.0, 5, 10) == 0.0
    assert chance_of_trip_within(5, 1.0, 5, 10) == 1.0
    assert chance_of_trip_within(1000, 0.0, 5, 10) == 0.0


@pytest.mark.parametrize(("rate", "k"), [(0.05, 5), (0.01, 3), (0.001, 2), (0.1, 6)])
def test_the_default_is_the_smallest_k_that_is_unlikely_enough(rate, k):
    assert default_k_of_n(rate) == (k, 10)
    assert chance_of_trip_within(60, rate, k, 10) <= 0.01 < chance_of_trip_within(60, rate, k - 1, 10)


def test_a_rate_without_a_k_is_refused():
    with pytest.raises(BadInput, match="even 10 of 10"):
        default_k_of_n(0.6)


@pytest.mark.parametrize(("rate", "k", "n"), [(0.0, 1, 1), (1.1, 1, 1), (float("nan"), 1, 1), (0.1, 0, 3), (0.1, 4, 3)])
def test_nonsense_is_refused(rate, k, n):
    with pytest.raises(BadInput):
        expected_streams_between_trips(rate, k, n)


def test_more_windows_than_fit_are_refused():
    with pytest.raises(BadInput, match="remember fewer"):
        chance_of_trip_within(60, 0.05, 20, 60)
