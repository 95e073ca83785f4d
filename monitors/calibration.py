"""Calibration: from what statistics of benign responses came to, to a threshold with a promise.

The unit is the response, never the token, and the quantity is the largest value that a running statistic
(probes/reading/statistics.py) takes up to a horizon: stopping at the first crossing and looking at the whole response
afterwards give the same alarms. With n benign groups of one kind, one response a group, and these maxima sorted from
the largest down:

1. `marginal`: k = floor(rate * (n + 1)), alarm strictly above the k-th largest. A new exchangeable response then
   alarms with probability at most k / (n + 1) <= rate *on average over calibrations*; any single calibration may
   exceed it. This is split conformal prediction: Papadopoulos, Proedrou, Vovk and Gammerman (2002), "Inductive
   confidence machines for regression"; Vovk, Gammerman and Shafer (2005), "Algorithmic learning in a random world".
2. `confident`: the largest j with P(Binomial(n, rate) <= j) <= 1 - confidence, alarm strictly above the (j + 1)-th
   largest. The rate of *this* threshold is then at most `rate` with probability `confidence` over calibrations: a
   tolerance bound from an order statistic, free of any distribution. Wilks (1941), "Determination of sample sizes for
   setting tolerance limits".
3. Several kinds: the largest of the per-kind thresholds, so that the promise holds for each kind and not only for
   their mixture (for each by itself: not for all at once at the same confidence).
4. Several statistics, each with a limit of its own: each gets an equal part of the rate and, of "confident", of the
   chance to miss. What alarms where any of them crosses then keeps the whole (a union bound: it is safe, and no more
   than safe where they alarm on the same responses). With two, 5 % takes 39 groups marginal, 146 confident at 95 %.

Ties only make a threshold safer: an alarm is strictly above it. Where n carries no such order statistic the answer is
TooFew with the number needed (5 % confident at 95 %: 59; 1 %: 299; .1 %: 2,995; marginal 1 %: 99). The word
"certified" is for `confident` alone.

Limits: groups must be exchangeable with what is served (same form, settings and kinds of prompt); a drift voids the
promise (drift.py notices one). Choosing layer or statistic on the same responses voids it too.
"""

import json
import math
import random
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from fractions import Fraction
from typing import Any

import torch
from jaxtyping import Float
from scipy.stats import binom
from torch import Tensor

from probes.errors import ArtifactError, BadInput, NotFound, TooFew, nearest
from probes.reading.statistics import Statistic, parse_statistic
from probes.reading.streams import Stream

__all__ = ["Threshold", "calibrate", "calibrate_streams", "needed", "order_statistic"]

PROMISES = ("marginal", "confident")
MOST = 10**9


@dataclass(frozen=True)
class Threshold:
    """An alarm threshold with the certificate that goes with it; one that its own numbers cannot carry is refused."""

    limits: Mapping[str, float]
    """By the name of a running statistic, such as "max" or "cusum(0.5)": an alarm is where any is strictly above its
    limit, which is the largest of its `per_kind`."""
    rate: float
    """Promised false alarms per benign response, in (0, 1), of all statistics together."""
    promise: str
    """"marginal" (on average over calibrations) or "confident" (this one, with `confidence`)."""
    confidence: float | None
    """Probability over calibrations that the rate holds; None for "marginal"."""
    groups: Mapping[str, int]
    """Benign groups of each kind, one response each."""
    per_kind: Mapping[str, Mapping[str, float]]
    """By statistic and kind, what the limit would be for that kind alone."""
    horizon: int
    """Tokens of a response for which the promise holds."""
    made: str
    """ISO date or time of the calibration."""
    generation: Mapping[str, Any] = field(default_factory=dict)
    """Generation settings under which the responses were made."""
    prompt_mix: Mapping[str, Any] = field(default_factory=dict)
    """The form and mixture of the prompts: what is certified is the form that is served."""
    valid_until: str | None = None
    """ISO date or time after which it must be made again; None: not stated."""

    def __post_init__(self) -> None:
        _check_promise(self.rate, self.promise, self.confidence)
        if self.promise == "marginal" and self.confidence is not None:
            raise BadInput(f"a marginal promise with confidence {self.confidence}; it has none: give None")
        _check_count(self.horizon, "the horizon in tokens")
        for name in ("limits", "generation", "prompt_mix", "groups", "per_kind"):
            object.__setattr__(self, name, _plain(getattr(self, name), name))
        for date in [self.made] + ([] if self.valid_until is None else [self.valid_until]):
            _check_date(date)
        if not self.groups or not self.limits or set(self.limits) != set(self.per_kind):
            names = f"limits of {sorted(self.limits)}, per kind of {sorted(self.per_kind)}"
            raise BadInput(f"{names}, groups of {sorted(self.groups)}; name the same statistics, and a kind at least")
        for kind, n in self.groups.items():
            _check_count(n, f"the number of groups of kind {kind!r}")
            about = {"rate": self.rate, "promise": self.promise, "confidence": self.confidence}
            order_statistic(n, **about, statistics=len(self.limits), of=f"kind {kind!r}")
        for name, limit in self.limits.items():
            if not isinstance(name, str) or str(parse_statistic(name)) != name:
                raise BadInput(f"{name!r} is not how a statistic is written; calibrate again")
            kinds = self.per_kind[name]
            if not isinstance(kinds, Mapping) or set(kinds) != set(self.groups):
                raise BadInput(f"groups of kinds {sorted(self.groups)} but limits of {name} for {kinds}; name the same")
            if not all(_finite(value) for value in [limit, *kinds.values()]):
                raise BadInput(f"a limit of {limit} ({kinds}) is not finite; calibrate again on finite scores")
            if limit != max(kinds.values()):
                what = f"the limit {limit} of {name} is not the largest of its kinds'"
                raise BadInput(f"{what} ({kinds}); calibrate again")

    @property
    def value(self) -> float:
        """The limit, where there is a single one."""
        (limit,) = self.limits.values()
        return limit

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """In the order of `limits`."""
        return tuple(map(parse_statistic, self.limits))

    @property
    def certified(self) -> bool:
        """Whether the word applies: only a `confident` promise is a certificate."""
        return self.promise == "confident"

    def trace(self, scores: Float[Tensor, "token"]) -> dict[str, list[float]]:
        """Return the value of each statistic at each token of a stream, NaN from a token on that cannot be judged."""
        return {statistic.name: statistic(scores).tolist() for statistic in self.statistics}

    @property
    def crossed(self) -> str:
        """What an alarm is, in words: "max > 4.2"."""
        return " or ".join(f"{name} > {limit:.4g}" for name, limit in self.limits.items())

    @property
    def sentence(self) -> str:
        """The promise in words, for pages and terminals."""
        counts = ", ".join(f"{kind} {n}" for kind, n in self.groups.items())
        how = (
            f"certified with {self.confidence:.4g} confidence"
            if self.certified
            else "on average over calibrations, not certified"
        )
        return (
            f"at most {100 * self.rate:.4g} % of benign responses of each kind alarm within {self.horizon} tokens, "
            f"{how} (groups: {counts}; alarm where {self.crossed})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold and `from_dict` turns back into an equal Threshold."""
        values = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values}

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> "Threshold":
        """Read what `to_dict` wrote.

        Raises:
            ArtifactError: a field is unknown, missing, of the wrong type or not finite, or contradicts another.
        """
        names = {f.name for f in fields(cls)}
        if not isinstance(body, Mapping) or set(body) != names:
            found = set(body) if isinstance(body, Mapping) else set()
            wrong = f"missing {sorted(names - found)}, unknown {sorted(map(str, found - names))}"
            raise ArtifactError(f"a threshold with the wrong fields ({wrong}); calibrate again")
        try:
            return cls(**body)
        except (BadInput, NotFound, TooFew, TypeError) as error:
            raise ArtifactError(f"a damaged threshold: {error}") from error


def needed(rate: float, promise: str = "confident", confidence: float | None = 0.95, *, statistics: int = 1) -> int:
    """Return the smallest number of groups of a kind that carries the promise at all.

    `marginal`: the least n with rate * (n + 1) >= 1. `confident`: the least n with (1 - rate)^n <= 1 - confidence.

    Args:
        rate: false alarms per benign response, in (0, 1).
        promise: "marginal" or "confident".
        confidence: in (0, 1); not used for "marginal".
        statistics: how many share the rate and the chance to miss.
    """
    exact, miss = _check_promise(rate, promise, confidence, statistics)
    if promise == "marginal":
        return math.ceil(1 / exact) - 1
    n = max(1, math.floor(math.log(miss) / math.log1p(-float(exact))) - 1)
    while binom.cdf(0, n, float(exact)) > miss:
        n += 1
    return n


def order_statistic(
    n: int,
    *,
    rate: float,
    promise: str = "confident",
    confidence: float | None = 0.95,
    statistics: int = 1,
    of: str = "the calibration",
) -> int:
    """Return k such that the k-th largest of n benign maxima is the threshold.

    Args:
        n: groups of one kind.
        rate: false alarms per benign response, in (0, 1); taken as the decimal that was written, so .05 is 1/20.
        promise: "marginal" or "confident".
        confidence: in (0, 1); not used for "marginal".
        statistics: how many share the rate and the chance to miss.
        of: whose groups they are, for the message.

    Raises:
        TooFew: no order statistic of n maxima carries the promise; `.needed` says how many would.
    """
    exact, miss = _check_promise(rate, promise, confidence, statistics)
    k = math.floor(exact * (n + 1)) if promise == "marginal" else _largest_below(n, float(exact), miss) + 1
    if k < 1:
        least = needed(rate, promise, confidence, statistics=statistics)
        claim = f"{100 * rate:.4g} % " + (f"at {confidence:.4g} confidence" if promise == "confident" else "on average")
        claim += f" of {statistics} statistics" if statistics > 1 else ""
        raise TooFew(
            f"{of} has {n} groups; {claim} needs {least}: bring {least - n} more, or ask for a higher rate", least
        )
    return k


Maxima = Mapping[str, Mapping[Hashable, float] | Iterable[tuple[Hashable, float]]]
"""By benign kind: the largest value of one response of each group, as a mapping from group or as pairs."""


def calibrate(
    maxima: Maxima,
    *,
    horizon: int,
    made: str,
    rate: float = 0.05,
    promise: str = "confident",
    confidence: float = 0.95,
    statistic: str = "max",
    generation: Mapping[str, Any] | None = None,
    prompt_mix: Mapping[str, Any] | None = None,
    valid_until: str | None = None,
) -> Threshold:
    """Set the threshold at which each kind of benign response alarms no more often than `rate`.

    Args:
        maxima: for each benign kind, the largest value of one response of each group: a mapping from group, or
            (group, maximum) pairs.
        horizon: tokens of a response that the maxima cover.
        made: ISO date or time of today, from the caller.
        rate: false alarms per benign response, in (0, 1).
        promise: "confident" (certified) or "marginal".
        confidence: of "confident", in (0, 1).
        statistic: what the maxima are maxima of.
        generation: settings under which the responses were generated.
        prompt_mix: form and mixture of the prompts.
        valid_until: ISO date or time after which the threshold must be made again.

    Raises:
        TooFew: a kind has too few groups; says which, and how many it needs.
        BadInput: no kind, a group twice within a kind, or a maximum that is not finite.

    Source:
        Wilks (1941) for "confident"; Papadopoulos et al. (2002) and Vovk et al. (2005) for "marginal".
    """
    return _certify(
        {str(parse_statistic(statistic)): maxima}, rate, promise, confidence, horizon=horizon, made=made,
        generation=generation, prompt_mix=prompt_mix, valid_until=valid_until,
    )  # fmt: skip


def calibrate_streams(
    streams: Iterable[Stream],
    statistics: str | Statistic | Sequence[str | Statistic] = "max",
    *,
    horizon: int,
    made: str,
    rate: float = 0.05,
    promise: str = "confident",
    confidence: float = 0.95,
    seed: int = 0,
    generation: Mapping[str, Any] | None = None,
    prompt_mix: Mapping[str, Any] | None = None,
    valid_until: str | None = None,
) -> Threshold:
    """As `calibrate`, from streams and for any statistics.

    Args:
        streams: of benign responses, with kind and group; of a group that has several one is drawn, as they are no
            independent witnesses. A stream without a group is a group of its own.
        statistics: one of `probes.reading.statistics` or its name, or several that share the rate.
        horizon: tokens of a response for which the promise will hold; what lies behind is not looked at.
        made, rate, promise, confidence, generation, prompt_mix, valid_until: see `calibrate`.
        seed: of the draw within groups.

    Raises:
        TooFew: a kind has too few groups; says which, and how many it needs.
        BadInput: no stream, no statistic or one twice, or a score that is not finite.
    """
    given = [statistics] if isinstance(statistics, str | Statistic) else list(statistics)
    wanted = [one if isinstance(one, Statistic) else parse_statistic(one) for one in given]
    if not wanted or len({one.name for one in wanted}) < len(wanted):
        raise BadInput(f"statistics {[str(one) for one in wanted]}; give one at least, and each once")
    by_kind: dict[str, dict[Hashable, list[Stream]]] = {}
    for number, stream in enumerate(streams):
        by_kind.setdefault(stream.kind, {}).setdefault(stream.group or number, []).append(stream)
    drawn = {
        kind: {group: random.Random(f"{seed}|{kind}|{group}").choice(of) for group, of in groups.items()}
        for kind, groups in by_kind.items()
    }
    maxima = {
        one.name: {
            kind: list(zip(groups, _largest(one, groups.values(), horizon), strict=True))
            for kind, groups in drawn.items()
        }
        for one in wanted
    }
    return _certify(
        maxima, rate, promise, confidence, horizon=horizon, made=made, generation=generation, prompt_mix=prompt_mix,
        valid_until=valid_until,
    )  # fmt: skip


def _largest(statistic: Statistic, streams: Iterable[Stream], horizon: int) -> list[float]:
    """Return the largest value over each stream up to the horizon; NaN for one without tokens."""
    scores = [stream.scores[:horizon] for stream in streams]
    lengths = torch.tensor([len(row) for row in scores])
    return statistic.largest(torch.nn.utils.rnn.pad_sequence(scores, batch_first=True), lengths).tolist()


def _certify(
    maxima: Mapping[str, Maxima], rate: float, promise: str, confidence: float, *, generation: Mapping[str, Any] | None,
    prompt_mix: Mapping[str, Any] | None, **about: Any,
) -> Threshold:  # fmt: skip
    """Return the threshold of maxima by statistic, kind and group."""
    per_kind: dict[str, dict[str, float]] = {}
    groups: dict[str, int] = {}
    for name, kinds in maxima.items():
        if not kinds:
            raise BadInput("no benign responses were given; give those of at least one kind")
        for kind, pairs in kinds.items():
            values = _maxima(str(kind), pairs)
            k = order_statistic(
                len(values), rate=rate, promise=promise, confidence=confidence, statistics=len(maxima),
                of=f"kind {str(kind)!r}",
            )  # fmt: skip
            per_kind.setdefault(name, {})[str(kind)] = sorted(values, reverse=True)[k - 1]
            groups[str(kind)] = len(values)
    limits = {name: max(kinds.values()) for name, kinds in per_kind.items()}
    sure = confidence if promise == "confident" else None
    return Threshold(
        limits=limits, rate=rate, promise=promise, confidence=sure, groups=groups, per_kind=per_kind,
        generation=generation or {}, prompt_mix=prompt_mix or {}, **about,
    )  # fmt: skip


def _largest_below(n: int, rate: float, miss: float) -> int:
    """Return the largest j with P(Binomial(n, rate) <= j) <= miss, or -1."""
    j = int(binom.ppf(miss, n, rate)) if n else -1  # the least j that reaches miss: the answer, or one above it
    while j >= 0 and binom.cdf(j, n, rate) > miss:
        j -= 1
    return j


def _maxima(kind: str, pairs: Mapping[Hashable, float] | Iterable[tuple[Hashable, float]]) -> list[float]:
    """Return a kind's maxima, one for each group, checked."""
    found: dict[Hashable, float] = {}
    for group, maximum in pairs.items() if isinstance(pairs, Mapping) else pairs:
        if group in found:
            raise BadInput(
                f"group {group!r} of kind {kind!r} comes twice; a group counts once: give one response of it"
            )
        found[group] = float(maximum)
        if not math.isfinite(found[group]):
            which = f"the maximum of group {group!r} of kind {kind!r} is {found[group]}"
            raise BadInput(f"{which}; a benign response that cannot be scored is a fault to be found first")
    return list(found.values())


def _check_promise(rate: float, promise: str, confidence: float | None, statistics: int = 1) -> tuple[Fraction, float]:
    """Return each statistic's part of the rate as an exact fraction, and of 1 - confidence, or refuse."""
    if promise not in PROMISES:
        raise NotFound(f"{promise!r} is no promise; {nearest(str(promise), PROMISES)}")
    for name, value in [("rate", rate)] + ([("confidence", confidence)] if promise == "confident" else []):
        if isinstance(value, bool) or not isinstance(value, float) or not 0 < value < 1:
            raise BadInput(f"{name} {value!r} is not between 0 and 1; 5 % is .05")
    # Through the written decimal: floor(.05 * 20) must be 1 whatever .05 is in binary.
    miss = float((1 - Fraction(str(confidence))) / statistics) if promise == "confident" else 0.0
    return Fraction(str(rate)) / statistics, miss


def _check_count(value: Any, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
        raise BadInput(f"{what} is {value!r}; it is a whole number from 1 to {MOST}")


def _check_date(text: Any) -> None:
    try:
        datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{text!r} is no ISO date; write it as 2026-01-31") from error


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _plain(mapping: Any, name: str) -> dict[str, Any]:
    """Return a copy that is what JSON would give back, so that a saved threshold equals the one in memory."""
    if not isinstance(mapping, Mapping):
        raise BadInput(f"{name} is {type(mapping).__name__}; it is a mapping")
    try:
        return json.loads(json.dumps(dict(mapping), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"{name} {dict(mapping)!r} cannot be written as JSON ({error}); use numbers, strings, lists and mappings"
        ) from error
