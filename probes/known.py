"""Known: the page of what a model knows, from plain finished values.

In this order: how many facts each quadrant has, drawn; all facts in one table, those whose aspects disagree most first;
then for each fact what every aspect asks and what was measured, how the bets went, its puzzles, its statements with
their scores, and its vector's receipt where one was asked for; last the forms and settings.

Limits: a page has the details of 120 facts at most, those that disagree most, and says so.
"""

import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from probes import plots
from probes.errors import BadInput, NotFound, nearest
from probes.facts.facts import Fact, Topic, load_topic
from probes.knowing.know import know
from probes.knowing.knowledge import ASPECTS, HEADINGS, QUADRANTS, Knowing, Knowledge
from probes.look import percent, whole
from probes.model.language_model import load_model
from probes.page import Block, Grid, Page, Plot, Section
from probes.report import receipt_section
from probes.steered import Steered, prove

__all__ = ["know_topic", "knowing_page", "write_knowing"]

MOST = 120
NONE: Mapping[str, Steered] = MappingProxyType({})
MEANINGS = {
    "knows-says": "solves its puzzles and says it",
    "knows-denies": "solves its puzzles and says something else",
    "guesses": "says it and doesn't solve its puzzles",
    "ignorant": "neither",
    "one way": "solves its puzzles one way round alone, which luck does, too",
    "undecided": "the puzzles ran out before they decided",
    "not measurable": "no puzzle can be made of it, or nothing to compare it with",
}
ASKS = {
    "says": "does the object come first after the cloze prompt, a nat ahead, and in half of the wordings",
    "believes": "does a truth probe that was fitted on other subjects put the true statement above false ones",
    "knows": "are puzzles solved that only the link between subject and object answers",
    "uses": "does the answer hang on the fact's own directions",
}
BETS = (
    "Two bets on the puzzles below: that the answers are better than chance (orange), and that the fact is not known "
    "(grey)."
)
PUZZLES = (
    "The options are the answers of two facts and stay as they are; a coin draws which of the two subjects is asked "
    "about, so who ignores the subject is right half of the time."
)
STATEMENTS = "Scored by a truth probe fitted on other facts, highest first: the true one should lead."


def knowing_page(knowing: Knowing, receipts: Mapping[str, Steered] = NONE) -> Page:
    """Return the page of what a model knows.

    Args:
        knowing: what came out.
        receipts: of the vectors of some facts, by their id.

    Raises:
        BadInput: no fact was asked about.
    """
    if not knowing.rows:
        raise BadInput("there is no fact to show; ask about one at least")
    rows, counts = knowing.by_disagreement(), knowing.counts
    examples = {name: [row.fact.subject for row in rows if row.quadrant == name] for name in QUADRANTS}
    known = sum(row.holds("knows") is True for row in rows)
    shown = [row for i, row in enumerate(rows) if i < MOST or row.fact.id in receipts]
    return Page(
        title=f"What {knowing.model} knows of {', '.join(knowing.names)}",
        sentence=knowing.sentence,
        number=f"{known} of {len(rows)}",
        measure="facts that it knows by puzzles",
        picture=[
            Plot(
                plots.quadrants(counts, examples),
                "Knowing by puzzles, saying by the cloze prompt. Tinted: where the two disagree.",
            )
        ],
        sections=[
            _table(rows),
            *(_fact(row, receipts.get(row.fact.id), knowing.rule.alpha) for row in shown),
            _settings(knowing, len(rows) - len(shown)),
        ],
        foot="Made by belief-probes. This file asks nothing of any other host.",
    )


def write_knowing(folder: str | os.PathLike, knowing: Knowing, receipts: Mapping[str, Steered] = NONE) -> Path:
    """Write the page (FOLDER/page.html) in place of an older one; return where it is.

    Raises:
        CouldNotRun: no space, no permission, a broken disk. BadInput: something else stands there.
    """
    return knowing_page(knowing, receipts).write(Path(folder) / "page.html")


def know_topic(
    model: str,
    facts: str,
    limit: int | None = None,
    *,
    aspects: Sequence[str] | None = None,
    receipts: Sequence[str] = (),
    out: Path | None = None,
    seed: int = 0,
    **options: Any,
) -> tuple[Knowing, dict[str, Steered], Path | None]:
    """Load a model and a topic, measure, and write the page if there is a folder for it.

    Args:
        model: folder, hub id or embedded model.
        facts: a topic that ships, a file, or "self": what the embedded model may know about itself.
        limit: ask about so many facts, drawn by seed.
        aspects: from `ASPECTS`; all if left out.
        receipts: facts ("subject|relation|object") that are asked about in any case, and whose vectors get a receipt.
        out: folder for the page.
        seed: of all draws.
        options: `say` and `progress`, as for `know`.

    Raises:
        BadInput: a limit below 1; and as for `know` and `prove`. NotFound: a fact for a receipt that the topic lacks.
    """
    topic = load_topic(facts)
    if limit is not None and limit < 1:
        raise BadInput(f"limit {limit}; ask about one fact at least, or leave it out")
    proved = _facts_of(topic, receipts)
    only = None
    if limit is not None and limit < len(topic.facts):
        only = {fact.id: fact for fact in (*random.Random(seed).sample(topic.facts, limit), *proved)}.values()
    opened = load_model(model)
    # First what may be refused: a topic too small for a receipt should not cost the minutes of all the rest.
    steered = {fact.id: prove(opened, topic=topic, fact=fact, seed=seed, **options) for fact in proved}
    found = know(opened, topic, aspects=aspects or ASPECTS, only=only, seed=seed, **options)
    return found, steered, write_knowing(out, found, steered) if out else None


def _facts_of(topic: Topic, ids: Sequence[str]) -> list[Fact]:
    there = {fact.id: fact for fact in topic.facts}
    for name in ids:
        if name not in there:
            raise NotFound(f"{name!r} is no fact of topic {topic.name!r}; {nearest(name, there)}")
    return [there[name] for name in dict.fromkeys(ids)]


def _table(rows: Sequence[Knowledge]) -> Section:
    caption = (
        "Cloze rank: the object among all objects, by what the prompt adds to it. Says first: how greedy decoding "
        "begins, and whether the object does. Belief margin: true statement over false ones, held out. Use: nats that "
        "the object loses with the fact's directions, beyond random ones. *: the interval lies above 0 (for use: and "
        "the fact is said)."
    )
    said = "; ".join(f"{name}: {words}" for name, words in MEANINGS.items() if any(r.quadrant == name for r in rows))
    kept = [i for i, name in enumerate(HEADINGS) if name != "knows"]  # the quadrant says it, and words need room
    cells = [[whole(cell) if "[" in cell else cell for cell in row.cells()] for row in rows]
    table = Grid([HEADINGS[i] for i in kept], [[row[i] for i in kept] for row in cells], caption)
    return Section("All facts, by disagreement", f"{len(rows)} facts", [said[0].upper() + said[1:] + ".", table], True)


def _fact(row: Knowledge, steered: Steered | None, alpha: float) -> Section:
    """Return what was measured of one fact: the aspects, the bets, the puzzles, the statements, the receipt."""
    blocks: list[Block] = [_aspects(row)]
    if row.asked and row.asked.path:
        asked = row.asked
        forms = ", ".join(f"{form} {right} of {n}" for form, (right, n) in asked.by_form().items())
        told = (
            f"{BETS} Whichever comes to {1 / alpha:g} decides, wrongly in {percent(alpha)} % at most where the "
            "subject is ignored. (Where grey does and one kind of puzzle is left, that is asked on, for one way.)"
        )
        figure = plots.wealth(asked.path, asked.refuting, asked.right, alpha=alpha)
        blocks += [Plot(figure, f"{told} Right by form: {forms}."), _puzzles(row)]
    if row.belief:
        scores = sorted(row.belief.statements, key=lambda statement: -statement[2])
        cells = [(text, "true" if truth else "false", f"{score:.2f}") for text, truth, score in scores]
        blocks.append(Grid(("statement", "it is", "score"), cells, STATEMENTS))
    if steered:
        receipt = receipt_section(steered.receipt, steered.direction.concept, steered.answers)
        blocks += [f"Receipt. {steered.sentence}", *receipt.blocks]
    puzzles = f", {row.asked.won} of {len(row.asked.puzzles)} puzzles right" if row.asked else ""
    rank = f", rank {row.said.rank} of {row.said.candidates}" if row.said else ""
    proved = ", with a receipt" if steered else ""
    return Section(f"{row.fact.subject} | {row.fact.object}", f"{row.quadrant}{rank}{puzzles}{proved}", blocks)


def _aspects(row: Knowledge) -> Grid:
    """Return one line an aspect: what it asks, whether it holds, what was measured."""
    words = {True: "yes", False: "no", None: "not decided"}
    said, asked, used = row.said, row.asked, row.used
    found = {aspect: str(getattr(row, aspect)) for aspect in ASPECTS}
    if said:
        firsts = (
            f", first in {sum(rank == 1 for rank in said.ranks)} of {n} prompts" if (n := len(said.ranks)) > 1 else ""
        )
        found["says"] = f"rank {said.rank} of {said.candidates}{firsts}; greedy decoding begins “{said.answer}”"
    if row.belief:
        found["believes"] = f"{row.believes.interval()} spreads of false statements above their mean"
    if asked:
        found["knows"] = f"{asked.won} of {len(asked.puzzles)} right: {asked.decision}"
    if used:
        lost = f"loses {used.drop.interval()} nats more than with random directions taken away at {used.site}"
        alone = "; but nothing is used that is not given as an answer" if used.holds and not row.holds("uses") else ""
        found["uses"] = f"{lost}; it was {used.before:.1f} ahead of wrong ones{alone}"
    cells = [(aspect, ASKS[aspect], words[row.holds(aspect)], found[aspect]) for aspect in ASPECTS]
    return Grid(("aspect", "asks", "holds", "measured [95 % interval]"), cells)


def _puzzles(row: Knowledge) -> Grid:
    asked = zip(row.asked.puzzles, row.asked.answers, row.asked.right, strict=True)
    cells = [
        (str(i), puzzle.form, f"{puzzle.question[0]} …", " / ".join(puzzle.options), answer, "yes" if right else "no")
        for i, (puzzle, answer, right) in enumerate(asked, start=1)
    ]
    return Grid(("", "form", "question", "options", "answer", "right"), cells, PUZZLES)


def _settings(knowing: Knowing, left: int) -> Section:
    rule = knowing.rule
    rows = [
        ("model", knowing.model),
        ("knows", f"right at least {percent(rule.goal)} % of the time, against chance + {percent(rule.margin)} points"),
        ("errors", f"{percent(rule.alpha)} % each, at whatever puzzle it stops"),
        ("seed", str(knowing.seed)),
        *(("note", note) for note in knowing.notes),
        *([("left out", f"the details of {left} facts that disagree least")] if left else []),
        ("time", ", ".join(f"{name} {s:.0f} s" for name, s in knowing.seconds.items())),
    ]
    return Section("Forms and settings", "which puzzles this model can be asked", [Grid((), rows)])
