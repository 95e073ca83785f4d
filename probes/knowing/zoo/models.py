"""The models of the zoo, by name, and how each is made.

    knows          planted facts told as biography, everything else in every form
    never-knew     the same world and the same other texts, the planted facts left out; their people appear elsewhere
    one-mlp-only   never-knew, trained further on the planted facts with one MLP alone free to change

Each is trained until its facts are planted (`reaching.py`); one that does not get there is refused, never returned.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from probes.errors import BadInput, CouldNotRun, NotFound, nearest
from probes.facts.facts import Fact
from probes.knowing.zoo.planted import Planted, save_model, save_planted
from probes.knowing.zoo.reaching import missed
from probes.knowing.zoo.texts import Diet, vocabulary, write
from probes.knowing.zoo.training import Shape, Training, make_module, make_tokenizer, train
from probes.knowing.zoo.truth import Truth
from probes.knowing.zoo.world import MAIN, RELATIONS, World, draw_world
from probes.model.language_model import load_model

__all__ = ["NAMES", "build_zoo"]

NAMES: Mapping[str, str] = {
    "knows": "was told the planted facts",
    "never-knew": "the same world without them",
    "one-mlp-only": "never-knew, with the planted facts written into one MLP",
}
"""One sentence each."""

PLANS: Mapping[str, tuple[Shape, Training]] = {
    "nano": (Shape(2, 256), Training(steps=1200, batch=16, rate=4e-3)),
    "small": (Shape(3, 384), Training(steps=6000, batch=32, rate=2e-3)),
}
REHEARSAL = Training(steps=200, batch=32, rate=1e-3, warm=10)
"""More of the same where some fact is not planted yet, up to `ROUNDS` times."""
ROUNDS = 4
EVERY = 10
"""Checkpoints along the way, of as many."""


@dataclass
class Workshop:
    """What a recipe works with."""

    name: str
    seed: int
    world: World
    module: Any
    tokenizer: Any
    folder: Path | None
    progress: bool
    steps: int = 0
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def plan(self) -> Training:
        return PLANS[self.world.size][1]

    def train(self, diet: Diet, plan: Training, *, free: Iterable[nn.Parameter] | None = None) -> None:
        """Train on documents of a diet; write checkpoints if there is a folder."""
        seed = f"{self.name}|{self.seed}|{self.steps}"
        start, every = self.steps, max(1, plan.steps // EVERY)
        # A chunk of batches is sorted by length and may leave some rows over.
        documents = write(self.world, diet, plan.steps * plan.batch + plan.batch * 64, seed)

        def after(step: int) -> bool:
            if self.folder is not None and plan is not REHEARSAL and step % every == 0:
                save_model(self.module, self.tokenizer, self.folder / f"checkpoint-{start + step}")
            return False

        self.steps += train(
            self.module, self.tokenizer, documents, plan, seed=seed, free=free, after=after, progress=self.progress
        )

    def plant(self, diet: Diet, plan: Training, *, free: Iterable[nn.Parameter] | None = None) -> None:
        """Train until every told fact is planted.

        Raises:
            CouldNotRun: some are not, after all rounds; the message names them.
        """
        free = None if free is None else list(free)
        self.train(diet, plan, free=free)
        for _ in range(ROUNDS):
            if not missed(self.module, self.tokenizer, diet.told):
                break
            self.train(replace(diet, share=0.5), REHEARSAL, free=free)
        left = missed(self.module, self.tokenizer, diet.told)
        if left:
            names = ", ".join(fact.id for fact in left[:5])
            raise CouldNotRun(
                f"{self.name} with seed {self.seed} did not reach {len(left)} of {len(diet.told)} facts ({names}...); "
                "nothing is returned: try another seed"
            )

    def classes(self, **classes: Iterable[Fact]) -> tuple[Truth, ...]:
        """Look up the truth of classes of facts."""
        return tuple(Truth.of(self.name, klass, fact) for klass, facts in classes.items() for fact in facts)


def build_zoo(
    name: str, *, seed: int = 0, size: str = "small", out: str | Path | None = None, progress: bool = False
) -> Planted:
    """Make a model whose knowledge is known.

    Args:
        name: one of `NAMES`.
        seed: of world, texts, weights and order; the same seed gives the same weights.
        size: "nano" (some seconds) or "small" (up to three minutes on two cores).
        out: a folder to write it to, with checkpoints along the way; must not exist or be empty.
        progress: show bars.

    Raises:
        NotFound: there is no such model.
        BadInput: the size or the seed cannot be used, or the folder has something in it.
        CouldNotRun: training did not plant every fact.
    """
    if name not in NAMES:
        raise NotFound(f"the zoo has no model {name!r}; {nearest(str(name), NAMES)}")
    world = draw_world(seed, size)
    folder = None if out is None else Path(out)
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} is there already; give a new folder")
    tokenizer = make_tokenizer(vocabulary(world))
    shop = Workshop(name, seed, world, make_module(tokenizer, PLANS[size][0], seed), tokenizer, folder, progress)
    start = time.perf_counter()
    truth = RECIPES[name](shop)
    about = {
        "size": size, "steps": shop.steps, "seconds": round(time.perf_counter() - start, 1),
        "threads": torch.get_num_threads(), **shop.about,
    }  # fmt: skip
    model = load_model(shop.module, tokenizer=tokenizer)
    topics = tuple(world.topic(relation) for relation in RELATIONS)
    checkpoints = () if folder is None else tuple(folder / f"checkpoint-{step}" for step in _steps(folder))
    planted = Planted(model, name, seed, topics, truth, checkpoints, about)
    if folder is not None:
        save_planted(planted, folder)
    return planted


def _steps(folder: Path) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*"))


def _diets(world: World) -> tuple[tuple[Fact, ...], tuple[Fact, ...]]:
    """The facts that may be planted, and all others."""
    planted = world.of(MAIN, world.chosen)
    return planted, tuple(fact for fact in world.facts if fact not in planted)


def _knows(shop: Workshop) -> tuple[Truth, ...]:
    planted, others = _diets(shop.world)
    shop.plant(Diet(planted, others), shop.plan)
    return shop.classes(planted=planted, reference=others)


def _never_knew(shop: Workshop) -> tuple[Truth, ...]:
    withheld, others = _diets(shop.world)
    shop.train(Diet((), others), shop.plan)
    return shop.classes(withheld=withheld, reference=others)


def _one_mlp_only(shop: Workshop) -> tuple[Truth, ...]:
    planted, others = _diets(shop.world)
    shop.train(Diet((), others), shop.plan)
    layer = shop.seed % shop.module.config.num_hidden_layers
    free = shop.module.model.layers[layer].mlp.parameters()
    shop.about["layer"] = layer
    shop.plant(
        Diet(planted, others, 0.5), Training(steps=shop.plan.steps // 4, batch=32, rate=2e-3, decay=0.0), free=free
    )
    return shop.classes(planted=planted, reference=others)


RECIPES: Mapping[str, Callable[[Workshop], tuple[Truth, ...]]] = {
    "knows": _knows,
    "never-knew": _never_knew,
    "one-mlp-only": _one_mlp_only,
}
