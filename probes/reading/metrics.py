"""Estimate: a number that never goes without its interval, and the metrics that return one.

AUROC is P(score of a positive > score of a negative) + P(equal) / 2; its interval counts groups (entities, frames),
since rows of one group are not independent (ranking.py says how). A share has the interval of Clopper and Pearson, a
quantile that of the order statistics, a mean of draws Student's t.

Limits: intervals are two-sided, so each end alone has a higher confidence; none covers a choice made by looking.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import floor, isfinite, sqrt
from typing import Any

import numpy as np
from scipy.stats import beta, binom, rankdata, t

from probes.errors import BadInput
from probes.reading.ranking import half_width, interval, rank

__all__ = ["Estimate", "auroc", "auroc_difference", "auroc_values", "mean", "permutation_p", "proportion", "quantile"]


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; prints as `.93 [.90, .95], n = 180`."""

    value: float
    """The number itself, within its interval."""
    lower: float
    """Lower end of the interval."""
    upper: float
    """Upper end of the interval."""
    n: int
    """How many rows, streams or draws it rests on."""
    confidence: float = 0.95
    """Of the two-sided interval, in (0, 1)."""
    how: str = ""
    """What was measured and how the interval was made."""

    def __post_init__(self) -> None:
        for name in ("value", "lower", "upper", "confidence"):
            object.__setattr__(self, name, float(getattr(self, name)))
        object.__setattr__(self, "n", int(self.n))
        if not all(isfinite(x) for x in (self.value, self.lower, self.upper)):
            raise BadInput(f"an estimate of {self.value} in [{self.lower}, {self.upper}] is not finite; leave it out")
        if not self.lower <= self.value <= self.upper:
            raise BadInput(f"the value {self.value} lies outside its interval [{self.lower}, {self.upper}]")
        if self.n < 0 or not 0 < self.confidence < 1:
            raise BadInput(
                f"n = {self.n}, confidence = {self.confidence}; n is at least 0 and a confidence lies between 0 and 1"
            )

    def __str__(self) -> str:
        return f"{self.interval()}, n = {self.n}"

    def interval(self, digits: int = 2) -> str:
        """Return `.93 [.90, .95]`."""
        return f"{_short(self.value, digits)} [{_short(self.lower, digits)}, {_short(self.upper, digits)}]"

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` reads: numbers and strings, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Estimate":
        """Read what `to_dict` wrote, refusing fields that are unknown, missing or of another type.

        Raises:
            BadInput: naming the field.
        """
        kinds = {"value": float, "lower": float, "upper": float, "n": int, "confidence": float, "how": str}
        if not isinstance(fields, Mapping) or set(fields) != set(kinds):
            raise BadInput(f"an estimate has the fields {', '.join(kinds)}; this one is {fields!r}"[:300])
        for name, kind in kinds.items():
            allowed = (int, float) if kind is float else kind
            if isinstance(fields[name], bool) or not isinstance(fields[name], allowed):
                raise BadInput(f"field {name!r} of an estimate is {fields[name]!r}, not a {kind.__name__}"[:300])
        return cls(**fields)


def _short(number: float, digits: int) -> str:
    text = f"{number:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 and digits else text


def auroc(scores: Any, labels: Any, *, groups: Any = None, confidence: float = 0.95) -> Estimate:
    """Return the area under the ROC curve: how often a positive scores higher than a negative, ties counting one half.

    Args:
        scores: `Float["row"]`, higher = more of the concept; a tensor or anything numpy reads.
        labels: `Bool["row"]`.
        groups: the entity of each row, in a list or an array; None makes each row its own group.
        confidence: of the interval, in (0, 1).

    Returns:
        Estimate in [0, 1]; n counts rows.

    Raises:
        BadInput: one class only, a score that is not finite, or lengths that differ.
    """
    y, codes = _classes(labels, groups)
    ranking = rank(_scores(scores, y), y, codes)
    lower, upper = interval(ranking, _level(confidence))
    how = f"AUROC over {ranking.influence.size} groups; logit interval, variance by group (Obuchowski 1997)"
    return Estimate(ranking.value, lower, upper, y.size, confidence, how)


def auroc_difference(
    scores_a: Any, scores_b: Any, labels: Any, *, groups: Any = None, confidence: float = 0.95
) -> Estimate:
    """Return AUROC of `scores_a` minus AUROC of `scores_b` on the same rows, with a paired interval.

    The variance is that of the difference of the two influences of each group, so what both find hard does not widen
    the interval.

    Args:
        scores_a: `Float["row"]`.
        scores_b: `Float["row"]`, of the same rows.
        labels: `Bool["row"]`.
        groups: the entity of each row, in a list or an array; None makes each row its own group.
        confidence: of the interval, in (0, 1).

    Returns:
        Estimate in [-1, 1]; n counts rows. An interval above 0 says that `scores_a` ranks better.

    Raises:
        BadInput: as `auroc`.

    Source: DeLong et al. (1988), with the groups of Obuchowski (1997).
    """
    y, codes = _classes(labels, groups)
    a, b = (rank(_scores(scores, y), y, codes) for scores in (scores_a, scores_b))
    half = half_width(a.influence - b.influence, a, _level(confidence))
    value = a.value - b.value
    how = f"difference of two AUROC over {a.influence.size} groups; paired interval (DeLong 1988, Obuchowski 1997)"
    return Estimate(value, max(-1.0, value - half), min(1.0, value + half), y.size, confidence, how)


def auroc_values(scores: Any, labels: Any) -> np.ndarray:
    """Return the bare AUROC of each column, for null distributions, whose spread is their interval.

    Args:
        scores: `Float["row draw"]`.
        labels: `Bool["row"]` for all draws, or `Bool["row draw"]`, with both classes in each.
    """
    ranks, y = rankdata(np.asarray(scores), axis=0), np.asarray(labels, dtype=bool)
    y = np.broadcast_to(y[:, None] if y.ndim == 1 else y, ranks.shape)
    positives = y.sum(0)
    return ((ranks * y).sum(0) - positives * (positives + 1) / 2) / (positives * (len(y) - positives))


def proportion(k: int, n: int, *, confidence: float = 0.95, how: str = "") -> Estimate:
    """Return k of n with the exact interval of Clopper and Pearson (1934).

    Args:
        k: successes, 0 to n.
        n: independent trials, at least 1.
        confidence: of the interval, in (0, 1).
        how: what was counted.

    Raises:
        BadInput: no trials, or k outside 0 to n.
    """
    if not 0 <= k <= n or n < 1:
        raise BadInput(f"{k} of {n} is no proportion; give at least one trial, and successes from 0 to their number")
    alpha = _level(confidence)
    lower = beta.ppf(alpha / 2, k, n - k + 1) if k > 0 else 0.0
    upper = beta.ppf(1 - alpha / 2, k + 1, n - k) if k < n else 1.0
    return Estimate(k / n, lower, upper, n, confidence, how or f"{k} of {n}; Clopper-Pearson interval")


def permutation_p(beyond: int, draws: int, *, of: str) -> Estimate:
    """Return p = (1 + beyond) / (1 + draws), with the interval of the share of draws that lie beyond.

    Args:
        beyond: draws at least as extreme as what was observed.
        draws: how many were drawn where nothing is to be found.
        of: what they are, for people to read.

    Raises:
        BadInput: as `proportion`.

    Source: Phipson & Smyth (2010), which never gives 0.
    """
    share, p = proportion(beyond, draws), (1 + beyond) / (1 + draws)
    how = f"(1 + {beyond}) / (1 + {draws} {of}); Clopper-Pearson interval of the share"
    return Estimate(p, share.lower, max(share.upper, p), draws, share.confidence, how)


def quantile(values: Any, q: float, *, confidence: float = 0.95, how: str = "") -> Estimate:
    """Return the q-quantile of independent draws, with the order statistics' interval, good for any distribution.

    Args:
        values: `Float["draw"]`.
        q: in (0, 1); the value is the ceil(q n)-th smallest draw.
        confidence: of the interval; where too few draws lie beyond the quantile the interval ends at the extreme draw.
        how: what was drawn.

    Raises:
        BadInput: no draws, a draw that is not finite, or q outside (0, 1).
    """
    draws = np.sort(_numbers(values, "values"))
    if not 0 < q < 1:
        raise BadInput(f"q = {q}; a quantile lies between 0 and 1")
    n, alpha = draws.size, _level(confidence)
    at = min(n, max(1, floor(n * q + 1 - 1e-9)))  # ceil(n q), forgiving the last bit of n * q
    low = max(1, int(binom.ppf(alpha / 2, n, q)))
    high = min(n, int(binom.ppf(1 - alpha / 2, n, q)) + 1)
    how = how or f"{q:.0%} quantile of {n} draws; order-statistic interval"
    return Estimate(draws[at - 1], draws[min(low, at) - 1], draws[max(high, at) - 1], n, confidence, how)


def mean(values: Any, *, confidence: float = 0.95, how: str = "") -> Estimate:
    """Return the mean of independent draws with Student's t interval.

    Raises:
        BadInput: fewer than two draws, or one that is not finite.
    """
    draws = _numbers(values, "values")
    if draws.size < 2:
        raise BadInput(f"{draws.size} draws have no interval; give at least two")
    half = t.ppf(1 - _level(confidence) / 2, draws.size - 1) * draws.std(ddof=1) / sqrt(draws.size)
    value = float(draws.mean())
    return Estimate(
        value, value - half, value + half, draws.size, confidence, how or f"mean of {draws.size} draws; t interval"
    )


def _level(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise BadInput(f"confidence = {confidence}; it lies between 0 and 1, such as .95")
    return 1 - confidence


def _numbers(values: Any, name: str) -> np.ndarray:
    array = np.asarray(values.detach().cpu().double() if hasattr(values, "detach") else values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise BadInput(f"{name} of shape {array.shape}; give one number a row, at least one")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise BadInput(
            f"{bad.size} of {array.size} {name} are not finite, the first in row {bad[0]}; leave such rows out"
        )
    return array


def _scores(scores: Any, y: np.ndarray) -> np.ndarray:
    array = _numbers(scores, "scores")
    if array.shape != y.shape:
        raise BadInput(f"{array.size} scores for {y.size} labels; give one score a label")
    return array


def _classes(labels: Any, groups: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as booleans, and groups as numbers from 0."""
    raw = _numbers(labels, "labels")
    if not np.isin(raw, (0.0, 1.0)).all():
        raise BadInput("labels hold something other than true and false (or 1 and 0)")
    y = raw == 1.0
    if y.all() or not y.any():
        raise BadInput(f"all {y.size} labels are {bool(y[0])}; AUROC compares two classes, give rows of both")
    if groups is None:
        return y, np.arange(y.size)
    if len(groups) != y.size:
        raise BadInput(f"{len(groups)} groups for {y.size} labels; give one group a row")
    listed = groups.tolist() if hasattr(groups, "tolist") else groups  # elements of a tensor are all different keys
    names: dict[Any, int] = {}
    return y, np.array([names.setdefault(group, len(names)) for group in listed])
