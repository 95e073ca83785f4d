"""Activation patching: which activation, at which layer and position, makes the model give the clean answer?

1. Run the clean prompt and keep its activation at one hook point of every layer.
2. Run the corrupted prompt; with both logit differences LD (see `tasks.py`) the scale is set: 0 = corrupted, 1 = clean.
3. For every layer and position run the corrupted prompt again with the clean activation put in there, and there alone:
   `effect[layer, position] = (LD_patched - LD_corrupted) / (LD_clean - LD_corrupted)`.

Clean goes into corrupted: "denoising". It shows what is enough to bring the answer back, not what the model cannot do
without. The positions of a layer are the rows of a batch, so n_layers forward passes do the whole table. A position
whose activation is the same in both runs, bit for bit, is not run: its effect is 0.

Sources: Meng et al. 2022 (arXiv:2202.05262, section 2.1, "causal tracing"), who corrupt by noise; Zhang & Nanda 2023
(arXiv:2309.16042), on corrupting by another prompt and on the logit difference; Heimersheim & Nanda 2024
(arXiv:2404.15255), on denoising against noising.
Limits: one position at a time, so what is spread over several shows in none of them fully, and what is there twice
shows twice. Another `wrong` gives another table. An effect may lie outside 0 to 1.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from circuits.tasks import Pair, PairTokens, last_logits
from probes.errors import BadInput, CouldNotRun, NotFound, nearest
from probes.model.hooks import Edit, edits, taps, unhooked_copy
from probes.model.language_model import LanguageModel, load_model
from probes.model.sites import SITE_NAMES, Site

__all__ = ["Patching", "as_bridge", "patch"]

LEAST_SEPARATION = 0.1
"""Logits by which clean and corrupted must differ: a tenth is 10 % in the odds. Rounding divided by less is noise."""


@dataclass(frozen=True, eq=False)
class Patching:
    """What each layer and position does for the answer."""

    effect: Float[Tensor, "layer position"]
    """float32 on the host; 0 = as corrupted, 1 = as clean, and beyond."""
    tokens: tuple[str, ...]
    """The clean prompt, token by token."""
    corrupted_tokens: tuple[str, ...]
    """The corrupted prompt, token by token."""
    clean: float
    """LD after the clean prompt, in logits."""
    corrupted: float
    """LD after the corrupted prompt, in logits."""
    site: str
    """The hook point that was patched, one of `SITE_NAMES`."""
    pair: Pair
    """Prompts and answers."""

    def __repr__(self) -> str:
        layers, positions = self.effect.shape
        differences = f"LD clean {self.clean:.2f}, corrupted {self.corrupted:.2f}"
        return f"Patching({self.site}, {layers} layers x {positions} positions, {differences})"

    @property
    def holders(self) -> tuple[tuple[int, int], ...]:
        """Where the effect is largest, from layer 0 up: `(position, last layer of it)`, a new entry at each move."""
        best = self.effect.argmax(dim=1).tolist()
        runs = [(position, len(list(run))) for position, run in groupby(best)]
        return tuple((position, sum(n for _, n in runs[: i + 1]) - 1) for i, (position, _) in enumerate(runs))

    @property
    def sentence(self) -> str:
        """What the table says, where it can be said in a sentence; empty otherwise.

        It can where the residual stream was patched, the largest effect moves no more than twice on its way up, and
        each position that holds it brings back half of the difference or more in some layer.
        """
        stays = self.holders
        starts = [0, *(last + 1 for _, last in stays)]
        strong = all(
            float(self.effect[start : last + 1, position].max()) >= 0.5
            for start, (position, last) in zip(starts, stays, strict=False)
        )
        if not self.site.startswith("resid_") or len(stays) > 3 or not strong:
            return ""
        parts = [f"{self._name(position)} until layer {last}" for position, last in stays[:-1]]
        end = ("then " if parts else "") + self._name(stays[-1][0]) + ("" if parts else " in every layer")
        return f"What tells {self.pair.answer.strip()} from {self.pair.wrong.strip()} sits {', '.join([*parts, end])}"

    def _name(self, position: int) -> str:
        if position == len(self.tokens) - 1:
            return "at the last token"
        token, count = self.tokens[position], self.tokens.count(self.tokens[position])
        which = f" ({self.tokens[: position + 1].count(token)} of {count})" if count > 1 else ""
        return f"on ‘{token.strip() or '␣'}’{which}"


@torch.no_grad()
def patch(
    model: LanguageModel, pair: Pair, site: str = "resid_pre", *, batch_size: int = 64, progress: bool = False
) -> Patching:
    """Put the clean activation into the corrupted run at every layer and position in turn.

    Args:
        model: plain or on a TransformerLens bridge; its hook points are the same.
        pair: what to compare.
        site: the hook point, without a layer: one of `SITE_NAMES`.
        batch_size: positions a forward pass.
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        Patching, with the effect of every layer and position.

    Raises:
        NotFound: no such hook point. CouldNotRun: the hooks did not fire.
        BadInput: the pair does not fit the model (see `Pair.tokens`) or is not told apart by it, a logit is not finite,
            or the hook point is not defined in this architecture.

    Source: Meng et al. 2022, section 2.1; Zhang & Nanda 2023, section 2.1.
    """
    if site not in SITE_NAMES:
        raise NotFound(f"{site!r} is no hook point; {nearest(str(site), SITE_NAMES)}")
    if batch_size < 1:
        raise BadInput(f"batch_size={batch_size}; it must be at least 1")
    ids = pair.tokens(model)
    held, clean, corrupted = _both_runs(model, ids, site)
    if not abs(clean - corrupted) >= LEAST_SEPARATION:
        raise BadInput(
            f"{model.name} does not tell the prompts apart: logit({pair.answer!r}) - logit({pair.wrong!r}) is "
            f"{clean:.3g} after {pair.clean!r} and {corrupted:.3g} after {pair.corrupted!r}; take facts that it knows"
        )
    effect = torch.zeros(model.n_layers, len(ids.clean))
    for where in tqdm(held, desc="patching", unit="layer", disable=None if progress else True):
        activation, differing = held[where]
        for positions in differing.split(batch_size) if len(differing) else ():
            with edits(model, {where: _put(activation, positions)}):
                patched = _difference(last_logits(model, [ids.corrupted] * len(positions)), ids)
            effect[where.layer, positions.cpu()] = (patched.cpu() - corrupted) / (clean - corrupted)
    tokens, corrupted_tokens = (tuple(model.tokenizer.decode([i]) for i in row) for row in (ids.clean, ids.corrupted))
    return Patching(effect, tokens, corrupted_tokens, clean, corrupted, site, pair)


def _both_runs(
    model: LanguageModel, ids: PairTokens, site: str
) -> tuple[Mapping[Site, tuple[Tensor, Tensor]], float, float]:
    """Return by site the clean activation and the positions where it differs; then both logit differences."""
    held: dict[Site, tuple[Tensor, Tensor]] = {}

    def keep(where: Site, tensor: Tensor) -> None:
        held[where] = tensor[0].clone(), (tensor[0] != tensor[1]).any(dim=-1).nonzero().flatten()

    sites = [Site(site, layer) for layer in range(model.n_layers)]
    with taps(model, sites, keep):
        clean, corrupted = _difference(last_logits(model, [ids.clean, ids.corrupted]), ids).tolist()
    if missing := [where for where in sites if where not in held]:
        raise CouldNotRun(
            f"the hook at {missing[0]} did not fire: the model was compiled or its modules replaced; load it afresh"
        )
    return held, clean, corrupted


def _difference(logits: Float[Tensor, "batch d_vocab"], ids: PairTokens) -> Float[Tensor, "batch"]:
    return logits[:, ids.answer] - logits[:, ids.wrong]


def _put(activation: Float[Tensor, "position d_model"], positions: Tensor) -> Edit:
    """Return the edit that gives row i of a batch the activation at the i-th of the positions."""

    def put(tensor: Tensor) -> Tensor:
        where = positions.to(tensor.device)
        new = tensor.clone()
        new[torch.arange(len(where), device=tensor.device), where] = activation.to(tensor.device)[where]
        return new

    return put


def as_bridge(model: LanguageModel) -> LanguageModel:
    """Return the same model on a TransformerLens bridge; the one given stays as it is.

    The bridge gets a copy of the weights (TransformerLens replaces modules inside what it wraps), on the same device
    and in the same dtype, without the hooks that others have attached. The result keeps the tokenizer of the model
    given, since a bridge's own may put a token in front of every text. The bridge itself is its `.bridge`.

    Raises:
        CouldNotRun: TransformerLens does not know the architecture.
    """
    if model.bridge is not None:
        return model
    from transformer_lens.model_bridge import TransformerBridge

    tokenizer = copy.deepcopy(model.tokenizer)
    # As if it were loaded so already: else TransformerLens loads it a second time by its name, perhaps from the hub.
    tokenizer.init_kwargs = {"name_or_path": "", **tokenizer.init_kwargs, "add_bos_token": True}
    try:
        bridge = TransformerBridge.boot_transformers(
            model.name,
            hf_model=unhooked_copy(model.module),
            tokenizer=tokenizer,
            dtype=model.dtype,
            device=str(model.device),
        )
    except (ValueError, RuntimeError) as error:
        kind, reason = type(model.module).__name__, " ".join(str(error).split())[:200]
        raise CouldNotRun(f"TransformerLens cannot take a {kind}: {reason}; patch the plain model instead") from error
    return replace(load_model(bridge), tokenizer=model.tokenizer, name=f"{model.name} on a TransformerLens bridge")
