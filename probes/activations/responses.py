"""Activations of responses while they are generated: what the model held where it decided each token.

Decision t (0-based) is the last position of the forward pass that produced token t of the response, so decision 0 is
read at the last token of the prompt. A live monitor sees exactly these activations, and a probe for one is best
fitted on them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import StoppingCriteria

from probes.activations.capture import Activations
from probes.activations.packing import length_batches
from probes.errors import BadInput, CouldNotRun
from probes.model.hooks import taps
from probes.model.language_model import Chat, LanguageModel
from probes.model.sites import Site

__all__ = ["capture_responses"]


class _Keeper(StoppingCriteria):
    """Keeps the last position of every site each time a token was decided, if that decision is wanted."""

    def __init__(self, sites: Sequence[Site], wanted: Callable[[int], bool]):
        self._sites = sites
        self._wanted = wanted
        self._fresh: dict[Site, Tensor] = {}
        self._step = 0
        self.kept: list[Tensor] = []

    def hear(self, site: Site, tensor: Tensor) -> None:
        self._fresh[site] = tensor[:, -1].clone()  # later modules may work in place

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: object) -> Tensor:
        silent = [str(site) for site in self._sites if site not in self._fresh]
        if silent:
            raise CouldNotRun(f"no activations at {', '.join(silent)} while token {self._step + 1} was decided")
        if self._wanted(self._step):
            here = self._fresh[self._sites[0]].device
            self.kept.append(torch.stack([self._fresh[site].to(here) for site in self._sites]).float().cpu())
        self._fresh = {}
        self._step += 1
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@torch.no_grad()
def capture_responses(
    model: LanguageModel,
    prompts: Sequence[str | Chat],
    sites: Any = "resid_post.*",
    *,
    max_new_tokens: int = 24,
    every: int = 1,
    labels: Sequence[bool] | None = None,
    groups: Sequence[str] | None = None,
    batch_size: int = 32,
    progress: bool = False,
    **options: Any,
) -> Activations:
    """Generate a response to each prompt and keep what the model held where it decided the tokens.

    Args:
        model: the model that answers.
        prompts: texts or chats.
        sites: a site, a pattern, or several.
        max_new_tokens: the most tokens of a response; 1 reads only the decision on its first token.
        every: keep decisions 0, every, 2 * every, ...
        labels: one for each prompt.
        groups: one for each prompt: what must not be split between train and test.
        batch_size: prompts generated together.
        progress: show a bar on standard error, if that is a terminal.
        options: those of transformers' `generate`; greedy unless `do_sample` is given.

    Returns:
        Activations whose rows are decisions: `example` is the prompt, `position` the decision. Decisions after the
        end of a response are left out.

    Raises:
        BadInput: no prompts, or a number below 1. NotFound: a site that the model does not have.
    """
    if isinstance(prompts, str):
        raise BadInput("prompts is one string; give a list of prompts")
    prompts = list(prompts)
    for name, number in (("max_new_tokens", max_new_tokens), ("every", every), ("batch_size", batch_size)):
        if number < 1:
            raise BadInput(f"{name}={number}; it must be at least 1")
    for name, given in (("labels", labels), ("groups", groups)):
        if given is not None and len(given) != len(prompts):
            raise BadInput(f"{len(given)} {name} for {len(prompts)} prompts; give one for each")
    wanted = model.sites(sites)
    encoded = [model.encode(prompt) for prompt in prompts]
    if not encoded:
        raise BadInput("the list of prompts is empty; give at least one")
    batches = length_batches(encoded, batch_size)
    values, example, position = [], [], []
    for batch in tqdm(batches, desc="answering", unit="batch", disable=None if progress else True, leave=False):
        keeper = _Keeper(wanted, lambda step: step % every == 0)
        inputs = model.collate([encoded[i] for i in batch], side="left")
        with taps(model, wanted, keeper.hear):
            sequences = model.generate_ids(inputs, max_new_tokens=max_new_tokens, stopping=[keeper], **options)
        ids = sequences[:, inputs["input_ids"].shape[1] :].tolist()
        lengths = torch.tensor([model.response_length(row, **options)[0] for row in ids])
        steps = torch.arange(len(keeper.kept)) * every
        row, step = (steps[None, :] < lengths[:, None]).nonzero(as_tuple=True)
        values.append(torch.stack(keeper.kept)[step, :, row])
        example.append(torch.tensor(batch)[row])
        position.append(steps[step])
    examples = torch.cat(example)
    order = torch.argsort(examples, stable=True)
    rows = torch.cat(values)[order]
    return Activations(
        values={site: rows[:, i].contiguous() for i, site in enumerate(wanted)},
        example=examples[order],
        position=torch.cat(position)[order],
        tokens="response",
        texts=tuple(prompts),
        labels=None if labels is None else torch.tensor([bool(label) for label in labels]),
        groups=None if groups is None else tuple(map(str, groups)),
        fingerprint=model.fingerprint if model.bridge is None else {},
    )
