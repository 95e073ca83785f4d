"""Verdict: what one response comes to: CLEAR, ALARM or INVALID, and the token that decided.

The rule of a pass. A response is CLEAR where there is at least one probe, every probe was fed in every forward pass,
every score is finite and none above the threshold, and as many tokens were scored as were accepted (at least one).
Anything else is no pass:

1. Walk the scores in token order. The first that is not finite makes the response INVALID, the first strictly above
   the threshold makes it an ALARM; whichever comes first decides, so an alarm is not undone by what the model emits
   after it.
2. A walk that met neither is INVALID where there is no probe, a probe was deaf, nothing was accepted, or scored and
   accepted differ.

INVALID counts as an alarm at the breaker: `nan > threshold` is False, and a monitor that cannot see must not wave
anything through.

Score t (1-based) was read where token t was decided. For a response that is stopped, the token whose score crossed
counts as accepted, though it is never released.

Limits: the only statistic so far is the running maximum. Several probes come in as one score a token, and whoever
takes their maximum must keep NaN (torch does, Python's `max` does not).
"""

import math
from collections.abc import Sequence
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
    """What `judge` needs of a threshold; `monitors.calibration.Threshold` is one."""

    @property
    def value(self) -> float:
        """An alarm is strictly above it."""

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
    """Running maximum of the finite scores up to there; NaN where there is none."""
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
            given = f"{self.scored} tokens scored of {self.accepted} accepted and a maximum of {self.statistic}"
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
    scores: Sequence[float], accepted: int, threshold: Limit, *, probes: int = 1, deaf: str = "", request_id: str = ""
) -> Verdict:
    """Judge one response by the rule of a pass.

    Args:
        scores: one score for each token that was scored, in token order; higher = more of the concept.
        accepted: tokens generated, the one that crossed included, at least 0.
        threshold: its value, its horizon in tokens, and whether it is certified.
        probes: how many probes the scores come from.
        deaf: why some probe missed a forward pass of this response; empty where each was fed in every one.
        request_id: the caller's name for the response.

    Raises:
        BadInput: the threshold is not finite, or `accepted` is no count: the caller's mistakes, no findings.
    """
    if not math.isfinite(threshold.value):
        raise BadInput(f"the threshold is {threshold.value}; nothing can be judged against it; use a finite number")
    if accepted < 0:
        raise BadInput(f"{accepted} tokens accepted; the count is at least 0")
    values = [float(score) for score in scores]
    counts = {"scored": len(values), "accepted": accepted, "request_id": request_id}
    highest = math.nan
    for token, score in enumerate(values, start=1):
        if not math.isfinite(score):
            reason = f"the score of token {token} is {score}"
            return Verdict.invalid(reason, token=token, score=score, statistic=highest, **counts)
        highest = score if math.isnan(highest) else max(highest, score)
        if score > threshold.value:
            reason = f"the score of token {token} is {score:.4g}, above {threshold.value:.4g}"
            within = threshold.certified and token <= threshold.horizon
            return Verdict(Outcome.ALARM, token, score, highest, reason, certified=within, **counts)
    last = values[-1] if values else math.nan
    if flaw := _flaw(len(values), accepted, probes, deaf):
        return Verdict.invalid(flaw, score=last, statistic=highest, **counts)
    reason = f"the highest of {accepted} scores is {highest:.4g}, not above {threshold.value:.4g}"
    within = threshold.certified and accepted <= threshold.horizon
    return Verdict(Outcome.CLEAR, None, last, highest, reason, certified=within, **counts)


def _flaw(scored: int, accepted: int, probes: int, deaf: str) -> str:
    """Say why scores that all look well are no pass, or nothing."""
    if probes < 1:
        return "there is no probe"
    if deaf:
        return deaf
    if scored != accepted:
        return f"{scored} tokens were scored but {accepted} accepted"
    return "" if accepted else "no token was generated"
