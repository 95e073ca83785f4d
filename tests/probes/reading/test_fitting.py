"""Fits against hand-worked points and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probes.errors import BadInput, CouldNotRun, NotFound, TooFew
from probes.model.sites import Site
from probes.reading import newton
from probes.reading.fitting import (
    ESTIMATORS,
    SOLVERS,
    check_method,
    fit_grid,
    fit_lda,
    fit_logistic,
    solve_lda,
    solve_logistic,
)
from probes.reading.metrics import auroc_values

SITE = Site("resid_post", 0)
SHAPES = {"wide": (60, 200), "tall": (300, 20), "square": (50, 50)}


def _data(rows, width, seed=0, share=0.4):
    """Raw features as a residual stream has them: offsets, one huge dimension, one that never moves."""
    rng = np.random.default_rng(seed)
    labels = rng.random(rows) < share
    labels[:4] = [True, True, False, False]
    features = rng.standard_normal((rows, width)) * rng.uniform(0.1, 5, width) + rng.uniform(-3, 3, width)
    features[:, 0] = 200 + 30 * rng.standard_normal(rows)
    features[:, 1] = 0.3
    features[:, 2] += labels
    return torch.from_numpy(features), torch.from_numpy(labels)


def test_three_points_in_two_dimensions_by_hand():
    """Points (0, 0) and (2, 0) false, (1, 3) true: by symmetry only the second coordinate counts.

    Standardised it is -s, -s and 2s with s = 1 / sqrt(2), so w and b minimise 2 log(1 + exp(b - w s)) + log(1 + exp(-b
    - 2 w s)) + w^2/2.
    """
    points, labels = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 3.0]]), torch.tensor([False, False, True])
    weights, biases = solve_logistic(points, labels[:, None], C=1.0)
    assert weights[0, 0].item() == pytest.approx(0, abs=1e-8)
    w, b, s = weights[1, 0].item() * np.sqrt(2), None, 1 / np.sqrt(2)  # the spread of (0, 0, 3) is sqrt(2), its mean 1
    b = biases[0].item() + weights[1, 0].item()
    low, high = 1 / (1 + np.exp(-(b - w * s))), 1 / (1 + np.exp(-(b + 2 * w * s)))
    assert 2 * low + high - 1 == pytest.approx(0, abs=1e-7)  # derivative by b
    assert -2 * s * low + 2 * s * (high - 1) + w == pytest.approx(0, abs=1e-7)  # derivative by w
    scores = fit_logistic(points, labels, site=SITE, C=1.0).scores(points)
    assert scores[2] > 0 > scores[0] == scores[1]


def test_lda_of_a_line_by_hand():
    """False at 0 and 2, true at 4 and 6: both spreads are 1, so w = (5 - 1) / 1 and the boundary is 3."""
    probe = fit_lda(torch.tensor([[0.0], [2.0], [4.0], [6.0]]), torch.tensor([False, False, True, True]), site=SITE)
    assert probe.weight.tolist() == pytest.approx([4.0])
    assert probe.scores(torch.tensor([[3.0], [4.0]])).tolist() == pytest.approx([0.0, 4.0])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("C", [1e-3, 0.01, 1.0, 100.0])
def test_logistic_has_scikit_learns_decision_function(shape, C):
    features, labels = _data(*shape)
    scaler = StandardScaler().fit(features.numpy())
    reference = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-12, max_iter=500)
    reference.fit(scaler.transform(features.numpy()), labels.numpy())
    unseen = _data(*shape, seed=1)[0]
    weights, biases = solve_logistic(features, labels[:, None], C=C)
    gap = (unseen @ weights + biases)[:, 0].numpy() - reference.decision_function(scaler.transform(unseen.numpy()))
    assert np.abs(gap).max() <= 1e-6


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("solver", ["eigen", "lsqr"])
def test_lda_has_scikit_learns_direction_and_decision_function(shape, solver):
    features, labels = _data(*shape)
    reference = LinearDiscriminantAnalysis(solver=solver, shrinkage="auto").fit(features.numpy(), labels.numpy())
    weight, expected = solve_lda(features, labels[:, None])[0][:, 0].numpy(), reference.coef_[0]
    assert weight @ expected / np.linalg.norm(weight) / np.linalg.norm(expected) >= 1 - 1e-8
    probe = fit_lda(features, labels, site=SITE)
    unseen = _data(*shape, seed=1)[0]
    assert np.abs(probe.scores(unseen).numpy() - reference.decision_function(unseen.numpy())).max() <= 1e-3


@pytest.mark.parametrize("method", ESTIMATORS)
def test_a_probe_carries_its_scaling_with_it(method):
    """float32 scores of raw activations against the float64 solution."""
    features, labels = _data(200, 100)
    weights, biases = SOLVERS[method](features, labels[:, None])
    probe = ESTIMATORS[method](features.float(), labels, site="resid_post.3", concept="x", tokens="mean")
    exact = (features @ weights + biases)[:, 0]
    assert (probe.scores(features) - exact).abs().max() < 1e-4 * exact.std()
    mean = features.float().double().mean(0)  # there, rounding the weight to float32 must cost nothing
    assert float(probe.weight.double() @ mean) + probe.bias == pytest.approx(exact.mean().item(), abs=1e-7)
    assert (probe.site, probe.method, probe.concept, probe.tokens) == (Site("resid_post", 3), method, "x", "mean")


@pytest.mark.parametrize("method", SOLVERS)
def test_many_labellings_at_once_are_each_fitted_as_if_alone(method):
    features, _ = _data(80, 120)
    labellings = torch.from_numpy(np.random.default_rng(0).random((80, 7)) < 0.5)
    weights, biases = SOLVERS[method](features, labellings)
    for i in range(7):
        alone, bias = SOLVERS[method](features, labellings[:, i : i + 1])
        assert torch.allclose(alone[:, 0], weights[:, i], rtol=1e-6, atol=1e-9)
        assert bias[0] == pytest.approx(biases[i].item(), abs=1e-6)
    assert not torch.allclose(weights[:, 0], weights[:, 1])


@pytest.mark.parametrize("method", ["logistic", "lda", "mass_mean_whitened", "ridge", "linear_svm"])
def test_rescaling_or_shifting_features_leaves_scores_as_they_were(method):
    features, labels = _data(100, 30)
    factor = torch.linspace(0.01, 50, 30, dtype=torch.float64)
    once, again = (ESTIMATORS[method](x, labels, site=SITE).scores(x) for x in (features, features * factor + 7))
    assert torch.allclose(once, again, atol=2e-3)
    flipped = ESTIMATORS[method](features, ~labels, site=SITE).scores(features)
    assert torch.allclose(once, -flipped, atol=1e-4)


def test_perfectly_separable_rows_with_hardly_a_penalty_still_converge():
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.standard_normal((40, 60)))
    labels = torch.from_numpy(rng.random(40) < 0.5)
    weights, biases = solve_logistic(features, labels[:, None], C=1e6)
    assert (((features @ weights + biases)[:, 0] > 0) == labels).all()


def test_rows_far_outside_do_not_send_newtons_method_astray():
    """A few massive activations: a full first step overshoots, and halving it leads home."""
    rng = np.random.default_rng(1)
    features = rng.standard_normal((100, 2))
    features[:3] += 100
    labels = rng.random(100) < 0.05
    labels[:3] = [True, True, False]
    scaler = StandardScaler().fit(features)
    reference = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-12, max_iter=500)
    expected = reference.fit(scaler.transform(features), labels).decision_function(scaler.transform(features))
    weights, biases = solve_logistic(torch.from_numpy(features), torch.from_numpy(labels)[:, None], C=1.0)
    scores = (torch.from_numpy(features) @ weights + biases)[:, 0].numpy()
    assert np.abs(scores - expected).max() <= 1e-6


@pytest.mark.parametrize("method", ESTIMATORS)
def test_what_cannot_be_fitted_is_refused(method):
    features, labels = _data(20, 5)
    for bad_features, bad_labels, words in (
        (features, torch.ones(20, dtype=torch.bool), "one class only"),
        (features, torch.zeros(20, dtype=torch.bool), "one class only"),
        (features, labels[:19], "a label a row"),
        (features[0], labels[:5], "give row x d_model"),
        (features[:0], labels[:0], "at least one of each"),
        (features.where(torch.arange(20)[:, None] != 3, float("nan")), labels, "row 3 of the features is not finite"),
    ):
        with pytest.raises(BadInput, match=words):
            ESTIMATORS[method](bad_features, bad_labels, site=SITE)


def test_a_penalty_that_is_none_and_a_covariance_that_is_none_are_refused():
    features, labels = _data(20, 5)
    for C in (0, -1, float("nan")):
        with pytest.raises(BadInput, match="above 0"):
            fit_logistic(features, labels, site=SITE, C=C)
    with pytest.raises(TooFew, match="2 rows of each class"):
        fit_lda(features[:3], torch.tensor([True, False, False]), site=SITE)
    with pytest.raises(CouldNotRun, match="cannot be inverted"):
        fit_lda(labels.double()[:, None].repeat(1, 3), labels, site=SITE)


def test_an_unknown_estimator_is_met_with_the_nearest():
    with pytest.raises(NotFound, match="did you mean 'logistic'"):
        check_method("logistics")


def test_fits_change_neither_their_inputs_nor_the_global_generator():
    features, labels = _data(50, 80)
    before, state = features.clone(), torch.random.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()
    for estimator in ESTIMATORS.values():
        estimator(features, labels, site=SITE)
    assert torch.equal(features, before)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()


def _scikit(features, labels, C, unseen):
    """The decision function of the pipeline that a user would write, at its very optimum."""
    pipeline = make_pipeline(
        StandardScaler(), LogisticRegression(C=C, solver="newton-cholesky", tol=1e-13, max_iter=999)
    )
    return torch.from_numpy(pipeline.fit(features.numpy(), labels.numpy()).decision_function(unseen.numpy()))


def _nasty():
    """Tall features with one thing wrong each; and wide ones."""
    features, labels = _data(300, 20)
    twins = torch.cat([features, features[:, :5], features[:, :1] * 2 + features[:, 3:4]], 1)
    constant_in_a_fold = features.clone()
    constant_in_a_fold[:, 4] = torch.where(torch.arange(300) % 3 == 0, features[:, 4], 1.5)
    outlier_in_a_fold = features.clone()
    outlier_in_a_fold[0, 5] = 1e9
    rare = labels & (torch.arange(300) % 9 < 2)
    yield "plain", features, labels
    yield "collinear", twins, labels
    yield "constant in a fold", constant_in_a_fold, labels
    yield "outlier in a fold", outlier_in_a_fold, labels
    yield "separable", features, features[:, 2] + features[:, 3] > features[:, 3].mean()
    yield "scales of 1e-6 to 1e6", features * torch.logspace(-6, 6, 20, dtype=torch.float64), labels
    yield "far from zero", features + 1e6, labels
    yield "unbalanced", features, rare
    yield "wide", *_data(60, 90)
    yield "wide only in a fold", *_data(60, 45)


@pytest.mark.parametrize(("features", "labels"), [case[1:] for case in _nasty()], ids=[case[0] for case in _nasty()])
def test_every_fit_of_a_grid_is_scikit_learns_pipeline_on_the_rows_of_its_fold(features, labels):
    folds, penalties = torch.arange(len(labels)) % 3 != torch.arange(3)[:, None], (1.0, 1e-3, 30.0)
    found = fit_grid({SITE: features}, labels, C=penalties, folds=folds)
    scores = found.scores(SITE, features)
    assert scores.shape == (len(labels), 3, 3)
    for i, rows in enumerate(folds):
        for j, C in enumerate(penalties):
            expected = _scikit(features[rows], labels[rows], C, features)
            # held-out rows may lie 1e9 spreads away, and scores with them
            gap = (scores[:, i, j] - expected).abs() / expected.abs().clamp_min(10) * 10
            assert gap.max() <= 2e-5
            areas = auroc_values(torch.stack([scores[:, i, j], expected], 1), labels)
            assert abs(areas[0] - areas[1]) <= 1e-3
    assert (scores[:, 0] - scores[:, 1]).abs().max() > 1e-3, "folds differ"


def test_a_fit_of_a_grid_is_the_fit_alone():
    """Masks over one design against rows cut out, a path of C against one, stacked layers against one."""
    first, labels = _data(300, 20)
    second, folds = _data(300, 20, seed=5)[0], torch.arange(300) % 4 != torch.arange(4)[:, None]
    found = fit_grid(torch.stack([first, second]), labels, C=(0.01, 0.5), folds=folds)
    assert found.weights.shape == (2, 4, 2, 20)
    assert found.sites == (Site("resid_post", 0), Site("resid_post", 1))
    for layer, features in enumerate((first, second)):
        for fold, rows in enumerate(folds):
            for at, C in enumerate((0.01, 0.5)):
                weights, biases = solve_logistic(features[rows], labels[rows, None], C=C)
                alone = features @ weights[:, 0] + biases[0]
                assert (found.scores(found.sites[layer], features)[:, fold, at] - alone).abs().max() <= 1e-6


def test_one_fit_of_a_grid_as_a_probe():
    features, labels = _data(200, 30)
    found = fit_grid({SITE: features.float()}, labels, C=(0.01, 0.1))
    probe = found.probe(SITE, 0.1, concept="x")
    assert (probe.site, probe.method, probe.concept) == (SITE, "logistic(C=0.1)", "x")
    assert (probe.scores(features) - found.scores(SITE, features)[:, 0, 1]).abs().max() < 1e-3
    usual = fit_logistic(features.float(), labels, site=SITE)
    assert found.probe(SITE).method == usual.method == "logistic"
    assert (usual.weight - found.probe(SITE).weight).abs().max() <= 1e-6
    assert repr(found) == "Grid(1 sites x 1 folds x 2 C, d_model 30)"
    with pytest.raises(NotFound, match=r"C of \(0.01, 0.1\)"):
        found.probe(SITE, 3.0)


def test_a_method_with_its_penalty_finds_its_solver_and_shares_nothing_that_it_need_not():
    features, labels = _data(80, 10)
    weights, _ = SOLVERS["logistic(C=0.5)"](features, labels[:, None])
    assert torch.equal(weights, solve_logistic(features, labels[:, None], C=0.5)[0])
    assert not torch.allclose(weights, SOLVERS["logistic"](features, labels[:, None])[0])
    check_method("logistic(C=0.5)")
    with pytest.raises(KeyError):
        SOLVERS["nothing"]
    several = torch.stack([labels, ~labels], 1)
    slow, bias = SOLVERS["ridge"](features, several)
    alone = [ESTIMATORS["ridge"](features, column, site=SITE) for column in several.T]
    assert torch.allclose(slow.T.float(), torch.stack([probe.weight for probe in alone]), rtol=1e-5)
    assert torch.allclose(bias.float(), torch.tensor([probe.bias for probe in alone]), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": torch.arange(30) < 1, "folds": torch.arange(30)[None] > 0}, "fold 0 are of one class only"),
        ({"labels": torch.arange(29) < 9}, "a label a row"),
        ({"folds": torch.ones(2, 29, dtype=torch.bool)}, r"folds of shape \(2, 29\) for 30 rows"),
        ({"folds": torch.zeros(1, 30, dtype=torch.bool)}, "one class only"),
        ({"C": ()}, "above 0"),
        ({"C": (1.0, -1.0)}, "above 0"),
        ({"features": {}}, "features of 0 sites"),
        ({"features": torch.full((1, 30, 4), torch.nan)}, "at resid_post.0: row 0 of the features is not finite"),
        ({"features": 1e200 * torch.eye(30, 4, dtype=torch.float64)[None]}, "overflows"),
    ],
)
def test_a_grid_that_cannot_be_fitted_is_refused(change, words):
    given = {"features": _data(30, 4)[0][None], "labels": torch.arange(30) < 9} | change
    with pytest.raises(BadInput, match=words):
        fit_grid(given.pop("features"), given.pop("labels"), **given)


def test_a_fit_that_has_not_converged_is_never_returned(monkeypatch):
    features, labels = _data(300, 20)
    monkeypatch.setattr(newton, "NEWTON_STEPS", 2)
    with pytest.raises(CouldNotRun, match="did not converge in 2 steps"):
        fit_grid({SITE: features}, labels, C=30.0)


def test_where_float32_gets_nowhere_the_inner_solves_are_raised(monkeypatch):
    """Inner solves that are always zero in float32: what converges did so in float64."""
    features, labels = _data(300, 20)
    expected, solve = fit_grid({SITE: features}, labels, C=1.0), newton._conjugate_gradients

    def lame(low, *rest):
        step, laps = solve(low, *rest)
        return (step * 1e-9 if low.dtype == torch.float32 else step), laps

    monkeypatch.setattr(newton, "_conjugate_gradients", lame)
    found = fit_grid({SITE: features}, labels, C=1.0)
    assert (found.scores(SITE, features) - expected.scores(SITE, features)).abs().max() <= 1e-6


def test_fitting_many_sites_does_not_mix_their_memory():
    """Buffers are kept from site to site: a site fitted after another is fitted as if first."""
    first, labels = _data(300, 20)
    second = _data(300, 20, seed=5)[0]
    both = fit_grid(torch.stack([first, second]), labels, C=(0.01, 1.0))
    alone = fit_grid(second[None], labels, C=(0.01, 1.0))
    assert torch.equal(both.weights[1], alone.weights[0])
    assert torch.equal(both.means[1], alone.means[0])


@pytest.mark.gpu
def test_a_grid_on_an_accelerator_is_the_grid_on_the_host():
    device = "cuda" if torch.cuda.is_available() else "mps"
    features, labels = _data(300, 20)
    features, folds = features.float(), torch.arange(300) % 3 != torch.arange(3)[:, None]
    host = fit_grid({SITE: features}, labels, C=(0.01, 1.0), folds=folds)
    there = fit_grid({SITE: features.to(device)}, labels, C=(0.01, 1.0), folds=folds)
    assert there.weights.device.type == device
    gap = (there.scores(SITE, features.to(device)).cpu().double() - host.scores(SITE, features)).abs().max()
    assert gap <= (1e-5 if device == "cuda" else 1e-2)
