"""Running statistics: four tokens by hand, chunks against the whole, and a slow reference for each."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probes.errors import BadInput, NotFound
from probes.reading.statistics import (
    STATISTICS,
    Statistic,
    centred_cusum,
    cusum,
    max_rolling_mean,
    maximum,
    parse_statistic,
    rolling_mean,
)

EVERY = [
    maximum(), rolling_mean(1), rolling_mean(7), max_rolling_mean(5), cusum(0.3), centred_cusum(0.2, 6),
    centred_cusum(0.2, 6, 1.1),
]  # fmt: skip


def _slow(name: str, scores: list[float]) -> list[float]:
    """Each statistic from its definition, from the start again at every token."""
    kind, *numbers = name.replace(")", "").replace(", ", "(").split("(")
    found = []
    for t in range(1, len(scores) + 1):
        so_far = scores[:t]
        if kind == "max":
            found.append(max(so_far))
        elif kind in ("rolling_mean", "max_rolling_mean"):
            w = int(numbers[0])
            means = [math.fsum(so_far[max(0, i - w) : i]) / min(i, w) for i in range(1, t + 1)]
            found.append(max(means) if kind.startswith("max") else means[-1])
        elif kind == "cusum":  # the largest sum of excesses that ends here, an empty one included
            excess = [s - float(numbers[0]) for s in so_far]
            found.append(max(math.fsum(excess[i:]) for i in range(t + 1)))
        else:
            first = int(numbers[1])
            centre = math.fsum(so_far[:first]) / first
            cap = float(numbers[2]) if len(numbers) > 2 else math.inf
            excess = [min(cap, max(-cap, s - centre)) - float(numbers[0]) for s in so_far[first:]]
            found.append(max(math.fsum(excess[i:]) for i in range(len(excess) + 1)))
    return found


def test_four_tokens_by_hand():
    """Scores 1, 3, -1, 2: the mean of the last two is 1 (of one), 2, 1, .5; with a drift of 1 the cusum is 0, 2, 0, 1.

    Centred on the mean 2 of the first two, with a drift of 0: nothing at those, then max(0, -3) = 0, then 0.
    """
    scores = torch.tensor([1.0, 3.0, -1.0, 2.0])
    assert maximum()(scores).tolist() == [1, 3, 3, 3]
    assert rolling_mean(2)(scores).tolist() == [1, 2, 1, 0.5]
    assert max_rolling_mean(2)(scores).tolist() == [1, 2, 2, 2]
    assert cusum(1.0)(scores).tolist() == [0, 2, 0, 1]
    assert centred_cusum(0.0, 2)(scores).tolist() == [0, 0, 0, 0]
    assert centred_cusum(0.0, 2)(torch.tensor([1.0, 3.0, 5.0, 1.0])).tolist() == [0, 0, 3, 2]
    assert cusum(1.0).largest(scores) == 2
    assert centred_cusum(0.0, 2, 2.0)(torch.tensor([1.0, 3.0, 5.0, -9.0, 9.0, 9.0])).tolist() == [0, 0, 2, 0, 2, 4]


@pytest.mark.parametrize("statistic", EVERY, ids=str)
def test_every_statistic_is_what_its_definition_says(statistic):
    scores = torch.randn(4, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = torch.tensor([_slow(statistic.name, row) for row in scores.tolist()], dtype=torch.float64)
    assert (statistic(scores) - expected).abs().max() < 1e-12
    assert torch.equal(statistic.largest(scores), statistic(scores).amax(-1))


FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True) | st.floats(-10, 10, width=32)


@given(
    rows=st.lists(st.lists(FLOATS, min_size=12, max_size=12), min_size=1, max_size=3),
    cuts=st.lists(st.integers(0, 12), max_size=12),
    which=st.sampled_from(EVERY),
)
def test_a_stream_under_way_and_the_whole_stream_are_equal_to_the_bit(rows, cuts, which):
    scores = torch.tensor(rows, dtype=torch.float32)
    whole = which(scores)
    edges = [0, *sorted(cuts), 12]
    state, pieces = None, []
    for start, end in zip(edges, edges[1:], strict=False):
        values, state = which.update(scores[:, start:end], state)
        pieces.append(values)
    torch.testing.assert_close(torch.cat(pieces, -1), whole, rtol=0, atol=0, equal_nan=True)
    alone = torch.stack([which(row) for row in scores])  # nor does a row depend on those beside it
    torch.testing.assert_close(alone, whole, rtol=0, atol=0, equal_nan=True)


@given(
    scores=st.lists(FLOATS, min_size=1, max_size=30),
    at=st.integers(0, 29),
    bad=st.sampled_from([math.nan, math.inf, -math.inf]),
    which=st.sampled_from(EVERY),
)
def test_what_is_not_finite_is_never_forgotten(scores, at, bad, which):
    at = min(at, len(scores) - 1)
    stream = torch.tensor(scores, dtype=torch.float64).nan_to_num(0, 0, 0)
    assert torch.isfinite(which(stream)).all()  # the sanity half
    stream[at] = bad
    values = which(stream)
    assert torch.isfinite(values[:at]).all()
    assert values[at:].isnan().all()
    assert which.largest(stream).isnan()


def test_one_lost_row_loses_no_other():
    scores = torch.zeros(2, 5)
    scores[0, 1] = math.nan
    for statistic in EVERY:
        assert statistic(scores).isnan().tolist() == [[False, True, True, True, True], [False] * 5]


def test_sums_too_large_for_the_dtype_are_lost_not_forgotten():
    scores = torch.tensor([-3e38, -3e38, 0.0, 0.0, 0.0])
    assert rolling_mean(2)(scores).isnan().tolist() == [False, True, True, True, True]


@pytest.mark.parametrize("statistic", EVERY, ids=str)
def test_the_state_is_a_value_and_no_tokens_change_nothing(statistic):
    scores = torch.randn(3, 20, generator=torch.Generator().manual_seed(0))
    _, state = statistic.update(scores[:, :10])
    kept = [part.clone() if isinstance(part, torch.Tensor) else part for part in state]
    once, _ = statistic.update(scores[:, 10:], state)
    again, _ = statistic.update(scores[:, 10:], state)
    assert torch.equal(once, again)
    for before, now in zip(kept, state, strict=True):
        assert torch.equal(before, now) if isinstance(now, torch.Tensor) else before == now
    nothing, same = statistic.update(scores[:, :0], state)
    assert nothing.shape == (3, 0)
    assert torch.equal(statistic.update(scores[:, 10:], same)[0], once)
    assert statistic.largest(scores[:, :0]).isnan().all()


@pytest.mark.parametrize("statistic", EVERY, ids=str)
def test_a_name_is_enough_to_make_the_statistic_again(statistic):
    again = parse_statistic(str(statistic))
    assert isinstance(again, Statistic)
    assert again == statistic
    scores = torch.randn(20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(scores), statistic(scores))
    assert len({str(s) for s in EVERY}) == len(EVERY) >= len(STATISTICS)


def test_a_shift_halfway_is_seen_by_a_cusum_long_before_the_maximum_moves():
    """One sigma from token 200 on, 200 streams: the threshold is the largest of 200 quiet streams'."""
    generator = torch.Generator().manual_seed(0)
    quiet, moved = torch.randn(2, 200, 400, generator=generator)
    moved[:, 200:] += 1
    caught = {
        s.name: (s.largest(moved) > s.largest(quiet).max()).float().mean().item() for s in (maximum(), cusum(0.5))
    }
    assert caught["max"] < 0.2 < 0.95 < caught["cusum(0.5)"]


def test_what_cannot_be_a_statistic_is_refused():
    for window in (0, -1, 2.0, True, "3"):
        with pytest.raises(BadInput, match="whole number of tokens"):
            rolling_mean(window)
    for drift in (math.nan, math.inf, "a", True):
        with pytest.raises(BadInput, match="finite number"):
            cusum(drift)
    with pytest.raises(NotFound, match="did you mean 'cusum'"):
        parse_statistic("cusun(0.5)")
    for cap in (0, -1.0, math.nan):
        with pytest.raises(BadInput, match="a cap"):
            centred_cusum(0.2, 6, cap)
    for name in ("cusum", "cusum(a)", "max(3)", "rolling_mean(2.5)", "rolling_mean(0)"):
        with pytest.raises(BadInput):
            parse_statistic(name)
    with pytest.raises(NotFound):
        parse_statistic("max; drop")
    with pytest.raises(BadInput, match="floating numbers"):
        maximum()(torch.tensor([1, 2]))
    with pytest.raises(BadInput, match="floating numbers"):
        maximum()(torch.tensor(1.0))
    _, state = maximum().update(torch.zeros(2, 3))
    with pytest.raises(BadInput, match="keep the rows"):
        maximum().update(torch.zeros(3, 3), state)
