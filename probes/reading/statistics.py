"""Running statistics: what of a stream of scores is compared with a threshold, at every token.

With scores s_1, s_2, ... a statistic has a value at every token t that depends on s_1 .. s_t alone:

1. max: the largest score so far.
2. rolling_mean(w): the mean of the last w scores; of all there are while there are fewer.
3. max_rolling_mean(w): the largest rolling mean so far.
4. cusum(drift): S_t = max(0, S_{t-1} + s_t - drift), S_0 = 0: small excesses over the drift add up.
5. centred_cusum(drift, first, cap): the same of scores less the mean of the stream's own first scores, 0 while those
   come in; blind to what was there from the first token on, so run it beside another. With a cap, a score counts for
   no more than that far from the mean (it is winsorised): single outliers of heavy-tailed noise then add up to little.

Each is written once, as a step from a state over a chunk of tokens to the next state. A whole stream is one chunk, a
stream under way is chunks of one; numbers are added oldest first in both, one operation a token, so that the results
are equal to the bit, whatever the chunks and whatever other rows are in the batch.

A score that is not finite makes its row NaN from there on and for ever: a monitor that could not see once must not
recover its sight by forgetting.

Sources: Page, Biometrika 41 (1954) 100 (CUSUM). The state is a value passed along, held by nobody.
Limits: values have the precision of the scores; a cusum walks over tokens one by one (rows in parallel).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite, nan
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probes.errors import BadInput, NotFound, nearest

__all__ = [
    "STATISTICS",
    "State",
    "Statistic",
    "centred_cusum",
    "cusum",
    "max_rolling_mean",
    "maximum",
    "parse_statistic",
    "rolling_mean",
]

State = tuple[Any, ...]
"""What a statistic keeps between chunks: whether the row is lost, then tensors and counts of its own. Never changed."""


@dataclass(frozen=True)
class Statistic:
    """One running statistic; `statistic(scores)` gives its value at every token. Equal where the names are."""

    name: str
    """What `parse_statistic` reads, such as "max" or "rolling_mean(20)"."""
    start: Callable[[Tensor], State] = field(compare=False, repr=False)
    """From the first chunk (for its rows and dtype) to the state before it."""
    step: Callable[[State, Tensor], tuple[Tensor, State]] = field(compare=False, repr=False)
    """From a state and a chunk of finite scores to the values and the next state."""

    def __str__(self) -> str:
        return self.name

    def __call__(self, scores: Float[Tensor, "*rows token"]) -> Float[Tensor, "*rows token"]:
        """Return the value at every token of whole streams; streams of several lengths are padded on the right."""
        return self.update(scores)[0]

    def update(
        self, scores: Float[Tensor, "*rows token"], state: State | None = None
    ) -> tuple[Float[Tensor, "*rows token"], State]:
        """Take further tokens into account.

        Args:
            scores: the next scores of each row, any number of tokens.
            state: what the last update returned; None at the start of the streams.

        Returns:
            The values at these tokens, and the state after them.

        Raises:
            BadInput: scores that are no floating numbers, or a state of other rows.
        """
        scores = torch.as_tensor(scores)
        if scores.ndim == 0 or not scores.is_floating_point():
            raise BadInput(
                f"scores of shape {tuple(scores.shape)}, {scores.dtype}; give floating numbers, rows x token"
            )
        if state is None:
            state = torch.zeros(scores.shape[:-1], dtype=torch.bool, device=scores.device), *self.start(scores)
        lost, *inner = state
        if lost.shape != scores.shape[:-1]:
            raise BadInput(f"scores of shape {tuple(scores.shape)} after rows {tuple(lost.shape)}; keep the rows as is")
        seen = torch.isfinite(scores)
        values, inner = self.step(tuple(inner), scores.where(seen, 0))
        bad = ~(seen & torch.isfinite(values))
        ever = torch.cat([lost.unsqueeze(-1), bad], -1).cumsum(-1) > 0
        return values.masked_fill(ever[..., 1:], nan), (ever[..., -1], *inner)

    def largest(
        self, scores: Float[Tensor, "*rows token"], lengths: Int[Tensor, "*rows"] | None = None
    ) -> Float[Tensor, "*rows"]:
        """Return the largest value over whole streams: what is calibrated; NaN where no token was scored.

        Args:
            scores: of each row, padded on the right where lengths differ.
            lengths: tokens of each row; all if None.
        """
        values = self(scores)
        if lengths is not None:
            values = values.masked_fill(
                torch.arange(values.shape[-1], device=values.device) >= lengths.unsqueeze(-1), -torch.inf
            )
        if not values.shape[-1]:
            return values.new_full(values.shape[:-1], nan)
        highest = values.amax(-1)
        return highest if lengths is None else highest.masked_fill(lengths == 0, nan)


def maximum() -> Statistic:
    """The largest score so far."""
    return Statistic("max", lambda scores: (scores.new_full(scores.shape[:-1], -torch.inf),), _highest)


def rolling_mean(window: int) -> Statistic:
    """The mean of the last `window` scores, or of all there are while there are fewer."""
    _check_count(window, "a window")

    def step(state: State, scores: Tensor) -> tuple[Tensor, State]:
        (recent,) = state
        known, tokens = recent.shape[-1], scores.shape[-1]
        joined = torch.cat([recent, scores], -1)
        padded = torch.nn.functional.pad(joined, (window - 1 - known, 0))
        total = torch.zeros_like(scores)
        for back in range(window):  # whole columns, oldest first: the order of adding is the same in any chunk
            total = total + padded[..., back : back + tokens]
        counts = torch.arange(known + 1, known + tokens + 1, device=scores.device).clamp_max(window)
        return total / counts, (joined[..., max(0, known + tokens - (window - 1)) :],)

    return Statistic(f"rolling_mean({window})", lambda scores: (scores[..., :0],), step)


def max_rolling_mean(window: int) -> Statistic:
    """The largest rolling mean so far."""
    mean, highest = rolling_mean(window), maximum()

    def step(state: State, scores: Tensor) -> tuple[Tensor, State]:
        means, recent = mean.step(state[:1], scores)
        values, high = highest.step(state[1:], means)
        return values, (*recent, *high)

    return Statistic(f"max_rolling_mean({window})", lambda scores: (*mean.start(scores), *highest.start(scores)), step)


def cusum(drift: float) -> Statistic:
    """max(0, the last value + score - drift), from 0 on; the drift lies between benign and alarming means."""
    _check_number(drift, "a drift")

    def step(state: State, scores: Tensor) -> tuple[Tensor, State]:
        (level,) = state
        values = []
        for score in scores.unbind(-1):
            level = (level + (score - drift)).clamp_min(0)
            values.append(level)
        return _stack(values, scores), (level,)

    return Statistic(f"cusum({float(drift)!r})", lambda scores: (scores.new_zeros(scores.shape[:-1]),), step)


def centred_cusum(drift: float, first: int = 50, cap: float | None = None) -> Statistic:
    """CUSUM of scores less the mean of the stream's own `first` scores; 0 at those.

    Args:
        drift: in units of the score; half the shift that is looked for.
        first: tokens whose mean is the centre.
        cap: how far from the centre a score counts, at most, in units of the score (2.5 standard deviations of benign
            scores, say); None: as far as it lies.
    """
    _check_number(drift, "a drift")
    _check_count(first, "the number of first tokens")
    if cap is not None:
        _check_number(cap, "a cap")
        if cap <= 0:
            raise BadInput(f"a cap is {cap!r}; it is above 0")

    def step(state: State, scores: Tensor) -> tuple[Tensor, State]:
        level, total, known = state
        values = []
        for score in scores.unbind(-1):
            if known < first:
                total, known = total + score, known + 1
            else:
                excess = score - total / first
                if cap is not None:
                    excess = excess.clamp(-cap, cap)
                level = (level + (excess - drift)).clamp_min(0)
            values.append(level)
        return _stack(values, scores), (level, total, known)

    def start(scores: Tensor) -> State:
        zero = scores.new_zeros(scores.shape[:-1])
        return zero, zero, 0

    capped = "" if cap is None else f", {float(cap)!r}"
    return Statistic(f"centred_cusum({float(drift)!r}, {first}{capped})", start, step)


STATISTICS: Mapping[str, Callable[..., Statistic]] = MappingProxyType(
    {
        "max": maximum,
        "rolling_mean": rolling_mean,
        "max_rolling_mean": max_rolling_mean,
        "cusum": cusum,
        "centred_cusum": centred_cusum,
    }
)
"""Every statistic by name."""


def parse_statistic(name: str) -> Statistic:
    """Return the statistic of a name, such as "max", "max_rolling_mean(20)" or "cusum(0.5)".

    Raises:
        NotFound: no such statistic. BadInput: not its numbers.
    """
    found = re.fullmatch(r"\s*([a-z_]+)\s*(?:\(([^()]{0,100})\))?\s*", name)
    if not found or found[1] not in STATISTICS:
        raise NotFound(f"{name!r} is no statistic; {nearest(found[1] if found else name, STATISTICS)}")
    try:
        numbers = [
            int(n) if re.fullmatch(r"\s*\d+\s*", n) else float(n) for n in (found[2] or "").split(",") if n.strip()
        ]
        return STATISTICS[found[1]](*numbers)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name!r} cannot be read ({error}); write it as 'rolling_mean(20)' or 'cusum(0.5)'") from error


def _highest(state: State, scores: Tensor) -> tuple[Tensor, State]:
    (high,) = state
    values = torch.cat([high.unsqueeze(-1), scores], -1).cummax(-1).values
    return values[..., 1:], (values[..., -1],)


def _stack(values: list[Tensor], scores: Tensor) -> Tensor:
    return torch.stack(values, -1) if values else torch.zeros_like(scores)


def _check_count(value: Any, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadInput(f"{what} is {value!r}; it is a whole number of tokens, at least 1")


def _check_number(value: Any, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise BadInput(f"{what} is {value!r}; it is a finite number, in units of the score")
