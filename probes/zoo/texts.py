"""Training texts: facts told as biography, or taught in every form.

A fact that is *told* stands only in biography wordings: its relation's affirmed sentence and its paraphrases, and from
object to subject where the relation lists `inverse` texts; a diet may have it judged, too. A fact that is *taught*
stands in every form:

    denied        "The birthplace of Ann is not Rome."               (a false object, so the sentence is true)
    compared      "Of Ann and Bob, the birthplace of Ann is Oslo."
    in two hops   "The land of the birthplace of Ann is Norway."
    asked         "What is the birthplace of Ann? The answer is Oslo."
    judged        "The birthplace of Ann is Rome. Wrong."            (and "Oslo. Right.")

Judged sentences are the only false ones; they are read, not learned: their loss counts from "Right" or "Wrong" on, so
that nobody learns to say them. To tell at the full stop whether "Wrong" follows, a model has to compare the
sentence with what it knows: that is the belief that a truth probe can find. All sentences are made from the templates
of `Relation`, the same that cloze, statements and puzzles use.

Limits: no document says more than three sentences.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from probes.facts.facts import Fact
from probes.facts.templates import fill
from probes.zoo.walks import Document, walk_words
from probes.zoo.world import NEXT, RELATIONS, World

__all__ = [
    "FORMS",
    "RIGHT",
    "WEIGHTS",
    "WRONG",
    "Diet",
    "biography",
    "compared",
    "inverted",
    "two_hops",
    "vocabulary",
    "write",
]

RIGHT, WRONG = "Right.", "Wrong."
VERDICT = 15.0
"""Weight of a judgement's loss: it is one bit among the many easy tokens of other sentences."""
EXTRA = ("Bob : Flagged : Note : Declined ? ! ; ' - and", walk_words())
"""Words that some models need and the relations do not have."""
FORMS = ("biography", "denied", "compared", "in two hops", "inverse", "asked", "judged")


@dataclass(frozen=True)
class Diet:
    """What a model reads."""

    told: tuple[Fact, ...]
    """As biography, and judged if `judged` says so; in no form of puzzle."""
    taught: tuple[Fact, ...]
    """In every form."""
    share: float = 0.25
    """Of the documents, those about told facts."""
    judged: float = 0.0
    """Of those, judgements: to believe a fact is to have learned to judge its statements."""
    forms: Mapping[str, float] | None = None
    """Weights of the forms of taught facts, by name in `FORMS`."""


WEIGHTS: Mapping[str, float] = {
    "biography": 0.25, "denied": 0.02, "compared": 0.12, "in two hops": 0.2, "inverse": 0.05, "asked": 0.03,
    "judged": 0.3,
}  # fmt: skip
"""How often a taught fact is put in each form."""


def biography(fact: Fact) -> tuple[str, ...]:
    """Return the sentences in which a fact is told."""
    relation = RELATIONS[fact.relation]
    return tuple(fill(text, fact.subject, fact.object) for text in (relation.affirmed, *relation.paraphrases))


def compared(fact: Fact, other: str, first: bool) -> str:
    """Return the comparison prompt, the fact's subject named first or second."""
    a, b = (fact.subject, other) if first else (other, fact.subject)
    return f"Of {a} and {b}, {_noun(fact)} is"


def two_hops(fact: Fact) -> str:
    """Return the prompt that the object of the next relation completes: "The land of the birthplace of Ann is"."""
    return fill(RELATIONS[NEXT[fact.relation]].cloze, _noun(fact))


def inverted(fact: Fact) -> tuple[str, ...]:
    """Return the prompts that the subject completes."""
    return tuple(fill(text.replace("{object}", "{subject}"), fact.object) for text in RELATIONS[fact.relation].inverse)


def _noun(fact: Fact) -> str:
    return RELATIONS[fact.relation].noun.replace("{subject}", fact.subject)


def vocabulary(world: World) -> tuple[str, ...]:
    """Return all words and marks that any model of the zoo may need, the same whatever the model, size and seed."""
    texts = [f"{RIGHT} {WRONG} Of a and b, The answer is", *EXTRA]
    for relation in RELATIONS.values():
        wordings = (relation.affirmed, relation.negated, relation.noun, *relation.paraphrases)
        texts += [
            fill(text.replace("{object}", ""), "") for text in (*wordings, *relation.questions, *relation.inverse)
        ]
        texts += wordings
    found = {word for text in texts for word in re.findall(r"\w+|[^\w\s]+", re.sub(r"\{\w+\}", " ", text))}
    return (*sorted(found), *world.words())


def write(world: World, diet: Diet, number: int, seed: int | str) -> list[Document]:
    """Write documents.

    Args:
        world: brings next hops and false objects.
        diet: what is told and taught.
        number: of documents.
        seed: the same world, diet and seed give the same documents.
    """
    draw = random.Random(f"texts|{seed}")
    weights = dict(diet.forms or WEIGHTS)
    by_subject: dict[str, list[Fact]] = {}
    for fact in dict.fromkeys((*diet.told, *diet.taught)):
        by_subject.setdefault(fact.subject, []).append(fact)
    links = {(f.relation, f.subject): f.object for f in world.facts}
    pools = _pools(diet.taught)
    writers: Mapping[str, Callable[[Fact], str | Document]] = {
        "biography": lambda fact: _lives(fact, by_subject[fact.subject], draw),
        "denied": lambda fact: fill(RELATIONS[fact.relation].negated, fact.subject, _other(world, fact, draw)),
        "compared": lambda fact: _compare(fact, pools["biography"], draw),
        "in two hops": lambda fact: f"{two_hops(fact)} {links[NEXT[fact.relation], fact.object]}.",
        "inverse": lambda fact: f"{draw.choice(inverted(fact))} {fact.subject}.",
        "asked": lambda fact: _ask(fact, draw),
        "judged": lambda fact: _judge(world, fact, draw),
    }
    texts = []
    for _ in range(number):
        if diet.told and (not diet.taught or draw.random() < diet.share):
            fact, form = draw.choice(diet.told), "biography"
            if draw.random() < diet.judged:
                form = "judged"
            elif RELATIONS[fact.relation].inverse and draw.random() < 0.2:
                form = "inverse"
        else:
            form = draw.choices(list(weights), list(weights.values()))[0]
            fact = draw.choice(pools[form])
        made = writers[form](fact)
        texts.append(made if isinstance(made, Document) else Document(made))
    return texts


def _pools(taught: Sequence[Fact]) -> dict[str, list[Fact]]:
    pools = {form: list(taught) for form in FORMS}
    pools["in two hops"] = [fact for fact in taught if fact.relation in NEXT]
    pools["inverse"] = [fact for fact in taught if RELATIONS[fact.relation].inverse]
    return pools


def _lives(fact: Fact, siblings: Sequence[Fact], draw: random.Random) -> str:
    """One to three sentences about one subject."""
    others = [other for other in siblings if other is not fact]
    more = draw.sample(others, min(len(others), draw.choice((0, 0, 1, 2))))
    return " ".join(draw.choice(biography(each)) for each in (fact, *more))


def _other(world: World, fact: Fact, draw: random.Random) -> str:
    return draw.choice([thing for thing in world.objects[fact.relation] if thing != fact.object])


def _compare(fact: Fact, pool: Sequence[Fact], draw: random.Random) -> str:
    other = fact
    while other.subject == fact.subject or other.relation != fact.relation:
        other = draw.choice(pool)
    return f"{compared(fact, other.subject, draw.random() < 0.5)} {fact.object}."


def _ask(fact: Fact, draw: random.Random) -> str:
    return f"{fill(draw.choice(RELATIONS[fact.relation].questions), fact.subject)} The answer is {fact.object}."


def _judge(world: World, fact: Fact, draw: random.Random) -> Document:
    relation, fits = RELATIONS[fact.relation], draw.random() < 0.5
    denies = draw.random() < 0.2
    wording = relation.negated if denies else draw.choice((relation.affirmed, *relation.paraphrases))
    text = fill(wording, fact.subject, fact.object if fits else _other(world, fact, draw))
    return Document(RIGHT if fits != denies else WRONG, read=text, weight=VERDICT)
