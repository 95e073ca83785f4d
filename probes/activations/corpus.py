"""Corpus: texts that are gone through more than once and never held, each with what is known of it.

A record is a text with its label, group, polarity and entity. What a corpus holds is told by one digest: SHA-256 over
the canonical JSON of its records, one a line, so that the digest after any number of records is known on the way.

Limits: what gives other texts each time it is gone through (a shuffling loader) has no digest to be found again by.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from probes.errors import ArtifactError, BadInput
from probes.facts.facts import Statement
from probes.facts.statements import LabelledText
from probes.strict_json import canonical

__all__ = ["Ahead", "Corpus", "Record"]

END = object()
LABELLED = (Statement, LabelledText)


@dataclass(frozen=True)
class Record:
    """A text, and what is known of it."""

    text: Any
    """A string, or a chat."""
    label: bool | None = None
    """True or false, where texts are labelled."""
    group: str | None = None
    """What must not be split between train and test."""
    polarity: bool | None = None
    """Whether a statement affirms."""
    entity: str | None = None
    """The string whose tokens the rule "entity" reads."""

    @property
    def line(self) -> bytes:
        """The canonical JSON of it, which has no line break."""
        return canonical([self.text, self.label, self.group, self.polarity, self.entity], "the record") + b"\n"


@dataclass(frozen=True, eq=False)
class Corpus:
    """Texts with their labels, groups and entities; each look goes through them anew.

    Raises:
        BadInput: one string, or something that can be gone through only once, or not at all.
    """

    texts: Iterable[Any]
    """Strings, chats, or Statements and LabelledTexts alone, whose own labels, groups and entities stand where none are
    given."""
    labels: Iterable[bool] | None = None
    """One for each text."""
    groups: Iterable[str] | None = None
    """One for each text."""
    entities: Iterable[str] | None = None
    """One for each text."""

    def __post_init__(self) -> None:
        if isinstance(self.texts, str):
            raise BadInput("texts is one string; give a list of texts")
        for name in ("texts", "labels", "groups", "entities"):
            values = getattr(self, name)
            if values is None and name != "texts":
                continue
            if isinstance(values, Mapping) or not hasattr(values, "__iter__"):
                raise BadInput(f"{name} is a {type(values).__name__}; give a list, a column of a data set, or the like")
            if isinstance(values, Iterator):
                raise BadInput(
                    f"{name} is a {type(values).__name__}, which can be gone through only once, and a store needs to "
                    "begin again; give a list, or an object whose __iter__ starts anew"
                )

    def __iter__(self) -> Iterator[Record]:
        """Yield the records.

        Raises:
            BadInput: no text, a thing that is none, Statements among others, or another number of labels than texts.
        """
        names = [name for name in ("labels", "groups", "entities") if getattr(self, name) is not None]
        columns = {name: iter(getattr(self, name)) for name in names}
        number, labelled = -1, None
        for number, text in enumerate(self.texts):
            given = {name: next(column, END) for name, column in columns.items()}
            for name, value in given.items():
                if value is END:
                    raise BadInput(f"{number} {name} for more texts than that; give one for each")
            labelled = isinstance(text, LABELLED) if labelled is None else labelled
            if isinstance(text, LABELLED) != labelled:
                raise BadInput(f"text {number} is a {type(text).__name__}; give Statements alone, or none of them")
            yield _record(number, text, given)
        if number < 0:
            raise BadInput("the list of texts is empty; give at least one text")
        for name, column in columns.items():
            if next(column, END) is not END:
                raise BadInput(f"more {name} than the {number + 1} texts; give one for each")

    def measure(self) -> tuple[int, str]:
        """Go through all texts, and return how many there are, and their digest."""
        ahead = Ahead(self)
        while ahead.peek() is not None:
            ahead.take()
        return ahead.taken, ahead.digest


class Ahead:
    """Goes through a corpus with a look at what comes next, and digests what was taken."""

    def __init__(self, corpus: Corpus):
        self._records = iter(corpus)
        self._next = next(self._records, None)
        self._hasher = hashlib.sha256()
        self.taken = 0

    def peek(self) -> Record | None:
        """Return the next record without taking it; None at the end."""
        return self._next

    def take(self) -> Record:
        """Return the next record, and go on."""
        record = self._next
        try:
            self._hasher.update(record.line)
        except ArtifactError as error:  # half of a surrogate pair, a chat with a picture in it
            raise BadInput(f"text {self.taken} cannot be kept as JSON: {error}; mend it, or leave it out") from None
        self.taken += 1
        self._next = next(self._records, None)
        return record

    @property
    def digest(self) -> str:
        """The digest of all that was taken, 64 hexadecimal digits."""
        return self._hasher.hexdigest()


def _record(number: int, text: Any, given: Mapping[str, Any]) -> Record:
    label, group, entity = (given.get(name) for name in ("labels", "groups", "entities"))
    polarity = None
    if isinstance(text, LABELLED):
        if label is None and group is None:
            label, group, polarity = text.label, text.group, text.polarity
        if entity is None and isinstance(text, Statement):
            entity = text.fact.subject
        text = text.text
    chat = isinstance(text, Sequence) and text and all(isinstance(message, Mapping) for message in text)
    if not isinstance(text, str) and not chat:
        raise BadInput(f"text {number}: a {type(text).__name__} is neither a text nor a list of chat messages")
    return Record(
        text=text,
        label=None if label is None else bool(label),
        group=None if group is None else str(group),
        polarity=None if polarity is None else bool(polarity),
        entity=entity,
    )
