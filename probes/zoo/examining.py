"""Examining: ask `know` about the facts of a model of the zoo, each class in the way that the truth table speaks of it.

1. Plainly: all classes but those below, with the world's topics beside.
2. Behind their contexts: facts that stand in the prompt alone.
3. By tasks: states that are acted upon and never said.

Of each class and aspect as many facts as wanted, among those of which the table says something there: the first ones
of an order drawn by seed. Of a fact only those aspects are asked for which it was drawn for, so that what one aspect is
claimed of has no say in which facts stand for another. Of reference facts those of the main relations alone.
"""

import random
from itertools import groupby

from probes.errors import BadInput
from probes.facts.facts import Fact
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
        facts: of each class and aspect, as far as the table says something of so many.
        seed: of the draw of facts, and of `know`.
        progress: show bars.

    Raises:
        BadInput: fewer than one fact.
    """
    if facts < 1:
        raise BadInput(f"{facts} facts of each class; give one at least")
    rows = [row for row in planted.truth if row.klass != "reference" or row.fact.relation in MAIN]
    rows.sort(key=lambda row: row.klass)
    wanted: dict[Truth, list[str]] = {}
    for klass, of in groupby(rows, key=lambda row: row.klass):
        mine = list(of)
        random.Random(f"{seed}|{klass}").shuffle(mine)
        for aspect in ASPECTS:
            for row in [row for row in mine if getattr(row, aspect) is not None][:facts]:
                wanted.setdefault(row, []).append(aspect)
    states = {task.subject for task in planted.tasks}
    ways: dict[tuple[str, tuple[str, ...]], list[Fact]] = {}
    for row, aspects in wanted.items():
        way = "noted" if row.klass in NOTED else "acted" if row.fact.subject in states else "plain"
        ways.setdefault((way, tuple(aspects)), []).append(row.fact)
    given = {"plain": {}, "noted": {"contexts": planted.contexts}, "acted": {"tasks": planted.tasks}}
    topics = [topic for topic in planted.topics if topic.name not in SIDE]
    found = [
        know(planted.model, topics, aspects=aspects, only=only, seed=seed, progress=progress, **given[way])
        for (way, aspects), only in ways.items()
    ]
    return tuple(found)
