"""A model is opened the same way from a folder, a ready model or a name; whatever cannot be opened says why."""

import copy

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

import probes
from probes import BadInput, CouldNotRun, NotFound, Site, taps

ARCHITECTURES = {
    "llama": {},
    "mistral": {},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "query_pre_attn_scalar": 8},
    "gemma3_text": {"head_dim": 8, "query_pre_attn_scalar": 8},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4},
    "gpt_neox": {},
    "phi": {},
    "phi3": {},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "olmo2": {},
}
SIDE_BY_SIDE = {"gpt_neox", "phi"}


def random_model(kind: str, **more) -> nn.Module:
    torch.manual_seed(0)
    options = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 64, "max_position_embeddings": 64, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1,
    }  # fmt: skip
    if kind in ("gpt2", "gpt_neox", "opt", "phi"):
        del options["num_key_value_heads"]
    if kind == "gpt2":
        for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
            del options[name]
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**options, **ARCHITECTURES[kind], **more}))


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_architecture_of_the_list_opens_and_its_sublayers_add_up(kind, tokenizer):
    model = probes.load_model(random_model(kind), tokenizer=tokenizer)
    assert (model.n_layers, model.d_model) == (3, 32)
    seen = {}
    names = ("resid_pre", "attn_out", "mlp_out", "resid_post")
    with taps(model, [f"{name}.1" for name in names], lambda site, tensor: seen.__setitem__(site.name, tensor)):
        model.body(**model.collate([model.encode("the capital of France")]), use_cache=False)
    torch.testing.assert_close(
        seen["resid_pre"] + seen["attn_out"] + seen["mlp_out"], seen["resid_post"], rtol=1e-4, atol=1e-5
    )
    if kind in SIDE_BY_SIDE:
        with pytest.raises(BadInput, match="side by side"):
            model.check(Site("resid_mid", 1))
    else:
        model.check(Site("resid_mid", 1))


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox", "opt"])
def test_batches_of_every_architecture_score_like_one_text_alone(kind, tokenizer):
    model = probes.load_model(random_model(kind), tokenizer=tokenizer)
    texts = ["the capital of France is Paris", "cheese", "which river say me now please"]
    together = probes.capture(model, texts, tokens="all")
    alone = [probes.capture(model, [text], tokens="all").values[Site("resid_post", 2)] for text in texts]
    torch.testing.assert_close(together.values[Site("resid_post", 2)], torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_a_post_norm_decoder_is_refused_inside_the_block_and_opens_outside(tokenizer):
    model = probes.load_model(random_model("opt", do_layer_norm_before=False), tokenizer=tokenizer)
    probes.capture(model, ["the capital"], "resid_post.*")
    with pytest.raises(BadInput, match=r"attn_out.1 is not defined for OPTForCausalLM.*use resid_pre or resid_post"):
        probes.capture(model, ["the capital"], "attn_out.1")


def test_a_model_without_decoder_blocks_says_what_was_looked_for(tokenizer):
    class NoBlocks(nn.Module):
        config = AutoConfig.for_model("llama", num_hidden_layers=3)

        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])

    with pytest.raises(BadInput, match=r"Looked for a ModuleList of 3 members.*layers \(3 x Linear\)"):
        probes.load_model(NoBlocks(), tokenizer=tokenizer)


def test_a_module_without_configuration_is_refused(tokenizer):
    with pytest.raises(BadInput, match="no configuration"):
        probes.load_model(nn.Linear(2, 2), tokenizer=tokenizer)


def test_meta_tensors_are_refused(tokenizer):
    with torch.device("meta"):
        module = random_model("llama")
    with pytest.raises(BadInput, match="meta tensors"):
        probes.load_model(module, tokenizer=tokenizer)


def test_a_folder_opens_with_its_tokenizer_and_keeps_its_numbers(tiny, tmp_path):
    tiny.module.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    opened = probes.load_model(tmp_path, device="cpu")
    site = Site("resid_post", 2)
    text = ["the capital of France"]
    assert torch.equal(probes.capture(opened, text).values[site], probes.capture(tiny, text).values[site])
    assert opened.fingerprint == tiny.fingerprint


def test_dtype_is_taken_as_asked(tiny, tmp_path):
    tiny.module.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    assert probes.load_model(tmp_path, device="cpu").dtype == torch.float32
    assert probes.load_model(tmp_path, device="cpu", dtype="bfloat16").dtype == torch.bfloat16
    with pytest.raises(BadInput, match="float61.*did you mean 'float16'"):
        probes.load_model(tmp_path, dtype="float61")


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        ("smollm2-135", NotFound, "did you mean 'smollm2-135m'"),
        ("/no/such/folder", NotFound, "no folder, no hub id"),
        (3, BadInput, "cannot load a model from a int"),
    ],
)
def test_an_unknown_model_is_one_clear_error(source, error, says):
    with pytest.raises(error, match=says):
        probes.load_model(source)


def test_a_folder_without_a_model_says_what_is_missing(tmp_path):
    with pytest.raises(NotFound, match=r"config\.json is missing"):
        probes.load_model(tmp_path)


def test_a_pickled_checkpoint_is_refused_and_not_unpickled(tiny, tmp_path):
    tiny.module.config.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self):
            return (open, (str(canary), "w"))

    torch.save({"weight": Bomb()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CouldNotRun, match="cannot open"):
        probes.load_model(tmp_path, device="cpu")
    assert not canary.exists()


def test_a_truncated_checkpoint_is_one_line(tiny, tmp_path):
    tiny.module.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CouldNotRun, match="cannot open") as caught:
        probes.load_model(tmp_path, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_ready_model_needs_its_tokenizer():
    with pytest.raises(BadInput, match="needs its tokenizer"):
        probes.load_model(random_model("llama"))


def test_a_fetched_name_that_is_not_there_says_how_to_fetch_it(tmp_path, monkeypatch):
    monkeypatch.setenv("BELIEF_CACHE", str(tmp_path))
    with pytest.raises(CouldNotRun, match="belief fetch smollm2-135m"):
        probes.load_model("smollm2-135m")


def test_a_text_is_encoded_as_the_tokenizer_begins_one_and_a_chat_up_to_its_answer(llama):
    words = llama.tokenizer.convert_ids_to_tokens
    assert words(llama.encode("the capital")) == ["the", "capital"]
    assert words(llama.encode([{"role": "user", "content": "which city"}])) == ["<user>", "which", "city", "<answer>"]


def test_too_long_empty_and_chat_without_template_are_refused(llama):
    with pytest.raises(BadInput, match="200 tokens; .* reads at most 128"):
        llama.encode("the " * 200)
    with pytest.raises(BadInput, match="no tokens"):
        llama.encode("")
    bare = probes.load_model(llama.module, tokenizer=copy.deepcopy(llama.tokenizer))
    bare.tokenizer.chat_template = None
    with pytest.raises(BadInput, match="no chat template"):
        bare.encode([{"role": "user", "content": "which city"}])


def test_padding_goes_to_the_side_asked_for_under_a_mask(llama):
    right = llama.collate([[5, 6, 7], [8]])
    assert right["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert right["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert llama.collate([[5, 6, 7], [8]], side="left")["input_ids"].tolist() == [[5, 6, 7], [0, 0, 8]]


@pytest.mark.embedded
@pytest.mark.parametrize("text", ["The caf\u00e9 is \U0001f600 here.", "Reykjav\u00edk, N'Djamena"])
def test_the_words_of_tokens_join_to_the_text(embedded_model, text):
    words = embedded_model.words(embedded_model.encode(text))
    assert "".join(words) == text
    assert "\ufffd" not in "".join(words)
    assert len(words) == len(embedded_model.encode(text))


def test_a_wrong_device_is_named():
    with pytest.raises(BadInput, match="'qpu' is no device"):
        probes.load_model("smollm2-135m", device="qpu")


@pytest.mark.embedded
def test_the_embedded_model_knows_the_capital_of_france(embedded_model):
    assert (embedded_model.n_layers, embedded_model.d_model) == (30, 576)
    assert embedded_model.generate("The capital of France is", max_new_tokens=1) == " Paris"
