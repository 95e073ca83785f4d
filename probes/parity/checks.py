"""Checks: one way of running the texts beside the reference, and the report of all of them.

A figure is the largest absolute difference of a score over n texts. Its interval is itself: what can be promised is
that, with 95 % confidence, at most a share 1 - .05^(1/n) of texts like them move further, and `how` says so.
"""

import os
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from probes.errors import BadInput
from probes.judging.sweep import Table
from probes.reading.metrics import Estimate
from probes.reading.probe import LinearProbe

__all__ = ["Check", "Report"]

HEADINGS = ("check", "compared with each text alone", "largest difference", "of the margin", "where", "passed", "cause")


@dataclass(frozen=True)
class Check:
    """One way of running the texts, beside the reference."""

    name: str
    """Such as "left_padding"; the name of its figure."""
    compared: str
    """What was done, for people to read."""
    difference: float | None
    """Largest absolute difference of a score; None where a score is not finite or nothing could be run."""
    relative: float | None
    """Distance of the activations, mean over rows of |a - b| / |b|."""
    text: int | None
    """Index of the text with the largest difference."""
    position: int | None
    """Token of it, 0-based; -1 for a mean over all of them."""
    margin: float
    """In score units."""
    passed: bool | None
    """None: it could not be run, and `cause` says why."""
    n: int
    """Texts compared."""
    cause: str = ""
    """What is wrong, where something is."""


@dataclass(frozen=True, eq=False)
class Report:
    """What the doctor found; prints as a table."""

    checks: tuple[Check, ...]
    """In the order in which they ran."""
    margin: Estimate
    """The largest difference that passes, in score units."""
    examined: LinearProbe
    """The probe whose scores were compared."""
    texts: tuple[Any, ...]
    """On which they were compared."""
    model: str
    """Name and dtype of the reference, for people to read."""

    def __str__(self) -> str:
        return f"{self.table}\n{self.sentence}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table._repr_html_()

    @property
    def passed(self) -> bool | None:
        """True where every check passed, False where one failed, None where none failed but one could not be run."""
        seen = {check.passed for check in self.checks} or {None}
        return False if False in seen else None if None in seen else True

    @property
    def figures(self) -> dict[str, Estimate]:
        """The largest difference by check, and the margin: for `dataclasses.replace(probe, doctor=...)`."""
        found = {check.name: _figure(check) for check in self.checks if check.difference is not None}
        return {**{name: figure for name, figure in found.items() if name != "reader"}, "margin": self.margin}

    @property
    def probe(self) -> LinearProbe:
        """The examined probe with these figures on it, in place of earlier ones."""
        return replace(self.examined, doctor=self.figures)

    @property
    def sentence(self) -> str:
        """What it comes to, in one sentence."""
        failed = [check.name for check in self.checks if check.passed is False]
        idle = [check.name for check in self.checks if check.passed is None]
        good = sum(check.passed is True for check in self.checks)
        said = f"{good} of {len(self.checks)} ways of running {len(self.texts)} texts keep the scores within the margin"
        return said + (f"; failed: {', '.join(failed)}" * bool(failed)) + (f"; not run: {', '.join(idle)}" * bool(idle))

    @property
    def table(self) -> Table:
        """One row a check; the star marks the one that comes nearest to the margin, or exceeds it most."""
        size = [_size(check) for check in self.checks]
        notes = (
            ("margin", f"{self.margin.value:.3g} ({self.margin.how})"),
            ("probe", repr(self.examined)),
            ("reference", f"{self.model}; {len(self.texts)} texts, each alone"),
        )
        return Table(HEADINGS, tuple(_cells(check) for check in self.checks), size.index(max(size)), notes)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "passed": self.passed,
            "margin": self.margin.to_dict(),
            "site": str(self.examined.site),
            "model": self.model,
            "texts": len(self.texts),
            "checks": [asdict(check) for check in self.checks],
        }

    def write(self, folder: str | os.PathLike) -> str:
        """Put the figures into the manifest of the examined probe, and return a sentence that says so.

        Raises:
            ArtifactError: the folder holds no probe. BadInput: it holds another one.
        """
        there, mine = LinearProbe.load(folder), self.examined
        if not torch.equal(there.weight, mine.weight) or (there.bias, there.site) != (mine.bias, mine.site):
            raise BadInput(f"{folder} holds another probe than the one examined; give the folder it was loaded from")
        replace(there, doctor=self.figures).save(folder, overwrite=True)
        instead = f" in place of {len(there.doctor)} earlier ones" if there.doctor else ""
        return f"{len(self.figures)} figures were written into {folder}{instead}"


def _figure(check: Check) -> Estimate:
    share = 1 - 0.05 ** (1 / check.n)
    how = (
        f"largest score difference, {check.compared}; with 95 % confidence at most {share:.0%} of texts like these "
        "move further"
    )
    return Estimate(check.difference, check.difference, check.difference, check.n, how=how)


def _size(check: Check) -> float:
    if check.difference is None:
        return float("inf") if check.passed is False else -1.0
    return check.difference / check.margin


def _cells(check: Check) -> tuple[str, ...]:
    figure = "not finite" if check.passed is False else "none"
    share = ""
    if check.difference is not None:
        figure, share = f"{check.difference:.2g}", f"{100 * check.difference / check.margin:.3g} %"
    where = "" if check.text is None else f"text {check.text}"
    if check.position is not None and check.position >= 0:
        where += f", token {check.position}"
    word = {True: "yes", False: "NO", None: "not run"}[check.passed]
    return (check.name, check.compared, figure, share, where, word, check.cause)
