"""Confusion: what `know` says of planted facts, against what is true of them by construction.

For each class of facts and each aspect: how many facts `know` decides rightly, wrongly, or not at all. Undecided is not
right. Where the construction says nothing (None), or an aspect was not asked for, nothing is counted. Facts that stand
in the prompt alone are counted as such where `know` was given their contexts, and by their other class where it was
not.

Limits: facts of one model share its weights, so the interval over facts is about that model; build several seeds.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from probes.errors import BadInput
from probes.knowing.knowledge import ASPECTS, Knowing
from probes.reading.metrics import Estimate, proportion
from probes.zoo.planted import Planted
from probes.zoo.truth import NOTED

__all__ = ["Confusion", "confusion"]


@dataclass(frozen=True)
class Confusion:
    """Counts by (model, class, aspect)."""

    counts: Mapping[tuple[str, str, str], tuple[bool, int, int, int]]
    """What is true, and how many facts were decided rightly, wrongly, and not at all."""

    def right(self, model: str, klass: str, aspect: str) -> Estimate:
        """Return the share of facts that were decided rightly.

        Raises:
            BadInput: nothing was counted there.
        """
        if (model, klass, aspect) not in self.counts:
            raise BadInput(f"nothing was counted for {aspect} of {klass} facts in {model}")
        _, right, wrong, open_ = self.counts[model, klass, aspect]
        n = right + wrong + open_
        return proportion(right, n, how=f"{right} right, {wrong} wrong, {open_} undecided of {n}; Clopper-Pearson")

    def __add__(self, other: "Confusion") -> "Confusion":
        """Count both, such as those of two seeds.

        Raises:
            BadInput: a cell is true in one and not in the other.
        """
        counts = dict(self.counts)
        for key, (truth, *more) in other.counts.items():
            held, *here = counts.get(key, (truth, 0, 0, 0))
            if held != truth:
                raise BadInput(f"{' '.join(key)} is {held} in one and {truth} in the other; they are of two tables")
            counts[key] = (truth, *(a + b for a, b in zip(here, more, strict=True)))
        return Confusion(counts)

    def __str__(self) -> str:
        lines = [
            f"{'model':<18}{'class':<12}{'aspect':<10}{'truth':<7}{'right':>6}{'wrong':>7}{'open':>6}  share right"
        ]
        for (model, klass, aspect), (truth, *counts) in self.counts.items():
            right, wrong, open_ = counts
            share = self.right(model, klass, aspect)
            word = "yes" if truth else "no"
            lines.append(f"{model:<18}{klass:<12}{aspect:<10}{word:<7}{right:>6}{wrong:>7}{open_:>6}  {share}")
        return "\n".join(lines)

    def to_dict(self) -> list[dict[str, Any]]:
        """Return a row a cell, for JSON."""
        names = ("model", "class", "aspect", "truth", "right", "wrong", "undecided")
        return [dict(zip(names, (*key, *held), strict=True)) for key, held in self.counts.items()]


def confusion(measured: Iterable[tuple[Planted, Knowing]], aspects: Sequence[str] = ASPECTS) -> Confusion:
    """Count how often `know` agrees with the truth of planted facts.

    Args:
        measured: models of the zoo (several seeds of one name are counted together), each with what `know` found.
        aspects: from `knowledge.ASPECTS`.

    Raises:
        BadInput: two truths in one cell, or nothing to count.
    """
    found: dict[tuple[str, str, str], Counter] = {}
    truths: dict[tuple[str, str, str], bool] = {}
    for planted, knowing in measured:
        rows = {row.fact.id: row for row in knowing.rows}
        for truth in planted.truth:
            if truth.fact.id not in rows or (truth.klass in NOTED) != knowing.contexts:
                continue
            for aspect in aspects:
                right = getattr(truth, aspect)
                if right is None or aspect not in knowing.aspects:
                    continue
                key = planted.name, truth.klass, aspect
                if truths.setdefault(key, right) != right:
                    raise BadInput(f"{aspect} of {truth.klass} facts in {planted.name} is true of some, not of others")
                held = rows[truth.fact.id].holds(aspect)
                found.setdefault(key, Counter())["open" if held is None else "right" if held == right else "wrong"] += 1
    if not found:
        raise BadInput("nothing to count: no fact that was measured has a truth")
    counts = {k: (truths[k], held["right"], held["wrong"], held["open"]) for k, held in found.items()}
    return Confusion(counts)
