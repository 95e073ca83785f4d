"""Threshold: limits on running statistics, with the certificate that goes with them and the values it rests on.

With n benign groups of one kind, one response a group, and the largest values of a statistic over these responses
sorted from the largest down:

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
5. Chosen among m monitors with these very responses in view (choosing.py): each had 1/m of the chance to miss, so that
   the promises of all m hold at once and whichever is taken keeps its own. Of each the test goes from the highest
   limit down and stops at the first that is not shown to hold, which an order statistic is: Learn-then-Test with a
   fixed sequence for each. Angelopoulos, Bates, Candes, Jordan and Lei (2021), 2110.01052. For `confident` alone: a
   promise on average says nothing of the one that looked best. One statistic of 30 layers takes 125 groups.

Ties only make a threshold safer: an alarm is strictly above it. Where n carries no such order statistic the answer is
TooFew with the number needed (5 % confident at 95 %: 59; 1 %: 299; .1 %: 2,995; marginal 1 %: 99). The word
"certified" is for `confident` alone.
"""

import json
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from fractions import Fraction
from functools import cached_property
from typing import Any

from jaxtyping import Float
from scipy.stats import binom
from torch import Tensor

from probes.errors import ArtifactError, BadInput, NotFound, TooFew, nearest
from probes.reading.statistics import Statistic, parse_statistic

__all__ = ["Threshold", "needed", "order_statistic"]

PROMISES = ("marginal", "confident")
MOST = 10**9


@dataclass(frozen=True)
class Threshold:
    """An alarm threshold with the certificate that goes with it; one that its own numbers cannot carry is refused."""

    maxima: Mapping[str, Mapping[str, Sequence[float]]]
    """By the name of a running statistic, such as "max" or "cusum(0.5)", and by benign kind: its largest value over one
    response of each group. Kept sorted, from the smallest up."""
    rate: float
    """Promised false alarms per benign response, in (0, 1), of all statistics together."""
    promise: str
    """"marginal" (on average over calibrations) or "confident" (this one, with `confidence`)."""
    confidence: float | None
    """Probability over calibrations that the rate holds; None for "marginal"."""
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
    among: int = 1
    """Of how many monitors this is one that was chosen with the same benign responses in view."""

    def __post_init__(self) -> None:
        _check_promise(self.rate, self.promise, self.confidence)
        if self.promise == "marginal" and self.confidence is not None:
            raise BadInput(f"a marginal promise with confidence {self.confidence}; it has none: give None")
        _check_count(self.horizon, "the horizon in tokens")
        for name in ("maxima", "generation", "prompt_mix"):
            object.__setattr__(self, name, _plain(getattr(self, name), name))
        days = [_date(day) for day in [self.made] + ([] if self.valid_until is None else [self.valid_until])]
        if days != sorted(days):
            raise BadInput(f"it would end on {self.valid_until}, before it is made on {self.made}; give a later end")
        _check_maxima(self.maxima)
        self.maxima.update({name: {kind: sorted(of) for kind, of in by.items()} for name, by in self.maxima.items()})
        for kind, n in self.groups.items():
            self._order_statistic(n, of=f"kind {kind!r}")

    def _order_statistic(self, n: int, of: str = "the calibration") -> int:
        about = {"rate": self.rate, "promise": self.promise, "confidence": self.confidence}
        return order_statistic(n, **about, statistics=len(self.maxima), among=self.among, of=of)

    @cached_property
    def limits(self) -> dict[str, float]:
        """By statistic: an alarm is where any is strictly above its limit, the largest of its `per_kind`."""
        return {name: max(kinds.values()) for name, kinds in self.per_kind.items()}

    @property
    def per_kind(self) -> dict[str, dict[str, float]]:
        """By statistic and kind, what the limit would be for that kind alone."""
        ranks = {kind: self._order_statistic(n) for kind, n in self.groups.items()}
        return {name: {kind: of[-ranks[kind]] for kind, of in kinds.items()} for name, kinds in self.maxima.items()}

    @property
    def groups(self) -> dict[str, int]:
        """Benign groups of each kind, one response each."""
        return {kind: len(of) for kind, of in next(iter(self.maxima.values())).items()}

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

    @property
    def systems(self) -> tuple[str, ...]:
        """System prompts of the chats it was made on; empty where it is silent about them."""
        held = self.prompt_mix.get("system", ())
        return (held,) if isinstance(held, str) else tuple(held)

    def ended(self, today: date) -> bool:
        """Whether its time is over; never, where no end is stated."""
        return self.valid_until is not None and today > datetime.fromisoformat(self.valid_until).date()

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
        chosen = f"; chosen among {self.among}" if self.among > 1 else ""
        return (
            f"at most {100 * self.rate:.4g} % of benign responses of each kind alarm within {self.horizon} tokens, "
            f"{how} (groups: {counts}; alarm where {self.crossed}{chosen})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold and `from_dict` turns back into an equal Threshold.

        The limits stand in it for readers; they follow from the rest.
        """
        return {"limits": dict(self.limits), **{f.name: deepcopy(getattr(self, f.name)) for f in fields(self)}}

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> "Threshold":
        """Read what `to_dict` wrote.

        Raises:
            ArtifactError: a field is unknown, missing, of the wrong type or not finite, or contradicts another.
        """
        names = {"limits", *(f.name for f in fields(cls))}
        if not isinstance(body, Mapping) or set(body) != names:
            found = set(body) if isinstance(body, Mapping) else set()
            wrong = f"missing {sorted(names - found)}, unknown {sorted(map(str, found - names))}"
            raise ArtifactError(f"a threshold with the wrong fields ({wrong}); calibrate again")
        try:
            made = cls(**{name: value for name, value in body.items() if name != "limits"})
        except (BadInput, NotFound, TooFew, TypeError) as error:
            raise ArtifactError(f"a damaged threshold: {error}") from error
        if body["limits"] != made.limits:
            raise ArtifactError(f"a damaged threshold: limits of {body['limits']} where its values give {made.limits}")
        return made


def needed(
    rate: float, promise: str = "confident", confidence: float | None = 0.95, *, statistics: int = 1, among: int = 1
) -> int:
    """Return the smallest number of groups of a kind that carries the promise at all.

    `marginal`: the least n with rate * (n + 1) >= 1. `confident`: the least n with (1 - rate)^n <= 1 - confidence.

    Args:
        rate: false alarms per benign response, in (0, 1).
        promise: "marginal" or "confident".
        confidence: in (0, 1); not used for "marginal".
        statistics: how many share the rate and the chance to miss.
        among: how many monitors share the chance to miss, because one is chosen with the same responses in view.
    """
    exact, miss = _check_promise(rate, promise, confidence, statistics, among)
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
    among: int = 1,
    of: str = "the calibration",
) -> int:
    """Return k such that the k-th largest of n benign maxima is the threshold.

    Args:
        n: groups of one kind.
        rate: false alarms per benign response, in (0, 1); taken as the decimal that was written, so .05 is 1/20.
        promise: "marginal" or "confident".
        confidence: in (0, 1); not used for "marginal".
        statistics, among: see `needed`.
        of: whose groups they are, for the message.

    Raises:
        TooFew: no order statistic of n maxima carries the promise; `.needed` says how many would.
    """
    exact, miss = _check_promise(rate, promise, confidence, statistics, among)
    k = math.floor(exact * (n + 1)) if promise == "marginal" else _largest_below(n, float(exact), miss) + 1
    if k < 1:
        least = needed(rate, promise, confidence, statistics=statistics, among=among)
        claim = f"{100 * rate:.4g} % " + (f"at {confidence:.4g} confidence" if promise == "confident" else "on average")
        claim += f" of {statistics} statistics" if statistics > 1 else ""
        claim += f", chosen among {among}," if among > 1 else ""
        raise TooFew(
            f"{of} has {n} groups; {claim} needs {least}: bring {least - n} more, or ask for a higher rate", least
        )
    return k


def _largest_below(n: int, rate: float, miss: float) -> int:
    """Return the largest j with P(Binomial(n, rate) <= j) <= miss, or -1."""
    j = int(binom.ppf(miss, n, rate)) if n else -1  # the least j that reaches miss: the answer, or one above it
    while j >= 0 and binom.cdf(j, n, rate) > miss:
        j -= 1
    return j


def _check_promise(
    rate: float, promise: str, confidence: float | None, statistics: int = 1, among: int = 1
) -> tuple[Fraction, float]:
    """Return each statistic's part of the rate as an exact fraction, and of 1 - confidence, or refuse."""
    if promise not in PROMISES:
        raise NotFound(f"{promise!r} is no promise; {nearest(str(promise), PROMISES)}")
    for name, value in [("rate", rate)] + ([("confidence", confidence)] if promise == "confident" else []):
        if isinstance(value, bool) or not isinstance(value, float) or not 0 < value < 1:
            raise BadInput(f"{name} {value!r} is not between 0 and 1; 5 % is .05")
    for value, what in ((statistics, "the number of statistics"), (among, "the number of monitors to choose among")):
        _check_count(value, what)
    if promise == "marginal" and among > 1:
        raise BadInput("a marginal promise holds on average, not for the one that looks best; choose with 'confident'")
    # Through the written decimal: floor(.05 * 20) must be 1 whatever .05 is in binary.
    miss = float((1 - Fraction(str(confidence))) / (statistics * among)) if promise == "confident" else 0.0
    return Fraction(str(rate)) / statistics, miss


def _check_count(value: Any, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
        raise BadInput(f"{what} is {value!r}; it is a whole number from 1 to {MOST}")


def _date(text: Any) -> date:
    try:
        return datetime.fromisoformat(text).date()
    except (TypeError, ValueError) as error:
        raise BadInput(f"{text!r} is no ISO date; write it as 2026-01-31") from error


def _check_maxima(maxima: dict[str, Any]) -> None:
    """Refuse values that are not of the same kinds, and as many of each kind, for all statistics."""
    shapes = []
    for name, kinds in maxima.items():
        if str(parse_statistic(name)) != name:
            raise BadInput(f"{name!r} is not how a statistic is written; calibrate again")
        if not isinstance(kinds, Mapping) or not kinds or not all(isinstance(of, list) for of in kinds.values()):
            raise BadInput(f"the values of {name} are {kinds!r:.100}; give lists by kind, of one kind at least")
        for kind, of in kinds.items():
            wrong = next((value for value in of if not _finite(value)), None)
            if wrong is not None:
                raise BadInput(f"{wrong!r} among the values of {name}, kind {kind!r}; calibrate on finite scores")
        shapes.append({kind: len(of) for kind, of in kinds.items()})
    if not shapes or any(shape != shapes[0] for shape in shapes):
        raise BadInput(f"groups by kind of {shapes}; give those of one statistic at least, the same of each")


def _finite(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond any float
        return False


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
