"""Using: does the answer hang on what sets the fact's subject apart inside the model.

1. The fact's directions at one site, one for the subject's last token and one for the end of the prompt: the mean
   activation there over the relation's other cloze prompts (the first is kept for the test), less the mean over all
   subjects; scaled to norm 1.
2. Ablate: in the cloze prompt, from the subject's last token on, take away what lies along them beyond the mean of all
   subjects, h - ((h - m) . d) d.
3. Beside it random directions of the span of the top principal components of all subjects' activations at those
   tokens: the very same amounts are taken away along them.
4. drop = fall of log p(begins as the object) less that of the mean distractor, against the drop under random ones.

All directions of a fact go through the model in one batch. The interval is one for a new draw: the value is what the
fact's direction costs beyond the random mean, and its half width what one random direction more would vary (Student).
Used is a fact whose interval lies above 0.

Sources: Ravfogel et al. 2020 (2004.07667) for taking directions away; Heimersheim & Mendel 2024 (2409.15019): random
directions must lie where activations vary, or they do nothing.
Limits: two directions, one site in the first half of the model, where the subject is still being looked up; what is
stored elsewhere is missed. A relation with a single cloze has its direction from that very prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Float
from scipy.stats import t
from torch import Tensor

from probes.activations.capture import capture
from probes.errors import BadInput
from probes.facts.facts import Fact, Topic
from probes.facts.templates import fill
from probes.knowing.beginnings import Beginnings
from probes.knowing.puzzles import digest
from probes.model.hooks import edits, read_logits
from probes.model.language_model import LanguageModel
from probes.model.sites import Site
from probes.reading.metrics import Estimate

__all__ = ["Use", "use"]

RANDOM = 15
"""Random directions beside each fact's."""
TOP = 32
"""Principal components that they lie in, at most."""
DISTRACTORS = 8
DEPTH = 1 / 3


@dataclass(frozen=True)
class Use:
    """What taking a fact's direction away does to its answer."""

    drop: Estimate
    """Nats that the object loses on its distractors, beyond the mean of random directions."""
    before: float
    """Margin of the object over the mean distractor without any ablation, in nats."""
    site: str
    """Where the direction was taken away."""

    @property
    def holds(self) -> bool:
        """Whether the answer hangs on the direction."""
        return self.drop.lower > 0


def use(
    model: LanguageModel,
    topic: Topic,
    facts: Sequence[Fact],
    background: Sequence[Fact],
    reader: Beginnings,
    *,
    seed: int = 0,
    site: Site | None = None,
) -> Mapping[str, Use]:
    """Take each fact's direction away and see what becomes of its answer.

    Args:
        model: the model.
        topic: brings wordings and distractors.
        facts: what to try.
        background: facts about other subjects, for the mean and the principal components.
        reader: knows how objects begin.
        seed: of the random directions.
        site: where; by default the output of a block at a third of the depth.

    Raises:
        BadInput: fewer than 8 subjects in all.
    """
    site = site or Site("resid_post", max(0, min(model.n_layers - 2, round(DEPTH * (model.n_layers - 1)))))
    every = tuple({fact.subject: fact for fact in (*facts, *background)}.values())
    if len(every) < 8:
        raise BadInput(f"{len(every)} subjects are too few to tell what sets one apart; give 8 at least")
    learn = topic.relation.clozes[1:] or topic.relation.clozes
    at = {fact.subject: i for i, fact in enumerate(every)}
    read = [_rows(model, text, every, site) for text in learn]
    test = _rows(model, topic.relation.cloze, every, site)
    places = []
    for place in range(2):
        away = torch.stack([rows[place] for rows in read]).mean(0)
        away = away - away.mean(0)
        _, _, basis = torch.linalg.svd(test[place] - test[place].mean(0), full_matrices=False)
        places.append((_unit(away), test[place].mean(0), basis[: min(TOP, len(every) - 1)]))
    found = {}
    for fact in facts:
        others = [text for text in fact.distractors or _objects(topic) if text != fact.object]
        others = [text for text in others if reader.heads[text][0] != reader.heads[fact.object][0]]
        generator = torch.Generator().manual_seed(digest(f"{seed}|use|{fact.id}"))
        if not others:
            continue
        picked = [others[i] for i in torch.randperm(len(others), generator=generator)[:DISTRACTORS].tolist()]
        along = []
        for directions, _, basis in places:
            drawn = torch.randn(RANDOM, len(basis), generator=generator) @ basis
            own = directions[at[fact.subject]][None]
            along.append(torch.cat([torch.zeros(1, model.d_model), own, _unit(drawn)]))
        centres = [centre for _, centre, _ in places]
        start = test[2][at[fact.subject]]
        margins = _margins(model, topic.cloze(fact), fact, picked, reader, site, along, centres, start)
        drops = margins[0] - margins[1:]
        half = float(t.ppf(0.975, RANDOM - 1) * drops[1:].std() * sqrt(1 + 1 / RANDOM))
        value = float(drops[0] - drops[1:].mean())
        how = f"fall of the margin at {site}, less the mean of {RANDOM} random directions; interval for one more"
        found[fact.id] = Use(Estimate(value, value - half, value + half, RANDOM, how=how), float(margins[0]), str(site))
    return found


def _rows(
    model: LanguageModel, text: str, facts: Sequence[Fact], site: Site
) -> tuple[Float[Tensor, "fact d_model"], Float[Tensor, "fact d_model"], list[int]]:
    """Return what the site holds at the last token of each subject and of each prompt, and where the subject ends."""
    prompts = [fill(text, fact.subject) for fact in facts]
    acts = capture(model, prompts, site, tokens="entity", entities=[fact.subject for fact in facts])
    last = acts.example.bincount(minlength=len(prompts)).cumsum(0) - 1
    ends = capture(model, prompts, site).values[site]
    return acts.values[site][last], ends, acts.position[last].tolist()


@torch.no_grad()
def _margins(
    model: LanguageModel,
    prompt: str,
    fact: Fact,
    others: Sequence[str],
    reader: Beginnings,
    site: Site,
    along: Sequence[Float[Tensor, "row d_model"]],
    centres: Sequence[Float[Tensor, "d_model"]],
    start: int,
) -> Float[Tensor, "row"]:
    """Return the object's margin for each row; what is taken away is measured along row 1, and taken along each."""

    def ablate(tensor: Tensor) -> Tensor:
        new = tensor.clone()
        for where, rows, centre in zip((slice(start, -1), slice(-1, None)), along, centres, strict=True):
            rows, centre = rows.to(tensor.device), centre.to(tensor.device)
            amount = (tensor[:, where].float() - centre) @ rows[1]
            new[:, where] -= (amount.unsqueeze(-1) * rows.unsqueeze(1)).to(tensor.dtype)
        return new

    ids = model.encode(prompt)
    inputs = model.collate([ids] * len(along[0]))
    rows = torch.arange(len(along[0]))
    with edits(model, {site: ablate}):
        logits = read_logits(model, inputs, rows, torch.full_like(rows, len(ids) - 1))
    logs = logits.float().log_softmax(-1).cpu()
    wrong = torch.tensor([reader.heads[text][0] for text in others])
    return logs[:, reader.heads[fact.object][0]] - logs[:, wrong].mean(1)


def _objects(topic: Topic) -> tuple[str, ...]:
    return tuple(dict.fromkeys(fact.object for fact in topic.facts))


def _unit(rows: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_model"]:
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
