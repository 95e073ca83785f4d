"""A tiny decoder and the loop that trains it: the same seed gives the same weights.

Llama architecture from a configuration, words as tokens. Documents end in <eos>, are drawn ahead of time, sorted by
length within large chunks so that little is padded, and shuffled batch by batch. Loss: cross-entropy of every next
token, padding left out, weighted by document. AdamW, linear warm-up, then linear decay.

Limits: bit-identical on one machine with one number of threads; another machine may round otherwise.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor, nn
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

from probes.zoo.walks import Document

__all__ = ["Shape", "Training", "make_module", "make_tokenizer", "train"]

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"
IGNORED = -100
"""A target on which no loss is taken."""
Row = tuple[list[int], int, float]
"""Ids of a document, how many of them are only read, and what the others weigh."""
WIDTH = 128
"""Of the residual stream. Weights start with a spread of one over its root: smaller ones (.02) cost twice the steps."""
_CHUNK = 32
"""Batches that are sorted together."""


@dataclass(frozen=True)
class Shape:
    """The size of a decoder."""

    layers: int = 3
    inner: int = 384
    """Width of the MLPs."""
    context: int = 128
    """Positions."""
    window: int = 0
    """How many tokens back a token attends to; 0 for all (Llama), else Mistral's sliding window."""


@dataclass(frozen=True)
class Training:
    """How a decoder is trained."""

    steps: int
    batch: int = 64
    """Documents a step."""
    rate: float = 2e-3
    """Highest learning rate."""
    decay: float = 0.3
    """Weight decay; with less, two hops are learned by heart instead of being followed."""
    warm: int = 50
    """Steps until the highest rate."""
    final: float = 0.05
    """Rate of the last step, as a share of the highest."""


def make_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words and punctuation marks; other words are <unk>."""
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([PAD, EOS, UNK, *words]))}
    core = Tokenizer(WordLevel(vocabulary, unk_token=UNK))
    core.pre_tokenizer = Whitespace()
    core.add_special_tokens([PAD, EOS, UNK])
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token=PAD, eos_token=EOS, unk_token=UNK)


def make_module(tokenizer: Any, shape: Shape, seed: int) -> nn.Module:
    """Return an untrained decoder; the global generator is left as it was."""
    kind, model, more = LlamaConfig, LlamaForCausalLM, {}
    if shape.window:
        kind, model, more = MistralConfig, MistralForCausalLM, {"sliding_window": shape.window}
    config = kind(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=shape.inner, num_hidden_layers=shape.layers,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=shape.context, tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.eos_token_id,
        dtype="float32", initializer_range=WIDTH**-0.5, **more,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model(config)


def encode(tokenizer: Any, documents: Sequence[Document]) -> list[Row]:
    """Return the ids of each document up to its <eos>, how many of them are only read, and its weight."""
    read = tokenizer([document.read for document in documents])["input_ids"]
    learned = tokenizer([document.text for document in documents])["input_ids"]
    rows = zip(documents, read, learned, strict=True)
    return [([*a, *b, tokenizer.eos_token_id], len(a), document.weight) for document, a, b in rows]


def batches(
    tokenizer: Any, documents: Sequence[Document], size: int, seed: int | str
) -> Iterator[tuple[Int[Tensor, "batch position"], Int[Tensor, "batch position"], Float[Tensor, "batch"]]]:
    """Yield ids, targets and weights of documents of like length, in an order drawn by seed; a rest is left.

    A target is the id itself, or -100 where no loss is taken: padding, what is only read, and the first token.
    """
    draw = random.Random(f"batches|{seed}")
    for start in range(0, len(documents), size * _CHUNK):  # encoded chunk by chunk: all at once would fill memory
        chunk = encode(tokenizer, documents[start : start + size * _CHUNK])
        chunk.sort(key=lambda row: len(row[0]))
        cut = [chunk[i : i + size] for i in range(0, len(chunk) - size + 1, size)]
        draw.shuffle(cut)
        for part in cut:
            ids = torch.full((size, max(len(row) for row, _, _ in part)), tokenizer.pad_token_id)
            targets = torch.full_like(ids, IGNORED)
            for i, (row, read, _) in enumerate(part):
                ids[i, : len(row)] = torch.tensor(row)
                targets[i, max(1, read) : len(row)] = ids[i, max(1, read) : len(row)]
            yield ids, targets, torch.tensor([weight for _, _, weight in part])


def train(
    module: nn.Module,
    tokenizer: Any,
    documents: Sequence[Document],
    plan: Training,
    *,
    seed: int | str,
    free: Iterable[nn.Parameter] | None = None,
    after: Callable[[int], bool] | None = None,
    progress: bool = False,
) -> int:
    """Train on documents, in place.

    Args:
        module: the decoder; in eval mode afterwards.
        tokenizer: its tokenizer.
        documents: `plan.steps * plan.batch` of them or more.
        plan: steps, rate and so on.
        seed: of the order of batches.
        free: the parameters that may change; all if None.
        after: called with the number of steps done; True ends the training.
        progress: show a bar.

    Returns:
        The number of steps done.
    """
    free = list(module.parameters()) if free is None else list(free)
    before = [parameter.requires_grad for parameter in module.parameters()]
    module.requires_grad_(False)
    for parameter in free:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(free, lr=plan.rate, betas=(0.9, 0.98), weight_decay=plan.decay, fused=True)
    step = 0
    try:
        with tqdm(total=plan.steps, disable=None if progress else True, desc="training", unit="step") as bar:
            for ids, targets, weights in batches(tokenizer, documents, plan.batch, seed):
                module.train()
                for group in optimizer.param_groups:
                    group["lr"] = plan.rate * _rate(step, plan)
                loss = next_token_loss(module, ids, targets, weights)
                loss.backward()
                nn.utils.clip_grad_norm_(free, 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                step += 1
                bar.update()
                if after is not None:
                    module.eval()
                    if after(step):
                        break
                if step == plan.steps:
                    break
    finally:
        for parameter, grad in zip(module.parameters(), before, strict=True):
            parameter.requires_grad_(grad)
        module.eval()
    return step


def next_token_loss(
    module: nn.Module,
    ids: Int[Tensor, "batch position"],
    targets: Int[Tensor, "batch position"],
    weights: Float[Tensor, "batch"],
) -> Tensor:
    """Return the weighted mean cross-entropy of the targets. Padding stands right, so no mask is needed."""
    hidden = module.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    kept = targets[:, 1:] != IGNORED
    losses = nn.functional.cross_entropy(module.lm_head(hidden[kept]), targets[:, 1:][kept], reduction="none")
    weights = weights[:, None].expand_as(kept)[kept]
    return (losses * weights).sum() / weights.sum()


def _rate(step: int, plan: Training) -> float:
    if step < plan.warm:
        return (step + 1) / plan.warm
    left = (plan.steps - step) / max(1, plan.steps - plan.warm)
    return plan.final + (1 - plan.final) * left
