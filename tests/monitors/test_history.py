"""The history shows every request, where the breaker tripped, and goes by the breaker's own rule."""

import pytest

from monitors.breaker.rule import Policy, State
from monitors.history import MOST, breaker_history, replay
from monitors.verdict import Outcome, Verdict

ALARM = Verdict(Outcome.ALARM, 2, 5.0, 5.0, "the score of token 2 is 5, above 4", 2, 2, request_id="r1")
CLEAR = Verdict(Outcome.CLEAR, None, 1.0, 1.0, "not above", 2, 2)
INVALID = Verdict.invalid("there is no probe")


def test_two_of_three_by_hand():
    """Alarm, clear, alarm: the second alarm within three trips, and the fourth request is blocked."""
    requests = replay(Policy(k=2, n=3, latch=True), [("use", ALARM), ("use", CLEAR), ("use", ALARM), ("use", ALARM)])
    assert [r.outcome for r in requests] == [Outcome.ALARM, Outcome.CLEAR, Outcome.ALARM, None]
    assert [r.alarms for r in requests] == [1, 1, 2, 2]
    assert [str(r.state) for r in requests] == ["closed", "closed", "open", "open"]
    assert [len(r.transitions) for r in requests] == [0, 0, 1, 0]
    picture = breaker_history(requests)
    assert str(picture) == "4 requests, 2 alarms, 1 blocked; tripped at request 3\nAoATx"
    assert picture.html.count("tripped at 3") == 1


def test_without_alarms_it_never_trips():
    requests = replay(Policy(k=1, n=1), [("ordinary", CLEAR)] * 5)
    assert str(breaker_history(requests)) == "5 requests, 0 alarms, 0 blocked; never tripped\n....."


def test_a_false_alarm_a_miss_and_an_invalid_response_look_different_from_an_alarm_and_a_clear_one():
    kinds = [("use", ALARM), ("use", CLEAR), ("ordinary", ALARM), ("ordinary", CLEAR), ("ordinary", INVALID)]
    picture = breaker_history(replay(Policy(k=9, n=9), kinds))
    assert str(picture).splitlines()[1] == "AoF.!"
    for words in ("clear, though it uses the fact", "false alarm", "could not be judged"):
        assert words in picture.html


def test_in_shadow_a_tripped_breaker_blocks_nothing():
    requests = replay(Policy(k=1, n=1, latch=True, enforce=False), [("use", ALARM), ("use", ALARM)])
    assert [r.outcome for r in requests] == [Outcome.ALARM, Outcome.ALARM]
    assert requests[1].state is State.OPEN


def test_after_the_cooldown_trials_close_it_again():
    policy = Policy(k=1, n=1, cooldown_s=2.0, trials=2)
    requests = replay(policy, [("use", ALARM), *[("ordinary", CLEAR)] * 4])
    assert [str(r.state) for r in requests] == ["open", "open", "half_open", "closed", "closed"]
    html = breaker_history(requests).html
    assert "trial at 3" in html
    assert "closed again at 4" in html


@pytest.mark.parametrize("count", [0, 1, MOST, MOST + 5])
def test_any_number_of_requests_is_shown_or_counted(count):
    picture = breaker_history(replay(Policy(k=1, n=1), [("ordinary", CLEAR)] * count))
    assert picture.html.count('title="request') == min(count, MOST)
    assert ("… and 5 more" in picture.html) == (count > MOST)


def test_kinds_ids_and_reasons_are_escaped():
    bad = '"><script>x()</script>'
    verdict = Verdict(Outcome.ALARM, 1, 5.0, 5.0, bad, 1, 1, request_id=bad)
    html = breaker_history(replay(Policy(k=1, n=1), [(bad, verdict)])).html
    assert "<script" not in html
    assert "&lt;script&gt;" in html
