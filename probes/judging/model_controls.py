"""Controls that need the model: what reads as knowledge and is none of its doing.

1. Log-probability: the statement's own, summed or per token, whichever ranks the test texts better (a choice in favour
   of the control).
2. Layer 0: the method of the probe refitted on resid_pre.0 at the same tokens of the same training texts: what the
   tokens say before any block has looked anything up.
3. Random weights: the method refitted at the same site and tokens of a model of the same architecture whose weights
   were drawn anew, as its configuration initialises them: what mixing tokens at random is worth (Conneau et al. 2018).

Each comes with the probe's paired lead over it. The cost: one pass with logits over the test texts, one pass over
training and test texts (layer 0 adds next to nothing), and the memory of a second model while that runs.

Where layer 0 or the random model leaves the probe's own method nothing to invert (every text ends with the same full
stop, so its embedding is constant), logistic regression takes its place, and `how` says so; a constant scores .5.

Sources: Hewitt & Liang 2019 (1909.03368); Conneau et al. 2018 (1805.01070), random encoders; Zhang & Bowman 2018
(1809.10040), untrained layers.
Limits: one drawing of weights. Activations of generated responses cannot be read again from their prompts, so only the
log-probability is added to those.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probes.activations.capture import Activations, read_rows
from probes.activations.likelihood import token_likelihoods
from probes.activations.tokens import TokenRule
from probes.errors import BadInput, CouldNotRun
from probes.judging.controls import solve
from probes.judging.splits import row_groups, row_labels
from probes.model.language_model import LanguageModel, load_model
from probes.model.sites import Site
from probes.reading.metrics import Estimate, auroc, auroc_difference
from probes.reading.probe import LinearProbe

__all__ = ["controls", "log_probability", "random_twin", "reread"]

CHUNK = 256
"""Texts whose every token is held at once while the wanted ones are picked."""
FIRST_SEED = 1 << 31
"""Far from the seeds people draw models of their own with, or the twin of such a model is that model; 32 bits count."""


@runtime_checkable
class Found(Protocol):
    """What `controls` needs of a Sweep."""

    best: LinearProbe
    train: Activations
    test: Activations


def controls(
    found: Found, model: LanguageModel, *, seed: int = 0, batch_size: int = 32, progress: bool = False
) -> Mapping[str, Estimate]:
    """Return the controls of a sweep's best probe with those that need the model, for `found.with_controls(...)`.

    Args:
        found: what `sweep` returned.
        model: the model whose activations were swept.
        seed: of the random weights.
        batch_size: texts a forward pass.
        progress: show a bar on standard error, if that is a terminal.

    Raises:
        Mismatch: the activations are another model's.
    """
    if found.best.fingerprint:
        found.best.match(model)
    test, site, method = found.test, found.best.site, found.best.method
    labels, groups = row_labels(test), row_groups(test)
    ran = {"log_probability": _log_probability(model, test, batch_size, progress)}
    if test.tokens != "response":
        options = {"batch_size": batch_size, "progress": progress}
        bottom = Site("resid_pre", 0)
        values = [reread(model, part, bottom, **options) for part in (found.train, test)]
        ran["layer_0"] = _refitted(method, found.train, *values, f"{bottom}")
        twin = random_twin(model, seed=seed)
        values = [reread(twin, part, site, **options) for part in (found.train, test)]
        ran["random_weights"] = _refitted(method, found.train, *values, f"{site} of random weights, seed {seed}")
    scores = found.best.scores(test.values[site])
    added = {}
    for name, (control, said) in ran.items():
        own = auroc(control, labels, groups=groups)
        added[name] = replace(own, how=f"{said}; {own.how}")
        added[f"over_{name}"] = auroc_difference(scores, control, labels, groups=groups)
    return MappingProxyType({**found.best.controls, **added})


def _log_probability(model: LanguageModel, test: Activations, batch_size: int, progress: bool) -> tuple[Tensor, str]:
    total, tokens = log_probability(model, test.texts, batch_size=batch_size, progress=progress)
    ways = {"summed over tokens": total[test.example], "per token": (total / tokens)[test.example]}
    way = max(ways, key=lambda name: auroc(ways[name], row_labels(test)).value)
    return ways[way], f"log-probability {way}"


def _refitted(
    method: str,
    train: Activations,
    features: Float[Tensor, "row d_model"],
    others: Float[Tensor, "other d_model"],
    where: str,
) -> tuple[Float[Tensor, "other"], str]:
    """Return how a method fitted on the rows of `train`, read elsewhere, scores other rows; and what to call that."""
    if not (features.amax(0) > features.amin(0)).any():
        return torch.zeros(len(others), dtype=torch.float64), f"{where}: the same at every training text"
    labellings = row_labels(train)[:, None]
    try:
        weights, biases = solve(method, train, features, labellings)
    except (BadInput, CouldNotRun):
        method = "logistic"
        weights, biases = solve(method, train, features, labellings)
    return (others.double() @ weights + biases)[:, 0], f"{method} refitted at {where}"


def random_twin(model: LanguageModel, *, seed: int = 0) -> LanguageModel:
    """Return a model of the same architecture, dtype and tokenizer with weights drawn anew as its configuration says.

    The global generator is as it was before.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(FIRST_SEED + seed)
        # Drawn on the host, so that a seed gives the same weights on every device.
        module = type(model.module)._from_config(copy.deepcopy(model.module.config), dtype=model.dtype)
    return load_model(module.to(model.device), tokenizer=model.tokenizer)


def reread(
    model: LanguageModel, acts: Activations, site: Site, *, batch_size: int = 32, progress: bool = False
) -> Float[Tensor, "row d_model"]:
    """Return what a model holds at a site at the very tokens that `acts` has rows of.

    Raises:
        BadInput: the activations are of generated responses, which are not in their texts.
    """
    if acts.tokens == "response":
        raise BadInput("these are activations of generated responses, which cannot be read again from their prompts")
    rule, _, parts = acts.tokens.partition(" of ")
    if rule == "mean":
        mean = TokenRule("mean", tuple(parts.split(" and ")) if parts else "text")
        rows = read_rows(model, acts.texts, (site,), mean, batch_size=batch_size, progress=progress)
        return rows.values[site][acts.example]
    # Whatever rule picked them, rows are told by text and position: read all tokens of some texts, keep those.
    found = torch.empty(len(acts.example), model.d_model)
    for start in range(0, len(acts.texts), CHUNK):
        texts = acts.texts[start : start + CHUNK]
        rows = read_rows(model, texts, (site,), TokenRule("all"), start=start, batch_size=batch_size, progress=progress)
        first = torch.bincount(rows.example, minlength=len(texts)).cumsum(0).roll(1)
        first[0] = 0
        mine = (acts.example >= start) & (acts.example < start + len(texts))
        found[mine] = rows.values[site][first[acts.example[mine] - start] + acts.position[mine]]
    return found


def log_probability(
    model: LanguageModel, texts: Sequence[Any], *, batch_size: int = 32, progress: bool = False
) -> tuple[Float[Tensor, "example"], Int[Tensor, "example"]]:
    """Return the log-probability that the model gives each text after its first token, and how many tokens that counts.

    Args:
        model: the model.
        texts: strings or chats.
        batch_size: texts a forward pass.
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        Sums in nats, float64; and the number of tokens in each sum, at least 1 (a text of one token has the sum 0).
    """
    encoded = [model.encode(text) for text in texts]
    found = token_likelihoods(model, encoded, [1] * len(encoded), batch_size=batch_size, progress=progress)
    return found.total, found.tokens.clamp(min=1)
