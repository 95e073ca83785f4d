"""Piping: prompts in, guarded answers out, one request each; an alarm or an open breaker ends none of the others.

Plain lines are asked in the form that the certificate speaks of: as a chat with the certified system prompt, where that
is a chat.

Limits: every prompt is a conversation of its own.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from monitors.breaker.breaker import Breaker, BreakerOpen
from monitors.breaker.journal import Journal
from monitors.breaker.odds import default_k_of_n
from monitors.breaker.rule import Policy
from monitors.ledger import Ledger
from monitors.live.guard import Guarded, guard
from monitors.monitor import Monitor
from monitors.traffic import as_certified
from monitors.verdict import Verdict
from probes.errors import BadInput
from probes.model.language_model import Chat, load_model

__all__ = ["Answer", "guarded_pipe", "pipe"]


@dataclass(frozen=True)
class Answer:
    """What came of one prompt."""

    prompt: str | Chat
    """As it was given."""
    text: str
    """What was released."""
    verdict: Verdict | None
    """None where it was not answered."""
    refused: str = ""
    """Why it was not answered: the breaker is open, or the prompt cannot be scored."""

    @property
    def passed(self) -> bool:
        return self.verdict is not None and not self.verdict.alarmed

    @property
    def sentence(self) -> str:
        """What became of it, in words."""
        if self.verdict is None:
            return f"NOT ANSWERED: {self.refused}"
        certified = "" if self.verdict.certified else " (not certified)"
        return f"{self.verdict.outcome.name}{certified}: {self.verdict.reason}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; what is not finite is null."""
        verdict = None if self.verdict is None else asdict(self.verdict)
        for name in ("score", "statistic") if verdict else ():
            verdict[name] = verdict[name] if isfinite(verdict[name]) else None
        return {"prompt": self.prompt, "text": self.text, "verdict": verdict, "refused": self.refused}


def pipe(
    guarded: Guarded, prompts: Iterable[str | Chat], *, max_new_tokens: int | None = None, **options: Any
) -> Iterator[Answer]:
    """Answer one prompt after another.

    Args:
        guarded: from `guard`.
        prompts: texts or chats.
        max_new_tokens: the most tokens of an answer; the certificate's horizon if left out.
        options: those of `Guarded.generate`.

    Raises:
        BadInput: a single text in place of a list, or no prompt at all.
    """
    if isinstance(prompts, str):
        raise BadInput("prompts is one string; give a list of prompts")
    threshold = guarded.monitor.threshold
    length = threshold.horizon if max_new_tokens is None else max_new_tokens
    number = 0
    for number, prompt in enumerate(prompts, start=1):
        try:
            asked = as_certified(prompt, threshold)
            reply = guarded.generate([asked], max_new_tokens=length, request_id=str(number), **options)
        except (BreakerOpen, BadInput) as error:
            yield Answer(prompt, "", None, str(error))
        else:
            yield Answer(prompt, reply.texts[0], reply.verdicts[0])
    if not number:
        raise BadInput("there was no prompt: nothing was checked")


def guarded_pipe(
    source: str, folder: str | Path, prompts: Iterable[str | Chat], *, journal: str | Path | None = None,
    ledger: str | Path | None = None, max_new_tokens: int | None = None,
) -> Iterator[Answer]:  # fmt: skip
    """Open a model and a monitor, and answer one prompt after another.

    Args:
        source: of the model (see `load_model`).
        folder: of the monitor.
        prompts: texts or chats.
        journal: keeps trips; with it a breaker trips as the certified rate allows (`default_k_of_n`), else none does.
        ledger: counts streams.
        max_new_tokens: the most tokens of an answer; the certificate's horizon if left out.

    Raises:
        Mismatch: the monitor was made for another model.
    """
    monitor = Monitor.load(folder)
    model = load_model(source)
    with ExitStack() as stack:
        breaker = counted = None
        if journal is not None:
            policy = Policy(*default_k_of_n(monitor.threshold.rate))
            breaker = Breaker(policy, journal=stack.enter_context(Journal(journal)))
        if ledger is not None:
            counted = Ledger(ledger, monitor.threshold)
        yield from pipe(
            stack.enter_context(guard(model, monitor, breaker=breaker, ledger=counted)), prompts,
            max_new_tokens=max_new_tokens,
        )  # fmt: skip
