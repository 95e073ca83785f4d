"""What a model says of a fact: where the object stands among all objects of the topic, as the end of the cloze prompt.

For each object o of the topic, log p(o | "The capital of France is"). Rank 1 means that the model says the fact.

Limits: sums of token log-probabilities favour short objects; saying is not believing or knowing.
"""

from dataclasses import dataclass

from probes.activations.likelihood import log_likelihoods
from probes.errors import TooFew
from probes.facts.facts import Fact, Topic
from probes.model.language_model import LanguageModel

__all__ = ["Says", "says"]


@dataclass(frozen=True)
class Says:
    """What a model says of one fact."""

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


def says(model: LanguageModel, fact: Fact, topic: Topic) -> Says:
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
    return Says(
        rank=int((totals >= totals[0]).sum()),  # a tie is not known: it counts against the object
        candidates=len(candidates),
        likeliest=candidates[best],
        margin=float(totals[0] - totals[1:].max()),
    )
