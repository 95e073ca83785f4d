"""Sweep: every site x every estimator, chosen on calibration entities, reported on test entities, beside controls.

1. Entities are split into train, calibration and test; no entity is in two.
2. Every estimator is fitted at every site, on train; logistic regression for every C, all sites in one call.
3. The highest AUROC on calibration chooses; where several tie, the site that comes first in the forward pass. With
   `folds`, the choice is by cross-validation over the entities of train and calibration together, and what was chosen
   is fitted again on all of them. Test entities are in none of it.
4. Every row also shows its AUROC on test, with an interval. The choice has not seen it, so the chosen row's figure is
   honest; the highest figure in the column is not (it is the best of many).
5. The chosen probe gets its controls (controls.py).

Limits: one split; other seeds give other figures, and the interval covers the choice of test entities, not of training
entities.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from probes.activations.capture import Activations
from probes.errors import BadInput, NotFound, TooFew, nearest
from probes.judging.controls import LEAST_DRAWS, MEANINGS, check_draws, data_controls
from probes.judging.splits import Split, check_activations, check_split, row_groups, row_labels, select, split_groups
from probes.model.sites import Site
from probes.reading.fitting import (
    ESTIMATORS,
    LOGISTIC_C,
    check_method,
    check_penalties,
    fit_grid,
    method_name,
    takes_polarity,
)
from probes.reading.metrics import Estimate, auroc, mean
from probes.reading.probe import LinearProbe, Probe

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
    """AUROC on the entities that choose; with folds, the mean of the folds' AUROC."""
    test: Estimate
    """AUROC on the entities that are reported."""
    C: float | None = None
    """Inverse strength of the penalty, where the estimator has one."""

    @property
    def method(self) -> str:
        """What a probe of this row says of its fit."""
        return method_name(self.estimator, self.C)


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
    """Every site x estimator x C, in forward order."""
    best: LinearProbe
    """The probe that calibration chose, with its controls."""
    split: Split
    """Which entities trained, chose and tested."""
    test: Activations
    """Texts, labels and activations of the test entities at the chosen site."""
    train: Activations
    """The same of the entities that the best probe was fitted on."""
    folds: int | None = None
    """Parts of the cross-validation that chose; None: the calibration entities chose."""

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
        penalties = len({row.C for row in self.rows} - {None}) > 1
        rows = tuple(
            (
                str(r.site) if several else str(r.site.layer),
                r.estimator if r.C is None or not penalties else f"{r.estimator}, C = {r.C:g}",
                r.test.interval(),
                str(r.test.n),
                r.calibration.interval(),
            )
            for r in self.rows
        )
        chosen = next(i for i, r in enumerate(self.rows) if (r.site, r.method) == (self.site, self.best.method))
        by = "calibration" if self.folds is None else f"{self.folds} folds"
        headings = ("site" if several else "layer", "estimator", "AUROC, test", "n", f"AUROC, {by}")
        words = "chosen on calibration" if self.folds is None else f"chosen by {by} of train and calibration"
        return Table(headings, rows, chosen, ((words, f"{self.site}, {self.best.method}"), *self._notes()))

    def _notes(self) -> Iterable[tuple[str, str]]:
        extra = {name: name for name in self.best.controls if name not in MEANINGS}
        for name, words in {**MEANINGS, **extra}.items():
            estimate = self.best.controls.get(name)
            if estimate is None:
                yield words, MISSING
            else:
                yield words, f"{estimate.interval(3 if name.endswith('_p') else 2)}, n = {estimate.n}"

    def by_layer(self) -> dict[str, tuple[Row, ...]]:
        """Return the rows of each line of a plot, by estimator and C, and by hook point where there are several."""
        several = len({row.site.name for row in self.rows}) > 1
        lines: dict[str, list[Row]] = {}
        for row in self.rows:
            lines.setdefault(f"{row.site.name} {row.method}" if several else row.method, []).append(row)
        return {name: tuple(sorted(found, key=lambda row: row.site.layer)) for name, found in lines.items()}

    def with_controls(self, controls: Mapping[str, Estimate]) -> "Sweep":
        """Return this sweep with more controls on its best probe, such as `probes.controls(found, model)`."""
        return replace(self, best=replace(self.best, controls={**self.best.controls, **controls}))


def sweep(
    acts: Activations,
    *,
    estimators: str | Iterable[str] = ("logistic", "lda"),
    C: float | Iterable[float] = LOGISTIC_C,
    folds: int | None = None,
    seed: int = 0,
    split: Split | Sequence[float] = (0.5, 0.2, 0.3),
    site: Site | str | None = None,
    concept: str = "",
    draws: int = LEAST_DRAWS,
    checks: int = 1,
    device: str | torch.device | None = None,
    progress: bool = False,
) -> Sweep:
    """Fit every estimator at every site, choose one on calibration entities, and report on test entities.

    Args:
        acts: activations with labels and groups; rows of one text (`tokens="all"`) share its label.
        estimators: names in `ESTIMATORS`.
        C: of logistic regression, one or several; each is a candidate.
        folds: choose by cross-validation over train and calibration in this many parts by group, at least 2, and fit
            what was chosen on both; None: choose on calibration.
        seed: of the split, the folds, the shuffles and the random directions.
        split: shares of train, calibration and test, or a Split that names the groups of each.
        site: choose among the estimators at this site only, where something else has chosen it; all are still reported.
        concept: what a high score means, for people to read.
        draws: shuffles and random directions, at least 200 of each, and 40 for each check.
        checks: how many p-values are corrected together, this one among them.
        device: where logistic regressions are fitted, such as `model.device`; None: where the activations are.
        progress: show a bar on standard error, if that is a terminal.

    Raises:
        BadInput: no labels, no groups, one class only, an activation that is not finite, or a C that is not above 0.
            NotFound: an unknown estimator.
        TooFew: too few groups for a role or a fold, or too few draws; `.needed` says how many would do.
    """
    names = tuple(dict.fromkeys([estimators] if isinstance(estimators, str) else estimators))
    for name in names:
        check_method(name)
    if not names:
        raise BadInput(f"no estimator was named; {nearest('', ESTIMATORS)}")
    penalties = check_penalties(C)
    check_activations(acts)
    check_draws(draws, checks)
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
    fitted = split.train if folds is None else (*split.train, *split.calibration)
    train, test = select(acts, fitted, sorted(acts.values)), select(acts, split.test)
    masks, held = _folds(train, folds, seed)
    choosing = select(acts, split.calibration) if folds is None else None
    rows, best = [], None
    for at, name, penalty, probes in _fits(train, names, penalties, masks, about, device, progress):
        unseen = zip(probes[:1], [choosing], strict=True) if folds is None else zip(probes[1:], held, strict=True)
        choice = _averaged([_score(probe, part) for probe, part in unseen])
        rows.append(Row(at, name, choice, _score(probes[0], test), penalty))
        if given in (None, at) and (best is None or choice.value > best[0]):
            best = choice.value, probes[0]
    chosen = best[1]
    train, test = (replace(part, values={chosen.site: part.values[chosen.site]}) for part in (train, test))
    found = data_controls(chosen, train, test, seed=seed, draws=draws, checks=checks)
    return Sweep(tuple(rows), replace(chosen, controls=found), split, test, train, folds)


def _folds(
    train: Activations, folds: int | None, seed: int
) -> tuple[Bool[Tensor, "fold row"] | None, list[Activations]]:
    """Return which rows each fit is made on, first all, then those outside each fold; and what each fold holds."""
    if folds is None:
        return None, []
    if folds < 2:
        raise BadInput(f"folds = {folds}; cross-validation takes at least 2, folds=None chooses on calibration")
    kinds: dict[str, set[bool]] = {}
    for label, group in zip(train.labels.tolist(), train.groups, strict=True):
        kinds.setdefault(group, set()).add(bool(label))
    fewest = min(sum(label in kind for kind in kinds.values()) for label in (True, False))
    if fewest < 2 * folds:
        raise TooFew(
            f"{folds} folds take {2 * folds} groups of each class in train and calibration, one class has {fewest}; "
            "give fewer folds or more groups",
            2 * folds,
        )
    names = sorted(kinds)
    np.random.default_rng([seed, 3]).shuffle(names)
    names.sort(key=lambda group: sorted(kinds[group]))  # so that every fold gets its share of each kind of group
    held = [set(names[i::folds]) for i in range(folds)]
    of_row = row_groups(train)
    masks = [[group not in inside for group in of_row] for inside in held]
    return torch.tensor([[True] * len(of_row), *masks]), [select(train, inside) for inside in held]


def _fits(
    train: Activations,
    names: Sequence[str],
    penalties: Sequence[float],
    masks: Bool[Tensor, "fold row"] | None,
    about: Mapping[str, object],
    device: str | torch.device | None,
    progress: bool,
) -> Iterator[tuple[Site, str, float | None, list[LinearProbe]]]:
    """Yield every fit in forward order: where, how, with which C, and a probe for each set of rows."""
    labels = row_labels(train)
    grid = None
    if "logistic" in names:
        grid = fit_grid(train.values, labels, C=penalties, folds=masks, device=device)
    for site in tqdm(train.values, desc="fitting", unit="site", disable=None if progress else True, leave=False):
        for name in names:
            if name == "logistic":
                for C in penalties:
                    yield site, name, C, [grid.probe(site, C, fold=i, **about) for i in range(grid.biases.shape[1])]
                continue
            parts = [torch.ones(len(labels), dtype=torch.bool)] if masks is None else list(masks)
            yield site, name, None, [_fit(name, train, site, part, about) for part in parts]


def _fit(
    name: str, train: Activations, site: Site, rows: Bool[Tensor, "row"], about: Mapping[str, object]
) -> LinearProbe:
    told = {}
    if train.polarities is not None and takes_polarity(name):
        told["polarity"] = train.polarities[train.example][rows]
    return ESTIMATORS[name](train.values[site][rows], row_labels(train)[rows], site=site, **told, **about)


def _averaged(estimates: Sequence[Estimate]) -> Estimate:
    """Return one estimate as it is, and of those of several folds the mean."""
    if len(estimates) == 1:
        return estimates[0]
    found = mean([estimate.value for estimate in estimates])
    how = f"mean AUROC of {len(estimates)} folds by group; t interval over folds, which share training rows"
    lower, upper, n = max(0.0, found.lower), min(1.0, found.upper), sum(estimate.n for estimate in estimates)
    return Estimate(found.value, lower, upper, n, found.confidence, how)


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
