"""Toy: of a response of four tokens, decisions 0 to 3 are kept; every=2 keeps 0 and 2."""

import pytest
import torch

from probes import BadInput, CouldNotRun, Site, capture, capture_responses, concatenate
from probes.activations import responses

SITE = Site("resid_post", 1)
PROMPTS = ["the capital of France is", "cheese", "which river of Italy say me"]


def test_decisions_are_rows_in_the_order_of_the_prompts(tiny):
    got = capture_responses(tiny, PROMPTS, SITE, max_new_tokens=4, eos_token_id=-1)
    assert got.example.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert got.position.tolist() == [0, 1, 2, 3] * 3
    first = capture(tiny, PROMPTS, SITE).values[SITE]
    torch.testing.assert_close(got.values[SITE][got.position == 0], first, rtol=1e-4, atol=1e-4)


def test_every_keeps_the_same_rows_and_fewer_of_them(tiny):
    full = capture_responses(tiny, PROMPTS, SITE, max_new_tokens=5, eos_token_id=-1)
    half = capture_responses(tiny, PROMPTS, SITE, max_new_tokens=5, every=2, eos_token_id=-1)
    assert half.position.tolist() == [0, 2, 4] * 3
    assert torch.equal(half.values[SITE], full.values[SITE][full.position % 2 == 0])


def test_decisions_after_the_end_of_a_response_are_left_out(tiny):
    answers = tiny.generate_ids(tiny.inputs(PROMPTS), max_new_tokens=5, eos_token_id=-1)[:, -5:]
    end = int(answers[0, 2])  # the third token of the first answer, taken for the end
    got = capture_responses(tiny, PROMPTS, SITE, max_new_tokens=5, eos_token_id=end)
    for i, row in enumerate(answers.tolist()):
        assert int((got.example == i).sum()) == (row.index(end) + 1 if end in row else 5)


def test_labels_and_groups_go_with_the_prompts_and_captures_join(tiny):
    one = capture_responses(tiny, PROMPTS[:1], SITE, max_new_tokens=1, labels=[True], groups=[7])
    two = capture_responses(
        tiny, PROMPTS[1:], SITE, max_new_tokens=2, labels=[False] * 2, groups=[7, 8], eos_token_id=-1
    )
    both = concatenate(one, two)
    assert both.example.tolist() == [0, 1, 1, 2, 2]
    assert both.labels.tolist() == [True, False, False]
    assert both.groups == ("7", "7", "8")
    assert torch.equal(both.values[SITE], torch.cat([one.values[SITE], two.values[SITE]]))
    with pytest.raises(BadInput, match="different sites"):
        concatenate(one, capture_responses(tiny, PROMPTS[1:], "resid_post.0", labels=[False] * 2, groups=[7, 8]))
    with pytest.raises(BadInput, match="labels"):
        concatenate(one, capture_responses(tiny, PROMPTS[1:], SITE, groups=[7, 8]))


def test_a_site_that_falls_silent_ends_it(tiny, monkeypatch):
    hear = responses._Keeper.hear
    monkeypatch.setattr(responses._Keeper, "hear", lambda self, *given: hear(self, *given) if self._step < 1 else None)
    with pytest.raises(CouldNotRun, match="no activations at resid_post.1 while token 2"):
        capture_responses(tiny, PROMPTS, SITE, max_new_tokens=3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"prompts": []}, "empty"),
        ({"prompts": "cheese"}, "one string"),
        ({"prompts": ["cheese"], "every": 0}, "every=0"),
        ({"prompts": ["cheese"], "labels": [True, False]}, "2 labels for 1 prompts"),
        ({"prompts": ["cheese"], "num_beams": 2}, "num_beams is no option"),
    ],
)
def test_bad_input_is_one_clear_error(llama, arguments, says):
    with pytest.raises(BadInput, match=says):
        capture_responses(llama, **arguments)
