"""Audit: is a journal what was written, and does the rule come to the same?

1. Chain: hash_s = sha256(canonical JSON of [s, id, breaker, hash_(s-1), body]), hash_0 = 64 zeros. An edit of any
   column, a deletion, an insertion or a swap breaks it at the first row concerned, as a row's place is in its hash.
   The end is held by a note of the last number and hash beside the rows, and by any anchor that was kept elsewhere.
2. Replay: `step` over the recorded events, breaker by breaker, must give what was recorded after each.

Limits: a chain without a secret stops no one who recomputes all of it; only an anchor kept elsewhere does.
Source: Haber and Stornetta (1991), "How to time-stamp a digital document".
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from monitors.breaker.entries import Entry, canonical
from monitors.breaker.rule import Policy, Snapshot, step

__all__ = ["GENESIS", "Check", "chain_hash", "check_chain", "check_replay"]

GENESIS = "0" * 64


@dataclass(frozen=True)
class Check:
    """What an audit came to."""

    rows: int
    """Rows that were looked at and found right."""
    bad: int | None
    """Sequence number of the first row that is wrong or missing; None: all is well."""
    why: str
    """What is wrong with it."""

    @property
    def holds(self) -> bool:
        """Whether all is well."""
        return self.bad is None


def chain_hash(seq: Any, entry_id: Any, breaker: Any, previous: str, body: Any) -> str:
    """Return a row's hash; for columns of types that no row has, a word that no hash is."""
    try:
        return hashlib.sha256(canonical([seq, entry_id, breaker, previous, body]).encode("ascii")).hexdigest()
    except (TypeError, ValueError):
        return "no hash"


def check_chain(rows: Iterable[tuple], head: Sequence[tuple[int, str]], anchor: tuple[int, str] | None = None) -> Check:
    """Name the first row that is wrong or missing.

    Args:
        rows: (seq, id, breaker, body, previous, hash) in order of seq.
        head: what the note of the last row says: one (seq, hash).
        anchor: (seq, hash) noted elsewhere at some time.
    """
    n, previous = 0, GENESIS
    for n, (seq, entry_id, breaker, body, before, digest) in enumerate(rows, start=1):
        if seq != n:
            return Check(n - 1, n, f"row {n} is missing: the next one is {seq}")
        if before != previous or digest != chain_hash(seq, entry_id, breaker, previous, body):
            return Check(n - 1, n, f"row {n} is not what was written, or not where it was written")
        if anchor is not None and anchor[0] == n and anchor[1] != digest:
            return Check(n - 1, n, f"row {n} is not the one that was noted elsewhere: the journal was rewritten")
        previous = digest
    if anchor is not None and anchor[0] > n:
        return Check(n, n + 1, f"row {n + 1} is missing: row {anchor[0]} was noted elsewhere, the journal ends at {n}")
    if list(head) != [(n, previous)]:
        return Check(n, n + 1, f"row {n + 1} is missing, or the note of the last row was changed: it says {list(head)}")
    return Check(n, None, "")


def check_replay(entries: Iterable[tuple[int, Entry]], policy: Policy | None = None) -> Check:
    """Run the rule again and name the first row whose outcome differs from what was recorded.

    Args:
        entries: (seq, entry) in order.
        policy: the policy to replay under; None: for each row the one that was in force.
    """
    states: dict[str, Snapshot] = {}
    n = 0
    for n, (seq, entry) in enumerate(entries, start=1):
        before = states.get(entry.breaker, Snapshot())
        after, _, transition = step(policy or entry.policy, before, entry.event, entry.at_s)
        if after != entry.after or transition != entry.transition:
            said, says = (f"{found.state} ({found.reason or 'no reason'})" for found in (entry.after, after))
            return Check(n - 1, seq, f"row {seq} says {said}, the rule says {says}")
        states[entry.breaker] = after
    return Check(n, None, "")
