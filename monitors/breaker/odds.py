"""Odds: how soon "k of the last n responses alarm" happens, by chance and on purpose.

Responses alarm independently with one probability. What the breaker remembers is the last n - 1 outcomes, so the
windows with fewer than k alarms are the transient states of a finite Markov chain and a trip is its absorbing state:

1. `chance_of_trip_within` pushes the distribution over windows forward, one response at a time.
2. `expected_streams_between_trips` uses that the chain starts afresh whenever the window is empty again: with a =
   expected length of an excursion that starts at one alarm and q = the chance that it ends in a trip, the mean is
   (1 / rate + a) / q. Both come from one sparse system that stays well conditioned when trips are rare.

At a certified 5 % a single alarm trips within 60 benign responses with probability .954, 5 of 10 with .0014 (.066 if
the rate were 12 % after all).

Source: runs and scans by a finite Markov chain, Fu and Koutras (1994), "Distribution theory of runs: a Markov chain
approach". Limits: alarms of one author or template come in clusters, so real trips come sooner than these figures;
memory grows as the number of windows with fewer than k alarms.
"""

import math

import numpy as np
from scipy.sparse import coo_matrix, identity
from scipy.sparse.linalg import spsolve

from probes.errors import BadInput

__all__ = ["chance_of_trip_within", "default_k_of_n", "expected_streams_between_trips", "uses_to_trip"]

MOST_WINDOWS = 100_000
TRIP = -1


def expected_streams_between_trips(rate: float, k: int, n: int) -> float:
    """Return the mean number of responses until k of the last n alarm, from an empty window.

    Args:
        rate: chance that a response alarms, in (0, 1].
        k: alarms that trip, in [1, n].
        n: responses that are remembered.
    """
    _check(rate, k, n)
    if k == 1:
        return 1 / rate
    clear, alarm = _windows(k, n)
    size = len(clear)
    # Excursions: the windows other than the empty one (state 0); they begin at "one alarm" and end empty or in a trip.
    leave = np.concatenate([np.stack([np.arange(size), to], 1) for to in (clear, alarm)])
    weight = np.repeat([1 - rate, rate], size)
    inside = (leave[:, 0] > 0) & (leave[:, 1] > 0)
    within = coo_matrix((weight[inside], (leave[inside, 0] - 1, leave[inside, 1] - 1)), shape=(size - 1, size - 1))
    trips = np.where(alarm[1:] == TRIP, rate, 0.0)
    system = (identity(size - 1) - within).tocsc()
    wanted = np.stack([np.ones(size - 1), trips], 1)
    solved = spsolve(system, wanted).reshape(size - 1, 2)
    residual = np.abs(system @ solved - wanted).max()
    assert residual < 1e-9 * max(1.0, float(np.abs(solved).max())), f"the linear solver was off by {residual}"
    length, chance = solved[alarm[0] - 1]
    return float((1 / rate + length) / chance)


def chance_of_trip_within(streams: int, rate: float, k: int, n: int) -> float:
    """Return the chance that k of the last n alarm at least once within so many responses, from an empty window.

    Args:
        streams: responses, at least 0.
        rate: chance that a response alarms, in [0, 1].
        k: alarms that trip, in [1, n].
        n: responses that are remembered.
    """
    _check(rate, k, n, least=0.0)
    if streams < 0:
        raise BadInput(f"within {streams} responses; the number is at least 0")
    clear, alarm = _windows(k, n)
    stays = alarm != TRIP
    mass = np.zeros(len(clear))
    mass[0], tripped = 1.0, 0.0
    for _ in range(streams):
        tripped += rate * mass[~stays].sum()
        alarmed = np.bincount(alarm[stays], rate * mass[stays], len(clear))
        mass = np.bincount(clear, (1 - rate) * mass, len(clear)) + alarmed
    return float(tripped)


def uses_to_trip(recall: float, k: int, n: int) -> float:
    """Return the mean number of true uses in a row until the breaker trips.

    Args:
        recall: chance that a true use alarms, in (0, 1].
        k: alarms that trip, in [1, n].
        n: responses that are remembered.
    """
    return expected_streams_between_trips(recall, k, n)


def default_k_of_n(rate: float, *, n: int = 10, streams: int = 60, chance: float = 0.01) -> tuple[int, int]:
    """Return the smallest k, with n, for which a false trip within `streams` benign responses is unlikely enough.

    At 5 % it is 5 of 10 (.0014; 4 of 10 would be .018), at 1 % 3 of 10, at .1 % 2 of 10 (one alarm alone would be
    .058). The smallest such k, because every further alarm that is asked for is a true use that gets through first.

    Args:
        rate: certified false alarms per benign response, in (0, 1).
        n: responses that are remembered.
        streams: benign responses over which a false trip must be unlikely.
        chance: how unlikely, in (0, 1).

    Raises:
        BadInput: no k up to n is unlikely enough.
    """
    for k in range(1, n + 1):
        if chance_of_trip_within(streams, rate, k, n) <= chance:
            return k, n
    raise BadInput(f"at {100 * rate:.4g} % even {n} of {n} trips by chance too often; certify a lower rate or raise n")


def _windows(k: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each window of the last n - 1 outcomes with fewer than k alarms, the window after a clear and after
    an alarm (or TRIP).

    A window is a whole number with one bit a response, the latest lowest; state 0 is the empty one.
    """
    mask = (1 << (n - 1)) - 1
    index, order = {0: 0}, [0]
    clear, alarm = [], []
    for window in order:  # grows while it is walked
        after_clear, after_alarm = (window << 1) & mask, ((window << 1) | 1) & mask
        trips = window.bit_count() + 1 >= k
        for after in [after_clear] if trips else [after_clear, after_alarm]:
            if after not in index:
                index[after] = len(order)
                order.append(after)
        clear.append(index[after_clear])
        alarm.append(TRIP if trips else index[after_alarm])
    return np.array(clear), np.array(alarm)


def _check(rate: float, k: int, n: int, least: float = 5e-324) -> None:
    if not least <= rate <= 1:
        raise BadInput(f"a rate of {rate!r} is no chance; give a number above 0 and at most 1")
    if any(isinstance(x, bool) or not isinstance(x, int) for x in (k, n)) or not 1 <= k <= n:
        raise BadInput(f"{k!r} of {n!r}: both are whole numbers, and k lies between 1 and n")
    windows = sum(math.comb(n - 1, i) for i in range(k))
    if windows > MOST_WINDOWS:
        raise BadInput(f"{k} of {n} has {windows} windows, more than {MOST_WINDOWS}; remember fewer responses")
