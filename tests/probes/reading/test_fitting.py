"""Fits against hand-worked points and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from probes.errors import BadInput, CouldNotRun, NotFound, TooFew
from probes.model.sites import Site
from probes.reading.fitting import (
    ESTIMATORS,
    SOLVERS,
    check_method,
    fit_lda,
    fit_logistic,
    solve_lda,
    solve_logistic,
)

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


@pytest.mark.parametrize("method", ESTIMATORS)
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
        (features[0], labels[:5], "a label a row"),
        (features[:0], labels[:0], "one class only"),
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
