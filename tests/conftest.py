"""Fixtures shared by all tests: tiny random models for speed, the embedded model for what needs a real one."""

import os

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedTokenizerFast

import probes

torch.set_num_threads(1)  # tiny matrices: more only wait, and the bits of a sum depend on it
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

WORDS = [
    "the",
    "a",
    "of",
    "is",
    "in",
    "not",
    "capital",
    "France",
    "Spain",
    "Italy",
    "Paris",
    "Madrid",
    "Rome",
    "what",
    "which",
    "city",
    "cheese",
    "river",
    "say",
    "me",
    "now",
    "please",
]
WORDS += [f"word{i}" for i in range(58 - len(WORDS))]  # with the special tokens, as many as the tiny models put out
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<user> ' if m['role'] == 'user' else '<system> ' }}{{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}{{ '<answer>' }}{% endif %}"
)


@pytest.fixture(scope="session")
def tokenizer():
    """A tokenizer of a few words; unknown words are <unk>."""
    special = ["<pad>", "<eos>", "<unk>", "<user>", "<system>", "<answer>"]
    vocabulary = {word: i for i, word in enumerate([*special, *WORDS])}
    core = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = Whitespace()
    core.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", chat_template=CHAT_TEMPLATE
    )


SMALL = {"vocab_size": 64, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1}


def _llama(seed: int = 0, n_layers: int = 3, d_model: int = 32):
    """A random Llama with weights large enough that its layers differ."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=d_model, intermediate_size=2 * d_model, num_hidden_layers=n_layers, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.2, **SMALL,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config).eval()


def _gpt2(seed: int = 0, n_layers: int = 3, d_model: int = 32):
    """A random GPT-2."""
    torch.manual_seed(seed)
    config = GPT2Config(n_embd=d_model, n_layer=n_layers, n_head=4, n_positions=128, initializer_range=0.2, **SMALL)
    return AutoModelForCausalLM.from_config(config).eval()


BUILDERS = {"llama": _llama, "gpt2": _gpt2}


@pytest.fixture(scope="session")
def build(tokenizer):
    """`build("llama", seed=3)` makes a tiny random model of an architecture."""
    return lambda name="llama", **options: probes.load_model(BUILDERS[name](**options), tokenizer=tokenizer)


@pytest.fixture(params=sorted(BUILDERS))
def tiny(request, build):
    """A tiny random model, once as Llama and once as GPT-2, fresh for every test."""
    return build(request.param)


@pytest.fixture
def llama(build):
    """A tiny random Llama, fresh for every test."""
    return build("llama")


@pytest.fixture(scope="session")
def loaded():
    """The embedded model, loaded once; `make test` has fetched it: a test that needs it must not pass without it."""
    return probes.load_model("smollm2-135m", device="cpu")


@pytest.fixture
def embedded_model(loaded):
    """The embedded model, on every core: its matrices are large enough."""
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield loaded
    torch.set_num_threads(before)


@pytest.fixture
def hooks_of():
    """Count every hook on every module of a model."""

    def count(module: torch.nn.Module) -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in module.modules())

    return count
