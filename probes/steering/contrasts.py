"""Contrasts: what a receipt asks a model, prompts with two answers of which steering should favour one.

Truth is asked of a topic or of statements: after two true and two false ones with their verdicts the statement itself,
steered at its own last token, where a truth probe reads; answers True and False. A fact's own vector is asked on the
prompts of other facts: its object against theirs (`fact_contrasts`); it is ablated where the fact itself is asked for
(`fact_uses`).

Limits: an answer is its first token; those whose first token is the same are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from probes.errors import BadInput, TooFew
from probes.facts.facts import Fact, Topic
from probes.judging.controls import plain_text
from probes.model.language_model import Chat, LanguageModel
from probes.model.sites import Site
from probes.steering.vectors import SteeringVector

__all__ = [
    "Asked",
    "Contrast",
    "as_contrasts",
    "encoded",
    "fact_contrasts",
    "fact_uses",
    "fact_vector",
    "truth_contrasts",
    "whole_groups",
]

SHOTS = 4


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


@dataclass(frozen=True, eq=False)
class Asked:
    """A contrast as the model reads it."""

    prompt: str | Chat
    """As given."""
    ids: list[int]
    """Its tokens."""
    answer: int
    """First token of the answer."""
    wrong: int
    """First token of what it is compared with, another one."""
    group: str
    """What is one case."""
    sign: int
    """-1 where the statement in the prompt is false."""


def as_contrasts(source: Topic | Sequence[Any], seed: int) -> tuple[Contrast, ...]:
    """Return what is asked of a topic or of labelled statements; Contrasts as they are."""
    if isinstance(source, Topic):
        return truth_contrasts(source.statements(), seed=seed)
    if isinstance(source, str) or not len(source):
        raise BadInput("there is nothing to ask; give a topic, statements with labels, or Contrasts")
    if all(isinstance(one, Contrast) for one in source):
        return tuple(source)
    return truth_contrasts(source, seed=seed)


def encoded(model: LanguageModel, contrasts: Sequence[Contrast]) -> list[Asked]:
    """Return those whose answers differ in their first token."""
    asked = []
    for one in contrasts:
        space = " " if isinstance(one.prompt, str) else ""
        answer, wrong = (
            model.tokenizer(space + text, add_special_tokens=False)["input_ids"] for text in (one.answer, one.wrong)
        )
        if answer and wrong and answer[0] != wrong[0]:
            sign = -1 if one.label is False else 1
            asked.append(Asked(one.prompt, model.encode(one.prompt), answer[0], wrong[0], one.group, sign))
    if len(asked) < 4:
        raise TooFew(
            f"{len(asked)} of {len(contrasts)} contrasts have answers that differ in their first token; give 4 or more",
            4,
        )
    return asked


def whole_groups(asked: Sequence[Asked], most: int) -> list[Asked]:
    """Return the first so many, no group cut apart."""
    members: dict[str, list[Asked]] = {}
    for one in asked:
        members.setdefault(one.group, []).append(one)
    chosen: list[Asked] = []
    for some in members.values():
        if not chosen or len(chosen) + len(some) <= most:
            chosen += some
    return chosen
