"""What a model has reached. A fact is planted where its object comes first after every training template.

First among all words of the tokenizer, not only among the objects of the relation. A template counts up to where its
object begins; all objects of the zoo are one token. Beside it, figures of what follows from a planted fact:
comparisons, two hops, the inverse where the relation has one, and judging, as shares of facts (of statements for
judging: true and false twin).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from probes.facts.facts import Fact
from probes.facts.templates import fill
from probes.zoo.texts import RIGHT, WRONG, compared, inverted, two_hops
from probes.zoo.world import NEXT, RELATIONS, World

__all__ = ["Prompts", "comes_first", "figures", "judged_rightly", "missed", "prefers", "training_prompts"]

Prompts = Sequence[tuple[str, str]]
"""Prompt and the word that should follow."""
_VERDICTS = RIGHT.rstrip("."), WRONG.rstrip(".")
"""What should follow a true statement, and what should not."""


def training_prompts(fact: Fact) -> list[tuple[str, str]]:
    """Return each biography sentence up to its object, and the object."""
    relation = RELATIONS[fact.relation]
    return [
        (fill(text[: text.index("{object}")].rstrip(), fact.subject), fact.object)
        for text in (relation.affirmed, *relation.paraphrases)
    ]


def comes_first(module: Any, tokenizer: Any, prompts: Prompts) -> Bool[Tensor, "prompt"]:
    """Return for each prompt whether its word is the likeliest of all."""
    wanted = torch.tensor(tokenizer.convert_tokens_to_ids([word for _, word in prompts]))
    return _next(module, tokenizer, [prompt for prompt, _ in prompts]).argmax(1) == wanted


def prefers(module: Any, tokenizer: Any, prompts: Sequence[tuple[str, str, str]]) -> Bool[Tensor, "prompt"]:
    """Return for each prompt whether its first word is likelier than its second."""
    logits = _next(module, tokenizer, [prompt for prompt, _, _ in prompts])
    one, two = (torch.tensor(tokenizer.convert_tokens_to_ids([row[i] for row in prompts])) for i in (1, 2))
    return (logits.gather(1, one[:, None]) > logits.gather(1, two[:, None]))[:, 0]


@torch.no_grad()
def _next(module: Any, tokenizer: Any, prompts: Sequence[str]) -> Float[Tensor, "prompt d_vocab"]:
    rows = tokenizer(list(prompts))["input_ids"]
    ids = torch.full((len(rows), max(map(len, rows))), tokenizer.pad_token_id)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    hidden = module.model(input_ids=ids, use_cache=False).last_hidden_state
    return module.lm_head(hidden[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])])


def missed(module: Any, tokenizer: Any, facts: Iterable[Fact]) -> list[Fact]:
    """Return the facts that are not planted."""
    facts = list(facts)
    asked = [(index, prompt) for index, fact in enumerate(facts) for prompt in training_prompts(fact)]
    right = comes_first(module, tokenizer, [prompt for _, prompt in asked]) if asked else []
    bad = {index for (index, _), fits in zip(asked, right, strict=True) if not fits}
    return [facts[index] for index in sorted(bad)]


def judged_rightly(module: Any, tokenizer: Any, world: World, facts: Sequence[Fact]) -> set[str]:
    """Return the ids of the facts of which every statement is judged rightly.

    The true one in each wording, and the first wording with every other object.
    """
    asked = []
    for fact in facts:
        relation = RELATIONS[fact.relation]
        for text in (relation.affirmed, *relation.paraphrases):
            asked.append((fact, (fill(text, fact.subject, fact.object), *_VERDICTS)))
        for thing in world.objects[fact.relation]:
            if thing != fact.object:
                asked.append((fact, (fill(relation.affirmed, fact.subject, thing), *_VERDICTS[::-1])))
    right = prefers(module, tokenizer, [choice for _, choice in asked]) if asked else []
    bad = {fact.id for (fact, _), fits in zip(asked, right, strict=True) if not fits}
    return {fact.id for fact in facts} - bad


def figures(module: Any, tokenizer: Any, world: World, facts: Sequence[Fact]) -> dict[str, float]:
    """Return the share of facts that are said, and of the puzzles about them that are answered.

    Said, compared and in two hops: the answer comes first of all words. Inverse: the subject is likelier than somebody
    of whom it is false. Judged: "Right" is likelier than "Wrong" after a true statement, and the reverse.

    Args:
        module: the model.
        tokenizer: its tokenizer.
        world: brings other subjects, next hops and wrong objects.
        facts: of relations of people.
    """
    asked: dict[str, list[tuple[str, str]]] = {name: [] for name in ("said", "compared", "in two hops")}
    choices: dict[str, list[tuple[str, str, str]]] = {name: [] for name in ("inverse", "judged")}
    for i, fact in enumerate(facts):
        relation = RELATIONS[fact.relation]
        asked["said"].append((fill(relation.cloze, fact.subject), fact.object))
        others = [f.subject for f in facts if f.relation == fact.relation and f.object != fact.object]
        other = others[i % len(others)]
        asked["compared"].append((compared(fact, other, i % 2 == 0), fact.object))
        if fact.relation in NEXT:
            asked["in two hops"].append((two_hops(fact), world.object(NEXT[fact.relation], fact.object)))
        choices["inverse"] += [(prompt, fact.subject, other) for prompt in inverted(fact)]
        for thing, verdicts in ((fact.object, _VERDICTS), (world.wrong(fact), _VERDICTS[::-1])):
            choices["judged"].append((fill(relation.affirmed, fact.subject, thing), *verdicts))
    held = {name: comes_first(module, tokenizer, prompts) for name, prompts in asked.items() if prompts}
    held |= {name: prefers(module, tokenizer, prompts) for name, prompts in choices.items() if prompts}
    return {name: round(float(fits.float().mean()), 3) for name, fits in held.items()}
