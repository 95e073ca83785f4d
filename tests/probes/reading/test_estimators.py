"""Mass-mean, TTPD and reading vector: points by hand, scikit-learn's own checks, least squares, and the sign flip."""

import numpy as np
import pytest
import torch
from scipy.linalg import lstsq, subspace_angles
from sklearn import config_context
from sklearn.base import clone
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import check_estimator

from probes.errors import BadInput, CouldNotRun, NotFound
from probes.model.sites import Site
from probes.reading.estimators import (
    CLASSIFIERS,
    TTPD,
    MassMean,
    ReadingVector,
    fit_sklearn,
    solve_sklearn,
)
from probes.reading.metrics import auroc_values
from probes.reading.probe import LinearProbe

SITE = Site("resid_post", 3)
OWN = [MassMean(), MassMean(whiten=True), TTPD(), ReadingVector()]


def _data(rows=90, width=20, seed=0):
    """Raw features as a residual stream has them: offsets, one huge dimension, one that never moves."""
    rng = np.random.default_rng(seed)
    labels = rng.random(rows) < 0.4
    features = rng.standard_normal((rows, width)) * rng.uniform(0.1, 5, width) + rng.uniform(-3, 3, width)
    features[:, 0] = 200 + 30 * rng.standard_normal(rows)
    features[:, 1] = 0.3
    features[:, 2] += 5 * labels
    return features, labels


def _statements(rows, *, seed, width=30, place=0.0, polarity=None):
    """Activations with a truth direction, a stronger one that negation turns round, a polarity, and a topic's place."""
    rng = np.random.default_rng(seed)
    truth = rng.random(rows) < 0.5
    affirmed = rng.random(rows) < 0.5 if polarity is None else np.full(rows, polarity)
    t, q = 2.0 * truth - 1, 2.0 * affirmed - 1
    axes = np.eye(width)
    features = rng.standard_normal((rows, width)) + 5 + place * axes[7]
    features += np.outer(t, 1.5 * axes[0]) + np.outer(t * q, 4 * axes[1]) + np.outer(q, 3 * axes[2] + axes[0])
    return features, truth, affirmed


def _auroc(scores, truth):
    return auroc_values(torch.as_tensor(scores, dtype=torch.float64)[:, None], torch.as_tensor(truth))[0]


def test_mass_mean_of_four_points_by_hand():
    """False at (0, 0) and (0, 2), true at (4, 0) and (4, 6): the means are (0, 1) and (4, 3), the weight (4, 2).

    Halfway lies (2, 2), so the bias is -12.
    """
    found = MassMean().fit([[0, 0], [0, 2], [4, 0], [4, 6]], [False, False, True, True])
    assert found.coef_.tolist() == [[4.0, 2.0]]
    assert found.intercept_.tolist() == [-12.0]
    assert found.decision_function([[2, 2], [3, 2]]).tolist() == [0.0, 4.0]
    assert found.predict([[3, 2], [1, 2]]).tolist() == [True, False]


def test_ttpd_of_four_statements_by_hand():
    """Affirmed true (3, 1), affirmed false (1, 1); negated true (1, -1), negated false (-1, -1).

    Truth adds (1, 0) and takes it away, polarity adds (1, 1) and takes it away; negation does not turn truth round.
    """
    points, truth = [[3, 1], [1, 1], [1, -1], [-1, -1]], [True, False, True, False]
    found = TTPD().fit(points, truth, polarity=[True, True, False, False])
    assert found.truth_direction_.tolist() == [1.0, 0.0]
    assert found.polarity_direction_.tolist() == [1.0, 1.0]
    assert found.truth_polarity_direction_.tolist() == [0.0, 0.0]
    assert found.predict(points).tolist() == truth
    blind = MassMean().fit(points, truth).decision_function(points)
    assert blind[1] == blind[2]  # an affirmed lie and a negated truth are one to it
    flipped = TTPD().fit([[3, 1], [1, 1], [-1, -1], [1, -1]], truth, polarity=[1, 1, -1, -1])
    assert flipped.truth_direction_.tolist() == [0.0, 0.0]
    assert flipped.truth_polarity_direction_.tolist() == [1.0, 0.0]


def test_a_reading_vector_of_two_pairs_by_hand():
    """Differences (0, 2) and (0, 4) lie along the second axis, whatever the pairs' own places; halfway is 1.5."""
    points, labels, pairs = [[0, 0], [0, 2], [9, 4], [9, 0]], [0, 1, 1, 0], ["a", "a", "b", "b"]
    found = ReadingVector().fit(points, labels, pairs=pairs)
    assert found.coef_[0] == pytest.approx([0, 1])
    assert found.intercept_ == pytest.approx([-1.5])
    assert found.share_ == pytest.approx(1)
    alone = ReadingVector().fit(points, labels)  # without pairs, the place is what varies most
    assert abs(alone.coef_[0][0]) > 0.9
    shuffled = ReadingVector().fit(np.array(points)[[3, 0, 2, 1]], [0, 0, 1, 1], pairs=["b", "a", "b", "a"])
    assert shuffled.coef_ == pytest.approx(found.coef_)


@pytest.mark.parametrize("estimator", OWN, ids=str)
def test_scikit_learns_checks_pass_every_one(estimator):
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    told = {r["check_name"]: r["exception"] for r in results if r["status"] != "passed"}
    # The one check that scikit-learn leaves out runs where SCIPY_ARRAY_API was set before scipy was imported.
    assert set(told) <= {"check_array_api_input"}, told
    assert not any(r["expected_to_fail"] for r in results)
    assert len(results) > 50


@pytest.mark.parametrize(("rows", "width"), [(40, 100), (300, 20), (50, 50)])
def test_whitening_is_by_scikit_learns_ledoit_wolf_covariance_pooled(rows, width):
    features, labels = _data(rows, width)
    means = [features[labels == c].mean(0) for c in (False, True)]
    centred = features - np.where(labels[:, None], means[1], means[0])
    scale = np.where(np.arange(width) == 1, 1.0, centred.std(0))
    covariance = LedoitWolf(assume_centered=True).fit(centred / scale).covariance_
    expected = np.linalg.solve(covariance, (means[1] - means[0]) / scale) / scale
    found = MassMean(whiten=True).fit(features, labels).coef_[0]
    assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) >= 1 - 1e-8
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(expected), rel=1e-6)
    raw = MassMean().fit(features, labels).coef_[0]
    assert raw @ expected / np.linalg.norm(raw) / np.linalg.norm(expected) < 0.9


def test_with_many_rows_whitened_mass_mean_is_linear_discriminant_analysis():
    features, labels = _data(20_000, 6)
    features = features[:, 2:]
    expected = LinearDiscriminantAnalysis(solver="lsqr").fit(features, labels).coef_[0]
    found = MassMean(whiten=True).fit(features, labels).coef_[0]
    assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) > 0.999


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_ttpd_directions_are_those_of_least_squares(share):
    features, truth, affirmed = _statements(200, seed=0)
    keep = affirmed | (np.random.default_rng(1).random(200) < share)  # unbalanced polarity too
    features, truth, affirmed = features[keep], truth[keep], affirmed[keep]
    t, q = 2.0 * truth - 1, 2.0 * affirmed - 1
    expected = lstsq(np.stack([np.ones(len(t)), q, t, t * q], 1), features)[0]
    found = TTPD().fit(features, truth, polarity=affirmed)
    assert np.abs(found.polarity_direction_ - expected[1]).max() <= 1e-10
    assert np.abs(found.truth_direction_ - expected[2]).max() <= 1e-10
    assert np.abs(found.truth_polarity_direction_ - expected[3]).max() <= 1e-10


def test_ttpd_directions_are_the_papers_on_balanced_statements():
    """Centred polarity by polarity, then least squares on label and label x polarity, without intercept."""
    features, *_ = _statements(120, seed=3)
    truth, affirmed = np.tile([True, True, False, False], 30), np.tile([True, False], 60)
    t, q = 2.0 * truth - 1, 2.0 * affirmed - 1
    centred = features - np.where(affirmed[:, None], features[affirmed].mean(0), features[~affirmed].mean(0))
    expected = lstsq(np.stack([t, t * q], 1), centred)[0]
    found = TTPD().fit(features, truth, polarity=affirmed)
    assert np.abs(found.truth_direction_ - expected[0]).max() <= 1e-10
    assert np.abs(found.truth_polarity_direction_ - expected[1]).max() <= 1e-10


def test_a_sign_that_flips_under_negation_is_mended_by_ttpd_on_another_topic():
    features, truth, affirmed = _statements(400, seed=0)
    other, other_truth, other_affirmed = _statements(400, seed=1, place=6.0)
    alone = LogisticRegression(C=0.01, max_iter=1000).fit(features[affirmed], truth[affirmed])
    assert _auroc(alone.decision_function(other[other_affirmed]), other_truth[other_affirmed]) > 0.95
    assert _auroc(alone.decision_function(other[~other_affirmed]), other_truth[~other_affirmed]) < 0.2
    mended = TTPD().fit(features, truth, polarity=affirmed)
    for those in (other_affirmed, ~other_affirmed):
        assert _auroc(mended.decision_function(other[those]), other_truth[those]) > 0.9
    assert _auroc(mended.decision_function(other), other_truth) > 0.9


def test_without_polarity_all_count_as_affirmed_and_the_truth_direction_is_the_difference_of_means():
    features, truth, _ = _statements(100, seed=0, polarity=True)
    plain = TTPD().fit(features, truth)
    same = TTPD().fit(features, truth, polarity=np.ones(100, dtype=bool))
    assert np.array_equal(plain.coef_, same.coef_)
    assert plain.polarity_direction_ is None
    assert plain.truth_polarity_direction_ is None
    half = (features[truth].mean(0) - features[~truth].mean(0)) / 2
    assert plain.truth_direction_ == pytest.approx(half)
    cosine = plain.coef_[0] @ half / np.linalg.norm(half) / np.linalg.norm(plain.coef_[0])
    assert cosine == pytest.approx(1)


@pytest.mark.parametrize("dtype", [bool, int, float])
def test_polarity_may_be_written_in_several_ways(dtype):
    features, truth, affirmed = _statements(60, seed=0)
    expected = TTPD().fit(features, truth, polarity=affirmed).coef_
    assert np.array_equal(TTPD().fit(features, truth, polarity=affirmed.astype(dtype)).coef_, expected)
    assert np.array_equal(TTPD().fit(features, truth, polarity=2 * affirmed.astype(int) - 1).coef_, expected)
    assert np.array_equal(TTPD().fit(features, truth, polarity=torch.from_numpy(affirmed)).coef_, expected)
    other = TTPD().fit(features, truth, polarity=~affirmed)
    assert np.allclose(
        other.truth_polarity_direction_, -TTPD().fit(features, truth, affirmed).truth_polarity_direction_
    )


def test_polarity_is_routed_through_pipelines_searches_and_cross_validation():
    features, truth, affirmed = _statements(400, seed=0)
    with config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(StandardScaler(), TTPD().set_fit_request(polarity=True))
        routed = clone(pipeline).fit(features, truth, polarity=affirmed)
        by_hand = TTPD().fit(StandardScaler().fit_transform(features), truth, polarity=affirmed)
        assert np.array_equal(routed[-1].coef_, by_hand.coef_)
        assert not np.allclose(clone(pipeline).fit(features, truth)[-1].coef_, by_hand.coef_)
        found = cross_validate(pipeline, features, truth, params={"polarity": affirmed}, cv=4, return_estimator=True)
        assert found["test_score"].mean() > 0.75
        assert all(fold[-1].polarity_direction_ is not None for fold in found["estimator"])
        search = GridSearchCV(pipeline, {"ttpd__C": [0.1, 1.0]}, cv=3).fit(features, truth, polarity=affirmed)
        assert search.best_score_ > 0.75
        probe = LinearProbe.from_sklearn(search, SITE)
    gap = probe.scores(torch.from_numpy(features)).numpy() - search.decision_function(features)
    assert np.abs(gap).max() < 1e-4


@pytest.mark.parametrize(("rows", "width"), [(30, 60), (100, 10)])
def test_a_reading_vector_is_scikit_learns_first_principal_component(rows, width):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((rows, width)) * np.linspace(3, 1, width)
    labels = np.arange(rows) % 2 == 0
    found = ReadingVector().fit(features, labels)
    reference = PCA(1, svd_solver="full").fit(features)
    assert subspace_angles(found.coef_.T, reference.components_.T)[0] < 1e-6
    assert found.share_ == pytest.approx(reference.explained_variance_ratio_[0])
    high, low = (found.decision_function(features[labels == c]).mean() for c in (True, False))
    assert high > 0 > low
    assert high == pytest.approx(-low)
    turned = ReadingVector().fit(features, ~labels)
    assert turned.coef_ == pytest.approx(-found.coef_)


def test_pairs_in_random_order_have_on_average_the_direction_that_is_computed():
    """RepE draws each pair's order at random and centres: over many draws that is the uncentred second moment."""
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 40, 8)) * np.linspace(1, 2, 8)
    first[:, 2] += 4
    difference = first - second
    drawn = difference[np.tile(np.arange(40), 500)] * rng.choice([-1, 1], 40 * 500)[:, None]
    reference = PCA(1, svd_solver="full").fit(drawn).components_
    pairs = np.tile(np.arange(40), 2)
    found = ReadingVector().fit(np.concatenate([first, second]), np.repeat([1, 0], 40), pairs=pairs)
    assert subspace_angles(found.coef_.T, reference.T)[0] < 0.01
    assert found.coef_[0, 2] > 0.9


def test_a_tie_of_the_class_means_leaves_a_sign_that_does_not_depend_on_the_order_of_rows():
    points, labels = [[-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], [0, 0, 1, 1]
    assert ReadingVector().fit(points, labels).coef_.tolist() == [[1.0, 0.0]]
    assert ReadingVector().fit(points[::-1], labels).coef_.tolist() == [[1.0, 0.0]]


REFERENCES = {
    "mass_mean": MassMean,
    "mass_mean_whitened": lambda: MassMean(whiten=True),
    "ttpd": TTPD,
    "reading_vector": ReadingVector,
    "ridge": lambda: make_pipeline(StandardScaler(), RidgeClassifier(alpha=100.0)),
    "linear_svm": lambda: make_pipeline(
        StandardScaler(), LinearSVC(C=0.01, dual=False, loss="squared_hinge", tol=1e-10, max_iter=10**6)
    ),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_folds_into_a_probe_with_its_own_scores(name):
    features, labels = _data()
    probe = fit_sklearn(
        name, torch.from_numpy(features), torch.from_numpy(labels), site=SITE, concept="x", tokens="mean"
    )
    expected = REFERENCES[name]().fit(features, labels).decision_function(features)
    tolerance = 1e-3 if name == "linear_svm" else 1e-4
    assert np.abs(probe.scores(torch.from_numpy(features)).numpy() - expected).max() <= tolerance * expected.std()
    assert (probe.method, probe.site, probe.concept, probe.tokens) == (name, SITE, "x", "mean")
    assert np.sign(_auroc(expected, labels) - 0.5) > 0
    weights, biases = solve_sklearn(name, features, np.stack([labels, ~labels], 1))
    assert weights.shape == (20, 2)
    assert np.abs(features @ weights[:, 0].numpy() + biases[0].item() - expected).max() <= tolerance * expected.std()
    assert torch.allclose(weights[:, 0], -weights[:, 1], atol=1e-4 * weights.abs().max().item())


def test_fits_change_neither_their_inputs_nor_the_global_generators():
    features, labels = map(torch.from_numpy, _data())
    before, state, numpy_state = features.clone(), torch.random.get_rng_state(), np.random.get_state()[1].copy()
    for name in CLASSIFIERS:
        first, second = (fit_sklearn(name, features, labels, site=SITE) for _ in range(2))
        assert torch.equal(first.weight, second.weight)
    assert torch.equal(features, before)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_what_cannot_be_fitted_is_refused(name):
    features, labels = map(torch.from_numpy, _data(20, 5))
    for rows, truth, words in (
        (features, torch.ones(20, dtype=torch.bool), "one class only"),
        (features, labels[:19], "a label a row"),
        (features[:1], labels[:1], "one class only"),
        (features.where(torch.arange(20)[:, None] != 3, float("nan")), labels, "row 3 of the features is not finite"),
    ):
        with pytest.raises(BadInput, match=words):
            fit_sklearn(name, rows, truth, site=SITE)


def test_rows_that_are_all_equal_have_a_stated_rule():
    """A difference of zero scores every row alike; what would divide by zero is refused."""
    features, labels = torch.full((6, 3), 0.1, dtype=torch.float64), torch.tensor([1, 1, 1, 0, 0, 0]).bool()
    for name in ("mass_mean", "ttpd", "ridge"):
        assert fit_sklearn(name, features, labels, site=SITE).scores(features).unique().numel() == 1
    with pytest.raises(BadInput, match="nothing can be whitened"):
        fit_sklearn("mass_mean_whitened", features, labels, site=SITE)
    with pytest.raises(BadInput, match="no direction stands out"):
        fit_sklearn("reading_vector", features, labels, site=SITE)
    with pytest.raises(BadInput, match="nothing can be whitened"):
        fit_sklearn("mass_mean_whitened", features[[0, 3]] + torch.eye(3)[:2], labels[[0, 3]], site=SITE)


def test_polarity_and_pairs_that_do_not_fit_are_refused():
    features, labels = _data(20, 5)
    for polarity, words in (
        (np.ones(19), "one a row"),
        (np.full(20, 2), "True or 1 where affirmed"),
        (np.array(["yes"] * 20), "True or 1 where affirmed"),
        (np.arange(20) % 3 - 1, "True or 1 where affirmed"),
        (np.full(20, np.nan), "True or 1 where affirmed"),
        (labels, "the affirmed rows are of one class only"),
    ):
        with pytest.raises(BadInput, match=words):
            TTPD().fit(features, labels, polarity=polarity)
    halves = np.arange(20) % 2
    for pairs, words in (
        (np.arange(19), "the pair of each row"),
        (np.arange(20), "has . and . rows"),
        (np.repeat(np.arange(10), 2)[::-1], "has . and . rows"),
    ):
        with pytest.raises(BadInput, match=words):
            ReadingVector().fit(features, halves if len(pairs) == 19 else np.arange(20) < 10, pairs=pairs)
    with pytest.raises(BadInput, match="'ridge' makes no use of polarity; leave it out, or fit 'ttpd'"):
        fit_sklearn("ridge", features, labels, site=SITE, polarity=halves)
    with pytest.raises(NotFound, match="did you mean 'mass_mean'"):
        fit_sklearn("mass_meen", features, labels, site=SITE)


def test_three_classes_and_numbers_for_labels_are_refused():
    features, _ = _data(21, 5)
    for estimator in OWN:
        with pytest.raises(BadInput, match="Only binary classification"):
            clone(estimator).fit(features, np.arange(21) % 3)
        with pytest.raises(BadInput, match="Unknown label type"):
            clone(estimator).fit(features, np.linspace(0, 1, 21))


def test_a_support_vector_machine_that_does_not_converge_says_so(monkeypatch):
    from probes.reading import estimators

    few = dict(CLASSIFIERS) | {"linear_svm": lambda: make_pipeline(StandardScaler(), LinearSVC(C=100, max_iter=1))}
    monkeypatch.setattr(estimators, "CLASSIFIERS", few)
    with pytest.raises(CouldNotRun, match="did not converge"):
        fit_sklearn("linear_svm", *_data(), site=SITE)
