"""Transfer matrix: train here, test there. One topic x polarity a part; what flips and what carries over.

1. All entities of all parts are dealt out once, half to training, half to testing, alike in every mix of parts and
   labels. So no entity is ever tested by a probe that was fitted on it, though "cities" and "cities, negated" share
   all of theirs; and every cell of a column is measured on the same rows.
2. A row of the matrix is one fit on the training entities of a part, or of several together. The row "other topics" is
   a fit for each column on all parts of other topics.
3. A cell is the AUROC on the test entities of a part, and the accuracy of the fit's own boundary, score > 0. An AUROC
   well below .5 is a flipped sign; a good AUROC with a poor accuracy is a boundary that lies elsewhere there.

The interval of an accuracy counts entities: Clopper and Pearson's for n* rows, n* = p (1 - p) / (variance of p by
entity), at most the rows there are, with the degrees of freedom of the entities (Korn & Graubard 1998). Where all are
right, or all wrong, n* is the number of entities.

Sources: Marks & Tegmark 2023 (2310.06824), figure 4; Buerger, Hamprecht & Nadler 2024 (2407.12831); Korn & Graubard,
Survey Methodology 24 (1998) 193.
Limits: one site, chosen by the caller (from a sweep that saw the test entities it is a choice, too); entities are told
apart by the names of their groups; the off-diagonal fit is on half of the entities, although all could serve.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from inspect import signature
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import beta, t
from torch import Tensor

from probes.activations.capture import Activations
from probes.errors import BadInput, NotFound, TooFew, nearest
from probes.judging.splits import check_activations, row_groups, row_labels, select
from probes.judging.sweep import Table
from probes.model.sites import Site
from probes.reading.fitting import ESTIMATORS, check_method, takes_polarity
from probes.reading.metrics import Estimate, auroc
from probes.reading.probe import Probe

__all__ = ["Cell", "Transfer", "accuracy", "transfer_matrix"]

OTHERS = "other topics"
LEAST_ENTITIES = 5
"""Of a part, to train and to test; and two of each class."""
NO_ROW = -2  # of a Table: none was chosen


@dataclass(frozen=True)
class Cell:
    """One fit on one part."""

    train: str
    """What it was fitted on: a part, several with " + " between them, or `OTHERS`."""
    test: str
    """The part it was tested on."""
    auroc: Estimate
    """On the test entities."""
    accuracy: Estimate
    """Share of rows with (score > 0) == label, on the same."""
    seen: bool
    """Whether training entities of this part were among those it was fitted on."""


@dataclass(frozen=True, eq=False)
class Transfer:
    """Every fit on every part; prints as two tables, shows as HTML in a notebook."""

    cells: tuple[Cell, ...]
    """Row by row."""
    rows: tuple[str, ...]
    """What was fitted on, from above."""
    columns: tuple[str, ...]
    """What was tested on, from the left: the parts in their order."""
    site: Site
    """Where."""
    estimator: str
    """How."""
    test_entities: Mapping[str, tuple[str, ...]]
    """By part, the entities its column was measured on."""

    def __repr__(self) -> str:
        return f"Transfer({len(self.rows)} x {len(self.columns)}, {self.estimator} at {self.site})"

    def __str__(self) -> str:
        shown = (f"{words} of {self.estimator} at {self.site}\n{self.table(name)}" for name, words in MEASURES.items())
        return "\n\n".join(shown)

    def _repr_html_(self) -> str:
        return "".join(
            f"<p>{escape(f'{words} of {self.estimator} at {self.site}')}</p>{self.table(name)._repr_html_()}"
            for name, words in MEASURES.items()
        )

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], Cell]:
        return {(cell.train, cell.test): cell for cell in self.cells}

    def cell(self, train: str, test: str) -> Cell:
        """Return a cell by the names of its row and its column.

        Raises:
            NotFound: there is no such row or column.
        """
        for name, names in ((train, self.rows), (test, self.columns)):
            if name not in names:
                raise NotFound(f"{name!r} is not in this matrix; {nearest(name, names)}")
        return self._by_name[train, test]

    def values(self, measure: str = "auroc") -> Float[np.ndarray, "row column"]:
        """Return the figures for a heat map: of "auroc" or "accuracy"."""
        _check_measure(measure)
        return np.array([[getattr(self.cell(r, c), measure).value for c in self.columns] for r in self.rows])

    def table(self, measure: str = "auroc") -> Table:
        """Return one measure, each figure with its interval; a cell in brackets was trained on that part too."""
        _check_measure(measure)
        rows = []
        for name in self.rows:
            cells = [self.cell(name, column) for column in self.columns]
            rows.append((name, *(_shown(getattr(cell, measure), cell.seen) for cell in cells)))
        notes = (("(...)", "trained on other entities of the same part"),)
        return Table(("train, below; test, right", *self.columns), tuple(rows), NO_ROW, notes)


MEASURES: Mapping[str, str] = {"auroc": "AUROC", "accuracy": "Accuracy at score > 0"}


def transfer_matrix(
    parts: Mapping[str, Activations],
    *,
    site: Site | str,
    estimator: str | Callable[..., Probe] = "lda",
    unions: Iterable[Sequence[str]] = (),
    leave_one_out: bool | Mapping[str, str] = False,
    seed: int = 0,
) -> Transfer:
    """Fit on each part, test on each, no entity in both.

    Args:
        parts: activations with labels and groups, by name, such as "cities" and "cities, negated".
        site: where to read, in all of them.
        estimator: a name in `ESTIMATORS`, or a function that is called as those are; one with a parameter `polarity`
            is told which rows affirm, where every part of a fit knows.
        unions: names of parts to fit on together, each a row of its own.
        leave_one_out: add the row "other topics". True: parts that share entities are of one topic; or the topic of
            each part, by name.
        seed: of the deal of entities.

    Raises:
        NotFound: a site, part or estimator that is not there. TooFew: a part with under 10 entities, or under 4 of a
            class. BadInput: as `sweep`, fewer than two parts, a topic without others.
    """
    at = Site.parse(site)
    parts = {name: _at(name, acts, at) for name, acts in parts.items()}
    if len(parts) < 2:
        raise BadInput(f"{len(parts)} part to train and to test on; give two or more")
    fitter = _fitter(estimator)
    training = _deal(parts, seed)
    test = {name: select(acts, set(acts.groups) - training) for name, acts in parts.items()}
    train = {name: select(acts, training) for name, acts in parts.items()}
    rows: list[tuple[str, ...]] = [(name,) for name in parts]
    for union in unions:
        members = (union,) if isinstance(union, str) else tuple(dict.fromkeys(union))
        for name in members:
            if name not in parts:
                raise NotFound(f"{name!r} is no part of this matrix; {nearest(str(name), parts)}")
        rows.append(members)
    rows = list(dict.fromkeys(rows))
    cells = []
    for members in rows:
        probe = _fit(fitter, [train[name] for name in members], at)
        cells += [_cell(" + ".join(members), probe, name, test[name], name in members) for name in parts]
    if leave_one_out:
        for name, others in _others(parts, leave_one_out).items():
            cells.append(_cell(OTHERS, _fit(fitter, [train[o] for o in others], at), name, test[name], seen=False))
    return Transfer(
        cells=tuple(cells),
        rows=tuple(dict.fromkeys(cell.train for cell in cells)),
        columns=tuple(parts),
        site=at,
        estimator=fitter.name,
        test_entities={name: tuple(sorted(set(acts.groups))) for name, acts in test.items()},
    )


def accuracy(
    scores: Float[Tensor, "row"], labels: Bool[Tensor, "row"], *, groups: Sequence[str], confidence: float = 0.95
) -> Estimate:
    """Return the share of rows with (score > 0) == label, with an interval that counts groups.

    Args:
        scores: a score of 0 is the fit's boundary.
        labels: of the same rows.
        groups: the entity of each row.
        confidence: of the interval, in (0, 1).

    Source: Korn & Graubard 1998.
    """
    right = ((torch.as_tensor(scores) > 0) == torch.as_tensor(labels).bool()).double().numpy()
    codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]
    n, entities, value = right.size, int(codes.max()) + 1, float(right.mean())
    how = f"accuracy at score > 0 over {entities} groups; Korn & Graubard (1998) interval"
    if entities < 2:
        return Estimate(value, 0.0, 1.0, n, confidence, how)
    sums = np.bincount(codes, right - value)
    variance = float((sums**2).sum()) / n**2 * entities / (entities - 1)
    # Twins of which always one is right have no variance at .5; rows are then the most there can be.
    size = float(entities) if value in (0.0, 1.0) else min(n, value * (1 - value) / max(variance, 1e-300))
    alpha = (1 - confidence) / 2
    size = min(n, size * (t.ppf(alpha, n - 1) / t.ppf(alpha, entities - 1)) ** 2)
    k = value * size
    lower = beta.ppf(alpha, k, size - k + 1) if k > 0 else 0.0
    upper = beta.ppf(1 - alpha, k + 1, size - k) if k < size else 1.0
    return Estimate(value, min(value, lower), max(value, upper), n, confidence, how)


def _at(name: str, acts: Activations, site: Site) -> Activations:
    if site not in acts.values:
        raise NotFound(f"part {name!r} was not read at {site}; {nearest(str(site), map(str, acts.values))}")
    acts = replace(acts, values={site: acts.values[site]})
    try:
        check_activations(acts)
    except BadInput as error:
        raise BadInput(f"part {name!r}: {error}") from error
    return acts


@dataclass(frozen=True)
class _Fitter:
    """How each row is fitted."""

    fit: Callable[..., Probe]
    name: str
    told: bool
    """Whether it is told which rows affirm."""


def _fitter(estimator: str | Callable[..., Probe]) -> _Fitter:
    if isinstance(estimator, str):
        check_method(estimator)
        return _Fitter(ESTIMATORS[estimator], estimator, takes_polarity(estimator))
    if not callable(estimator):
        raise BadInput(f"{estimator!r} cannot fit; give a function as in ESTIMATORS; {nearest('', ESTIMATORS)}")
    name = getattr(estimator, "__name__", type(estimator).__name__)
    return _Fitter(estimator, name, "polarity" in signature(estimator).parameters)


def _deal(parts: Mapping[str, Activations], seed: int) -> set[str]:
    """Return half of the entities of every mix of parts and labels: those to train on."""
    places: dict[str, set[tuple[str, bool]]] = {}
    for name, acts in parts.items():
        for group, label in zip(acts.groups, acts.labels.tolist(), strict=True):
            places.setdefault(group, set()).add((name, bool(label)))
    strata: dict[tuple[tuple[str, bool], ...], list[str]] = {}
    for group in sorted(places):
        strata.setdefault(tuple(sorted(places[group])), []).append(group)
    rng, training, ahead = np.random.default_rng([seed, 4]), set(), 0
    for stratum in sorted(strata):
        names = [strata[stratum][i] for i in rng.permutation(len(strata[stratum]))]
        half = (len(names) + (1 - ahead)) // 2  # the odd one goes to each side in turn
        training.update(names[:half])
        ahead += 2 * half - len(names)
    for name, acts in parts.items():
        _check_part(name, acts, training)
    return training


def _check_part(name: str, acts: Activations, training: set[str]) -> None:
    for role, inside in (("train", True), ("test", False)):
        chosen = [(g, y) for g, y in zip(acts.groups, acts.labels.tolist(), strict=True) if (g in training) == inside]
        entities = len({group for group, _ in chosen})
        fewest = min(len({group for group, label in chosen if bool(label) == kind}) for kind in (True, False))
        if entities < LEAST_ENTITIES or fewest < 2:
            raise TooFew(
                f"part {name!r} has {entities} entities to {role}, {fewest} of its rarer class; {LEAST_ENTITIES} and 2 "
                f"are the least: give it {2 * LEAST_ENTITIES} entities or more, 4 of each class",
                needed=2 * LEAST_ENTITIES,
            )


def _others(parts: Mapping[str, Activations], given: bool | Mapping[str, str]) -> dict[str, list[str]]:
    """Return the parts of other topics, by part."""
    if isinstance(given, Mapping):
        missing = [name for name in parts if name not in given]
        if missing:
            raise BadInput(f"leave_one_out names no topic for {missing[0]!r}; give one for each part")
        topic = dict(given)
    else:
        topic = _topics_by_entities(parts)
    others = {name: [other for other in parts if topic[other] != topic[name]] for name in parts}
    alone = [name for name, found in others.items() if not found]
    if alone:
        raise BadInput(
            f"no part is of another topic than {alone[0]!r} (parts that share entities count as one topic); "
            "give more topics, or leave_one_out={part: topic}"
        )
    return others


def _topics_by_entities(parts: Mapping[str, Activations]) -> dict[str, str]:
    """Return the first part of each chain of parts in which neighbours share an entity."""
    topic = {name: name for name in parts}
    held = {name: set(acts.groups) for name, acts in parts.items()}
    for one in parts:
        for other in parts:
            if held[one] & held[other]:
                old, new = topic[other], topic[one]
                topic = {name: new if at == old else at for name, at in topic.items()}
    return topic


def _fit(fitter: _Fitter, parts: Sequence[Activations], site: Site) -> Probe:
    features = torch.cat([acts.values[site] for acts in parts])
    labels = torch.cat([row_labels(acts) for acts in parts])
    options: dict[str, Any] = {"site": site}
    if fitter.told and all(acts.polarities is not None for acts in parts):
        options["polarity"] = torch.cat([acts.polarities[acts.example] for acts in parts])
    return fitter.fit(features, labels, **options)


def _cell(train: str, probe: Probe, test: str, acts: Activations, seen: bool) -> Cell:
    scores, labels, groups = probe.scores(acts.values[probe.site]), row_labels(acts), row_groups(acts)
    return Cell(train, test, auroc(scores, labels, groups=groups), accuracy(scores, labels, groups=groups), seen)


def _check_measure(measure: str) -> None:
    if measure not in MEASURES:
        raise NotFound(f"{measure!r} is no measure of a transfer; {nearest(str(measure), MEASURES)}")


def _shown(estimate: Estimate, seen: bool) -> str:
    return f"({estimate.interval()})" if seen else estimate.interval()
