"""Steered: the whole way from a direction to its receipt, in one call; what `belief steer` runs.

1. Take a saved probe or vector; or make a vector: of the truth of a topic (difference of means over one half of the
   entities, asked on the other half), or of one fact (behind its prompt, less the mean behind other prompts).
2. Make the receipt (receipt.py) and put it into the manifest.
3. Show what the model answers to some prompts with and without.

Limits: the layer is given, not searched for: half-way up for truth, three quarters up for a fact. Of a saved probe
nobody knows here which entities it was fitted on, so it is asked on any.
"""

import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from probes.activations.capture import capture
from probes.artifact import read_artifact
from probes.errors import BadInput, TooFew
from probes.facts.facts import Fact, Statement, Topic, load_topic
from probes.facts.templates import find_relation
from probes.model.language_model import LanguageModel
from probes.model.sites import Site
from probes.reading.metrics import Estimate
from probes.reading.probe import LinearProbe
from probes.steering.contrasts import Contrast, fact_contrasts, fact_uses, fact_vector
from probes.steering.receipt import bar_lines, receipt, shortfalls
from probes.steering.vectors import SteeringVector, steer

__all__ = ["Steered", "load_direction", "open_question", "prove"]

MOST_FITTED = 200
"""Statements that a vector of truth is made from."""
NEW_TOKENS = 32


@dataclass(frozen=True, eq=False)
class Steered:
    """What came out."""

    model: str
    """Name of the model."""
    asked: str
    """What it was asked: the topic, or the fact."""
    answers: str
    """What the readout compares: "True over False"."""
    direction: SteeringVector | LinearProbe
    """With its receipt."""
    replies: tuple[tuple[str, str, str], ...]
    """Prompt, what the model answers, and what it answers steered."""
    coefficient: float
    """Of those replies, and the largest dose of the receipt; in residual norms."""
    seconds: float
    """How long it took."""

    @property
    def receipt(self) -> Mapping[str, Estimate]:
        return self.direction.receipt

    @property
    def shortfalls(self) -> tuple[str, ...]:
        """Which bars the receipt does not reach, in words."""
        return shortfalls(self.receipt)

    @property
    def sentence(self) -> str:
        """What came out; where a bar is not reached, that comes first."""
        figures, site = self.receipt, self.direction.site
        doubt = "Not shown to be used by the model. " if self.shortfalls else ""
        wrong, rise, z = figures["wrong_way"], figures["cross_entropy"].value, figures["slope_z"]
        return (
            f"{doubt}Adding {self.direction.concept or 'the direction'} at {site} moves the log-odds of {self.answers} "
            f"by {z.interval(1)} standard deviations from {z.n} random directions; {round(wrong.value * wrong.n)} of "
            f"{wrong.n} prompts move the wrong way; cross-entropy {rise:+.3f}."
        )

    def __str__(self) -> str:
        replies = [f"{prompt!r}\n  plain:   {plain}\n  steered: {new}" for prompt, plain, new in self.replies]
        return "\n".join([self.sentence, *(f"  {line}" for line in bar_lines(self.receipt)), *replies])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "model": self.model,
            "asked": self.asked,
            "answers": self.answers,
            "sentence": self.sentence,
            "shortfalls": list(self.shortfalls),
            "site": str(self.direction.site),
            "method": self.direction.method,
            "coefficient": self.coefficient,
            "receipt": {name: estimate.to_dict() for name, estimate in self.receipt.items()},
            "replies": [{"prompt": prompt, "plain": plain, "steered": new} for prompt, plain, new in self.replies],
            "seconds": round(self.seconds, 1),
        }


def prove(
    model: LanguageModel,
    *,
    direction: SteeringVector | LinearProbe | None = None,
    topic: Topic | None = None,
    fact: Fact | None = None,
    layer: int | None = None,
    coefficient: float | None = None,
    prompts: Sequence[str] = (),
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
    progress: bool = False,
    **options: Any,
) -> Steered:
    """Make the receipt of a direction, and of a direction that is made on the spot where none is given.

    Args:
        model: the model to steer.
        direction: a probe or a vector; None: a vector is made.
        topic: what the model is asked about.
        fact: ask for this fact, one of the topic's; None: ask whether statements are true.
        layer: of the vector that is made, its resid_post.
        coefficient: the largest dose; None: the largest that ordinary text can bear.
        prompts: to answer with and without.
        seed: of every draw.
        say: is told what goes on, a line a step.
        progress: show bars on standard error.
        options: further ones of `receipt`.

    Raises:
        BadInput, NotFound, TooFew: no topic, or as `receipt`.
    """
    start = time.perf_counter()
    if topic is None:
        raise BadInput("a receipt asks a model about something; give a topic or a file of facts")
    uses: tuple[Contrast, ...] | None = None
    if fact is not None:
        share, asked = 0.77, fact_contrasts(topic, fact, seed=seed)
        asked, uses = asked[: len(asked) // 2], fact_uses(topic, fact, seed=seed)
    else:
        share, (fitted, asked) = 0.5, _halves(topic, seed)
    if direction is None:
        site = Site("resid_post", layer if layer is not None else int(share * model.n_layers))
        say(f"making the vector at {site}, {model.name}")
        direction = fact_vector(model, topic, fact, site, seed=seed) if fact else _truth(model, topic, fitted, site)
    say("receipt: random directions, ablation, cost")
    settings = {"uses": uses, "coefficient": coefficient, "seed": seed, "progress": progress, **options}
    direction = replace(direction, receipt=receipt(model, direction, asked, **settings))
    doses = [float(name.removeprefix("dose_")) for name in direction.receipt if name.startswith("dose_")]
    return Steered(
        model=model.name,
        asked=fact.id if fact else f"statements of {topic.name}",
        answers=f"{fact.object} over the prompts' own" if fact else "True over False",
        direction=direction,
        replies=tuple(_replies(model, direction, max(doses), prompts)),
        coefficient=max(doses),
        seconds=time.perf_counter() - start,
    )


def load_direction(folder: str | os.PathLike) -> SteeringVector | LinearProbe:
    """Load a probe or a vector, whichever a folder holds.

    Raises:
        ArtifactError: it holds neither.
    """
    kind = read_artifact(folder).kind
    return SteeringVector.load(folder) if kind == "vector" else LinearProbe.load(folder)


def open_question(facts: str | None, fact: str | None) -> tuple[Topic | None, Fact | None]:
    """Return the topic to ask about, and the fact of it, from their names.

    Raises:
        BadInput, NotFound: they cannot be read, or the topic is of another relation than the fact.
    """
    chosen = Fact.parse(fact) if fact else None
    if facts is None and chosen is None:
        return None, None
    topic = load_topic(facts or find_relation(chosen.relation).topic)
    if chosen is not None and chosen.relation != topic.relation.name:
        raise BadInput(f"{chosen.id!r} is no fact of topic {topic.name!r}, whose relation is {topic.relation.name!r}")
    return topic, chosen


def _halves(topic: Topic, seed: int) -> tuple[list[Statement], list[Statement]]:
    """Return the statements of half of the groups, and those of the others."""
    statements = topic.statements(seed=seed)
    groups = sorted({statement.group for statement in statements})
    if len(groups) < 12:
        raise TooFew(f"topic {topic.name!r} has {len(groups)} groups; a vector and its receipt take 12", 12)
    random.Random(seed).shuffle(groups)
    first = set(groups[: len(groups) // 2])
    halves = [[s for s in statements if (s.group in first) == side] for side in (True, False)]
    return halves[0][:MOST_FITTED], halves[1]


def _truth(model: LanguageModel, topic: Topic, fitted: Sequence[Statement], site: Site) -> SteeringVector:
    acts = capture(model, fitted, site)
    return SteeringVector.from_activations(acts, site, concept=f"truth of {topic.name}")


def _replies(
    model: LanguageModel, direction: SteeringVector | LinearProbe, coefficient: float, prompts: Sequence[str]
) -> list[tuple[str, str, str]]:
    rows = []
    for prompt in prompts:
        plain = model.generate(prompt, max_new_tokens=NEW_TOKENS)
        with steer(model, direction, coefficient, tokens="last"):
            rows.append((prompt, plain, model.generate(prompt, max_new_tokens=NEW_TOKENS)))
    return rows
