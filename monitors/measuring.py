"""Measure a monitor on responses it never saw, beside what a keyword or a bag of words would have done.

Every figure counts responses, one a frame and kind, with a Clopper-Pearson interval. All detectors get the same
prompts, the same responses and, where they have a threshold, the same certificate on the same calibration frames:
equal false alarms by promise.

- `probe`: the monitor itself.
- `keyword`: alarms when the response has spelled out the object. What a text filter behind the model does.
- `bag_of_words`: logistic regression on the words of the prompt, fitted on the training frames. What a text filter in
  front of the model does.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from monitors.calibration import calibrate
from monitors.live.guard import Guarded
from monitors.verdict import Verdict
from probes.activations.packing import length_batches
from probes.facts.contexts import BENIGN_KINDS, CONTEXT_KINDS, Context, Contexts
from probes.judging.controls import fit_bag_of_words
from probes.reading.metrics import Estimate, proportion, quantile
from probes.reading.streams import Stream

__all__ = ["Figures", "Watched", "bag_of_words_figures", "keyword_figures", "probe_figures", "spelled_at", "watch"]


@dataclass(frozen=True, eq=False)
class Watched:
    """One response that was watched."""

    context: Context
    """Its prompt."""
    stream: Stream
    """Its tokens and scores, whole: watched, not stopped."""
    verdict: Verdict
    """What it came to."""
    spelled: int | None
    """1-based token with which the object was spelled out; None where it was not."""


@dataclass(frozen=True)
class Figures:
    """What a detector did on the test responses; shares in [0, 1]."""

    recall: Estimate
    """Share of the responses to `use` prompts that alarmed."""
    false_alarms: Estimate
    """Share of all benign responses that alarmed."""
    by_kind: Mapping[str, Estimate]
    """Share that alarmed, by kind."""
    by_question: Mapping[str, Estimate]
    """Recall, by question form."""
    tokens_to_alarm: Estimate | None
    """Median number of tokens released before the alarm, over `use` responses that alarmed; None where none did."""
    before_spelled_out: Estimate | None
    """Share of the `use` responses that spell the object out in which the alarm came first; None where none does."""

    def to_dict(self) -> dict:
        """Return the figures as JSON values."""
        return {
            name: value.to_dict() if isinstance(value, Estimate) else None if value is None else _dicts(value)
            for name, value in vars(self).items()
        }


def _dicts(estimates: Mapping[str, Estimate]) -> dict[str, dict]:
    return {name: estimate.to_dict() for name, estimate in estimates.items()}


def watch(
    guarded: Guarded, contexts: Sequence[Context], object: str, *, horizon: int, batch_size: int = 32,
    progress: bool = False,
) -> list[Watched]:  # fmt: skip
    """Answer prompts under a guard and keep what came of them.

    Args:
        guarded: open with on_alarm="flag", so that the whole response is seen.
        contexts: the prompts.
        object: of the fact, to see when it is spelled out.
        horizon: tokens of a response.
        batch_size: prompts answered together.
        progress: show a bar on standard error, if that is a terminal.
    """
    batches = list(length_batches([guarded.model.encode(item.prompt) for item in contexts], batch_size))
    watched: list[Watched | None] = [None] * len(contexts)
    bar = tqdm(batches, desc="watching", unit="batch", disable=None if progress else True, leave=False)
    for number, batch in enumerate(bar):
        reply = guarded.generate(
            [contexts[i].prompt for i in batch], max_new_tokens=horizon, request_id=f"shadow-{number}"
        )
        for i, stream, verdict in zip(batch, reply.streams, reply.verdicts, strict=True):
            watched[i] = Watched(contexts[i], stream, verdict, spelled_at(stream.tokens, object))
    return watched


def spelled_at(tokens: Sequence[str], object: str) -> int | None:
    """Return the 1-based token with which a text has spelled out the object as a word of its own, or None.

    One or two letters are compared with their case, longer objects without.
    """
    pattern = re.compile(rf"(?<!\w){re.escape(object)}(?!\w)", 0 if len(object) <= 2 else re.IGNORECASE)
    found = pattern.search("".join(tokens))
    if not found:
        return None
    length = 0
    for i, token in enumerate(tokens, start=1):
        length += len(token)
        if length >= found.end():
            return i
    return None


def probe_figures(watched: Sequence[Watched]) -> Figures:
    """Return what the monitor did; a response that could not be judged is an alarm, as it is at the breaker."""
    return _figures(watched, [(item.verdict.token or 1) if item.verdict.alarmed else None for item in watched])


def keyword_figures(watched: Sequence[Watched]) -> Figures:
    """Return what a match of the object in the response would have done; the object is out when it alarms."""
    return _figures(watched, [None if item.spelled is None else item.spelled + 1 for item in watched])


def bag_of_words_figures(
    watched: Sequence[Watched], contexts: Contexts, *, rate: float, confidence: float, made: str
) -> Figures:
    """Return what a bag of words on the prompt would have done, certified as the monitor is."""
    train = contexts.of("train")
    score = fit_bag_of_words([item.text for item in train], [item.kind == "use" for item in train])
    benign = {kind: contexts.of("calibration", kind) for kind in BENIGN_KINDS}
    maxima = {
        kind: list(zip([item.frame for item in kept], score([item.text for item in kept]), strict=True))
        for kind, kept in benign.items()
    }
    limit = calibrate(maxima, horizon=1, made=made, rate=rate, confidence=confidence).value
    scores = score([item.context.text for item in watched])
    return _figures(watched, [1 if value > limit else None for value in scores])


def _figures(watched: Sequence[Watched], alarms: Sequence[int | None]) -> Figures:
    """`alarms`: the 1-based token that each response would have been stopped at; None where it alarmed nowhere."""
    pairs = list(zip(watched, alarms, strict=True))
    uses = [(item, at) for item, at in pairs if item.context.kind == "use"]
    released = [at - 1 for _, at in uses if at is not None]
    spelled = [(item.spelled, at) for item, at in uses if item.spelled is not None]
    kinds = {item.context.kind for item in watched}
    questions = sorted({item.context.question for item, _ in uses})
    return Figures(
        recall=_share([at for _, at in uses]),
        false_alarms=_share([at for item, at in pairs if item.context.kind != "use"]),
        by_kind={
            kind: _share([at for item, at in pairs if item.context.kind == kind])
            for kind in CONTEXT_KINDS
            if kind in kinds
        },
        by_question={text: _share([at for item, at in uses if item.context.question == text]) for text in questions},
        tokens_to_alarm=quantile(released, 0.5) if released else None,
        before_spelled_out=proportion(sum(at is not None and at <= last for last, at in spelled), len(spelled))
        if spelled
        else None,
    )


def _share(alarms: Sequence[int | None]) -> Estimate:
    return proportion(sum(at is not None for at in alarms), len(alarms))
