"""Toy: of "the capital of France" (four tokens), "last" is token 3, index 0 token 0, "mean" the mean of all four."""

import pytest
import torch

from probes import BadInput, Site, capture
from probes.facts.facts import Fact, Statement

TEXTS = ["the capital of France is Paris", "cheese", "which river", "the city of Rome is not a river please"]
POST = Site("resid_post", 1)


def test_rows_follow_the_texts_and_their_tokens(tiny):
    every = capture(tiny, TEXTS, tokens="all", batch_size=2)
    assert every.example.tolist() == [0] * 6 + [1] + [2] * 2 + [3] * 9
    assert every.position.tolist() == [*range(6), 0, *range(2), *range(9)]
    last = capture(tiny, TEXTS, tokens="last", batch_size=2)
    assert last.example.tolist() == [0, 1, 2, 3]
    assert last.position.tolist() == [5, 0, 1, 8]
    torch.testing.assert_close(last.values[POST], every.values[POST][[5, 6, 8, 17]], rtol=1e-5, atol=1e-6)


def test_rules_agree_with_each_other(tiny):
    every = capture(tiny, TEXTS, tokens="all")
    mean = capture(tiny, TEXTS, tokens="mean")
    for i in range(len(TEXTS)):
        torch.testing.assert_close(
            mean.values[POST][i], every.values[POST][every.example == i].mean(0), rtol=1e-5, atol=1e-5
        )
    assert mean.position.tolist() == [-1] * 4
    first, minus_one = capture(tiny, TEXTS, tokens=0), capture(tiny, TEXTS, tokens=-1)
    assert torch.equal(minus_one.values[POST], capture(tiny, TEXTS, tokens="last").values[POST])
    torch.testing.assert_close(first.values[POST], every.values[POST][every.position == 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 32])
def test_a_batch_gives_the_numbers_of_one_text_at_a_time(tiny, batch_size):
    reference = capture(tiny, TEXTS, "*", batch_size=1)
    batched = capture(tiny, TEXTS, "*", batch_size=batch_size)
    for site, values in reference.values.items():
        assert (batched.values[site] - values).norm() <= 1e-5 * values.norm(), site


def test_values_equal_hugging_face_hidden_states(tiny):
    got = capture(tiny, TEXTS, "resid_pre.*", tokens="all")
    for i, text in enumerate(TEXTS):
        with torch.no_grad():
            states = tiny.module(**tiny.collate([tiny.encode(text)]), output_hidden_states=True).hidden_states
        for layer in range(3):
            torch.testing.assert_close(
                got.values[Site("resid_pre", layer)][got.example == i], states[layer][0], rtol=1e-5, atol=1e-5
            )


def test_nothing_behind_the_deepest_site_is_computed(tiny, hooks_of):
    ran = []
    handles = [block.module.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, block in enumerate(tiny.blocks)]
    handles.append(tiny.module.get_output_embeddings().register_forward_hook(lambda *_: ran.append("logits")))
    tiny.check(POST)
    ran.clear()
    before = hooks_of(tiny.module)
    capture(tiny, TEXTS, "resid_pre.1")
    assert ran == [0]
    ran.clear()
    capture(tiny, TEXTS, "resid_post.*")
    assert "logits" not in ran
    assert hooks_of(tiny.module) == before
    for handle in handles:
        handle.remove()


def test_statements_bring_their_labels_and_groups(tiny):
    fact = Fact("France", "capital", "Paris")
    pair = [
        Statement("the capital of France is Paris", True, True, "France", "affirmed", fact),
        Statement("the capital of France is Rome", False, True, "France", "affirmed", fact),
    ]
    got = capture(tiny, pair)
    assert got.labels.tolist() == [True, False]
    assert got.groups == ("France", "France")
    assert got.texts == ("the capital of France is Paris", "the capital of France is Rome")


def test_chats_are_read_where_the_answer_starts(llama):
    chat = [{"role": "user", "content": "which city"}]
    got = capture(llama, [chat, "the capital"])
    assert got.position.tolist() == [3, 1]


def test_float16_and_bfloat16_models_give_float32_on_the_host(build):
    model = build("llama")
    exact = capture(model, TEXTS).values[POST]
    model.module.bfloat16()
    rough = capture(model, TEXTS).values[POST]
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).norm() / exact.norm() < 0.05


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"texts": []}, "empty"),
        ({"texts": "the capital"}, "one string"),
        ({"texts": ["the capital", ""]}, "text 1: .*no tokens"),
        ({"texts": ["the " * 200]}, "text 0: .*200 tokens.*at most 128"),
        ({"texts": ["the capital"], "tokens": "first"}, "'first' is no token rule.*'last', 'mean', 'all'"),
        ({"texts": ["the capital", "the"], "tokens": 1}, "text 1: it has 1 tokens to read, so no token 1"),
        ({"texts": ["the capital"], "tokens": True}, "no token rule"),
        ({"texts": ["the capital"], "labels": [True, False]}, "2 labels for 1 texts"),
        ({"texts": ["the capital"], "batch_size": 0}, "at least 1"),
    ],
)
def test_bad_input_is_one_clear_error(llama, arguments, says):
    with pytest.raises(BadInput, match=says):
        capture(llama, **arguments)


def test_a_broken_model_is_named_with_text_and_site(llama):
    with torch.no_grad():
        llama.module.get_input_embeddings().weight[llama.encode("cheese")[0]] = float("nan")
    with pytest.raises(BadInput, match=r"text 1: the activation at resid_post\.0 is not finite"):
        capture(llama, ["the river", "cheese", "which"], batch_size=3)
    with pytest.raises(BadInput, match="text 1"):
        capture(llama, ["the river of Rome", "the cheese", "which"], tokens="mean", batch_size=3)
    capture(llama, ["the river", "which"])


@pytest.mark.gpu
def test_a_model_on_a_gpu_gives_the_numbers_of_the_host(build):
    device = "cuda" if torch.cuda.is_available() else "mps"
    model = build("llama")
    host = capture(model, TEXTS).values[POST]
    model.module.to(device)
    torch.testing.assert_close(capture(model, TEXTS).values[POST], host, rtol=1e-4, atol=1e-4)
