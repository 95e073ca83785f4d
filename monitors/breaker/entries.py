"""Entries: what a journal keeps of an event, and how it is written down.

An entry is an event with the policy, the clock and what the breaker remembered afterwards, so that `step` can be run
again over the entries of a breaker and must come to the same. Only events that changed what is remembered are kept,
and every ALARM or INVALID even where it changed nothing (a late answer, a breaker that is open). A CLEAR that leaves
the window as it was, and an ask that passes a closed breaker, need no entry: running `step` over them changes nothing
either. So a quiet service writes nothing.

Written down it is canonical JSON: keys sorted, no spaces, floats as Python's shortest exact decimal, NaN and
infinities as words, ASCII only.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from monitors.breaker.rule import Ask, Event, ForceOpen, Judged, Policy, Reset, Snapshot, State, Transition, Trial
from monitors.verdict import Outcome, Verdict
from probes.errors import ArtifactError, BadInput

__all__ = ["Entry", "canonical", "decode", "encode", "prompt_digest", "prompt_text"]

EVENTS = {"ask": Ask, "judged": Judged, "reset": Reset, "force_open": ForceOpen}
NUMBERS = ("score", "statistic")


@dataclass(frozen=True)
class Entry:
    """What a journal keeps: an event that changed the breaker, or an alarm even where it changed nothing."""

    breaker: str
    """Name of the breaker."""
    id: str
    """Random, so that an entry is never written twice."""
    at_s: float
    """When it happened."""
    policy: Policy
    """Under which it was decided."""
    event: Event
    """What happened."""
    after: Snapshot
    """What the breaker remembered afterwards."""
    transition: Transition | None
    """What changed, if the state did."""
    verdict: Verdict | None = None
    """The verdict, where it was an ALARM or INVALID."""
    prompt_sha256: str = ""
    """Digest of the prompt, where it was given."""
    prompt: str | None = None
    """The prompt itself, where the journal was asked to keep it."""


def canonical(value: Any) -> str:
    """Return the one JSON text of plain data."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def encode(entry: Entry) -> str:
    """Write an entry's contents down; breaker and id have columns of their own."""
    names = {cls: name for name, cls in EVENTS.items()}
    body: dict[str, Any] = {
        "at_s": entry.at_s,
        "policy": asdict(entry.policy),
        "event": {"type": names[type(entry.event)], **asdict(entry.event)},
        "after": asdict(entry.after),
        "transition": None,
        "verdict": None,
        "prompt_sha256": entry.prompt_sha256,
    }
    if entry.transition is not None:
        body["transition"] = {"before": entry.transition.before, "who": entry.transition.who}
    if entry.verdict is not None:
        values = asdict(entry.verdict)
        body["verdict"] = values | {name: _word(values[name]) for name in NUMBERS}
    if entry.prompt is not None:
        body["prompt"] = entry.prompt
    return canonical(body)


def decode(breaker: str, entry_id: str, text: str) -> Entry:
    """Read what `encode` wrote.

    Raises:
        ArtifactError: it is something else.
    """
    try:
        body = json.loads(text)
        event = dict(body["event"])
        event = _of(EVENTS[event.pop("type")], event)
        after = dict(body["after"])
        trial = after.pop("trial")
        after["window"] = tuple(after["window"])
        snapshot = Snapshot(**after | {"state": State(after["state"]), "trial": trial and Trial(**trial)})
        verdict = body["verdict"]
        if verdict is not None:
            verdict = _of(Verdict, verdict | {name: float(verdict[name]) for name in NUMBERS})
        transition = body["transition"]
        if transition is not None:
            before, who = State(transition["before"]), transition["who"]
            at_s, generation = body["at_s"], snapshot.generation
            transition = Transition(before, snapshot.state, event, snapshot.reason, who, at_s, generation)
        policy = Policy(**body["policy"])
        prompt = body.get("prompt")
        return Entry(
            breaker, entry_id, body["at_s"], policy, event, snapshot, transition, verdict, body["prompt_sha256"], prompt
        )
    except (ValueError, TypeError, KeyError, AttributeError, BadInput) as error:
        raise ArtifactError(f"an entry that cannot be read ({type(error).__name__}: {error})") from error


def _of(cls: type, fields: Mapping[str, Any]) -> Any:
    """Build an event or a verdict, its outcome from the word."""
    return cls(**{name: Outcome(value) if name == "outcome" else value for name, value in fields.items()})


def _word(number: float) -> float | str:
    return number if math.isfinite(number) else str(number)


def prompt_digest(prompt: str | Sequence[Mapping[str, Any]]) -> str:
    """Return the sha256 of a prompt, a text or chat messages, as the journal keeps it.

    Limits: whoever can guess a prompt can check the guess against its digest.
    """
    return hashlib.sha256(prompt_text(prompt).encode("utf-8", "surrogatepass")).hexdigest()


def prompt_text(prompt: str | Sequence[Mapping[str, Any]]) -> str:
    """Return a prompt, a text or chat messages, as one text."""
    if isinstance(prompt, str):
        return prompt
    # A field that JSON does not know must not keep an alarm out of the journal.
    messages = [{str(name): value for name, value in message.items()} for message in prompt]
    return json.dumps(messages, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=repr)
