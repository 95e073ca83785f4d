"""Guard: a model that cannot answer past an alarm.

    with guard(model, monitor, breaker=breaker) as guarded:
        reply = guarded.generate(["What is the capital of France?"], max_new_tokens=40)

Attaching and requesting are two lifetimes: the hooks go on once, and every `generate` is a request with a recording
    of its own. One request is:

1. ask the breaker whether it may start at all;
2. generate; a row whose score crosses stops at that token;
3. judge each row by the rule of a pass (`monitors.verdict`);
4. hand every verdict to the breaker, which commits what it decides, and every stream to the ledger;
5. act on alarms: raise, or ask a function what to say instead;
6. only then return, without the token that crossed and whatever came after it.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from monitors.breaker.breaker import Breaker, Permit
from monitors.ledger import Ledger
from monitors.live.recorder import Recorder
from monitors.live.streaming import Pieces, Releaser
from monitors.monitor import Monitor
from monitors.verdict import Outcome, Verdict, judge
from probes.errors import ArtifactError, BadInput, BeliefError, CouldNotRun
from probes.model.fingerprint import describe
from probes.model.language_model import Chat, LanguageModel, system_of
from probes.reading.streams import Stream

__all__ = ["Alarmed", "Guarded", "Reply", "Withheld", "guard"]

ACTIONS = ("stop", "flag", "raise")
Take = Callable[[int | str], bool]
"""Gets what is released, a token or a text; says whether it wants more."""


@dataclass(frozen=True, eq=False)
class Reply:
    """What a guarded request gives back, row by row."""

    sequences: Int[Tensor, "batch position"]
    """Prompt and response as token ids; what was withheld is padding."""
    texts: tuple[str, ...]
    """The released part of each response, and what a callable `on_alarm` put in the place of the rest."""
    verdicts: tuple[Verdict, ...]
    """One for each row."""
    streams: tuple[Stream, ...]
    """Tokens and scores of each response, the withheld ones included: they are evidence."""

    def __repr__(self) -> str:
        return f"Reply({', '.join(verdict.outcome.name for verdict in self.verdicts)})"


class Alarmed(BeliefError):
    """A response alarmed where `on_alarm` is "raise"; breaker, journal and ledger have it by then.

    Args:
        message: the whole sentence.
        reply: what the request gives back, with what was withheld left out.
    """

    exit_code = 1

    def __init__(self, message: str, reply: Reply):
        super().__init__(message)
        self.reply = reply


@dataclass(frozen=True, eq=False)
class Withheld:
    """A response that alarmed, as a callable `on_alarm` gets it."""

    prompt: str | Chat
    """What was asked."""
    text: str
    """What had been released before the alarm."""
    verdict: Verdict
    """Why the rest was withheld."""
    stream: Stream
    """Tokens and scores up to the one that crossed, which was not released."""


OnAlarm = str | Callable[[Withheld], str]


@dataclass(frozen=True, eq=False)
class _Request:
    """A request that was let in."""

    batch: dict[str, Tensor]
    asked: list[str | Chat]
    """Each prompt as it was asked."""
    names: list[str]
    options: dict[str, Any]
    permit: Permit | None
    certifiable: bool
    """Whether the prompts' form can be told: not of token ids."""


class Guarded:
    """A model under a monitor; made by `guard`."""

    def __init__(
        self, model: LanguageModel, monitor: Monitor, recorder: Recorder, breaker: Breaker | None,
        ledger: Ledger | None, on_alarm: OnAlarm, void: str,
    ):  # fmt: skip
        self.model = model
        self.monitor = monitor
        self.breaker = breaker
        self.ledger = ledger
        self._recorder = recorder
        self._on_alarm = on_alarm
        self._stop = on_alarm != "flag"
        self._void = void
        self._uncounted = ""

    def generate(
        self,
        prompts: str | Sequence[str | Chat] | None = None,
        *,
        request_id: str = "",
        max_new_tokens: int = 40,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **options: Any,
    ) -> Reply:
        """Generate under the monitor.

        Args:
            prompts: a text, or a list of texts or chats; or leave it out and give `input_ids` and `attention_mask`,
                padded on the left.
            request_id: written into verdicts and journal; rows of a batch get "/0", "/1", ... behind it.
            max_new_tokens: the most tokens a response may have. Beyond the certificate's horizon a stream is
                uncertified, and its verdict says so.
            input_ids, attention_mask: Int["batch position"], in place of prompts.
            options: some of transformers' (`probes.model.generation.OPTIONS`); greedy unless `do_sample` is given.

        Raises:
            BreakerOpen: the breaker does not let the request start.
            BadInput: an option or a batch that cannot be scored; the breaker is not asked then.
            Alarmed: a row alarmed, and `on_alarm` is "raise".
        """
        return self._finish(self._start(prompts, request_id, max_new_tokens, input_ids, attention_mask, options))

    def stream(
        self, prompt: str | Chat, *, request_id: str = "", max_new_tokens: int = 40, **options: Any
    ) -> Pieces[Reply]:
        """Generate under the monitor and release the text piece by piece, each after the verdict on its tokens.

            for piece in (pieces := guarded.stream("What is the capital of France?")):
                print(piece, end="", flush=True)
            print(pieces.reply.verdicts[0].reason)

        Args:
            prompt: a text or a chat.
            request_id, max_new_tokens, options: see `generate`.

        Returns:
            An iterator over texts; `.reply` is what `generate` would return, `.close()` ends the response early. The
            response is made in a thread of its own, and is made whole if nobody closes it.

        Raises:
            BreakerOpen, BadInput: see `generate`; at once. Alarmed: behind the pieces that were released.
        """
        started = self._start([prompt], request_id, max_new_tokens, None, None, options)
        return Pieces(lambda take: self._finish(started, take), self._text)

    def _start(
        self, prompts: Any, request_id: str, max_new_tokens: int, input_ids: Tensor | None,
        attention_mask: Tensor | None, options: dict[str, Any],
    ) -> "_Request":  # fmt: skip
        """Check a request, and ask the breaker for it."""
        batch, asked = self._batch(prompts, input_ids, attention_mask)
        options = {**options, "max_new_tokens": max_new_tokens}
        self.model.check_generation(batch, options)
        rows = len(batch["input_ids"])
        names = [f"{request_id}/{row}" if rows > 1 else request_id for row in range(rows)]
        permit = self.breaker.ask(rows=rows) if self.breaker else None
        return _Request(batch, asked, names, options, permit, prompts is not None)

    @torch.no_grad()
    def _finish(self, request: "_Request", take: Take | None = None) -> Reply:
        """Answer a request, hand its verdicts on, then act on alarms; `take` gets each token that is released."""
        recorded = 0
        try:
            void = self._why_void(request.options, request.asked if request.certifiable else [])
            reply = self._answer(request, void or self._uncounted, take)
            for verdict, prompt in zip(reply.verdicts, request.asked, strict=True):
                if self.breaker:
                    self.breaker.record(verdict, request.permit, prompt=prompt)
                recorded += 1
        except BaseException as error:
            for name, prompt in list(zip(request.names, request.asked, strict=True))[recorded:]:
                if self.breaker:  # what ended without a verdict is no pass
                    ended = Verdict.invalid(f"the request ended with {type(error).__name__}", request_id=name)
                    self.breaker.record(ended, request.permit, prompt=prompt)
            raise
        if not void:
            self._count(reply)
        return self._act(reply, request.asked, take)

    def _act(self, reply: Reply, asked: Sequence[str | Chat], take: Take | None) -> Reply:
        """Raise, or put in the place of what was withheld what a callable says; else leave the reply as it is."""
        alarmed = [row for row, verdict in enumerate(reply.verdicts) if verdict.alarmed]
        if self._on_alarm == "raise" and alarmed:
            why = "; ".join(f"row {row}: {reply.verdicts[row].reason}" for row in alarmed)
            raise Alarmed(f"{self.monitor.concept}: {why}", reply)
        if isinstance(self._on_alarm, str) or not alarmed:
            return reply
        texts = list(reply.texts)
        for row in alarmed:
            held = Withheld(asked[row], texts[row], reply.verdicts[row], reply.streams[row])
            instead = self._on_alarm(held)
            if not isinstance(instead, str):
                raise BadInput(f"on_alarm gave {instead!r} for row {row}; it returns a text, '' for none")
            texts[row] += instead
            if take is not None:
                take(instead)
        return replace(reply, texts=tuple(texts))

    def _count(self, reply: Reply) -> None:
        """Hand streams that the certificate speaks for to the ledger; where it cannot take them, say so from now on."""
        if self.ledger is None:
            return
        pairs = zip(reply.streams, reply.verdicts, strict=True)
        try:
            self.ledger.add([None if verdict.outcome is Outcome.INVALID else stream for stream, verdict in pairs])
            self._uncounted = ""
        except (CouldNotRun, ArtifactError) as error:
            self._uncounted = f"the streams before it could not be counted: {error}"

    def _batch(
        self, prompts: Any, input_ids: Tensor | None, attention_mask: Tensor | None
    ) -> tuple[dict[str, Tensor], list[str | Chat]]:
        """Return the batch, and each prompt as it was asked, for the journal."""
        if (prompts is None) == (input_ids is None):
            raise BadInput("give either prompts, or input_ids and attention_mask")
        if prompts is not None:
            asked = [prompts] if isinstance(prompts, str) else prompts
            return self.model.inputs(asked), list(asked)
        if attention_mask is None:
            if len(input_ids) > 1 or bool((input_ids == self.model.pad).any()):
                raise BadInput("input_ids without attention_mask; give it, or padding would be read as text")
            attention_mask = torch.ones_like(input_ids)
        if input_ids.shape != attention_mask.shape:
            raise BadInput(
                f"input_ids {tuple(input_ids.shape)} and attention_mask {tuple(attention_mask.shape)} differ"
            )
        batch = {"input_ids": input_ids.to(self.model.device), "attention_mask": attention_mask.to(self.model.device)}
        kept = [ids[mask.bool()] for ids, mask in zip(input_ids, attention_mask, strict=True)]
        return batch, [self.model.tokenizer.decode(ids) for ids in kept]

    def _answer(self, request: "_Request", void: str, take: Take | None) -> Reply:
        threshold, options = self.monitor.threshold, request.options
        start = request.batch["input_ids"].shape[1]
        with self._recorder.request(request.batch["input_ids"], limits=threshold.limits, stop=self._stop) as recording:
            handing = [] if take is None else [Releaser(recording, take, hold=self._stop)]
            sequences = self.model.generate_ids(request.batch, **options, stopping=[recording, *handing])
        released, texts, verdicts, streams = sequences.clone(), [], [], []
        rows = zip(sequences[:, start:].tolist(), recording.scores(), request.names, strict=True)
        for row, (ids, scores, name) in enumerate(rows):
            length, finished = self.model.response_length(ids, **options)
            trace = threshold.trace(scores)
            at = self._stopped_at(trace)
            if self._stop and at <= length:  # what stands behind a stopped row is padding, too
                length, finished = at, False
            ids, scores, trace = ids[:length], scores[:length], {name: of[:length] for name, of in trace.items()}
            about = {"probes": len(self.monitor.probes), "request_id": name}
            deaf = recording.deaf if len(scores) < length else ""
            verdict = judge(scores.tolist(), length, threshold, trace=trace, deaf=deaf, **about)
            if verdict.certified and void:
                verdict = replace(verdict, certified=False, reason=f"{verdict.reason}; not certified: {void}")
            shown = (verdict.token or 1) - 1 if self._stop and verdict.alarmed else length
            released[row, start + shown :] = self.model.pad
            texts.append(self._text(ids[:shown]))
            verdicts.append(verdict)
            streams.append(Stream(tokens=self.model.words(ids)[: len(scores)], scores=scores, finished=finished))
        return Reply(released, tuple(texts), tuple(verdicts), tuple(streams))

    def _text(self, ids: Sequence[int]) -> str:
        return self.model.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _stopped_at(self, trace: Mapping[str, Sequence[float]]) -> float:
        """Return the 1-based token at which a row was over, by the values of the statistics that stopped it."""
        limits = self.monitor.threshold.limits
        firsts = [
            next((t for t, value in enumerate(values, start=1) if not value <= limits[name]), math.inf)
            for name, values in trace.items()
        ]  # so written, a NaN is over
        return min(firsts)

    def _why_void(self, options: dict[str, Any], asked: Sequence[str | Chat]) -> str:
        """Say why the certificate does not speak for a request, or nothing."""
        threshold = self.monitor.threshold
        if threshold.ended(date.today()):
            return f"the certificate ended on {threshold.valid_until}"
        if self.ledger is not None and (why := self._revoked(self.ledger)):
            return why
        certified, now = threshold.generation, self.model.generation_settings(options)
        unlike = [name for name in sorted({*certified, *now}) if certified.get(name) != now.get(name)]
        if unlike:
            return f"calibrated with other generation settings ({', '.join(unlike)})"
        form, systems = threshold.prompt_mix.get("form"), threshold.systems
        if form is not None and any(isinstance(prompt, str) is (form == "chat") for prompt in asked):
            return f"calibrated on prompts in {form} form"
        if form == "chat" and systems and any(system_of(prompt) not in systems for prompt in asked):
            return "calibrated with another system prompt"
        return self._void

    def _revoked(self, ledger: Ledger) -> str:
        """Say why the ledger speaks against the certificate, after a look at what others have counted."""
        try:
            ledger.refresh()
        except (CouldNotRun, ArtifactError) as error:
            return f"the ledger cannot be read: {error}"
        return ledger.sentence if ledger.revoked else ""


@contextmanager
def guard(
    model: LanguageModel,
    monitor: Monitor,
    *,
    breaker: Breaker | None = None,
    ledger: Ledger | None = None,
    on_alarm: OnAlarm = "stop",
    allow: Collection[str] = (),
) -> Iterator[Guarded]:
    """Attach a monitor to a model for a while.

    Args:
        model: the model to watch; it must be the one the monitor was made for.
        monitor: probes with their threshold.
        breaker: decides whether requests may start; gets every verdict.
        ledger: counts the streams since the certificate; once it revokes it, no verdict is certified.
        on_alarm: "stop" withholds the response from the crossing token on; "flag" only says so; "raise" withholds it
            and raises `Alarmed` once everybody has the verdict; a function withholds it, gets the `Withheld` and
            returns the text to put in its place ("" for none): a refusal, or what another model has to say.
        allow: parts of the model that may differ from the monitor's (see `Monitor.match`); no verdict is
            certified then.

    Raises:
        Mismatch: the monitor was made for another model.
        BadInput: an unknown action, or a ledger of another certificate.
    """
    if on_alarm not in ACTIONS and not callable(on_alarm):
        raise BadInput(
            f"on_alarm={on_alarm!r} is no action; give one of {', '.join(map(repr, ACTIONS))}, or a function"
        )
    if ledger is not None and ledger.threshold != monitor.threshold:
        raise BadInput("the ledger is of another certificate than the monitor's; open it with monitor.threshold")
    differing = monitor.match(model, allow)
    void = f"another model ({describe(differing)})" if differing else ""
    recorder = Recorder(monitor.probes)
    with recorder.attached(model):
        yield Guarded(model, monitor, recorder, breaker, ledger, on_alarm, void)
