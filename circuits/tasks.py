"""Pair: two prompts of one length and two answers, which a patching experiment compares.

The clean prompt asks for `answer` and the corrupted one for `wrong`; both have as many tokens, so that position i
means the same in either. What is measured is the logit difference at the last position,
`LD = logit(answer) - logit(wrong)`, each by its first token.

Sources: Wang et al. 2022 (arXiv:2211.00593), where the logit difference of such pairs was measured; Zhang & Nanda 2023
(arXiv:2309.16042), who advise it, and corrupted prompts that are ordinary text ("symmetric token replacement") instead
of noise.
Limits: of an answer only the first token counts; an answer follows its prompt after one space.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from probes.activations.likelihood import continue_ids
from probes.errors import BadInput, NotFound, nearest
from probes.facts.facts import Fact, Topic
from probes.model.language_model import LanguageModel

__all__ = ["Pair", "PairTokens", "fact_pair", "last_logits"]


@dataclass(frozen=True)
class PairTokens:
    """A pair in the tokens of one model."""

    clean: tuple[int, ...]
    """Token ids of the clean prompt."""
    corrupted: tuple[int, ...]
    """Of the corrupted prompt: as many."""
    answer: int
    """First token of the answer."""
    wrong: int
    """First token of the wrong answer, another one."""

    @property
    def differing(self) -> tuple[int, ...]:
        """Positions at which the prompts differ; one or more."""
        return tuple(i for i, (a, b) in enumerate(zip(self.clean, self.corrupted, strict=True)) if a != b)


@dataclass(frozen=True)
class Pair:
    """A clean and a corrupted prompt, and the answer that each of them asks for.

    Raises:
        BadInput: a text is empty, a prompt ends in white space, or the two prompts or the two answers are the same.
    """

    clean: str
    """Prompt after which `answer` is right: "The capital of France is"."""
    corrupted: str
    """Prompt of as many tokens after which `wrong` is right: "The capital of Spain is"."""
    answer: str
    """Such as "Paris"; one space is put between prompt and answer."""
    wrong: str
    """Such as "Madrid"."""

    def __post_init__(self) -> None:
        for name in ("clean", "corrupted", "answer", "wrong"):
            text = getattr(self, name)
            if not isinstance(text, str) or not text.strip():
                raise BadInput(f"{name} {text!r} is no text; a pair is two prompts and two answers")
            if name in ("clean", "corrupted") and text != text.rstrip():
                raise BadInput(f"{name} {text!r} ends in white space, which is part of the answer; take it away")
        for first, second in (("clean", "corrupted"), ("answer", "wrong")):
            if getattr(self, first).strip() == getattr(self, second).strip():
                raise BadInput(f"{first} and {second} are both {getattr(self, first)!r}; there is nothing to compare")

    def tokens(self, model: LanguageModel) -> PairTokens:
        """Return the pair in a model's tokens.

        Raises:
            BadInput: the prompts differ in length, or not at all; the answers begin with the same token; a prompt and
                its answer share a token.
        """
        clean, corrupted = model.encode(self.clean), model.encode(self.corrupted)
        if len(clean) != len(corrupted):
            raise BadInput(
                f"the clean prompt has {len(clean)} tokens, {show_tokens(model, clean)}, the corrupted one "
                f"{len(corrupted)}, {show_tokens(model, corrupted)}; both need as many: take another subject for one"
            )
        if clean == corrupted:
            raise BadInput(
                f"{self.clean!r} and {self.corrupted!r} are the same tokens to {model.name}; take another subject"
            )
        answer, wrong = (first_token(model, self.clean, text) for text in (self.answer, self.wrong))
        if answer == wrong:
            token = model.tokenizer.decode([answer])
            raise BadInput(
                f"{self.answer!r} and {self.wrong!r} both begin with {token!r}; take answers that differ there"
            )
        return PairTokens(tuple(clean), tuple(corrupted), answer, wrong)


def first_token(model: LanguageModel, prompt: str, answer: str) -> int:
    """Return the first token of an answer where it follows a prompt, after one space.

    Raises:
        BadInput: the tokenizer lets prompt and answer share a token, or ends every text with a token of its own.
    """
    start = model.encode(prompt)
    return continue_ids(model, prompt, start, answer.strip())[len(start)]


def show_tokens(model: LanguageModel, ids: Sequence[int]) -> str:
    """Return tokens as people read them: `[The| capital| of]`."""
    return "[" + "|".join(model.tokenizer.decode([i]) for i in ids) + "]"


@torch.no_grad()
def last_logits(model: LanguageModel, rows: Sequence[Sequence[int]]) -> Float[Tensor, "batch d_vocab"]:
    """Return the float32 logits behind the last token of prompts of one length; hooks that are attached fire.

    Args:
        model: plain or on a bridge.
        rows: token ids of each prompt, all of one length: nothing is padded.

    Raises:
        BadInput: a logit is not finite.
    """
    logits = model.module(**model.collate(rows), use_cache=False, logits_to_keep=1).logits[:, -1].float()
    if not torch.isfinite(logits).all():
        raise BadInput(f"{model.name} gave a logit that is not finite; it is broken, or overflows in {model.dtype}")
    return logits


def fact_pair(fact: Fact, topic: Topic, model: LanguageModel, *, other: str | None = None) -> Pair:
    """Return the clean cloze prompt of a fact beside the cloze prompt of another fact of the topic.

    The other fact has a prompt of as many tokens and an object with another first token. Of those it is the one whose
    own object the model ranks best; among equals the first in the topic, so that the choice is always the same.

    Args:
        fact: what the clean prompt asks for; it need not be in the topic, but be of its relation.
        topic: where the other fact comes from.
        model: whose tokens count, and which ranks.
        other: the subject of the other fact, for a choice of one's own.

    Raises:
        BadInput: the fact is of another relation, or no other fact fits.
        NotFound: the topic has no fact of the subject `other`.
    """
    if fact.relation != topic.relation.name:
        raise BadInput(
            f"{fact.id!r} is not of relation {topic.relation.name!r}, as topic {topic.name!r} is; take its own"
        )
    candidates = topic.facts
    if other is not None:
        candidates = tuple(candidate for candidate in candidates if candidate.subject == other)
        if not candidates:
            subjects = {candidate.subject for candidate in topic.facts}
            raise NotFound(f"topic {topic.name!r} has no subject {other!r}; {nearest(other, subjects)}")
    fitting = list(_fitting(fact, topic, model, candidates))
    if not fitting:
        prompt = topic.cloze(fact)
        ids = model.encode(prompt)
        raise BadInput(
            f"nothing to set against {fact.id!r}: of {len(candidates)} facts in topic {topic.name!r} none has a prompt "
            f"of {len(ids)} tokens like {show_tokens(model, ids)} and an object that begins with another token; "
            "write a Pair of your own"
        )
    return fitting[_best_known(fitting, model)]


def _fitting(fact: Fact, topic: Topic, model: LanguageModel, candidates: Sequence[Fact]) -> Iterator[Pair]:
    """Yield the pairs of a fact that its model can compare, in the topic's order."""
    right = {known.object for known in topic.facts if known.subject == fact.subject} | {fact.object}
    prompt = topic.cloze(fact)
    length, answer = len(model.encode(prompt)), first_token(model, prompt, fact.object)
    for candidate in candidates:
        corrupted = topic.cloze(candidate)
        if candidate.object in right or corrupted == prompt or len(model.encode(corrupted)) != length:
            continue
        if first_token(model, prompt, candidate.object) != answer:
            yield Pair(prompt, corrupted, fact.object, candidate.object)


def _best_known(pairs: Sequence[Pair], model: LanguageModel, batch_size: int = 32) -> int:
    """Return the index of the pair whose wrong answer ranks best after the corrupted prompt, the first among equals."""
    ranks: list[int] = []
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        logits = last_logits(model, [model.encode(pair.corrupted) for pair in batch])
        own = torch.tensor([first_token(model, pair.corrupted, pair.wrong) for pair in batch], device=logits.device)
        ranks += (logits > logits.gather(1, own.unsqueeze(1))).sum(1).tolist()
        if 0 in ranks:  # nothing that comes later can be better
            break
    return ranks.index(min(ranks))
