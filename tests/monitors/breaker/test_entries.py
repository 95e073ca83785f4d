"""Entries written down and read back."""

import hashlib
import json
import math

import pytest

from monitors.breaker.entries import Entry, canonical, decode, encode, prompt_digest
from monitors.breaker.rule import Ask, ForceOpen, Judged, Policy, Reset, Snapshot, State, Transition, Trial
from monitors.verdict import Outcome, Verdict
from probes.errors import ArtifactError

POLICY = Policy(2, 3, latch=True, cooldown_s=0.1)
TRYING = Snapshot(State.HALF_OPEN, (True, False), 6, False, 0.1 + 0.2, 1, Trial(2, 1, 1e9 + 0.1), "why ü")
EVENTS = [
    Ask(3),
    Judged(Outcome.CLEAR, 4, 2),
    Judged(Outcome.ALARM, 4, 0, "r\n1", "ü"),
    Reset("Ada", "x"),
    ForceOpen("B", "y"),
]


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("verdict", [None, Verdict.invalid("no", score=math.nan, statistic=-math.inf)])
def test_an_entry_comes_back_as_it_was(event, verdict):
    transition = Transition(State.OPEN, TRYING.state, event, TRYING.reason, "breaker", 12.5, 6)
    entry = Entry("name", "id", 12.5, POLICY, event, TRYING, transition, verdict, "ab", "text")
    back = decode("name", "id", encode(entry))
    assert (back.event, back.after, back.transition) == (event, TRYING, transition)
    assert (back.policy, back.at_s, back.prompt_sha256, back.prompt) == (POLICY, 12.5, "ab", "text")
    assert repr(back.verdict) == repr(verdict), "NaN is not equal to itself"
    assert encode(back) == encode(entry)
    assert encode(entry).isascii()


def test_canonical_json_is_one_text_whatever_the_order():
    assert canonical({"b": 1, "a": [1.0, "ü"]}) == '{"a":[1.0,"\\u00fc"],"b":1}'
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical({"a": math.nan})


GOOD = json.loads(encode(Entry("n", "i", 1.0, POLICY, Ask(), TRYING, None)))


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "null", "not JSON", json.dumps(GOOD | {"event": {"type": "nap"}}),
        json.dumps(GOOD | {"policy": {"k": 1}}), json.dumps(GOOD | {"after": GOOD["after"] | {"state": "ajar"}}),
        json.dumps(GOOD | {"after": GOOD["after"] | {"extra": 1}}),
        json.dumps(GOOD | {"policy": GOOD["policy"] | {"k": 9}}),
        json.dumps(GOOD | {"verdict": {"outcome": "clear"}}),
    ],
)  # fmt: skip
def test_what_is_no_entry_is_one_clear_error(text):
    decode("n", "i", json.dumps(GOOD))
    with pytest.raises(ArtifactError, match="cannot be read"):
        decode("n", "i", text)


def test_the_digest_of_a_prompt_is_its_sha256():
    assert prompt_digest("Hello ü") == hashlib.sha256("Hello ü".encode()).hexdigest()
    chat = [{"role": "user", "content": "Hi"}]
    assert prompt_digest(chat) == prompt_digest(({"content": "Hi", "role": "user"},)) != prompt_digest("Hi")
    assert len(prompt_digest("\ud800")) == 64, "half a surrogate pair is a prompt too"
