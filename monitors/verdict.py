"""Verdict: what one response comes to: CLEAR, ALARM or INVALID, and the token that decided.

The rule of a pass. A response is CLEAR where there is at least one probe, every probe was fed in every forward pass,
every score is finite and no statistic above its limit, and as many tokens were scored as were accepted (at least one).
Anything else is no pass:

1. Walk the tokens in order. The first whose score is not finite makes the response INVALID, the first at which a
   statistic is strictly above its limit makes it an ALARM; whichever comes first decides, so an alarm is not undone by
   what the model emits after it.
2. A walk that met neither is INVALID where there is no probe, a probe was deaf, nothing was accepted, or scored and
   accepted differ.

INVALID counts as an alarm at the breaker: `nan > threshold` is False, and a monitor that cannot see must not wave
anything through.

Score t (1-based) was read where token t was decided. For a response that is stopped, the token whose score crossed
counts as accepted, though it is never released.

Limits: several probes come in as one score a token, and whoever takes their maximum must keep NaN (torch does,
Python's `max` does not). Statistics come in computed: this file is of the standard library alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from probes.errors import BadInput

__all__ = ["Limit", "Outcome", "Verdict", "judge"]


class Outcome(StrEnum):
    """The three things a response can come to."""

    CLEAR = "clear"
    ALARM = "alarm"
    INVALID = "invalid"


class Limit(Protocol):
    """What `judge` needs of a threshold; `monitors.threshold.Threshold` is one."""

    @property
    def limits(self) -> Mapping[str, float]:
        """By statistic; an alarm is strictly above one of them."""

    @property
    def horizon(self) -> int:
        """Tokens for which the certificate speaks."""

    @property
    def certified(self) -> bool:
        """Whether it holds a `confident` certificate at all."""


@dataclass(frozen=True)
class Verdict:
    """What one response came to; a CLEAR that was not earned cannot be made."""

    outcome: Outcome
    """CLEAR, ALARM or INVALID."""
    token: int | None
    """1-based index of the generated token that decided; None where no single token did."""
    score: float
    """Score of that token, or of the last one; NaN where nothing was scored."""
    statistic: float
    """Value there of the statistic that decided, or of the first that there is; NaN where there is none."""
    reason: str
    """One sentence with numbers only: no text of prompt or response."""
    scored: int
    """Tokens that have a score."""
    accepted: int
    """Tokens that were generated, the one that crossed included."""
    certified: bool = False
    """Whether a certificate speaks for it: there is one, and the token that decided (the last, for CLEAR) is within its
    horizon."""
    request_id: str = ""
    """The caller's name for the response."""

    def __post_init__(self) -> None:
        if not isinstance(self.outcome, Outcome):
            raise BadInput(f"outcome {self.outcome!r} is not an Outcome; it is one of {', '.join(map(str, Outcome))}")
        earned = self.token is None and self.scored == self.accepted >= 1 and math.isfinite(self.statistic)
        if self.outcome is Outcome.CLEAR and not earned:
            given = f"{self.scored} tokens scored of {self.accepted} accepted and a statistic of {self.statistic}"
            raise BadInput(f"a CLEAR with {given}; a pass needs every token scored and finite; use Verdict.invalid")
        if self.outcome is Outcome.ALARM and (self.token is None or self.token < 1):
            raise BadInput(f"an ALARM at token {self.token!r}; name the token that crossed, counted from 1")

    @property
    def alarmed(self) -> bool:
        """Whether it counts as an alarm at the breaker: everything but CLEAR does."""
        return self.outcome is not Outcome.CLEAR

    @classmethod
    def invalid(
        cls,
        reason: str,
        *,
        token: int | None = None,
        score: float = math.nan,
        statistic: float = math.nan,
        scored: int = 0,
        accepted: int = 0,
        request_id: str = "",
    ) -> "Verdict":
        """Make the verdict of a response that could not be judged; it is never certified."""
        return cls(Outcome.INVALID, token, score, statistic, reason, scored, accepted, False, request_id)


def judge(
    scores: Sequence[float],
    accepted: int,
    threshold: Limit,
    *,
    trace: Mapping[str, Sequence[float]] | None = None,
    probes: int = 1,
    deaf: str = "",
    request_id: str = "",
) -> Verdict:
    """Judge one response by the rule of a pass.

    Args:
        scores: one score for each token that was scored, in token order; higher = more of the concept.
        accepted: tokens generated, the one that crossed included, at least 0.
        threshold: its limits, its horizon in tokens, and whether it is certified.
        trace: by statistic, its value at each token that was scored (`Threshold.trace`); not needed where the only one
            is "max".
        probes: how many probes the scores come from.
        deaf: why some probe missed a forward pass of this response; empty where each was fed in every one.
        request_id: the caller's name for the response.

    Raises:
        BadInput: a limit is not finite, a statistic is not in the trace or of another length, or `accepted` is no
            count: the caller's mistakes, no findings.
    """
    limits, scores = dict(threshold.limits), [float(score) for score in scores]
    if not limits or not all(map(math.isfinite, limits.values())):
        raise BadInput(f"the threshold has the limits {limits}; nothing can be judged against them; use finite numbers")
    if accepted < 0:
        raise BadInput(f"{accepted} tokens accepted; the count is at least 0")
    if trace is None and set(limits) == {"max"}:
        trace = {"max": _running_maximum(scores)}
    lengths = {name: len(values) for name, values in (trace or {}).items()}
    if lengths != dict.fromkeys(limits, len(scores)):
        raise BadInput(f"{len(scores)} scores, limits of {sorted(limits)}, a trace of {lengths}; trace each statistic")
    counts = {"scored": len(scores), "accepted": accepted, "request_id": request_id}
    now = last = math.nan
    for token, score in enumerate(scores, start=1):
        at = {name: float(trace[name][token - 1]) for name in limits}
        lost = [("the score", score), *at.items()]  # a sum may be too large where no score is
        what = next((f"{name} at token {token} is {value}" for name, value in lost if not math.isfinite(value)), "")
        if what:
            return Verdict.invalid(what, token=token, score=score, statistic=now, **counts)
        now, last = next(iter(at.values())), score
        crossed = next((name for name, value in at.items() if value > limits[name]), None)
        if crossed is not None:
            reason = f"{crossed} at token {token} is {at[crossed]:.4g}, above {limits[crossed]:.4g}"
            within = threshold.certified and token <= threshold.horizon
            return Verdict(Outcome.ALARM, token, score, at[crossed], reason, certified=within, **counts)
    if flaw := _flaw(len(scores), accepted, probes, deaf):
        return Verdict.invalid(flaw, score=last, statistic=now, **counts)
    highest = ", ".join(f"{name} {max(trace[name]):.4g}, not above {limit:.4g}" for name, limit in limits.items())
    reason = f"over {accepted} tokens at most: {highest}"
    within = threshold.certified and accepted <= threshold.horizon
    return Verdict(Outcome.CLEAR, None, last, now, reason, certified=within, **counts)


def _running_maximum(scores: Sequence[float]) -> list[float]:
    """Return the largest score so far; NaN from the first on that is not finite."""
    found, highest = [], -math.inf
    for score in scores:
        highest = max(highest, score) if math.isfinite(score) and not math.isnan(highest) else math.nan
        found.append(highest)
    return found


def _flaw(scored: int, accepted: int, probes: int, deaf: str) -> str:
    """Say why scores that all look well are no pass, or nothing."""
    if probes < 1:
        return "there is no probe"
    if deaf:
        return deaf
    if scored != accepted:
        return f"{scored} tokens were scored but {accepted} accepted"
    return "" if accepted else "no token was generated"
