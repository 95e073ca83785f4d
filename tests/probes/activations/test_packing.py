"""Toy: "a b c" and "a b d e" share two tokens, so five slots hold seven; the second goes by 0, 1, 3, 4."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, BloomConfig, MistralConfig

import probes
from probes import BadInput, capture, edits
from probes.activations.packing import LONGEST, branches, plan_passes

TWINS = [
    f"the {word} of France is {city} please"
    for word in ("capital", "city", "river")
    for city in ("Paris", "Rome", "Madrid")
]
APART = ["the capital", "cheese is", "word1 word2", "say now", "which river"]


def tokens_in(passes):
    return sum(len(row) for one in passes for row in one.ids)


def test_a_toy_worked_by_hand(llama):
    [one] = plan_passes(llama, [[7, 8, 9], [7, 8, 10, 11]], 32, share=True)
    assert list(one.ids[0]) == [7, 8, 9, 10, 11]
    assert {path.text: list(path.slots) for path in one.paths} == {0: [0, 1, 2], 1: [0, 1, 3, 4]}
    inputs = one.inputs(llama)
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 2, 3]]
    assert (inputs["attention_mask"][0, 0] == 0).int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 1],
    ]


def test_branches_of_one_text_share_its_beginning_alone(llama):
    """Two of "a b c" that part at c: four slots, of which the third and the fourth do not see each other."""
    one = branches(llama, [7, 8, 9], 2, 2)
    assert list(one.ids[0]) == [7, 8, 9, 9]
    assert [list(path.slots) for path in one.paths] == [[0, 1, 2], [0, 1, 3]]
    inputs = one.inputs(llama)
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 2]]
    assert (inputs["attention_mask"][0, 0, 3] == 0).int().tolist() == [1, 1, 0, 1]
    with edits(llama, {"resid_post.0": lambda tensor: tensor}):
        apart = branches(llama, [7, 8, 9], 2, 2)
    assert [list(row) for row in apart.ids] == [[7, 8, 9]] * 2, "somebody's hooks would see packed rows"
    assert not apart.packed


@pytest.mark.parametrize("tokens", ["last", "mean", "all", -2])
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_shared_beginnings_give_the_numbers_of_texts_alone(tiny, tokens, batch_size):
    alone = capture(tiny, TWINS, "*", tokens=tokens, batch_size=1, share_prefixes=False)
    shared = capture(tiny, TWINS, "*", tokens=tokens, batch_size=batch_size, share_prefixes=True)
    assert shared.position.tolist() == alone.position.tolist()
    for site, values in alone.values.items():
        assert (shared.values[site] - values).norm() <= 1e-5 * values.norm(), site


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(3, 6), min_size=1, max_size=70), min_size=1, max_size=30), st.integers(1, 40))
def test_every_token_of_every_text_has_its_slot_once(encoded, batch_size):
    model = probes.load_model(
        AutoModelForCausalLM.from_config(_config()).eval(), tokenizer=SimpleNamespace(pad_token_id=0, eos_token_id=0)
    )
    passes = plan_passes(model, encoded, batch_size, share=True)
    seen = {}
    for one in passes:
        for path in one.paths:
            assert path.text not in seen
            seen[path.text] = [one.ids[path.row][slot] for slot in path.slots]
            assert list(path.slots) == sorted(set(path.slots))
        mask = one.inputs(model)["attention_mask"][:, 0] == 0
        assert mask.any(-1).all(), "a slot that attends to nothing has no softmax, an empty one too"
    assert seen == dict(enumerate(encoded))
    assert tokens_in(passes) <= sum(map(len, encoded))


def _config():
    from transformers import LlamaConfig

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    return LlamaConfig(vocab_size=16, max_position_embeddings=128, **sizes)


def test_sharing_is_chosen_where_it_pays_and_left_where_it_does_not(llama):
    twins, apart = ([llama.encode(text) for text in texts] for texts in (TWINS, APART))
    assert all(one.packed for one in plan_passes(llama, twins, 32))
    assert tokens_in(plan_passes(llama, twins, 32)) < 0.5 * sum(map(len, twins))
    assert not any(one.packed for one in plan_passes(llama, apart, 32))
    assert not any(one.packed for one in plan_passes(llama, twins, 32, share=False))


def test_hooks_of_others_see_texts_and_never_packed_rows(llama):
    shapes = []
    handle = llama.blocks[0].module.register_forward_hook(lambda m, a, out: shapes.append(out.shape[0]))
    capture(llama, TWINS)
    handle.remove()
    assert shapes[-1] == len(TWINS)
    with edits(llama, {"resid_post.0": lambda tensor: tensor * 2}):
        assert not any(one.packed for one in plan_passes(llama, [llama.encode(text) for text in TWINS], 32))
        with pytest.raises(BadInput, match="somebody's hooks"):
            capture(llama, TWINS, share_prefixes=True)


def test_hooks_that_transformers_leaves_behind_do_not_count(llama):
    with torch.no_grad():
        llama.module(**llama.collate([llama.encode("the capital")]), output_hidden_states=True, output_attentions=False)
    assert not llama.hooked


def test_a_model_with_positions_of_its_own_is_read_plainly(tokenizer):
    config = BloomConfig(vocab_size=64, hidden_size=16, n_layer=2, n_head=2)
    model = probes.load_model(AutoModelForCausalLM.from_config(config).eval(), tokenizer=tokenizer)
    assert not model.packs
    capture(model, TWINS)
    with pytest.raises(BadInput, match="BloomForCausalLM does not take a mask and positions"):
        capture(model, TWINS, share_prefixes=True)


def test_texts_longer_than_a_sliding_window_are_read_plainly(tokenizer):
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = MistralConfig(vocab_size=64, num_key_value_heads=2, sliding_window=6, **sizes)
    model = probes.load_model(AutoModelForCausalLM.from_config(config).eval(), tokenizer=tokenizer)
    with pytest.raises(BadInput, match="looks back 6"):
        capture(model, TWINS, share_prefixes=True)
    short = [" ".join(text.split()[:4]) for text in TWINS]
    alone = capture(model, short, share_prefixes=False, batch_size=1)
    shared = capture(model, short, share_prefixes=True)
    for site, values in alone.values.items():
        assert (shared.values[site] - values).norm() <= 1e-5 * values.norm()


def test_very_long_texts_are_read_plainly(llama):
    with pytest.raises(BadInput, match=f"packed up to {LONGEST}"):
        plan_passes(llama, [[5] * (LONGEST + 1)], 32, share=True)
    assert not plan_passes(llama, [[5] * (LONGEST + 1)], 32)[0].packed


@pytest.mark.embedded
def test_twins_of_the_embedded_model_agree_to_rounding(embedded_model):
    texts = [s.text for s in probes.load_topic("cities").statements()[:40]]
    assert embedded_model.packs
    alone = capture(embedded_model, texts, batch_size=1, share_prefixes=False)
    shared = capture(embedded_model, texts, share_prefixes=True)
    worst = max(float((shared.values[s] - v).norm() / v.norm()) for s, v in alone.values.items())
    assert worst < 1e-5
