"""Asking: puzzles put to a model in rounds, until each fact is decided.

1. Which forms count: reference facts, those that the model says (know.py), get a few puzzles of every form. A form in
   which fewer than .8 of the answers are right is "not measurable" for this model, and is not asked. The cloze form is
   the one in which facts are said, and stays in any case.
2. Rounds: one puzzle of every form that is left for every fact that is open, all prompts of a round in one reading;
   what earlier rounds have read is not read again. Two of three puzzles of the first stream are clozes, the third a
   comparison; inverse and two hops are streams of their own (a model that was told a fact one way need not know it the
   other way round; Berglund et al. 2023, 2309.12288).
3. Bets (betting.py): who confuses a subject firmly may be right of it in one stream by luck, in every puzzle; luck in
   two is rare. So to know is to be right in two streams at least, or in the only one that the relation and the model
   leave (know.py takes "knows" back there where the model is not seen to say anything). "Knows" is said when the mean
   over pairs of streams of the smaller wealth reaches 1 / alpha (the smaller of two is worth no more than either),
   "does not know" when of the reciprocal wealths all but one have reached 2 / alpha: of two streams that know, one is
   then among them. A stream that is refuted by itself is not asked further.
4. One stream may be left when "does not know" is reached: it is asked on, and where its own wealth reaches n / alpha (n
   streams) the word is "one way": right from subject to object, say, and not the other way round. Who ignores the
   subject gets it with probability alpha at most; a firm wrong association that is right by luck gets it, too, so it
   is no knowing. Who knows in two streams gets it or "does not know" with probability alpha at most, together.

No probe has a say: the order of the puzzles is drawn.

Limits: a form that the model could only do on other facts than the reference facts is missed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import exp, log
from types import MappingProxyType

from probes.errors import BadInput
from probes.facts.facts import Fact
from probes.knowing.beginnings import Beginnings
from probes.knowing.betting import IGNORANT, KNOWS, UNDECIDED, Rule, right_rate
from probes.knowing.puzzles import FORMS, Puzzle, PuzzleMaker
from probes.reading.metrics import Estimate

__all__ = ["LEAST_REFERENCES", "ONE_WAY", "SAYS", "STREAMS", "Asked", "Form", "ask", "measure_forms"]

ONE_WAY = "one way"
"""Decision: right in one stream and not in the others, which may be knowing one way or luck."""

STREAMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"object": ("cloze", "cloze", "comparison"), "inverse": ("inverse",), "two hops": ("two hops",)}
)
"""What is bet on by itself, and the forms that take turns in it."""
SAYS = "that the model says"
"""What reference facts are, by default."""
LEAST_REFERENCES = 5
LEAST_RIGHT = 0.8
TRIES = 4
"""Puzzles of each form for a reference fact."""


@dataclass(frozen=True)
class Form:
    """Whether a form of puzzle can be asked of a model."""

    name: str
    """One of `FORMS`."""
    right: int
    """Puzzles on reference facts that the model got right."""
    asked: int
    """How many there were."""
    measurable: bool
    """Whether it is asked."""
    why: str
    """In a few words."""


@dataclass(frozen=True)
class Asked:
    """What became of the puzzles of one fact."""

    decision: str
    """One of `betting.DECISIONS`, or `ONE_WAY`."""
    puzzles: tuple[Puzzle, ...]
    """In the order in which they were asked."""
    answers: tuple[str, ...]
    """What the model picked."""
    path: tuple[float, ...]
    """Wealth of the bets against chance after each puzzle, over streams."""
    refuting: tuple[float, ...]
    """Wealth of the bets against knowing, over streams."""

    @property
    def right(self) -> tuple[bool, ...]:
        return tuple(answer == puzzle.right for puzzle, answer in zip(self.puzzles, self.answers, strict=True))

    @property
    def won(self) -> int:
        return sum(self.right)

    @property
    def rate(self) -> Estimate:
        """Share of right answers."""
        return right_rate(self.won, len(self.puzzles))

    def by_form(self) -> Mapping[str, tuple[int, int]]:
        """Return right answers and puzzles of each form that was asked."""
        pairs = list(zip(self.puzzles, self.right, strict=True))
        forms = [form for form in FORMS if any(puzzle.form == form for puzzle, _ in pairs)]
        return {
            form: (
                sum(right for puzzle, right in pairs if puzzle.form == form),
                sum(puzzle.form == form for puzzle, _ in pairs),
            )
            for form in forms
        }


def measure_forms(
    maker: PuzzleMaker,
    readers: Mapping[str, Beginnings],
    references: Sequence[Fact],
    what: str = SAYS,
) -> tuple[Form, ...]:
    """Return for each form that the relation has whether the model can do it on facts that it has.

    Args:
        maker: of the topic's puzzles.
        readers: by form.
        references: facts that the model has, as far as can be told without the form.
        what: is so of them; stands in `why`.
    """
    found = []
    for form in maker.forms:
        if form == "cloze" and what != SAYS:  # they were found by it
            found.append(Form(form, 0, 0, True, "asked in any case"))
            continue
        puzzles = []
        for fact in references:
            used: list[str] = []
            for number in range(TRIES):
                puzzle = maker.draw(fact, form, number, used)
                if puzzle is not None:
                    used.append(puzzle.twin.id)
                    puzzles.append(puzzle)
        enough = len({puzzle.fact.id for puzzle in puzzles}) >= LEAST_REFERENCES
        right = 0
        if enough:
            readers[form].read(prompt for puzzle in puzzles for prompt in puzzle.prompts)
            right = sum(puzzle.won(readers[form]) for puzzle in puzzles)
        asked = len(puzzles) if enough else 0
        if not enough:
            why = f"fewer than {LEAST_REFERENCES} facts of this form {what}"
        else:
            why = f"{right} of {asked} right on facts {what}"
        measurable = form == "cloze" or (enough and right >= LEAST_RIGHT * asked)
        found.append(Form(form, right, asked, measurable, why))
    return tuple(found)


class _Stream:
    """The bet on one stream of one fact while it goes on."""

    def __init__(self, forms: Sequence[str]):
        self.forms, self.number, self.wealth = forms, 0, 0.0
        self.used: dict[str, list[str]] = {}
        self.counts: dict[str, int] = {}
        self.over = False

    def next(self, maker: PuzzleMaker, fact: Fact) -> Puzzle | None:
        for turn in range(len(self.forms)):
            form = self.forms[(self.number + turn) % len(self.forms)]
            used = self.used.setdefault(form, [])
            count = self.counts[form] = self.counts.get(form, 0) + 1
            puzzle = maker.draw(fact, form, count - 1, used)
            if puzzle is None and used:  # every twin had its turn: round again, under fresh coins
                used.clear()
                puzzle = maker.draw(fact, form, count - 1, used)
            if puzzle is not None:
                used.append(puzzle.twin.id)
                self.number += 1
                return puzzle
        self.over = True  # no twin fits
        return None


class _Open:
    """One fact while it is open."""

    def __init__(self, fact: Fact, forms: Sequence[str], rule: Rule):
        self.fact, self.rule = fact, rule
        kept = {name: tuple(form for form in turns if form in forms) for name, turns in STREAMS.items()}
        self.streams = [_Stream(turns) for turns in kept.values() if turns]
        self.puzzles: list[Puzzle] = []
        self.answers: list[str] = []
        self.path: list[float] = []
        self.refuting: list[float] = []

    @property
    def decision(self) -> str:
        if not self.path:
            return UNDECIDED
        limit = exp(self.rule.bound)
        if self.path[-1] >= limit:
            return KNOWS
        if self.refuting[-1] < limit:
            return UNDECIDED
        left = max(self.streams, key=lambda stream: stream.wealth)
        if len(self.streams) > 1 and left.wealth >= self.rule.bound + log(len(self.streams)):
            return ONE_WAY
        return IGNORANT if left.over or len(self.streams) == 1 else UNDECIDED

    def _combine(self) -> tuple[float, float]:
        """Return the wealth of the bets of all streams against chance, and against knowing (in units of one stream)."""
        wealths = sorted((min(each.wealth, 700.0) for each in self.streams), reverse=True)
        if len(wealths) == 1:
            return exp(wealths[0]), exp(min(-wealths[0], 700.0))
        pairs = [exp(min(pair)) for pair in combinations(wealths, 2)]
        return sum(pairs) / len(pairs), exp(min(-wealths[1], 700.0)) / 2

    def draw(self, maker: PuzzleMaker) -> list[tuple[_Stream, Puzzle]]:
        drawn = [(stream, stream.next(maker, self.fact)) for stream in self.streams if not stream.over]
        # A form that has no puzzle for this fact (a country without a city to come through) is no stream of it.
        self.streams = [stream for stream in self.streams if stream.number]
        return [(stream, puzzle) for stream, puzzle in drawn if puzzle is not None]

    def take(self, stream: _Stream, puzzle: Puzzle, answer: str) -> None:
        if self.decision != UNDECIDED:
            return
        stream.wealth += self.rule.logs(0.5)[0 if answer == puzzle.right else 1]
        stream.over = stream.over or -stream.wealth >= self.rule.bound + (log(2) if len(self.streams) > 1 else 0)
        self.puzzles.append(puzzle)
        self.answers.append(answer)
        knows, refuting = self._combine()
        self.path.append(knows)
        self.refuting.append(refuting)

    def done(self) -> Asked:
        refuted = self.refuting[-1] >= exp(self.rule.bound)  # the last stream ran out of rounds before it was decided
        decision = IGNORANT if refuted and self.decision == UNDECIDED else self.decision
        parts = (self.puzzles, self.answers, self.path, self.refuting)
        return Asked(decision, *map(tuple, parts))


def ask(
    maker: PuzzleMaker,
    readers: Mapping[str, Beginnings],
    facts: Sequence[Fact],
    forms: Sequence[str],
    *,
    rule: Rule | None = None,
    most: int = 80,
) -> dict[str, Asked]:
    """Put puzzles to a model until each fact is decided.

    Args:
        maker: of the topic's puzzles.
        readers: by form; one reader may serve several.
        facts: what to ask about.
        forms: those of `FORMS` that are measurable.
        rule: when a fact is decided.
        most: rounds, at most.

    Returns:
        By fact id; facts that no puzzle can be made of are missing.

    Raises:
        BadInput: no form, or no round.
    """
    if not forms or most < 1:
        raise BadInput(f"forms {tuple(forms)} and {most} rounds; give at least one form and one round")
    every = [_Open(fact, forms, rule or Rule()) for fact in facts]
    for _ in range(most):
        drawn = [(one, *pair) for one in every if one.decision == UNDECIDED for pair in one.draw(maker)]
        if not drawn:
            break
        for reader in {id(reader): reader for reader in readers.values()}.values():
            reader.read(p for _, _, puzzle in drawn if readers[puzzle.form] is reader for p in puzzle.prompts)
        for one, stream, puzzle in drawn:
            one.take(stream, puzzle, puzzle.answer(readers[puzzle.form]))
    return {one.fact.id: one.done() for one in every if one.puzzles}
