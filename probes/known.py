"""Known: the page of what a model knows, from plain finished values.

In this order: how many facts each quadrant has, drawn; all facts in one table, those whose aspects disagree most first;
then for each fact its statements with their scores, its puzzles and how the bets went; last the forms and settings.

Limits: a page has the details of 120 facts at most, those that disagree most, and says so.
"""

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from probes import plots
from probes.errors import BadInput
from probes.facts.facts import load_topic
from probes.knowing.knowledge import ASPECTS, HEADINGS, QUADRANTS, Knowing, Knowledge, know, self_topic
from probes.look import percent
from probes.model.language_model import load_model
from probes.page import Block, Grid, Page, Plot, Section

__all__ = ["know_topic", "knowing_page", "write_knowing"]

MOST = 120
MEANINGS = {
    "knows-says": "solves its puzzles and says it",
    "knows-denies": "solves its puzzles and says something else",
    "guesses": "says it and doesn't solve its puzzles",
    "ignorant": "neither",
    "one way": "solves its puzzles in one form alone, which knowing one way round and luck both do",
    "undecided": "the puzzles ran out before they decided",
    "not measurable": "no puzzle can be made of it, or nothing to compare it with",
}


def knowing_page(knowing: Knowing) -> Page:
    """Return the page of what a model knows.

    Raises:
        BadInput: no fact was asked about.
    """
    if not knowing.rows:
        raise BadInput("there is no fact to show; ask about one at least")
    rows, counts = knowing.by_disagreement(), knowing.counts
    examples = {name: [row.fact.subject for row in rows if row.quadrant == name] for name in QUADRANTS}
    known = sum(row.holds("knows") is True for row in rows)
    shown = rows[:MOST]
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
        sections=[_table(rows), *map(_fact, shown), _settings(knowing, len(rows) - len(shown))],
        foot="Made by belief-probes. This file asks nothing of any other host.",
    )


def write_knowing(folder: str | os.PathLike, knowing: Knowing) -> Path:
    """Write the page (FOLDER/page.html) in place of an older one; return where it is.

    Raises:
        CouldNotRun: no space, no permission, a broken disk. BadInput: something else stands there.
    """
    return knowing_page(knowing).write(Path(folder) / "page.html")


def know_topic(
    model: str,
    facts: str,
    limit: int | None = None,
    *,
    aspects: Sequence[str] | None = None,
    out: Path | None = None,
    seed: int = 0,
    **options: Any,
) -> tuple[Knowing, Path | None]:
    """Load a model and a topic, measure, and write the page if there is a folder for it.

    Args:
        model: folder, hub id or embedded model.
        facts: a topic that ships, a file, or "self": what the embedded model may know about itself.
        limit: ask about so many facts, drawn by seed.
        aspects: from `ASPECTS`; all if left out.
        out: folder for the page.
        seed: of all draws.
        options: `say` and `progress`, as for `know`.

    Raises:
        BadInput: a limit below 1; and as for `know`.
    """
    topic = self_topic() if facts == "self" else load_topic(facts)
    if limit is not None and limit < 1:
        raise BadInput(f"limit {limit}; ask about one fact at least, or leave it out")
    only = None
    if limit is not None and limit < len(topic.facts):
        only = random.Random(seed).sample(topic.facts, limit)
    found = know(load_model(model), topic, aspects=aspects or ASPECTS, only=only, seed=seed, **options)
    return found, write_knowing(out, found) if out else None


def _table(rows: Sequence[Knowledge]) -> Section:
    caption = (
        "Cloze rank: the object among all objects, by what the prompt adds to it. Says first: how greedy decoding "
        "begins, and whether the object does. Belief margin: true statement over false ones, held out. Use: nats that "
        "the object loses with the fact's directions, beyond random ones. *: the interval lies above 0 (for use: and "
        "the fact is said)."
    )
    said = "; ".join(f"{name}: {words}" for name, words in MEANINGS.items() if any(r.quadrant == name for r in rows))
    kept = [i for i, name in enumerate(HEADINGS) if name != "knows"]  # the quadrant says it, and words need room
    cells = [row.cells() for row in rows]
    table = Grid([HEADINGS[i] for i in kept], [[row[i] for i in kept] for row in cells], caption)
    return Section("All facts, by disagreement", f"{len(rows)} facts", [said[0].upper() + said[1:] + ".", table], True)


def _fact(row: Knowledge) -> Section:
    blocks: list[Block] = [_aspects(row)]
    if row.belief:
        scores = [(text, "true" if truth else "false", f"{score:.2f}") for text, truth, score in row.belief.statements]
        blocks.append(Grid(("statement", "it is", "score"), scores, "By a truth probe that saw neither of its parts."))
    if row.asked and row.asked.path:
        asked = row.asked
        figure = plots.wealth(asked.path, asked.refuting, asked.right)
        forms = ", ".join(f"{form} {right} of {n}" for form, (right, n) in asked.by_form().items())
        blocks += [Plot(figure, f"Wealth of the two bets after each puzzle. Right by form: {forms}."), _puzzles(row)]
    puzzles = f", {row.asked.won} of {len(row.asked.puzzles)} puzzles" if row.asked else ""
    rank = f", rank {row.said.rank}" if row.said else ""
    return Section(f"{row.fact.subject} | {row.fact.object}", f"{row.quadrant}{rank}{puzzles}", blocks)


def _aspects(row: Knowledge) -> Grid:
    words = {True: "yes", False: "no", None: "not decided"}
    cells = [(aspect, words[row.holds(aspect)], str(getattr(row, aspect))) for aspect in ASPECTS]
    return Grid(("aspect", "holds", "estimate"), cells)


def _puzzles(row: Knowledge) -> Grid:
    cells = [
        (
            str(i),
            puzzle.form,
            f"{puzzle.question[0]} …",
            " / ".join(puzzle.options),
            answer,
            "right" if right else "wrong",
        )
        for i, (puzzle, answer, right) in enumerate(
            zip(row.asked.puzzles, row.asked.answers, row.asked.right, strict=True), start=1
        )
    ]
    caption = "The options stay; a coin draws which of the two subjects is asked about."
    return Grid(("", "form", "question", "options", "answer", "right"), cells, caption)


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
