"""Toy: a text of four tokens has four scores; a response of two to a prompt of two has two, read one token earlier."""

import pytest
import torch

from probes import BadInput, LinearProbe, Site, Stream, capture, read
from probes.reading.streams import score_tokens


@pytest.fixture
def probe(llama):
    return LinearProbe.from_weights(torch.linspace(-1, 1, 32), 0.5, "resid_post.1")


def test_a_text_is_scored_at_each_of_its_tokens(llama, probe):
    stream = read(llama, probe, "the capital of France")
    every = capture(llama, ["the capital of France"], "resid_post.1", tokens="all")
    assert "".join(stream.tokens) == "the capital of France"
    torch.testing.assert_close(stream.scores, probe.scores(every.values[Site("resid_post", 1)]))


def test_a_response_is_scored_where_its_tokens_were_decided(llama, probe):
    whole = read(llama, probe, "the capital of France")
    response = read(llama, probe, "the capital", "of France")
    torch.testing.assert_close(response.scores, whole.scores[1:3])
    assert len(response.tokens) == 2


def test_a_chat_is_scored_up_to_where_its_answer_starts(llama, probe):
    stream = read(llama, probe, [{"role": "user", "content": "which city"}], "Paris")
    assert len(stream.scores) == 1


def test_nothing_to_score_and_too_long_are_refused(llama, probe):
    with pytest.raises(BadInput, match="response has no tokens"):
        read(llama, probe, "the capital", "")
    with pytest.raises(BadInput, match="at most 128"):
        read(llama, probe, "the " * 100, "of " * 40)
    with pytest.raises(BadInput, match="no probe"):
        score_tokens([], {})
    with pytest.raises(BadInput, match=r"no activations at resid_post\.1"):
        score_tokens([probe], {})


@pytest.mark.parametrize(
    ("scores", "maximum"),
    [
        ([1.0, 3.0, 2.0], 3.0),
        ([1.0, float("-inf")], None),
        ([float("nan"), 1.0], None),
        ([float("inf")], None),
        ([], None),
    ],
)
def test_the_maximum_of_a_stream_that_is_not_whole_is_no_number(scores, maximum):
    found = Stream(tuple("abc"[: len(scores)]), torch.tensor(scores)).maximum
    assert found == maximum if maximum is not None else found != found


def test_a_stream_has_one_score_a_token():
    with pytest.raises(BadInput, match="2 tokens but 1 scores"):
        Stream(("a", "b"), torch.zeros(1))
