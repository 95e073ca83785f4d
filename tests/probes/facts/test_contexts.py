"""Contexts: groups, kinds and roles, and what must never be in two of them."""

import os
import re
import subprocess
import sys
from collections import Counter
from itertools import combinations

import pytest

from probes.errors import BadInput, NotFound, TooFew
from probes.facts.contexts import (
    BENIGN_KINDS,
    CONTEXT_KINDS,
    GROUPS,
    ROLES,
    SYSTEM_PROMPT,
    _put,
    contexts,
    most_groups,
    plan_groups,
)
from probes.facts.facts import Fact, Topic, load_topic, topics
from probes.facts.templates import RELATIONS
from probes.facts.wordings import frames, question_forms

FRANCE = Fact("France", "capital", "Paris")


@pytest.fixture(scope="module")
def capitals():
    return load_topic("capitals")


@pytest.fixture(scope="module")
def drawn(capitals):
    return contexts(FRANCE, capitals)


def test_one_group_worked_by_hand():
    """One other country and one group: the form is asked of France and of Spain, in the same frame."""
    topic = Topic("two", RELATIONS["capital"], (FRANCE, Fact("Spain", "capital", "Madrid")))
    use, same_relation, same_subject, ordinary = contexts(FRANCE, topic, groups={"test": 1}).all
    assert (use.kind, same_relation.kind, same_subject.kind, ordinary.kind) == CONTEXT_KINDS
    assert len({item.frame for item in (use, same_relation, same_subject, ordinary)}) == 1
    assert use.question == same_relation.question in question_forms(RELATIONS["capital"])
    assert (use.subject, same_relation.subject, same_subject.subject, ordinary.subject) == (
        "France",
        "Spain",
        "France",
        "",
    )
    assert same_relation.text == use.text.replace("France", "Spain")
    assert use.prompt == ({"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": use.text})


@pytest.mark.parametrize(
    ("frame", "question", "subject", "text"),
    [
        (
            "Quick one: {question}",
            "What is the capital of {subject}?",
            "Peru",
            "Quick one: What is the capital of Peru?",
        ),
        ("Honestly, {question}", "What is the capital of {subject}?", "Peru", "Honestly, what is the capital of Peru?"),
        ("ok so {question} thx", "Name the capital of {subject}.", "Peru", "ok so name the capital of Peru. thx"),
        (
            "Honestly, {question}",
            "I live in {subject}. Where is that?",
            "Peru",
            "Honestly, I live in Peru. Where is that?",
        ),
        (
            "Honestly, {question}",
            "If I fly to {subject}, where am I?",
            "Peru",
            "Honestly, if I fly to Peru, where am I?",
        ),
        (
            "Go! {question}",
            "{subject}: what is its capital?",
            "the Netherlands",
            "Go! The Netherlands: what is its capital?",
        ),
    ],
)
def test_a_question_in_its_frame_keeps_or_loses_its_capital_letter(frame, question, subject, text):
    assert _put(question, subject, frame) == text


def test_completion_is_plain_text_that_leads_into_an_answer(capitals, drawn):
    plain = contexts(FRANCE, capitals, form="completion")
    assert [item.text for item in plain.all] == [item.text for item in drawn.all], "only the form differs"
    assert all(item.prompt == f"{item.text}\n\nThe answer is" for item in plain.all)


def test_the_system_prompt_is_the_caller_s(capitals):
    one = {"test": 1}
    assert contexts(FRANCE, capitals, groups=one, system="Be kind.").all[0].prompt[0]["content"] == "Be kind."
    assert [message["role"] for message in contexts(FRANCE, capitals, groups=one, system="").all[0].prompt] == ["user"]


def test_a_group_is_a_frame_used_once_in_each_kind(drawn):
    by_frame = Counter((item.frame, item.kind) for item in drawn.all)
    assert set(by_frame.values()) == {1}
    assert len(by_frame) == 4 * len(drawn.groups())
    assert all(frames()[item.frame].split("{question}")[0] in item.text for item in drawn.all)


def test_every_shipped_topic_makes_enough_groups_to_certify_and_to_test():
    for name in topics():
        topic = load_topic(name)
        sizes = plan_groups(most_groups(topic.facts[0], topic))
        assert sizes["calibration"] >= 59, name
        assert sizes["test"] >= 30, name
        assert len(contexts(topic.facts[0], topic).all) == 4 * sum(sizes.values())


def test_nothing_that_varies_is_used_twice(drawn):
    for kind in BENIGN_KINDS:
        items = drawn.of(kind=kind)
        varies = [item.subject if kind == "same_relation" else item.question for item in items]
        assert len(set(varies)) == len(varies)


def test_roles_share_neither_frame_nor_text(drawn):
    for one, other in combinations(ROLES, 2):
        assert set(drawn.groups(one)).isdisjoint(drawn.groups(other))
        assert {item.text for item in drawn.of(one)}.isdisjoint(item.text for item in drawn.of(other))


def test_the_fact_is_asked_for_in_use_and_nowhere_else(drawn):
    forms = set(question_forms(RELATIONS["capital"]))
    assert {item.question for item in drawn.of(kind="use")} == forms
    assert all(item.subject == "France" and "France" in item.text for item in drawn.of(kind="use"))
    assert all(item.subject != "France" and "France" not in item.text for item in drawn.of(kind="same_relation"))
    assert all(item.question not in forms and "France" in item.text for item in drawn.of(kind="same_subject"))
    assert not any(re.search("France|French|Paris|capital city", item.text) for item in drawn.of(kind="ordinary"))


@pytest.mark.parametrize("name", sorted(set(topics()) - {"larger"}))
def test_no_prompt_says_the_object(name):
    topic = load_topic(name)
    for fact in topic.facts[:: max(1, len(topic.facts) // 4)]:
        if fact.object.casefold() in fact.subject.casefold():
            continue
        try:
            drawn = contexts(fact, topic)
        except TooFew:
            continue
        case = 0 if len(fact.object) <= 2 else re.IGNORECASE
        assert [item.text for item in drawn.all if re.search(rf"\b{re.escape(fact.object)}\b", item.text, case)] == []


def test_question_forms_are_balanced_in_training_and_in_the_rest(drawn):
    for roles in (("train",), ("calibration", "test")):
        count = Counter(item.question for role in roles for item in drawn.of(role, "use"))
        assert max(count.values()) - min(count.values()) <= 1


def test_the_test_is_no_fixed_part_of_the_texts(capitals):
    """Over seeds every frame comes to calibration and to test: roles are drawn, not sliced."""
    sizes = {"calibration": 59, "test": 30}
    seen = {role: Counter() for role in sizes}
    for seed in range(30):
        drawn = contexts(FRANCE, capitals, seed=seed, groups=sizes)
        for role in sizes:
            seen[role].update(drawn.groups(role))
    # 30 draws of 59 and of 30 among 257: 6.9 and 3.5 a frame.
    assert len(seen["calibration"]) > 250
    assert len(seen["test"]) > 235
    assert max(seen["test"].values()) <= 14


def test_seed_and_fact_change_the_draw(capitals, drawn):
    again, other = contexts(FRANCE, capitals), contexts(FRANCE, capitals, seed=1)
    assert again == drawn
    assert other.groups() != drawn.groups()
    assert contexts(Fact("Spain", "capital", "Madrid"), capitals).groups() != drawn.groups()


def test_the_draw_is_the_same_in_every_process_and_needs_no_torch():
    code = (
        "import sys, hashlib\n"
        "from probes.facts.facts import Fact, load_topic\n"
        "from probes.facts.contexts import contexts\n"
        "drawn = contexts(Fact('France', 'capital', 'Paris'), load_topic('capitals'))\n"
        "print(hashlib.sha256(repr(drawn.all).encode()).hexdigest(), 'torch' in sys.modules)"
    )
    said = set()
    for hashseed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": hashseed, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        said.add(done.stdout.strip())
    assert len(said) == 1
    assert said.pop().endswith("False")


@pytest.mark.parametrize(
    ("most", "sizes"),
    [
        (300, dict(GROUPS)),
        (193, dict(GROUPS)),
        (192, (60, 93, 39)),
        (149, (60, 59, 30)),
        (148, (59, 59, 30)),
        (113, (24, 59, 30)),
    ],
)
def test_groups_are_shared_out(most, sizes):
    assert plan_groups(most) == (sizes if isinstance(sizes, dict) else dict(zip(ROLES, sizes, strict=True)))


def test_too_few_groups_say_how_many_there_can_be(capitals):
    with pytest.raises(TooFew, match="at most 112 .* 113") as caught:
        plan_groups(112)
    assert (caught.value.needed, caught.value.exit_code) == (113, 4)
    most = most_groups(FRANCE, capitals)
    with pytest.raises(TooFew, match=f"{most + 1} groups .* at most {most} for 'France.capital.Paris'"):
        contexts(FRANCE, capitals, groups={"train": most, "test": 1})
    assert len(contexts(FRANCE, capitals, groups={"train": most}).groups()) == most
    assert contexts(FRANCE, capitals, groups={}).all == ()


@pytest.mark.parametrize("groups", [{"val": 3}, {"test": -1}, {"test": 2.5}, {"test": True}])
def test_bad_groups_are_refused(capitals, groups):
    with pytest.raises(BadInput, match="train, calibration, test"):
        contexts(FRANCE, capitals, groups=groups)


def test_bad_names_are_refused_with_the_allowed_ones(capitals, drawn):
    with pytest.raises(BadInput, match="did you mean 'chat'.*completion"):
        contexts(FRANCE, capitals, form="chatt")
    with pytest.raises(NotFound, match="same_relation, same_subject, use"):
        drawn.of(kind="benign")
    with pytest.raises(NotFound, match="did you mean 'train'"):
        drawn.of("trian")


def test_the_repr_is_one_short_line(drawn):
    assert repr(drawn).startswith("Contexts('France|capital|Paris', chat, groups: train ")
    assert len(repr(drawn)) < 100
