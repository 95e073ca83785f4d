"""Using: does the answer hang on what sets the fact's subject apart inside the model.

1. The fact's directions at one site, one for the subject's last token and one for the end of the prompt: the mean
   activation there over the relation's other cloze prompts (the first is kept for the test), less the mean m over
   subjects with other objects; scaled to norm 1. (Of all subjects, were one object that of many, or what the model
   says where it knows nothing, the mean would be answered with it, and taking towards it would cost nothing.)
2. Ablate: in the cloze prompt, from the subject's last token on, take away what lies along them beyond that mean,
   h - ((h - m) . d) d.
3. Beside it 39 pairs of random directions inside the top principal components of all subjects' activations at those
   tokens (randomness.py): the very same amounts are taken away along them, at each token towards the mean.
4. drop = fall of log p(begins as the object) less that of the mean distractor, against the drop under random ones.
   Where the object begins with an article, that stands behind the prompt, and distractors are those that follow it.

Used is a fact whose direction costs more than each of the 39. Were it one more random direction, it would come first
of 40 with probability 1 in 40 (about: amounts are those of the own one). The interval says the same: the drop less the
largest and the smallest random one, between which a random one more would lie 38 times in 40.

A fact that stands in a *context* before the prompt has a third direction, for the tokens from where the context names
the object (else from its last token) up to the subject: what is there, less the mean over all contexts. A context is
the same before every wording, so that direction is of the very tokens.

Sources: Ravfogel et al. 2020 (2004.07667) for taking directions away; Heimersheim & Mendel 2024 (2409.15019): random
directions must lie where activations vary, or they do nothing; Geva et al. 2023 (2304.14767): attributes are looked up
at the subject in the first half of a model and read from there in the second, hence a site in the middle.
Limits: one site; what is looked up after it, or at other tokens, is missed. In a small model the end of the prompt may
hold the answer by then. Where subjects with other objects are answered with the very object, too, there is less to
lose. A relation with a single cloze has its direction from that very prompt.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probes.activations.capture import capture
from probes.activations.packing import branches
from probes.activations.tokens import TokenRule, select_tokens
from probes.errors import BadInput
from probes.facts.facts import Fact, Topic
from probes.facts.templates import fill
from probes.knowing.beginnings import Beginnings, behind
from probes.knowing.puzzles import digest
from probes.model.hooks import edits, read_logits
from probes.model.language_model import LanguageModel
from probes.model.sites import Site
from probes.reading.metrics import Estimate
from probes.steering.randomness import draw_inside, top_components

__all__ = ["LEAST", "RANDOM", "TOP", "Use", "beside_random", "logs_under", "margins_of", "middle", "use"]

RANDOM = 39
"""Random directions beside each fact's: to come first of 40 by luck has probability .025."""
ROUNDING = 1e-3
"""Nats up to which a lead is none: where nothing hangs on a direction, all drops are what rounding leaves."""
TOP = 32
"""Principal components that they lie in, at least: with fewer, each looks like a piece of some other fact."""
DISTRACTORS = 8
LEAST = 8
"""Subjects, without which there is no telling what sets one apart."""
NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Use:
    """What taking a fact's direction away does to its answer."""

    drop: Estimate
    """Nats that the object loses on its distractors, beyond the mean of random directions."""
    before: float
    """Margin of the object over the mean distractor without any ablation, in nats."""
    site: str
    """Where the direction was taken away."""
    given: bool | None = None
    """Of tasks: whether the right answer comes first in more than half of them; None for cloze prompts."""

    @property
    def holds(self) -> bool:
        """Whether the answer hangs on the direction."""
        return self.drop.lower > ROUNDING


def use(
    model: LanguageModel,
    topic: Topic,
    facts: Sequence[Fact],
    background: Sequence[Fact],
    reader: Beginnings,
    *,
    contexts: Mapping[str, str] = NONE,
    seed: int = 0,
    site: Site | None = None,
) -> Mapping[str, Use]:
    """Take each fact's direction away and see what becomes of its answer.

    Args:
        model: the model.
        topic: brings wordings and distractors.
        facts: what to try.
        background: facts about other subjects, for the mean and the principal components.
        reader: knows how objects begin.
        contexts: by fact id, a text to put before prompts about it.
        seed: of the random directions.
        site: where; by default the output of the middle block.

    Raises:
        BadInput: fewer than 8 subjects in all, or they are all alike.
    """
    site = site or middle(model)
    every = tuple({fact.subject: fact for fact in (*background, *facts)}.values())
    if len(every) < LEAST:
        raise BadInput(f"{len(every)} subjects are too few to tell what sets one apart; give {LEAST} at least")
    at = {fact.subject: i for i, fact in enumerate(every)}
    places = _places(model, topic, every, site, contexts)
    found = {}
    for fact in facts:
        rng = np.random.default_rng(digest(f"{seed}|use|{fact.id}"))
        article, own = reader.heads[fact.object][:-1], reader.heads[fact.object][-1]
        right = {other.object for other in topic.facts if other.subject == fact.subject}
        others = [reader.heads[text] for text in fact.distractors or _objects(topic) if text not in right]
        # Behind "the" what follows is compared, and with what else follows it.
        others = [head[-1] for head in others if head[:-1] == article and head[-1] != own]
        if not others:
            continue
        picked = [others[j] for j in rng.permutation(len(others))[:DISTRACTORS]]
        ids = [*model.encode(behind(contexts.get(fact.id, ""), topic.cloze(fact))), *article]
        takes = {place.begins[at[fact.subject]]: place.take(at[fact.subject], rng) for place in places}
        logs = logs_under(model, ids, takes, site, 2 + RANDOM)
        found[fact.id] = beside_random(margins_of(logs, own, picked), site)
    return found


@dataclass(frozen=True)
class _Place:
    """From which token of the test prompts on something is taken away, and what."""

    begins: Sequence[int]
    """Of each fact."""
    centres: Float[Tensor, "fact d_model"]
    """For each fact, the mean at that token over those with other objects."""
    lines: Float[Tensor, "fact d_model"]
    """The direction of each fact, of norm 1."""
    axes: Float[Tensor, "component d_model"]
    """Where random directions lie."""

    @classmethod
    def of(cls, begins: Sequence[int], rows: Tensor, lines: Tensor, objects: Sequence[str]) -> "_Place":
        lines = lines - _others(lines, objects)
        return cls(begins, _others(rows, objects), lines / lines.norm(dim=1, keepdim=True).clamp_min(1e-12),
                   top_components(rows, TOP))  # fmt: skip

    def take(self, fact: int, rng: np.random.Generator) -> "_Take":
        """Return what takes nothing away, then the fact's direction, then random ones."""
        own = self.lines[fact][None]
        return _Take(
            self.centres[fact], torch.cat([torch.zeros_like(own), own, draw_inside(self.axes, RANDOM, rng).float()])
        )


@dataclass(frozen=True)
class _Take:
    """Takes away as much along each line as lies along the second one."""

    centre: Float[Tensor, "d_model"]
    along: Float[Tensor, "row d_model"]

    def __call__(self, rows: Float[Tensor, "row token d_model"]) -> Float[Tensor, "row token d_model"]:
        away, along = rows.float() - self.centre.to(rows.device), self.along.to(rows.device)
        # Towards the centre along each line: random ones that lead away from it, too, would not be like the own one.
        amount = (away @ along[1]).abs() * torch.einsum("rtd,rd->rt", away, along).sign()
        return rows - (amount.unsqueeze(-1) * along.unsqueeze(1)).to(rows.dtype)


def _places(
    model: LanguageModel, topic: Topic, every: Sequence[Fact], site: Site, contexts: Mapping[str, str]
) -> list[_Place]:
    """Return the places of a relation's test prompt: in the context, the subject, the end."""
    learn = topic.relation.clozes[1:] or topic.relation.clozes
    read = [_rows(model, text, every, site, contexts) for text in learn]
    subject, end, begins, length = _rows(model, topic.relation.cloze, every, site, contexts)
    lines = [torch.stack([each[i] for each in read]).mean(0) for i in range(2)]
    objects = [fact.object for fact in every]
    found = [
        _Place.of(begins, subject, lines[0], objects), _Place.of([n - 1 for n in length], end, lines[1], objects)
    ]  # fmt: skip
    if not contexts:
        return found
    prompts = [behind(contexts[fact.id], topic.cloze(fact)) for fact in every]
    named = [fact.object if fact.object in contexts[fact.id] else contexts[fact.id] for fact in every]
    acts = capture(model, prompts, site, tokens="entity", entities=named)
    last = acts.example.bincount(minlength=len(prompts)).cumsum(0) - 1
    rows = acts.values[site][last]
    return [_Place.of(acts.position[last].tolist(), rows, rows, objects), *found]


def _others(rows: Float[Tensor, "fact d_model"], objects: Sequence[str]) -> Float[Tensor, "fact d_model"]:
    """Return for each fact the mean of the rows of facts with other objects; of all, where there are none."""
    number = {text: i for i, text in enumerate(dict.fromkeys(objects))}
    same = torch.tensor([number[text] for text in objects], device=rows.device)
    sums = torch.zeros(len(number), rows.shape[1], dtype=rows.dtype, device=rows.device).index_add_(0, same, rows)
    if len(number) == 1:
        return rows.mean(0).expand_as(rows)
    counts = len(rows) - same.bincount()
    return ((rows.sum(0) - sums) / counts[:, None])[same]


def _rows(
    model: LanguageModel, text: str, facts: Sequence[Fact], site: Site, contexts: Mapping[str, str]
) -> tuple[Float[Tensor, "fact d_model"], Float[Tensor, "fact d_model"], list[int], list[int]]:
    """Return what the site holds at the last token of each subject and of each prompt; where the subject ends, and how
    long the prompt is.

    The subject is counted from the end of the prompt: a context may name it, too.
    """
    plain = [fill(text, fact.subject) for fact in facts]
    spans = select_tokens(model, plain, TokenRule("entity"), [fact.subject for fact in facts])
    back = torch.tensor([span.positions[-1] - len(span.ids) for span in spans])
    prompts = [behind(contexts.get(fact.id, ""), prompt) for fact, prompt in zip(facts, plain, strict=True)]
    acts = capture(model, prompts, site, tokens="all")
    length = acts.example.bincount(minlength=len(prompts))
    ends, rows = length.cumsum(0), acts.values[site]
    return rows[ends + back], rows[ends - 1], (length + back).tolist(), length.tolist()


@torch.no_grad()
def logs_under(
    model: LanguageModel, ids: Sequence[int], takes: Mapping[int, Callable[[Tensor], Tensor]], site: Site, number: int
) -> Float[Tensor, "row d_vocab"]:
    """Return log-probabilities behind a prompt, a row an edit; each of `takes` works from its token up to the next."""
    start = min(takes)
    one = branches(model, ids, start, number)
    row = torch.tensor([path.row for path in one.paths])
    slots = torch.tensor([list(path.slots) for path in one.paths])[:, start:]
    bounds = [begin - start for begin in (*sorted(takes), len(ids))]

    def edit(tensor: Tensor) -> Tensor:
        at = row[:, None].to(tensor.device), slots.to(tensor.device)
        own, new = tensor[at], tensor.clone()
        parts = zip(sorted(takes), bounds[:-1], bounds[1:], strict=True)
        new[at] = torch.cat([takes[begin](own[:, low:high]) for begin, low, high in parts], 1)
        return new

    inputs = one.inputs(model)
    with edits(model, {site: edit}):
        return read_logits(model, inputs, row, slots[:, -1]).float().log_softmax(-1).cpu()


def margins_of(logs: Float[Tensor, "row d_vocab"], own: int, others: Sequence[int]) -> Float[Tensor, "row"]:
    return logs[:, own] - logs[:, list(others)].mean(1)


def beside_random(margins: Float[Tensor, "row"], site: Site) -> Use:
    """Compare the second row's fall with those of the rows behind it; the first is without ablation."""
    drops = (margins[0] - margins[1:]).double()
    own, random = drops[0], drops[1:]
    value, low, high = (float(own - one) for one in (random.mean(), random.max(), random.min()))
    how = f"fall of the margin at {site}, less the mean of {len(random)} random ones; interval: less their extremes"
    return Use(Estimate(value, low, high, len(random), how=how), float(margins[0]), str(site))


def middle(model: LanguageModel) -> Site:
    return Site("resid_post", max(0, min(model.n_layers - 2, model.n_layers // 2)))


def _objects(topic: Topic) -> tuple[str, ...]:
    return tuple(dict.fromkeys(fact.object for fact in topic.facts))
