"""Puzzles: questions that only the link of a fact answers, at a chance that is exact.

A puzzle has a twin: another fact of the topic. Its two options are the answers of both, its question is about one of
the two subjects, and a coin draws which. The options stay as they are, so whoever ignores the subject answers alike
under heads and tails and is right with probability 1/2: exactly, whatever else makes an option likely. The forms:

1. `cloze`       the object goes on after cloze prompts, over all of which the relation has lifts are averaged;
2. `comparison`  both objects are named, in both orders: "Of Paris and Madrid, the capital of France is";
3. `inverse`     the subject goes on after the object, averaged likewise: "Paris is the capital of";
4. `two hops`    a link of another topic must be followed, too: "The capital of the country in which the city of Lyon
   lies is", either to get at the subject or to go on from the object.

The answer is the fact's own option where the question lifts it above every rival (a cloze by a nat), else the
twin's:

    lift(o) = log p(o | question) - median over other subjects r of log p(o | question about r)

Rivals are the twin's option and thirty more answers of the topic: to beat one is luck every other time, and such luck
comes back in every puzzle of a fact; to beat all is luck once in thirty-two. A comparison names its options, so it has
no other rivals, and no median. The rule looks at the question asked and at nothing else of the twins, so the coin stays
fair to it. (The difference of the two differences, own - twin's here less the same there, would beat every prior; but
it is the same whichever of the two is asked: the coin would decide nothing, and chance would rest on the hope that
errors have no sign.) It also asks about the fact more than about its twin: where the twin alone is known, the own
option is not lifted, and half of the answers are wrong.

Draws depend on the seed, the fact and the number of the puzzle (rendezvous hashing): to add a fact to the topic moves
no coin, and no twin, rival or reference but where the new fact itself becomes one.

Refused when they are made: an option that stands in the question, or has a word of four letters that begins one of the
subject, or the other way round (Tunisia, Tunis); two options one of which begins with the other, or, where beginnings
are what is scored (`heads`), that begin alike.

Limits: what the coin makes exact is the chance of who ignores the subject. Who confuses it, firmly and always alike, is
by luck right of one fact in thirty-two (of one in twelve, where a topic has twelve answers); other wordings and forms
are what tells that from knowledge. Where a subject is linked to objects of a region or a kind, beating thirty of all
kinds is not yet knowing.
"""

import hashlib
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
from jaxtyping import Float, UInt64

from probes.errors import BadInput, NotFound, nearest
from probes.facts.facts import Fact, Topic
from probes.facts.templates import fill

__all__ = ["FORMS", "Puzzle", "PuzzleMaker", "digest", "gives_away", "lift"]

FORMS = ("cloze", "comparison", "inverse", "two hops")
RIVALS = 30
"""Further answers that the own one must beat."""
AHEAD = 1.0
"""Nats by which it must be lifted more than any in a cloze, where a model that was never told guesses most firmly."""
REFERENCES = 16
"""Questions about other subjects, whose median is what lifts are measured from."""

Lookup = Callable[[Sequence[str], Sequence[str]], Float[np.ndarray, "prompt text"]]
"""Log-probabilities in nats of texts after prompts."""


@dataclass(frozen=True)
class Puzzle:
    """One question with its two options, and the draw of what it asks about."""

    fact: Fact
    """Whose link is asked for."""
    twin: Fact
    """The other fact."""
    form: str
    """One of `FORMS`."""
    number: int
    """Of the puzzle among those of its fact and form, from 0."""
    tails: bool
    """The coin: whether the question is about the twin."""
    questions: tuple[tuple[str, ...], tuple[str, ...]]
    """About the fact and about the twin: prompts that differ in the order of what they name."""
    options: tuple[str, str]
    """What is right for the fact, what is right for the twin."""
    rivals: tuple[str, ...] = ()
    """Answers that the own one must beat besides."""
    references: tuple[tuple[str, ...], ...] = ()
    """The same question about other subjects."""

    @property
    def question(self) -> tuple[str, ...]:
        """What is asked."""
        return self.questions[self.tails]

    @property
    def right(self) -> str:
        """The right option."""
        return self.options[self.tails]

    @property
    def prompts(self) -> tuple[str, ...]:
        """Every prompt at which `answer` looks an option up."""
        return (*self.question, *(prompt for prompts in self.references for prompt in prompts))

    def answer(self, lookup: Lookup) -> str:
        """Return the option that a model picks."""
        lifts = lift((*self.options, *self.rivals), self.question, self.references, lookup)
        ahead = AHEAD if self.form == "cloze" else 0.0
        return self.options[0] if lifts[0] - lifts[1:].max() > ahead else self.options[1]

    def won(self, lookup: Lookup) -> bool:
        """Whether that is the right one."""
        return self.answer(lookup) == self.right


def lift(
    texts: Sequence[str], question: Sequence[str], references: Sequence[Sequence[str]], lookup: Lookup
) -> Float[np.ndarray, "text"]:
    """Return how much likelier a question makes texts than questions about other subjects do, in nats.

    Args:
        texts: what goes on after the prompts.
        question: prompts, which are averaged over.
        references: the prompts of each other subject, as many.
        lookup: of log-probabilities.
    """
    here = lookup(question, texts).mean(0)
    if not references:
        return here
    there = lookup([prompt for prompts in references for prompt in prompts], texts)
    return here - np.median(there.reshape(len(references), -1, len(texts)).mean(1), axis=0)


@dataclass(frozen=True)
class _Way:
    """One wording of one form."""

    form: str
    name: str
    """Form and wording."""
    ask: Callable[[Fact, tuple[str, str]], tuple[str, ...] | None]
    """Prompts about a fact (the options are there for comparisons to name); None where there are none."""
    answers: Mapping[str, str]
    """The right answer by fact id; facts that cannot be asked are missing."""


class PuzzleMaker:
    """Draws the puzzles of one topic.

    Args:
        topic: brings twins, rivals and references.
        others: topics through which two hops may lead.
        seed: of every draw.
        heads: the beginning of each answer, where beginnings are what is scored: no option or rival has the own one's.

    Raises:
        BadInput: the relation is closed, or no form can be had.
    """

    def __init__(
        self,
        topic: Topic,
        others: Sequence[Topic] = (),
        *,
        seed: int = 0,
        heads: Mapping[str, Hashable] | None = None,
    ):
        relation = topic.relation
        if relation.closed:
            raise BadInput(
                f"no puzzles of {relation.name!r}: each subject has possible objects of its own, so no other fact can "
                "be a twin; ask what the model says and believes"
            )
        self.topic, self.seed = topic, seed
        self._heads = heads or {}
        self._objects: dict[str, set[str]] = {}
        self._subjects: dict[str, set[str]] = {}
        self._rivals: dict[tuple[str, str], tuple[str, ...]] = {}
        self._references: dict[str, list[tuple[Fact, str, tuple[str, ...]]]] = {}
        self._ids = [fact.id for fact in topic.facts]
        for fact in topic.facts:
            self._objects.setdefault(fact.subject, set()).add(fact.object)
            self._subjects.setdefault(fact.object, set()).add(fact.subject)
        ways = [*_clozes(topic), *_comparisons(topic), *_inverses(topic)]
        for other in others:
            ways += _two_hops(topic, other)
        self._ways = {form: [way for way in ways if way.form == form and len(way.answers) > 1] for form in FORMS}
        if not any(self._ways.values()):
            raise BadInput(
                f"no puzzles of {topic.name!r}: {len(topic.facts)} facts of {relation.name!r} leave no twin; give two "
                "facts with different objects at least"
            )

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms that the relation has wordings for."""
        return tuple(form for form in FORMS if self._ways[form])

    def refusal(self, fact: Fact) -> str:
        """Return why no puzzle can be made of a fact; empty where some can."""
        if gives_away(fact.subject, fact.object):
            return f"the subject {fact.subject!r} gives {fact.object!r} away"
        if len(self._objects.get(fact.subject, ())) > 1:
            return f"{fact.subject!r} has several objects, so no answer is the only right one"
        return ""

    def answers(self, form: str) -> tuple[str, ...]:
        """Return every text that can be an option or a rival in a form, each once."""
        return tuple(dict.fromkeys(text for way in self._ways[form] for text in way.answers.values()))

    def prompt(self, form: str) -> str:
        """Return some prompt of a form."""
        way = self._ways[form][0]
        fact = next(fact for fact in self.topic.facts if fact.id in way.answers)
        return way.ask(fact, (fact.object, self.topic.facts[-1].object))[0]

    def draw(self, fact: Fact, form: str, number: int, used: Sequence[str] = ()) -> Puzzle | None:
        """Return a puzzle of a fact, or None where the form has none left for it.

        Args:
            fact: one of the topic's.
            form: one of `FORMS`.
            number: of the puzzle, from 0; wordings take turns.
            used: ids of facts that were its twin in this form before.

        Raises:
            NotFound: no such form.
        """
        if form not in FORMS:
            raise NotFound(f"{form!r} is no form of puzzle; {nearest(str(form), FORMS)}")
        if fact.id in self._unfit:
            return None
        ways = [way for way in self._ways[form] if fact.id in way.answers]
        key = f"{self.seed}|{fact.id}|{form}|{number}"
        order = self._order(f"twin|{key}")
        for turn in range(len(ways)):  # a way that gives every twin away is passed over
            way = ways[(number + turn) % len(ways)]
            for at in order:
                twin = self.topic.facts[at]
                if self._ids[at] in way.answers and self._ids[at] not in used and self._fits(way, fact, twin):
                    return self._puzzle(way, fact, twin, number, bool(digest(f"coin|{key}") & 1))
        return None

    def _puzzle(self, way: _Way, fact: Fact, twin: Fact, number: int, tails: bool) -> Puzzle:
        options = way.answers[fact.id], way.answers[twin.id]
        asked = tuple(way.ask(each, options) for each in (fact, twin))
        if way.form == "comparison":  # its options are in its prompts, so nothing can be shared with other puzzles
            return Puzzle(fact, twin, way.form, number, tails, asked, options)
        right = set(options)
        if way.form == "inverse":  # every subject of an object asked about would be right
            right |= self._subjects[fact.object] | self._subjects[twin.object]
        rivals = islice((text for text in self._others(fact, way) if text not in right), RIVALS)
        references: dict[tuple[str, ...], None] = {}
        for other, answer, prompts in self._about_others(way):
            if answer not in right and other.id not in (fact.id, twin.id) and prompts not in asked:
                references[prompts] = None
                if len(references) == REFERENCES:
                    break
        return Puzzle(fact, twin, way.form, number, tails, asked, options, tuple(rivals), tuple(references))

    def _about_others(self, way: _Way) -> list[tuple[Fact, str, tuple[str, ...]]]:
        """Return facts with their answers and prompts, in an order that is the wording's own."""
        if way.name not in self._references:
            order = self._order(f"reference|{self.seed}|{way.name}")
            facts = [self.topic.facts[at] for at in order if self._ids[at] in way.answers]
            self._references[way.name] = [(one, way.answers[one.id], way.ask(one, ("", ""))) for one in facts]
        return self._references[way.name]

    def _others(self, fact: Fact, way: _Way) -> tuple[str, ...]:
        """Return the answers that can be rivals of a fact's own, in an order of its own."""
        key = fact.id, way.name
        if key not in self._rivals:
            own, found = way.answers[fact.id], dict[str, None]()
            for at in self._order(f"rivals|{self.seed}|{fact.id}"):
                text = way.answers.get(self._ids[at])
                if text is not None and not self._alike(own, text):
                    found[text] = None
                    if len(found) == 4 * RIVALS:  # some of them will be right for a twin
                        break
            self._rivals[key] = tuple(found)
        return self._rivals[key]

    def _alike(self, a: str, b: str) -> bool:
        same = a in self._heads and self._heads[a] == self._heads.get(b)
        return same or a.casefold().startswith(b.casefold()) or b.casefold().startswith(a.casefold())

    def _fits(self, way: _Way, fact: Fact, twin: Fact) -> bool:
        if twin.subject == fact.subject or twin.object == fact.object:
            return False
        own, other = way.answers[fact.id], way.answers[twin.id]
        if self._alike(own, other) or twin.id in self._unfit:
            return False
        for each in (fact, twin):
            for prompt in way.ask(each, ("", "")) or ():
                if any(_says(text, prompt) for text in (own, other)):
                    return False
            source = each.object if way.form == "inverse" else each.subject
            if any(gives_away(source, text) for text in (own, other)):
                return False
        return True

    def _order(self, key: str) -> UInt64[np.ndarray, "fact"]:
        """Return the facts in an order drawn by a key: adding one leaves the others' order as it is."""
        return np.argsort(_mix(self._codes ^ np.uint64(digest(key))), kind="stable")

    @cached_property
    def _unfit(self) -> frozenset[str]:
        return frozenset(fact.id for fact in self.topic.facts if self.refusal(fact))

    @cached_property
    def _codes(self) -> UInt64[np.ndarray, "fact"]:
        return np.array([digest(fact.id) for fact in self.topic.facts], dtype=np.uint64)


def gives_away(source: str, text: str) -> bool:
    """Whether a word of four letters or more of one text begins a word of the other, or the text stands in the source.

    >>> gives_away("Tunisia", "Tunis"), gives_away("France", "Paris")
    (True, False)
    """
    words = [[word for word in re.findall(r"\w+", part.casefold()) if len(word) >= 4] for part in (source, text)]
    alike = any(a.startswith(b) or b.startswith(a) for a in words[0] for b in words[1])
    return alike or _says(text, source)


def _says(text: str, prompt: str) -> bool:
    flags = 0 if len(text) <= 2 else re.IGNORECASE
    return re.search(rf"(?<!\w){re.escape(text)}(?!\w)", prompt, flags) is not None


def _clozes(topic: Topic) -> list[_Way]:
    answers = {fact.id: fact.object for fact in topic.facts}
    texts = topic.relation.clozes
    return [_Way("cloze", "cloze", lambda fact, _: tuple(fill(text, fact.subject) for text in texts), answers)]


def _comparisons(topic: Topic) -> list[_Way]:
    noun = topic.relation.noun
    if not noun:
        return []

    def ask(fact: Fact, options: tuple[str, str]) -> tuple[str, ...]:
        about = noun.replace("{subject}", fact.subject)
        return tuple(f"Of {a} and {b}, {about} is" for a, b in (options, options[::-1]))

    return [_Way("comparison", "comparison", ask, {fact.id: fact.object for fact in topic.facts})]


def _inverses(topic: Topic) -> list[_Way]:
    answers = {fact.id: fact.subject for fact in topic.facts}
    texts = topic.relation.inverse
    if not texts:
        return []
    return [_Way("inverse", "inverse", lambda fact, _: tuple(fill(text, "", fact.object) for text in texts), answers)]


def _two_hops(topic: Topic, other: Topic) -> list[_Way]:
    """Through a topic whose objects are subjects here, and through one whose subjects are objects here."""
    if other.relation.name == topic.relation.name:
        return []
    ways = []
    before: dict[str, str] = {}
    answers = {fact.object for fact in topic.facts}
    for fact in other.facts:
        if fact.subject not in answers:  # Paris is a city of France, too
            before.setdefault(fact.object, fact.subject)
    askable = {fact.id: fact.object for fact in topic.facts if fact.subject in before}
    if askable and other.relation.noun:

        def through(fact: Fact, _: tuple[str, str]) -> tuple[str, ...] | None:
            phrase = other.relation.noun.replace("{subject}", before.get(fact.subject, ""))
            return (fill(topic.relation.cloze, phrase),) if fact.subject in before else None

        ways.append(_Way("two hops", f"two hops|from {other.name}", through, askable))
    after = {fact.subject: fact.object for fact in other.facts}
    askable = {
        fact.id: after[fact.object]
        for fact in topic.facts
        # The city of the capital of Ghana is in Ghana: a way back gives everything away.
        if fact.object in after and after[fact.object] != fact.subject
    }
    if askable and topic.relation.noun and not other.relation.closed:

        def beyond(fact: Fact, _: tuple[str, str]) -> tuple[str, ...] | None:
            phrase = topic.relation.noun.replace("{subject}", fact.subject)
            return (fill(other.relation.cloze, phrase),) if fact.object in after else None

        ways.append(_Way("two hops", f"two hops|to {other.name}", beyond, askable))
    return ways


def digest(key: str) -> int:
    """Return 64 bits that are the same for a text on every machine: draws that hang on a name, not on a place."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


def _mix(x: UInt64[np.ndarray, "fact"]) -> UInt64[np.ndarray, "fact"]:
    """Scramble 64 bits (the finaliser of SplitMix64; Steele, Lea & Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
