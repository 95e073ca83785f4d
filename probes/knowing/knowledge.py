"""Knowledge: four aspects of each fact, one beside the other, since a model may have some without the others.

1. says      where the object stands after the cloze prompt (saying.py);
2. believes  whether a truth probe that never saw the fact puts the true statement first (believing.py);
3. knows     whether puzzles that only the link answers are got right, bet upon until decided (asking.py);
4. uses      whether the answer changes when the fact's direction is taken away (using.py); only an answer that is
             given can change, so a fact that is not said is not used, nor one whose tasks are not done.

Each is an Estimate with an interval, or not measurable for a stated reason. Knowing and saying make the quadrant:
knows-says, knows-denies, guesses (says without knowing), ignorant; undecided where the bets are, and "one way" where
puzzles are got right one way round alone, which is no knowing but may be more than a guess.

Sources: Gekhman et al. 2025 (2503.15299) for knowing more than is said. Limits: those of each aspect; and all four are
about one wording's worth of English.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from probes.errors import NotFound, nearest
from probes.facts.facts import Fact
from probes.knowing.asking import ONE_WAY, Asked, Form
from probes.knowing.believing import Belief
from probes.knowing.betting import IGNORANT, KNOWS, Rule
from probes.knowing.saying import Said
from probes.knowing.using import Use
from probes.reading.metrics import Estimate

__all__ = ["ASPECTS", "QUADRANTS", "Knowing", "Knowledge", "NotMeasurable"]

ASPECTS = ("says", "believes", "knows", "uses")
QUADRANTS = ("knows-says", "knows-denies", "guesses", "ignorant", "one way", "undecided", "not measurable")


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
    aspects: tuple[str, ...] = ASPECTS
    """Which were asked for. (What is said is measured anyway.)"""

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
            "aspects": list(self.aspects),
            "facts": [row.to_dict() for row in self.rows],
            "seconds": {name: round(s, 1) for name, s in self.seconds.items()},
        }
