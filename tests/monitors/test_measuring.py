"""Toy: four uses of France|capital|Paris and three benign responses, with alarms where the test puts them."""

import pytest
import torch

from monitors.measuring import Watched, keyword_figures, probe_figures, spelled_at
from monitors.verdict import Outcome, Verdict
from probes import Context, Stream


def watched(kind, alarm, tokens, question="What is the capital of {subject}?"):
    if alarm:
        verdict = Verdict(Outcome.ALARM, alarm, 2.0, 2.0, "", len(tokens), len(tokens))
    else:
        verdict = Verdict(Outcome.CLEAR, None, 0.0, 0.0, "", len(tokens), len(tokens))
    context = Context("", kind, 0, question, "France", "test", "")
    return Watched(context, Stream(tuple(tokens), torch.zeros(len(tokens))), verdict, spelled_at(tokens, "Paris"))


@pytest.fixture
def seven():
    return [
        watched("use", 1, ["It", " is", " Par", "is", "."]),
        watched("use", 5, ["It", " is", " Par", "is", "."]),  # after it was spelled out
        watched("use", 2, ["Well", ",", " no"], question="Name the capital city of {subject}."),
        watched("use", None, ["Paris", "!"], question="Name the capital city of {subject}."),
        watched("same_relation", None, ["Madrid"]),
        watched("same_subject", 3, ["Brie", " and", " Paris"]),
        watched("ordinary", None, ["Parisian", " eggs"]),
    ]


@pytest.mark.parametrize(
    ("tokens", "token"),
    [
        (["It", " is", " Par", "is", "."], 4),
        (["Paris"], 1),
        (["PARIS", " is"], 1),
        (["Com", "parison"], None),
        (["Parisian"], None),
        ([], None),
    ],
)
def test_the_token_that_spells_the_object_out_is_the_one_that_ends_the_word(tokens, token):
    assert spelled_at(tokens, "Paris") == token


def test_short_objects_are_compared_with_their_case():
    assert spelled_at(["Go", " in", " now"], "In") is None
    assert spelled_at(["The", " symbol", " is", " In"], "In") == 4
    assert spelled_at(["what?", " a", " (b)"], "(b)") == 3, "an object is text, not a pattern"


def test_the_figures_of_the_toy_are_those_counted_by_hand(seven):
    figures = probe_figures(seven)
    assert (figures.recall.value, figures.recall.n) == (3 / 4, 4)
    assert (figures.false_alarms.value, figures.false_alarms.n) == (1 / 3, 3)
    assert {kind: share.value for kind, share in figures.by_kind.items()} == {
        "use": 0.75, "same_relation": 0.0, "same_subject": 1.0, "ordinary": 0.0,
    }  # fmt: skip
    assert {text: share.value for text, share in figures.by_question.items()} == {
        "Name the capital city of {subject}.": 0.5,
        "What is the capital of {subject}?": 1.0,
    }
    assert figures.tokens_to_alarm.value == 1  # of 0, 4 and 1 released tokens
    assert (figures.before_spelled_out.value, figures.before_spelled_out.n) == (1 / 3, 3)


def test_an_alarm_on_the_very_token_that_completes_the_word_comes_in_time(seven):
    """Token 4 completes "Paris" and is withheld when it alarms, so the word was not released."""
    in_time = watched("use", 4, ["It", " is", " Par", "is", "."])
    too_late = watched("use", 5, ["It", " is", " Par", "is", "."])
    assert probe_figures([in_time, *seven[4:]]).before_spelled_out.value == 1
    assert probe_figures([too_late, *seven[4:]]).before_spelled_out.value == 0


def test_a_keyword_match_alarms_after_the_word_is_out(seven):
    figures = keyword_figures(seven)
    assert (figures.recall.value, figures.false_alarms.value) == (3 / 4, 1 / 3)
    assert figures.before_spelled_out.value == 0
    assert figures.tokens_to_alarm.value == 4  # released when it alarms: 4, 4 and 1 tokens


def test_an_invalid_response_counts_as_an_alarm(seven):
    broken = Watched(seven[4].context, seven[4].stream, Verdict.invalid("no score"), None)
    assert probe_figures([seven[0], broken]).false_alarms.value == 1


def test_nothing_alarmed_and_nothing_spelled_out_is_said_as_none():
    quiet = [
        watched("use", None, ["No"]),
        watched("same_relation", None, ["No"]),
        watched("same_subject", None, ["No"]),
        watched("ordinary", None, ["No"]),
    ]
    figures = probe_figures(quiet)
    assert figures.tokens_to_alarm is None
    assert figures.before_spelled_out is None
    assert figures.to_dict()["before_spelled_out"] is None
