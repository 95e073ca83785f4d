"""The sweep: what is chosen, on what, and what is shown beside it."""

import dataclasses

import pytest
import torch

from probes.activations.capture import concatenate
from probes.errors import BadInput, NotFound, TooFew
from probes.judging.controls import MEANINGS, NEEDS_MODEL
from probes.judging.splits import Split, row_groups, row_labels, select
from probes.judging.sweep import Sweep, _folds, sweep, transfer
from probes.model.sites import Site
from probes.reading.fitting import fit_logistic
from probes.reading.metrics import Estimate, auroc


def _site(layer, name="resid_post"):
    return Site(name, layer)


@pytest.fixture(scope="module")
def example():
    """Shared by the tests that only look."""
    return {}


@pytest.fixture
def found(example, planted):
    if not example:
        example["acts"] = planted({2: 2.5}, groups=150)
        example["found"] = sweep(example["acts"], concept="true statement")
    return example["found"]


def test_a_planted_direction_is_found_at_its_layer_and_nowhere_else(found):
    assert found.site == _site(2)
    assert abs(found.best.direction[0]) > 0.8
    assert found.best.concept == "true statement"
    for row in found.rows:
        if row.site == _site(2):
            assert row.test.lower > 0.85
        else:
            assert row.test.lower < 0.5 < row.test.upper
    assert [(str(row.site), row.estimator) for row in found.rows] == [
        (f"resid_post.{layer}", name) for layer in range(4) for name in ("logistic", "lda")
    ]


def test_the_best_probe_brings_every_control_that_needs_no_model(found):
    assert set(found.best.controls) == set(MEANINGS) - set(NEEDS_MODEL)
    assert all(isinstance(estimate, Estimate) for estimate in found.best.controls.values())
    chosen = next(row for row in found.rows if (row.site, row.estimator) == (found.site, found.best.method))
    assert found.best.controls["auroc"] == chosen.test
    assert found.best.controls["auroc"].n == 2 * len(found.split.test)


def test_scores_and_labels_of_the_test_entities_are_at_hand(found):
    assert set(found.test.groups) == set(found.split.test)
    assert found.scores.shape == found.labels.shape == (2 * len(found.split.test),)
    again = auroc(found.scores, found.labels, groups=row_groups(found.test))
    assert again == found.best.controls["auroc"]


def _without_test(acts, split):
    """The same activations with the rows of the test made noise, and their labels turned over."""
    tested = torch.tensor([group in split.test for group in acts.groups])
    noise = torch.Generator().manual_seed(5)
    values = {s: torch.where(tested[:, None], torch.randn(v.shape, generator=noise), v) for s, v in acts.values.items()}
    return dataclasses.replace(acts, values=values, labels=torch.where(tested, ~acts.labels, acts.labels))


def test_the_choice_never_looks_at_the_test_entities(found, example):
    """Without what the test says: the same site, method and weights to the last bit."""
    acts = example["acts"]
    mutated = _without_test(acts, found.split)
    other = sweep(mutated, split=found.split)
    assert (other.site, other.best.method, other.best.bias) == (found.site, found.best.method, found.best.bias)
    assert torch.equal(other.best.weight, found.best.weight)
    assert [row.calibration for row in other.rows] == [row.calibration for row in found.rows]
    assert other.best.controls["auroc"].upper < 0.8 < found.best.controls["auroc"].lower


def test_the_choice_follows_the_calibration_entities(found, example):
    """The sanity half: the same noise put on the calibration entities moves the choice or its figures."""
    acts = example["acts"]
    choosing = torch.tensor([group in found.split.calibration for group in acts.groups])
    mutated = dataclasses.replace(acts, labels=torch.where(choosing, ~acts.labels, acts.labels))
    assert sweep(mutated, split=found.split).site != found.site


def test_a_sweep_is_repeatable_and_another_seed_is_another_split(found, example):
    again = sweep(example["acts"], concept="true statement")
    assert again.rows == found.rows
    assert again.best.controls == found.best.controls
    assert sweep(example["acts"], estimators="lda", seed=1).split != found.split


def test_where_layers_tie_the_first_in_the_forward_pass_is_taken(planted):
    acts = planted({1: 50.0, 3: 50.0}, groups=40)
    backwards = dataclasses.replace(acts, values=dict(reversed(acts.values.items())))
    assert sweep(acts).site == sweep(backwards).site == _site(1)


def test_the_table_reads_as_text_and_as_html(found):
    lines = str(found.table).splitlines()
    assert lines[0].split("  ")[0] == "layer"
    assert [line for line in lines if line.endswith("*")] == [lines[1 + 4 if found.best.method == "logistic" else 6]]
    assert f"chosen on calibration{'':41}" in str(found.table)
    assert f"resid_post.2, {found.best.method}" in str(found.table)
    for words in MEANINGS.values():
        assert words in str(found.table)
    assert str(found.table).count("missing (needs the model") == len(NEEDS_MODEL)
    page = found.table._repr_html_()
    assert page.count("<tr>") == 1 + 8 + 1 + len(MEANINGS)
    assert page.count("<th>") == 2 * len(found.table.headings)
    hostile = dataclasses.replace(found.table, notes=(("<script>", "&"),))._repr_html_()
    assert "<script>" not in hostile
    assert "&lt;script&gt;" in hostile


def test_several_hook_points_are_named_in_full(planted):
    acts = planted({1: 2.0}, groups=40, layers=2)
    both = dataclasses.replace(acts, values={**acts.values, _site(0, "attn_out"): acts.values[_site(0)]})
    found = sweep(both, estimators=["lda"])
    assert [str(row.site) for row in found.rows] == ["attn_out.0", "resid_post.0", "resid_post.1"]
    assert "attn_out.0" in str(found.table)
    assert {name: len(rows) for name, rows in found.by_layer().items()} == {"attn_out lda": 1, "resid_post lda": 2}


def test_lines_of_a_plot_run_from_the_first_layer_to_the_last(found):
    lines = found.by_layer()
    assert list(lines) == ["logistic", "lda"]
    assert [row.site.layer for row in lines["lda"]] == [0, 1, 2, 3]


def test_rows_of_one_text_share_its_label(planted):
    found = sweep(planted({1: 1.5}, groups=40, layers=2, rows=3), estimators="lda")
    assert found.site == _site(1)
    assert found.best.tokens == "all"
    assert found.labels.shape == (3 * 2 * len(found.split.test),)


def test_pure_groups_are_swept_as_twins_are(planted):
    found = sweep(planted({1: 3.0}, groups=120, layers=2, twins=False), estimators="lda")
    assert found.site == _site(1)
    assert found.best.controls["shuffled"].value == pytest.approx(0.5, abs=0.05)


def test_a_split_of_ones_own_is_kept(planted):
    acts = planted({1: 2.0}, groups=30, layers=2)
    names = [f"entity {i}" for i in range(30)]
    split = Split(names[:12], names[12:20], names[20:28])
    found = sweep(acts, split=split)
    assert found.split == split
    assert set(found.test.groups) == set(names[20:28])


def test_a_saved_best_probe_reads_as_before(found, tmp_path):
    found.best.save(tmp_path / "p")
    back = type(found.best).load(tmp_path / "p")
    assert torch.equal(back.scores(found.test.values[found.site]), found.scores)
    assert back.controls == found.best.controls


def test_transfer_shows_a_sign_that_flipped(found, planted):
    negated = planted({2: -2.5}, groups=150, seed=9)
    flipped = transfer(found.best, negated, groups=found.split.test)
    assert flipped.upper < 0.15
    assert flipped.n == 2 * len(found.split.test)
    kept = select(negated, found.split.test)
    assert flipped == auroc(found.best.scores(kept.values[_site(2)]), row_labels(kept), groups=row_groups(kept))
    assert transfer(found.best, planted({2: 2.5}, groups=150, seed=9)).lower > 0.85


def test_transfer_refuses_what_it_cannot_read(found, planted):
    acts = planted({}, groups=10)
    elsewhere = dataclasses.replace(acts, values={_site(0): acts.values[_site(0)]})
    with pytest.raises(NotFound, match="not read at resid_post.2"):
        transfer(found.best, elsewhere)
    with pytest.raises(BadInput, match="none of these groups"):
        transfer(found.best, acts, groups=["stranger"])


def test_what_cannot_be_swept_is_refused(planted):
    acts = planted({}, groups=40, layers=2)
    nan = {site: values.clone() for site, values in acts.values.items()}
    nan[_site(1)][7, 0] = float("nan")
    for bad, options, error, words in (
        (dataclasses.replace(acts, labels=None), {}, BadInput, "no labels"),
        (dataclasses.replace(acts, groups=None), {}, BadInput, "no groups"),
        (dataclasses.replace(acts, labels=torch.ones(80, dtype=torch.bool)), {}, BadInput, "one class"),
        (dataclasses.replace(acts, values=nan), {}, BadInput, "at resid_post.1 is not finite"),
        (acts, {"estimators": ["logistic", "ldaa"]}, NotFound, "did you mean 'lda'"),
        (acts, {"estimators": []}, BadInput, "no estimator"),
        (acts, {"split": (0.5, 0.5)}, BadInput, "three positive shares"),
        (acts, {"draws": 20}, TooFew, "at least 200"),
        (planted({}, groups=9), {}, TooFew, "9 groups are too few"),
    ):
        with pytest.raises(error, match=words):
            sweep(bad, **options)


def test_reprs_are_short_and_a_sweep_is_frozen(found):
    assert repr(found).startswith("Sweep(8 fits, best LinearProbe(")
    assert len(repr(found)) < 200
    assert repr(found.split) == "Split(train: 75 groups, calibration: 30 groups, test: 45 groups)"
    assert isinstance(found, Sweep)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.rows = ()


def _weakened(planted, **options):
    return planted({1: 0.8, 2: 1.0}, groups=80, layers=3, d_model=12, **options)


def test_every_penalty_is_a_candidate_and_the_chosen_one_is_refitted_by_the_controls(planted):
    acts = _weakened(planted)
    found = sweep(acts, estimators=["logistic", "lda"], C=(0.0001, 1.0))
    assert [(str(r.site), r.estimator, r.C) for r in found.rows[:3]] == [
        ("resid_post.0", "logistic", 0.0001), ("resid_post.0", "logistic", 1.0), ("resid_post.0", "lda", None),
    ]  # fmt: skip
    assert "logistic, C = 0.0001" in str(found.table)
    assert list(found.by_layer()) == ["logistic(C=0.0001)", "logistic(C=1.0)", "lda"]
    chosen = max(found.rows, key=lambda row: row.calibration.value)
    assert found.best.method == chosen.method
    one = sweep(acts, estimators="logistic", C=1.0, split=found.split)
    assert [row.test for row in one.rows] == [row.test for row in found.rows if row.C == 1.0]
    assert one.best.method == "logistic(C=1.0)"
    usual = sweep(acts, estimators="logistic", split=found.split)
    assert one.best.controls["noise_fits_95"] != usual.best.controls["noise_fits_95"], "shuffles are fitted at that C"
    assert usual.best.method == "logistic"
    assert "C =" not in str(usual.table)


def test_a_row_is_the_fit_of_its_estimator_alone(planted):
    acts = _weakened(planted)
    found = sweep(acts, estimators="logistic", C=0.3)
    train = select(acts, found.split.train)
    alone = fit_logistic(train.values[found.site], row_labels(train), site=found.site, C=0.3)
    assert (found.best.weight - alone.weight).abs().max() <= 1e-6
    assert set(found.train.groups) == set(found.split.train)
    assert found.train.sites == (found.site,)


def test_with_folds_the_choice_never_looks_at_the_test_entities_and_the_refit_takes_all_others(planted):
    acts = _weakened(planted)
    found = sweep(acts, estimators=["logistic", "lda"], C=(0.001, 1.0), folds=4)
    inside = {*found.split.train, *found.split.calibration}
    assert set(found.train.groups) == inside
    assert found.folds == 4
    assert "AUROC, 4 folds" in str(found.table)
    assert "chosen by 4 folds of train and calibration" in str(found.table)
    mutated = _without_test(acts, found.split)
    other = sweep(mutated, estimators=["logistic", "lda"], C=(0.001, 1.0), folds=4, split=found.split)
    assert (other.site, other.best.method, other.best.bias) == (found.site, found.best.method, found.best.bias)
    assert torch.equal(other.best.weight, found.best.weight)
    assert [row.calibration for row in other.rows] == [row.calibration for row in found.rows]
    assert [row.test for row in other.rows] != [row.test for row in found.rows]
    tested = torch.tensor([group in found.split.test for group in acts.groups])
    turned = dataclasses.replace(acts, labels=torch.where(tested, acts.labels, ~acts.labels & (acts.example % 3 > 0)))
    again = sweep(turned, estimators=["logistic", "lda"], C=(0.001, 1.0), folds=4, split=found.split)
    assert [row.calibration for row in again.rows] != [row.calibration for row in found.rows]


def test_cross_validation_scores_each_fold_with_a_fit_that_has_not_seen_it(planted):
    """By hand for one site: fits outside each fold, AUROC inside it, their mean. Nothing planted: near one half."""
    acts = planted({}, groups=60, layers=1, d_model=40)
    found = sweep(acts, estimators="logistic", C=100.0, folds=3)
    train = found.train
    masks, held = _folds(train, 3, 0)
    values = []
    for rows, part in zip(masks[1:], held, strict=True):
        assert set(part.groups).isdisjoint(
            group for group, kept in zip(train.groups, rows.tolist(), strict=True) if kept
        )
        probe = fit_logistic(train.values[_site(0)][rows], row_labels(train)[rows], site=_site(0), C=100.0)
        values.append(auroc(probe.scores(part.values[_site(0)]), row_labels(part)).value)
    assert bool(masks[0].all())
    assert (~masks[1:]).sum(0).eq(1).all(), "each row is held out once"
    (row,) = found.rows
    assert row.calibration.value == pytest.approx(sum(values) / 3, abs=1e-3)
    assert 0.3 < row.calibration.value < 0.7
    assert row.calibration.n == len(train.texts)


def test_more_checks_take_more_draws(planted):
    acts = planted({1: 2.0}, groups=30, layers=2)
    with pytest.raises(TooFew, match="at least 400: give draws=400") as error:
        sweep(acts, estimators="lda", checks=10)
    assert error.value.needed == 400
    assert sweep(acts, estimators="lda", checks=5).best.controls["shuffled_p"].n == 200
    with pytest.raises(BadInput, match="checks = 0"):
        sweep(acts, checks=0)


def test_folds_and_penalties_that_are_none_are_refused(planted):
    acts = planted({}, groups=30, layers=1)
    for options, error, words in (
        ({"folds": 1}, BadInput, "folds = 1"),
        ({"folds": 12}, TooFew, "12 folds take 24 groups of each class"),
        ({"C": (1.0, 0.0)}, BadInput, "above 0"),
    ):
        with pytest.raises(error, match=words):
            sweep(acts, **options)


@pytest.mark.gpu
def test_a_sweep_fitted_on_an_accelerator_chooses_as_on_the_host(planted):
    acts = planted({2: 2.0})
    host, there = (sweep(acts, estimators="logistic", device=device) for device in (None, "cuda"))
    assert there.site == host.site
    assert there.best.controls["auroc"].value == pytest.approx(host.best.controls["auroc"].value, abs=1e-6)


def test_an_estimator_that_can_use_polarity_is_told_it(planted):
    affirmed, denied = planted({1: 2.0}, seed=1), planted({1: -2.0}, seed=2)
    denied = dataclasses.replace(denied, texts=tuple(f"not {text}" for text in denied.texts))
    both = concatenate(affirmed, denied)
    side = torch.tensor([True] * len(affirmed.texts) + [False] * len(denied.texts))
    untold, told = (sweep(dataclasses.replace(both, polarities=known), estimators="ttpd") for known in (None, side))
    assert not torch.equal(untold.best.weight, told.best.weight)
    with_folds = sweep(dataclasses.replace(both, polarities=side), estimators="ttpd", folds=3)
    assert with_folds.best.method == "ttpd"
