"""Folding: two steps by hand, every known step, every refusal."""

import numpy as np
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.linear_model import (
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from probes.errors import BadInput, CouldNotRun
from probes.reading.folding import fold
from probes.reading.probe import LinearProbe

RNG = np.random.default_rng(0)
X = RNG.standard_normal((80, 12)) * RNG.uniform(0.1, 30, 12) + RNG.uniform(-20, 20, 12)
Y = (X - X.mean(0))[:, [0, 3]] @ (1 / X[:, [0, 3]].std(0)) + RNG.standard_normal(80) > 0
UNSEEN = RNG.standard_normal((30, 12)) * 20

PIPELINES = {
    "scaler": (StandardScaler(), LogisticRegression()),
    "scaler without mean": (StandardScaler(with_mean=False), LogisticRegression(max_iter=5000)),
    "scaler without scale": (StandardScaler(with_std=False), RidgeClassifier()),
    "scaler of nothing": (StandardScaler(with_std=False, with_mean=False), RidgeClassifier()),
    "minmax": (MinMaxScaler((-3, 5)), LogisticRegression()),
    "maxabs": (MaxAbsScaler(), LogisticRegression()),
    "robust": (RobustScaler(), LogisticRegression()),
    "robust without centre": (RobustScaler(with_centering=False), LogisticRegression(max_iter=5000)),
    "pca": (PCA(5), LogisticRegression()),
    "whitened pca": (StandardScaler(), PCA(7, whiten=True), LogisticRegression()),
    "svd": (StandardScaler(), TruncatedSVD(4, random_state=0), LogisticRegression()),
    "selection": (SelectKBest(k=4), StandardScaler(), PCA(3), VarianceThreshold(), LogisticRegression()),
    "passthrough": ("passthrough", StandardScaler(), "passthrough", LogisticRegression()),
    "nested": (make_pipeline(StandardScaler(), PCA(6)), MaxAbsScaler(), LinearSVC(random_state=0)),
    "no intercept": (StandardScaler(), LogisticRegression(fit_intercept=False)),
    "lda": (StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")),
    "ridge regression": (StandardScaler(), Ridge()),
    "linear kernel": (StandardScaler(), SVC(kernel="linear")),
    "sgd": (StandardScaler(), SGDClassifier(random_state=0)),
    "sparse": (StandardScaler(), LogisticRegression(l1_ratio=1.0, solver="liblinear")),
}


def test_a_scaler_and_a_classifier_by_hand():
    """z = (x - 2) / 4, score = 8 z + 1: that is 2 x - 3."""
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit([[-2.0], [6.0]], [0, 1])
    pipeline[-1].coef_, pipeline[-1].intercept_ = np.array([[8.0]]), np.array([1.0])
    folded = fold(pipeline)
    assert (folded.weight.tolist(), folded.bias, folded.centre.tolist()) == ([2.0], -3.0, [2.0])


@pytest.mark.parametrize("steps", PIPELINES.values(), ids=PIPELINES)
def test_a_folded_pipeline_scores_as_before(steps):
    pipeline = make_pipeline(*steps).fit(X, Y)
    if isinstance(steps[-1], LogisticRegression) and steps[-1].solver == "liblinear":
        pipeline[-1].sparsify()
    own = pipeline.decision_function if hasattr(pipeline, "decision_function") else pipeline.predict
    weight, bias, *_ = fold(pipeline)
    expected = own(UNSEEN)
    assert expected.std() > 0.01
    assert np.abs(UNSEEN @ weight + bias - expected).max() <= 1e-8 * np.abs(expected).max()
    probe = LinearProbe.from_sklearn(pipeline, "resid_post.3")
    assert np.abs(probe.scores(torch.from_numpy(X)).numpy() - own(X)).max() <= 1e-4 * own(X).std()


def test_a_search_stands_for_what_it_found_and_a_classifier_for_itself():
    search = GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), {"logisticregression__C": [0.1, 1]})
    search.fit(X, Y)
    assert np.array_equal(fold(search).weight, fold(search.best_estimator_).weight)
    alone = LogisticRegression(max_iter=5000).fit(X, Y)
    assert np.array_equal(fold(alone).weight, alone.coef_[0])
    assert fold(alone).last is alone


class Doubled(StandardScaler):
    """A subclass that does more than its parent says."""

    def transform(self, X, copy=None):
        return 2 * super().transform(X, copy)


@pytest.mark.parametrize(
    ("steps", "error", "words"),
    [
        ((Normalizer(), LogisticRegression()), BadInput, r"'normalizer' \(Normalizer\) does not fold"),
        ((StandardScaler(), PolynomialFeatures(2), LogisticRegression()), BadInput, "'polynomialfeatures'"),
        ((FunctionTransformer(), RidgeClassifier()), BadInput, "'functiontransformer'"),
        ((MinMaxScaler(clip=True), LogisticRegression()), BadInput, "'minmaxscaler'.*clips"),
        ((StandardScaler(), DecisionTreeClassifier()), BadInput, "'decisiontreeclassifier'.*has no coef_"),
        ((StandardScaler(), SVC()), BadInput, "'svc'.*has no coef_"),
        ((CalibratedClassifierCV(LogisticRegression(max_iter=5000), cv=2),), BadInput, "'calibratedclassifiercv'"),
        ((make_pipeline(Normalizer(), PCA(3)), LogisticRegression()), BadInput, "'pipeline.normalizer'"),
        ((Doubled(), LogisticRegression()), CouldNotRun, "the folded scores differ"),
        ((StandardScaler(), PoissonRegressor()), CouldNotRun, "through a function"),
    ],
)
def test_what_does_not_fold_is_refused_by_name(steps, error, words):
    pipeline = make_pipeline(*steps).fit(X, Y)
    with pytest.raises(error, match=words):
        fold(pipeline)


def test_what_is_not_fitted_or_not_binary_is_refused():
    with pytest.raises(BadInput, match="not fitted"):
        fold(make_pipeline(StandardScaler(), LogisticRegression()))
    with pytest.raises(BadInput, match="a probe tells two classes"):
        fold(LogisticRegression(max_iter=5000).fit(X, np.arange(80) % 3))
    with pytest.raises(BadInput, match="a probe tells two classes"):
        fold(Ridge().fit(X, X[:, :2]))
    with pytest.raises(BadInput, match="no estimator"):
        fold("logistic")
    with pytest.raises(BadInput, match="no step"):
        fold(Pipeline([("nothing", "passthrough")]))
