"""Sweep: every site x every estimator, chosen on calibration entities, reported on test entities, beside controls.

1. Entities are split into train, calibration and test; no entity is in two.
2. Every estimator is fitted at every site, on train.
3. The highest AUROC on calibration chooses; where several tie, the site that comes first in the forward pass.
4. Every row also shows its AUROC on test, with an interval. The choice has not seen it, so the chosen row's figure is
   honest; the highest figure in the column is not (it is the best of many).
5. The chosen probe gets its controls (controls.py).

Limits: one split; other seeds give other figures, and the interval covers the choice of test entities, not of training
entities.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape

from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from probes.activations.capture import Activations
from probes.errors import BadInput, NotFound, nearest
from probes.model.sites import Site
from probes.reading.controls import LEAST_DRAWS, MEANINGS, data_controls
from probes.reading.fitting import ESTIMATORS, check_method
from probes.reading.metrics import Estimate, auroc
from probes.reading.probe import LinearProbe, Probe
from probes.reading.splits import Split, check_activations, check_split, row_groups, row_labels, select, split_groups

__all__ = ["Row", "Split", "Sweep", "Table", "sweep", "transfer"]

MISSING = "missing (needs the model: probes.controls(found, model))"


@dataclass(frozen=True)
class Row:
    """One fit."""

    site: Site
    """Where it reads."""
    estimator: str
    """How it was fitted."""
    calibration: Estimate
    """AUROC on the entities that choose."""
    test: Estimate
    """AUROC on the entities that are reported."""


@dataclass(frozen=True)
class Table:
    """A sweep to look at: plain text as `str`, HTML in a notebook."""

    headings: tuple[str, ...]
    """Of the columns."""
    rows: tuple[tuple[str, ...], ...]
    """One a fit."""
    chosen: int
    """Index of the row that calibration chose."""
    notes: tuple[tuple[str, str], ...]
    """Controls of the chosen row: name, figure."""

    def __str__(self) -> str:
        return "\n".join([*_align([self.headings, *self.rows], mark=self.chosen + 1), "", *_align(self.notes)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(text)}</th>" for text in self.headings)
        body = "".join(_html_row(row, bold=i == self.chosen) for i, row in enumerate(self.rows))
        notes = "".join(_html_row(note) for note in self.notes)
        return (
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><table><tbody>{notes}</tbody></table>"
        )


@dataclass(frozen=True, eq=False)
class Sweep:
    """What `sweep` found."""

    rows: tuple[Row, ...]
    """Every site x estimator, in forward order."""
    best: LinearProbe
    """The probe that calibration chose, with its controls."""
    split: Split
    """Which entities trained, chose and tested."""
    test: Activations
    """Texts, labels and activations of the test entities at the chosen site."""

    def __repr__(self) -> str:
        return f"Sweep({len(self.rows)} fits, best {self.best!r})"

    @property
    def site(self) -> Site:
        """The chosen site."""
        return self.best.site

    @property
    def scores(self) -> Float[Tensor, "row"]:
        """Scores of the best probe on the test entities."""
        return self.best.scores(self.test.values[self.site])

    @property
    def labels(self) -> Bool[Tensor, "row"]:
        """Labels of the test entities, row by row."""
        return row_labels(self.test)

    @property
    def table(self) -> Table:
        """All fits and the controls of the chosen one, to print or to show in a notebook."""
        several = len({row.site.name for row in self.rows}) > 1
        rows = tuple(
            (
                str(r.site) if several else str(r.site.layer),
                r.estimator,
                r.test.interval(),
                str(r.test.n),
                r.calibration.interval(),
            )
            for r in self.rows
        )
        chosen = next(i for i, r in enumerate(self.rows) if (r.site, r.estimator) == (self.site, self.best.method))
        headings = ("site" if several else "layer", "estimator", "AUROC, test", "n", "AUROC, calibration")
        return Table(
            headings, rows, chosen, (("chosen on calibration", f"{self.site}, {self.best.method}"), *self._notes())
        )

    def _notes(self) -> Iterable[tuple[str, str]]:
        extra = {name: name for name in self.best.controls if name not in MEANINGS}
        for name, words in {**MEANINGS, **extra}.items():
            estimate = self.best.controls.get(name)
            if estimate is None:
                yield words, MISSING
            else:
                yield words, f"{estimate.interval(3 if name.endswith('_p') else 2)}, n = {estimate.n}"

    def by_layer(self) -> dict[str, tuple[Row, ...]]:
        """Return the rows of each line of a plot, by estimator, and by hook point where there are several."""
        several = len({row.site.name for row in self.rows}) > 1
        lines: dict[str, list[Row]] = {}
        for row in self.rows:
            lines.setdefault(f"{row.site.name} {row.estimator}" if several else row.estimator, []).append(row)
        return {name: tuple(sorted(found, key=lambda row: row.site.layer)) for name, found in lines.items()}

    def with_controls(self, controls: Mapping[str, Estimate]) -> "Sweep":
        """Return this sweep with more controls on its best probe, such as `probes.controls(found, model)`."""
        return replace(self, best=replace(self.best, controls={**self.best.controls, **controls}))


def sweep(
    acts: Activations,
    *,
    estimators: str | Iterable[str] = ("logistic", "lda"),
    seed: int = 0,
    split: Split | Sequence[float] = (0.5, 0.2, 0.3),
    site: Site | str | None = None,
    concept: str = "",
    draws: int = LEAST_DRAWS,
    progress: bool = False,
) -> Sweep:
    """Fit every estimator at every site, choose one on calibration entities, and report on test entities.

    Args:
        acts: activations with labels and groups; rows of one text (`tokens="all"`) share its label.
        estimators: names in `ESTIMATORS`.
        seed: of the split, the shuffles and the random directions.
        split: shares of train, calibration and test, or a Split that names the groups of each.
        site: choose among the estimators at this site only, where something else has chosen it; all are still reported.
        concept: what a high score means, for people to read.
        draws: shuffles and random directions, at least 200 of each.
        progress: show a bar on standard error, if that is a terminal.

    Raises:
        BadInput: no labels, no groups, one class only, or an activation that is not finite. NotFound: an unknown
            estimator.
        TooFew: too few groups for a role; `.needed` says how many would do.
    """
    names = tuple(dict.fromkeys([estimators] if isinstance(estimators, str) else estimators))
    for name in names:
        check_method(name)
    if not names:
        raise BadInput(f"no estimator was named; {nearest('', ESTIMATORS)}")
    check_activations(acts)
    given = None if site is None else Site.parse(site)
    if given is not None and given not in acts.values:
        raise BadInput(
            f"no activations at {given}, where the choice should be made; there are {len(acts.values)} sites"
        )
    if isinstance(split, Split):
        check_split(split, acts.labels, acts.groups)
    else:
        split = split_groups(acts.labels, acts.groups, fractions=split, seed=seed)
    about = {"tokens": acts.tokens, "concept": concept, "fingerprint": acts.fingerprint}
    train, calibration, test = (select(acts, groups) for groups in (split.train, split.calibration, split.test))
    rows, best = [], None
    for site in tqdm(sorted(acts.values), desc="fitting", unit="site", disable=None if progress else True, leave=False):
        for name in names:
            probe = ESTIMATORS[name](train.values[site], row_labels(train), site=site, **about)
            rows.append(Row(site, name, _score(probe, calibration), _score(probe, test)))
            if given in (None, site) and (best is None or rows[-1].calibration.value > best[0]):
                best = rows[-1].calibration.value, probe
    chosen = best[1]
    at = [chosen.site]
    found = data_controls(chosen, select(train, split.train, at), select(test, split.test, at), seed=seed, draws=draws)
    return Sweep(tuple(rows), replace(chosen, controls=found), split, select(test, split.test, at))


def transfer(probe: Probe, acts: Activations, *, groups: Collection[str] | None = None) -> Estimate:
    """Return the AUROC of a probe on other activations, such as negated statements: below .5 its sign has flipped.

    Args:
        probe: fitted elsewhere.
        acts: activations with labels and groups that hold the probe's site.
        groups: measure on these alone, such as `found.split.test`, so that no entity the probe was trained on counts.

    Raises:
        NotFound: the activations lack the probe's site. BadInput: as `sweep`, or none of the groups is there.
    """
    if probe.site not in acts.values:
        raise NotFound(
            f"these activations were not read at {probe.site}; {nearest(str(probe.site), map(str, acts.values))}"
        )
    acts = replace(acts, values={probe.site: acts.values[probe.site]})
    check_activations(acts)
    if groups is not None:
        acts = select(acts, groups)
        if not acts.texts:
            raise BadInput("none of these groups is in the activations; give groups that are")
    return _score(probe, acts)


def _score(probe: Probe, acts: Activations) -> Estimate:
    return auroc(probe.scores(acts.values[probe.site]), row_labels(acts), groups=row_groups(acts))


def _align(rows: Iterable[tuple[str, ...]], mark: int | None = None) -> list[str]:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [f"{line}  *" if i == mark else line for i, line in enumerate(lines)]


def _html_row(cells: tuple[str, ...], bold: bool = False) -> str:
    tag = "th" if bold else "td"
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
