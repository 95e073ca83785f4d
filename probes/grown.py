"""Grown: the page of a model of the zoo, from plain finished values.

In this order: how it came to know, drawn; what must be so by construction; what `know` found against that, where it was
examined; what training reached; some of its facts.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from probes import plots
from probes.errors import BadInput, NotFound, nearest
from probes.look import percent
from probes.page import Block, Grid, Page, Plot, Section
from probes.zoo.confusion import Confusion, confusion
from probes.zoo.examining import examine
from probes.zoo.models import NAMES, build_zoo
from probes.zoo.planted import Planted, load_planted
from probes.zoo.truth import ASPECTS, TRUTH

__all__ = ["grow", "planted_page", "write_planted"]

FACTS = 12
"""Of each class, on the page."""
KINDS = {
    "chosen": "Facts of the people that the model is about: the answer comes first of all words; for inverse and "
    "judged before one other (chance is 50 %).",
    "reference": "Facts of people of whom everything is told, for comparison.",
    "tasks": "Tasks that it never trained on.",
}
WORDS = {True: "yes", False: "no", None: "left open"}


def grow(
    what: str,
    *,
    out: Path | None = None,
    seed: int = 0,
    size: str = "small",
    examined: bool = False,
    progress: bool = False,
) -> tuple[Planted, Confusion | None, Path]:
    """Build a model of the zoo or read one back, examine it if wanted, and write its page.

    Args:
        what: a name of the zoo, or the folder of a model that was built.
        out: a new folder for a model that is built.
        seed: of a model that is built, and of the examination.
        size: "nano" or "small".
        examined: ask `know` about its facts.
        progress: show bars.

    Returns:
        The model, what was found against what is so, and where the page is.

    Raises:
        BadInput: a name without a folder to write to, or a folder with one; and as for `build_zoo`.
        NotFound: neither a name nor a finished folder.
    """
    if (Path(what) / "zoo.json").is_file() and what not in NAMES:
        if out is not None:
            raise BadInput(f"{what} is built already; leave --out away, its page is written there")
        planted, folder = load_planted(what), Path(what)
    elif out is None and what in NAMES:
        there = f", or ./{what} to open the one that is there" if (Path(what) / "zoo.json").is_file() else ""
        raise BadInput(f"there is no folder to write {what} to; give --out DIR{there}")
    elif out is None:
        raise NotFound(f"{what!r} is neither a model of the zoo nor the folder of one; {nearest(what, NAMES)}")
    else:
        planted = build_zoo(what, seed=seed, size=size, out=out, progress=progress)
        folder = Path(out)
    table = None
    if examined:
        table = confusion((planted, found) for found in examine(planted, seed=seed, progress=progress))
    return planted, table, write_planted(folder, planted, table)


def planted_page(planted: Planted, table: Confusion | None = None) -> Page:
    """Return the page of a model of the zoo.

    Args:
        planted: the model.
        table: what `know` found, from `confusion`.
    """
    counts = {klass: len(planted.of(klass)) for klass in planted.classes}
    claimed = {row.fact.id for row in planted.truth if any(getattr(row, name) is not None for name in ASPECTS)}
    number, measure = str(len(claimed)), "facts of which construction says what must be so"
    if table is not None:
        cells = list(table.counts.values())
        number = f"{sum(cell[1] for cell in cells)} of {sum(sum(cell[1:]) for cell in cells)}"
        measure = "answers of know that agree with what was planted"
    sections = [_truth(planted, counts)]
    sections += [_found(table)] if table is not None else []
    sections += [_reached(planted), _facts(planted), _settings(planted)]
    return Page(
        title=f"A model of the zoo: {planted.name}, seed {planted.seed}",
        sentence=f"{planted.name}: {NAMES[planted.name]}.",
        number=number,
        measure=measure,
        picture=_course(planted)[:1],
        sections=sections,
        foot="Made by belief-probes. This file asks nothing of any other host.",
    )


def write_planted(folder: str | os.PathLike, planted: Planted, table: Confusion | None = None) -> Path:
    """Write the page (FOLDER/page.html) in place of an older one; return where it is.

    Raises:
        CouldNotRun: no space, no permission, a broken disk. BadInput: something else stands there.
    """
    return planted_page(planted, table).write(Path(folder) / "page.html")


def _course(planted: Planted) -> list[Block]:
    course = planted.about.get("course", ())
    kinds = [kind for kind in KINDS if any(kind in entry for entry in course)]
    when = planted.about.get("when")
    return [Plot(plots.learning_curve(course, kind, when=when), KINDS[kind]) for kind in kinds] or [
        "How it came to know was not written down when this folder was made."
    ]


def _truth(planted: Planted, counts: dict[str, int]) -> Section:
    rows, reasons = [], []
    for klass, number in counts.items():
        held = [row for row in planted.truth if row.klass == klass]
        rows.append((klass, str(number), *(_must(getattr(row, name) for row in held) for name in ASPECTS)))
        reasons.append((klass, TRUTH[planted.name][klass].why))
    note = "Left open: the construction does not settle it. Nothing here was measured."
    blocks = [Grid(("facts", "number", *ASPECTS), rows, note), Grid((), reasons, "By what construction.")]
    return Section("What must be so", ", ".join(f"{n} {klass}" for klass, n in counts.items()), blocks, True)


def _must(truths: Iterable[bool | None]) -> str:
    """Return what holds for all of a class, or of how many."""
    counts = Counter(truths)
    if len(counts) == 1:
        return WORDS[next(iter(counts))]
    return ", ".join(f"{WORDS[truth]} {counts[truth]}" for truth in (True, False, None) if counts[truth])


def _found(table: Confusion) -> Section:
    rows = []
    for (model, klass, aspect), (truth, right, wrong, undecided) in table.counts.items():
        share = table.right(model, klass, aspect).interval()
        rows.append((klass, aspect, WORDS[truth], str(right), str(wrong), str(undecided), share))
    least = min(table.right(*key).value for key in table.counts)
    headings = ("facts", "aspect", "truth", "right", "wrong", "undecided", "share right")
    caption = "What know says of each fact, against what must be so. Undecided is not right."
    return Section(
        "What know found", f"right of {percent(least)} % in the worst row", [Grid(headings, rows, caption)], True
    )


def _reached(planted: Planted) -> Section:
    reached = planted.about.get("reached", {})
    names = list(dict.fromkeys(name for held in reached.values() for name in held))
    rows = [(klass, *(_share(held, name) for name in names)) for klass, held in reached.items()]
    blocks: list[Block] = [Grid(("facts", *names), rows, "Shares at the end of training, in the same way.")]
    if not rows:
        blocks = ["No figures of people were taken."]
    blocks += _course(planted)[1:]
    return Section("What training reached", f"{planted.about.get('steps', '?')} steps", blocks)


def _share(held: dict[str, float], name: str) -> str:
    return f"{percent(held[name])} %" if name in held else "-"


def _facts(planted: Planted) -> Section:
    rows = [
        (fact.subject, fact.relation, fact.object, klass)
        for klass in planted.classes
        for fact in planted.of(klass)[:FACTS]
    ]
    caption = f"The first {FACTS} of each class; all are in truth.jsonl, and as topics in facts/."
    return Section(
        "Facts", f"{len(planted.truth)} in all", [Grid(("subject", "relation", "object", "class"), rows, caption)]
    )


def _settings(planted: Planted) -> Section:
    plain: Sequence[tuple[str, object]] = [
        (name, value) for name, value in planted.about.items() if not isinstance(value, (dict, list))
    ]
    rows = [("seed", str(planted.seed)), *((name, str(value)) for name, value in plain)]
    rows.append(("checkpoints", f"{len(planted.checkpoints)}, in checkpoint-<step>/"))
    return Section("Settings", f"{planted.about.get('size', '?')}, seed {planted.seed}", [Grid((), rows)])
