"""Receipt: what steering along a direction does to what a model says, beside random directions.

A contrast (contrasts.py) is a prompt with two answers; its readout is logit(answer) - logit(wrong) behind its last
token.

1. Dose-response. c * d is added at the last token of each prompt (c in residual norms), at -c, -c/2, c/2 and c; the
   slope of a contrast is (readout at c - readout at -c) / 2c.
2. Random directions: N(0, I) inside the top principal components of the activations at that site behind the same
   prompts (90 % of their variance, 10 components at least), of the same length, at -c and c. z = (slope - their
   mean) / their standard deviation, p = (1 + random slopes at least as large) / (1 + their number).
3. Wrong way: the share of contrasts whose slope is below 0.
4. Ablation: the direction is taken out at every write into the stream, for the whole prompt. `use` is the mean readout,
   counted the other way round where a statement is false; `ablation` is by how much that changes, beside random ones.
   A fact's own vector is ablated where the fact itself is asked for (`fact_uses`).
5. Cost: cross-entropy and KL on ordinary text, steered by c at every token; and ablated. Where no c is given it is the
   largest of 1, 1/2, ... 1/64 that costs at most .02 nats: a slope that breaks the model proves nothing.

All slots of a prompt share one pass (packing.py) that begins at the site's block, for below it they are alike: 200
steered last tokens cost 200 tokens of the blocks above, not 200 prompts.

Sources: Rimsky et al. 2024 (2312.06681), steering from the last token of the prompt on; Tan et al. 2024 (2407.12404),
inputs that move the wrong way; Arditi et al. 2024 (2406.11717), ablation at every write; Marks & Tegmark 2023
(2310.06824), section 6, a truth direction put to use.
Limits: one readout, of single tokens; a model that cannot judge statements in context shows no slope, whatever it
knows. z has a ceiling: where readouts are linear, no direction inside k components stands more than sqrt(k) standard
deviations out, so 5 takes 25 components and nearly the best direction there is (k stands in `how`). Answers whose first
token is the same are left out. The interval is over contrasts, not over directions.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from probes.activations.packing import Pass, Path, plan_passes
from probes.errors import BadInput, TooFew
from probes.facts.facts import Topic
from probes.model.hooks import edits, put_out_below, read_logits, starting_at
from probes.model.language_model import LanguageModel
from probes.model.sites import Site
from probes.reading.metrics import Estimate, mean, permutation_p, proportion
from probes.reading.probe import LinearProbe
from probes.steering.contrasts import Asked, Contrast, as_contrasts, encoded, whole_groups
from probes.steering.cost import Cost
from probes.steering.places import following
from probes.steering.randomness import random_directions
from probes.steering.vectors import SteeringVector, ablate, removing, steer, writes

__all__ = [
    "BARS",
    "MEANINGS",
    "bar_lines",
    "bar_words",
    "receipt",
    "shortfalls",
]

MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "readout": "readout without steering, in logits",
        "slope": "logits a residual norm, mean slope of the contrasts",
        "slope_z": "that slope in standard deviations of random directions",
        "slope_p": "share of random slopes at least as large (p)",
        "wrong_way": "contrasts that move the wrong way",
        "use": "readout where it is ablated, before that",
        "ablation": "what ablating the direction adds to the readout",
        "ablation_z": "that change in standard deviations of random directions",
        "ablation_p": "share of random ablations that lower it as much (p)",
        "cross_entropy": "cross-entropy on ordinary text, steered - plain, nats a token",
        "kl": "KL(plain || steered) on ordinary text, nats a token",
        "ablation_cross_entropy": "cross-entropy on ordinary text, ablated - plain, nats a token",
        "ablation_kl": "KL(plain || ablated) on ordinary text, nats a token",
    }
)
"""The figures of a receipt in the order of the table, in words; beside them `dose_...` and `random_...`, by dose."""

BARS: Mapping[str, tuple[str, float]] = MappingProxyType(
    {"slope_z": ("at least", 5.0), "wrong_way": ("at most", 0.1), "cross_entropy": ("at most", 0.02)}
)
"""What a figure must reach for the direction to count as one that the model uses."""
DESTROYED = 0.5
"""Nats a token beyond which a steered model is said to be destroyed: perplexity is 1.65 times what it was."""
BASIS_PROMPTS = 100
SLOTS = 512
"""Steered tokens a pass."""


@torch.no_grad()
def receipt(
    model: LanguageModel,
    what: SteeringVector | LinearProbe,
    source: Topic | Sequence[Any],
    *,
    uses: Sequence[Contrast] | None = None,
    coefficient: float | None = None,
    contrasts: int = 20,
    directions: int = 100,
    ablations: int = 20,
    seed: int = 0,
    progress: bool = False,
) -> Mapping[str, Estimate]:
    """Measure what steering along a direction does, for `dataclasses.replace(probe, receipt=...)`.

    Args:
        model: the model that the direction is of, without open edits.
        what: a probe or a vector.
        source: a topic or labelled statements (the model is asked whether they are true), or Contrasts.
        uses: Contrasts on which the direction is ablated, where those are other ones.
        coefficient: the largest dose, in residual norms; None: the largest that ordinary text can bear.
        contrasts: how many are asked, whole groups.
        directions: random directions to be steered along, 20 at least.
        ablations: how many of those are ablated, too; 0 measures no ablation.
        seed: of examples, draws and directions.
        progress: show a bar on standard error, if that is a terminal.

    Returns:
        The figures of `MEANINGS`, `dose_C` (change of the readout at dose C) and `random_C` (that of random directions:
        the median, with the range of the middle 95 %). Without `ablation...` where the architecture has no writes.

    Raises:
        BadInput: no source, a coefficient that is not above 0, a logit that is not finite, a site that reaches no
            readout. TooFew: fewer than 4 contrasts whose answers differ in their first token.
    """
    if coefficient is not None and not 0 < coefficient < float("inf"):
        raise BadInput(f"coefficient={coefficient!r}; give a number above 0, the receipt goes to both sides")
    if directions < 20 or ablations < 0 or contrasts < 4:
        raise TooFew(f"{directions} directions, {contrasts} contrasts; 20 and 4 are the least", 20)
    vector = what if isinstance(what, SteeringVector) else SteeringVector.from_probe(model, what)
    every = as_contrasts(source, seed)
    asked = encoded(model, every)
    chosen = whole_groups(asked, contrasts)
    prompts = [one.prompt for one in asked[: max(BASIS_PROMPTS, len(chosen))]]
    random, k = random_directions(model, prompts, vector.site, directions, seed=seed)
    cost = Cost.of(model)
    c, prices = cost.affordable(vector) if coefficient is None else (coefficient, None)
    prices = prices or cost.price(steer(model, vector, c))
    found = _responses(model, vector, chosen, random, c, progress)
    ceiling = f"; {k} components: where readouts are linear, no direction inside them exceeds {k**0.5:.1f}"
    found["slope_z"] = replace(found["slope_z"], how=found["slope_z"].how + ceiling)
    found |= {"cross_entropy": prices[0], "kl": prices[1]}
    if ablations and _has_writes(model):
        used = chosen if uses is None else whole_groups(encoded(model, uses), contrasts)
        found |= _ablations(model, vector, used, random[:ablations], progress)
        found["ablation_cross_entropy"], found["ablation_kl"] = cost.price(ablate(model, vector))
    return MappingProxyType({name: found[name] for name in [*MEANINGS, *found] if name in found})


def shortfalls(figures: Mapping[str, Estimate]) -> tuple[str, ...]:
    """Say in words which bars a receipt does not reach; nothing where it reaches all of them.

    A coefficient that destroys the model is the first thing it says.
    """
    said = []
    if "cross_entropy" in figures and figures["cross_entropy"].value > DESTROYED:
        more = figures["cross_entropy"].value
        said.append(f"this coefficient destroys the model: cross-entropy on ordinary text rises by {more:.2g} nats")
    if "ablation_cross_entropy" in figures and figures["ablation_cross_entropy"].value > DESTROYED:
        more = figures["ablation_cross_entropy"].value
        said.append(
            f"ablating destroys the model (cross-entropy rises by {more:.2g} nats), so what it does to the readout "
            "says nothing"
        )
    for name, (way, bar) in BARS.items():
        if name not in figures:
            said.append(f"{MEANINGS[name]}: not measured")
            continue
        if not _met(figures, name):
            said.append(f"{MEANINGS[name]}: {figures[name].interval()}, the bar is {way} {bar:g}")
    return tuple(said)


def bar_words(figures: Mapping[str, Estimate], name: str) -> str:
    """Say which bar one of `MEANINGS` has and whether it is reached: "at least 5: met"; nothing where it has none."""
    if name not in BARS:
        return ""
    way, bar = BARS[name]
    if name not in figures:
        return f"{way} {bar:g}: not measured"
    return f"{way} {bar:g}: {'met' if _met(figures, name) else 'not met'}"


def _met(figures: Mapping[str, Estimate], name: str) -> bool:
    """Whether a figure that has a bar reaches it."""
    (way, bar), value = BARS[name], figures[name].value
    return value >= bar if way == "at least" else value <= bar


def bar_lines(figures: Mapping[str, Estimate]) -> tuple[str, ...]:
    """Return a line a bar: what is measured, its figure, the bar and whether it is reached; of no receipt, that."""
    if not figures:
        return ("no receipt: nobody measured whether the model uses this direction",)
    return tuple(
        f"{MEANINGS[name]}: {figures[name].interval(3) if name in figures else '-'}, bar {bar_words(figures, name)}"
        for name in BARS
    )


def _responses(
    model: LanguageModel,
    vector: SteeringVector,
    chosen: Sequence[Asked],
    random: Float[Tensor, "draw d_model"],
    c: float,
    progress: bool,
) -> dict[str, Estimate]:
    """Return slopes and doses."""
    line = vector.direction.double()[None]
    doses = {dose: line if abs(dose) < c else torch.cat([line, random]) for dose in (-c, -c / 2, 0.0, c / 2, c)}
    shifts = torch.cat([dose * vector.scale * lines for dose, lines in doses.items()])
    bar = tqdm(chosen, desc="steering", unit="prompt", disable=None if progress else True, leave=False)
    reads = np.stack([_read_slots(model, vector.site, one, shifts) for one in bar])
    ends = np.cumsum([len(lines) for lines in doses.values()])[:-1]
    table = dict(zip(doses, np.split(reads, ends, axis=1), strict=True))
    slopes = (table[c] - table[-c]) / (2 * c)
    groups = [one.group for one in chosen]
    slope = _over_groups(
        slopes[:, 0], groups, f"mean slope of logit(answer) - logit(wrong) between -{c:g} and {c:g} residual norms"
    )
    nulls = slopes[:, 1:].mean(0)
    wrong, of = int((slopes[:, 0] < 0).sum()), f"up to {c:g} residual norms at {vector.site}"
    found = {
        "slope": slope,
        **_against(slope, nulls, "slope", "larger", f"random directions inside the top components, {of}"),
        "wrong_way": proportion(wrong, len(chosen), how=f"{wrong} of {len(chosen)} contrasts, {of}; Clopper-Pearson"),
    }
    plain = table.pop(0.0)
    found["readout"] = _over_groups(plain[:, 0], groups, "mean of logit(answer) - logit(wrong), not steered")
    for dose, read in table.items():
        change = read - plain
        found[f"dose_{dose:g}"] = _over_groups(change[:, 0], groups, f"mean change of the readout, steered by {dose:g}")
        if change.shape[1] > 1:
            how = f"mean change of the readout, random directions at {dose:g}"
            found[f"random_{dose:g}"] = _band(change[:, 1:].mean(0), how)
    return found


def _read_slots(
    model: LanguageModel, site: Site, one: Asked, shifts: Float[Tensor, "slot d_model"]
) -> Float[np.ndarray, "slot"]:
    """Return the readout of a prompt with each of some vectors added at its last token."""
    found, n = [], len(one.ids)
    window = getattr(model.config, "sliding_window", None)
    packs = not model.hooked and (window is None or n <= window) and model.packs
    below = put_out_below(model, site.layer, model.collate([one.ids])) if packs and site.layer else None
    for some in shifts.split(SLOTS if packs else max(1, SLOTS // n)):
        count = len(some)
        if packs:
            paths = tuple(Path(i, 0, (*range(n - 1), n - 1 + i)) for i in range(count))
            inputs = Pass((one.ids[:-1] + one.ids[-1:] * count,), paths, packed=True).inputs(model)
            row, slot = torch.zeros(count, dtype=torch.long), torch.arange(n - 1, n - 1 + count)
        else:
            inputs = model.collate([one.ids] * count)
            row, slot = torch.arange(count), torch.full((count,), n - 1)
        begun = nullcontext() if below is None else starting_at(model, site.layer, _with_slots(below, count))
        with begun, edits(model, {site: _scattering(some, row, slot)}):
            logits = read_logits(model, inputs, row, slot)
        found.append((logits[:, one.answer].double() - logits[:, one.wrong].double()).cpu())
    reads = torch.cat(found)
    if not torch.isfinite(reads).all():
        raise BadInput("a logit is not finite: the model is broken, or the coefficient overflows its dtype; lower it")
    return reads.numpy()


def _with_slots(output: Any, count: int) -> Any:
    """Return what a block put out for a prompt, with its last token in so many slots."""
    hidden = output if isinstance(output, Tensor) else output[0]
    slots = torch.cat([hidden[:, :-1], hidden[:, -1:].expand(-1, count, -1)], 1)
    return slots if isinstance(output, Tensor) else (slots, *output[1:])


def _scattering(shifts: Tensor, row: Tensor, slot: Tensor) -> Callable[[Tensor], Tensor]:
    def add(tensor: Tensor) -> Tensor:
        new = tensor.clone()
        new[row.to(tensor.device), slot.to(tensor.device)] += shifts.to(device=tensor.device, dtype=tensor.dtype)
        return new

    return add


def _ablations(
    model: LanguageModel,
    vector: SteeringVector,
    chosen: Sequence[Asked],
    random: Float[Tensor, "draw d_model"],
    progress: bool,
) -> dict[str, Estimate]:
    """Return the readout without and with the direction taken out of every write, beside random directions."""
    plain = torch.zeros(1, model.d_model, dtype=torch.float64)
    lines = torch.cat([plain, vector.direction.double()[None], random]).float()
    sites, signs = writes(model), np.array([one.sign for one in chosen])
    reads = np.zeros((len(chosen), len(lines)))
    planned = plan_passes(model, [one.ids for one in chosen], 16)
    for one in tqdm(planned, desc="ablating", unit="pass", disable=None if progress else True, leave=False):
        inputs, height = one.inputs(model), len(one.ids)
        texts = torch.tensor([path.text for path in one.paths])
        row, slot = (torch.tensor(at) for at in zip(*((p.row, p.slots[-1]) for p in one.paths), strict=True))
        for start in range(0, len(lines), step := max(1, 1024 // (height * one.width))):
            some = lines[start : start + step]
            several = {name: tensor.repeat(len(some), *[1] * (tensor.ndim - 1)) for name, tensor in inputs.items()}
            rows = torch.cat([row + height * i for i in range(len(some))])
            own = some.repeat_interleave(height, 0)[:, None]
            with following(model, "all") as places, edits(model, dict.fromkeys(sites, removing(own, places))):
                logits = read_logits(model, several, rows, slot.repeat(len(some)))
            pairs = [(chosen[i].answer, chosen[i].wrong) for i in texts.tolist()] * len(some)
            answer, wrong = torch.tensor(pairs, device=logits.device).T
            gaps = (logits.gather(1, answer[:, None]).double() - logits.gather(1, wrong[:, None]).double())[:, 0]
            reads[texts.numpy(), start : start + len(some)] = gaps.reshape(len(some), -1).cpu().numpy().T
    if not np.isfinite(reads).all():
        raise BadInput("a logit is not finite once the direction is ablated; load the model in float32")
    used = reads * signs[:, None]
    changes, groups = used[:, 1:] - used[:, :1], [one.group for one in chosen]
    effect = _over_groups(changes[:, 0], groups, "mean change of the readout where every write is ablated")
    against = _against(effect, changes[:, 1:].mean(0), "ablation", "smaller", "random directions, ablated")
    how = "mean readout without steering, counted the other way round for false statements"
    return {"use": _over_groups(used[:, 0], groups, how), "ablation": effect, **against}


def _over_groups(values: Float[np.ndarray, "contrast"], groups: Sequence[str], how: str) -> Estimate:
    """Return the mean of group means with Student's t interval over groups."""
    names, codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if len(names) < 2:
        raise TooFew("all contrasts are of one group, so a mean has no interval; give contrasts of 2 or more groups", 2)
    means = np.bincount(codes, values) / np.bincount(codes)
    found = mean(means)
    return Estimate(found.value, found.lower, found.upper, len(values), how=f"{how}; t over {len(names)} groups")


def _against(figure: Estimate, nulls: Float[np.ndarray, "draw"], name: str, way: str, of: str) -> dict[str, Estimate]:
    """Return z and p of a figure among those of random directions."""
    centre, spread = float(nulls.mean()), float(nulls.std(ddof=1)) if len(nulls) > 1 else 0.0
    if not spread > 0:
        raise BadInput(f"{of}: none changes the readout at all; steer at a site and token that reach it")
    z = [(value - centre) / spread for value in (figure.value, figure.lower, figure.upper)]
    beyond = int((nulls >= figure.value).sum() if way == "larger" else (nulls <= figure.value).sum())
    return {
        f"{name}_z": Estimate(*z, len(nulls), figure.confidence, f"in standard deviations of {len(nulls)} {of}"),
        f"{name}_p": permutation_p(beyond, len(nulls), of=of),
    }


def _band(values: Float[np.ndarray, "draw"], how: str) -> Estimate:
    low, middle, high = np.quantile(values, (0.025, 0.5, 0.975))
    return Estimate(middle, low, high, len(values), how=f"{how}: median and the middle 95 % of the directions")


def _has_writes(model: LanguageModel) -> bool:
    try:
        return bool(writes(model))
    except BadInput:
        return False
