"""History: what came to a breaker, request by request, and what it made of it, to look at.

Each request is one cell: what its response came to, and beneath it a bar for the state of the breaker after it (light
closed, dark open, striped half open). An alarm shows how many of the last n were remembered as alarms just then, a
trip is named where it happened. `replay` makes such a history from verdicts, through the breaker's own `step`.

Limits: at most 600 requests are shown (the count of the others is said).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from monitors.breaker.rule import Ask, Decision, Judged, Policy, Snapshot, State, Transition, step
from monitors.verdict import Outcome, Verdict
from probes.look import ACCENT, FONT, GREY, INK, LIGHT, Html, said

__all__ = ["Request", "breaker_history", "replay"]

MOST = 600
STRIPES = f"repeating-linear-gradient(135deg,#fff 0 3px,{LIGHT} 3px 5px)"
BARS = {
    State.CLOSED: f"background:{LIGHT}",
    State.OPEN: f"background:{INK}",
    State.HALF_OPEN: f"background:repeating-linear-gradient(90deg,{INK} 0 3px,#fff 3px 6px)",
}
SHAPES = {
    "clear": "background:#e9ebee",
    "missed": f"background:#fff;border:2px solid {ACCENT}",
    "alarm": f"background:{ACCENT};color:#fff",
    "false alarm": f"background:{INK};color:#fff",
    "invalid": f"background:{INK};color:#fff",
    "blocked": f"background:{STRIPES};border:1px solid {LIGHT}",
}
MEANINGS = {
    "clear": "clear",
    "missed": "clear, though it uses the fact",
    "alarm": "alarm (number: alarms remembered)",
    "false alarm": "false alarm",
    "invalid": "could not be judged",
    "blocked": "blocked, never started",
}
BOX = (
    "display:block;height:20px;border-radius:3px;font-size:11px;line-height:20px;font-weight:600;box-sizing:border-box"
)
LETTERS = {"clear": ".", "missed": "o", "alarm": "A", "false alarm": "F", "invalid": "!", "blocked": "x"}


@dataclass(frozen=True)
class Request:
    """One request at a breaker."""

    kind: str
    """What it is an example of: "use", "same_subject", ..."""
    outcome: Outcome | None
    """What its response came to; None where it was blocked."""
    state: State
    """Of the breaker, after it."""
    alarms: int
    """Alarms that the breaker remembered after it."""
    request_id: str = ""
    """The caller's name for it."""
    transitions: tuple[Transition, ...] = ()
    """Changes of state that it brought about."""


def replay(policy: Policy, verdicts: Iterable[tuple[str, Verdict]], *, every_s: float = 1.0) -> tuple[Request, ...]:
    """Send verdicts through a fresh breaker, one request after the other.

    Args:
        policy: when to trip, and whether to block.
        verdicts: kind and verdict of each request, in the order of arrival; a blocked one's verdict goes unused.
        every_s: seconds from one request to the next.
    """
    snapshot, requests = Snapshot(), []
    for i, (kind, verdict) in enumerate(verdicts):
        snapshot, decision, asked = step(policy, snapshot, Ask(), i * every_s)
        outcome, judged = None, None
        if decision is not Decision.BLOCK:
            outcome, trial = verdict.outcome, snapshot.trial.number if snapshot.trial else 0
            event = Judged(outcome, snapshot.generation, trial, verdict.request_id, verdict.reason)
            snapshot, _, judged = step(policy, snapshot, event, i * every_s)
        moves = tuple(move for move in (asked, judged) if move is not None)
        requests.append(Request(kind, outcome, snapshot.state, sum(snapshot.window), verdict.request_id, moves))
    return tuple(requests)


def breaker_history(requests: Sequence[Request], *, target: str = "use") -> Html:
    """Return the requests as cells, with the breaker's state beneath and its transitions named.

    Args:
        requests: in the order of arrival.
        target: the kind that should alarm.
    """
    shown = requests[:MOST]
    classes = [_class(request, target) for request in shown]
    cells = "".join(_cell(i, r, c) for i, (r, c) in enumerate(zip(shown, classes, strict=True), start=1))
    if len(requests) > len(shown):
        cells += f'<span style="color:{GREY}">… and {len(requests) - len(shown)} more</span>'
    keys = "".join(_key(SHAPES[name], words) for name, words in MEANINGS.items() if name in classes)
    keys += "".join(
        _key(f"{BARS[state]};height:5px", f"breaker {said(state)}")
        for state in State
        if any(r.state is state for r in shown)
    )
    words = _words(requests)
    html = (
        f'<div role="group" aria-label="{escape(words)}" style="font:13px/1.4 {FONT};color:{INK};background:#fff">'
        f'<div style="display:flex;flex-wrap:wrap;gap:4px 2px;align-items:flex-start">{cells}</div>'
        f'<div style="margin-top:8px;color:{GREY};display:flex;flex-wrap:wrap;gap:2px 16px">{keys}</div></div>'
    )
    letters = "".join(LETTERS[name] + ("T" if _tripped(r) else "") for name, r in zip(classes, shown, strict=True))
    return Html(html, f"{words}\n{letters}")


def _class(request: Request, target: str) -> str:
    match request.outcome:
        case None:
            return "blocked"
        case Outcome.INVALID:
            return "invalid"
        case Outcome.ALARM:
            return "alarm" if request.kind == target else "false alarm"
    return "missed" if request.kind == target else "clear"


def _tripped(request: Request) -> bool:
    return any(move.after is State.OPEN for move in request.transitions)


def _cell(index: int, request: Request, name: str) -> str:
    counted = str(request.alarms or "&nbsp;")  # a trial that fails is not counted in the window
    inside = {"alarm": counted, "false alarm": counted, "invalid": "!"}.get(name, "&nbsp;")
    title = f"request {index}, {said(request.kind)}: {MEANINGS[name].split(' (')[0]}; breaker {said(request.state)}"
    pills = "".join(_pill(move, index) for move in request.transitions)
    return (
        f'<span title="{escape(title)}" style="display:block;width:20px;text-align:center">'
        f'<span style="{BOX};{SHAPES[name]}">{inside}</span>'
        f'<span style="display:block;height:5px;margin-top:2px;{BARS[request.state]}"></span></span>{pills}'
    )


def _pill(move: Transition, index: int) -> str:
    words = {State.OPEN: "tripped", State.CLOSED: "closed again", State.HALF_OPEN: "trial"}[move.after]
    style = f"border:1.5px solid {INK};border-radius:4px;padding:0 6px;height:20px;line-height:17px;font-weight:700"
    return f'<span title="{escape(move.reason)}" style="{style};white-space:nowrap">{words} at {index}</span>'


def _key(style: str, words: str) -> str:
    box = (
        f"display:inline-block;width:12px;height:12px;border-radius:2px;margin-right:6px;box-sizing:border-box;{style}"
    )
    return f'<span style="white-space:nowrap"><span style="{box}"></span>{escape(words)}</span>'


def _words(requests: Sequence[Request]) -> str:
    blocked = sum(request.outcome is None for request in requests)
    alarms = sum(request.outcome not in (None, Outcome.CLEAR) for request in requests)
    trips = [str(i) for i, request in enumerate(requests, start=1) if _tripped(request)]
    where = f"tripped at request {', '.join(trips)}" if trips else "never tripped"
    return f"{len(requests)} requests, {alarms} alarms, {blocked} blocked; {where}"
