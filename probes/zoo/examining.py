"""Examining: ask `know` about the facts of a model of the zoo, each class in the way that the truth table speaks of it.

1. Plainly: all classes but those below, in one call, with the world's topics beside.
2. Behind their contexts: facts that stand in the prompt alone.
3. By tasks: states that are acted upon and never said.

Of each class facts in an order drawn by seed, until the table says something of as many as wanted in every aspect; of
reference facts those of the main relations alone. Aspects that the table leaves open for all classes of a call are not
asked for.
"""

import random
from itertools import groupby

from probes.errors import BadInput
from probes.knowing.know import know
from probes.knowing.knowledge import ASPECTS, Knowing
from probes.zoo.planted import Planted
from probes.zoo.truth import NOTED, Truth
from probes.zoo.world import MAIN, SIDE

__all__ = ["examine"]


def examine(planted: Planted, *, facts: int = 80, seed: int = 0, progress: bool = False) -> tuple[Knowing, ...]:
    """Ask about the facts of a model of the zoo; give the answers to `confusion`, each with the model.

    Args:
        planted: the model.
        facts: of each class that the table speaks of in each aspect, as far as there are so many.
        seed: of the draw of facts, and of `know`.
        progress: show bars.

    Raises:
        BadInput: fewer than one fact.
    """
    if facts < 1:
        raise BadInput(f"{facts} facts of each class; give one at least")
    rows = [row for row in planted.truth if _open(row) and (row.klass != "reference" or row.fact.relation in MAIN)]
    rows.sort(key=lambda row: row.klass)
    drawn: list[Truth] = []
    for klass, of in groupby(rows, key=lambda row: row.klass):
        mine = list(of)
        random.Random(f"{seed}|{klass}").shuffle(mine)
        spoken = [[row for row in mine if getattr(row, aspect) is not None][:facts] for aspect in ASPECTS]
        drawn += dict.fromkeys(row for some in spoken for row in some)
    states = {task.subject for task in planted.tasks}
    by_way: dict[str, list[Truth]] = {"plain": [], "noted": [], "acted": []}
    for row in drawn:
        by_way["noted" if row.klass in NOTED else "acted" if row.fact.subject in states else "plain"].append(row)
    given = {"plain": {}, "noted": {"contexts": planted.contexts}, "acted": {"tasks": planted.tasks}}
    found = []
    for way, asked in by_way.items():
        if asked:
            aspects = [name for name in ASPECTS if any(getattr(row, name) is not None for row in asked)]
            only = tuple(row.fact for row in asked)
            topics = [topic for topic in planted.topics if topic.name not in SIDE]
            found.append(
                know(planted.model, topics, aspects=aspects, only=only, seed=seed, progress=progress, **given[way])
            )
    return tuple(found)


def _open(row: Truth) -> bool:
    """Whether the table says anything of a fact."""
    return any(getattr(row, name) is not None for name in ASPECTS)
