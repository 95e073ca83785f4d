"""The breaker's table, row by row, and what it leaves open."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitors.breaker.rule import Ask, Decision, ForceOpen, Judged, Policy, Reset, Snapshot, State, Trial, step
from monitors.verdict import Outcome
from probes.errors import BadInput

CLEAR, ALARM, INVALID = Outcome.CLEAR, Outcome.ALARM, Outcome.INVALID
CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN
POLICY = Policy(k=2, n=3, cooldown_s=60, trials=2, trial_timeout_s=30)
NOW = 1000.0
SHUT = Snapshot(generation=4, window=(True,))
TRIPPED = Snapshot(OPEN, (True, True), 5, False, 950.0, reason="2 of 3")
LATCHED = replace(TRIPPED, latched=True, opened_at_s=0.0)
TRYING = Snapshot(HALF_OPEN, generation=6, opened_at_s=900.0, trial=Trial(1, 1, 990.0))
LAST_TRY = replace(TRYING, successes=1, trial=Trial(2, 1, 990.0))


def test_two_of_three_by_hand():
    """Alarm, clear, clear, alarm, clear, alarm: only the last two lie within three responses of each other."""
    snapshot, trail = Snapshot(), []
    for outcome in (ALARM, CLEAR, CLEAR, ALARM, CLEAR, ALARM):
        snapshot, _, transition = step(POLICY, snapshot, Judged(outcome, 0, request_id="r"), NOW)
        trail.append((snapshot.state, sum(snapshot.window), transition is not None))
    assert trail[:5] == [(CLOSED, n, False) for n in (1, 1, 1, 1, 1)]
    assert trail[5] == (OPEN, 2, True)
    assert snapshot.reason.startswith("2 of the last 3 responses alarmed, the last by alarm in request r")


TABLE = [
    # state, event, next state, decision, transition?
    ("clear slides the window", SHUT, Judged(CLEAR, 4), CLOSED, False),
    ("an alarm below k", Snapshot(), Judged(ALARM, 0), CLOSED, False),
    ("an alarm is the kth", SHUT, Judged(ALARM, 4), OPEN, True),
    ("invalid below k", Snapshot(), Judged(INVALID, 0), CLOSED, False),
    ("invalid is the kth", SHUT, Judged(INVALID, 4), OPEN, True),
    ("ask a closed one", SHUT, Ask(), CLOSED, False),
    ("ask when the cooldown is over", replace(TRIPPED, opened_at_s=940.0), Ask(), HALF_OPEN, True),
    ("ask before", replace(TRIPPED, opened_at_s=940.5), Ask(), OPEN, False),
    ("ask a latched one", LATCHED, Ask(), OPEN, False),
    ("clear while open", TRIPPED, Judged(CLEAR, 5), OPEN, False),
    ("alarm while open", TRIPPED, Judged(ALARM, 5), OPEN, False),
    ("invalid while open", TRIPPED, Judged(INVALID, 5), OPEN, False),
    ("a clear trial, fewer than m", TRYING, Judged(CLEAR, 6, 1), HALF_OPEN, False),
    ("a clear trial, the mth", LAST_TRY, Judged(CLEAR, 6, 2), CLOSED, True),
    ("a trial alarms", LAST_TRY, Judged(ALARM, 6, 2), OPEN, True),
    ("a trial is invalid", TRYING, Judged(INVALID, 6, 1), OPEN, True),
    ("ask during a trial", TRYING, Ask(), HALF_OPEN, False),
    *[(f"reset {s.state}", s, Reset("Ada", "seen"), CLOSED, True) for s in (SHUT, TRIPPED, LATCHED, TRYING)],
    *[(f"force {s.state}", s, ForceOpen("Ada", "drill"), OPEN, True) for s in (SHUT, TRIPPED, LATCHED, TRYING)],
    *[
        (f"late {outcome} at {s.state}", s, Judged(outcome, s.generation - 1, trial), s.state, False)
        for outcome in Outcome
        for s, trial in ((SHUT, 0), (TRIPPED, 0), (LATCHED, 0), (TRYING, 1), (LAST_TRY, 2))
    ],
]


@pytest.mark.parametrize(
    ("before", "event", "state", "moves"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_the_table_holds_row_by_row(before, event, state, moves):
    after, _, transition = step(POLICY, before, event, NOW)
    assert after.state is state
    assert (transition is not None) == moves
    assert after.generation == before.generation + moves
    if moves:
        assert (transition.before, transition.after, transition.event) == (before.state, state, event)
        assert (transition.when_s, transition.reason, transition.generation) == (NOW, after.reason, after.generation)
        assert transition.who == getattr(event, "by", "breaker")
    elif isinstance(event, Judged) and event.generation < before.generation:
        assert after == before, "late answers are ignored"
    elif before.state is OPEN:
        assert after == before


def test_notes_of_the_table():
    assert step(POLICY, SHUT, Judged(ALARM, 4), NOW)[0].opened_at_s == NOW
    assert step(replace(POLICY, latch=True), SHUT, Judged(ALARM, 4), NOW)[0].latched
    assert not step(POLICY, SHUT, Judged(ALARM, 4), NOW)[0].latched
    assert step(POLICY, TRYING, Judged(ALARM, 6, 1), NOW)[0].opened_at_s == NOW, "the cooldown restarts"
    assert step(POLICY, SHUT, ForceOpen("Ada", "drill"), NOW)[0].latched
    closed = step(POLICY, LATCHED, Reset("Ada", "seen"), NOW)[0]
    assert (closed.latched, closed.window, closed.opened_at_s) == (False, (), None)
    assert step(POLICY, LAST_TRY, Judged(CLEAR, 6, 2), NOW)[0].window == ()


@pytest.mark.parametrize(
    ("before", "at", "passes"),
    [
        (SHUT, NOW, True),
        (TRIPPED, NOW, False),
        (TRIPPED, 1010.0, True),
        (LATCHED, 10.0**9, False),
        (TRYING, NOW, False),
        (replace(TRYING, trial=None), NOW, True),
        (TRYING, 1020.0, False),
        (TRYING, 980.0, False),
        (TRIPPED, 940.0, False),
    ],
)
def test_who_may_start(before, at, passes):
    assert step(POLICY, before, Ask(), at)[1] is (Decision.PASS if passes else Decision.BLOCK)
    shadow = replace(POLICY, enforce=False)
    assert step(shadow, before, Ask(), at)[1] is (Decision.PASS if passes else Decision.WOULD_BLOCK)
    assert step(shadow, before, Ask(), at)[0] == step(POLICY, before, Ask(), at)[0]


def test_a_trial_without_a_verdict_counts_as_invalid():
    after, decision, transition = step(POLICY, TRYING, Ask(), 1020.0)
    assert (after.state, decision, after.opened_at_s) == (OPEN, Decision.BLOCK, 1020.0)
    assert "trial 1 got no verdict" in transition.reason
    assert step(POLICY, TRYING, Ask(), 1019.0)[0] == TRYING


def test_one_trial_at_a_time_until_m_in_a_row_are_clear():
    snapshot = step(POLICY, TRIPPED, Ask(), 1010.0)[0]
    assert snapshot.trial == Trial(1, 1, 1010.0)
    assert step(POLICY, snapshot, Ask(), 1011.0)[1] is Decision.BLOCK
    snapshot = step(POLICY, snapshot, Judged(CLEAR, snapshot.generation, 1), 1012.0)[0]
    assert (snapshot.successes, snapshot.trial) == (1, None)
    again = step(POLICY, snapshot, Judged(CLEAR, snapshot.generation, 1), 1012.5)[0]
    assert again == snapshot, "one trial counts once"
    snapshot, decision, _ = step(POLICY, snapshot, Ask(), 1013.0)
    assert (snapshot.trial.number, decision) == (2, Decision.PASS)
    assert step(POLICY, snapshot, Judged(CLEAR, snapshot.generation, 1), 1013.5)[0] == snapshot, "nor for another"
    assert step(POLICY, snapshot, Judged(CLEAR, snapshot.generation, 2), 1014.0)[0].state is CLOSED


def test_a_trial_of_three_rows_is_over_with_its_third_verdict():
    snapshot = step(POLICY, TRIPPED, Ask(rows=3), 1010.0)[0]
    for left in (2, 1):
        snapshot = step(POLICY, snapshot, Judged(CLEAR, snapshot.generation, 1), 1011.0)[0]
        assert (snapshot.trial.rows, snapshot.successes) == (left, 0)
    assert step(POLICY, snapshot, Judged(ALARM, snapshot.generation, 1), 1012.0)[0].state is OPEN
    assert step(POLICY, snapshot, Judged(CLEAR, snapshot.generation, 1), 1012.0)[0].successes == 1


@pytest.mark.parametrize("outcome", Outcome)
def test_in_half_open_only_trials_count(outcome):
    """In shadow, requests that an enforced breaker would have blocked run beside the trial."""
    assert step(POLICY, TRYING, Judged(outcome, 6, trial=0), NOW)[0] == TRYING


def test_a_clock_that_went_back_restarts_the_wait():
    after, decision, _ = step(POLICY, TRIPPED, Ask(), 100.0)
    assert (after.opened_at_s, decision) == (100.0, Decision.BLOCK)
    assert step(POLICY, after, Ask(), 159.0)[1] is Decision.BLOCK
    assert step(POLICY, after, Ask(), 160.0)[1] is Decision.PASS
    assert step(POLICY, TRYING, Ask(), 100.0)[0].trial == Trial(1, 1, 100.0)


def test_a_clear_never_trips_even_where_the_policy_became_stricter():
    crowded = Snapshot(window=(True, True, True))
    assert step(Policy(k=2, n=5), crowded, Judged(CLEAR, 0), NOW)[0].state is CLOSED
    assert step(Policy(k=2, n=5), crowded, Judged(ALARM, 0), NOW)[0].state is OPEN


@settings(max_examples=300, deadline=None, derandomize=True)
@given(outcomes=st.lists(st.sampled_from(Outcome), max_size=40), n=st.integers(1, 8), data=st.data())
def test_the_trip_comes_where_counting_says(outcomes, n, data):
    k = data.draw(st.integers(1, n))
    snapshot, tripped = Snapshot(), None
    for t, outcome in enumerate(outcomes):
        snapshot = step(Policy(k, n), snapshot, Judged(outcome, 0), float(t))[0]
        if snapshot.state is OPEN:
            tripped = t
            break
    alarms = [outcome is not CLEAR for outcome in outcomes]
    expected = next((t for t in range(len(alarms)) if sum(alarms[max(0, t + 1 - n) : t + 1]) >= k), None)
    assert tripped == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"k": 0}, {"k": 4}, {"k": 1.0}, {"k": True}, {"n": 0}, {"trials": 0}, {"cooldown_s": -1.0}, {"latch": 1},
        {"cooldown_s": float("nan")}, {"cooldown_s": "60"}, {"trial_timeout_s": float("inf")}, {"enforce": None},
    ],
)  # fmt: skip
def test_a_policy_that_makes_no_sense_is_refused(fields):
    with pytest.raises(BadInput):
        Policy(**{"k": 2, "n": 3} | fields)


def test_what_is_no_event_is_refused():
    with pytest.raises(BadInput, match="no event of a breaker"):
        step(POLICY, SHUT, "ask", NOW)
