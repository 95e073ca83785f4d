"""What a model is, in named parts: what changes which part, and what changes none."""

import copy
import hashlib
import struct
import time
from types import SimpleNamespace

import pytest
import torch
from tokenizers import AddedToken
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from probes.errors import CouldNotRun, Mismatch
from probes.model import fingerprint as module_under_test
from probes.model.fingerprint import differing, fingerprint, match

SIZES = {"vocab_size": 40, "bos_token_id": 1, "eos_token_id": 1}
BLOCKS = {"llama": lambda model: model.model.layers, "gpt2": lambda model: model.transformer.h}
ALL_WEIGHTS = ["weights.embed", "weights.block.0", "weights.block.1", "weights.block.2", "weights.rest"]


def make(name="llama", seed=0, **options):
    torch.manual_seed(seed)
    if name == "llama":
        heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 3}
        config = LlamaConfig(hidden_size=16, intermediate_size=24, **heads, **{**SIZES, **options})
    else:
        config = GPT2Config(n_embd=16, n_layer=3, n_head=2, n_positions=32, **{**SIZES, **options})
    return AutoModelForCausalLM.from_config(config).eval()


def of(model, tokenizer=None, name="llama"):
    return fingerprint(model, tokenizer, BLOCKS[name](model))


@pytest.fixture(params=["llama", "gpt2"])
def either(request):
    """The name of an architecture."""
    return request.param


class Toy(nn.Module):
    """Two blocks of one weight each, an embedding, and a final scale."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(1, 2)
        self.blocks = nn.ModuleList([nn.Linear(1, 1, bias=False) for _ in range(2)])
        self.scale = nn.Parameter(torch.tensor([3.0]))
        self.config = SimpleNamespace(
            to_dict=lambda: {"layers": 2, "use_cache": True, "_name_or_path": "x", "new": None}
        )

    def get_input_embeddings(self):
        return self.embed


def test_a_toy_worked_by_hand():
    """Block 1 holds the weight 1/3: a digest in each dtype, of name, shape and the bytes of one number."""
    toy = Toy()
    with torch.no_grad():
        toy.blocks[1].weight.fill_(1 / 3)
    parts = fingerprint(toy, None, toy.blocks)
    assert list(parts) == [
        *("config", "weights.embed", "weights.block.0", "weights.block.1", "weights.rest"),
        *("tokenizer", "template", "dtype"),
    ]
    assert (parts["tokenizer"], parts["template"], parts["dtype"]) == ("none", "none", "float32")
    head = b"weight [1, 1] float\n"
    third = struct.pack("<f", 1 / 3)
    views = {
        "float32": third,
        "bfloat16": b"\xab\x3e",  # 0x3eaaaaab, rounded up to its upper half
        "float16": struct.pack("<e", 1 / 3),
    }
    expected = " ".join(f"{name}:{hashlib.sha256(head + raw).hexdigest()[:32]}" for name, raw in views.items())
    assert parts["weights.block.1"] == expected
    assert parts["config"] == hashlib.sha256(b'{"layers":2}').hexdigest()[:32]


def test_the_same_model_has_the_same_fingerprint_and_another_seed_has_other_weights(either, tokenizer):
    first = of(make(either), tokenizer, either)
    model = make(either)
    assert of(model, tokenizer, either) == first == of(copy.deepcopy(model), tokenizer, either)
    assert differing(first, of(make(either, seed=1), tokenizer, either)) == ALL_WEIGHTS[:4] + (
        ["weights.rest"]  # untied head in Llama, positions in GPT-2
    )


def test_running_freezing_hooking_and_training_mode_change_nothing(either):
    model = make(either)
    before = of(model, None, either)
    with torch.no_grad():
        model(torch.tensor([[1, 2, 3]]))
    model.train().requires_grad_(False)
    handle = model.register_forward_hook(lambda *_: None)
    assert of(model, None, either) == before
    handle.remove()


def change(parameter, bits=1):
    """Change the lowest bit of one number."""
    with torch.no_grad():
        flat = parameter.view(-1).view(torch.int16 if parameter.element_size() == 2 else torch.int32)
        flat[-1] ^= bits


@pytest.mark.parametrize(
    ("pick", "part"),
    [
        (lambda m: m.model.layers[1].mlp.down_proj.weight, "weights.block.1"),
        (lambda m: m.model.layers[2].input_layernorm.weight, "weights.block.2"),
        (lambda m: m.model.embed_tokens.weight, "weights.embed"),
        (lambda m: m.model.norm.weight, "weights.rest"),
        (lambda m: m.lm_head.weight, "weights.rest"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_lowest_bit_of_one_weight_is_seen_and_its_part_named(pick, part, dtype):
    model = make().to(dtype)
    before = of(model)
    change(pick(model))
    after = of(model)
    assert differing(before, after) == [part]
    with pytest.raises(Mismatch) as caught:
        match(before, after)
    assert caught.value.parts == (part,)
    change(pick(model))
    assert of(model) == before


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
def test_loads_of_one_checkpoint_in_several_dtypes_differ_in_the_dtype_alone(tmp_path, stored, either, tokenizer):
    make(either).to(stored).save_pretrained(tmp_path)
    loads = {d: AutoModelForCausalLM.from_pretrained(tmp_path, dtype=d) for d in ("float32", "bfloat16", "float16")}
    parts = {dtype: of(model, tokenizer, either) for dtype, model in loads.items()}
    assert [parts[dtype]["dtype"] for dtype in parts] == list(parts)
    for coarse in ("bfloat16", "float16"):
        assert differing(parts["float32"], parts[coarse]) == ["dtype"] == differing(parts[coarse], parts["float32"])
        assert match(parts["float32"], parts[coarse], allow={"dtype"}) == ("dtype",)
    # The sanity half: a weight changed by more than rounding is seen across dtypes as well.
    block = BLOCKS[either](loads["bfloat16"])[1]
    change(next(p for p in block.parameters() if p.dim() > 1), bits=2)
    assert differing(parts["float32"], of(loads["bfloat16"], tokenizer, either)) == ["weights.block.1", "dtype"]


def test_a_float32_checkpoint_and_its_copy_rounded_to_bfloat16_are_two_models():
    model = make()
    rounded = make().bfloat16().float()
    changed = differing(of(model), of(rounded))
    assert set(changed) == set(ALL_WEIGHTS)
    assert of(model)["dtype"] == of(rounded)["dtype"]


def test_a_saved_and_loaded_model_is_the_same_model(tmp_path, either, tokenizer):
    model = make(either)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    assert of(loaded, tokenizer, either) == of(model, tokenizer, either)


def test_a_tied_head_counts_once():
    tied = make(tie_word_embeddings=True)
    before = of(tied)
    change(tied.lm_head.weight)
    assert differing(before, of(tied)) == ["weights.embed"]
    parted = copy.deepcopy(tied)
    parted.lm_head.weight = nn.Parameter(parted.lm_head.weight.detach().clone())
    assert differing(of(tied), of(parted)) == ["weights.rest"]


def test_a_merged_lora_changes_the_layers_it_touched_and_an_attached_one_does_too():
    model = make()
    before = of(model)
    torch.manual_seed(3)
    low, high = torch.randn(1, 16), torch.randn(16, 1)
    for layer in (0, 2):
        with torch.no_grad():
            model.model.layers[layer].self_attn.q_proj.weight += 1e-3 * (high @ low)
    assert differing(before, of(model)) == ["weights.block.0", "weights.block.2"]
    attached = make()
    attached.model.layers[1].self_attn.q_proj.lora_a = nn.Linear(16, 1, bias=False)
    assert differing(before, of(attached)) == ["weights.block.1"]


class Int8Linear(nn.Module):
    """How quantisers keep a matrix: whole numbers, and a scale a row."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        self.weight = nn.Parameter((linear.weight.detach() / scale).round().to(torch.int8), requires_grad=False)
        self.register_buffer("scale", scale)


def test_int8_differs_from_floating_weights_and_from_other_int8():
    model, quantised = make(), make()
    before = of(model)
    projection = quantised.model.layers[1].mlp.up_proj
    quantised.model.layers[1].mlp.up_proj = Int8Linear(projection)
    after = of(quantised)
    assert differing(before, after) == ["weights.block.1", "dtype"]
    assert after["dtype"] == "float32+int8"
    with torch.no_grad():
        quantised.model.layers[1].mlp.up_proj.weight[0, 0] += 1
    assert differing(after, of(quantised)) == ["weights.block.1"]
    # Numbers that are equal as numbers are still another model where they are kept as another kind.
    whole, floating = make(), make()
    for one, dtype in ((whole, torch.int8), (floating, torch.float32)):
        one.model.layers[0].mlp.up_proj.weight = nn.Parameter(torch.ones(24, 16, dtype=dtype), requires_grad=False)
    assert "weights.block.0" in differing(of(whole), of(floating))


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_what_a_quantised_layer_keeps_aside_counts():
    """torch.ao packs weight and bias into a tuple of quantised tensors, with their scales."""

    class Packed(nn.Module):
        def __init__(self, kept):
            super().__init__()
            self.kept = kept

        def _save_to_state_dict(self, destination, prefix, keep_vars):
            destination[prefix + "packed"] = self.kept

    weight = torch.linspace(-1, 1, 6).reshape(2, 3)

    def packed(scale=0.1, bias=0.0, axis=None):
        scales, zeros = torch.tensor([scale, 0.2]), torch.tensor([0, 0])
        whole = (
            torch.quantize_per_tensor(weight, scale, 0, torch.qint8)
            if axis is None
            else torch.quantize_per_channel(weight, scales, zeros, axis, torch.qint8)
        )
        toy = Toy()
        nn.init.zeros_(toy.blocks[0].weight)
        toy.blocks[1] = Packed((whole, torch.tensor([bias]), None, torch.qint8, "x"))
        return fingerprint(toy, None, toy.blocks)["weights.block.1"]

    found = [packed(), packed(scale=0.2), packed(bias=1.0), packed(axis=0), packed(scale=0.3, axis=0)]
    assert len(set(found)) == len(found)
    assert packed(axis=0) == packed(axis=0)
    toy = Toy()
    toy.blocks[1] = Packed(object())
    with pytest.raises(CouldNotRun, match="packed is a object, which has no digest"):
        fingerprint(toy, None, toy.blocks)


def test_persistent_buffers_count_and_passing_ones_do_not():
    model = make()
    before = of(model)
    model.model.layers[0].register_buffer("cache", torch.ones(2), persistent=False)
    assert of(model) == before
    model.model.layers[0].register_buffer("mask", torch.ones(2, dtype=torch.bool))
    after = of(model)
    assert differing(before, after) == ["weights.block.0"]
    model.model.layers[0].mask[1] = False
    assert differing(after, of(model)) == ["weights.block.0"]


def test_names_and_shapes_count_beside_the_numbers():
    toy = Toy()
    before = fingerprint(toy, None, toy.blocks)["weights.embed"]
    numbers = toy.embed.weight.detach()
    toy.embed.weight = nn.Parameter(numbers.reshape(2, 1))
    assert fingerprint(toy, None, toy.blocks)["weights.embed"] != before
    toy.embed = nn.Module()
    toy.embed.matrix = nn.Parameter(numbers)
    assert fingerprint(toy, None, toy.blocks)["weights.embed"] != before


@pytest.mark.parametrize("chunk", [1, 7, 24, 100])
def test_how_it_is_cut_into_pieces_and_laid_out_in_memory_changes_nothing(monkeypatch, chunk):
    model = make()
    before = of(model)
    monkeypatch.setattr(module_under_test, "CHUNK", chunk)
    assert of(model) == before
    for parameter in model.model.layers.parameters():
        if parameter.dim() == 2:
            parameter.data = parameter.data.T.contiguous().T
            assert not parameter.is_contiguous()
        else:
            parameter.data = torch.stack([parameter.data, parameter.data], 1)[:, 0]
            assert not parameter.is_contiguous()
    assert of(model) == before


def test_a_model_without_values_is_refused():
    with torch.device("meta"):
        model = make()
    with pytest.raises(CouldNotRun, match="has no values .*meta device"):
        of(model)


def test_compiling_changes_nothing():
    model = make()
    before = of(model)
    model.model.layers[0] = torch.compile(model.model.layers[0], backend="eager")
    assert of(model) == before


def test_how_a_model_is_run_stored_or_labelled_is_no_part_of_its_configuration():
    model = make()
    before = of(model)
    config = model.config
    config.use_cache, config.pad_token_id, config.eos_token_id, config.name_or_path = False, 3, 5, "elsewhere"
    config.output_hidden_states, config.transformers_version, config.architectures = True, "99", ["Other"]
    config.field_of_a_later_version = None
    model.set_attn_implementation("eager")
    assert of(model) == before
    config.rms_norm_eps = 1e-5
    assert differing(before, of(model)) == ["config"]
    config.rms_norm_eps = 1e-6
    config.rope_parameters = {**config.rope_parameters, "rope_theta": 5e5}
    assert differing(before, of(model)) == ["config"]


def test_padding_and_truncating_leave_the_tokenizer_what_it_is(tokenizer):
    mine = copy.deepcopy(tokenizer)
    model = make()
    before = of(model, mine)
    mine(["the capital", "of"], padding=True, truncation=True, max_length=2)
    assert mine.backend_tokenizer.padding is not None  # the sanity half: it did leave something behind
    mine.padding_side = "left"
    assert of(model, mine) == before == of(model, tokenizer)
    mine.add_tokens(["Lisbon"])
    assert differing(before, of(model, mine)) == ["tokenizer"]
    assert differing(before, of(model, None)) == ["tokenizer", "template"]


def test_another_rule_of_the_tokenizer_is_another_tokenizer(tokenizer):
    mine = copy.deepcopy(tokenizer)
    before = of(make(), mine)["tokenizer"]
    from tokenizers.normalizers import Lowercase

    mine.backend_tokenizer.normalizer = Lowercase()
    assert of(make(), mine)["tokenizer"] != before


def test_the_chat_template_and_the_tokens_it_names_are_one_part(tokenizer):
    mine = copy.deepcopy(tokenizer)
    model = make()
    before = of(model, mine)
    mine.chat_template = mine.chat_template + " "
    assert differing(before, of(model, mine)) == ["template"]
    mine.chat_template = "{{ eos_token }}"
    named = of(model, mine)
    mine.pad_token = "<unk>"
    assert of(model, mine)["template"] == named["template"]
    mine.eos_token = "<unk>"
    assert of(model, mine)["template"] != named["template"]
    mine.chat_template = None
    assert of(model, mine)["template"] == "none"


def test_a_tokenizer_without_a_fast_core_is_told_by_its_words():
    def slow(words, proto=b"1"):
        pieces = SimpleNamespace(serialized_model_proto=lambda: proto)
        added = {3: AddedToken("<x>")}
        return SimpleNamespace(get_vocab=lambda: words, added_tokens_decoder=added, sp_model=pieces, chat_template=None)

    digests = [
        of(make(), slow(*given))["tokenizer"] for given in (({"a": 0},), ({"a": 0},), ({"a": 1},), ({"a": 0}, b"2"))
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_a_tensor_that_cannot_be_read_is_one_clear_error(monkeypatch):
    model = make()
    monkeypatch.setattr(torch.Tensor, "view", lambda *_: (_ for _ in ()).throw(NotImplementedError("no view")))
    with pytest.raises(CouldNotRun, match="cannot be read: NotImplementedError; load the model whole"):
        of(model)


@pytest.mark.gpu
def test_a_model_on_another_device_is_the_same_model(either):
    device = "cuda" if torch.cuda.is_available() else "mps"
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        model = make(either).to(dtype)
        assert of(model, None, either) == of(copy.deepcopy(model).to(device), None, either)


@pytest.mark.slow
@pytest.mark.embedded
def test_the_embedded_model_takes_less_than_two_seconds(embedded_model):
    """135 million parameters; seconds of the processor, all threads together, since the machine may have other work."""
    times = []
    for _ in range(3):
        start = time.process_time()
        found = embedded_model.fingerprint
        times.append(time.process_time() - start)
    assert len(found) == 30 + 6
    assert min(times) <= 2


def test_a_second_look_is_remembered_and_any_write_is_seen(monkeypatch):
    model = make()
    first = of(model)
    calls = []
    real = module_under_test._digest_values
    monkeypatch.setattr(module_under_test, "_digest_values", lambda state: calls.append(1) or real(state))
    assert of(model) == first
    assert not calls
    model.model.layers[1].mlp.up_proj.weight.data[3, 2] += 1e-6  # past every version counter of torch
    assert differing(of(model), first) == ["weights.block.1"]
    assert len(calls) == 1
    weight = model.model.layers[2].mlp.up_proj.weight.data
    weight[[0, 1]] = weight[[1, 0]]  # the same numbers in another order
    assert differing(of(model), first) == ["weights.block.1", "weights.block.2"]
