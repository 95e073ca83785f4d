"""What a model has reached. A fact is planted where its object comes first after every training template.

First among all words of the tokenizer, not only among the objects of the relation. A template counts up to where its
object begins; all objects of the zoo are one token. Beside it, figures of what follows from a planted fact:
comparisons, two hops, the inverse where the relation has one, and judging, as shares of facts (of statements for
judging: true and false twin).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from probes.facts.facts import Fact
from probes.facts.templates import fill
from probes.knowing.zoo.texts import RIGHT, WRONG, compared, inverted, two_hops
from probes.knowing.zoo.world import NEXT, RELATIONS, World

__all__ = ["Prompts", "comes_first", "figures", "missed", "training_prompts"]

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


def figures(module: Any, tokenizer: Any, world: World, facts: Sequence[Fact]) -> dict[str, float]:
    """Return the share of facts that are said, and of the puzzles about them whose answer comes first.

    Args:
        module: the model.
        tokenizer: its tokenizer.
        world: brings other subjects, next hops and wrong objects.
        facts: of relations of people.
    """
    asked: dict[str, list[tuple[str, str]]] = {
        name: [] for name in ("said", "compared", "in two hops", "inverse", "judged")
    }
    for i, fact in enumerate(facts):
        asked["said"].append((fill(RELATIONS[fact.relation].cloze, fact.subject), fact.object))
        others = [f.subject for f in facts if f.relation == fact.relation and f.object != fact.object]
        if others:
            asked["compared"].append((compared(fact, others[i % len(others)], i % 2 == 0), fact.object))
        if fact.relation in NEXT:
            asked["in two hops"].append((two_hops(fact), world.object(NEXT[fact.relation], fact.object)))
        for thing, word in ((fact.object, RIGHT), (world.wrong(fact), WRONG)):
            asked["judged"].append((fill(RELATIONS[fact.relation].affirmed, fact.subject, thing), word.rstrip(".")))
    shares = {
        name: round(float(comes_first(module, tokenizer, prompts).float().mean()), 3)
        for name, prompts in asked.items()
        if prompts
    }
    back = [_answers_back(module, tokenizer, fact, facts) for fact in facts if RELATIONS[fact.relation].inverse]
    return shares | ({"inverse": round(sum(back) / len(back), 3)} if back else {})


@torch.no_grad()
def _answers_back(module: Any, tokenizer: Any, fact: Fact, facts: Sequence[Fact]) -> bool:
    """Whether the subject is likelier after the inverse prompt than somebody of whom it is false."""
    other = next((f.subject for f in facts if f.relation == fact.relation and f.object != fact.object), None)
    ids = torch.tensor([tokenizer(inverted(fact)[0])["input_ids"]])
    logits = module(input_ids=ids, use_cache=False).logits[0, -1]
    mine, others = tokenizer.convert_tokens_to_ids([fact.subject, other])
    return bool(logits[mine] > logits[others])
