"""Recorder: from accepted tokens to streams, while a model generates.

1. Taps sit on the probes' sites for as long as the recorder is attached; each forward pass leaves its last position.
2. When generation accepts a token, what was left is scored, and that is the score of the token: it was read where the
   token was decided.
3. Running statistics take the score in. A row is over where one of them is above its limit, or is not finite.

Nothing is copied to the host before the request ends: a step adds one product a site, and a few operations a statistic
on the model's device.

Liveness: every accepted token needs a fresh activation from every site, of one forward pass. If a site was silent or
heard twice, or more than one token was accepted at once, the recording is deaf from there on and every row stops: no
verdict of such a row can be a pass.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm
from transformers import StoppingCriteria

from probes.activations.packing import length_batches
from probes.errors import BadInput, CouldNotRun
from probes.model.hooks import taps
from probes.model.language_model import Chat, LanguageModel
from probes.model.sites import Site
from probes.reading.probe import LinearProbe
from probes.reading.statistics import State, parse_statistic
from probes.reading.streams import Stream, score_tokens

__all__ = ["Recorder", "Recording", "record", "record_each"]

NONE: Mapping[str, float] = MappingProxyType({})


class Recording(StoppingCriteria):
    """The scores of one request, one row a response; also the criterion that stops rows which are over the limit.

    Args:
        probes: what scores; the largest score counts.
        batch: rows and positions of the prompts.
        limits: by the name of a statistic; a row is over where that is larger, or is not finite.
        stop: whether a row that is over stops.
    """

    def __init__(
        self,
        probes: Sequence[LinearProbe],
        batch: tuple[int, int],
        *,
        limits: Mapping[str, float] = NONE,
        stop: bool = False,
    ):
        self._probes = probes
        self._sites = sorted({probe.site for probe in probes})
        self._limits = [(parse_statistic(name), limit) for name, limit in limits.items()]
        self._states: list[State | None] = [None] * len(self._limits)
        self._stop = stop
        self._fresh: dict[Site, Float[Tensor, "batch d_model"]] = {}
        self._passes: Counter[Site] = Counter()
        self._scores: list[Float[Tensor, "batch"]] = []
        self._over: Bool[Tensor, "batch"] | None = None
        self._rows, self._width = batch
        self.deaf = ""
        """Why the scores are incomplete, or nothing."""

    def hear(self, site: Site, tensor: Float[Tensor, "batch position d_model"]) -> None:
        """Keep the last position of a forward pass: the place that decides the next token."""
        self._passes[site] += 1
        self._fresh[site] = tensor[:, -1].clone()  # later modules may work in place

    def __call__(self, input_ids: Int[Tensor, "batch position"], scores: Tensor, **_: object) -> Bool[Tensor, "batch"]:
        """Take one accepted token into account; return which rows must stop."""
        grown = input_ids.shape[1] - self._width
        self._rows, self._width = input_ids.shape
        silent = [str(site) for site in self._sites if site not in self._fresh]
        if silent:
            self.deaf = f"no activations at {', '.join(silent)} in this forward pass"
        elif grown != 1:
            self.deaf = f"{grown} tokens were accepted after one forward pass"
        elif max(self._passes.values()) > 1:
            self.deaf = "more than one forward pass ran for one token, so what was heard may not be what decided it"
        if self.deaf:
            return torch.ones(self._rows, dtype=torch.bool, device=input_ids.device)
        new = score_tokens(self._probes, self._fresh).to(input_ids.device)
        self._fresh, self._passes = {}, Counter()
        self._scores.append(new)
        self._over = torch.zeros_like(new, dtype=torch.bool) if self._over is None else self._over
        for i, (statistic, limit) in enumerate(self._limits):
            values, self._states[i] = statistic.update(new.unsqueeze(-1), self._states[i])
            self._over = self._over | ~(values[..., 0] <= limit)  # so written, a NaN is over
        return self._over if self._stop else torch.zeros_like(self._over)

    @property
    def over(self) -> Bool[Tensor, "batch"]:
        """Which rows are over by now: a statistic is above its limit or not finite, or the recording is deaf."""
        if self.deaf or self._over is None:
            return torch.full((self._rows,), bool(self.deaf))
        return self._over

    def scores(self) -> Float[Tensor, "batch token"]:
        """Return all scores so far on the host, in one copy."""
        return torch.stack(self._scores, dim=1).float().cpu() if self._scores else torch.empty(self._rows, 0)


class Recorder:
    """Taps at the probes' sites that hand what they read to the recording of the request running in this context."""

    def __init__(self, probes: Sequence[LinearProbe]):
        self.probes = tuple(probes)
        self._current: ContextVar[Recording | None] = ContextVar("recording", default=None)

    @contextmanager
    def attached(self, model: LanguageModel) -> Iterator[None]:
        """Attach once, for many requests."""
        with taps(model, {probe.site for probe in self.probes}, self._hear):
            yield

    @contextmanager
    def request(
        self, input_ids: Int[Tensor, "batch position"], *, limits: Mapping[str, float] = NONE, stop: bool = False
    ) -> Iterator[Recording]:
        """Record the answers to some prompts; requests in other threads and tasks have recordings of their own."""
        recording = Recording(self.probes, tuple(input_ids.shape), limits=limits, stop=stop)
        token = self._current.set(recording)
        try:
            yield recording
        finally:
            self._current.reset(token)

    def _hear(self, site: Site, tensor: Tensor) -> None:
        recording = self._current.get()
        if recording is not None:
            recording.hear(site, tensor)


def record(
    model: LanguageModel,
    probes: Sequence[LinearProbe],
    prompts: Sequence[str | Chat],
    *,
    max_new_tokens: int,
    batch_size: int = 32,
    progress: bool = False,
    **options: Any,
) -> list[Stream]:
    """Generate a response to each prompt and return its stream; nothing is judged or stopped. For calibration.

    Args:
        model: the model that answers.
        probes: what scores; the largest score counts.
        prompts: texts or chats.
        max_new_tokens: the most tokens of a response: the horizon of what is calibrated on these streams.
        batch_size: prompts generated together.
        progress: show a bar on standard error, if that is a terminal.
        options: those of transformers' `generate`; greedy unless `do_sample` is given.
    """
    about = {"max_new_tokens": max_new_tokens, "batch_size": batch_size, "progress": progress}
    (streams,) = record_each(model, [probes], prompts, **about, **options)
    return streams


def record_each(
    model: LanguageModel,
    several: Sequence[Sequence[LinearProbe]],
    prompts: Sequence[str | Chat],
    *,
    max_new_tokens: int,
    batch_size: int = 32,
    progress: bool = False,
    **options: Any,
) -> list[list[Stream]]:
    """As `record`, for several sets of probes that score the very same responses.

    Args:
        several: sets of probes; of each set the largest score counts.
        model, prompts, max_new_tokens, batch_size, progress, options: see `record`.

    Returns:
        For each set the streams, one a prompt.
    """
    if isinstance(prompts, str):
        raise BadInput("prompts is one string; give a list of prompts")
    if not prompts or batch_size < 1:
        raise BadInput(f"{len(prompts)} prompts, {batch_size} at a time; both are at least 1")
    recorders = [Recorder(probes) for probes in several]
    streams: list[list[Stream | None]] = [[None] * len(prompts) for _ in recorders]
    batches = list(length_batches([model.encode(prompt) for prompt in prompts], batch_size))
    with ExitStack() as attached:
        for recorder in recorders:
            attached.enter_context(recorder.attached(model))
        for batch in tqdm(batches, desc="recording", unit="batch", disable=None if progress else True, leave=False):
            inputs = model.inputs([prompts[i] for i in batch])
            with ExitStack() as requests:
                heard = [requests.enter_context(recorder.request(inputs["input_ids"])) for recorder in recorders]
                ids = model.generate_ids(inputs, max_new_tokens=max_new_tokens, stopping=heard, **options)
            prompt = inputs["input_ids"].shape[1]
            told = []  # once for all sets: the text of a response is slower to come by than its scores
            for row in ids[:, prompt:].tolist():
                length, finished = model.response_length(row, **options)
                told.append((length, model.words(row[:length]), finished))
            for mine, recording in zip(streams, heard, strict=True):
                if recording.deaf:
                    raise CouldNotRun(f"the responses could not be scored: {recording.deaf}")
                for i, (length, words, finished), scores in zip(batch, told, recording.scores(), strict=True):
                    mine[i] = Stream(words, scores[:length], finished=finished)
    return streams
