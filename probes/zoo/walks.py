"""Walks through a house of nine rooms: tasks that need a state which no word of the prompt names.

The rooms form a square of three by three. A prompt says where a walk starts, which way it goes, and where the key is:

    "Start in the attic. Go east. Go south. The key is in the cellar. Next go"

and the answer is the first step of the way there: north or south while the row differs, else east or west. Whoever
answers has to hold the room that the walk has come to, which is the belief that a state probe can read and an edit can
take away. Walks stay inside the house; start, walk and key are drawn, the key never in the room that is reached.

Limits: walks of one to three steps; the order of rooms in the house is drawn by seed.
"""

import random
from collections.abc import Collection
from typing import NamedTuple

from probes.facts.facts import Fact, Topic
from probes.facts.templates import Relation
from probes.knowing.acting import Task

__all__ = [
    "DIRECTIONS",
    "ROOM",
    "Document",
    "draw_house",
    "draw_tasks",
    "walk_documents",
    "walk_topic",
    "walk_words",
]

_ROOMS = "attic bath cellar den foyer garage hall kitchen office"
SIDE = 3
DIRECTIONS = {"north": (-1, 0), "south": (1, 0), "west": (0, -1), "east": (0, 1)}
ROOM = Relation(
    name="room", subject_kind="walk", affirmed="{subject} The room is the {object}.",
    negated="{subject} The room is not the {object}.", paraphrases=(), cloze="{subject} The room is the",
)  # fmt: skip
"""Never trained: the room is a state, not something that is said."""


class Document(NamedTuple):
    """One training text."""

    text: str
    """What is learned, token by token."""
    read: str = ""
    """What stands before it and is only read: no loss is taken on it."""
    weight: float = 1.0
    """How much the loss of each of its tokens counts."""


def draw_house(seed: int) -> tuple[str, ...]:
    """Return the rooms, row after row."""
    rooms = _ROOMS.split()
    random.Random(f"house|{seed}").shuffle(rooms)
    return tuple(rooms)


def draw_tasks(house: tuple[str, ...], number: int, seed: int | str, *, without: Collection[str] = ()) -> list[Task]:
    """Draw tasks, none of whose prompts is among those to leave out."""
    draw, tasks = random.Random(f"walks|{seed}"), []
    while len(tasks) < number:
        task = _task(house, draw)
        if task.prompt not in without:
            tasks.append(task)
    return tasks


def _task(house: tuple[str, ...], draw: random.Random) -> Task:
    row, column = draw.randrange(SIDE), draw.randrange(SIDE)
    walk = f"Start in the {house[row * SIDE + column]}."
    for _ in range(draw.randint(1, 3)):
        inside = {
            name: (row + down, column + right)
            for name, (down, right) in DIRECTIONS.items()
            if 0 <= row + down < SIDE and 0 <= column + right < SIDE
        }
        name = draw.choice(list(inside))
        row, column = inside[name]
        walk += f" Go {name}."
    here = row * SIDE + column
    goal = draw.choice([i for i in range(SIDE * SIDE) if i != here])
    down, right = goal // SIDE - row, goal % SIDE - column
    answer = ("south" if down > 0 else "north") if down else ("east" if right > 0 else "west")
    return Task(f"{walk} The key is in the {house[goal]}. Next go", house[here], answer, walk)


def walk_documents(tasks: list[Task]) -> list[Document]:
    """Return the training text of each task, all of it learned: which ways a walk can go tells where it is."""
    return [Document(f"{task.prompt} {task.answer}.") for task in tasks]


def walk_topic(tasks: list[Task], seed: int) -> Topic:
    """Return where each walk leads as facts: walk | room | where it leads."""
    facts = {task.subject: Fact(task.subject, "room", task.state, topic="room") for task in tasks}
    return Topic("room", ROOM, tuple(facts.values()), "CC0-1.0", f"drawn by the zoo, seed {seed}")


def walk_words() -> str:
    """Return all words of the walks."""
    return f"Start in the Go The key is Next go room not . {_ROOMS} {' '.join(DIRECTIONS)}"
