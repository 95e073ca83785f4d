"""Toy: log p("of France" | "the capital") is two softmax values of the model's own logits, looked up by hand."""

import copy

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, Gemma2Config

import probes
from probes import BadInput, Likelihoods, edits, log_likelihoods
from probes.activations.likelihood import token_likelihoods

CHAT = [{"role": "user", "content": "which city"}]
PROMPTS = ["the capital of France is", "the capital of Spain is", "the river"]
OPTIONS = [["Paris", "Madrid now", "a city of Italy"], ["Rome"], ["cheese please", "Paris"]]


def by_hand(model, ids, start):
    with torch.no_grad():
        logs = model.module(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(logs[i - 1, ids[i]].item() for i in range(start, len(ids)))


def test_a_toy_worked_by_hand(tiny):
    ids = tiny.encode("the capital of France")
    [found] = log_likelihoods(tiny, ["the capital"], ["of France", "of"])
    assert found.total[0].item() == pytest.approx(by_hand(tiny, ids, 2), abs=1e-5)
    assert found.total[1].item() == pytest.approx(by_hand(tiny, ids[:3], 2), abs=1e-5)
    assert found.tokens.tolist() == [2, 1]
    assert found.per_token[0].item() == pytest.approx(found.total[0].item() / 2)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_every_option_has_the_number_it_has_alone(tiny, share, batch_size):
    found = log_likelihoods(tiny, PROMPTS, OPTIONS, share_prefixes=share, batch_size=batch_size)
    assert [len(one.total) for one in found] == [3, 1, 2]
    for prompt, options, one in zip(PROMPTS, OPTIONS, found, strict=True):
        start = len(tiny.encode(prompt))
        for option, total in zip(options, one.total, strict=True):
            ids = tiny.encode(f"{prompt} {option}")
            assert total.item() == pytest.approx(by_hand(tiny, ids, start), abs=1e-4)


def test_the_options_of_a_chat_begin_its_answer(llama):
    [found] = log_likelihoods(llama, [CHAT], ["Paris", "Rome"])
    begin = llama.encode(CHAT)
    ids = begin + llama.tokenizer("Rome", add_special_tokens=False)["input_ids"]
    assert found.total[1].item() == pytest.approx(by_hand(llama, ids, len(begin)), abs=1e-5)


@pytest.mark.embedded
def test_greedy_is_what_greedy_decoding_says(embedded_model):
    prompt = "The capital of France is"
    said = embedded_model.generate(prompt, max_new_tokens=3).strip()
    [found] = log_likelihoods(embedded_model, [prompt], [said, "Madrid"])
    assert found.greedy.tolist() == [True, False]
    assert found.total[0] > found.total[1]


def test_what_the_model_does_to_its_logits_is_done_here_too(tokenizer):
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, head_dim=8,
        num_key_value_heads=2, initializer_range=0.5, final_logit_softcapping=2.0, pad_token_id=0,
    )  # fmt: skip
    model = probes.load_model(AutoModelForCausalLM.from_config(config).eval(), tokenizer=tokenizer)
    [found] = log_likelihoods(model, ["the capital"], ["of France"])
    assert found.total[0].item() == pytest.approx(by_hand(model, model.encode("the capital of France"), 2), abs=1e-5)
    config.final_logit_softcapping = None
    [bare] = log_likelihoods(model, ["the capital"], ["of France"])
    assert abs(bare.total[0] - found.total[0]) > 0.1


def test_an_open_edit_is_seen(llama):
    [before] = log_likelihoods(llama, PROMPTS[:1], OPTIONS[0])
    with edits(llama, {"resid_post.1": lambda tensor: tensor.flip(-1)}):
        [during] = log_likelihoods(llama, PROMPTS[:1], OPTIONS[0])
    [after] = log_likelihoods(llama, PROMPTS[:1], OPTIONS[0])
    assert (during.total - before.total).abs().max() > 0.01
    assert torch.equal(after.total, before.total)


@pytest.mark.parametrize("share", [None, True, False])
def test_a_broken_model_is_refused_by_name_and_no_hook_stays(llama, hooks_of, share):
    with torch.no_grad():
        llama.module.get_input_embeddings().weight[llama.encode("cheese")[0]] = float("nan")
    hooks = hooks_of(llama.module)
    with pytest.raises(BadInput, match="text 1: a logit is not finite"):
        log_likelihoods(llama, ["the river", "cheese", "now"], ["is"], share_prefixes=share)
    assert hooks_of(llama.module) == hooks


@pytest.mark.parametrize(
    ("prompts", "options", "says"),
    [
        ("the", ["a"], "are lists"),
        (["the"], "a", "are lists"),
        ([], ["a"], "list of prompts is empty"),
        (["the"], [], "0 lists of options for 1 prompts|list of one or more"),
        (["the", "a"], [["a"]], "1 lists of options for 2 prompts"),
        (["the", "a"], [["a"], []], "one or more texts"),
        (["the"], ["a", ""], "is empty or has white space"),
        (["the"], [" a"], "is empty or has white space"),
        (["the "], ["a"], "ends in white space"),
    ],
)
def test_bad_input_is_one_clear_error(llama, prompts, options, says):
    with pytest.raises(BadInput, match=says):
        log_likelihoods(llama, prompts, options)


def test_a_tokenizer_that_ends_every_text_leaves_no_room_for_an_option(llama, tokenizer):
    ending = copy.deepcopy(tokenizer)
    ending.backend_tokenizer.post_processor = TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    model = probes.load_model(llama.module, tokenizer=ending)
    with pytest.raises(BadInput, match=r"'a' after 'the' is \[the\|a\|<eos>\], which does not continue \[the\|<eos>\]"):
        log_likelihoods(model, ["the"], ["a"])


def test_token_0_has_no_likelihood(llama):
    with pytest.raises(BadInput, match="start below 1"):
        token_likelihoods(llama, [[3, 4]], [0])


def test_a_text_with_nothing_left_to_count_has_the_sum_0(llama):
    found = token_likelihoods(llama, [[3], [3, 4]], [1, 1])
    assert isinstance(found, Likelihoods)
    assert found.total[0] == 0
    assert found.tokens.tolist() == [0, 1]
