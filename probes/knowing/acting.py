"""Acting: does what a model does hang on a state that it never says.

A *task* is a prompt whose answer needs it: "Start in the attic.
Go east. The key is in the cellar. Next go". Tasks of one state that go on alike have one answer. For a state, up to 4
ways to go on are tried behind the fact's own subject. At the end of the prompt the difference between the state's mean
and another's is taken away, means over other subjects' tasks: m' is put in the place of m, h - (m - m'). The other
state is drawn among those in which this way has another answer. (Towards the mean of all states would not do: that may
be a state itself; of rooms on a map it is the one in the middle.) The drop is that of the right answer against the
other ones, mean over ways. It must exceed the drops of 39 random directions of that length and, since differences of
means lie where activations vary most, those of 39 differences with the states dealt anew to the subjects: were states
nothing but names, the own difference would be one of 40 alike, its length included.

Limits: one site, the end of the prompt; the answer changes, but need not become that of the other state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probes.activations.capture import capture
from probes.errors import BadInput
from probes.facts.facts import Fact
from probes.knowing.beginnings import head_of
from probes.knowing.puzzles import digest
from probes.knowing.using import LEAST, RANDOM, TOP, Use, beside_random, logs_under, margins_of, middle
from probes.model.language_model import LanguageModel
from probes.model.sites import Site
from probes.steering.randomness import draw_inside, top_components

__all__ = ["Task", "check_tasks", "use_in_tasks"]

WAYS = 4
"""Ways to go on from a state that are tried, at most."""


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
    site = site or middle(model)
    tasks = tuple({task.prompt: task for task in tasks}.values())
    answers, heads = _answers(tasks), {}
    for task in tasks:
        if task.answer not in heads:
            heads[task.answer] = head_of(model, task.prompt, task.answer)[0]
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
            logs = logs_under(model, ids, {len(ids) - 1: _Shift(away)}, site, len(away))
            others = [head for head in set(heads.values()) if head != answer]
            margins.append(margins_of(logs, answer, others))
            right.append(bool(logs[0, answer] > logs[0, others].max()))
        if margins:
            used = beside_random(torch.stack(margins).mean(0), site)
            found[fact.id] = replace(used, given=2 * sum(right) > len(right))
    return found


def check_tasks(tasks: Sequence[Task]) -> None:
    """Raise BadInput where tasks contradict each other or do not begin with their subject."""
    _answers(tasks)


def _answers(tasks: Sequence[Task]) -> dict[tuple[str, str], str]:
    """Return the answer by state and way to go on."""
    found: dict[tuple[str, str], str] = {}
    states: dict[str, str] = {}
    for task in tasks:
        if states.setdefault(task.subject, task.state) != task.state:
            raise BadInput(
                f"{task.subject!r} leads to two states, {states[task.subject]!r} and {task.state!r}; give it one"
            )
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
class _Shift:
    """Takes a vector away, of each row its own."""

    away: Float[Tensor, "row d_model"]

    def __call__(self, rows: Float[Tensor, "row token d_model"]) -> Float[Tensor, "row token d_model"]:
        return rows - self.away.to(rows).unsqueeze(1)
