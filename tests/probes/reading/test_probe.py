"""LinearProbe: scoring, saving, loading, matching."""

import dataclasses
import sys

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from probes.artifact import read_artifact, write_artifact
from probes.errors import ArtifactError, BadInput, CouldNotRun, Mismatch, NotFound
from probes.model.sites import Site
from probes.reading.metrics import Estimate
from probes.reading.probe import LinearProbe, Probe

SITE = Site("resid_post", 13)


@pytest.fixture
def probe():
    generator = torch.Generator().manual_seed(0)
    return LinearProbe(
        torch.randn(24, generator=generator),
        0.1 + 0.2,
        SITE,
        method="lda",
        concept="true statement é",
        tokens="mean",
        fingerprint={"config": "abc", "weights.block.0": "def"},
        controls={"auroc": Estimate(0.9, 0.8, 0.95, 180, 0.95, "how")},
    )


def test_scores_of_two_rows_by_hand():
    """Weight (3, 4), bias -5: the point (1, 1) scores 3 + 4 - 5 = 2, the point (1, .5) lies on the boundary."""
    probe = LinearProbe.from_weights([3.0, 4.0], -5.0, "resid_post.0")
    assert probe.scores(torch.tensor([[1.0, 1.0], [1.0, 0.5]])).tolist() == [2.0, 0.0]
    assert probe.direction.tolist() == pytest.approx([0.6, 0.8])
    assert isinstance(probe, Probe)


@pytest.mark.parametrize("shape", [(24,), (5, 24), (2, 3, 24), (0, 24)])
def test_scores_keep_the_leading_shape(probe, shape):
    assert probe.scores(torch.ones(shape)).shape == shape[:-1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float32])
def test_scores_are_float32_whatever_comes_in(probe, dtype):
    rows = torch.randn(6, 24, generator=torch.Generator().manual_seed(1)).to(dtype)
    scores = probe.scores(rows)
    assert scores.dtype == torch.float32
    exact = rows.double() @ probe.weight.double() + probe.bias
    assert torch.allclose(scores.double(), exact, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(probe.scores(rows), scores)


def test_large_half_precision_rows_do_not_overflow():
    probe = LinearProbe.from_weights(torch.ones(100), 0.0, SITE)
    assert probe.scores(torch.full((1, 100), 60_000.0, dtype=torch.float16)).item() == 6_000_000.0


def test_a_row_scores_the_same_alone_and_in_any_batch(probe):
    rows = torch.randn(33, 24, generator=torch.Generator().manual_seed(1))
    assert torch.equal(probe.scores(rows), torch.stack([probe.scores(row) for row in rows]))


def test_a_row_that_is_not_finite_has_a_score_that_is_not_finite(probe):
    rows = torch.zeros(3, 24)
    rows[1, 3] = float("nan")
    assert probe.scores(rows).isfinite().tolist() == [True, False, True]


@pytest.mark.parametrize(
    "rows", [torch.ones(5, 23), torch.ones(24, 5), torch.tensor(1.0), torch.ones(2, 24, device="meta")]
)
def test_rows_that_cannot_be_read_are_refused(probe, rows):
    with pytest.raises(BadInput, match="width 24 at resid_post.13|meta device"):
        probe.scores(rows)


@pytest.mark.parametrize(
    ("weight", "bias"),
    [
        ([1.0, float("nan")], 0.0),
        ([1.0, float("inf")], 0.0),
        ([1.0], float("nan")),
        ([[1.0]], 0.0),
        ([], 0.0),
        ([1e39], 0.0),
        ("weight", 0.0),
    ],
)
def test_a_weight_that_cannot_score_is_refused(weight, bias):
    with pytest.raises(BadInput):
        LinearProbe.from_weights(weight, bias, SITE)


def test_a_site_that_is_none_is_refused_and_a_zero_weight_has_no_direction():
    with pytest.raises(BadInput, match="not a site"):
        LinearProbe.from_weights([1.0], 0.0, "layer 3")
    with pytest.raises(NotFound, match="resid_post"):
        LinearProbe.from_weights([1.0], 0.0, "resid_pots.3")
    with pytest.raises(BadInput, match="no direction"):
        _ = LinearProbe.from_weights([0.0, 0.0], 1.0, SITE).direction


def test_a_probe_keeps_its_own_copy_of_what_it_was_given():
    weight, fingerprint = torch.ones(3), {"config": "a"}
    probe = LinearProbe.from_weights(weight, 0.0, SITE, fingerprint=fingerprint)
    weight[0], fingerprint["config"] = 9.0, "b"
    assert probe.weight.tolist() == [1.0, 1.0, 1.0]
    assert probe.fingerprint == {"config": "a"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        probe.bias = 3.0
    with pytest.raises(TypeError):
        probe.controls["auroc"] = 1
    assert LinearProbe.from_weights(np.array([1.0, 2.0]), 0.0, SITE).weight.dtype == torch.float32


def test_repr_is_one_short_line(probe):
    assert (
        repr(probe)
        == "LinearProbe(lda of 'true statement é' at resid_post.13, d_model 24, AUROC .90 [.80, .95], n = 180)"
    )


def test_a_saved_probe_comes_back_to_the_last_bit(probe, tmp_path):
    probe = dataclasses.replace(
        probe, receipt={"slope": Estimate(1 / 3, 0, 2 / 3, 7)}, doctor={"bfloat16": Estimate(1e-9, 0, 1e-3, 100)}
    )
    probe.save(tmp_path / "p")
    back = LinearProbe.load(tmp_path / "p")
    rows = torch.randn(50, 24, generator=torch.Generator().manual_seed(2))
    assert torch.equal(back.scores(rows), probe.scores(rows))
    for field in dataclasses.fields(LinearProbe):
        if field.name not in ("weight", "_placed"):
            assert getattr(back, field.name) == getattr(probe, field.name), field.name


def test_a_taken_folder_is_refused_unless_overwriting_is_asked_for(probe, tmp_path):
    probe.save(tmp_path / "p")
    with pytest.raises(BadInput, match="already"):
        probe.save(tmp_path / "p")
    dataclasses.replace(probe, bias=7.0).save(tmp_path / "p", overwrite=True)
    assert LinearProbe.load(tmp_path / "p").bias == 7.0


BROKEN = {
    "bias": {"bias": "0.3"},
    "site": {"site": "layer 13"},
    "hook point": {"site": "resid_pots.13"},
    "unknown field": {"scaler": 1.0},
    "tokens": {"tokens": 3},
    "fingerprint": {"fingerprint": {"config": 3}},
    "estimate": {"controls": {"auroc": {"value": 1.0}}},
    "interval": {"controls": {"auroc": Estimate(0.9, 0.8, 0.95, 180).to_dict() | {"lower": 0.99}}},
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_body_that_is_no_probe_is_one_clear_error(probe, tmp_path, change):
    probe.save(tmp_path / "good")
    body = dict(read_artifact(tmp_path / "good").manifest)
    write_artifact(tmp_path / "bad", "probe", {**body, **change}, {"weight": probe.weight})
    with pytest.raises(ArtifactError, match="manifest.json"):
        LinearProbe.load(tmp_path / "bad")
    del body["bias"]
    write_artifact(tmp_path / "short", "probe", body, {"weight": probe.weight})
    with pytest.raises(ArtifactError, match="bias"):
        LinearProbe.load(tmp_path / "short")


@pytest.mark.parametrize(
    "tensors",
    [
        {"weight": torch.ones(2, 12)},
        {"weight": torch.ones(24, dtype=torch.float64)},
        {"w": torch.ones(24)},
        {"weight": torch.ones(24), "mean": torch.ones(24)},
    ],
)
def test_other_tensors_than_one_weight_are_refused(probe, tmp_path, tensors):
    probe.save(tmp_path / "good")
    write_artifact(tmp_path / "bad", "probe", read_artifact(tmp_path / "good").manifest, tensors)
    with pytest.raises(ArtifactError, match="one tensor, 'weight'|float32 numbers in a row"):
        LinearProbe.load(tmp_path / "bad")


def test_a_folder_of_another_kind_or_none_is_refused(tmp_path):
    write_artifact(tmp_path / "monitor", "monitor", {}, {"weight": torch.ones(3)})
    with pytest.raises(ArtifactError, match="monitor"):
        LinearProbe.load(tmp_path / "monitor")
    with pytest.raises(ArtifactError):
        LinearProbe.load(tmp_path / "nothing")


def test_a_probe_matches_its_own_model_and_no_other(build):
    model = build()
    probe = LinearProbe.from_weights(torch.ones(32), 0.0, "resid_post.1", fingerprint=model.fingerprint)
    assert probe.match(model) == ()
    with torch.no_grad():
        model.module.model.layers[1].mlp.up_proj.weight[0, 0] += 1
    with pytest.raises(Mismatch) as caught:
        probe.match(model)
    assert caught.value.parts == ("weights.block.1",)
    assert probe.match(model, allow={"weights"}) == ("weights.block.1",)


def test_a_probe_without_a_fingerprint_matches_nothing(build):
    with pytest.raises(Mismatch, match="does not say on which model"):
        LinearProbe.from_weights(torch.ones(32), 0.0, "resid_post.1").match(build())


def test_a_scikit_learn_classifier_of_two_points_becomes_a_probe_by_hand():
    """Scaled, the points 0 and 4 are -1 and 1; with weight 6 and bias 1 on those, score(x) = 3 x - 5."""
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit([[0.0], [4.0]], ["lie", "truth"])
    pipeline[-1].coef_, pipeline[-1].intercept_ = np.array([[6.0]]), np.array([1.0])
    probe = LinearProbe.from_sklearn(pipeline, "resid_post.2", tokens="mean", fingerprint={"config": "a"})
    assert probe.scores(torch.tensor([[0.0], [4.0]])).tolist() == [-5.0, 7.0]
    assert (probe.site, probe.tokens, probe.method) == (Site("resid_post", 2), "mean", "LogisticRegression")
    assert (probe.concept, dict(probe.fingerprint)) == ("truth", {"config": "a"})
    named = LinearProbe.from_sklearn(pipeline, "resid_post.2", concept="true", method="mine")
    assert (named.concept, named.method) == ("true", "mine")
    with pytest.raises(BadInput, match="no estimator"):
        LinearProbe.from_sklearn(3, "resid_post.2")


def test_rounding_the_weight_costs_nothing_where_the_data_lie():
    weight = np.array([1 / 3, 1000 / 7])
    centre = np.array([3e4, -2e4])
    probe = LinearProbe.from_float64(weight, 0.25, centre, "resid_post.0", concept="x")
    at_centre = float(probe.weight.double() @ torch.from_numpy(centre)) + probe.bias
    assert at_centre == pytest.approx(weight @ centre + 0.25, abs=1e-9)
    plain = LinearProbe.from_weights(weight, 0.25, "resid_post.0")  # the sanity half
    assert abs(float(plain.weight.double() @ torch.from_numpy(centre)) + plain.bias - at_centre) > 1e-3


def test_a_frame_has_a_row_for_each_fact_and_each_estimate(probe):
    frame = probe.to_frame()
    assert frame["name"].tolist() == ["d_model", "bias", "norm", "auroc"]
    assert frame["part"].tolist() == ["probe"] * 3 + ["controls"]
    assert set(frame["site"]) == {"resid_post.13"}
    assert set(frame["concept"]) == {"true statement é"}
    assert frame["value"].tolist() == [24.0, 0.1 + 0.2, float(probe.weight.double().norm()), 0.9]
    last = frame.iloc[-1]
    assert (last["lower"], last["upper"], last["n"], last["confidence"], last["how"]) == (0.8, 0.95, 180, 0.95, "how")
    assert frame["lower"].isna().tolist() == [True, True, True, False]
    assert frame["how"].tolist() == ["exact"] * 3 + ["how"]
    bare = LinearProbe.from_weights([1.0], 0.0, SITE).to_frame()
    assert list(bare.columns) == list(frame.columns)
    assert len(bare) == 3
    assert (bare.dtypes == frame.dtypes).all()


def test_a_frame_without_pandas_says_what_to_install(probe, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(CouldNotRun, match="pip install pandas"):
        probe.to_frame()
