"""Piping: each prompt is answered in the form that is certified, and an alarm ends none of the others."""

import json

import pytest

from monitors import Breaker, Policy, guard, pipe, record
from monitors.traffic import as_certified
from monitors.verdict import Outcome
from probes.errors import BadInput

CHAT = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "say me"})


@pytest.fixture
def between(llama, make_monitor, prompts):
    """A monitor whose limit lies between the answers' maxima: the loudest two alarm."""
    streams = record(llama, make_monitor(llama).probes, prompts, max_new_tokens=4)
    maxima = sorted(stream.maximum for stream in streams)
    return make_monitor(llama, (maxima[1] + maxima[2]) / 2, horizon=4), [one.maximum > maxima[1] for one in streams]


def test_a_line_is_asked_in_the_form_that_is_certified(llama, make_monitor):
    def certified(**mix):
        return make_monitor(llama, mix=mix).threshold

    assert as_certified("say me", certified(form="chat", system="Be brief.")) == CHAT
    assert as_certified("say me", certified(form="chat", system="")) == CHAT[1:]
    assert as_certified("say me", certified(form="chat")) == CHAT[1:]
    assert as_certified("say me", certified(form="completion")) == "say me"
    assert as_certified(CHAT, certified(form="chat", system="other")) == CHAT
    with pytest.raises(BadInput, match="certified on 2 system prompts"):
        as_certified("say me", certified(form="chat", system=["a", "b"]))


def test_each_prompt_has_its_answer_and_an_alarm_ends_none_of_the_others(llama, between, prompts):
    monitor, loud = between
    with guard(llama, monitor) as guarded:
        answers = list(pipe(guarded, prompts))
        alone = [guarded.generate([prompt], max_new_tokens=4) for prompt in prompts]
    assert [answer.verdict.outcome is Outcome.ALARM for answer in answers] == loud
    assert [answer.text for answer in answers] == [reply.texts[0] for reply in alone]
    assert [answer.passed for answer in answers] == [not one for one in loud]
    assert [answer.verdict.request_id for answer in answers] == ["1", "2", "3", "4"]
    assert answers[loud.index(True)].sentence.startswith("ALARM: max at token ")
    assert json.loads(json.dumps(answers[0].to_dict()))["verdict"]["outcome"] in ("alarm", "clear")


def test_what_an_open_breaker_blocks_is_said_and_the_rest_goes_on(llama, between, prompts):
    monitor, loud = between
    breaker = Breaker(Policy(1, 1, cooldown_s=1e6))
    with guard(llama, monitor, breaker=breaker) as guarded:
        answers = list(pipe(guarded, prompts))
    first = loud.index(True)
    assert [answer.verdict is None for answer in answers] == [i > first for i in range(4)]
    assert answers[-1].sentence.startswith("NOT ANSWERED: ")
    assert not answers[-1].passed
    assert answers[-1].to_dict()["verdict"] is None


def test_a_verdict_without_a_certificate_says_so(llama, make_monitor):
    short = make_monitor(llama, horizon=2)
    with guard(llama, short) as guarded:
        (answer,) = pipe(guarded, ["cheese"], max_new_tokens=8)
        (within,) = pipe(guarded, ["cheese"])
    assert answer.sentence.startswith("CLEAR (not certified): ")
    assert within.verdict.accepted == 2
    assert within.sentence.startswith("CLEAR: ")


def test_a_prompt_that_cannot_be_scored_is_refused_and_the_others_are_answered(llama, make_monitor):
    with guard(llama, make_monitor(llama)) as guarded:
        first, long, last = pipe(guarded, ["cheese", "cheese " * 5000, "river"], max_new_tokens=2)
        assert first.passed
        assert last.passed
        assert (long.verdict, long.passed) == (None, False)
        assert long.sentence.startswith("NOT ANSWERED: ")
        with pytest.raises(BadInput, match="nothing was checked"):
            list(pipe(guarded, []))
        with pytest.raises(BadInput, match="give a list"):
            list(pipe(guarded, "cheese"))
