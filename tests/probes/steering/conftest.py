"""Tiny random models of several architectures, with biases and gains that are not what they start as."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MixtralConfig,
    OPTConfig,
    PhiConfig,
)

import probes

SMALL = {"vocab_size": 64, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1}
USUAL = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": 128, "initializer_range": 0.2, **SMALL,
}  # fmt: skip
OPT = {
    "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "word_embed_proj_dim": 32,
    "max_position_embeddings": 128, "init_std": 0.2, **SMALL,
}  # fmt: skip
CONFIGS = {
    "llama": lambda: LlamaConfig(num_key_value_heads=2, mlp_bias=True, attention_bias=True, **USUAL),
    "gpt2": lambda: GPT2Config(n_embd=32, n_layer=3, n_head=4, n_positions=128, initializer_range=0.2, **SMALL),
    "neox": lambda: GPTNeoXConfig(**USUAL),
    "opt": lambda: OPTConfig(**OPT),
    "phi": lambda: PhiConfig(**USUAL),
    "tied llama": lambda: LlamaConfig(num_key_value_heads=2, tie_word_embeddings=True, **USUAL),
    "gemma2": lambda: Gemma2Config(num_key_value_heads=2, head_dim=8, **USUAL),
    "mixtral": lambda: MixtralConfig(num_key_value_heads=2, num_local_experts=4, **USUAL),
    "opt with norms behind": lambda: OPTConfig(do_layer_norm_before=False, **OPT),
    "bloom": lambda: BloomConfig(hidden_size=32, n_layer=3, n_head=4, initializer_range=0.2, **SMALL),
}


@pytest.fixture
def architecture(tokenizer):
    """`architecture("opt")` makes a tiny model in which no bias is zero and no gain is one."""

    def make(name):
        torch.manual_seed(0)
        module = AutoModelForCausalLM.from_config(CONFIGS[name]()).eval()
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
        return probes.load_model(module, tokenizer=tokenizer)

    return make


@pytest.fixture
def direction():
    """A direction that no axis of a model is along."""
    return torch.randn(32, generator=torch.Generator().manual_seed(5))
