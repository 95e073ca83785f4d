"""Splits by entity, and activations cut along them."""

import dataclasses

import pytest
import torch

from probes.errors import BadInput, NotFound, TooFew
from probes.judging.splits import Split, check_activations, check_split, row_groups, row_labels, select, split_groups
from probes.model.sites import Site


def _roles(split):
    return [set(split.train), set(split.calibration), set(split.test)]


def test_thirty_twins_are_dealt_fifteen_six_nine():
    labels, groups = torch.tensor([True, False] * 30), [f"g{i // 2}" for i in range(60)]
    split = split_groups(labels, groups)
    assert [len(role) for role in _roles(split)] == [15, 6, 9]
    assert set.union(*_roles(split)) == set(groups)


def test_no_group_is_in_two_roles_and_the_seed_alone_decides():
    labels, groups = torch.tensor([True, False] * 50), [f"g{i // 2}" for i in range(100)]
    split = split_groups(labels, groups, seed=3)
    train, calibration, test = _roles(split)
    assert not train & calibration
    assert not test & (train | calibration)
    assert split == split_groups(labels.flip(0), groups[::-1], seed=3)
    assert split != split_groups(labels, groups, seed=4)


def test_every_role_gets_its_share_of_rare_positive_groups():
    labels, groups = torch.arange(100) % 10 == 0, [str(i) for i in range(100)]
    rare = {group for group, label in zip(groups, labels.tolist(), strict=True) if label}
    assert [len(role & rare) for role in _roles(split_groups(labels, groups))] == [5, 2, 3]


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.5, 0.5), (1.0, 0.0, 0.0), (0.8, 0.4, -0.2)])
def test_shares_that_are_none_are_refused(fractions):
    with pytest.raises(BadInput, match="three positive shares"):
        split_groups(torch.tensor([True, False]), ["a", "b"], fractions=fractions)


def test_too_few_groups_are_refused_with_the_number_that_would_do():
    def twins(n):
        return torch.tensor([True, False] * n), [str(i // 2) for i in range(2 * n)]

    with pytest.raises(TooFew) as caught:
        split_groups(*twins(12))
    needed = caught.value.needed
    assert str(needed) in str(caught.value)
    assert min(map(len, _roles(split_groups(*twins(needed))))) == 5
    with pytest.raises(TooFew):
        split_groups(*twins(needed - 1))


def test_too_few_groups_of_a_class_are_refused():
    labels, groups = torch.arange(100) < 4, [str(i) for i in range(100)]
    with pytest.raises(TooFew, match="with an example that is True") as caught:
        split_groups(labels, groups)
    assert caught.value.needed == 10
    split_groups(torch.arange(100) < 10, groups)


def test_a_split_of_ones_own_is_checked():
    labels, groups = torch.tensor([True, False] * 20), [f"g{i // 2}" for i in range(40)]
    names = sorted(set(groups))
    check_split(Split(names[:10], names[10:15], names[15:]), labels, groups)
    with pytest.raises(BadInput, match="'g1' for one"):
        Split(names[:10], names[1:2], names[15:])
    with pytest.raises(NotFound, match="'stranger'"):
        check_split(Split([*names[:10], "stranger"], names[10:15], names[15:]), labels, groups)
    with pytest.raises(TooFew, match="calibration has 2 groups"):
        check_split(Split(names[:10], names[10:12], names[15:]), labels, groups)


def test_selected_rows_keep_text_label_and_values_together(planted):
    acts = planted(groups=6, rows=3)
    kept = select(acts, {"entity 1", "entity 4"}, [Site("resid_post", 2)])
    assert list(kept.values) == [Site("resid_post", 2)]
    assert kept.groups == ("entity 1", "entity 1", "entity 4", "entity 4")
    assert kept.example.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    where = [i for i, group in enumerate(row_groups(acts)) if group in ("entity 1", "entity 4")]
    assert torch.equal(kept.values[Site("resid_post", 2)], acts.values[Site("resid_post", 2)][where])
    assert torch.equal(row_labels(kept), row_labels(acts)[where])
    assert [kept.texts[i] for i in kept.example.tolist()] == [acts.texts[acts.example[i]] for i in where]


def _broken(acts, **change):
    return dataclasses.replace(acts, **change)


def test_activations_that_cannot_be_used_are_refused_by_name(planted):
    acts, site = planted(groups=6), Site("resid_post", 1)
    check_activations(acts)
    nan = {**acts.values, site: acts.values[site].clone()}
    nan[site][5, 3] = float("nan")
    for bad, words in (
        (_broken(acts, labels=None), "no labels"),
        (_broken(acts, groups=None), "no groups"),
        (_broken(acts, values={}), "no site"),
        (_broken(acts, labels=acts.labels[:-1]), "11 labels and 12 groups for 12 texts"),
        (_broken(acts, labels=torch.ones(12, dtype=torch.bool)), "one class"),
        (_broken(acts, example=acts.example + 1), "comes from text 12"),
        (_broken(acts, values={site: acts.values[site][:-1]}), "at resid_post.1 for 12 rows"),
        (_broken(acts, texts=("same",) * 12), "'same' is in two groups, 'entity 0' and 'entity 1'"),
    ):
        with pytest.raises(BadInput, match=words):
            check_activations(bad)
    with pytest.raises(BadInput, match="at resid_post.1 is not finite") as caught:
        check_activations(_broken(acts, values=nan))
    assert acts.texts[5] in str(caught.value)


def test_twins_may_share_a_text_within_their_group(planted):
    acts = planted(groups=6)
    check_activations(_broken(acts, texts=tuple(f"text of {group}" for group in acts.groups)))
