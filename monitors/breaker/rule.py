"""Rule: when a breaker opens, and how it closes again; `step` is all of it, pure, with the clock passed in.

    state      event                            next        note
    CLOSED     CLEAR                            CLOSED      window slides
    CLOSED     ALARM, fewer than k of last n    CLOSED
    CLOSED     ALARM, k of last n               OPEN        trip
    CLOSED     INVALID                          as ALARM    cannot be switched off silently
    OPEN       Ask, cooldown over, not latched  HALF_OPEN   decided at the next ask, no timer thread
    OPEN       anything else                    OPEN        BLOCK
    HALF_OPEN  CLEAR, fewer than m in a row     HALF_OPEN   one trial at a time
    HALF_OPEN  CLEAR, the m-th in a row         CLOSED
    HALF_OPEN  ALARM or INVALID                 OPEN        cooldown restarts
    any        Reset(by, why)                   CLOSED      the only way out of a latch
    any        ForceOpen(by, why)               OPEN        latched
    any        verdict of an older generation   unchanged   late answers are ignored

What the table leaves open: a trial whose verdict never comes counts as INVALID after `trial_timeout_s`; in HALF_OPEN
only the verdicts of trials count; a clock that went back restarts the wait that it would have shortened; in shadow
(`enforce=False`) the state moves as it would, and whoever would be blocked passes with WOULD_BLOCK, its verdict
uncounted.

Source: Nygard (2007), "Release it!", chapter 5; the generation counter is gobreaker's.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from monitors.verdict import Outcome
from probes.errors import BadInput

__all__ = [
    "Ask",
    "Decision",
    "Event",
    "ForceOpen",
    "Judged",
    "Policy",
    "Reset",
    "Snapshot",
    "State",
    "Transition",
    "Trial",
    "step",
]


class State(StrEnum):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Decision(StrEnum):
    """Whether a request may start."""

    PASS = "pass"
    BLOCK = "block"
    WOULD_BLOCK = "would_block"
    """In shadow: it passes, and would not have."""


@dataclass(frozen=True)
class Policy:
    """When to trip, and how to come back."""

    k: int
    """Alarms among the last n responses that trip; in [1, n]."""
    n: int
    """Responses that are remembered."""
    latch: bool = False
    """Whether a trip stays until a person resets it."""
    cooldown_s: float = 300.0
    """Seconds from a trip to the first trial, where it is not latched."""
    trials: int = 3
    """Trials in a row that must be CLEAR to close again."""
    trial_timeout_s: float = 600.0
    """Seconds after which a trial without a verdict counts as INVALID."""
    enforce: bool = True
    """False: shadow, count and record but block nothing."""

    def __post_init__(self) -> None:
        for name in ("k", "n", "trials"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise BadInput(f"{name}={value!r}; it is a whole number from 1")
        if self.k > self.n:
            raise BadInput(f"k={self.k} of n={self.n} can never happen; choose k between 1 and n")
        for name in ("cooldown_s", "trial_timeout_s"):
            value = getattr(self, name)
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not (math.isfinite(value) and value >= 0)
            ):
                raise BadInput(f"{name}={value!r}; it is a number of seconds from 0")
        for name in ("latch", "enforce"):
            if not isinstance(getattr(self, name), bool):
                raise BadInput(f"{name}={getattr(self, name)!r}; it is True or False")


@dataclass(frozen=True)
class Trial:
    """The one request in flight that HALF_OPEN allows."""

    number: int
    """1-based, within this HALF_OPEN."""
    rows: int
    """Verdicts still to come from it."""
    since_s: float
    """When it began, on the breaker's clock."""


@dataclass(frozen=True)
class Snapshot:
    """All that a breaker remembers."""

    state: State = State.CLOSED
    """Where it stands."""
    window: tuple[bool, ...] = ()
    """Alarm or not of the last n responses, oldest first; leading CLEARs are left out, as they can no longer matter."""
    generation: int = 0
    """Counts transitions; a verdict carries the generation under which its request started."""
    latched: bool = False
    """Whether only a Reset closes it."""
    opened_at_s: float | None = None
    """When it last opened, on the breaker's clock; None while CLOSED."""
    successes: int = 0
    """CLEAR trials in a row in this HALF_OPEN."""
    trial: Trial | None = None
    """The trial in flight."""
    reason: str = ""
    """Why it stands where it stands."""


@dataclass(frozen=True)
class Ask:
    """A request wants to start; `rows` responses will be judged."""

    rows: int = 1


@dataclass(frozen=True)
class Judged:
    """A response has its verdict."""

    outcome: Outcome
    """What it came to."""
    generation: int
    """Of its permit."""
    trial: int = 0
    """Of its permit; 0: it was no trial."""
    request_id: str = ""
    """For the reason of a trip; left out for CLEAR."""
    reason: str = ""
    """Of the verdict; left out for CLEAR."""


@dataclass(frozen=True)
class Reset:
    """A person closes the breaker."""

    by: str
    why: str


@dataclass(frozen=True)
class ForceOpen:
    """A person (or the breaker, where its journal lost a trip) opens it, latched."""

    by: str
    why: str


Event = Ask | Judged | Reset | ForceOpen


@dataclass(frozen=True)
class Transition:
    """One change of state, or a person's act."""

    before: State
    """State it left."""
    after: State
    """State it came to."""
    event: Event
    """What brought it about."""
    reason: str
    """Why, in a sentence."""
    who: str
    """"breaker", or the person of a Reset or ForceOpen."""
    when_s: float
    """Seconds since 1970 on the breaker's clock."""
    generation: int
    """Of the breaker after it; rising, so that listeners can put transitions in order."""


def step(
    policy: Policy, snapshot: Snapshot, event: Event, now_s: float
) -> tuple[Snapshot, Decision, Transition | None]:
    """Apply one event: the table above.

    Args:
        policy: when to trip, and how to come back.
        snapshot: what was remembered.
        event: what happened.
        now_s: when, in seconds on any clock that goes on in the same way.

    Returns:
        What is remembered now; whether the asking request may start (for other events: whether an ordinary one could);
        the transition, if there was one.

    Raises:
        BadInput: the event is none of the four.
    """
    match event:
        case Ask():
            after = _asked(policy, snapshot, event, now_s)
        case Judged():
            after = _judged(policy, snapshot, event, now_s)
        case Reset(by, why):
            after = _moved(snapshot, State.CLOSED, f"reset by {by}: {why}")
        case ForceOpen(by, why):
            after = _moved(
                snapshot,
                State.OPEN,
                f"forced open by {by}: {why}",
                latched=True,
                opened_at_s=now_s,
                window=snapshot.window,
            )
        case _:
            raise BadInput(f"{event!r} is no event of a breaker; give an Ask, Judged, Reset or ForceOpen")
    starts_trial = isinstance(event, Ask) and snapshot.trial is None and after.trial is not None
    passes = after.state is State.CLOSED or (after.state is State.HALF_OPEN and starts_trial)
    decision = Decision.PASS if passes else Decision.BLOCK if policy.enforce else Decision.WOULD_BLOCK
    if after.generation == snapshot.generation:
        return after, decision, None
    who = event.by if isinstance(event, Reset | ForceOpen) else "breaker"
    return after, decision, Transition(snapshot.state, after.state, event, after.reason, who, now_s, after.generation)


def _moved(snapshot: Snapshot, state: State, reason: str, **rest: Any) -> Snapshot:
    """Begin a new generation; what is not named starts afresh."""
    return Snapshot(state=state, generation=snapshot.generation + 1, reason=reason, **rest)


def _tripped(policy: Policy, snapshot: Snapshot, reason: str, now_s: float, window: tuple[bool, ...] = ()) -> Snapshot:
    return _moved(snapshot, State.OPEN, reason, latched=policy.latch, opened_at_s=now_s, window=window)


def _asked(policy: Policy, snapshot: Snapshot, event: Ask, now_s: float) -> Snapshot:
    if snapshot.state is State.OPEN and not snapshot.latched:
        if now_s < snapshot.opened_at_s:
            return replace(snapshot, opened_at_s=now_s)
        if now_s - snapshot.opened_at_s >= policy.cooldown_s:
            reason = f"the cooldown of {policy.cooldown_s:g} s is over; was open because {snapshot.reason}"
            return _moved(
                snapshot, State.HALF_OPEN, reason, opened_at_s=snapshot.opened_at_s, trial=Trial(1, event.rows, now_s)
            )
    if snapshot.state is State.HALF_OPEN:
        trial = snapshot.trial
        if trial is None:
            return replace(snapshot, trial=Trial(snapshot.successes + 1, event.rows, now_s))
        if now_s < trial.since_s:
            return replace(snapshot, trial=replace(trial, since_s=now_s))
        if now_s - trial.since_s >= policy.trial_timeout_s:
            return _tripped(
                policy, snapshot, f"trial {trial.number} got no verdict within {policy.trial_timeout_s:g} s", now_s
            )
    return snapshot


def _judged(policy: Policy, snapshot: Snapshot, event: Judged, now_s: float) -> Snapshot:
    if event.generation < snapshot.generation:
        return snapshot
    alarm = event.outcome is not Outcome.CLEAR
    which = f"{event.outcome} in request {event.request_id or '(unnamed)'}: {event.reason or 'no reason given'}"
    if snapshot.state is State.CLOSED:
        window = (*snapshot.window, alarm)[-policy.n :]
        alarms = sum(window)
        window = window[window.index(True) :] if alarms else ()
        if alarm and alarms >= policy.k:
            return _tripped(
                policy,
                snapshot,
                f"{alarms} of the last {policy.n} responses alarmed, the last by {which}",
                now_s,
                window,
            )
        return replace(snapshot, window=window)
    if snapshot.state is State.HALF_OPEN and event.trial:
        if alarm:
            return _tripped(policy, snapshot, f"trial {event.trial} failed by {which}", now_s)
        trial = snapshot.trial
        if trial is None or trial.number != event.trial:
            return snapshot
        if trial.rows > 1:
            return replace(snapshot, trial=replace(trial, rows=trial.rows - 1))
        if snapshot.successes + 1 >= policy.trials:
            return _moved(snapshot, State.CLOSED, f"{policy.trials} trials in a row were clear")
        return replace(snapshot, successes=snapshot.successes + 1, trial=None)
    return snapshot
