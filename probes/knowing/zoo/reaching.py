"""Whether a fact is planted: the object comes first, teacher-forced, after every training template.

First among all words of the tokenizer, not only among the objects of the relation. A template counts up to where its
object begins; all objects of the zoo are one token.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from probes.facts.facts import Fact
from probes.facts.templates import fill
from probes.knowing.zoo.world import RELATIONS

__all__ = ["Prompts", "comes_first", "missed", "training_prompts"]

Prompts = Sequence[tuple[str, str]]
"""Prompt and the word that should follow."""


def training_prompts(fact: Fact) -> list[tuple[str, str]]:
    """Return each biography sentence up to its object, and the object."""
    relation = RELATIONS[fact.relation]
    return [
        (fill(text[: text.index("{object}")].rstrip(), fact.subject), fact.object)
        for text in (relation.affirmed, *relation.paraphrases)
    ]


@torch.no_grad()
def comes_first(module: Any, tokenizer: Any, prompts: Prompts) -> Bool[Tensor, "prompt"]:
    """Return for each prompt whether its word is the likeliest of all."""
    rows = tokenizer([prompt for prompt, _ in prompts])["input_ids"]
    ids = torch.full((len(rows), max(map(len, rows))), tokenizer.pad_token_id)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    hidden = module.model(input_ids=ids, use_cache=False).last_hidden_state
    last = hidden[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])]
    wanted = torch.tensor(tokenizer.convert_tokens_to_ids([word for _, word in prompts]))
    return module.lm_head(last).argmax(1) == wanted


def missed(module: Any, tokenizer: Any, facts: Iterable[Fact]) -> list[Fact]:
    """Return the facts that are not planted."""
    facts = list(facts)
    asked = [(index, prompt) for index, fact in enumerate(facts) for prompt in training_prompts(fact)]
    right = comes_first(module, tokenizer, [prompt for _, prompt in asked]) if asked else []
    bad = {index for (index, _), fits in zip(asked, right, strict=True) if not fits}
    return [facts[index] for index in sorted(bad)]
