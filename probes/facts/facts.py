"""Facts, the topics they come in, and the statements they unfold into.

A fact is subject | relation | object. A topic is facts of one relation with its wordings. Each fact gives one true and
one false statement, twins that differ in the object alone. The false objects are a permutation of the topic's own
(`twins.py`), so that every object stands in as many false statements as true ones.

Limits: an object that belongs to more than half of the facts leaves no such permutation. Where the subject names its
possible objects ("34 and 87") the wrong one of them is taken, and size alone tells something: at the ends of the range
nobody can make a number the wrong answer as often as the right one. That a false statement is false rests on the
topic's word: should it hold "Cordoba | country | Spain" alone, "Cordoba is in Argentina" passes for false.
"""

import random
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any

from probes.errors import BadInput, NotFound, nearest
from probes.facts.rows import Row, read_rows
from probes.facts.templates import RELATIONS, Relation, fill, find_relation
from probes.facts.twins import cells, permute_wrong

__all__ = ["KINDS", "Fact", "Statement", "Topic", "load_topic", "topics"]

KINDS = ("affirmed", "negated", "paraphrased")
"""What a statement can be; a paraphrased statement affirms too."""
SELF = "self"
"""Name of the topic that is no topic of the world: it ships, and nothing that goes through `topics()` meets it."""


@dataclass(frozen=True)
class Fact:
    """One thing that is so.

    Raises:
        BadInput: a part is empty, is not one line of text or has a `|` in it, or the object is among the distractors.
    """

    subject: str
    """As it stands in the middle of a sentence: "the Netherlands", "dogs"."""
    relation: str
    """Name of a relation, see `templates.py`."""
    object: str
    """As it stands in the middle of a sentence."""
    distractors: tuple[str, ...] = ()
    """Wrong objects that could be right; empty where the topic's other objects serve."""
    topic: str = ""
    """Name of the topic it came in."""

    def __post_init__(self) -> None:
        if not isinstance(self.distractors, tuple | list):
            raise BadInput(f"distractors {self.distractors!r} are no list; give a list of texts")
        object.__setattr__(self, "distractors", tuple(self.distractors))
        for name in ("subject", "relation", "object"):
            _check_part(name, getattr(self, name))
        for distractor in self.distractors:
            _check_part("distractor", distractor)
        if self.object in self.distractors:
            raise BadInput(f"object {self.object!r} is among its own distractors; those must be wrong answers")
        if len(set(self.distractors)) < len(self.distractors):
            raise BadInput(f"distractors {', '.join(self.distractors)} repeat themselves; give each once")

    @property
    def id(self) -> str:
        """`"France|capital|Paris"`."""
        return f"{self.subject}|{self.relation}|{self.object}"

    @classmethod
    def parse(cls, text: str) -> "Fact":
        """Read `"France|capital|Paris"`.

        Raises:
            BadInput: the text is not three parts with a `|` between them.
        """
        parts = [part.strip() for part in text.split("|")]
        if len(parts) != 3:
            raise BadInput(f"{text!r} is not a fact; a fact is subject|relation|object, as in 'France|capital|Paris'")
        return cls(*parts)


def _check_part(name: str, text: Any) -> None:
    if not isinstance(text, str):
        raise BadInput(f"{name} {text!r} is not a text")
    if not text.strip():
        raise BadInput(f"{name} is empty; a fact needs a subject, a relation and an object")
    if text != text.strip():
        raise BadInput(f"{name} {text!r} has space at an end; take it away")
    if "|" in text:
        raise BadInput(f"{name} {text!r} has a '|' in it, which is what parts the three in 'France|capital|Paris'")
    # Cc: line feeds, NUL and their kin. Zl, Zp: other line ends. Cs: half a character, which no file can hold.
    if any(unicodedata.category(letter) in {"Cc", "Zl", "Zp", "Cs"} for letter in text):
        raise BadInput(f"{name} {text!r} has a control character or a line end in it; give one line of text")


@dataclass(frozen=True)
class Statement:
    """A sentence that is true or false."""

    text: str
    """One sentence with its full stop."""
    label: bool
    """Whether the sentence is true; to deny a falsehood is true."""
    polarity: bool
    """True where it affirms, false where it denies."""
    group: str
    """What splits keep whole: the entity, with the one it swapped objects with ("France + Spain")."""
    kind: str
    """One of `KINDS`."""
    fact: Fact
    """What it was made from."""


@dataclass(frozen=True, repr=False)
class Topic:
    """Facts of one relation.

    Raises:
        BadInput: there is no fact, one stands there twice, or one is of another relation.
    """

    name: str
    """Such as `"capitals"`."""
    relation: Relation
    """Its wordings."""
    facts: tuple[Fact, ...]
    """One or more."""
    licence: str = ""
    """Of the data; empty where nobody said."""
    source: str = ""
    """Where the data come from; empty where nobody said."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "facts", tuple(self.facts))
        if not self.facts:
            raise BadInput(f"topic {self.name!r} has no facts; give one or more")
        for fact in self.facts:
            if fact.relation != self.relation.name:
                raise BadInput(f"{fact.id!r} is in a topic of relation {self.relation.name!r}; one topic, one relation")
        name, count = Counter(fact.id for fact in self.facts).most_common(1)[0]
        if count > 1:
            raise BadInput(f"topic {self.name!r} has {name!r} {count} times; give each fact once")

    def __repr__(self) -> str:
        return f"Topic({self.name!r}, relation={self.relation.name!r}, {len(self.facts)} facts)"

    def statements(self, kinds: Iterable[str] = ("affirmed",), *, seed: int = 0) -> list[Statement]:
        """Unfold every fact into twins, first the one with its own object, then the one with a wrong object.

        Args:
            kinds: from `KINDS`. One kind follows the other, two statements a fact in each; paraphrases go round the
                relation's wordings from fact to fact, twins in the same words.
            seed: draws the wrong objects, which are the same in every kind.

        Raises:
            NotFound: a kind is not known.
            BadInput: there is no wrong object for some fact, or the relation has no paraphrase.
        """
        statements = []
        wrong, groups = self._wrong(seed)
        for kind in (kinds,) if isinstance(kinds, str) else kinds:
            wordings = self._wordings(kind)
            polarity = kind != "negated"
            for index, fact in enumerate(self.facts):
                wording = wordings[index % len(wordings)]
                for thing, fits in ((fact.object, True), (wrong[index], False)):
                    text = fill(wording, fact.subject, thing)
                    statements.append(Statement(text, fits == polarity, polarity, groups[index], kind, fact))
        return statements

    def _wordings(self, kind: str) -> tuple[str, ...]:
        if kind not in KINDS:
            raise NotFound(f"{kind!r} is no kind of statement; {nearest(str(kind), KINDS)}")
        if kind != "paraphrased":
            return (self.relation.affirmed if kind == "affirmed" else self.relation.negated,)
        if not self.relation.paraphrases:
            raise BadInput(f"relation {self.relation.name!r} has no paraphrases; give it some, or leave this kind out")
        return self.relation.paraphrases

    def wrong_objects(self, *, seed: int = 0) -> tuple[str, ...]:
        """Return an object for each fact that is wrong for it.

        They are a permutation of the topic's objects, in which facts swap in pairs (see `twins.py`). Where the
        relation is closed, or where there is no permutation but every fact has distractors, one of the fact's own
        distractors is drawn instead.

        Raises:
            BadInput: neither is to be had.
        """
        return self._wrong(seed)[0]

    def _wrong(self, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the wrong object and the group of each fact."""
        subjects, objects = [fact.subject for fact in self.facts], [fact.object for fact in self.facts]
        permuted = None if self.relation.closed else permute_wrong(subjects, objects, seed=seed)
        if permuted is not None:
            return tuple(objects[i] for i in permuted), _names(subjects, cells(subjects, permuted))
        bare = [fact.id for fact in self.facts if not fact.distractors]
        if not bare:
            # Each draw has a seed of its own: adding a fact moves no other.
            drawn = (random.Random(f"{seed}|{fact.id}").choice(fact.distractors) for fact in self.facts)
            return tuple(drawn), tuple(subjects)
        if self.relation.closed:
            raise BadInput(f"{bare[0]!r} needs distractors: the subject of a {self.relation.name!r} names its answers")
        name, count = Counter(fact.object for fact in self.facts).most_common(1)[0]
        raise BadInput(
            f"no false statements in topic {self.name!r}: {name!r} is the object of {count} of {len(self.facts)} facts "
            "and no permutation makes every object wrong; add facts with other objects, or distractors to every fact"
        )

    def cloze(self, fact: Fact) -> str:
        """Return the prompt that the fact's object completes after one space: "The capital of France is"."""
        return fill(self.relation.cloze, fact.subject)


def _names(subjects: Sequence[str], cell_of: Sequence[int]) -> tuple[str, ...]:
    """Name the cell of each fact by its subjects, the first three of them."""
    members: dict[int, dict[str, None]] = {}
    for subject, cell in zip(subjects, cell_of, strict=True):
        members.setdefault(cell, {})[subject] = None
    names = {cell: " + ".join([*list(held)[:3], *(["..."] if len(held) > 3 else [])]) for cell, held in members.items()}
    return tuple(names[cell] for cell in cell_of)


def topics() -> tuple[str, ...]:
    """Return the names of the topics of the world that ship; beside them there is "self"."""
    return tuple(sorted(relation.topic for relation in RELATIONS.values()))


def load_topic(name_or_path: str | PathLike[str]) -> Topic:
    """Load a topic that ships, or one's own from a `.jsonl` or `.csv` file (the format: `rows.py`).

    Those of the world are `topics()`; "self" is what the embedded model may know about itself and its situation (of one
    self no puzzles can be made; and to say "I am a language model" is no sign of experience).
    A name that ships wins over a file of that name. One bad row and nothing is loaded.

    Raises:
        NotFound: there is neither such a topic nor such a file, or its relation is not known.
        BadInput: the file has a fault; the message names the line and says what is wrong with it.
    """
    path, shipped = Path(name_or_path), (*topics(), SELF)
    if str(name_or_path) in shipped:
        path = Path(__file__).with_name("data") / f"{name_or_path}.jsonl"
    elif not path.suffix and not path.exists():
        raise NotFound(f"{str(name_or_path)!r} is no topic and no file; {nearest(str(name_or_path), shipped)}")
    header, rows = read_rows(path)
    about = header.fields if header else {}
    name = about.get("name", path.stem)
    naming = header if "relation" in about else rows[0]
    relation = _relation(naming.fields.get("relation"), naming)
    facts: dict[str, Fact] = {}
    for row in rows:
        fact = _fact(row, relation, name)
        if fact.id in facts:
            raise BadInput(f"{row.where}: {fact.id!r} stands in an earlier line already; give each fact once")
        facts[fact.id] = fact
    return Topic(name, relation, tuple(facts.values()), about.get("licence", ""), about.get("source", ""))


def _fact(row: Row, relation: Relation, topic: str) -> Fact:
    named = row.fields.get("relation", relation.name)
    if named != relation.name:
        raise BadInput(f"{row.where}: relation {named!r} in a topic of {relation.name!r}; give each a file of its own")
    try:
        return Fact(**{**row.fields, "relation": named}, topic=topic)
    except BadInput as error:
        raise BadInput(f"{row.where}: {error}") from None


def _relation(given: Any, row: Row) -> Relation:
    """A relation that ships, by its name, or a new one by its wordings."""
    if given is None:
        raise BadInput(f"{row.where}: the field 'relation' is missing; give it in every row, or once in a header")
    try:
        return _own_relation(given) if isinstance(given, dict) else find_relation(given)
    except NotFound as error:
        raise NotFound(f"{row.where}: {error}. To bring a relation of your own, begin with a header") from None
    except BadInput as error:
        raise BadInput(f"{row.where}: {error}") from None


def _own_relation(wordings: dict[str, Any]) -> Relation:
    allowed = {field.name for field in fields(Relation)} - {"topic"}
    for name in wordings:
        if name not in allowed:
            raise BadInput(f"a relation has no field {name!r}; {nearest(name, allowed)}")
    for name in ("name", "affirmed", "negated", "cloze"):
        if name not in wordings:
            raise BadInput(f"the relation lacks {name!r}; it needs name, affirmed, negated and cloze")
    relation = Relation(**{"paraphrases": (), **wordings})
    if relation.name in RELATIONS:
        raise BadInput(f"a relation {relation.name!r} ships already; give yours another name, or give the name alone")
    return relation
