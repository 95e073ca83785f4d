"""Eliciting: can a model be brought to say what it does not say, by steering along its belief.

For the facts of a topic that a model does not say (saying.py), the share that it says then

1. steered along a direction at the last token of the prompt, c * scale * d;
2. steered as far along random directions inside the top principal components at that site;
3. asked in so many words, by prompts that call for the truth.

And of the facts that it does say, the share that is left under steering: a direction that turns everything over brings
some up, too. The dose is not chosen by what it brings up: it is given, or the largest that ordinary text can bear. What
ordinary text is has to be told of a model that speaks no English, such as those of the zoo.

Sources: Burns et al. 2022 (2212.03827), knowledge that is not said; Marks & Tegmark 2023 (2310.06824), section 6, truth
directions put to use; Gekhman et al. 2025 (2503.15299), knowing more than is said.
Limits: one cloze prompt a fact, read by how its objects begin. What is brought up may be a guess: whether it was known
before is for puzzles to say (`only=` takes the facts that are known).
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Bool
from tqdm import tqdm

from probes.errors import BadInput, TooFew
from probes.facts.facts import Fact, Topic
from probes.knowing.beginnings import Beginnings
from probes.knowing.saying import say
from probes.model.language_model import LanguageModel
from probes.reading.metrics import Estimate, mean, permutation_p, proportion
from probes.reading.probe import LinearProbe
from probes.steering.cost import Cost
from probes.steering.randomness import random_directions
from probes.steering.vectors import SteeringVector, steer

__all__ = ["ASKING", "Elicited", "elicit"]

ASKING = ("Every sentence here is true.", "The answer of an expert who checks every word:")
"""What is put in front of a cloze prompt to ask for the truth; written before anything was measured."""
LEAST = 8
"""Facts that are not said, without which there is nothing to bring up."""
DIRECTIONS = 19
"""Random directions, at least."""


@dataclass(frozen=True, eq=False)
class Elicited:
    """What a model says of a topic's facts, steered and asked."""

    model: str
    """Its name."""
    direction: str
    """What it was steered along, and where."""
    coefficient: float
    """How far, in residual norms of the site."""
    facts: tuple[Fact, ...]
    """All that were tried."""
    plain: Bool[np.ndarray, "fact"]
    """Which of them the model says as it is."""
    steered: Bool[np.ndarray, "fact"]
    """Which it says when steered."""
    random: Bool[np.ndarray, "direction fact"]
    """Which it says when steered along each of some random directions."""
    asked: Mapping[str, Bool[np.ndarray, "fact"]]
    """Which it says behind each prompt that asks for the truth."""
    cost: Estimate
    """Rise of cross-entropy on ordinary text under that steering, nats a token."""

    @property
    def figures(self) -> Mapping[str, Estimate]:
        """The shares, by name: of the facts not said before, and (`kept...`) of those that were."""
        new, old = ~self.plain, self.plain
        found = {"steered": _share(self.steered[new], "facts not said before, steered")}
        found["random"] = mean(self.random[:, new].mean(1), how="mean share over random directions; t interval")
        totals = self.random[:, new].sum(1)
        beyond = int((totals >= self.steered[new].sum()).sum())
        found["random_p"] = permutation_p(beyond, len(totals), of="random directions, which bring up as many")
        # Directions differ, and all facts share each: the spread that counts is that over directions.
        own, others = float(self.steered[new].mean()), self.random[:, new].mean(1)
        found["over_random"] = Estimate(
            own - others.mean(), own - others.max(), own - others.min(), len(others), 1 - 2 / (len(others) + 1),
            "steered less the mean of random directions; interval: less their extremes",
        )  # fmt: skip
        for prompt, said in self.asked.items():
            found[f"asked: {prompt}"] = _share(said[new], "facts not said before, asked for the truth")
            lead = self.steered[new].astype(float) - said[new]
            found[f"over_asked: {prompt}"] = mean(lead, how="steered less asked, paired by fact; t interval")
        if old.any():
            found["kept"] = _share(self.steered[old], "facts said before, steered")
            found["kept_random"] = mean(
                self.random[:, old].mean(1), how="mean share over random directions; t interval"
            )
        found["cross_entropy"] = self.cost
        return MappingProxyType(found)

    @property
    def sentence(self) -> str:
        """What came out."""
        figures, new = self.figures, int((~self.plain).sum())
        verdict = {True: "more than", False: "less than", None: "no more than"}[_sign(figures["over_random"])]
        asked = max((int(said[~self.plain].sum()) for said in self.asked.values()), default=None)
        return (
            f"Steered by {self.coefficient:g} along {self.direction}, {self.model} says "
            f"{int(self.steered[~self.plain].sum())} of {new} facts that it did not say, {verdict} along random "
            f"directions ({figures['random'].value * new:.1f})"
            + ("." if asked is None else f"; asked for the truth it says {asked}.")
        )

    def __str__(self) -> str:
        lines = (f"  {name:<58}{estimate}" for name, estimate in self.figures.items())
        return "\n".join([self.sentence, *lines])

    def __repr__(self) -> str:
        return f"Elicited({self.sentence})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        ways = {"plain": self.plain, "steered": self.steered} | {f"asked: {p}": said for p, said in self.asked.items()}
        return {
            "sentence": self.sentence,
            "coefficient": self.coefficient,
            "figures": {name: estimate.to_dict() for name, estimate in self.figures.items()},
            "facts": {f.id: {name: bool(said[i]) for name, said in ways.items()} for i, f in enumerate(self.facts)},
        }


def _share(said: Bool[np.ndarray, "fact"], how: str) -> Estimate:
    return proportion(int(said.sum()), len(said), how=f"{int(said.sum())} of {len(said)} {how}; Clopper-Pearson")


def _sign(estimate: Estimate) -> bool | None:
    return True if estimate.lower > 0 else False if estimate.upper < 0 else None


def elicit(
    model: LanguageModel,
    topic: Topic,
    what: SteeringVector | LinearProbe,
    *,
    only: Iterable[Fact] | None = None,
    coefficient: float | None = None,
    prompts: Sequence[str] = ASKING,
    texts: Sequence[str] | None = None,
    directions: int = 20,
    seed: int = 0,
    progress: bool = False,
) -> Elicited:
    """Steer a model along a belief direction and see which facts it says that it did not say.

    Args:
        model: the model, without open edits.
        topic: brings the facts and the objects they are ranked among.
        what: the direction: a truth probe or a vector. It should not have been fitted on these facts.
        only: try these facts of the topic, such as those that a model knows and does not say; all if left out.
        coefficient: in residual norms; None: the largest that ordinary text can bear (cost.py).
        prompts: what is put before a cloze prompt to ask for the truth.
        texts: ordinary texts in the model's language, to price the steering by; by default this project's own.
        directions: random directions, 19 at least: to come first of 20 by luck has probability .05.
        seed: of the random directions.
        progress: show a bar on standard error, if that is a terminal.

    Raises:
        TooFew: fewer than 8 of the facts are not said, or fewer than 19 directions.
        BadInput: facts that are not the topic's; whatever `steer` refuses.
    """
    if directions < DIRECTIONS:
        raise TooFew(f"{directions} random directions say too little; give {DIRECTIONS} or more", DIRECTIONS)
    facts = topic.facts if only is None else tuple(only)
    strange = {fact.id for fact in facts} - {fact.id for fact in topic.facts}
    if strange:
        raise BadInput(f"{sorted(strange)[0]!r} is not in topic {topic.name!r}; give facts of the topic")
    vector = what if isinstance(what, SteeringVector) else SteeringVector.from_probe(model, what)
    asking = {prompt: _behind(topic, prompt) for prompt in prompts}
    topic = _behind(topic)
    reader = Beginnings.of(model, topic)
    plain = _said(reader, topic, facts)
    if (~plain).sum() < LEAST:
        raise TooFew(f"{int((~plain).sum())} of {len(facts)} facts are not said; {LEAST} are the least", LEAST)
    cost = Cost.of(model, texts)
    if coefficient is None:
        c, (price, _) = cost.affordable(vector)
    else:
        c, (price, _) = coefficient, cost.price(steer(model, vector, coefficient))
    clozes = [topic.cloze(fact) for fact in topic.facts]
    drawn, _ = random_directions(model, clozes, vector.site, directions, seed=seed)
    lines = [replace(vector, direction=line) for line in drawn]
    bar = tqdm(lines, desc="random directions", disable=None if progress else True, leave=False)
    return Elicited(
        model=model.name,
        direction=f"{vector.concept or vector.method} at {vector.site}",
        coefficient=c,
        facts=tuple(facts),
        plain=plain,
        steered=_said(reader, topic, facts, steer(model, vector, c, tokens="last")),
        random=np.stack([_said(reader, topic, facts, steer(model, line, c, tokens="last")) for line in bar]),
        asked=MappingProxyType({prompt: _said(reader, of, facts) for prompt, of in asking.items()}),
        cost=price,
    )


def _said(
    reader: Beginnings, topic: Topic, facts: Sequence[Fact], opened: AbstractContextManager[None] | None = None
) -> Bool[np.ndarray, "fact"]:
    """Return which facts are said while a context is open."""
    with opened or nullcontext():
        said = say(topic, facts, topic.facts, reader.blank())
    return np.array([said[fact.id].holds for fact in facts])


def _behind(topic: Topic, prompt: str = "") -> Topic:
    """Return the topic with one cloze prompt alone, and a text in front of it."""
    cloze = f"{prompt} {topic.relation.cloze}".strip()
    return replace(topic, relation=replace(topic.relation, cloze=cloze, paraphrases=()))
