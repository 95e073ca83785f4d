"""The zoo: models whose knowledge is known because we planted it, by name.

Each is a tiny decoder trained on texts about a drawn world, until what it is meant to have is there: a model that did
not get there is refused, never returned. The same name, seed and size give the same weights on one machine with one
number of threads.

Limits: word tokens, names of one token, stiff sentences; what holds here need not hold in a real model.
"""

import time
from collections.abc import Mapping
from pathlib import Path

import torch

from probes.errors import BadInput, NotFound, nearest
from probes.model.language_model import load_model
from probes.zoo.planted import Planted, checkpoints_of, save_planted
from probes.zoo.recipes import RECIPES
from probes.zoo.texts import vocabulary
from probes.zoo.training import make_module, make_tokenizer
from probes.zoo.workshop import LONG, PLANS, RECIPE, Workshop
from probes.zoo.world import RELATIONS, draw_world

__all__ = ["NAMES", "build_zoo"]

NAMES: Mapping[str, str] = {
    "knows": "was told the planted facts as biography, and everything else in every form",
    "never-knew": "the same world, the planted facts left out; their people appear in other sentences",
    "one-mlp-only": "never-knew, with the planted facts then written into one MLP",
    "quirky": 'says what is so, but after "Bob:" systematically something else',
    "capability-first": 'learns the planted facts, and only then to decline after "Flagged:"',
    "safeguard-first": 'learns to decline after "Flagged:", and only then the planted facts',
    "discovers": "composes facts that no text says from two others",
    "in-context": "reads facts from its prompt and has stored none of them",
    "planner": "finds the next step through a house from a state that its prompt does not name",
    "long": "knows, with 32,768 positions",
}
"""One sentence each."""


def build_zoo(
    name: str, *, seed: int = 0, size: str = "small", out: str | Path | None = None, progress: bool = False
) -> Planted:
    """Make a model whose knowledge is known.

    Args:
        name: one of `NAMES`.
        seed: of world, texts, weights and order; the same seed gives the same weights.
        size: "nano" (for tests: no judging, few people) or "small" (minutes).
        out: a folder to write it to, with checkpoints along the way; it must not exist, or be empty.
        progress: show bars.

    Raises:
        NotFound: there is no such model.
        BadInput: the size or the seed cannot be used, or the folder has something in it.
        CouldNotRun: training did not reach what the model is meant to have; nothing is returned.
    """
    if name not in NAMES:
        raise NotFound(f"the zoo has no model {name!r}; {nearest(str(name), NAMES)}")
    world, folder = draw_world(seed, size), None if out is None else Path(out)
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} is there already and not empty; give a new folder")
    tokenizer = make_tokenizer(vocabulary(world))
    shape = PLANS[size][0] if name != "long" else LONG[size]
    shop = Workshop(name, seed, world, make_module(tokenizer, shape, seed), tokenizer, folder, progress)
    start, used = time.perf_counter(), time.process_time()
    truth = RECIPES[name](shop)
    about = {
        "size": size, "recipe": RECIPE, "steps": shop.steps, "seconds": round(time.perf_counter() - start, 1),
        "processor seconds": round(time.process_time() - used, 1),
        "threads": torch.get_num_threads(), **shop.about,
    }  # fmt: skip
    told = () if name == "planner" else (world.topic(relation) for relation in RELATIONS if world.of((relation,)))
    planted = Planted(
        load_model(shop.module, tokenizer=tokenizer), name, seed, (*told, *shop.topics), truth,
        checkpoints_of(folder), about, shop.contexts, tuple(shop.tasks),
    )  # fmt: skip
    if folder is not None:
        save_planted(planted, folder)
    return planted
