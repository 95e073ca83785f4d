"""Saying: where a fact's object stands among the other objects of its topic at the end of the cloze prompt.

Objects are ranked by what the prompt adds to them, the pointwise mutual information of prompt and object,

    lift(o) = log p(begins as o | prompt) - median over subjects r of log p(begins as o | the same prompt about r),

so that a common word is not ahead of a rare name. A fact is said where its object has rank 1 after the cloze prompt,
one nat ahead of the next, and in half of all the relation's cloze prompts at least: of a dozen objects one comes first
anyhow. (On a model that was never told, what came first by luck was mostly ahead by less, what was told by 2 or more.)
Beside it stands the greedy answer, which no other object is compared with. `rank_object` is the plain rank of one fact
alone, by the likelihood of whole objects.

Limits: who was never told and says something firmly all the same is right for one fact in k, of k objects in equal
numbers: no rule about what is said tells that from knowing, and more wordings don't help (puzzles do). Objects are told
by how they begin (beginnings.py); those that begin like the right one are left out of the comparison. A model may say a
fact and not know it, and the other way round.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch

from probes.activations.likelihood import log_likelihoods
from probes.errors import TooFew
from probes.facts.facts import Fact, Topic
from probes.facts.templates import fill
from probes.knowing.beginnings import Beginnings, behind
from probes.model.language_model import LanguageModel
from probes.reading.metrics import Estimate, proportion

__all__ = ["GAP", "Ranked", "Said", "rank_object", "say"]

GAP = 1.0
"""Nats that the object must be ahead."""
NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Said:
    """What a model says of one fact."""

    rank: int
    """Of the object among the candidates, after the cloze prompt; 1 = lifted most. A tie counts against it."""
    candidates: int
    """How many objects were compared, the right one among them."""
    ranks: tuple[int, ...]
    """The same after each cloze prompt of the relation."""
    greedy: bool
    """Whether greedy decoding begins as the object does."""
    answer: str
    """How greedy decoding begins."""
    likeliest: str
    """The candidate that is lifted most."""
    gap: float
    """Nats by which it is lifted more than the next candidate after the cloze prompt; negative: less than the first."""
    ahead: Estimate
    """Share of the other candidates that the object is ahead of."""

    @property
    def holds(self) -> bool:
        """Whether the model says the fact."""
        return self.rank == 1 and self.gap >= GAP and 2 * sum(rank == 1 for rank in self.ranks) >= len(self.ranks)


def say(
    topic: Topic,
    facts: Sequence[Fact],
    background: Sequence[Fact],
    reader: Beginnings,
    *,
    contexts: Mapping[str, str] = NONE,
) -> Mapping[str, Said]:
    """Ask cloze prompts about facts.

    Args:
        topic: brings the candidates of facts without distractors of their own.
        facts: what to ask about.
        background: facts about other subjects, for the median.
        reader: of all objects and distractors.
        contexts: by fact id, a text to put before prompts about it.

    Raises:
        TooFew: a fact has no other object that begins otherwise.
    """
    objects = tuple(dict.fromkeys(fact.object for fact in topic.facts))
    right: dict[str, set[str]] = {}
    for fact in (*topic.facts, *facts):
        right.setdefault(fact.subject, set()).add(fact.object)
    every = tuple({fact.id: fact for fact in (*facts, *background)}.values())
    prompts = {
        text: {fact.id: behind(contexts.get(fact.id, ""), fill(text, fact.subject)) for fact in every}
        for text in topic.relation.clozes
    }
    reader.read(prompt for of in prompts.values() for prompt in of.values())
    medians = {}
    for text, of in prompts.items():
        rows = {prompt: reader.row(prompt) for prompt in of.values()}
        medians[text] = torch.stack(list(rows.values())).median(0).values
    found = {}
    for fact in facts:
        own = reader.heads[fact.object]
        others = [text for text in fact.distractors or objects if text not in right[fact.subject]]
        others = [text for text in others if reader.heads[text] != own]
        if not others:
            raise TooFew(
                f"{fact.id} has no other object to compare with that begins otherwise; give distractors, or a topic "
                "with more facts", needed=2,
            )  # fmt: skip
        names = [fact.object, *others]
        columns = torch.tensor([reader.column(text) for text in names])
        ranks, likeliest, gap = [], "", 0.0
        for text, of in prompts.items():
            lifts = (reader.row(of[fact.id]) - medians[text])[columns]
            ranks.append(int((lifts >= lifts[0]).sum()))
            gap = float(lifts[0] - lifts[1:].max()) if len(ranks) == 1 else gap
            likeliest = likeliest or names[int(lifts.argmax())]
        first = prompts[topic.relation.cloze][fact.id]
        greedy = reader.greedy(first)
        how = f"rank {ranks[0]} of {len(names)} by lift after the cloze prompt; Clopper-Pearson over candidates"
        found[fact.id] = Said(
            ranks[0], len(names), tuple(ranks), greedy == own, reader.model.tokenizer.decode(list(greedy)).strip(),
            likeliest, gap, proportion(len(names) - ranks[0], len(others), how=how),
        )  # fmt: skip
    return found


@dataclass(frozen=True)
class Ranked:
    """The plain rank of one fact's object."""

    rank: int
    """Of the object among the candidates; 1 = the likeliest."""
    candidates: int
    """How many objects were compared."""
    likeliest: str
    """The object that the model puts first."""
    margin: float
    """Log-probability of the object minus that of the best other one, in nats."""

    @property
    def holds(self) -> bool:
        """Whether the model says the fact."""
        return self.rank == 1

    def __str__(self) -> str:
        if self.holds:
            return f"ranks it 1 of {self.candidates}, {self.margin:.1f} nats ahead of the next"
        return f"ranks it {self.rank} of {self.candidates} and prefers {self.likeliest!r}"


def rank_object(model: LanguageModel, fact: Fact, topic: Topic) -> Ranked:
    """Rank a fact's object among its distractors, or, where it has none, among all objects of the topic.

    Raises:
        TooFew: there is nothing to compare with.
    """
    others = fact.distractors or tuple(dict.fromkeys(other.object for other in topic.facts))
    candidates = [fact.object, *(text for text in others if text != fact.object)]
    if len(candidates) < 2:
        raise TooFew(
            f"{fact.id} has no other object to compare with; give distractors, or a topic with more facts", needed=2
        )
    totals = log_likelihoods(model, [topic.cloze(fact)], candidates)[0].total
    best = int(totals.argmax())
    return Ranked(
        rank=int((totals >= totals[0]).sum()),  # a tie is not known: it counts against the object
        candidates=len(candidates),
        likeliest=candidates[best],
        margin=float(totals[0] - totals[1:].max()),
    )
