"""Split: which entities train, which choose, which test; and activations cut along it.

A group (an entity, a frame) is never divided, else what was memorised about it counts as knowledge. Groups that hold
both classes, only positives and only negatives are dealt out separately, each kind shuffled and dealt to the role that
is furthest behind its share, so every role gets about the same mix.

Limits: groups count equally, whatever the number of their rows.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from probes.activations.capture import Activations
from probes.errors import BadInput, NotFound, TooFew
from probes.model.sites import Site

__all__ = ["Split", "check_activations", "row_groups", "row_labels", "select", "split_groups"]

ROLES = ("train", "calibration", "test")
LEAST_GROUPS = 5
"""In each role; fewer make no interval worth printing."""
LEAST_OF_A_CLASS = 2
"""Groups of each class in each role; one alone has no spread."""


@dataclass(frozen=True)
class Split:
    """The groups of each role, no group in two."""

    train: tuple[str, ...]
    """Probes are fitted on these."""
    calibration: tuple[str, ...]
    """The choice of site and estimator is made on these."""
    test: tuple[str, ...]
    """What is reported is measured on these, and on nothing else."""

    def __post_init__(self) -> None:
        for role in ROLES:
            object.__setattr__(self, role, tuple(getattr(self, role)))
        seen = Counter(group for role in ROLES for group in set(getattr(self, role)))
        doubled = sorted(str(group) for group, roles in seen.items() if roles > 1)
        if doubled:
            raise BadInput(
                f"{len(doubled)} groups are in two roles, {doubled[0]!r} for one; an entity belongs to one role"
            )

    def __repr__(self) -> str:
        return f"Split({', '.join(f'{role}: {len(getattr(self, role))} groups' for role in ROLES)})"


def split_groups(
    labels: Bool[Tensor, "example"],
    groups: Sequence[str],
    *,
    fractions: Sequence[float] = (0.5, 0.2, 0.3),
    seed: int = 0,
) -> Split:
    """Deal groups out to train, calibration and test.

    Args:
        labels: of each example.
        groups: of each example.
        fractions: shares of the groups, in the order of the roles; positive, summing to 1.
        seed: the same seed gives the same split, whatever the order of the examples.

    Raises:
        BadInput: fractions that are none. TooFew: a role would get under 5 groups, or under 2 of a class.
    """
    shares = np.asarray(fractions, dtype=float)
    if shares.shape != (3,) or not (shares > 0).all() or abs(shares.sum() - 1) > 1e-9:
        raise BadInput(f"split={tuple(fractions)}; give three positive shares that sum to 1: train, calibration, test")
    kinds = _kinds(labels, groups)
    if min(_deal(len(kinds), shares).count(role) for role in range(3)) < LEAST_GROUPS:
        needed = next(
            n for n in count(len(kinds)) if min(_deal(n, shares).count(role) for role in range(3)) >= LEAST_GROUPS
        )
        raise TooFew(
            f"{len(kinds)} groups are too few for train, calibration and test; {needed} give each {LEAST_GROUPS}",
            needed,
        )
    rng = np.random.default_rng([seed, 0])
    order = [names[i] for names in _by_kind(kinds) for i in rng.permutation(len(names))]
    roles = _deal(len(order), shares)
    split = Split(
        *(tuple(group for group, dealt in zip(order, roles, strict=True) if dealt == role) for role in range(3))
    )
    check_split(split, labels, groups, least=int(np.ceil(LEAST_OF_A_CLASS / shares.min())))
    return split


def check_split(split: Split, labels: Bool[Tensor, "example"], groups: Sequence[str], least: int = 10) -> None:
    """Refuse a split that names groups that are not there, or starves a role.

    Args:
        split: drawn, or given by the user.
        labels: of each example.
        groups: of each example.
        least: how many groups of a class to ask for where a role lacks them.
    """
    kinds = _kinds(labels, groups)
    for role in ROLES:
        members = getattr(split, role)
        unknown = [group for group in members if group not in kinds]
        if unknown:
            raise NotFound(
                f"split: {role} names {len(unknown)} groups that the activations lack, {unknown[0]!r} for one"
            )
        if len(members) < LEAST_GROUPS:
            raise TooFew(f"split: {role} has {len(members)} groups; give it at least {LEAST_GROUPS}", LEAST_GROUPS)
        for label in (True, False):
            having = sum(label in kinds[group] for group in members)
            if having < LEAST_OF_A_CLASS:
                raise TooFew(
                    f"{role} got {having} groups with an example that is {label}; give about {least} such groups",
                    least,
                )


def _kinds(labels: Tensor, groups: Sequence[str]) -> dict[str, frozenset[bool]]:
    kinds: dict[str, frozenset[bool]] = {}
    for label, group in zip(labels.tolist(), groups, strict=True):
        kinds[group] = kinds.get(group, frozenset()) | {bool(label)}
    return kinds


def _by_kind(kinds: dict[str, frozenset[bool]]) -> list[list[str]]:
    mixes = [frozenset({True, False}), frozenset({True}), frozenset({False})]
    return [sorted(group for group, kind in kinds.items() if kind == mix) for mix in mixes]


def _deal(n: int, shares: np.ndarray) -> list[int]:
    """Return a role for each of n groups, each time the role that is furthest behind."""
    dealt, roles = np.zeros(3), []
    for i in range(1, n + 1):
        role = int(np.argmax(shares * i - dealt))
        dealt[role] += 1
        roles.append(role)
    return roles


def select(acts: Activations, groups: Collection[str], sites: Sequence[Site] | None = None) -> Activations:
    """Return the activations of some groups, at some sites (None: all)."""
    wanted = set(groups)
    keep = torch.tensor([group in wanted for group in acts.groups])
    rows = keep[acts.example]
    renumbered = torch.cumsum(keep, 0) - 1
    return replace(
        acts,
        values={site: acts.values[site][rows] for site in (acts.values if sites is None else sites)},
        example=renumbered[acts.example[rows]],
        position=acts.position[rows],
        texts=tuple(text for text, kept in zip(acts.texts, keep.tolist(), strict=True) if kept),
        labels=acts.labels[keep],
        groups=tuple(group for group in acts.groups if group in wanted),
        polarities=None if acts.polarities is None else acts.polarities[keep],
    )


def row_labels(acts: Activations) -> Bool[Tensor, "row"]:
    """Return the label of each row: that of the text it comes from."""
    return acts.labels[acts.example].bool()


def row_groups(acts: Activations) -> list[str]:
    """Return the group of each row: that of the text it comes from."""
    return [acts.groups[i] for i in acts.example.tolist()]


def check_activations(acts: Activations) -> None:
    """Refuse activations on which nothing can be fitted or measured.

    Raises:
        BadInput: no labels or groups, one class only, lengths that differ, a value that is not finite (naming text and
            site), or one text in two groups, which could then stand in train and in test.
    """
    if acts.labels is None:
        raise BadInput("these activations have no labels; capture Statements, or give labels= to capture")
    if acts.groups is None:
        raise BadInput("these activations have no groups, so entities cannot be kept apart; give groups= to capture")
    if not acts.values:
        raise BadInput("these activations hold no site; capture at least one")
    n = len(acts.texts)
    if len(acts.labels) != n or len(acts.groups) != n:
        raise BadInput(
            f"{len(acts.labels)} labels and {len(acts.groups)} groups for {n} texts; give one of each a text"
        )
    if acts.example.numel() and not 0 <= int(acts.example.min()) <= int(acts.example.max()) < n:
        raise BadInput(f"a row comes from text {int(acts.example.max())}, and there are {n} texts")
    if acts.labels.bool().all() or not acts.labels.bool().any():
        raise BadInput(f"all {n} labels are of one class; give texts of both")
    for site, values in acts.values.items():
        if values.ndim != 2 or len(values) != len(acts.example):
            raise BadInput(
                f"{tuple(values.shape)} values at {site} for {len(acts.example)} rows; give d_model numbers for each"
            )
        bad = (~torch.isfinite(values).all(1)).nonzero()
        if len(bad):
            text = acts.texts[int(acts.example[int(bad[0])])]
            raise BadInput(
                f"the activation of {str(text)[:80]!r} at {site} is not finite ({len(bad)} such rows); leave it out"
            )
    _check_texts(acts)


def _check_texts(acts: Activations) -> None:
    home: dict[str, str] = {}
    for text, group in zip(map(str, acts.texts), acts.groups, strict=True):
        first = home.setdefault(text, group)
        if first != group:
            raise BadInput(
                f"the text {text[:80]!r} is in two groups, {first!r} and {group!r}, so train and test may share it; "
                "keep it in one"
            )
