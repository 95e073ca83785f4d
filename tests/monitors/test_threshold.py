"""Thresholds: order statistics by hand, scipy as the outside reference; certificates that cannot be forged."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from monitors.calibration import calibrate
from monitors.threshold import Threshold, needed, order_statistic
from probes.errors import ArtifactError, NotFound, TooFew

REST = {"horizon": 64, "made": "2026-01-31"}


def numbered(values):
    return {f"g{i}": float(value) for i, value in enumerate(values)}


@pytest.mark.parametrize(("n", "j"), [(59, 0), (92, 0), (93, 1), (200, 4), (500, 16)])
def test_the_confident_order_statistic_is_the_tabled_one(n, j):
    assert order_statistic(n, rate=0.05) == j + 1
    assert calibrate({"ordinary": numbered(range(n))}, **REST).value == n - 1 - j


@pytest.mark.parametrize(
    ("rate", "promise", "least"),
    [
        (0.05, "confident", 59), (0.01, "confident", 299), (0.001, "confident", 2995), (0.025, "confident", 119),
        (0.05, "marginal", 19), (0.01, "marginal", 99), (0.001, "marginal", 999), (0.025, "marginal", 39),
    ],
)  # fmt: skip
def test_the_number_needed_is_the_least_that_carries_the_promise(rate, promise, least):
    assert needed(rate, promise) == least
    assert order_statistic(least, rate=rate, promise=promise) == 1
    with pytest.raises(TooFew) as error:
        order_statistic(least - 1, rate=rate, promise=promise)
    assert (error.value.needed, error.value.exit_code) == (least, 4)


def test_a_rate_is_the_decimal_that_was_written():
    """.07 * 100 is 7.000000000000001 and .29 * 100 is 28.999999999999996 in binary; k is 7 and 29."""
    assert math.floor(0.29 * 100) == 28
    assert order_statistic(99, rate=0.07, promise="marginal") == 7
    assert order_statistic(99, rate=0.29, promise="marginal") == 29


@settings(max_examples=200, deadline=None, derandomize=True)
@given(n=st.integers(1, 3000), rate=st.sampled_from([0.001, 0.01, 0.05, 0.1, 0.3]), confidence=st.floats(0.5, 0.999))
def test_the_confident_order_statistic_is_the_largest_that_holds(n, rate, confidence):
    """By the Beta law of order statistics: the rate above the k-th largest of n is Beta(k, n + 1 - k)."""
    k = 0
    if n < needed(rate, confidence=confidence):
        with pytest.raises(TooFew):
            order_statistic(n, rate=rate, confidence=confidence)
    else:
        k = order_statistic(n, rate=rate, confidence=confidence)
        assert k >= 1
        assert beta.sf(rate, k, n + 1 - k) <= (1 - confidence) * (1 + 1e-9)
    if k < n:
        assert beta.sf(rate, k + 1, n - k) > (1 - confidence) * (1 - 1e-9)


def test_a_promise_that_is_none_names_the_near_one():
    with pytest.raises(NotFound, match="did you mean 'confident'"):
        needed(0.05, "confidant")


def made() -> Threshold:
    return calibrate(
        {"ordinary": numbered(range(60)), "same_subject": numbered(range(70))},
        generation={"do_sample": False, "stops": ("a", "b")},
        prompt_mix={"form": "chat", "system": True},
        valid_until="2026-12-31T00:00:00",
        **REST,
    )


def test_a_threshold_comes_back_from_json_equal():
    threshold = made()
    assert Threshold.from_dict(json.loads(json.dumps(threshold.to_dict()))) == threshold
    marginal = calibrate({"o": numbered(range(19))}, promise="marginal", **REST)
    assert Threshold.from_dict(json.loads(json.dumps(marginal.to_dict()))) == marginal


@pytest.mark.parametrize(
    "change",
    [
        {"limits": {"max": math.nan}}, {"limits": {"max": 10.0}}, {"limits": {"max": "69"}}, {"limits": {}},
        {"limits": {"mean": 69.0}}, {"limits": {"max": 69.0, "cusum(0.5)": 1.0}}, {"rate": 0.0}, {"rate": 0.01},
        {"rate": None}, {"promise": "sworn"}, {"promise": ["confident"]}, {"promise": "marginal"}, {"confidence": None},
        {"confidence": 1.0}, {"rate": 0.2}, {"maxima": {}}, {"maxima": {"max": {}}}, {"maxima": [1.0] * 60},
        {"maxima": {"max": [1.0] * 60}}, {"maxima": {"max": {"ordinary": 1.0}}},
        {"maxima": {"max": {"ordinary": [69.0] * 58}}}, {"maxima": {"max": {"ordinary": [69.0] * 60, "b": [1.0]}}},
        {"maxima": {"max": {"ordinary": [69.0] * 59 + [math.inf]}}}, {"maxima": {"max": {"ordinary": ["69"] * 60}}},
        {"maxima": {"max": {"ordinary": [69.0] * 60}, "cusum(0.5)": {"ordinary": [69.0] * 61}}},
        {"maxima": {"mean": {"ordinary": [69.0] * 60}}}, {"maxima": {"max": {"ordinary": [68.0] * 60}}},
        {"horizon": 0}, {"horizon": True}, {"horizon": 64.0}, {"made": "yesterday"}, {"made": None}, {"made": 20260131},
        {"valid_until": "never"}, {"generation": None}, {"generation": {"temperature": math.nan}},
        {"prompt_mix": "chat"}, {"extra": 1},
    ],
)  # fmt: skip
def test_a_changed_certificate_is_refused_as_damaged(change):
    body = made().to_dict()
    assert Threshold.from_dict(body) == made()
    with pytest.raises(ArtifactError):
        Threshold.from_dict(body | change)


@pytest.mark.parametrize("field", list(made().to_dict()))
def test_a_missing_field_is_named(field):
    body = made().to_dict()
    del body[field]
    with pytest.raises(ArtifactError, match=field):
        Threshold.from_dict(body)


@pytest.mark.parametrize("body", [None, [], "threshold", 3])
def test_what_is_no_mapping_is_refused(body):
    with pytest.raises(ArtifactError):
        Threshold.from_dict(body)


def test_a_threshold_keeps_no_hold_of_what_it_was_given():
    settings_given = {"do_sample": False}
    threshold = calibrate({"o": numbered(range(59))}, generation=settings_given, **REST)
    settings_given["do_sample"] = True
    assert threshold.generation == {"do_sample": False}
    body = threshold.to_dict()
    body["maxima"]["max"]["o"].clear()
    assert (threshold.groups, threshold.per_kind) == ({"o": 59}, {"max": {"o": 58.0}})
