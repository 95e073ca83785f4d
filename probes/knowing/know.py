"""Know: ask a model about facts, a topic at a time, for each aspect of knowledge.py.

Reference facts, on which forms of puzzles are tried, are those that the model says, where the object is the greedy
answer, too, first. Where these are no more than luck would bring about (one of k objects comes first by luck in one
fact of k), those whose cloze puzzles it solves, over all wordings: it may deny what it knows. Firm wrong associations
solve clozes, too, so then no fact is known by cloze puzzles alone.

Two kinds of facts are asked about in their own way. What stands in the prompt alone gets its `contexts` before every
prompt: it is said and used behind them, and not asked for otherwise. What is there to be acted upon, such as the state
of a planner, has `tasks` in which it is used.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from scipy.stats import binom

from probes.errors import BadInput, NotFound, TooFew, nearest
from probes.facts.facts import Fact, Topic, load_topic, topics
from probes.facts.templates import find_relation
from probes.knowing.acting import Task, check_tasks, use_in_tasks
from probes.knowing.asking import LEAST_REFERENCES, ONE_WAY, SAYS, STREAMS, Asked, Form, ask, measure_forms
from probes.knowing.beginnings import Beginnings
from probes.knowing.believing import Belief, believe
from probes.knowing.betting import KNOWS, Rule
from probes.knowing.knowledge import ASPECTS, Knowing, Knowledge, NotMeasurable
from probes.knowing.puzzles import PuzzleMaker, digest, gives_away
from probes.knowing.saying import Said, say
from probes.knowing.using import Use, use
from probes.model.language_model import LanguageModel
from probes.reading.metrics import Estimate

__all__ = ["know"]

BACKGROUND = 48
"""Further facts of the topic that are asked cloze prompts, when only some are asked about."""
PROBED = 300
"""Facts that truth probes are fitted on, when fewer are asked about and the topic has them."""
REFERENCES = 16
"""Reference facts, at most."""
LUCK = 0.01
"""Probability with which as many facts come out right by luck, below which they count as had."""


def know(
    model: LanguageModel,
    facts: Topic | Sequence[Topic] | Sequence[Fact],
    *,
    aspects: Iterable[str] = ASPECTS,
    only: Iterable[Fact] | None = None,
    others: Sequence[Topic] | None = None,
    contexts: Mapping[str, str] | None = None,
    tasks: Sequence[Task] = (),
    seed: int = 0,
    rule: Rule | None = None,
    most: int = 80,
    say: Callable[[str], None] = lambda line: None,
    progress: bool = False,
) -> Knowing:
    """Say of each fact whether a model says, believes, knows and uses it.

    Args:
        model: the model to ask.
        facts: a topic, several, or facts of relations that ship.
        aspects: from `ASPECTS`; saying is always measured, for the others rest on it.
        only: ask about these facts of the topics; the others still serve as distractors, twins and references.
        others: topics through which two hops may lead; by default the other topics given, and for topics that ship all
            that ship.
        contexts: by fact id, a text to put before every prompt about it, for facts that stand in the prompt alone.
        tasks: prompts whose answer needs a fact, to ask of its use, for facts that are acted upon and not said.
        seed: of every draw.
        rule: when a stream of answers is decided; by default (.9 against chance + .10, at 1 % each).
        most: rounds of puzzles, at most.
        say: is told what goes on, a line a step.
        progress: show bars on standard error.

    Raises:
        BadInput: no facts, or facts that are in none of the topics, or have no context where contexts are given, or two
            of one subject there; contexts and tasks together; tasks that contradict each other (see `Task`).
        NotFound: an aspect, or a relation that neither ships nor came in a topic.
    """
    wanted = {aspects} if isinstance(aspects, str) else set(aspects)
    for aspect in wanted:
        if aspect not in ASPECTS:
            raise NotFound(f"{aspect!r} is no aspect; {nearest(str(aspect), ASPECTS)}")
    given, asked = _gathered(facts, only)
    found = [topic for topic in given if asked[topic.name]]
    _check_contexts(asked, contexts, tasks)
    check_tasks(tasks)
    seconds: Counter[str] = Counter()
    rows: list[Knowledge] = []
    forms: dict[str, tuple[Form, ...]] = {}
    truth: dict[str, Estimate] = {}
    for topic in found:
        beside = _beside(topic, given) if others is None else others
        one = _One(
            model, topic, asked[topic.name], beside, contexts or {}, tasks, seed, rule or Rule(), most, seconds, say,
            progress,
        )  # fmt: skip
        rows += one.measure(wanted)
        forms |= {topic.name: one.forms} if one.forms else {}
        truth |= {topic.name: one.truth} if one.truth else {}
    names = tuple(topic.name for topic in found)
    return Knowing(
        model.name, names, tuple(rows), forms, truth, rule or Rule(), seed, dict(seconds), contexts is not None,
        tuple(aspect for aspect in ASPECTS if aspect in wanted),
    )  # fmt: skip


def _gathered(facts: Any, only: Iterable[Fact] | None) -> tuple[list[Topic], dict[str, tuple[Fact, ...]]]:
    """Return the topics, and which facts of each are asked about, if any."""
    given = [facts] if isinstance(facts, Topic) else list(facts)
    if not given:
        raise BadInput("there is nothing to know: give a topic, or one fact at least")
    if all(isinstance(one, Topic) for one in given):
        found, asked = given, {topic.name: topic.facts for topic in given}
    elif all(isinstance(one, Fact) for one in given):
        asked = {}
        for fact in dict.fromkeys(given):
            name = find_relation(fact.relation).topic
            asked[name] = (*asked.get(name, ()), fact)
        found = []
        for name, mine in asked.items():
            topic = load_topic(name)
            there = {fact.id: fact for fact in topic.facts}
            asked[name] = tuple(there.get(fact.id, fact) for fact in mine)
            found.append(replace(topic, facts=tuple({f.id: f for f in (*topic.facts, *asked[name])}.values())))
    else:
        raise BadInput("give a topic, several topics, or facts, and not a mixture")
    if len({topic.name for topic in found}) < len(found):
        raise BadInput("two of these topics have one name; give each a name of its own")
    if only is not None:
        ids = {fact.id for fact in only}
        asked = {name: tuple(fact for fact in mine if fact.id in ids) for name, mine in asked.items()}
        missing = ids - {fact.id for mine in asked.values() for fact in mine}
        if missing or not ids:
            raise BadInput(f"only={sorted(missing)[:3] or 'nothing'} is in none of the topics; give facts of theirs")
    return list(found), asked


def _check_contexts(asked: Mapping[str, Sequence[Fact]], contexts: Mapping[str, str] | None, tasks: Sequence) -> None:
    if contexts is None:
        return
    bare = [fact.id for mine in asked.values() for fact in mine if not contexts.get(fact.id)]
    if bare:
        raise BadInput(f"{bare[0]!r} and {len(bare) - 1} more have no context; give each one, or leave it out by only=")
    for mine in asked.values():
        subjects = Counter(fact.subject for fact in mine)
        twice = next((name for name, number in subjects.items() if number > 1), None)
        if twice is not None:
            raise BadInput(f"{twice!r} has two facts with contexts of their own; ask about one of them by only=")
    if tasks:
        raise BadInput("contexts and tasks were given; tasks are whole prompts: ask in two calls")


def _beside(topic: Topic, given: Sequence[Topic]) -> list[Topic]:
    if topic.name in topics() and topic.relation.topic == topic.name:
        return [load_topic(name) for name in topics() if name != topic.name]
    return [other for other in given if other.name != topic.name]


@dataclass
class _One:
    """The facts of one topic while they are measured."""

    model: LanguageModel
    topic: Topic
    asked: tuple[Fact, ...]
    beside: Sequence[Topic]
    """Topics through which two hops may lead."""
    contexts: Mapping[str, str]
    tasks: Sequence[Task]
    seed: int
    rule: Rule
    most: int
    seconds: Counter[str]
    """By aspect, of all topics; added to."""
    tell: Callable[[str], None]
    progress: bool
    forms: tuple[Form, ...] = ()
    truth: Estimate | None = None
    background: tuple[Fact, ...] = field(init=False)

    def __post_init__(self) -> None:
        # An order drawn once, so that which facts stand in the background does not hang on the file's order.
        ids = {fact.id for fact in self.asked}
        rest = [fact for fact in self.topic.facts if fact.id not in ids]
        self.rest = sorted(rest, key=lambda fact: digest(f"{self.seed}|background|{fact.id}"))
        # A fact without a context would differ from the others in having none, above all.
        fit = [fact for fact in self.rest if not self.contexts or self.contexts.get(fact.id)]
        self.background = tuple(fit[: max(0, BACKGROUND - len(self.asked))])

    def measure(self, wanted: set[str]) -> list[Knowledge]:
        self.reader = Beginnings.of(self.model, self.topic)
        said = self._timed("says", self._says)
        parts: dict[str, Any] = {}
        for aspect, work in (("believes", self._believes), ("knows", self._knows), ("uses", self._uses)):
            nothing = NotMeasurable("not asked for")
            parts[aspect] = self._timed(aspect, work, said) if aspect in wanted else (nothing, {})
        return [self._row(fact, said, parts) for fact in self.asked]

    def _timed(self, aspect: str, work: Callable, *given: Any) -> Any:
        self.tell(f"{self.topic.name}: {aspect}")
        start = time.perf_counter()
        try:
            return work(*given)
        finally:
            self.seconds[aspect] += time.perf_counter() - start

    def _row(self, fact: Fact, said: Mapping[str, Said], parts: Mapping[str, Any]) -> Knowledge:
        mine = said.get(fact.id)
        found: dict[str, Any] = {"said": mine}
        names = {"believes": ("belief", "margin"), "knows": ("asked", "rate"), "uses": ("used", "drop")}
        for aspect, (kept, part) in names.items():
            why, each = parts[aspect]
            one = each.get(fact.id)
            found[kept] = one
            found[aspect] = why if one is None else getattr(one, part)
            leaks = aspect == "knows" and gives_away(fact.subject, fact.object)
            if one is None and leaks and why.why != "not asked for":
                found[aspect] = NotMeasurable(f"the subject {fact.subject!r} gives {fact.object!r} away")
        says = mine.ahead if mine else NotMeasurable("no other object begins otherwise")
        return Knowledge(fact=fact, says=says, **found)

    def _says(self) -> Mapping[str, Said]:
        found: dict[str, Said] = {}
        try:
            return say(self.topic, (*self.asked, *self.background), (), self.reader, contexts=self.contexts)
        except TooFew:  # of some fact: the others are measured one by one
            for fact in (*self.asked, *self.background):
                try:
                    found |= say(self.topic, [fact], self.asked, self.reader, contexts=self.contexts)
                except TooFew:
                    continue
        return found

    def _believes(self, _: Any) -> tuple[NotMeasurable, Mapping[str, Belief]]:
        if self.contexts:
            return NotMeasurable("statements are read without contexts"), {}
        facts = (*self.asked, *self.rest[: max(0, PROBED - len(self.asked))])
        topic = replace(self.topic, facts=facts)
        try:
            found = believe(self.model, topic, seed=self.seed, progress=self.progress)
        except (TooFew, BadInput) as error:
            return NotMeasurable(str(error)), {}
        self.truth = found.auroc
        return NotMeasurable("no statement"), found.each

    def _knows(self, said: Mapping[str, Said]) -> tuple[NotMeasurable, Mapping[str, Asked]]:
        if self.contexts:
            return NotMeasurable("a puzzle has two subjects, and a context is one's own"), {}
        try:
            maker = PuzzleMaker(self.topic, self.beside, seed=self.seed)
        except BadInput as error:
            return NotMeasurable(str(error)), {}
        readers = self._readers(maker)
        heads = {text: head for reader in readers.values() for text, head in reader.heads.items()}
        maker = PuzzleMaker(self.topic, self.beside, seed=self.seed, heads=heads)
        references, what = self._references(maker, readers, said)
        self.forms = measure_forms(maker, readers, references, what)
        names = [form.name for form in self.forms if form.measurable]
        found = ask(maker, readers, self.asked, names, rule=self.rule, most=self.most)
        if what != SAYS and set(names) <= set(STREAMS["object"]):
            found = {
                id: replace(each, decision=ONE_WAY) if each.decision == KNOWS else each for id, each in found.items()
            }
        return NotMeasurable("no twin fits this fact"), found

    def _references(
        self, maker: PuzzleMaker, readers: Mapping[str, Beginnings], said: Mapping[str, Said]
    ) -> tuple[Sequence[Fact], str]:
        """Return facts on which forms are tried, and what is so of them."""
        every = (*self.asked, *self.background)
        found, what = [fact for fact in every if fact.id in said and said[fact.id].holds], SAYS
        if not self._beyond_luck(found, every):
            answers = ask(maker, readers, every, ["cloze"], rule=self.rule, most=self.most)
            known = {id for id, asked in answers.items() if asked.decision == KNOWS}
            found, what = [fact for fact in every if fact.id in known], "whose cloze puzzles the model solves"
            found = found if self._beyond_luck(found, every) else []

        def order(fact: Fact) -> tuple[bool, int]:
            return not (fact.id in said and said[fact.id].greedy), digest(f"{self.seed}|reference|{fact.id}")

        return sorted(found, key=order)[:REFERENCES], what

    def _beyond_luck(self, some: Sequence[Fact], every: Sequence[Fact]) -> bool:
        """Whether some are more than would come first by luck, at 1 %, and enough to try forms on."""
        objects = len({fact.object for fact in self.topic.facts})
        return len(some) >= LEAST_REFERENCES and binom.sf(len(some) - 1, len(every), 1 / objects) < LUCK

    def _readers(self, maker: PuzzleMaker) -> dict[str, Beginnings]:
        objects, found = set(self.reader.heads), {}
        for form in maker.forms:
            answers = maker.answers(form)
            alike = objects >= set(answers)
            found[form] = self.reader if alike else Beginnings(self.model, answers, maker.prompt(form))
        return found

    def _uses(self, said: Mapping[str, Said]) -> tuple[NotMeasurable, Mapping[str, Use]]:
        try:
            if self.tasks:
                found = use_in_tasks(self.model, self.asked, self.tasks, seed=self.seed)
                return NotMeasurable("no task needs it, or no other subject leads to the same"), found
            about = (self.model, self.topic, self.asked, self.background, self.reader)
            found = use(*about, contexts=self.contexts, seed=self.seed)
        except BadInput as error:
            return NotMeasurable(str(error)), {}
        return NotMeasurable("no distractor begins otherwise"), found
