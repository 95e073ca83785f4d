"""Guard: a model that cannot answer past an alarm.

    with guard(model, monitor, breaker=breaker) as guarded:
        reply = guarded.generate(["What is the capital of France?"], max_new_tokens=40)

Attaching and requesting are two lifetimes: the hooks go on once, and every `generate` is a request with a recording
    of its own. One request is:

1. ask the breaker whether it may start at all;
2. generate; a row whose score crosses stops at that token;
3. judge each row by the rule of a pass (`monitors.verdict`);
4. hand every verdict to the breaker, which commits what it decides;
5. only then return, without the token that crossed and whatever came after it.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from monitors.breaker.breaker import Breaker
from monitors.live.recorder import Recorder, Recording
from monitors.monitor import Monitor
from monitors.verdict import Verdict, judge
from probes.errors import BadInput
from probes.model.language_model import Chat, LanguageModel
from probes.reading.streams import Stream

__all__ = ["Guarded", "Reply", "guard"]

ACTIONS = ("stop", "flag")
NOT_YET = (
    "num_beams", "num_return_sequences", "assistant_model", "prompt_lookup_num_tokens",
    "streamer", "stopping_criteria", "stop_strings", "generation_config",
)  # fmt: skip
"""Ways to generate in which one forward pass may not decide one token of one row; refused, not scored wrongly."""


@dataclass(frozen=True, eq=False)
class Reply:
    """What a guarded request gives back, row by row."""

    sequences: Int[Tensor, "batch position"]
    """Prompt and response as token ids; what was withheld is padding."""
    texts: tuple[str, ...]
    """The released part of each response."""
    verdicts: tuple[Verdict, ...]
    """One for each row."""
    streams: tuple[Stream, ...]
    """Tokens and scores of each response, the withheld ones included: they are evidence."""

    def __repr__(self) -> str:
        return f"Reply({', '.join(verdict.outcome.name for verdict in self.verdicts)})"


class Guarded:
    """A model under a monitor; made by `guard`."""

    def __init__(
        self, model: LanguageModel, monitor: Monitor, recorder: Recorder, breaker: Breaker | None, on_alarm: str
    ):
        self.model = model
        self.monitor = monitor
        self.breaker = breaker
        self._recorder = recorder
        self._stop = on_alarm == "stop"

    @torch.no_grad()
    def generate(
        self,
        prompts: str | Sequence[str | Chat] | None = None,
        *,
        request_id: str = "",
        max_new_tokens: int = 40,
        **options: Any,
    ) -> Reply:
        """Generate under the monitor.

        Args:
            prompts: a text, or a list of texts or chats; or leave it out and give `input_ids` and `attention_mask`,
                padded on the left.
            request_id: written into verdicts and journal; rows of a batch get "/0", "/1", ... behind it.
            max_new_tokens: the most tokens a response may have. Beyond the certificate's horizon a stream is
                uncertified, and its verdict says so.
            options: those of transformers' `generate`; greedy unless `do_sample` is given.

        Raises:
            BreakerOpen: the breaker does not let the request start.
            BadInput: a way to generate that cannot be scored yet, or a batch padded on the right.
        """
        batch = self._batch(prompts, options)
        permit = self.breaker.ask(rows=len(batch["input_ids"])) if self.breaker else None
        try:
            with self._recorder.request(limit=self.monitor.threshold.value, stop=self._stop) as recording:
                options = {**options, "max_new_tokens": max_new_tokens}
                sequences = self.model.generate_ids(batch, **options, stopping_criteria=[recording])
        except BaseException as error:
            if self.breaker:
                for _ in batch["input_ids"]:
                    ended = Verdict.invalid(f"the request ended with {type(error).__name__}", request_id=request_id)
                    self.breaker.record(ended, permit)
            raise
        reply = self._reply(sequences, batch["input_ids"].shape[1], recording, request_id, options)
        if self.breaker:
            for verdict, ids in zip(reply.verdicts, batch["input_ids"], strict=True):
                self.breaker.record(
                    verdict, permit, prompt=self.model.tokenizer.decode(ids) if verdict.alarmed else None
                )
        return reply

    def _batch(self, prompts: Any, options: dict[str, Any]) -> dict[str, Tensor]:
        refused = [name for name in NOT_YET if options.get(name) not in (None, 1)]
        if refused:
            raise BadInput(
                f"{', '.join(refused)} cannot be guarded: one pass must decide one token of each row; leave it out"
            )
        if prompts is None:
            if "input_ids" not in options:
                raise BadInput("nothing to generate from; give prompts, or input_ids and attention_mask")
            ids = options.pop("input_ids")
            mask = options.pop("attention_mask", torch.ones_like(ids))
            if not mask[:, -1].all():
                raise BadInput("the batch is padded on the right, where the answer goes; pad on the left")
            return {"input_ids": ids, "attention_mask": mask}
        return self.model.inputs([prompts] if isinstance(prompts, str) else prompts)

    def _reply(
        self, sequences: Tensor, start: int, recording: Recording, request_id: str, options: dict[str, Any]
    ) -> Reply:
        released, texts, verdicts, streams = sequences.clone(), [], [], []
        for row, (ids, scores) in enumerate(zip(sequences[:, start:].tolist(), recording.scores(), strict=True)):
            length = self.model.response_length(ids, **options)
            if self._stop:  # what stands behind a stopped row is padding, too
                length = min(length, self._stopped_at(scores))
            ids, scores = ids[:length], scores[:length]
            name = f"{request_id}/{row}" if len(sequences) > 1 else request_id
            verdict = judge(
                scores.tolist(), length, self.monitor.threshold, probes=len(self.monitor.probes),
                deaf=recording.deaf if len(scores) < length else "", request_id=name,
            )  # fmt: skip
            shown = (verdict.token or 1) - 1 if self._stop and verdict.alarmed else length
            released[row, start + shown :] = self.model.pad
            texts.append(self.model.tokenizer.decode(ids[:shown], skip_special_tokens=True))
            verdicts.append(verdict)
            words = tuple(self.model.tokenizer.decode([i]) for i in ids[: len(scores)])
            streams.append(Stream(tokens=words, scores=scores, finished=length < max(options["max_new_tokens"], 1)))
        return Reply(released, tuple(texts), tuple(verdicts), tuple(streams))

    def _stopped_at(self, scores: Tensor) -> float:
        over = (~(scores <= self.monitor.threshold.value)).nonzero()
        return int(over[0]) + 1 if len(over) else float("inf")


@contextmanager
def guard(
    model: LanguageModel,
    monitor: Monitor,
    *,
    breaker: Breaker | None = None,
    on_alarm: str = "stop",
    allow: Collection[str] = (),
) -> Iterator[Guarded]:
    """Attach a monitor to a model for a while.

    Args:
        model: the model to watch; it must be the one the monitor was made for.
        monitor: probes with their threshold.
        breaker: decides whether requests may start; gets every verdict.
        on_alarm: "stop" withholds the response from the crossing token on; "flag" only says so.
        allow: parts of the model that may differ from the monitor's (see `Monitor.match`).

    Raises:
        Mismatch: the monitor was made for another model. BadInput: an unknown action.
    """
    if on_alarm not in ACTIONS:
        raise BadInput(f"on_alarm={on_alarm!r} is no action; give one of {', '.join(map(repr, ACTIONS))}")
    monitor.match(model, allow)
    recorder = Recorder(monitor.probes)
    with recorder.attached(model):
        yield Guarded(model, monitor, recorder, breaker, on_alarm)
