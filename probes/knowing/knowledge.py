"""Knowledge: four aspects of each fact, one beside the other, since a model may have some without the others.

1. says      where the object stands after the cloze prompt (saying.py);
2. believes  whether a truth probe that never saw the fact puts the true statement first (believing.py);
3. knows     whether puzzles that only the link answers are got right, bet upon until decided (asking.py);
4. uses      whether the answer changes when the fact's direction is taken away (using.py); only an answer that is
             given can change, so a fact that is not said is not used, nor one whose tasks are not done.

Each is an Estimate with an interval, or not measurable for a stated reason. Knowing and saying make the quadrant:
knows-says, knows-denies, guesses (says without knowing), ignorant; undecided where the bets are, and "one way" where
puzzles are got right in one form alone, which is no knowing but may be more than a guess.

Reference facts, on which forms of puzzles are tried, are those whose object is ranked first and is the greedy answer.

Two kinds of facts are asked about in their own way. What stands in the prompt alone gets its `contexts` before every
prompt: it is said and used behind them, and not asked for otherwise. What is there to be acted upon, such as the state
of a planner, has `tasks` in which it is used.

Sources: Gekhman et al. 2025 (2503.15299) for knowing more than is said. Limits: those of each aspect; and all four are
about one wording's worth of English.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from probes.errors import BadInput, NotFound, TooFew, nearest
from probes.facts.facts import Fact, Topic, load_topic, topics
from probes.facts.templates import find_relation
from probes.knowing.acting import Task, use_in_tasks
from probes.knowing.asking import ONE_WAY, Asked, Form, ask, measure_forms
from probes.knowing.beginnings import Beginnings
from probes.knowing.believing import Belief, believe
from probes.knowing.betting import IGNORANT, KNOWS, Rule
from probes.knowing.puzzles import PuzzleMaker, digest, gives_away
from probes.knowing.saying import Said, say
from probes.knowing.using import Use, use
from probes.model.language_model import LanguageModel
from probes.reading.metrics import Estimate

__all__ = ["ASPECTS", "QUADRANTS", "Knowing", "Knowledge", "NotMeasurable", "know", "self_topic"]

ASPECTS = ("says", "believes", "knows", "uses")
QUADRANTS = ("knows-says", "knows-denies", "guesses", "ignorant", "one way", "undecided", "not measurable")
BACKGROUND = 48
"""Further facts of the topic that are asked cloze prompts, when only some are asked about."""
PROBED = 300
"""Facts that truth probes are fitted on, when fewer are asked about and the topic has them."""
REFERENCES = 16
"""Reference facts, at most."""


@dataclass(frozen=True)
class NotMeasurable:
    """Stands where an Estimate cannot."""

    why: str
    """For people to read."""

    def __str__(self) -> str:
        return f"not measurable: {self.why}"


Measure = Estimate | NotMeasurable


@dataclass(frozen=True)
class Knowledge:
    """What a model has of one fact."""

    fact: Fact
    """Which."""
    says: Measure
    """Share of the other candidates that the object is ahead of after the cloze prompt, in [0, 1]."""
    believes: Measure
    """Held-out margin of the true statement over false ones, in spreads of false ones."""
    knows: Measure
    """Share of puzzles that were got right, in [0, 1]; chance is 1/2."""
    uses: Measure
    """Nats that the object loses with the fact's direction, beyond random ones."""
    said: Said | None = None
    """Rank, greedy answer."""
    belief: Belief | None = None
    """Statements with their scores."""
    asked: Asked | None = None
    """Puzzles, answers and the path of the bets."""
    used: Use | None = None
    """Margin before, and where."""

    def holds(self, aspect: str) -> bool | None:
        """Whether one of `ASPECTS` is so; None where it is undecided, not measurable or was not asked for."""
        if aspect == "says":
            return None if self.said is None else self.said.holds
        if aspect == "believes":
            return None if self.belief is None else self.belief.holds
        if aspect == "knows":
            return (
                None if self.asked is None else {KNOWS: True, IGNORANT: False, ONE_WAY: False}.get(self.asked.decision)
            )
        if aspect == "uses":
            given = None if self.used is None else self.used.given
            if given is None and self.said is not None:
                given = self.said.holds
            return None if self.used is None or given is None else given and self.used.holds
        raise NotFound(f"{aspect!r} is no aspect; {nearest(str(aspect), ASPECTS)}")

    @property
    def quadrant(self) -> str:
        """One of `QUADRANTS`."""
        says, knows = self.holds("says"), self.holds("knows")
        if self.asked is None or says is None:
            return "not measurable"
        if knows is None:
            return "undecided"
        if self.asked.decision == ONE_WAY:
            return "one way"
        return ("knows-says" if says else "knows-denies") if knows else ("guesses" if says else "ignorant")

    @property
    def disagreement(self) -> float:
        """How much the aspects contradict each other, for sorting: aspects that differ from the majority."""
        found = [held for aspect in ASPECTS if (held := self.holds(aspect)) is not None]
        apart = {"knows-denies": 2.0, "guesses": 2.0, "undecided": 0.5}.get(self.quadrant, 0.0)
        return apart + min(sum(found), len(found) - sum(found))

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table: fact, rank, greedy answer, margin, puzzles, decision, use, quadrant."""
        said, asked = self.said, self.asked
        return (
            f"{self.fact.subject} | {self.fact.object}",
            f"{said.rank} of {said.candidates}" if said else "-",
            f"{'yes' if said.greedy else 'no'}: {said.answer}" if said else "-",
            _shown(self.believes, self.holds("believes")),
            f"{asked.won} of {len(asked.puzzles)}" if asked else "-",
            asked.decision if asked else "not measurable",
            _shown(self.uses, self.holds("uses")),
            self.quadrant,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        found: dict[str, Any] = {"fact": self.fact.id, "quadrant": self.quadrant}
        for aspect in ASPECTS:
            measure = getattr(self, aspect)
            estimate = measure.to_dict() if isinstance(measure, Estimate) else None
            why = measure.why if isinstance(measure, NotMeasurable) else None
            found[aspect] = {"holds": self.holds(aspect), "estimate": estimate, "not_measurable": why}
        if self.said:
            found["says"] |= {"rank": self.said.rank, "candidates": self.said.candidates, "greedy": self.said.greedy,
                              "answer": self.said.answer, "likeliest": self.said.likeliest}  # fmt: skip
        if self.asked:
            forms = {form: {"right": right, "asked": n} for form, (right, n) in self.asked.by_form().items()}
            found["knows"] |= {"decision": self.asked.decision, "forms": forms, "wealth": self.asked.path[-1]}
        return found


HEADINGS = ("fact", "cloze rank", "says first", "belief margin", "puzzles right", "knows", "use (nats)", "quadrant")


def _shown(measure: Measure, holds: bool | None) -> str:
    if isinstance(measure, NotMeasurable):
        return "-"
    return f"{measure.interval(1)}{'' if not holds else ' *'}"


@dataclass(frozen=True, eq=False)
class Knowing:
    """What a model has of many facts."""

    model: str
    """Its name."""
    names: tuple[str, ...]
    """Of the topics."""
    rows: tuple[Knowledge, ...]
    """One a fact, in the order asked."""
    forms: Mapping[str, tuple[Form, ...]]
    """Which forms of puzzles can be asked, by topic."""
    truth: Mapping[str, Estimate]
    """AUROC of the truth probes on held-out facts, by topic."""
    rule: Rule
    """When a stream of answers is decided."""
    seed: int
    """Of all draws."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """By aspect."""
    contexts: bool = False
    """Whether each fact was asked about behind a context of its own."""

    @property
    def counts(self) -> dict[str, int]:
        """How many facts each quadrant has."""
        found = Counter(row.quadrant for row in self.rows)
        return {name: found[name] for name in QUADRANTS if found[name] or name in QUADRANTS[:4]}

    @property
    def decided(self) -> bool:
        """Whether anything at all was decided, of what was asked for."""
        return any(row.holds(aspect) is not None for row in self.rows for aspect in ASPECTS)

    def by_disagreement(self) -> tuple[Knowledge, ...]:
        """Return the rows, those whose aspects disagree most first."""
        return tuple(sorted(self.rows, key=lambda row: -row.disagreement))

    def __getitem__(self, name: str) -> Knowledge:
        found = {row.fact.id: row for row in self.rows}
        if name not in found:
            raise NotFound(f"{name!r} was not asked about; {nearest(str(name), found)}")
        return found[name]

    @property
    def sentence(self) -> str:
        """What came out."""
        parts = ", ".join(f"{n} {name}" for name, n in self.counts.items())
        return f"{self.model}, {len(self.rows)} facts of {', '.join(self.names)}: {parts}."

    @property
    def notes(self) -> tuple[str, ...]:
        """Which forms were asked, and how well the truth probes do."""
        found = [
            f"{topic}: {form.name}: {'asked' if form.measurable else 'not measurable'} ({form.why})"
            for topic, forms in self.forms.items()
            for form in forms
        ]
        found += [f"{topic}: truth probes reach AUROC {estimate}" for topic, estimate in self.truth.items()]
        return tuple(found)

    def __str__(self) -> str:
        rows = [HEADINGS, *(row.cells() for row in self.rows)]
        widths = [min(44, max(len(row[i]) for row in rows)) for i in range(len(HEADINGS))]
        lines = ["  ".join(cell[:44].ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        notes = [*self.notes, "*: the interval lies above 0 (and the fact is said, for use)"]
        return "\n".join([self.sentence, *(line.rstrip() for line in lines), *notes])

    def __repr__(self) -> str:
        return f"Knowing({self.sentence})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "model": self.model,
            "topics": list(self.names),
            "sentence": self.sentence,
            "counts": self.counts,
            "forms": {
                topic: {form.name: {"measurable": form.measurable, "why": form.why} for form in forms}
                for topic, forms in self.forms.items()
            },
            "truth": {topic: estimate.to_dict() for topic, estimate in self.truth.items()},
            "rule": {"goal": self.rule.goal, "margin": self.rule.margin, "alpha": self.rule.alpha},
            "seed": self.seed,
            "contexts": self.contexts,
            "facts": [row.to_dict() for row in self.rows],
            "seconds": {name: round(s, 1) for name, s in self.seconds.items()},
        }


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
        BadInput: no facts, or facts that are in none of the topics, or have no context where contexts are given; facts
            with contexts and tasks. NotFound: an aspect, or a relation that neither
            ships nor came in a topic.
    """
    wanted = {aspects} if isinstance(aspects, str) else set(aspects)
    for aspect in wanted:
        if aspect not in ASPECTS:
            raise NotFound(f"{aspect!r} is no aspect; {nearest(str(aspect), ASPECTS)}")
    found, asked = _gathered(facts, only)
    _check_contexts(asked, contexts, tasks)
    seconds: Counter[str] = Counter()
    rows: list[Knowledge] = []
    forms: dict[str, tuple[Form, ...]] = {}
    truth: dict[str, Estimate] = {}
    for topic in found:
        beside = _beside(topic, found) if others is None else others
        one = _One(model, topic, asked[topic.name], beside, seed, rule or Rule(), most, seconds, say, progress)
        one.put(contexts, tasks)
        rows += one.measure(wanted)
        forms |= {topic.name: one.forms} if one.forms else {}
        truth |= {topic.name: one.truth} if one.truth else {}
    names = tuple(topic.name for topic in found)
    return Knowing(
        model.name, names, tuple(rows), forms, truth, rule or Rule(), seed, dict(seconds), contexts is not None
    )


def self_topic() -> Topic:
    """Return what the embedded model may know about itself and its situation: its name, its maker, being tested.

    Every fact has its own wrong answers. There is one self only, so no question has a twin and puzzles cannot be made:
    knowing is not measurable, saying, believing and using are. To say or believe such a sentence is no sign of
    experience; it shows what text the model takes for true where somebody says "I".
    """
    return load_topic("self")


def _gathered(facts: Any, only: Iterable[Fact] | None) -> tuple[list[Topic], dict[str, tuple[Fact, ...]]]:
    """Return the topics, and which facts of each are asked about."""
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
        found = [topic for topic in found if asked[topic.name]]
    return list(found), asked


def _check_contexts(asked: Mapping[str, Sequence[Fact]], contexts: Mapping[str, str] | None, tasks: Sequence) -> None:
    if contexts is None:
        return
    bare = [fact.id for mine in asked.values() for fact in mine if not contexts.get(fact.id)]
    if bare:
        raise BadInput(f"{bare[0]!r} and {len(bare) - 1} more have no context; give each one, or leave it out by only=")
    if tasks:
        raise BadInput("contexts and tasks were given; tasks are whole prompts: ask in two calls")


def _beside(topic: Topic, given: Sequence[Topic]) -> list[Topic]:
    if topic.name in topics() and topic.relation.topic == topic.name:
        return [load_topic(name) for name in topics() if name != topic.name]
    return [other for other in given if other.name != topic.name]


class _One:
    """The facts of one topic while they are measured."""

    def __init__(self, model, topic, asked, beside, seed, rule, most, seconds, say, progress):
        self.model, self.topic, self.asked, self.beside = model, topic, asked, beside
        self.seed, self.rule, self.most, self.progress = seed, rule, most, progress
        self.seconds, self.tell = seconds, say
        self.forms: tuple[Form, ...] = ()
        self.truth: Estimate | None = None
        # An order drawn once, so that which facts stand in the background does not hang on the file's order.
        rest = [fact for fact in topic.facts if fact.id not in {fact.id for fact in asked}]
        self.rest = sorted(rest, key=lambda fact: digest(f"{seed}|background|{fact.id}"))
        self.background = tuple(self.rest[: max(0, BACKGROUND - len(asked))])
        self.contexts: Mapping[str, str] = {}
        self.tasks: Sequence[Task] = ()

    def put(self, contexts: Mapping[str, str] | None, tasks: Sequence[Task]) -> None:
        """Put contexts before prompts, and tasks in the place of prompts."""
        self.tasks = tasks
        if contexts is not None:
            # A fact without a context would differ from the others in having none, above all.
            self.contexts, fit = contexts, [fact for fact in self.rest if contexts.get(fact.id)]
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
        easy = [fact for fact in (*self.asked, *self.background) if fact.id in said and said[fact.id].holds]
        easy = sorted(easy, key=lambda fact: (not said[fact.id].greedy, digest(f"{self.seed}|reference|{fact.id}")))
        self.forms = measure_forms(maker, readers, easy[:REFERENCES])
        names = [form.name for form in self.forms if form.measurable]
        if not names:
            return NotMeasurable("; ".join(f"{form.name}: {form.why}" for form in self.forms)), {}
        found = ask(maker, readers, self.asked, names, rule=self.rule, most=self.most)
        return NotMeasurable("no twin fits this fact"), found

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
