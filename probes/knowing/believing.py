"""Believing: does a truth probe that never saw a fact put its true statement above false ones about the same subject.

1. Statements: each fact's true one and 4 to 15 false ones, as far as the fold has other objects (one, where the
   relation is closed); in as many wordings as keep them to 3,600 a topic, in one where there are more. (False ones
   share a beginning, so they cost less than wordings, and help as much.)
2. Rows: x(s, o) less the mean of the false statements of others with that object, less the mean of that subject's:

       z(s, o) = y(s, o) - mean over o' of y(s, o'),   y(s, o) = x(s, o) - mean over s' of x(s', o), (s', o) false

   What a subject or an object brings along by itself (a well known country) is gone; what is left is how they fit.
3. Probes (LDA) on z in five folds by the pairs in which facts swap objects, so that what scores a fact saw no statement
   about its subject; at three layers, whose scores are averaged in units of their false ones: none is chosen.
4. margin = score of the true statement - mean score of the false ones, in units of that fold's spread of false ones.

The interval says how far a false statement lies above or below the mean of the other false ones of its subject: what a
margin is where truth makes no difference. Believed is a fact whose interval lies above 0; without truth in the
activations, one fact in forty would be.

Source: Marks & Tegmark 2023 (2310.06824) for the probe and the depth. Limits: the margin of a single fact is noisy
where the probe is. Objects with many facts stand in several folds (z is there so that this tells nothing). Relations
that are closed have objects of their own for each subject, and only the mean of the subject is taken off. Few facts
(less than 30 pairs) are too few to fit on.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probes.activations.capture import capture
from probes.errors import TooFew
from probes.facts.facts import Fact, Topic
from probes.facts.templates import fill
from probes.model.language_model import LanguageModel
from probes.model.sites import Site
from probes.reading.fitting import solve_lda
from probes.reading.metrics import Estimate, auroc

__all__ = ["LEAST", "Belief", "Beliefs", "believe"]

FOLDS = 5
LEAST = 30
"""Pairs of facts that a probe needs."""
STATEMENTS = 3600
"""Statements about a topic that are read, about: few facts have more false ones, in more wordings."""
FALSE = (4, 15)
"""False statements of each fact in each wording, at least and at most, where the topic has so many objects."""
DEPTHS = (0.6, 0.7, 0.8)
"""Share of the blocks behind which each probe reads."""


@dataclass(frozen=True)
class Belief:
    """What truth probes say of one fact."""

    margin: Estimate
    """Score of the true statement above the mean of the false ones, in spreads of false ones."""
    statements: tuple[tuple[str, bool, float], ...]
    """Text in the first wording, truth and score (mean over wordings) of each."""

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
    """Where the probes read."""


def believe(
    model: LanguageModel, topic: Topic, *, seed: int = 0, batch_size: int = 32, progress: bool = False
) -> Beliefs:
    """Fit truth probes on parts of a topic and score the facts of the other part.

    Raises:
        TooFew: fewer than 30 pairs of facts. BadInput: no false statements (see `Topic.statements`).
    """
    groups = [twin.group for twin in topic.statements(seed=seed)[::2]]
    if len(set(groups)) < LEAST:
        raise TooFew(
            f"{len(set(groups))} pairs of facts in topic {topic.name!r} are too few for a truth probe; give {LEAST} at "
            "least",
            needed=LEAST,
        )
    fold_of = _folds(groups, seed)
    rows = _Rows.of(topic, fold_of, seed)
    sites = _sites(model)
    acts = capture(model, rows.texts, sites, batch_size=batch_size, progress=progress)
    fold = torch.tensor(fold_of)[rows.owner]
    scores = sum(_scores(acts.values[site], rows, fold) for site in sites)
    scores = _spread(scores.reshape(rows.wordings, -1).mean(0), rows, fold)
    first = [i for i in range(len(scores)) if rows.place[i] < 2]  # the true one, and its twin of the other's object
    overall = auroc(scores[first], rows.truth[first], groups=[groups[i] for i in rows.owner[first].tolist()])
    return Beliefs(_margins(topic.facts, rows, scores), overall, tuple(map(str, sites)))


def _folds(groups: Sequence[str], seed: int) -> list[int]:
    """Deal the groups out evenly, in an order drawn by seed."""
    names = sorted(set(groups))
    random.Random(f"folds|{seed}").shuffle(names)
    at = {name: i % FOLDS for i, name in enumerate(names)}
    return [at[group] for group in groups]


@dataclass(frozen=True, eq=False)
class _Rows:
    """Every statement, in one wording after the other."""

    texts: list[str]
    wordings: int
    owner: Int[Tensor, "row"]
    """Which fact a row is about."""
    place: Int[Tensor, "row"]
    """Of the object among those of the fact: 0 is the true one, 1 its twin's."""
    about: Int[Tensor, "row"]
    """The same number for rows of one fact in one wording."""
    object: Int[Tensor, "row"] | None
    """The same number for rows with one object in one wording; None where the relation is closed."""

    @property
    def truth(self) -> Bool[Tensor, "row"]:
        return self.place == 0

    @classmethod
    def of(cls, topic: Topic, fold_of: Sequence[int], seed: int) -> "_Rows":
        relation, n = topic.relation, len(topic.facts)
        false = max(FALSE[0], min(FALSE[1], STATEMENTS // n - 1))
        things = _things(topic, fold_of, false, seed)
        wordings = (relation.affirmed, *relation.paraphrases)[: max(1, STATEMENTS // sum(map(len, things)))]
        number = {text: i for i, text in enumerate(sorted({text for mine in things for text in mine}))}
        pairs = [(i, j, text) for i, mine in enumerate(things) for j, text in enumerate(mine)]
        texts = [fill(words, topic.facts[i].subject, text) for words in wordings for i, _, text in pairs]
        which = torch.arange(len(wordings)).repeat_interleave(len(pairs))
        owner, place, thing = (
            torch.tensor(part).repeat(len(wordings))
            for part in ([i for i, _, _ in pairs], [j for _, j, _ in pairs], [number[text] for _, _, text in pairs])
        )
        return cls(
            texts=texts, wordings=len(wordings), owner=owner, place=place, about=which * n + owner,
            object=None if relation.closed else which * len(number) + thing,
        )  # fmt: skip


def _things(topic: Topic, fold_of: Sequence[int], false: int, seed: int) -> list[list[str]]:
    """Return for each fact its object and wrong ones, first its twin's, then others of its own fold."""
    right: dict[str, set[str]] = {}
    pools: dict[int, set[str]] = {}
    for fact, fold in zip(topic.facts, fold_of, strict=True):
        right.setdefault(fact.subject, set()).add(fact.object)
        pools.setdefault(fold, set()).add(fact.object)
    found = []
    for fact, wrong, fold in zip(topic.facts, topic.wrong_objects(seed=seed), fold_of, strict=True):
        pool = [] if topic.relation.closed else sorted(pools[fold] - right[fact.subject] - {wrong})
        random.Random(f"{seed}|{fact.id}").shuffle(pool)
        found.append([fact.object, wrong, *pool[: false - 1]])
    return found


def _sites(model: LanguageModel) -> tuple[Site, ...]:
    return tuple(Site("resid_post", layer) for layer in sorted({ceil(d * model.n_layers) - 1 for d in DEPTHS}))


def _scores(values: Float[Tensor, "row d_model"], rows: _Rows, fold: Int[Tensor, "row"]) -> Float[Tensor, "row"]:
    """Return the score of every row at one site, by a probe that was fitted on the other folds."""
    scores = torch.zeros(len(values), dtype=torch.float64)
    for number in range(FOLDS):
        train, held = fold != number, fold == number
        weights, _ = solve_lda(_apart(values, rows, train), rows.truth[train][:, None])
        scores[held] = _apart(values, rows, held) @ weights[:, 0]
    return _spread(scores, rows, fold)


def _apart(
    values: Float[Tensor, "row d_model"], rows: _Rows, part: Bool[Tensor, "row"]
) -> Float[Tensor, "kept d_model"]:
    """Return the rows of one part less what their object, and then their subject, bring along by themselves."""
    x, false = values[part].double(), ~rows.truth[part]
    if rows.object is not None:
        thing, mine = rows.object[part], false[:, None].double()
        totals = torch.zeros(int(thing.max()) + 1, x.shape[1], dtype=x.dtype).index_add_(0, thing, x * mine)
        counts = torch.bincount(thing[false], minlength=len(totals))[thing][:, None] - mine
        others = (totals[thing] - x * mine) / counts.clamp_min(1)  # its own row is not among the others
        x = x - torch.where(counts > 0, others, x[false].mean(0))
    about = rows.about[part]
    totals = torch.zeros(int(about.max()) + 1, x.shape[1], dtype=x.dtype).index_add_(0, about, x)
    return x - (totals / torch.bincount(about).clamp_min(1)[:, None])[about]


def _spread(scores: Float[Tensor, "row"], rows: _Rows, fold: Int[Tensor, "row"]) -> Float[Tensor, "row"]:
    """Return the scores of the first wording's rows, or of all, in spreads of the false ones of each fold."""
    scores, truth, fold = scores.clone(), rows.truth[: len(scores)], fold[: len(scores)]
    for number in range(FOLDS):
        held = fold == number
        spread = scores[held & ~truth].std()
        scores[held] /= spread if spread > 0 else 1.0
    return scores


def _margins(facts: Sequence[Fact], rows: _Rows, scores: Float[Tensor, "row"]) -> dict[str, Belief]:
    at = [(rows.owner[: len(scores)] == i).nonzero()[:, 0].tolist() for i in range(len(facts))]
    own = [scores[mine] for mine in at]
    strays = [
        float(one - (false.sum() - one) / (len(false) - 1))
        for each in own
        if len(false := each[1:]) > 1
        for one in false
    ]
    # One false statement a fact: with their mean taken off, one is the other's opposite, and they differ by twice it.
    above, below, how = 2 * 1.96, 2 * 1.96, "interval: twice that of a false one"
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
        said = tuple((rows.texts[j], bool(rows.truth[j]), float(scores[j])) for j in at[i])
        found[fact.id] = Belief(margin, said)
    return found
