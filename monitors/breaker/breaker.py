"""Breaker: the rule with a lock, a clock and a journal: decide, commit to the journal, then act.

1. `ask` before a request starts; it gives a permit or raises BreakerOpen.
2. `record` each verdict with the permit of its request.
3. Whatever changes what the breaker remembers, and every ALARM or INVALID, is committed to the journal before the
   caller or the listener learns of it.

Breakers of one name (threads, processes) agree through the journal they share: each takes over what the others wrote
before it decides, and a change is applied to the last row inside the transaction that writes it. So a tripped breaker
reopens tripped, and a trip in one process blocks the others at their next ask.

If the journal cannot be written the breaker still trips: it goes by its memory, says so (`journal_degraded`, one line
a row on standard error) and tries again to write them, at most once a second, whenever it is called. Only a Reset is
refused then, for a latch must never clear without a record.

Limits: the clock is the wall clock, the only one that processes and restarts share: set forward, it ends a cooldown
early, which lets one trial through; set back, it makes the cooldown start again. A Breaker is not carried over
`fork`: make one in each process. Standard library only.
"""

import json
import math
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from monitors.breaker.entries import Entry, prompt_digest, prompt_text
from monitors.breaker.rule import (
    Ask,
    Decision,
    Event,
    ForceOpen,
    Judged,
    Policy,
    Reset,
    Snapshot,
    State,
    Transition,
    step,
)
from monitors.verdict import Verdict
from probes.errors import ArtifactError, BadInput, BeliefError, CouldNotRun

__all__ = ["Breaker", "BreakerOpen", "Permit", "Policy", "Sink", "State", "step"]

RETRY_S = 1.0
"""How often an ask tries again to write what could not be written."""


class BreakerOpen(BeliefError):
    """The breaker does not let the request start.

    Args:
        message: the whole sentence.
        reason: why the breaker is open.
    """

    exit_code = 1

    def __init__(self, message: str, reason: str = ""):
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Permit:
    """Leave to start a request; hand it back with each verdict of the request."""

    generation: int
    """When it was given."""
    trial: int = 0
    """Number of the trial; 0: an ordinary request."""
    would_block: bool = False
    """In shadow: an enforced breaker would have blocked it."""


class Sink(Protocol):
    """What a Breaker needs of a journal; `monitors.breaker.journal.Journal` is one."""

    keep_prompts: bool

    def transaction(self) -> AbstractContextManager[None]:
        """Commit what is appended inside, durably and alone, or nothing."""

    def append(self, entry: Entry) -> int:
        """Write one entry; return its sequence number."""

    def holds(self, entry_id: str) -> bool:
        """Say whether an entry is there already."""

    def last(self, breaker: str) -> Snapshot | None:
        """Return what the breaker of that name remembered last."""

    def version(self) -> object:
        """Return something that differs once anybody has written."""


@dataclass(frozen=True)
class _Unwritten:
    """An event that is decided, on its way to the journal."""

    event: Event
    at_s: float
    verdict: Verdict | None = None
    digest: str = ""
    prompt: str | None = None
    id: str = field(default_factory=lambda: secrets.token_hex(16))


class Breaker:
    """The shared, mutable one: safe for threads, and for processes that share a journal.

    Args:
        policy: when to trip, and how to come back.
        journal: where transitions and alarms are kept; a breaker opened with one goes on where the last of its name
            stopped. None: memory only.
        record: called with each transition after it is committed and before the call that caused it returns, with no
            lock held.
        name: whose rows in the journal are its own ("default", a model, a tenant).
        clock: seconds since 1970.

    Raises:
        ArtifactError: the journal cannot be read; a breaker that does not know whether it is tripped does not start.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        journal: Sink | None = None,
        record: Callable[[Transition], None] | None = None,
        name: str = "default",
        clock: Callable[[], float] = time.time,
    ):
        self.policy = policy
        self.name = name
        self._journal = journal
        self._listener = record
        self._clock = clock
        self._lock = threading.Lock()
        self._snapshot = Snapshot()
        self._seen: object = None
        self._known = 0
        self._unwritten: list[_Unwritten] = []
        self._tried_s = -math.inf
        self._trouble = ""
        self._deaf_listener = False
        if journal is not None:
            self._seen, self._snapshot = journal.version(), self._read(journal)
            self._known = self._snapshot.generation

    def __repr__(self) -> str:
        return f"Breaker({self.name!r}, {self.policy.k} of {self.policy.n}, {self._snapshot.state.name})"

    @property
    def snapshot(self) -> Snapshot:
        """All that it remembers, other processes' writing included."""
        with self._lock:
            self._refresh(self._clock())
            return self._snapshot

    @property
    def state(self) -> State:
        """CLOSED, OPEN or HALF_OPEN; an OPEN whose cooldown is over stays OPEN until somebody asks."""
        return self.snapshot.state

    @property
    def journal_degraded(self) -> bool:
        """Whether something that happened is not, or may not be, in the journal."""
        return bool(self._unwritten or self._trouble or self._deaf_listener)

    def ask(self, *, rows: int = 1) -> Permit:
        """Ask whether a request may start.

        Args:
            rows: responses that will be judged under the permit (the batch); a trial is over when all of them are.

        Raises:
            BreakerOpen: it may not.
        """
        if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
            raise BadInput(f"rows={rows!r}; a request has a whole number of responses, from 1")
        after, decision, _ = self._apply(Ask(rows))
        if decision is Decision.BLOCK:
            raise BreakerOpen(self._refusal(after), after.reason)
        trial = after.trial.number if after.trial and decision is Decision.PASS else 0
        return Permit(after.generation, trial, decision is Decision.WOULD_BLOCK)

    def record(
        self, verdict: Verdict, permit: Permit, *, prompt: str | Sequence[Mapping[str, Any]] | None = None
    ) -> Transition | None:
        """Take the verdict of one response into account, once; return the transition that it brought about.

        Args:
            verdict: of the response; an ALARM or INVALID gets its row in the journal, late or not.
            permit: what `ask` gave for its request.
            prompt: of the request; only its digest is kept, unless the journal was asked to keep prompts.
        """
        if not isinstance(verdict, Verdict) or not isinstance(permit, Permit):
            given = f"{type(verdict).__name__}, {type(permit).__name__}"
            raise BadInput(f"record({given}); give a Verdict and the Permit of its request")
        if not verdict.alarmed:
            return self._apply(Judged(verdict.outcome, permit.generation, permit.trial))[2]
        event = Judged(verdict.outcome, permit.generation, permit.trial, verdict.request_id, verdict.reason)
        keep = prompt is not None and self._journal is not None and self._journal.keep_prompts
        digest = "" if prompt is None else prompt_digest(prompt)
        return self._apply(event, verdict, digest, prompt_text(prompt) if keep else None)[2]

    def reset(self, *, by: str, why: str) -> Transition:
        """Close the breaker, latched or not; a person's act, with a name and a reason.

        Raises:
            CouldNotRun: it cannot be recorded, and so it is not done.
        """
        return self._act(Reset(by, why))

    def force_open(self, *, by: str, why: str) -> Transition:
        """Open the breaker until somebody resets it."""
        return self._act(ForceOpen(by, why))

    def _act(self, event: Reset | ForceOpen) -> Transition:
        for name in ("by", "why"):
            if not isinstance(getattr(event, name), str) or not getattr(event, name).strip():
                raise BadInput(f"{name}={getattr(event, name)!r}; say who does it and why: both are recorded")
        transition = self._apply(event)[2]
        assert transition is not None, "a person's act is always a transition"
        return transition

    def _refusal(self, snapshot: Snapshot) -> str:
        if snapshot.latched:
            how = "it stays open until a person resets it"
        elif snapshot.state is State.HALF_OPEN:
            how = "a trial is running; try again when it is over"
        else:
            how = f"it tries again {self.policy.cooldown_s:g} s after it opened"
        return f"the breaker {self.name!r} is {snapshot.state}: {snapshot.reason}; {how}"

    def _apply(
        self, event: Event, verdict: Verdict | None = None, digest: str = "", prompt: str | None = None
    ) -> tuple[Snapshot, Decision, Transition | None]:
        """Decide, commit, then let the caller and the listener know."""
        with self._lock:
            now_s = self._clock()
            self._refresh(now_s)
            result = step(self.policy, self._snapshot, event, now_s)
            if result[0] == self._snapshot and verdict is None:
                return result
            if self._journal is None:
                self._snapshot = result[0]
            else:
                result = self._commit_or_hold(_Unwritten(event, now_s, verdict, digest, prompt), result)
        if result[2] is not None and self._listener is not None:
            try:
                self._listener(result[2])
            except Exception as error:  # noqa: BLE001 - whatever it raises, the trip holds and the caller is answered
                self._deaf_listener = True
                self._spill(f"record= raised {type(error).__name__}: {error}", {"transition": asdict(result[2])})
        return result

    def _commit_or_hold(self, fresh: _Unwritten, decided: tuple[Snapshot, Decision, Transition | None]) -> Any:
        """Commit an event on top of what the journal says now; failing that, go by memory and keep the row."""
        try:
            return self._commit(fresh)
        except BaseException as error:
            if isinstance(fresh.event, Reset):
                if not isinstance(error, Exception):
                    raise
                why = f"the reset of {self.name!r} cannot be recorded ({error}), so it is not done"
                raise CouldNotRun(f"{why}; repair the journal first") from error
            self._unwritten.append(fresh)
            self._snapshot, self._tried_s = decided[0], fresh.at_s
            self._trouble = f"{type(error).__name__}: {error}"
            row = {"breaker": self.name, "at_s": fresh.at_s, "event": asdict(fresh.event), "after": asdict(decided[0])}
            self._spill(self._trouble, row | {"prompt_sha256": fresh.digest})
            if not isinstance(error, Exception):
                raise
            return decided

    def _commit(self, fresh: _Unwritten | None) -> tuple[Snapshot, Decision, Transition | None]:
        """Write what waits and what is new, each applied to the state that the journal holds."""
        with self._journal.transaction():
            snapshot = self._read(self._journal)
            for late in self._unwritten:
                if not self._journal.holds(late.id):
                    snapshot = self._append(snapshot, late)[0]
            if self._unwritten and self._snapshot.state is not State.CLOSED and snapshot.state is State.CLOSED:
                why = f"tripped while its journal could not be written: {self._snapshot.reason}"
                snapshot = self._append(snapshot, _Unwritten(ForceOpen("breaker", why), self._clock()))[0]
            result = snapshot, Decision.PASS, None
            if fresh is not None:
                result = self._append(snapshot, fresh)
            seen = self._journal.version()
        self._unwritten, self._trouble = [], ""
        self._snapshot, self._known, self._seen = result[0], result[0].generation, seen
        return result

    def _append(self, snapshot: Snapshot, item: _Unwritten) -> tuple[Snapshot, Decision, Transition | None]:
        after, decision, transition = step(self.policy, snapshot, item.event, item.at_s)
        if after != snapshot or item.verdict is not None:
            kept = (item.verdict, item.digest, item.prompt)
            self._journal.append(
                Entry(self.name, item.id, item.at_s, self.policy, item.event, after, transition, *kept)
            )
        return after, decision, transition

    def _read(self, journal: Sink) -> Snapshot:
        """Return what the journal says; a journal that forgot something is not believed."""
        snapshot = journal.last(self.name) or Snapshot()
        if snapshot.generation < self._known:
            back = f"the journal is back at generation {snapshot.generation} of {self.name!r} after {self._known}"
            raise ArtifactError(f"{back}: rows were lost; keep the file as evidence")
        return snapshot

    def _refresh(self, now_s: float) -> None:
        """Take over what other breakers of this name have written, or write at last what could not be written."""
        if self._journal is None:
            return
        try:
            if self._unwritten:
                if not 0 <= now_s - self._tried_s < RETRY_S:
                    self._tried_s = now_s
                    self._commit(None)
                return
            seen = self._journal.version()
            if seen != self._seen:
                self._snapshot, self._seen = self._read(self._journal), seen
                self._known = self._snapshot.generation
            self._trouble = ""
        except Exception as error:  # noqa: BLE001 - whatever the journal raises, the breaker goes by what it knows
            self._trouble = f"{type(error).__name__}: {error}"

    def _spill(self, trouble: str, row: dict[str, Any]) -> None:
        with suppress(OSError, ValueError, AttributeError):  # standard error may be closed, full or None
            sys.stderr.write(f"belief: journal degraded ({trouble}): {json.dumps(row, default=str)}\n")
            sys.stderr.flush()
