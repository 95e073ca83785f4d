"""Toy: a prompt of three tokens behind two of padding, then two generated ones.

column      0    1    2    3    4  |  5    6
token      pad  pad  the  of  is   | Rome now
prompt                x    x   x   |
last                           x   |  x    x
response                           |  x    x
position -1                    x   |
position 3                         |  x
"""

import pytest
import torch
from transformers import DynamicCache

from probes import BadInput, CouldNotRun
from probes.steering.places import check_tokens, following

PROMPTS = ["the capital of France is", "the river is"]
MEANT = {
    "prompt": ["0011100", "1111100"],
    "last": ["0000111", "0000111"],
    "response": ["0000011", "0000011"],
    -1: ["0000100", "0000100"],
    -2: ["0001000", "0001000"],
    3: ["0000010", "0001000"],
    (0, -1): ["0010100", "1000100"],
    (5, 6): ["0000000", "0000011"],
}


def meant_while_generating(model, tokens, **options):
    """Which tokens are meant, as the columns of the whole text, while two tokens are generated."""
    seen = []
    batch = model.inputs(PROMPTS[::-1])
    width = batch["input_ids"].shape[1]
    with following(model, tokens) as places:

        def look(module, args, kwargs):
            mask = places.mask(args[0] if args else kwargs["hidden_states"])
            seen.append(mask)

        handle = model.blocks[1].module.register_forward_pre_hook(look, with_kwargs=True)
        try:
            options = {"max_new_tokens": 3, "do_sample": False, "min_new_tokens": 3, **options}
            model.module.generate(**batch, pad_token_id=0, **options)
        finally:
            handle.remove()
    if not options.get("use_cache", True):
        whole = seen[-1]
        assert [mask.shape[1] for mask in seen] == [width, width + 1, width + 2]
    else:
        whole = torch.cat(seen, dim=1)
    return ["".join("01"[int(x)] for x in row) for row in whole]


@pytest.mark.parametrize("tokens", MEANT, ids=str)
def test_the_toy_by_hand_in_every_way_of_generating(tiny, tokens):
    assert meant_while_generating(tiny, tokens) == MEANT[tokens]
    assert meant_while_generating(tiny, tokens, use_cache=False) == MEANT[tokens]
    assert meant_while_generating(tiny, tokens, cache_implementation="static") == MEANT[tokens]


def test_beams_are_followed_too(llama):
    found = meant_while_generating(llama, "last", num_beams=2)
    assert found == ["0000111"] * 4


def test_a_second_text_begins_anew(llama):
    for _ in range(2):
        assert meant_while_generating(llama, "response") == MEANT["response"]
    with following(llama, "last") as places:
        masks = []
        handle = llama.blocks[0].module.register_forward_pre_hook(lambda _, args: masks.append(places.mask(args[0])))
        for text in (PROMPTS[1], PROMPTS[0]):
            llama.module(**llama.collate([llama.encode(text)]))
        handle.remove()
    assert [mask.int().tolist() for mask in masks] == [[[0, 0, 1]], [[0, 0, 0, 0, 1]]]


def test_right_padding_has_its_last_token_where_the_mask_says(llama):
    masks = []
    with following(llama, "last") as places:
        handle = llama.blocks[0].module.register_forward_pre_hook(lambda _, args: masks.append(places.mask(args[0])))
        llama.module(**llama.collate([llama.encode(text) for text in PROMPTS]))
        handle.remove()
    assert masks[0].int().tolist() == [[0, 0, 0, 0, 1], [0, 0, 1, 0, 0]]


def test_a_prompt_in_chunks_is_refused_by_every_rule_that_needs_its_end(llama):
    with pytest.raises(BadInput, match="where the prompt ends cannot be told"):
        meant_while_generating(llama, "last", prefill_chunk_size=3)
    assert meant_while_generating(llama, 3, prefill_chunk_size=3) == MEANT[3], "a position needs no end"


def test_a_cache_that_was_filled_before_is_refused(llama):
    ids = torch.tensor([llama.encode(PROMPTS[0])])
    cache = DynamicCache()
    llama.module(input_ids=ids[:, :-1], past_key_values=cache)
    with following(llama, "response") as places:
        handle = llama.blocks[0].module.register_forward_pre_hook(lambda _, args: places.mask(args[0]) and None)
        with pytest.raises(BadInput, match="a cache filled before"):
            llama.module(input_ids=ids[:, -1:], past_key_values=cache)
        handle.remove()


def test_a_pass_that_was_not_announced_is_not_guessed_at(llama):
    with following(llama, "last") as places, pytest.raises(CouldNotRun, match="not announced"):
        places.mask(torch.zeros(1, 3, 32))


@pytest.mark.parametrize("tokens", ["lst", "", [], [1.5], True, None, 2.0, [True]])
def test_what_is_no_rule_is_refused(tokens):
    with pytest.raises(BadInput, match="tokens="):
        check_tokens(tokens)


def test_following_leaves_nothing_behind(tiny, hooks_of):
    before = hooks_of(tiny.module)

    def interrupted():
        assert hooks_of(tiny.module) == before + 2
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), following(tiny, "last"):
        interrupted()
    assert hooks_of(tiny.module) == before
