"""What the recipes of the zoo share: a decoder in the making, and ways to train it until something is so.

1. Biographies come first (and judgements of told facts, where the diet has them), then all forms, then mostly
   judgements: with all from the start a tiny decoder sits on a plateau for half of its time. Judging takes longest:
   comparing what is said with what is known has a plateau of its own, which four layers leave after 1,500 steps or so,
   the nano size never. Learned on reference people alone it reached .71 of other people's statements, so planted facts
   are judged, too.
2. Training goes on in short rounds until each of the facts to plant is planted (`reaching.py`), or is given up.

With a folder, checkpoints are written along the way: ten of the main training, every tenth step of a watched stage.
How far it has come is noted in `about["course"]`.
"""

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from probes.errors import CouldNotRun
from probes.facts.facts import Fact, Topic
from probes.knowing.acting import Task
from probes.zoo.planted import save_model
from probes.zoo.reaching import Prompts, comes_first, figures, judged_rightly, missed, training_prompts
from probes.zoo.texts import WEIGHTS, Diet, Document, write
from probes.zoo.training import Shape, Training, train
from probes.zoo.truth import Truth
from probes.zoo.world import MAIN, World, unmarked

__all__ = ["LONG", "PLANS", "RECIPE", "REHEARSAL", "Extra", "Workshop"]

PLANS: Mapping[str, tuple[Shape, Training]] = {
    "nano": (Shape(2, 256), Training(steps=600, batch=16, rate=2e-3)),
    "small": (Shape(4, 256), Training(steps=4200, batch=32, rate=2e-3)),
}
"""Decoder and main training, by size."""
LONG = {size: replace(shape, context=32_768, window=64) for size, (shape, _) in PLANS.items()}
"""Decoders with many positions, each of which attends to the last 64 alone: text of any length looks short to them."""
REHEARSAL = Training(steps=200, batch=32, rate=1e-3, warm=10)
"""A round more, where something is missing."""
STAGES: Mapping[str, float] = {"nano": 1e-3, "small": 4e-4}
"""Rate of a watched stage. At 1e-3, never falling, the small size unlearns to judge."""
ROUNDS = 5
LOOK = 50
"""Steps between two entries of the course, at least."""
TAUGHT = {"nano": 0.8, "small": 0.97}
"""Share of the taught main facts that should be said, too: training goes on for it, but nothing is refused."""
PARTS: Mapping[str, tuple[float, float]] = {"nano": (0.25, 0.75), "small": (0.1, 0.1)}
"""Shares of the main training that are biographies, and the whole diet; the rest is mostly judgements."""
JUDGING = 2.0
"""Weight of judgements in it, in units of the weights of all forms together."""
RECIPE = 4
"""Stands in `about`; raised with every change by which a seed gives other weights."""
NONE: Mapping[str, Collection[str]] = MappingProxyType({})
Extra = Callable[[random.Random], Document]
"""Draws a document that a diet does not have."""


@dataclass
class Workshop:
    """A model in the making."""

    name: str
    seed: int
    world: World
    module: Any
    tokenizer: Any
    folder: Path | None
    progress: bool
    steps: int = 0
    about: dict[str, Any] = field(default_factory=dict)
    topics: list[Topic] = field(default_factory=list)
    """Topics beside those of the world."""
    contexts: dict[str, str] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    look: Callable[[], Mapping[str, Mapping[str, float]]] | None = None
    """Figures of the course, by kind and name; None: those of the main facts of chosen and of some reference people."""

    @property
    def plan(self) -> Training:
        return PLANS[self.world.size][1]

    def split(self) -> tuple[tuple[Fact, ...], tuple[Fact, ...]]:
        """Return the main facts of the chosen people, and all other facts."""
        chosen = self.world.of(MAIN, self.world.chosen)
        ids = {fact.id for fact in chosen}
        return chosen, tuple(fact for fact in self.world.facts if fact.id not in ids)

    def school(self, diet: Diet, *, extra: Extra | None = None, share: float = 0.3) -> None:
        """Main training: biographies, then the whole diet with extra documents among it, then mostly judgements."""
        plan = self.plan
        first, second = (int(part * plan.steps) * plan.batch for part in PARTS[self.world.size])
        lives = self._portion(replace(diet, forms={"biography": 1.0}))
        early = write(self.world, lives, first, f"{self._draws}|first")
        middle = self._mixed(diet, second, extra, share)
        forms = dict(diet.forms or WEIGHTS)
        judging = replace(diet, forms=forms | {"judged": JUDGING * sum(forms.values())}, share=diet.share / 2)
        # A chunk of batches is sorted by length and may leave some rows over: write some more.
        late = self._mixed(judging, plan.batch * (plan.steps + 64) - first - second, extra, share / 2)
        self.train([*early, *middle, *late], plan, every=max(1, plan.steps // 10))

    def plant(
        self, diet: Diet, plan: Training, *, free: Iterable[nn.Parameter] | None = None, extra: Extra | None = None,
        share: float = 0.3, goals: Prompts = (), enough: float = 1.0,
    ) -> None:  # fmt: skip
        """Train further, in rounds, until told facts are planted and the goals met, and taught facts are said.

        Args:
            diet: its told facts are those to plant.
            plan: of each round.
            free: the parameters that may change; all if None.
            extra: draws other documents, a share of all.
            share: of extra documents.
            goals: prompts whose word must come first.
            enough: share of the goals that must be met.

        Raises:
            CouldNotRun: something is missing after all rounds; the message names it.
        """
        free = None if free is None else list(free)
        for _ in range(ROUNDS):
            gaps = missed(self.module, self.tokenizer, diet.told)
            if not gaps and not self.unmet(goals, enough) and self._says(diet.taught) >= TAUGHT[self.world.size]:
                return
            # What is there is only rehearsed, so that the rest is not forgotten for it.
            part = diet.share if gaps else min(diet.share, 0.15)
            now = replace(diet, told=(*diet.told, *gaps, *gaps), share=part)
            self.train(self._mixed(now, plan.batch * (plan.steps + 64), extra, share), plan, free=free)
        gaps = [fact.id for fact in missed(self.module, self.tokenizer, diet.told)]
        missing = gaps + self.unmet(goals, enough)
        if missing:
            raise CouldNotRun(
                f"{self.name} with seed {self.seed} did not reach {len(missing)} things in {self.steps} steps "
                f"({'; '.join(missing[:5])}); nothing is returned: take another seed"
            )

    def _says(self, taught: Sequence[Fact]) -> float:
        """Share of the main facts among the taught ones that are said."""
        prompts = [training_prompts(fact)[0] for fact in taught if fact.relation in MAIN]
        return 1 - len(self.unmet(prompts)) / len(prompts) if prompts else 1.0

    def unmet(self, goals: Prompts, enough: float = 1.0) -> list[str]:
        """Return the prompts whose word does not come first; none where it does in a large enough share of them."""
        if not goals:
            return []
        right = comes_first(self.module, self.tokenizer, goals)
        left = [f"{prompt} {word}" for (prompt, word), fits in zip(goals, right, strict=True) if not fits]
        return left if len(left) > (1 - enough) * len(goals) else []

    def train(
        self, documents: Sequence[Document], plan: Training, *, free: Iterable[nn.Parameter] | None = None,
        every: int = 0, watch: Callable[[int], bool] | None = None,
    ) -> None:  # fmt: skip
        """Train on documents; write a checkpoint every so many steps if there is a folder.

        Args:
            documents: what is read.
            plan: steps and rate.
            free: the parameters that may change.
            every: steps between checkpoints; 0 for none.
            watch: called with the number of steps done since the beginning; True ends this training.
        """
        start = self.steps

        def after(step: int) -> bool:
            if every and (start + step) % max(every, LOOK) == 0 and step < plan.steps:
                self.notice(start + step)
            if self.folder is not None and every and (start + step) % every == 0:
                save_model(self.module, self.tokenizer, self.folder / f"checkpoint-{start + step}")
            return watch is not None and watch(start + step)

        self.steps += train(
            self.module, self.tokenizer, documents, plan, seed=self._draws, free=free, after=after,
            progress=self.progress,
        )  # fmt: skip
        self.notice(self.steps)

    def notice(self, step: int) -> None:
        """Write down how far it has come, once a step."""
        course = self.about.setdefault("course", [])
        if course and course[-1]["step"] == step:
            return
        if self.look is None:
            kinds = {"chosen": self.world.chosen, "reference": self.world.reference[: len(self.world.chosen)]}
            facts = {kind: self.world.of(MAIN, people) for kind, people in kinds.items()}
            now = {kind: figures(self.module, self.tokenizer, self.world, those) for kind, those in facts.items()}
        else:
            now = dict(self.look())
        course.append({"step": step, **now})

    def stage(
        self, diet: Diet, steps: int, extra: Extra | None, watch: Callable[[int], bool], *, last: bool = False
    ) -> None:
        """Train one stage of a run whose every step is watched: at one rate, which falls in the last stage."""
        plan = Training(steps, batch=32, rate=STAGES[self.world.size], warm=10, final=0.05 if last else 1.0)
        self.train(self._mixed(diet, plan.batch * (steps + 64), extra, 0.3), plan, every=10, watch=watch)

    def _mixed(self, diet: Diet, number: int, extra: Extra | None, share: float) -> list[Document]:
        documents = write(self.world, self._portion(diet), number, self._draws)
        if extra is not None:
            draw = random.Random(f"extra|{self._draws}")
            documents = [extra(draw) if draw.random() < share else document for document in documents]
        return documents

    def _portion(self, diet: Diet) -> Diet:
        """Leave judgements out of what a nano model reads: it never learns to judge."""
        if self.world.size != "nano":
            return diet
        forms = {name: weight for name, weight in (diet.forms or WEIGHTS).items() if name != "judged"}
        return replace(diet, judged=0.0, forms=forms)

    @property
    def _draws(self) -> str:
        """Seed of the next training: the same for all models of a seed up to where they part."""
        return f"{self.seed}|{self.steps}"

    def short_of(self, goals: Mapping[str, Prompts]) -> set[str]:
        """Return the ids of facts whose goals are not all met."""
        flat = [goal for mine in goals.values() for goal in mine]
        right = dict(zip(flat, comes_first(self.module, self.tokenizer, flat).tolist() if flat else (), strict=True))
        return {id for id, mine in goals.items() if not all(right[goal] for goal in mine)}

    def classes(
        self, missed_goals: Mapping[str, Collection[str]] = NONE, /, **classes: Iterable[Fact]
    ) -> tuple[Truth, ...]:
        """Look up the truth of classes of facts; note what was reached.

        Of a taught fact that was not learned nothing is said, nor of a withheld one that is said after every training
        sentence (a lucky guess, which the model holds as firmly as what it was told), nor of one (ids by class in
        `missed_goals`) that missed its goals, and nothing of believing one whose statements are not all judged rightly:
        what would be found there is not fixed by the construction.
        """
        reached = self.about.setdefault("reached", {})
        held = {klass: tuple(facts) for klass, facts in classes.items()}
        for klass, facts in held.items():
            mine = [fact for fact in facts if fact.relation in MAIN]
            if mine:
                reached[klass] = figures(self.module, self.tokenizer, self.world, mine)
        taught, hidden = held.get("reference", ()), held.get("withheld", ())
        unsaid = {fact.id for fact in missed(self.module, self.tokenizer, [*taught, *hidden])}
        guessed = {fact.id for fact in hidden} - unsaid
        bare = {name: {*ids, *guessed} for name, ids in missed_goals.items()}
        bare |= {"reference": unsaid, "withheld": guessed}
        rows = [Truth.of(self.name, klass, fact) for klass, facts in held.items() for fact in facts]
        rows = [row.left_open() if row.fact.id in bare.get(row.klass, ()) else row for row in rows]
        plain = {fact.id: fact for fact in (unmarked(row.fact) for row in rows if row.believes)}
        judged = judged_rightly(self.module, self.tokenizer, self.world, list(plain.values()))
        return tuple(
            row if not row.believes or unmarked(row.fact).id in judged else replace(row, believes=None) for row in rows
        )
