"""Receipt: what steering along a direction does to what a model says, beside random directions.

A contrast is a prompt with two answers; its readout is logit(answer) - logit(wrong) behind its last token.

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

Truth is asked of a topic or of statements: after two true and two false ones with their verdicts the statement itself,
steered at its own last token, where a truth probe reads; answers True and False. A fact's own vector is asked on the
prompts of other facts: its object against theirs (`fact_contrasts`).

All slots of a prompt share one pass (packing.py): 200 steered last tokens cost 200 tokens, not 200 prompts.

Sources: Rimsky et al. 2024 (2312.06681), steering from the last token of the prompt on; Tan et al. 2024 (2407.12404),
inputs that move the wrong way; Arditi et al. 2024 (2406.11717), ablation at every write; Marks & Tegmark 2023
(2310.06824), section 6, a truth direction put to use.
Limits: one readout, of single tokens; a model that cannot judge statements in context shows no slope, whatever it
knows. z has a ceiling: where readouts are linear, no direction inside k components stands more than sqrt(k) standard
deviations out, so 5 takes 25 components and nearly the best direction there is (k stands in `how`). Answers whose first
token is the same are left out. The interval is over contrasts, not over directions.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from probes.activations.packing import Pass, Path, length_batches, plan_passes
from probes.errors import BadInput, TooFew
from probes.facts.facts import Fact, Topic
from probes.facts.wordings import ordinary_texts
from probes.judging.controls import plain_text
from probes.knowing.places import following
from probes.knowing.steering import SteeringVector, ablate, removing, steer, writes
from probes.model.hooks import edits, read_logits, run_to
from probes.model.language_model import Chat, LanguageModel
from probes.model.sites import Site
from probes.reading.metrics import Estimate, mean, proportion
from probes.reading.probe import LinearProbe

__all__ = [
    "BARS",
    "MEANINGS",
    "Contrast",
    "fact_contrasts",
    "fact_uses",
    "fact_vector",
    "receipt",
    "shortfalls",
    "truth_contrasts",
]

MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "readout": "readout without steering, in logits",
        "slope": "logits a residual norm, mean slope of the contrasts",
        "slope_z": "the same in standard deviations of random directions",
        "slope_p": "share of random slopes at least as large (p)",
        "wrong_way": "contrasts that move the wrong way",
        "use": "readout where it is ablated, before that",
        "ablation": "what ablating the direction adds to that",
        "ablation_z": "the same in standard deviations of random directions",
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
AFFORDABLE = 0.02
LADDER = tuple(2.0**-i for i in range(7))
SHOTS = 4
COST_TEXTS = 24
BASIS_PROMPTS = 100
VARIANCE, LEAST_COMPONENTS = 0.9, 10
SLOTS = 512
"""Steered tokens a pass."""


@dataclass(frozen=True)
class Contrast:
    """A prompt and two ways to go on."""

    prompt: str | Chat
    """What the model reads; steered at its last token."""
    answer: str
    """What steering should make likelier; it follows a text after one space."""
    wrong: str
    """What it is compared with."""
    group: str
    """What is one case: the entity."""
    label: bool | None = None
    """Whether the statement in the prompt is true; None where there is none."""


def truth_contrasts(statements: Sequence[Any], *, seed: int = 0) -> tuple[Contrast, ...]:
    """Return a contrast of True and False for each statement, behind the same four statements with their verdicts.

    Args:
        statements: Statements or LabelledTexts; those of the four groups that serve as examples are left out.
        seed: draws the examples and shuffles the groups.

    Raises:
        BadInput: they are not labelled texts. TooFew: not two groups beside the examples.
    """
    if not len(statements) or not all(hasattr(statement, "label") for statement in statements):
        raise BadInput("a receipt needs statements with labels, at least one; give a topic, or load_statements(...)")
    rng = np.random.default_rng([seed, 6])
    groups = sorted({statement.group for statement in statements})
    order = [groups[i] for i in rng.permutation(len(groups))]
    members: dict[str, list[Any]] = {group: [] for group in order}
    for statement in statements:
        members[statement.group].append(statement)
    shown, used = [], set()
    for label in (True, False, False, True)[:SHOTS]:
        free = (g for g in order if g not in used and any(bool(s.label) == label for s in members[g]))
        group = next(free, None)
        if group is None:
            raise TooFew(f"{len(groups)} groups leave none for the four examples of a receipt; give 6 or more", 6)
        used.add(group)
        shown.append(next(s for s in members[group] if bool(s.label) == label))
    head = "".join(f"{plain_text(s.text)} {bool(s.label)}\n" for s in shown)
    rest = [statement for group in order if group not in used for statement in members[group]]
    if len({statement.group for statement in rest}) < 2:
        raise TooFew(f"{len(groups)} groups are too few for a receipt beside its four examples; give 6 or more", 6)
    return tuple(Contrast(f"{head}{plain_text(s.text)}", "True", "False", s.group, bool(s.label)) for s in rest)


def fact_contrasts(topic: Topic, fact: Fact, *, seed: int = 0) -> tuple[Contrast, ...]:
    """Return the prompts of a topic's other facts, with the object of `fact` as answer and their own as wrong.

    Raises:
        TooFew: the topic has no other facts with other objects.
    """
    others = [other for other in topic.facts if other.subject != fact.subject and other.object != fact.object]
    if len(others) < 2:
        raise TooFew(f"topic {topic.name!r} has {len(others)} other facts to ask; give one with 2 or more", 2)
    rng = np.random.default_rng([seed, 7])
    return tuple(
        Contrast(topic.cloze(others[i]), fact.object, others[i].object, others[i].subject)
        for i in rng.permutation(len(others))
    )


def fact_uses(topic: Topic, fact: Fact, *, seed: int = 0) -> tuple[Contrast, ...]:
    """Return the prompt of a fact with its object as answer, once for each other object of the topic as wrong.

    Raises:
        TooFew: as `fact_contrasts`.
    """
    others = fact_contrasts(topic, fact, seed=seed)
    return tuple(Contrast(topic.cloze(fact), fact.object, other.wrong, other.group) for other in others)


def fact_vector(model: LanguageModel, topic: Topic, fact: Fact, site: Site | str, *, seed: int = 0) -> SteeringVector:
    """Make the vector of a fact: behind its prompt, less the mean behind half of the topic's other prompts.

    It is made on the second half of `fact_contrasts`, so that the first can be asked.
    """
    others = fact_contrasts(topic, fact, seed=seed)
    away = [other.prompt for other in others[len(others) // 2 :]]
    return SteeringVector.from_texts(model, [topic.cloze(fact)], away, site, concept=fact.id)


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
    every = _contrasts(source, seed)
    asked = _encoded(model, every)
    chosen = _whole_groups(asked, contrasts)
    rng = np.random.default_rng([seed, 5])
    prompts = [one.ids for one in asked[: max(BASIS_PROMPTS, len(chosen))]]
    random, k = _inside_components(_last_rows(model, prompts, vector.site), directions, rng)
    cost = _Cost.of(model)
    c, prices = _affordable(model, vector, cost) if coefficient is None else (coefficient, None)
    prices = prices or cost.price(steer(model, vector, c))
    found = _responses(model, vector, chosen, random, c, progress)
    ceiling = f"; {k} components: where readouts are linear, no direction inside them exceeds {k**0.5:.1f}"
    found["slope_z"] = replace(found["slope_z"], how=found["slope_z"].how + ceiling)
    found |= {"cross_entropy": prices[0], "kl": prices[1]}
    if ablations and _has_writes(model):
        used = chosen if uses is None else _whole_groups(_encoded(model, uses), contrasts)
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
        value = figures[name].value
        if value < bar if way == "at least" else value > bar:
            said.append(f"{MEANINGS[name]}: {figures[name].interval()}, the bar is {way} {bar:g}")
    return tuple(said)


@dataclass(frozen=True, eq=False)
class _Asked:
    """A contrast as the model reads it."""

    ids: list[int]
    answer: int
    wrong: int
    group: str
    sign: int


def _contrasts(source: Topic | Sequence[Any], seed: int) -> tuple[Contrast, ...]:
    if isinstance(source, Topic):
        return truth_contrasts(source.statements(), seed=seed)
    if isinstance(source, str) or not len(source):
        raise BadInput("there is nothing to ask; give a topic, statements with labels, or Contrasts")
    if all(isinstance(one, Contrast) for one in source):
        return tuple(source)
    return truth_contrasts(source, seed=seed)


def _encoded(model: LanguageModel, contrasts: Sequence[Contrast]) -> list[_Asked]:
    """Return those whose answers differ in their first token."""
    asked = []
    for one in contrasts:
        space = " " if isinstance(one.prompt, str) else ""
        answer, wrong = (
            model.tokenizer(space + text, add_special_tokens=False)["input_ids"] for text in (one.answer, one.wrong)
        )
        if answer and wrong and answer[0] != wrong[0]:
            sign = -1 if one.label is False else 1
            asked.append(_Asked(model.encode(one.prompt), answer[0], wrong[0], one.group, sign))
    if len(asked) < 4:
        raise TooFew(
            f"{len(asked)} of {len(contrasts)} contrasts have answers that differ in their first token; give 4 or more",
            4,
        )
    return asked


def _whole_groups(asked: Sequence[_Asked], most: int) -> list[_Asked]:
    members: dict[str, list[_Asked]] = {}
    for one in asked:
        members.setdefault(one.group, []).append(one)
    chosen: list[_Asked] = []
    for some in members.values():
        if not chosen or len(chosen) + len(some) <= most:
            chosen += some
    return chosen


def _last_rows(model: LanguageModel, prompts: Sequence[Sequence[int]], site: Site) -> Float[Tensor, "prompt d_model"]:
    """Return the activation at the last token of each prompt."""
    rows: list[Tensor | None] = [None] * len(prompts)
    for one in plan_passes(model, prompts, 16):
        held: list[Tensor] = []
        run_to(model, [site], lambda _, tensor: held.append(tensor.float().cpu()), one.inputs(model))  # noqa: B023
        for path in one.paths:
            rows[path.text] = held[0][path.row, path.slots[-1]]
    return torch.stack(rows)


def _inside_components(
    rows: Float[Tensor, "row d_model"], draws: int, rng: np.random.Generator
) -> tuple[Float[Tensor, "draw d_model"], int]:
    """Return random unit vectors inside the top principal components of some rows, and how many components."""
    centred = rows.double() - rows.double().mean(0)
    _, sizes, axes = torch.linalg.svd(centred, full_matrices=False)
    share = (sizes**2).cumsum(0) / (sizes**2).sum()
    sound = int((sizes > 1e-9 * sizes[0]).sum())
    if not sound or not torch.isfinite(share).all():
        raise BadInput("the activations behind these prompts are all alike, so they have no principal components")
    count = min(max(int((share < VARIANCE).sum()) + 1, LEAST_COMPONENTS), sound)
    drawn = torch.from_numpy(rng.standard_normal((draws, count))) @ axes[:count]
    return drawn / drawn.norm(dim=-1, keepdim=True), count


def _responses(
    model: LanguageModel,
    vector: SteeringVector,
    chosen: Sequence[_Asked],
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
    model: LanguageModel, site: Site, one: _Asked, shifts: Float[Tensor, "slot d_model"]
) -> Float[np.ndarray, "slot"]:
    """Return the readout of a prompt with each of some vectors added at its last token."""
    found, n = [], len(one.ids)
    window = getattr(model.config, "sliding_window", None)
    packs = not model.hooked and (window is None or n <= window) and model.packs
    for some in shifts.split(SLOTS if packs else max(1, SLOTS // n)):
        count = len(some)
        if packs:
            paths = tuple(Path(i, 0, (*range(n - 1), n - 1 + i)) for i in range(count))
            inputs = Pass((one.ids[:-1] + one.ids[-1:] * count,), paths, packed=True).inputs(model)
            row, slot = torch.zeros(count, dtype=torch.long), torch.arange(n - 1, n - 1 + count)
        else:
            inputs = model.collate([one.ids] * count)
            row, slot = torch.arange(count), torch.full((count,), n - 1)
        with edits(model, {site: _scattering(some, row, slot)}):
            logits = read_logits(model, inputs, row, slot)
        found.append((logits[:, one.answer].double() - logits[:, one.wrong].double()).cpu())
    reads = torch.cat(found)
    if not torch.isfinite(reads).all():
        raise BadInput("a logit is not finite: the model is broken, or the coefficient overflows its dtype; lower it")
    return reads.numpy()


def _scattering(shifts: Tensor, row: Tensor, slot: Tensor) -> Callable[[Tensor], Tensor]:
    def add(tensor: Tensor) -> Tensor:
        new = tensor.clone()
        new[row.to(tensor.device), slot.to(tensor.device)] += shifts.to(device=tensor.device, dtype=tensor.dtype)
        return new

    return add


def _ablations(
    model: LanguageModel,
    vector: SteeringVector,
    chosen: Sequence[_Asked],
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
    share, p = proportion(beyond, len(nulls)), (1 + beyond) / (1 + len(nulls))
    how = f"(1 + {beyond}) / (1 + {len(nulls)} {of}); Clopper-Pearson interval of the share"
    return {
        f"{name}_z": Estimate(*z, len(nulls), figure.confidence, f"in standard deviations of {len(nulls)} {of}"),
        f"{name}_p": Estimate(p, share.lower, max(share.upper, p), len(nulls), share.confidence, how),
    }


def _band(values: Float[np.ndarray, "draw"], how: str) -> Estimate:
    low, middle, high = np.quantile(values, (0.025, 0.5, 0.975))
    return Estimate(middle, low, high, len(values), how=f"{how}: median and the middle 95 % of the directions")


@dataclass(frozen=True, eq=False)
class _Cost:
    """Ordinary texts, and what the plain model makes of them."""

    model: LanguageModel
    batches: tuple[tuple[dict[str, Tensor], Tensor, Tensor], ...]
    """Inputs, and row and position of each token that has one before it, shifted to that one."""
    targets: tuple[Tensor, ...]
    plain: tuple[Tensor, ...]
    """Log-probabilities of the whole vocabulary there."""

    @classmethod
    def of(cls, model: LanguageModel) -> "_Cost":
        encoded = [ids for text in ordinary_texts() if len(ids := model.encode(text)) > 2][:COST_TEXTS]
        batches, targets = [], []
        for some in length_batches(encoded, 8):
            at = [(r, p) for r, i in enumerate(some) for p in range(len(encoded[i]) - 1)]
            row, position = torch.tensor(at).T
            batches.append((model.collate([encoded[i] for i in some]), row, position))
            targets.append(torch.tensor([encoded[some[r]][p + 1] for r, p in at], device=model.device))
        logs = tuple(read_logits(model, *batch).float().log_softmax(-1) for batch in batches)
        return cls(model, tuple(batches), tuple(targets), logs)

    def price(self, opened: AbstractContextManager[None] | None = None) -> tuple[Estimate, Estimate]:
        """Return the rise of cross-entropy and KL(plain || changed) while a context is open; each text counts once."""
        rises, gaps = [], []
        with opened or nullcontext():
            for (inputs, row, position), target, plain in zip(self.batches, self.targets, self.plain, strict=True):
                logs = read_logits(self.model, inputs, row, position).float().log_softmax(-1)
                rise = (plain - logs).gather(1, target[:, None])[:, 0].double().cpu()
                gap = (plain.exp() * (plain - logs)).sum(-1).double().cpu()
                counts = torch.bincount(row)
                rises += (torch.bincount(row, rise) / counts).tolist()
                gaps += (torch.bincount(row, gap) / counts).tolist()
        if not np.isfinite([*rises, *gaps]).all():
            raise BadInput("a logit is not finite on ordinary text; the coefficient overflows the dtype: lower it")
        of = f"over {len(rises)} ordinary texts, every token steered; t interval"
        return mean(rises, how=f"rise of cross-entropy {of}"), mean(gaps, how=f"KL(plain || changed) {of}")


def _affordable(model: LanguageModel, vector: SteeringVector, cost: _Cost) -> tuple[float, tuple[Estimate, Estimate]]:
    """Return the largest coefficient whose cost is affordable, or the smallest there is, with its price."""
    for c in LADDER:
        prices = cost.price(steer(model, vector, c))
        if prices[0].value <= AFFORDABLE:
            break
    return c, prices


def _has_writes(model: LanguageModel) -> bool:
    try:
        return bool(writes(model))
    except BadInput:
        return False
