"""A toy planner that steps by a state it never says: taken away, it steps otherwise."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import probes
from probes import BadInput
from probes.facts.facts import Fact, Topic
from probes.facts.templates import Relation
from probes.knowing import acting
from probes.knowing.acting import Task, use_in_tasks
from probes.knowing.know import know
from probes.knowing.using import RANDOM

SEAT = Relation(
    name="seat", affirmed="the city of {subject} is {object}", negated="the city of {subject} is not {object}",
    paraphrases=("now {subject} say {object}",), cloze="the city of {subject}",
)  # fmt: skip
STATES = ["capital", "cheese", "river", "city"]
KEYS = [f"word{28 + i}" for i in range(8)]
STEPS = ["France", "Spain", "Italy", "Rome"]
TASKS = [
    Task(f"word{i} say {key}", STATES[i % 4], STEPS[(i + k) % 4], f"word{i} say")
    for i in range(28)
    for k, key in enumerate(KEYS)
]
ROOMS = Topic("seats", SEAT, tuple(Fact(f"word{i} say", "seat", STATES[i % 4], topic="seats") for i in range(28)))


def planner(idle, *, looks=True):
    """A model that writes its state into the stream at the last token, and steps by it, or by the prompt itself."""
    model = idle()
    rows, index = model.module.get_output_embeddings().weight.detach() / 20, {}
    for task in TASKS:
        index[model.encode(task.subject)[0]] = STATES.index(task.state)
    keys, steps = ([model.encode(word)[0] for word in words] for words in (KEYS, STEPS))
    axes, seen = torch.linalg.qr(torch.randn(64, 5, generator=torch.Generator().manual_seed(5)))[0].T, {}
    axes, odd = axes[:4], axes[4]
    far = 30 * torch.randn(len(index), generator=torch.Generator().manual_seed(6))
    apart = dict(zip(index, far.tolist(), strict=True)) if looks == "fades" else {}

    def note(_, args, kwargs):
        seen["ids"] = kwargs.get("input_ids", args[0] if args else None).tolist()

    def write(_, args, output):
        stream = (output if isinstance(output, torch.Tensor) else output[0]).clone()
        for row, ids in enumerate(seen["ids"]):
            stream[row, -1] += 4 * axes[index.get(ids[0], 0)] + apart.get(ids[0], 0.0) * odd
        return stream if isinstance(output, torch.Tensor) else (stream, *output[1:])

    def step(_, args, output):
        stream = (output if isinstance(output, torch.Tensor) else output[0]).clone()
        for row, ids in enumerate(seen["ids"]):
            key = keys.index(ids[-1]) if ids[-1] in keys else 0
            held = stream[row, -1] @ axes.T if looks is True else 4 * torch.eye(4)[index.get(ids[0], 0)]
            if looks == "fades":
                held = held + 0.05 * abs(float(stream[row, -1] @ odd) - apart.get(ids[0], 0.0))
            stream[row, -1] = sum(held[s] * rows[steps[(s + key) % 4]] for s in range(4))
        return stream if isinstance(output, torch.Tensor) else (stream, *output[1:])

    model.body.register_forward_pre_hook(note, with_kwargs=True)
    model.blocks[0].module.register_forward_hook(write)
    model.blocks[2].module.register_forward_hook(step)
    return model


def test_a_state_that_is_acted_upon_is_used_though_it_is_never_said(idle):
    found = know(planner(idle), ROOMS, only=ROOMS.facts[:9], tasks=TASKS, aspects=["uses"], seed=0)
    assert all(row.used.given for row in found.rows)
    assert not any(row.holds("says") for row in found.rows)
    assert all(row.holds("uses") for row in found.rows)


def test_a_state_that_is_written_down_and_not_acted_upon_is_not_used(idle):
    found = use_in_tasks(planner(idle, looks=False), ROOMS.facts[:9], TASKS)
    assert all(one.given for one in found.values())
    assert not any(one.holds for one in found.values())


def test_what_any_long_shift_would_cost_is_no_use_of_the_state(idle, monkeypatch):
    """Answers come from the prompt and fade with any shift along an axis in which subjects differ, whatever the state.

    Means of states lie apart along that axis by luck, and by much: random directions move less along it, states dealt
    anew as much.
    """
    model = planner(idle, looks="fades")
    found = use_in_tasks(model, ROOMS.facts[:16], TASKS)
    assert all(one.given for one in found.values())
    assert sum(one.holds for one in found.values()) <= 3
    one, rest = acting._dealt, slice(0, 1)
    monkeypatch.setattr(acting, "_dealt", lambda *given: {k: v[rest] for k, v in one(*given).items()})
    alone = use_in_tasks(model, ROOMS.facts[:16], TASKS)
    assert sum(one.holds for one in alone.values()) >= 8, "without them most look used"


def test_tasks_that_are_not_done_are_no_use(idle):
    """The answers of every task moved on by one: the state sets the step, but not to these."""
    tasks = [replace(task, answer=STEPS[(STEPS.index(task.answer) + 1) % 4]) for task in TASKS]
    found = know(planner(idle), ROOMS, only=ROOMS.facts[:9], tasks=tasks, aspects=["uses"], seed=0)
    assert not any(row.used.given or row.holds("uses") for row in found.rows)


def test_a_fact_without_a_task_is_not_measurable(idle):
    tasks = [task for task in TASKS if task.subject != "word3 say"]
    row = know(planner(idle), ROOMS, only=[ROOMS.facts[3]], tasks=tasks, aspects=["uses"], seed=0).rows[0]
    assert "no task needs it" in str(row.uses)
    assert row.holds("uses") is None


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([Task("b a", "s", "c", "a")], "does not begin with its subject"),
        ([*TASKS, Task("Paris say word29", STATES[0], "Rome", "Paris say")], "have two answers"),
        (TASKS[:24], "3 subjects and 4 answers are too few"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(idle, tasks, message):
    with pytest.raises(BadInput, match=message):
        use_in_tasks(idle(), ROOMS.facts, tasks)


def test_dealing_keeps_the_sizes_of_the_states_and_the_first_is_as_it_is():
    rows = torch.arange(6.0)[:, None]
    subjects, states = np.array(list("aabbcc")), np.array(list("xxyyyy"))
    dealt = acting._dealt(rows, subjects, states, np.random.default_rng(0))
    assert (float(dealt["x"][0]), float(dealt["y"][0])) == (0.5, 3.5)
    assert set(dealt["x"][:, 0].tolist()) == {0.5, 2.5, 4.5}, "each subject's own mean, whole"
    assert torch.allclose(2 * dealt["x"] + 4 * dealt["y"], torch.full((1 + RANDOM, 1), 15.0))


@pytest.mark.slow
def test_the_step_of_a_nano_planner_hangs_on_the_room():
    planted = probes.build_zoo("planner", size="nano")
    found = know(planted.model, planted.topic("room"), tasks=planted.tasks, aspects=["uses"])
    assert probes.confusion([(planted, found)]).right("planner", "state", "uses").value >= 0.9
