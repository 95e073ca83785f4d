"""Anomaly detectors: distances by hand, scikit-learn's checks and distances, and anomalies planted where we say."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.linalg import expm, sqrtm
from sklearn.base import clone
from sklearn.covariance import EmpiricalCovariance, LedoitWolf
from sklearn.utils.estimator_checks import check_estimator

from probes.artifact import read_artifact, write_artifact
from probes.errors import ArtifactError, BadInput, Mismatch
from probes.model.sites import Site
from probes.reading.anomaly import (
    AnomalyProbe,
    Mahalanobis,
    QuantumEntropy,
    RelativeMahalanobis,
    fit_mahalanobis,
    fit_quantum_entropy,
    fit_relative_mahalanobis,
)
from probes.reading.metrics import auroc_values
from probes.reading.probe import Probe

SITE = Site("resid_post", 5)
DETECTORS = [
    Mahalanobis(),
    Mahalanobis(shrink=False),
    RelativeMahalanobis(),
    RelativeMahalanobis(shrink=False),
    QuantumEntropy(),
    QuantumEntropy(alpha=0.0),
]
FITS = {
    "mahalanobis": fit_mahalanobis,
    "relative_mahalanobis": fit_relative_mahalanobis,
    "quantum_entropy": fit_quantum_entropy,
}


def _ordinary(rows=300, width=12, seed=0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((width, width)) * np.linspace(0.2, 5, width)
    return rng.standard_normal((rows, width)) @ mixing + 10


def _auroc(high, low):
    scores = torch.as_tensor(np.concatenate([high, low]), dtype=torch.float64)[:, None]
    return auroc_values(scores, torch.arange(len(scores)) < len(high))[0]


def test_distances_of_four_rows_by_hand():
    """Rows (+-2, 0) and (0, +-1): mean 0, variances 2 and 1/2, so (2, 1) is 4/2 + 1/.5 = 4 away.

    A background with variances 8 and 1/2 about 0 puts it at 4/8 + 2 = 2.5, which leaves 1.5.
    """
    rows = np.array([[2.0, 0], [-2, 0], [0, 1], [0, -1]])
    assert Mahalanobis(shrink=False).fit(rows).anomaly([[2, 1], [0, 0]]) == pytest.approx([4, 0])
    behind = rows * [2, 1]
    found = RelativeMahalanobis(shrink=False).fit(rows, background=behind).anomaly([[2, 1], [0, 0]])
    assert found == pytest.approx([1.5, 0])


def test_the_nearest_class_counts_by_hand():
    """Classes about 0 and 10, each with spread 1; all rows have mean 5 and variance 26. At 11: 1 - 36/26."""
    rows, classes = np.array([[-1.0], [1], [9], [11]]), ["a", "a", "b", "b"]
    found = RelativeMahalanobis(shrink=False).fit(rows, classes=classes)
    assert found.anomaly([[11], [-2]]) == pytest.approx([1 - 36 / 26, 4 - 49 / 26])


def test_quantum_entropy_of_two_axes_by_hand():
    """Clean variances 1 and 1; suspects spread 4 and 1: D = diag(4, 1), exp(4 D / 4) = diag(e^4, e), of mean 1."""
    clean = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    suspect = clean * [2, 1]
    top = 2 * np.exp(4) / (np.exp(4) + np.exp(1))
    found = QuantumEntropy(alpha=4, shrink=False).fit(clean, suspect=suspect)
    assert found.anomaly([[1, 0], [0, 1]]) == pytest.approx([top, 2 - top])


@pytest.mark.parametrize("detector", DETECTORS, ids=str)
def test_scikit_learns_checks_pass_every_one(detector):
    results = check_estimator(detector, on_fail=None, on_skip=None)
    told = {r["check_name"]: r["exception"] for r in results if r["status"] != "passed"}
    # The one check that scikit-learn leaves out runs where SCIPY_ARRAY_API was set before scipy was imported.
    assert set(told) <= {"check_array_api_input"}, told
    assert not any(r["expected_to_fail"] for r in results)
    assert len(results) > 40


@pytest.mark.parametrize(("shrink", "reference"), [(True, LedoitWolf), (False, EmpiricalCovariance)])
@pytest.mark.parametrize(("rows", "width"), [(300, 12), (60, 50)])
def test_squared_distances_are_scikit_learns(shrink, reference, rows, width):
    features, unseen = _ordinary(rows, width), _ordinary(40, width, seed=1)
    expected = reference().fit(features).mahalanobis(unseen)
    found = Mahalanobis(shrink=shrink).fit(features).anomaly(unseen)
    assert np.abs(found - expected).max() <= 1e-8 * max(1, np.abs(expected).max())
    scores = fit_mahalanobis(torch.from_numpy(features), site=SITE, shrink=shrink).scores(torch.from_numpy(unseen))
    assert np.abs(scores.numpy() / expected - 1).max() < 1e-6
    other = EmpiricalCovariance if shrink else LedoitWolf
    assert np.abs(found - other().fit(features).mahalanobis(unseen)).max() > 0.1  # the two do differ


def test_relative_distances_are_differences_of_scikit_learns():
    features, unseen, behind = _ordinary(), _ordinary(40, seed=1), _ordinary(200, seed=2) * 1.5
    pair = [LedoitWolf().fit(rows).mahalanobis(unseen) for rows in (features, behind)]
    found = RelativeMahalanobis().fit(features, background=behind).anomaly(unseen)
    assert np.abs(found - (pair[0] - pair[1])).max() <= 1e-8 * pair[0].max()
    classes = np.arange(300) % 3
    means = np.stack([features[classes == c].mean(0) for c in range(3)])
    shared = LedoitWolf(assume_centered=True).fit(features - means[classes])
    nearest = np.min([shared.mahalanobis(unseen - mean) for mean in means], axis=0)
    expected = nearest - LedoitWolf().fit(features).mahalanobis(unseen)
    found = RelativeMahalanobis().fit(features, classes=classes).anomaly(unseen)
    assert np.abs(found - expected).max() <= 1e-8 * nearest.max()


@pytest.mark.parametrize("alpha", [0.0, 1.0, 4.0])
def test_quantum_entropy_is_the_matrix_exponential_of_its_definition(alpha):
    clean, suspect, unseen = _ordinary(), _ordinary(100, seed=1) * 1.3, _ordinary(40, seed=2)
    reference = LedoitWolf().fit(clean)
    white = np.real(sqrtm(reference.get_precision()))
    z = (suspect - clean.mean(0)) @ white
    second = z.T @ z / len(z)
    weight = expm(alpha * second / np.linalg.norm(second, 2))
    weight *= len(weight) / np.trace(weight)
    seen = (unseen - clean.mean(0)) @ white
    expected = np.einsum("ni,ij,nj->n", seen, weight, seen)
    found = QuantumEntropy(alpha=alpha).fit(clean, suspect=suspect).anomaly(unseen)
    assert np.abs(found / expected - 1).max() < 1e-6
    if alpha == 0:
        assert np.abs(found / reference.mahalanobis(unseen) - 1).max() < 1e-8


def test_relative_distances_find_what_hides_behind_a_nuisance():
    """One direction varies wildly in everything but little in the ordinary rows; the anomaly is a shift along another.

    Ren et al.'s point: the plain distance is drowned by the first direction, the relative one is not.
    """
    rng = np.random.default_rng(0)

    def draw(rows, nuisance):
        return rng.standard_normal((rows, 20)) * np.r_[nuisance, np.ones(19)]

    ordinary, behind = draw(400, 1.0), np.concatenate([draw(200, 8.0), draw(200, 8.0) + np.eye(20)[1] * 6])
    fine, odd = draw(300, 8.0), draw(300, 8.0) + 3 * np.eye(20)[1]
    plain = Mahalanobis().fit(ordinary)
    relative = RelativeMahalanobis().fit(ordinary, background=behind)
    assert _auroc(plain.anomaly(odd), plain.anomaly(fine)) < 0.65
    assert _auroc(relative.anomaly(odd), relative.anomaly(fine)) > _auroc(plain.anomaly(odd), plain.anomaly(fine))


def test_a_few_suspects_that_agree_are_found_by_quantum_entropy_where_distance_fails():
    rng = np.random.default_rng(0)
    clean = rng.standard_normal((2000, 200))
    fine, odd = rng.standard_normal((1800, 200)), rng.standard_normal((200, 200)) + 4 * np.eye(200)[7]
    entropy = QuantumEntropy().fit(clean, suspect=np.concatenate([fine, odd]))
    plain = Mahalanobis().fit(clean)
    low, high = (_auroc(d.anomaly(odd), d.anomaly(fine)) for d in (plain, entropy))
    assert high > 0.9
    assert low < high - 0.1
    quiet = QuantumEntropy().fit(clean, suspect=rng.standard_normal((2000, 200)))  # without them among the suspects
    assert _auroc(quiet.anomaly(odd), quiet.anomaly(fine)) < high


@pytest.mark.parametrize("name", FITS)
def test_a_function_returns_a_probe_that_scores_as_the_detector(name):
    features, unseen = torch.from_numpy(_ordinary()).float(), torch.from_numpy(_ordinary(6, seed=1)).float()
    probe = FITS[name](features, site="resid_post.5", concept="odd", fingerprint={"config": "a"})
    detector = {"m": Mahalanobis, "r": RelativeMahalanobis, "q": QuantumEntropy}[name[0]]().fit(features.double())
    assert probe.scores(unseen).numpy() == pytest.approx(detector.anomaly(unseen.double()), rel=1e-5)
    assert (probe.method, probe.site, probe.concept) == (name, SITE, "odd")
    assert isinstance(probe, Probe)
    assert probe.scores(unseen.reshape(2, 3, 12)).shape == (2, 3)
    assert probe.scores(unseen[:0]).shape == (0,)
    assert probe.scores(unseen.bfloat16()).dtype == torch.float32
    holed = unseen.clone()
    holed[2, 0] = float("nan")
    assert probe.scores(holed).isnan().tolist() == [False, False, True, False, False, False]
    assert probe.scores(unseen.mean(0) + 100 * torch.eye(12)).max() > probe.scores(unseen).max()


def test_the_share_of_outliers_is_the_one_asked_for():
    features = _ordinary(200)
    for detector in DETECTORS:
        found = clone(detector).set_params(contamination=0.25).fit(features)
        assert (found.predict(features) == -1).sum() == 50
        assert np.array_equal(found.decision_function(features) < 0, found.predict(features) == -1)


@pytest.mark.parametrize("name", FITS)
def test_saved_and_loaded_it_is_the_same_probe(name, tmp_path):
    probe = FITS[name](_ordinary(), site=SITE, concept="odd é", fingerprint={"config": "a"})
    probe.save(tmp_path / "odd")
    again = AnomalyProbe.load(tmp_path / "odd")
    rows = torch.from_numpy(_ordinary(9, seed=1))
    assert torch.equal(again.scores(rows), probe.scores(rows))
    assert (again.site, again.method, again.concept) == (SITE, name, "odd é")
    assert dict(again.fingerprint) == {"config": "a"}
    assert again.match(SimpleNamespace(fingerprint={"config": "a"})) == ()
    with pytest.raises(Mismatch):
        again.match(SimpleNamespace(fingerprint={"config": "b"}))


def test_a_damaged_folder_is_refused(tmp_path):
    probe = fit_mahalanobis(_ordinary(), site=SITE)
    probe.save(tmp_path / "good")
    artifact = read_artifact(tmp_path / "good", "anomaly")
    tensors = dict(artifact.tensors)
    body = {key: artifact.manifest[key] for key in ("site", "method", "concept", "fingerprint")}
    for name, changed, fields, words in (
        ("missing", {k: v for k, v in tensors.items() if k != "factor"}, body, "an anomaly probe has"),
        ("single", tensors | {"factor": tensors["factor"].float()}, body, "float64"),
        ("narrow", tensors | {"factor": tensors["factor"][:5].contiguous()}, body, "one d_model"),
        ("flat", tensors | {"centres": tensors["centres"][0].clone()}, body, "as a fit makes them"),
        ("site", tensors, body | {"site": "nowhere"}, "not a site"),
        ("field", tensors, {k: v for k, v in body.items() if k != "method"}, "method"),
    ):
        write_artifact(tmp_path / name, "anomaly", fields, changed)
        with pytest.raises(ArtifactError, match=words):
            AnomalyProbe.load(tmp_path / name)


def test_a_constant_feature_has_no_part_in_it():
    features = _ordinary(200)
    features[:, 4] = 0.3
    for detector in DETECTORS:
        if getattr(detector, "shrink", True) is False or isinstance(detector, RelativeMahalanobis | QuantumEntropy):
            found = clone(detector).fit(features)
            assert np.isfinite(found.anomaly(features)).all()
    without = np.delete(features, 4, axis=1)
    expected = Mahalanobis(shrink=False).fit(without).anomaly(without)
    assert Mahalanobis(shrink=False).fit(features).anomaly(features) == pytest.approx(expected)


def test_what_cannot_be_ordinary_is_refused():
    features = _ordinary(20, 5)
    holed = features.copy()
    holed[3, 1] = np.nan
    for fit in FITS.values():
        with pytest.raises(BadInput, match="row 3 of the features is not finite"):
            fit(holed, site=SITE)
        with pytest.raises(BadInput, match="one row"):
            fit(features[:1], site=SITE)
    for detector in (Mahalanobis(), Mahalanobis(shrink=False), RelativeMahalanobis()):
        with pytest.raises(BadInput, match="all equal"):
            detector.fit(np.ones((5, 3)))
    with pytest.raises(BadInput, match="above 0 and at most .5"):
        Mahalanobis(contamination=0).fit(features)
    with pytest.raises(BadInput, match="alpha = -1"):
        QuantumEntropy(alpha=-1).fit(features)
    with pytest.raises(BadInput, match="read them at one site"):
        RelativeMahalanobis().fit(features, background=features[:, :3])
    with pytest.raises(BadInput, match="the class of each row"):
        RelativeMahalanobis().fit(features, classes=[1, 2])
    with pytest.raises(BadInput, match="row 3 of the suspect rows"):
        fit_quantum_entropy(features, suspect=holed, site=SITE)
    with pytest.raises(BadInput, match="width 5 at resid_post.5"):
        fit_mahalanobis(features, site=SITE).scores(torch.ones(3, 4))
