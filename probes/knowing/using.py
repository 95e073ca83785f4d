"""Using: does the answer hang on what sets the fact's subject apart inside the model.

1. The fact's directions at one site, one for the subject's last token and one for the end of the prompt: the mean
   activation there over the relation's other cloze prompts (the first is kept for the test), less the mean over all
   subjects; scaled to norm 1.
2. Ablate: in the cloze prompt, from the subject's last token on, take away what lies along them beyond the mean of all
   subjects, h - ((h - m) . d) d.
3. Beside it 39 pairs of random directions inside the top principal components of all subjects' activations at those
   tokens (randomness.py): the very same amounts are taken away along them, at each token towards the mean.
4. drop = fall of log p(begins as the object) less that of the mean distractor, against the drop under random ones.

Used is a fact whose direction costs more than each of the 39. Were it one more random direction, it would come first
of 40 with probability 1 in 40, whatever the drops' distribution. The interval says the same: the drop less the largest
and the smallest random one, between which a random one more would lie 38 times in 40.

A fact that stands in a *context* before the prompt has a third direction, for the tokens from where the context names
the object (else from its last token) up to the subject: what is there, less the mean over all contexts. A context is
the same before every wording, so that direction is of the very tokens.

A fact may be there to be acted upon, not to be said. A *task* is a prompt whose answer needs it: "Start in the attic.
Go east. The key is in the cellar. Next go". Tasks of one state that go on alike have one answer. For a state, up to 4
ways to go on are tried behind the fact's own subject. At the end of the prompt the difference between the state's mean
and another's is taken away, means over other subjects' tasks: m' is put in the place of m, h - (m - m'). The other
state is drawn among those in which this way has another answer. (Towards the mean of all states would not do: that may
be a state itself; of rooms on a map it is the one in the middle.) The drop is that of the right answer against the
other ones, mean over ways. It must exceed the drops of 39 random directions of that length and, since differences of
means lie where activations vary most, those of 39 differences with the states dealt anew to the subjects.

Sources: Ravfogel et al. 2020 (2004.07667) for taking directions away; Heimersheim & Mendel 2024 (2409.15019): random
directions must lie where activations vary, or they do nothing; Geva et al. 2023 (2304.14767): attributes are looked up
at the subject in the first half of a model and read from there in the second, hence a site in the middle.
Limits: one site; what is looked up after it, or at other tokens, is missed. In a small model the end of the prompt may
hold the answer by then. Where the mean of all subjects is answered with the very object, there is less to lose.
A relation with a single cloze has its direction from that very prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from probes.knowing.beginnings import Beginnings, behind, head_of
from probes.knowing.puzzles import digest
from probes.model.hooks import edits, read_logits
from probes.model.language_model import LanguageModel
from probes.model.sites import Site
from probes.reading.metrics import Estimate
from probes.steering.randomness import draw_inside, top_components

__all__ = ["Task", "Use", "use", "use_in_tasks"]

RANDOM = 39
"""Random directions beside each fact's: to come first of 40 by luck has probability .025."""
ROUNDING = 1e-3
"""Nats up to which a lead is none: where nothing hangs on a direction, all drops are what rounding leaves."""
TOP = 32
"""Principal components that they lie in, at least: with fewer, each looks like a piece of some other fact."""
DISTRACTORS = 8
WAYS = 4
"""Ways to go on from a state that are tried, at most."""
LEAST = 8
"""Subjects, without which there is no telling what sets one apart."""
NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Task:
    """A prompt whose answer needs a state that it does not name."""

    prompt: str
    """Begins with the subject."""
    state: str
    """Where the subject leads: the object of its fact."""
    answer: str
    """The word that should follow."""
    subject: str
    """The part of the prompt that leads to the state: the subject of the fact."""


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
    site = site or _middle(model)
    every = tuple({fact.subject: fact for fact in (*facts, *background)}.values())
    if len(every) < LEAST:
        raise BadInput(f"{len(every)} subjects are too few to tell what sets one apart; give {LEAST} at least")
    at = {fact.subject: i for i, fact in enumerate(every)}
    places = _places(model, topic, every, site, contexts)
    found = {}
    for fact in facts:
        rng = np.random.default_rng(digest(f"{seed}|use|{fact.id}"))
        others = [text for text in fact.distractors or _objects(topic) if text != fact.object]
        others = [text for text in others if reader.heads[text][0] != reader.heads[fact.object][0]]
        if not others:
            continue
        picked = [reader.heads[others[j]][0] for j in rng.permutation(len(others))[:DISTRACTORS]]
        ids = model.encode(behind(contexts.get(fact.id, ""), topic.cloze(fact)))
        takes = {place.begins[at[fact.subject]]: place.take(at[fact.subject], rng) for place in places}
        logs = _edited(model, ids, takes, site, 2 + RANDOM)
        found[fact.id] = _used(_margins(logs, reader.heads[fact.object][0], picked), site)
    return found


def use_in_tasks(
    model: LanguageModel,
    facts: Sequence[Fact],
    tasks: Sequence[Task],
    *,
    seed: int = 0,
    site: Site | None = None,
) -> Mapping[str, Use]:
    """Take the direction of a state away and see what becomes of the answers that need it.

    Args:
        model: the model.
        facts: subjects with the states that they lead to.
        tasks: prompts that begin with a subject; several states, and of each several subjects.
        seed: of the random directions, the other states, and of which ways to go on are tried.
        site: where; by default the output of the middle block.

    Returns:
        By fact id; a fact without a task, or whose state no other subject leads to, is missing.

    Raises:
        BadInput: a task that does not begin with its subject; tasks of one state that go on alike and have two answers;
            fewer than 8 subjects; a single answer.
    """
    site = site or _middle(model)
    tasks = tuple({task.prompt: task for task in tasks}.values())
    answers, heads = _answers(tasks), {task.answer: head_of(model, task.prompt, task.answer)[0] for task in tasks}
    subjects, states = (np.array([getattr(task, name) for task in tasks]) for name in ("subject", "state"))
    if len(set(subjects)) < LEAST or len(set(heads.values())) < 2:
        raise BadInput(
            f"{len(set(subjects))} subjects and {len(set(heads.values()))} answers are too few; give {LEAST} and 2"
        )
    rows = capture(model, [task.prompt for task in tasks], site).values[site]
    axes, found = top_components(rows, TOP), {}
    for fact in facts:
        rng, other = np.random.default_rng(digest(f"{seed}|use|{fact.id}")), subjects != fact.subject
        if other.all() or fact.object not in states[other]:
            continue
        means = _dealt(rows[torch.from_numpy(other)], subjects[other], states[other], rng)
        random, margins, right = draw_inside(axes, RANDOM, rng).float(), [], []
        for way, rivals in _ways(answers, tasks, fact, means, rng):
            lines = means[fact.object] - means[rivals[rng.integers(len(rivals))]]
            away = torch.cat([torch.zeros_like(lines[:1]), lines[:1], random * lines[0].norm(), lines[1:]])
            ids, answer = model.encode(fact.subject + way), heads[answers[fact.object, way]]
            logs = _edited(model, ids, {len(ids) - 1: _Shift(away)}, site, len(away))
            others = [head for head in set(heads.values()) if head != answer]
            margins.append(_margins(logs, answer, others))
            right.append(bool(logs[0, answer] > logs[0, others].max()))
        if margins:
            used = _used(torch.stack(margins).mean(0), site)
            found[fact.id] = replace(used, given=2 * sum(right) > len(right))
    return found


def _answers(tasks: Sequence[Task]) -> dict[tuple[str, str], str]:
    """Return the answer by state and way to go on."""
    found: dict[tuple[str, str], str] = {}
    for task in tasks:
        if not task.prompt.startswith(task.subject):
            raise BadInput(
                f"the task {task.prompt!r} does not begin with its subject; give a subject and a way to go on"
            )
        if found.setdefault((task.state, _way(task)), task.answer) != task.answer:
            raise BadInput(
                f"tasks of state {task.state!r} that go on {_way(task)!r} have two answers, {task.answer!r} is one; a "
                "state and a way to go on have one answer: name the state more closely"
            )
    return found


def _way(task: Task) -> str:
    return task.prompt[len(task.subject) :]


def _ways(
    answers: Mapping[tuple[str, str], str], tasks: Sequence[Task], fact: Fact, means: Mapping, rng: np.random.Generator
) -> list[tuple[str, list[str]]]:
    """Return ways to go on from a fact's state, its own tasks' first, with the states in which they end otherwise."""
    own = dict.fromkeys(_way(task) for task in tasks if (task.subject, task.state) == (fact.subject, fact.object))
    more = [way for state, way in answers if state == fact.object and way not in own]
    found = []
    for way in (*own, *(more[i] for i in rng.permutation(len(more)))):
        answer = answers[fact.object, way]
        rivals = sorted(state for state in means if answers.get((state, way), answer) != answer)
        found += [(way, rivals)] if rivals else []
    return found[:WAYS]


def _dealt(
    rows: Float[Tensor, "task d_model"], subjects: np.ndarray, states: np.ndarray, rng: np.random.Generator
) -> dict[str, Float[Tensor, "deal d_model"]]:
    """Return each state's mean over tasks: as it is, and with the states dealt anew to the subjects."""
    names, first, index = np.unique(subjects, return_index=True, return_inverse=True)
    of = states[first]
    deals = [of[index], *(of[rng.permutation(len(names))][index] for _ in range(RANDOM))]
    found = {}
    for state in sorted(set(of)):
        member = torch.from_numpy(np.stack([deal == state for deal in deals])).to(rows.dtype)
        found[str(state)] = member @ rows / member.sum(1, keepdim=True)
    return found


@dataclass(frozen=True)
class _Place:
    """From which token of the test prompts on something is taken away, and what."""

    begins: Sequence[int]
    """Of each fact."""
    centre: Float[Tensor, "d_model"]
    """The mean over all facts at that token."""
    lines: Float[Tensor, "fact d_model"]
    """The direction of each fact, of norm 1."""
    axes: Float[Tensor, "component d_model"]
    """Where random directions lie."""

    @classmethod
    def of(cls, begins: Sequence[int], rows: Tensor, lines: Tensor) -> "_Place":
        lines = lines - lines.mean(0)
        return cls(begins, rows.mean(0), lines / lines.norm(dim=1, keepdim=True).clamp_min(1e-12),
                   top_components(rows, TOP))  # fmt: skip

    def take(self, fact: int, rng: np.random.Generator) -> "_Take":
        """Return what takes nothing away, then the fact's direction, then random ones."""
        own = self.lines[fact][None]
        return _Take(self.centre, torch.cat([torch.zeros_like(own), own, draw_inside(self.axes, RANDOM, rng).float()]))


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


@dataclass(frozen=True)
class _Shift:
    """Takes a vector away, of each row its own."""

    away: Float[Tensor, "row d_model"]

    def __call__(self, rows: Float[Tensor, "row token d_model"]) -> Float[Tensor, "row token d_model"]:
        return rows - self.away.to(rows).unsqueeze(1)


def _places(
    model: LanguageModel, topic: Topic, every: Sequence[Fact], site: Site, contexts: Mapping[str, str]
) -> list[_Place]:
    """Return the places of a relation's test prompt: in the context, the subject, the end."""
    learn = topic.relation.clozes[1:] or topic.relation.clozes
    read = [_rows(model, text, every, site, contexts) for text in learn]
    subject, end, begins, length = _rows(model, topic.relation.cloze, every, site, contexts)
    lines = [torch.stack([each[i] for each in read]).mean(0) for i in range(2)]
    found = [_Place.of(begins, subject, lines[0]), _Place.of([n - 1 for n in length], end, lines[1])]
    if not contexts:
        return found
    prompts = [behind(contexts[fact.id], topic.cloze(fact)) for fact in every]
    named = [fact.object if fact.object in contexts[fact.id] else contexts[fact.id] for fact in every]
    acts = capture(model, prompts, site, tokens="entity", entities=named)
    last = acts.example.bincount(minlength=len(prompts)).cumsum(0) - 1
    rows = acts.values[site][last]
    return [_Place.of(acts.position[last].tolist(), rows, rows), *found]


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
def _edited(
    model: LanguageModel, ids: Sequence[int], takes: Mapping[int, _Take | _Shift], site: Site, number: int
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


def _margins(logs: Float[Tensor, "row d_vocab"], own: int, others: Sequence[int]) -> Float[Tensor, "row"]:
    return logs[:, own] - logs[:, list(others)].mean(1)


def _used(margins: Float[Tensor, "row"], site: Site) -> Use:
    """Compare the second row's fall with those of the rows behind it; the first is without ablation."""
    drops = (margins[0] - margins[1:]).double()
    own, random = drops[0], drops[1:]
    value, low, high = (float(own - one) for one in (random.mean(), random.max(), random.min()))
    how = f"fall of the margin at {site}, less the mean of {len(random)} random ones; interval: less their extremes"
    return Use(Estimate(value, low, high, len(random), how=how), float(margins[0]), str(site))


def _middle(model: LanguageModel) -> Site:
    return Site("resid_post", max(0, min(model.n_layers - 2, model.n_layers // 2)))


def _objects(topic: Topic) -> tuple[str, ...]:
    return tuple(dict.fromkeys(fact.object for fact in topic.facts))
