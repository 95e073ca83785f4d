"""Walks: the state follows from the prompt and the answer from the state."""

import re

from probes.zoo.walks import DIRECTIONS, SIDE, Document, draw_house, draw_tasks, walk_documents, walk_topic, walk_words

HOUSE = draw_house(0)


def walked(task):
    """The room by hand: start, then each step."""
    at = HOUSE.index(re.search(r"Start in the (\w+)", task.prompt)[1])
    row, column = divmod(at, SIDE)
    for name in re.findall(r"Go (\w+)", task.prompt):
        row, column = row + DIRECTIONS[name][0], column + DIRECTIONS[name][1]
        assert 0 <= row < SIDE > column >= 0
    return row, column


def test_a_task_leads_where_its_words_lead_and_answers_the_first_step():
    for task in draw_tasks(HOUSE, 300, "x"):
        row, column = walked(task)
        assert HOUSE[row * SIDE + column] == task.state
        key = HOUSE.index(re.search(r"key is in the (\w+)", task.prompt)[1])
        down, right = key // SIDE - row, key % SIDE - column
        step = DIRECTIONS[task.answer]
        assert (step[0] * down, step[1] * right) > (0, 0) or (down == 0 and step[1] * right > 0)
        assert down == 0 or step[0] * down > 0


def test_the_state_is_not_named_by_its_prompt_more_often_than_a_return_to_the_start():
    tasks = draw_tasks(HOUSE, 300, "x")
    named = [task for task in tasks if f" {task.state}." in task.prompt]
    assert all(task.prompt.startswith(f"Start in the {task.state}.") for task in named)
    assert len(named) < 100


def test_tasks_to_leave_out_are_left_out():
    held = {task.prompt for task in draw_tasks(HOUSE, 100, "test")}
    assert not held & {task.prompt for task in draw_tasks(HOUSE, 2000, "train", without=held)}
    assert held & {task.prompt for task in draw_tasks(HOUSE, 2000, "train")}  # sanity


def test_a_text_is_the_prompt_with_its_answer_in_known_words():
    task = draw_tasks(HOUSE, 1, 0)[0]
    assert walk_documents([task])[0] == Document(f"{task.prompt} {task.answer}.")
    assert set(re.findall(r"\w+", f"{task.prompt} {task.answer}")) <= set(re.findall(r"\w+", walk_words()))


def test_a_topic_of_walks_has_each_walk_once():
    topic = walk_topic(draw_tasks(HOUSE, 300, "x"), 0)
    assert len({fact.subject for fact in topic.facts}) == len(topic.facts) > 50
    assert topic.cloze(topic.facts[0]).endswith("The room is the")
