"""The texts that contexts are made of: frames, question forms, questions about a subject, ordinary requests.

They lie in `data/`: `frames.txt` and `ordinary.txt`, one a line, and `questions.json` with two objects: `forms` by
relation, and `about` by kind of subject, with "anything" for every noun phrase. All were written for this project. In
the forms and the questions about a subject `{subject}` stands where it may stand in a sentence; in a frame
`{question}` does.

Frames, system prompt and question forms were picked with the embedded model's replies in view (question forms on
France, Japan and Italy, frames on Japan, Italy and Egypt), never with a probe's scores: those in which it did not get
round to answering were written anew. So recall on these prompts says nothing of prompts that make a model ramble.

`Wordings` are those that fit one fact. Passed over is every text that says its object, and every frame and ordinary
request that says its subject. Whole words are compared, without case where they have more than two letters ("In" is
indium, "in" is not).
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from probes.errors import BadInput, NotFound, nearest
from probes.facts.facts import Fact, Topic
from probes.facts.templates import Relation

__all__ = ["Wordings", "frames", "ordinary_texts", "question_forms", "relations_with_contexts", "wordings"]

_OF_THEIR_OWN = ("word", "pair")
"""Kinds of subject that general questions ("Which song mentions {subject}?") do not fit."""


@dataclass(frozen=True)
class Wordings:
    """What can be dealt to the groups of contexts of one fact."""

    forms: tuple[str, ...]
    """Question forms of the relation."""
    frames: tuple[tuple[int, str], ...]
    """Frames, each with its number in `frames()`."""
    subjects: tuple[str, ...]
    """Other subjects of the topic."""
    about: tuple[str, ...]
    """Other questions, written for this kind of subject."""
    about_anything: tuple[str, ...]
    """Other questions that fit any subject; to fill up with."""
    ordinary: tuple[str, ...]
    """Requests that have nothing to do with the topic."""

    @property
    def most(self) -> int:
        """How many groups can be made without using anything twice but the question forms."""
        about = len(self.about) + len(self.about_anything)
        return min(about, len(self.frames), len(self.subjects), len(self.ordinary))


def wordings(fact: Fact, topic: Topic) -> Wordings:
    """Return what fits a fact.

    Args:
        fact: the target; need not be among the topic's facts.
        topic: of the same relation; brings the other subjects.

    Raises:
        BadInput: the fact is of another relation, or all question forms give the object away.
        NotFound: the relation has no question forms.
    """
    if fact.relation != topic.relation.name:
        raise BadInput(
            f"{fact.id!r} is of relation {fact.relation!r}, topic {topic.name!r} of {topic.relation.name!r}; "
            "give the topic of the fact's own relation"
        )
    said, named = _says(fact.object), _says(fact.subject.removeprefix("the "))
    forms = tuple(text for text in question_forms(topic.relation) if not said(text))
    if not forms:
        raise BadInput(
            f"all question forms of {fact.relation!r} say {fact.object!r}; ask without giving the object away"
        )
    kind, about = topic.relation.subject_kind, _questions()["about"]
    others = {other.subject.casefold(): other.subject for other in topic.facts}
    others.pop(fact.subject.casefold(), None)
    return Wordings(
        forms=forms,
        frames=tuple((number, text) for number, text in enumerate(frames()) if not said(text) and not named(text)),
        subjects=tuple(text for text in others.values() if not said(text)),
        about=tuple(text for text in about.get(kind, ()) if not said(text)),
        about_anything=tuple(text for text in about["anything"] if kind not in _OF_THEIR_OWN and not said(text)),
        ordinary=tuple(text for text in _lines("ordinary.txt") if not said(text) and not named(text)),
    )


def frames() -> tuple[str, ...]:
    """Return the wordings that fit any question, each with one `{question}`."""
    return _lines("frames.txt")


def ordinary_texts() -> tuple[str, ...]:
    """Return requests that have nothing to do with any topic: ordinary text."""
    return _lines("ordinary.txt")


def relations_with_contexts() -> tuple[str, ...]:
    """Return the names of the relations whose question forms ship."""
    return tuple(_questions()["forms"])


def question_forms(relation: Relation) -> tuple[str, ...]:
    """Return the question forms of a relation: its own `questions` if it brings any, else those that ship.

    Raises:
        NotFound: there are none; the message lists the relations that have some.
    """
    forms = relation.questions or _questions()["forms"].get(relation.name)
    if not forms:
        known = nearest(relation.name, relations_with_contexts())
        raise NotFound(f"relation {relation.name!r} has no question forms; {known}; or give it 'questions' of your own")
    return tuple(forms)


def _says(words: str) -> Callable[[str], bool]:
    pattern = re.compile(rf"(?<!\w){re.escape(words)}(?!\w)", 0 if len(words) <= 2 else re.IGNORECASE)
    return lambda text: pattern.search(text) is not None


@cache
def _lines(name: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in _read(name).splitlines() if line.strip())


@cache
def _questions() -> dict[str, dict[str, list[str]]]:
    return json.loads(_read("questions.json"))


def _read(name: str) -> str:
    return files("probes.facts").joinpath("data", name).read_text(encoding="utf-8")
