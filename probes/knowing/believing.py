"""Believing: does a truth probe that never saw a fact put its true statement above false ones about the same subject.

1. Statements: each fact's true and false twin (facts.py), and seven false ones more, with objects of the same fold.
2. Folds by the pairs in which facts swap objects, so a probe that scores a fact saw neither its subject nor any object
   of its statements. In each of five, the layer is chosen on a third of the training pairs by a probe of the others;
   then the probe (LDA) is fitted anew on all of them.
3. margin = score of the true statement - mean score of the false ones, in units of that fold's spread of false ones.

The interval says how far a false statement lies above or below the mean of the other false ones of its subject: what a
margin is where truth makes no difference. Believed is a fact whose interval lies above 0; without truth in the
activations, one fact in forty would be.

Source: Marks & Tegmark 2023 (2310.06824) for the probe. Limits: one wording; the margin of a single fact is noisy where
the probe is. Few facts (less than 30 pairs) are too few to fit on.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from probes.activations.capture import capture
from probes.errors import TooFew
from probes.facts.facts import Fact, Topic
from probes.facts.templates import fill
from probes.model.language_model import LanguageModel
from probes.model.sites import Site
from probes.reading.fitting import solve_lda
from probes.reading.metrics import Estimate, auroc, auroc_values

__all__ = ["LEAST", "Belief", "Beliefs", "believe"]

FOLDS = 5
FALSE = 8
"""False statements of each fact, where the topic has so many objects: they share its beginning, and cost little."""
LEAST = 30
"""Pairs of facts that a probe needs."""
LAYERS = 6
"""Layers that are tried, from .4 of the depth on."""


@dataclass(frozen=True)
class Belief:
    """What a truth probe says of one fact."""

    margin: Estimate
    """Score of the true statement above the mean of the false ones, in spreads of false ones."""
    statements: tuple[tuple[str, bool, float], ...]
    """Text, truth and score of each."""

    @property
    def holds(self) -> bool:
        """Whether the model believes the fact."""
        return self.margin.lower > 0


@dataclass(frozen=True)
class Beliefs:
    """What truth probes say of the facts of a topic."""

    each: Mapping[str, Belief]
    """By fact id."""
    auroc: Estimate
    """True against false statements, all held out."""
    sites: tuple[str, ...]
    """Where the probe of each fold read."""


def believe(
    model: LanguageModel, topic: Topic, *, seed: int = 0, batch_size: int = 32, progress: bool = False
) -> Beliefs:
    """Fit truth probes on parts of a topic and score the facts of the other part.

    Raises:
        TooFew: fewer than 30 pairs of facts. BadInput: no false statements (see `Topic.statements`).
    """
    twins = topic.statements(seed=seed)
    groups = [twins[2 * i].group for i in range(len(topic.facts))]
    if len(set(groups)) < LEAST:
        raise TooFew(
            f"{len(set(groups))} pairs of facts in topic {topic.name!r} are too few for a truth probe; give {LEAST} at "
            "least",
            needed=LEAST,
        )
    fold_of = _folds(groups, seed)
    texts, labels, owner = [], [], []
    for i in range(len(topic.facts)):
        wrong = twins[2 * i + 1].text
        extra = [] if topic.relation.closed else _more(topic, i, fold_of, wrong, seed)
        for text, label in ((twins[2 * i].text, True), (wrong, False), *((text, False) for text in extra)):
            texts.append(text)
            labels.append(label)
            owner.append(i)
    sites = _sites(model)
    acts = capture(model, texts, sites, batch_size=batch_size, progress=progress)
    truth, owner = torch.tensor(labels), torch.tensor(owner)
    fold = torch.tensor([fold_of[i] for i in range(len(topic.facts))])[owner]
    scores, chosen = torch.zeros(len(texts), dtype=torch.float64), []
    first = torch.tensor([j < 2 for i in range(len(topic.facts)) for j in range(int((owner == i).sum()))])
    for number in range(FOLDS):
        train = fold != number
        site = _choose(acts.values, truth, fold, train, number)
        weight, bias = _fit(acts.values[site], truth, train)
        held = fold == number
        scores[held] = acts.values[site][held].double() @ weight + bias
        spread = scores[held & ~truth].std()
        scores[held] /= spread if spread > 0 else 1.0
        chosen.append(str(site))
    overall = auroc(scores[first], truth[first], groups=[groups[i] for i in owner[first].tolist()])
    return Beliefs(_margins(topic.facts, texts, truth, owner, scores), overall, tuple(chosen))


def _folds(groups: Sequence[str], seed: int) -> list[int]:
    """Deal the groups out evenly, in an order drawn by seed."""
    names = sorted(set(groups))
    random.Random(f"folds|{seed}").shuffle(names)
    at = {name: i % FOLDS for i, name in enumerate(names)}
    return [at[group] for group in groups]


def _more(topic: Topic, i: int, fold_of: Sequence[int], wrong: str, seed: int) -> list[str]:
    """Return further false statements about a fact's subject, with objects of its own fold."""
    fact = topic.facts[i]
    right = {other.object for other in topic.facts if other.subject == fact.subject}
    pool = sorted({topic.facts[j].object for j in range(len(topic.facts)) if fold_of[j] == fold_of[i]} - right)
    random.Random(f"{seed}|{fact.id}").shuffle(pool)
    texts = (fill(topic.relation.affirmed, fact.subject, thing) for thing in pool)
    return [text for text in texts if text != wrong][: FALSE - 1]


def _sites(model: LanguageModel) -> tuple[Site, ...]:
    depths = np.linspace(0.4, 1.0, LAYERS) * (model.n_layers - 1)
    return tuple(Site("resid_post", layer) for layer in sorted({round(depth) for depth in depths}))


def _choose(
    values: Mapping[Site, Tensor],
    truth: Bool[Tensor, "row"],
    fold: Tensor,
    train: Bool[Tensor, "row"],
    number: int,
) -> Site:
    """Return the site whose probe does best on the part of the training pairs that it was not fitted on."""
    if len(values) == 1:
        return next(iter(values))
    inner = (fold == (number + 1) % FOLDS) | (fold == (number + 2) % FOLDS)
    found = {}
    for site, rows in values.items():
        weight, _ = _fit(rows, truth, train & ~inner)
        held = train & inner
        found[site] = float(auroc_values((rows[held].double() @ weight)[:, None], truth[held])[0])
    return max(found, key=found.__getitem__)


def _fit(
    rows: Float[Tensor, "row d_model"], truth: Bool[Tensor, "row"], train: Bool[Tensor, "row"]
) -> tuple[Float[Tensor, "d_model"], float]:
    weights, biases = solve_lda(rows[train], truth[train][:, None])
    return weights[:, 0], float(biases[0])


def _margins(
    facts: Sequence[Fact], texts: Sequence[str], truth: Tensor, owner: Tensor, scores: Tensor
) -> dict[str, Belief]:
    own = [scores[owner == i] for i in range(len(facts))]
    strays = [
        float(one - (false.sum() - one) / (len(false) - 1))
        for each in own
        if len(false := each[1:]) > 1
        for one in false
    ]
    above, below, how = 1.96 * sqrt(2), 1.96 * sqrt(2), "interval: that of a difference of two false ones"
    if strays:
        # Each side for itself: false statements that lie far below the others are no reason to doubt a true one.
        below, above = (abs(float(q)) for q in np.quantile(strays, (0.025, 0.975)))
        how = "interval: how far above and below the others 95 % of false ones lie"
    found = {}
    for i, fact in enumerate(facts):
        value = float(own[i][0] - own[i][1:].mean())
        margin = Estimate(
            value, value - above, value + below, len(own[i]), how=f"true - mean of false, held out; {how}"
        )
        at = (owner == i).nonzero()[:, 0].tolist()
        found[fact.id] = Belief(margin, tuple((texts[j], bool(truth[j]), float(scores[j])) for j in at))
    return found
