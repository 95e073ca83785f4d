"""The rule of a pass, by hand and by generated cases."""

import math
import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitors.verdict import Outcome, Verdict, judge
from probes.errors import BadInput

NAN, INF = math.nan, math.inf


@dataclass(frozen=True)
class Line:
    """The least that judge needs of a threshold."""

    value: float = 1.0
    horizon: int = 4
    certified: bool = True
    name: str = "max"

    @property
    def limits(self):
        return {self.name: self.value}


def test_a_stream_of_four_tokens_by_hand():
    """Scores .2, .9, 1.0, 1.5 against 1: the third touches and does not cross, the fourth crosses."""
    verdict = judge([0.2, 0.9, 1.0, 1.5], 4, Line(), request_id="r1")
    assert (verdict.outcome, verdict.token, verdict.score, verdict.statistic) == (Outcome.ALARM, 4, 1.5, 1.5)
    assert (verdict.scored, verdict.accepted, verdict.request_id, verdict.alarmed) == (4, 4, "r1", True)
    verdict = judge([0.2, 0.9, 1.0], 3, Line())
    assert (verdict.outcome, verdict.token, verdict.score, verdict.statistic) == (Outcome.CLEAR, None, 1.0, 1.0)
    assert not verdict.alarmed


def test_the_first_crossing_is_named_not_the_highest():
    verdict = judge([0.0, 2.0, 9.0], 3, Line())
    assert (verdict.token, verdict.statistic) == (2, 2.0)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_what_comes_first_decides(bad):
    assert judge([0.0, 0.0, 2.0, 0.0, bad], 5, Line()).outcome is Outcome.ALARM
    verdict = judge([0.0, 0.0, bad, 0.0, 2.0], 5, Line())
    assert (verdict.outcome, verdict.token) == (Outcome.INVALID, 3)
    assert verdict.statistic == 0.0


@pytest.mark.parametrize(
    ("scores", "accepted", "rest", "reason"),
    [
        ([], 0, {}, "no token was generated"),
        ([], 3, {}, "0 tokens were scored but 3 accepted"),
        ([0.1, 0.1], 3, {}, "2 tokens were scored but 3 accepted"),
        ([0.1, 0.1, 0.1], 2, {}, "3 tokens were scored but 2 accepted"),
        ([0.1], 1, {"probes": 0}, "there is no probe"),
        ([0.1], 1, {"deaf": "resid_post.3 was silent"}, "resid_post.3 was silent"),
    ],
)
def test_what_was_not_earned_is_no_pass(scores, accepted, rest, reason):
    verdict = judge(scores, accepted, Line(), **rest)
    assert (verdict.outcome, verdict.reason, verdict.certified) == (Outcome.INVALID, reason, False)


def test_an_alarm_stands_whatever_the_counts_say():
    assert judge([0.1, 3.0], 1, Line(), deaf="then the hook was gone").outcome is Outcome.ALARM


def test_the_certificate_ends_at_the_horizon():
    assert judge([0.0] * 4, 4, Line()).certified
    assert not judge([0.0] * 5, 5, Line()).certified
    assert judge([0.0, 0.0, 0.0, 2.0, 0.0], 5, Line()).certified
    assert not judge([0.0] * 4 + [2.0], 5, Line()).certified
    assert not judge([0.0], 1, Line(certified=False)).certified


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_threshold_that_is_not_finite_is_the_callers_mistake(value):
    with pytest.raises(BadInput, match="threshold"):
        judge([0.0], 1, Line(value))


def test_a_statistic_decides_and_not_the_score_and_whichever_crosses_first():
    """Scores of 0 throughout; the cusum touches 1 at token 2 and crosses at 3, where the other would at 4."""

    class Two(Line):
        limits = {"cusum(0.5)": 1.0, "rolling_mean(2)": 3.0}

    trace = {"cusum(0.5)": [0.5, 1.0, 1.5, 0.0], "rolling_mean(2)": [0.0, 0.0, 2.0, 4.0]}
    verdict = judge([0.0] * 4, 4, Two(), trace=trace)
    assert (verdict.outcome, verdict.token, verdict.statistic, verdict.score) == (Outcome.ALARM, 3, 1.5, 0.0)
    assert verdict.reason == "cusum(0.5) at token 3 is 1.5, above 1"
    trace["cusum(0.5)"] = [0.5, 1.0, 1.0, 0.0]
    assert judge([0.0] * 4, 4, Two(), trace=trace).reason == "rolling_mean(2) at token 4 is 4, above 3"
    trace["rolling_mean(2)"] = [0.0, 0.0, 2.0, NAN]
    verdict = judge([0.0] * 4, 4, Two(), trace=trace)
    assert (verdict.outcome, verdict.token) == (Outcome.INVALID, 4), "a sum that overflowed is no pass"
    trace["rolling_mean(2)"] = [0.0] * 4
    assert judge([0.0] * 4, 4, Two(), trace=trace).outcome is Outcome.CLEAR


@pytest.mark.parametrize("trace", [None, {}, {"max": [0.0]}, {"cusum(0.5)": []}, {"cusum(0.5)": [0.0, 0.0]}])
def test_a_statistic_without_its_values_is_the_callers_mistake(trace):
    with pytest.raises(BadInput, match="trace each statistic"):
        judge([0.0], 1, Line(name="cusum(0.5)"), trace=trace)
    assert judge([0.0], 1, Line(name="cusum(0.5)"), trace={"cusum(0.5)": [0.0]}).outcome is Outcome.CLEAR


def test_a_negative_count_is_the_callers_mistake():
    with pytest.raises(BadInput, match="at least 0"):
        judge([], -1, Line())


@pytest.mark.parametrize(
    "fields",
    [
        (Outcome.CLEAR, None, NAN, NAN, "", 3, 3),
        (Outcome.CLEAR, None, 0.0, 0.0, "", 2, 3),
        (Outcome.CLEAR, None, 0.0, 0.0, "", 0, 0),
        (Outcome.CLEAR, 2, 0.0, 0.0, "", 3, 3),
        (Outcome.ALARM, None, 2.0, 2.0, "", 3, 3),
        (Outcome.ALARM, 0, 2.0, 2.0, "", 3, 3),
        ("clear", None, 0.0, 0.0, "", 3, 3),
    ],
)
def test_a_verdict_that_was_not_earned_cannot_be_made(fields):
    with pytest.raises(BadInput):
        Verdict(*fields)


def test_an_invalid_verdict_is_made_from_a_reason_alone():
    verdict = Verdict.invalid("the request was cancelled", request_id="r9")
    assert (verdict.outcome, verdict.request_id, verdict.alarmed) == (Outcome.INVALID, "r9", True)
    assert math.isnan(verdict.score)


def test_ten_thousand_streams_with_one_bad_score_never_pass():
    """Fault M1: NaN, Inf, -Inf in any token; the same streams without it all pass."""
    rng = random.Random(0)
    for _ in range(10_000):
        scores = [rng.uniform(-2, 1) for _ in range(rng.randint(1, 40))]
        assert judge(scores, len(scores), Line()).outcome is Outcome.CLEAR
        at = rng.randrange(len(scores))
        scores[at] = rng.choice([NAN, INF, -INF])
        verdict = judge(scores, len(scores), Line())
        assert (verdict.outcome, verdict.token) == (Outcome.INVALID, at + 1)


SCORES = st.lists(st.one_of(st.floats(-2, 2), st.sampled_from([NAN, INF, -INF, 1.0])), max_size=12)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(scores=SCORES, accepted=st.integers(0, 12), probes=st.integers(0, 2), deaf=st.sampled_from(["", "silent"]))
def test_a_pass_is_exactly_what_the_rule_says(scores, accepted, probes, deaf):
    verdict = judge(scores, accepted, Line(), probes=probes, deaf=deaf)
    quiet = all(math.isfinite(score) and score <= 1.0 for score in scores)
    earned = quiet and len(scores) == accepted >= 1 and probes >= 1 and not deaf
    assert (verdict.outcome is Outcome.CLEAR) == earned
    firsts = [t for t, score in enumerate(scores, 1) if not math.isfinite(score) or score > 1.0]
    if firsts:
        assert verdict.token == firsts[0]
        is_alarm = math.isfinite(scores[firsts[0] - 1])
        assert verdict.outcome is (Outcome.ALARM if is_alarm else Outcome.INVALID)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(scores=st.lists(st.floats(-2, 2), min_size=1, max_size=12), cut=st.integers(1, 12))
def test_stopping_at_the_crossing_and_judging_afterwards_agree(scores, cut):
    whole = judge(scores, len(scores), Line())
    if whole.token is not None:
        stopped = judge(scores[: whole.token], whole.token, Line())
        assert (stopped.outcome, stopped.token, stopped.statistic) == (whole.outcome, whole.token, whole.statistic)
    else:
        part = scores[:cut]
        assert judge(part, len(part), Line()).outcome is Outcome.CLEAR
