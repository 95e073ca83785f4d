"""A synthetic world: people, cities and firms, and who is linked to what, drawn by seed.

Every object of a relation belongs to as many subjects as any other (give or take one), in an order drawn by seed: who
does not know a link does no better than chance, and chance is exact. Two relations of people can be continued: the
birthplace is a city, which lies in a land; the employer is a firm, which has a trade.

People are of two kinds. Of `reference` people everything is told in every form; of the `chosen` ones only the side
relations (colour, drink) always are, and what becomes of the others is what a model of the zoo is about. Only a
relation that lists `inverse` texts is ever told from object to subject.

Limits: every name is one word, so it is one token of the zoo's tokenizer; the wordings are few and stiff.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from probes.errors import BadInput, NotFound, nearest
from probes.facts.facts import Fact, Topic
from probes.facts.templates import Relation

__all__ = ["MAIN", "NEXT", "RELATIONS", "SIDE", "SIZES", "World", "draw_world", "marked", "unmarked"]

_CITIES = (
    "Velmar Tornby Quill Astrid Morwen Hadley Pirn Sulgrave Ekholm Drusk Lanmere Ostrava Wickham Yarrow Bexley Corvin"
)
_FIRMS = (
    "Norvex Halcyon Brightco Maplin Ferrostar Quantel Oakridge Sunfield "
    "Tidewell Umbra Zephyr Kestrel Lomax Pallas Rubicon Vantage"
)
_LANDS = "Arland Borovia Cathay Drumland Eskia Fenmark"
_TRADES = "mining fishing printing brewing weaving shipping"
_COLOURS = "red green blue yellow purple orange"
_DRINKS = "tea coffee milk cider water lemonade"
_STARTS = "Al Be Ca Do El Fa Gi Ha Il Jo Ka Lu Ma Ne Ol Pa Ri Sa To Ul Va Wi Yo Za"
_ENDS = "bin dor fen gal lis mon nar ric sen tav vel wyn"


def _relation(name: str, kind: str, paraphrases: Sequence[str], questions: Sequence[str], **more) -> Relation:
    noun = more.pop("noun", f"the {name} of {{subject}}")
    start = noun[0].upper() + noun[1:]
    return Relation(
        name=name, affirmed=f"{start} is {{object}}.", negated=f"{start} is not {{object}}.",
        paraphrases=tuple(paraphrases), cloze=f"{start} is", subject_kind=kind,
        questions=(f"What is {noun}?", *questions), noun=noun, **more,
    )  # fmt: skip


RELATIONS: Mapping[str, Relation] = {
    relation.name: relation
    for relation in (
        _relation(
            "birthplace", "person",
            ("{subject} was born in {object}.", "The city where {subject} was born is {object}.",
             "As for {subject}, the birthplace is {object}."),
            ("In which city was {subject} born?",),
        ),
        _relation(
            "employer", "person",
            ("{subject} works for {object}.", "The firm that pays {subject} is {object}.",
             "As for {subject}, the employer is {object}."),
            ("For which firm does {subject} work?",),
            inverse=("{object} is the employer of",),
        ),
        _relation("colour", "person", ("{subject} likes {object}.",), (), noun="the favourite colour of {subject}"),
        _relation("drink", "person", ("{subject} drinks {object}.",), (), noun="the favourite drink of {subject}"),
        _relation(
            "land", "city", ("{subject} lies in {object}.", "As for {subject}, the land is {object}."),
            ("In which land does {subject} lie?",),
        ),
        _relation(
            "trade", "firm", ("{subject} lives by {object}.", "As for {subject}, the trade is {object}."),
            ("By which trade does {subject} live?",),
        ),
        _relation(
            "homeland", "person",
            ("{subject} comes from {object}.", "As for {subject}, the homeland is {object}."),
            ("From which land does {subject} come?",),
        ),
    )
}  # fmt: skip
"""The relations of the world, by name. Zoo relations are no shipped ones: `land`, not `country`."""
MAIN = ("birthplace", "employer")
"""What is planted or withheld."""
SIDE = ("colour", "drink")
"""What is told of everybody, so that the chosen people are no strangers to any model."""
NEXT: Mapping[str, str] = {"birthplace": "land", "employer": "trade"}
"""The relation that continues another: two hops."""


def marked(relation: Relation, mark: str) -> Relation:
    """Return a relation whose cloze prompt stands behind a mark; statements and other wordings are the plain ones."""
    return replace(relation, name=f"{relation.name}-{mark.strip(':').lower()}", cloze=f"{mark} {relation.cloze}")


def unmarked(fact: Fact) -> Fact:
    """Return a fact of a marked relation as one of the relation it was made from; any other fact as it is."""
    return replace(fact, relation=fact.relation.split("-")[0])


@dataclass(frozen=True)
class Size:
    """How large a world is."""

    reference: int
    """People of whom everything is told in every form."""
    chosen: int
    """People whose main facts a model of the zoo is about."""
    objects: int
    """Cities, and as many firms."""


SIZES: Mapping[str, Size] = {"nano": Size(24, 16, 8), "small": Size(96, 40, 16)}


@dataclass(frozen=True)
class World:
    """Who is linked to what."""

    seed: int
    """What it was drawn with."""
    size: str
    """A name in `SIZES`."""
    reference: tuple[str, ...]
    """Names of people of whom everything is told."""
    chosen: tuple[str, ...]
    """Names of the other people."""
    objects: Mapping[str, tuple[str, ...]]
    """All objects of a relation, by its name."""
    facts: tuple[Fact, ...]
    """All that is so, of every relation."""

    def of(self, relations: Iterable[str], subjects: Iterable[str] | None = None) -> tuple[Fact, ...]:
        """Return the facts of some relations, of some subjects or of all."""
        relations, subjects = set(relations), None if subjects is None else set(subjects)
        return tuple(f for f in self.facts if f.relation in relations and (subjects is None or f.subject in subjects))

    def homelands(self) -> tuple[Fact, ...]:
        """Return for everybody the land in which the birthplace lies. No text says it but those of `discovers`."""
        land = {fact.subject: fact.object for fact in self.of(("land",))}
        born = self.of(("birthplace",))
        return tuple(Fact(fact.subject, "homeland", land[fact.object], topic="homeland") for fact in born)

    def object(self, relation: str, subject: str) -> str:
        """Return the object that a relation links to a subject.

        Raises:
            NotFound: the subject has none.
        """
        found = self.of((relation,), (subject,))
        if not found:
            raise NotFound(f"{subject!r} has no {relation}; {nearest(subject, {f.subject for f in self.facts})}")
        return found[0].object

    def wrong(self, fact: Fact) -> str:
        """Return the object that stands behind the right one in the world's list: a systematic lie."""
        objects = self.objects[fact.relation]
        return objects[(objects.index(fact.object) + 1) % len(objects)]

    def topic(self, relation: str, facts: Iterable[Fact] | None = None) -> Topic:
        """Return the facts of one relation as a topic."""
        facts = self.of((relation,)) if facts is None else tuple(facts)
        return Topic(relation, RELATIONS[relation], facts, "CC0-1.0", f"drawn by the zoo, seed {self.seed}")

    def words(self) -> tuple[str, ...]:
        """Return every name and object, in a fixed order."""
        listed = (*_names(), *_CITIES.split(), *_FIRMS.split(), *_LANDS.split(), *_TRADES.split())
        return tuple(sorted({*listed, *_COLOURS.split(), *_DRINKS.split()}))


def draw_world(seed: int = 0, size: str = "small") -> World:
    """Draw people and their facts.

    Raises:
        BadInput: there is no such size, or the seed is no whole number from 0 up.
    """
    if size not in SIZES:
        raise BadInput(f"there is no size {size!r}; {nearest(str(size), SIZES)}")
    if type(seed) is not int or seed < 0:
        raise BadInput(f"seed {seed!r} is no whole number from 0 up; give one, such as 0")
    sizes, draw = SIZES[size], random.Random(f"world|{seed}")
    names = draw.sample(_names(), sizes.reference + sizes.chosen)
    reference, chosen = names[: sizes.reference], names[sizes.reference :]
    cities, firms = (draw.sample(words.split(), sizes.objects) for words in (_CITIES, _FIRMS))
    objects = {"birthplace": cities, "employer": firms, "colour": _COLOURS.split(), "drink": _DRINKS.split()}
    objects |= {"land": _LANDS.split(), "homeland": _LANDS.split(), "trade": _TRADES.split()}
    facts: list[Fact] = []
    for name in (*MAIN, *SIDE):  # dealt to each kind of people apart: balanced in both
        for people in (reference, chosen):
            facts += _deal(name, people, objects[name], draw)
    facts += _deal("land", cities, objects["land"], draw) + _deal("trade", firms, objects["trade"], draw)
    held = {name: tuple(things) for name, things in objects.items()}
    return World(seed, size, tuple(reference), tuple(chosen), held, tuple(facts))


def _names() -> list[str]:
    return [start + end for start, end in product(_STARTS.split(), _ENDS.split())]


def _deal(relation: str, subjects: Sequence[str], objects: Sequence[str], draw: random.Random) -> list[Fact]:
    """Each object as often as any other, give or take one."""
    hand = [objects[i % len(objects)] for i in range(len(subjects))]
    draw.shuffle(hand)
    return [Fact(s, relation, o, topic=relation) for s, o in zip(subjects, hand, strict=True)]
