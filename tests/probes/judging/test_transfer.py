"""Train here, test there: the sign flips under negation, two polarities mend it, and no entity is in both."""

import dataclasses

import numpy as np
import pytest
import torch

from probes.activations.capture import Activations
from probes.errors import BadInput, NotFound, TooFew
from probes.judging.transfer import OTHERS, Transfer, accuracy, transfer_matrix
from probes.model.sites import Site
from probes.reading.fitting import fit_lda
from probes.reading.metrics import Estimate, proportion
from probes.reading.probe import LinearProbe

SITE = Site("resid_post", 3)
GENERAL, POLAR, PLACE = 0, 1, 2
"""Axes: truth, truth that changes sign under negation, polarity itself."""


def part(topic="cities", polarity=True, *, entities=60, general=2.0, polar=4.0, apart=4.0, seed=0, d_model=10):
    """Twins of a topic: a = t general + t q polar + q apart + noise, with label t and polarity q."""
    rng = np.random.default_rng([seed, len(topic), polarity])
    labels = np.tile([True, False], entities)
    sign, side = 2.0 * labels - 1, 1.0 if polarity else -1.0
    values = rng.standard_normal((2 * entities, d_model))
    values[:, GENERAL] += general * sign
    values[:, POLAR] += polar * sign * side
    values[:, PLACE] += apart * side
    groups = tuple(f"{topic} {i // 2}" for i in range(2 * entities))
    words = "is" if polarity else "is not"
    return Activations(
        values={SITE: torch.from_numpy(values).float()},
        example=torch.arange(2 * entities),
        position=torch.zeros(2 * entities, dtype=torch.long),
        tokens="last",
        texts=tuple(f"{group} {words} {label}" for group, label in zip(groups, labels, strict=True)),
        labels=torch.from_numpy(labels),
        groups=groups,
        fingerprint={},
        polarities=torch.full((2 * entities,), polarity),
    )


def toy_ttpd(features, labels, *, site, polarity=None):
    """Least squares on 1, q, t, t q; the general truth direction with a boundary halfway between the classes."""
    x, sign = features.double().numpy(), 2.0 * labels.double().numpy() - 1
    side = np.ones(len(x)) if polarity is None else 2.0 * polarity.double().numpy() - 1
    design = np.stack([np.ones(len(x)), side, sign, sign * side], 1)
    general = np.linalg.lstsq(design, x, rcond=None)[0][2]
    middle = (x[sign > 0].mean(0) + x[sign < 0].mean(0)) / 2
    return LinearProbe(torch.from_numpy(general), -float(general @ middle), site, method="toy_ttpd")


@pytest.fixture
def four():
    """Two topics, affirmed and negated; the polarities of a topic share their entities."""
    return {
        f"{topic}{'' if polarity else ', negated'}": part(topic, polarity)
        for topic in ("cities", "animals")
        for polarity in (True, False)
    }


def test_three_of_four_rows_right_by_hand():
    """Scores 1, -1, 2, 3 with labels true, false, true, false, each its own entity: 3 of 4."""
    scores, labels = torch.tensor([1.0, -1.0, 2.0, 3.0]), torch.tensor([True, False, True, False])
    found = accuracy(scores, labels, groups=list("abcd"))
    assert (found.value, found.n) == (0.75, 4)
    assert found.lower < 0.3
    assert found.upper > 0.95
    assert accuracy(torch.zeros(4), labels, groups=list("abcd")).value == 0.5, "a score of 0 is not above it"


def test_with_an_entity_a_row_accuracy_has_about_the_interval_of_clopper_and_pearson():
    rng = np.random.default_rng(0)
    for n in (50, 400):
        labels = torch.from_numpy(rng.random(n) < 0.5)
        scores = torch.from_numpy(rng.standard_normal(n)) + labels.double()
        found = accuracy(scores, labels, groups=[str(i) for i in range(n)])
        exact = proportion(round(found.value * n), n)
        assert found.lower == pytest.approx(exact.lower, abs=0.01)
        assert found.upper == pytest.approx(exact.upper, abs=0.01)


def test_rows_of_one_entity_count_once():
    """Ten rows an entity, all right or all wrong together: as wide as a tenth of the rows would be."""
    labels = torch.ones(400, dtype=torch.bool)
    scores = torch.where(torch.arange(400) // 10 % 4 == 0, -1.0, 1.0)
    found = accuracy(scores, labels, groups=[str(i // 10) for i in range(400)])
    one = accuracy(scores[::10], labels[::10], groups=[str(i) for i in range(40)])
    assert found.value == one.value == 0.75
    assert found.lower == pytest.approx(one.lower, abs=0.01)
    free = accuracy(scores, labels, groups=[str(i) for i in range(400)])
    assert free.upper - free.lower < 0.4 * (found.upper - found.lower)


def test_all_right_is_as_sure_as_there_are_entities():
    labels = torch.tensor([True, False] * 20)
    found = accuracy(labels.double() - 0.5, labels, groups=[str(i // 2) for i in range(40)])
    assert (found.value, found.upper) == (1.0, 1.0)
    assert found.lower == pytest.approx(0.025 ** (1 / 20), abs=0.02)
    alone = accuracy(labels.double() - 0.5, labels, groups=["one"] * 40)
    assert (alone.lower, alone.upper) == (0.0, 1.0)


def test_accuracy_is_covered_where_rows_of_an_entity_go_together():
    """500 simulated test sets of 30 entities of six rows whose rightness is shared: the truth is .8."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(500):
        easy = np.repeat(rng.beta(1.6, 0.4, 30), 6)
        right = torch.from_numpy(rng.random(180) < easy)
        found = accuracy(
            right.double() - 0.5, torch.ones(180, dtype=torch.bool), groups=[str(i // 6) for i in range(180)]
        )
        held += found.lower <= 0.8 <= found.upper
    assert held >= 0.92 * 500


def test_the_sign_flips_on_negated_statements_and_both_polarities_together_mend_it(four):
    """Truth mostly lies along the axis that negation turns over, as in the paper's models."""
    both = ("cities", "cities, negated")
    found = transfer_matrix(four, site=SITE, estimator="lda", unions=[both])
    for topic in ("cities", "animals"):
        assert found.cell(topic, topic).auroc.value > 0.98
        assert found.cell(topic, f"{topic}, negated").auroc.upper < 0.25
        assert found.cell(f"{topic}, negated", topic).auroc.upper < 0.25
    assert found.cell("cities", "animals, negated").auroc.value < 0.2
    mended = transfer_matrix(four, site=SITE, estimator=toy_ttpd, unions=[both])
    for name in four:
        assert mended.cell("cities + cities, negated", name).auroc.value > 0.95
        assert mended.cell("cities + cities, negated", name).accuracy.lower > 0.7
    assert mended.cell("cities", "cities, negated").auroc.upper < 0.25, "one polarity alone cannot know"
    assert (mended.estimator, found.estimator) == ("toy_ttpd", "lda")


def test_polarity_is_told_only_where_every_part_knows_it(four):
    told = []

    def spy(features, labels, *, site, polarity=None):
        told.append(None if polarity is None else polarity.float().mean().item())
        return toy_ttpd(features, labels, site=site, polarity=polarity)

    parts = {**four, "animals": dataclasses.replace(four["animals"], polarities=None)}
    transfer_matrix(parts, site=SITE, estimator=spy, unions=[("cities", "cities, negated"), ("cities", "animals")])
    assert told == [1.0, 0.0, None, 0.0, 0.5, None]


def test_no_entity_is_in_training_and_in_a_scored_row(four):
    fitted, scored = [], []

    class Spy:
        site = SITE

        def __init__(self, features):
            fitted.append(features)

        def scores(self, rows):
            scored.append((len(fitted) - 1, rows))
            return rows[:, GENERAL]

    found = transfer_matrix(four, site=SITE, estimator=lambda x, y, *, site: Spy(x), leave_one_out=True)
    owner = {
        tuple(row.tolist()): g for acts in four.values() for row, g in zip(acts.values[SITE], acts.groups, strict=True)
    }
    assert len(fitted) == 4 + 4
    assert len(scored) == 16 + 4
    for which, rows in scored:
        trained = {owner[tuple(row.tolist())] for row in fitted[which]}
        tested = {owner[tuple(row.tolist())] for row in rows}
        assert len(trained) >= 30
        assert len(tested) == 30
        assert not trained & tested
    for name, acts in four.items():
        assert len(found.test_entities[name]) == 30
        assert set(found.test_entities[name]) < set(acts.groups)
    assert found.test_entities["cities"] == found.test_entities["cities, negated"]


def test_halves_hold_both_kinds_of_pure_groups_and_another_seed_deals_anew(four):
    pure = part(entities=41)
    pure = dataclasses.replace(pure, groups=tuple(f"pure {i}" for i in range(82)))
    parts = {"cities": four["cities"], "pure": pure}
    deals = [transfer_matrix(parts, site=SITE, seed=seed).test_entities for seed in (0, 0, 1)]
    assert deals[0] == deals[1] != deals[2]
    label = dict(zip(pure.groups, pure.labels.tolist(), strict=True))
    tested = [label[group] for group in deals[0]["pure"]]
    assert {tested.count(True), tested.count(False)} <= {20, 21}


def test_leaving_a_topic_out_leaves_out_both_of_its_polarities(four):
    """The topics mean truth along different axes: what was fitted on the others says nothing."""
    turned = {}
    for name, acts in four.items():
        values = acts.values[SITE].clone()
        if name.startswith("animals"):
            values[:, [GENERAL, POLAR, 6, 7]] = values[:, [6, 7, GENERAL, POLAR]]
        turned[name] = dataclasses.replace(acts, values={SITE: values})
    found = transfer_matrix(turned, site=SITE, estimator=toy_ttpd, leave_one_out=True)
    assert found.rows[-1] == OTHERS
    for name in four:
        cell = found.cell(OTHERS, name)
        assert cell.auroc.lower < 0.5 < cell.auroc.upper
        assert not cell.seen
        shared = transfer_matrix(four, site=SITE, estimator=toy_ttpd, leave_one_out=True)
        assert shared.cell(OTHERS, name).auroc.lower > 0.7
    named = {name: name.split(",")[-1] for name in four}  # topics of its own making
    with pytest.raises(BadInput, match="names no topic for 'cities'"):
        transfer_matrix(four, site=SITE, leave_one_out={"animals": "a"})
    assert transfer_matrix(four, site=SITE, estimator=toy_ttpd, leave_one_out=named).rows[-1] == OTHERS
    one = {name: acts for name, acts in four.items() if "cities" in name}
    with pytest.raises(BadInput, match="no part is of another topic than 'cities'"):
        transfer_matrix(one, site=SITE, leave_one_out=True)


def test_a_boundary_that_lies_elsewhere_costs_accuracy_and_no_auroc():
    here, there = part("cities", general=3.0, polar=0.0), part("animals", general=3.0, polar=0.0)
    moved = {SITE: there.values[SITE] + 8.0 * torch.eye(10)[GENERAL]}
    found = transfer_matrix({"here": here, "there": dataclasses.replace(there, values=moved)}, site=SITE)
    cell = found.cell("here", "there")
    assert cell.auroc.value > 0.98
    assert cell.accuracy.upper < 0.65
    assert found.cell("there", "there").accuracy.lower > 0.8


def test_without_truth_every_cell_is_at_chance(four):
    parts = {name: part(name, general=0.0, polar=0.0, seed=i) for i, name in enumerate(four)}
    found = transfer_matrix(parts, site=SITE)
    inside = [cell.auroc.lower <= 0.5 <= cell.auroc.upper for cell in found.cells]
    assert sum(inside) >= 14
    assert all(isinstance(figure, Estimate) for cell in found.cells for figure in (cell.auroc, cell.accuracy))


def test_the_tables_read_as_text_and_as_html(four):
    found = transfer_matrix(four, site=SITE, unions=[("cities", "animals")], leave_one_out=True)
    assert found.rows == (*four, "cities + animals", OTHERS)
    assert found.columns == tuple(four)
    text = str(found)
    assert "AUROC of lda at resid_post.3" in text
    assert "Accuracy at score > 0 of lda at resid_post.3" in text
    assert "*" not in text
    lines = str(found.table("auroc")).splitlines()
    assert lines[0].startswith("train, below; test, right")
    assert len(lines) == 1 + 6 + 1 + 1
    assert f"({found.cell('cities', 'cities').auroc.interval()})" in lines[1]
    assert f"  {found.cell('cities', 'animals').auroc.interval()}" in lines[1]
    assert found._repr_html_().count("<tr>") == 2 * (1 + 6 + 1)
    assert "<script>" not in dataclasses.replace(found, estimator="<script>")._repr_html_()
    for measure in ("auroc", "accuracy"):
        grid = found.values(measure)
        assert grid.shape == (6, 4)
        assert grid[4, 1] == getattr(found.cell("cities + animals", "cities, negated"), measure).value
    assert repr(found) == "Transfer(6 x 4, lda at resid_post.3)"
    assert isinstance(found, Transfer)


def test_what_cannot_be_done_is_refused(four):
    with pytest.raises(NotFound, match=r"part 'cities' was not read at resid_post.9; did you mean 'resid_post.3'"):
        transfer_matrix(four, site="resid_post.9")
    with pytest.raises(NotFound, match="'animal' is no part of this matrix; did you mean 'animals'"):
        transfer_matrix(four, site=SITE, unions=[("cities", "animal")])
    with pytest.raises(NotFound, match="'ldr' is no estimator; did you mean 'lda'"):
        transfer_matrix(four, site=SITE, estimator="ldr")
    with pytest.raises(BadInput, match="3 cannot fit; give a function"):
        transfer_matrix(four, site=SITE, estimator=3)
    with pytest.raises(BadInput, match="1 part to train and to test on; give two"):
        transfer_matrix({"cities": four["cities"]}, site=SITE)
    with pytest.raises(TooFew, match="part 'few' has 4 entities to (train|test)") as caught:
        transfer_matrix({**four, "few": part("few", entities=9)}, site=SITE)
    assert caught.value.needed == 10
    with pytest.raises(BadInput, match="part 'cities': these activations have no labels"):
        transfer_matrix({**four, "cities": dataclasses.replace(four["cities"], labels=None)}, site=SITE)
    found = transfer_matrix(four, site=SITE, estimator=fit_lda)
    assert found.estimator == "fit_lda"
    with pytest.raises(NotFound, match="'citys' is not in this matrix"):
        found.cell("citys", "cities")
    with pytest.raises(NotFound, match="'f1' is no measure"):
        found.values("f1")


@pytest.mark.parametrize("estimator", ["mass_mean", "ttpd", "ridge"])
def test_estimators_by_name_are_told_the_polarity_only_if_they_can_use_it(estimator):
    parts = {"cities": part(), "negated": part(polarity=False)}
    assert parts["cities"].polarities is not None
    found = transfer_matrix(parts, site=SITE, estimator=estimator, unions=[tuple(parts)])
    assert found.cell("cities", "negated").auroc.value < 0.5
    assert found.cell("cities + negated", "negated").auroc.value > 0.8
