"""Making a monitor of one's own prompts: groups stay in one role, and what cannot be made is refused at once."""

import random
from dataclasses import replace

import pytest

from monitors import Prompt, certify_again, making, monitor_fact, monitor_uses
from monitors.making import FITTED, HELD, _deal
from probes import contexts, load_topic
from probes.errors import BadInput, Inconclusive, NotFound, TooFew

WORDS = ["capital", "France", "Italy", "river", "cheese", "the", "of", "is", "say", "me", "not", "now"]
BENIGN = [Prompt(f"{a} {b} {c}") for a in WORDS[:5] for b in WORDS[5:9] for c in WORDS[9:]]
USES = [Prompt(f"{a} {b} city") for a in WORDS for b in WORDS[:8]]
REST = {"horizon": 1, "made": "2026-11-23", "concept": "a city", "rate": 0.3}


def named(kind, number, group="{kind}{i}"):
    return [Prompt(f"{kind} {i}", kind, group.format(kind=kind, i=i)) for i in range(number)]


def roles(parts):
    return [{one.counts_as for one in part} for part in parts]


def counts(part):
    return {kind: len({one.counts_as for one in part if one.kind == kind}) for kind in ("use", "a", "b")}


def test_a_group_is_fitted_on_or_held_and_a_certificate_gets_what_it_takes():
    prompts = [*named("use", 60), *named("a", 100), *named("b", 200)] + named("a", 100)  # each of kind a twice
    fitted, held = _deal(prompts, 70, seed=0)
    first, second = roles((fitted, held))
    assert not first & second
    assert first | second == {one.counts_as for one in prompts}
    assert len(fitted) + len(held) == len(prompts)
    assert counts(fitted) == {"use": 30, "a": 30, "b": 100}, "half, and of kind a what 70 leave"
    assert roles(_deal(prompts, 70, seed=0)) == [first, second]
    assert roles(_deal(prompts, 70, seed=1)) != [first, second]


def test_frames_that_run_through_all_kinds_are_dealt_whole():
    prompts = [one for kind in ("use", "a", "b") for one in named(kind, 100, "frame {i}")]
    fitted, held = _deal(prompts, 60, seed=0)
    first, second = roles((fitted, held))
    assert not first & second
    assert (counts(fitted), counts(held)) == (
        dict.fromkeys(("use", "a", "b"), 40),
        dict.fromkeys(("use", "a", "b"), 60),
    )


def test_the_mixture_of_a_kind_is_the_same_in_both_roles():
    """Of kind a 200 groups of its own and 100 that kind b, which is scarce, has too: a third is a third in either."""
    prompts = [*named("use", 60), *named("a", 200, "a{i}"), *named("a", 100, "both{i}"), *named("b", 100, "both{i}")]
    for part in _deal(prompts, 76, seed=0):
        mine = {one.counts_as for one in part if one.kind == "a"}
        assert sum(group.startswith("both") for group in mine) / len(mine) == pytest.approx(1 / 3, abs=0.01)
    assert counts(part) == {"use": 30, "a": 228, "b": 76}, "uses share no group, and are dealt by halves"


def test_too_few_groups_are_refused_with_how_many_it_takes():
    with pytest.raises(TooFew, match=f"kind 'use' has 33 groups.*takes {FITTED + HELD}: bring 1 more$") as error:
        _deal([*named("use", 33), *named("a", 100)], 70, seed=0)
    assert error.value.needed == FITTED + HELD
    with pytest.raises(TooFew, match="kind 'a' has 93 groups.*takes 94: bring 1 more, or choose among fewer sites"):
        _deal([*named("use", 34), *named("a", 93)], 70, seed=0)
    assert counts(_deal([*named("use", 34), *named("a", 94)], 70, seed=0)[0]) == {"use": 24, "a": 24, "b": 0}
    shared = [*named("use", 60, "{i}"), *named("a", 94, "{i}")]
    with pytest.raises(TooFew, match="of kind '(a|use)' [0-9]+ are left to fit on, where it takes 24"):
        _deal(shared, 70, seed=0)
    for prompts in (named("use", 50), named("a", 100), []):
        with pytest.raises(BadInput, match="give uses, and benign ones"):
            _deal(prompts, 70, seed=0)


def test_what_sets_prompts_apart_is_found_and_certified_on_others(llama, monkeypatch):
    fitted = []
    plain = making.fitting.capture_prompts
    monkeypatch.setattr(making.fitting, "capture_prompts", lambda m, p, **how: fitted.extend(p) or plain(m, p, **how))
    found = monitor_uses(llama, USES, BENIGN, statistics=["max", ("max", "cusum(0.0)")], **REST)
    assert found.best.caught.value > 0.8
    threshold = found.monitor.threshold
    assert threshold.among == 2 * llama.n_layers == len(found.candidates)
    benign = [one for one in fitted if one.kind != "use"]
    assert threshold.groups == {"benign": len(BENIGN) - len(benign)}
    assert FITTED <= len(benign) <= 30
    assert found.best.caught.n == len(USES) - (len(fitted) - len(benign))
    assert (found.monitor.concept, found.monitor.probes[0].concept) == ("a city", "a city")


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"benign": named("use", 60)}, BadInput, "of kind 'use'; give those apart"),
        ({"rate": 0.05}, TooFew, "kind 'benign' has 60 groups"),
        ({"statistics": ["maks"]}, NotFound, "is no statistic"),
        ({"statistics": []}, BadInput, "give one of each"), ({"statistics": ["max", "max"]}, BadInput, "each once"),
        ({"valid_until": "soon"}, BadInput, "no ISO date"),
        ({"valid_until": "2001-01-01"}, BadInput, "give a later end"),
        ({"horizon": 0}, BadInput, "horizon"), ({"rate": 5}, BadInput, "5 % is .05"),
        ({"uses": [replace(one, prompt=({"role": "user", "content": one.prompt},)) for one in USES]}, BadInput,
         "the same"), ({"uses": [*USES, *BENIGN]}, BadInput, "are among the benign prompts"),
        ({"sites": "resid_post.9"}, NotFound, "resid_post.9"),
    ],
)  # fmt: skip
def test_wrong_requests_are_refused_before_anything_is_answered(llama, monkeypatch, wrong, error, says):
    monkeypatch.setattr(making.fitting, "capture_prompts", lambda *_, **__: pytest.fail("something was answered"))
    with pytest.raises(error, match=says):
        monitor_uses(llama, **{"uses": USES, "benign": BENIGN, **REST, **wrong})


def test_uses_that_nothing_sets_apart_make_no_monitor(llama):
    """Uses and benign prompts from one bag: the best of three layers catches about as many as may alarm falsely."""
    bag = [Prompt(f"{a} {b} {c}") for a in WORDS for b in WORDS[5:9] for c in WORDS[9:]]
    random.Random(0).shuffle(bag)
    with pytest.raises(Inconclusive, match="Bring more uses"):
        monitor_uses(llama, bag[:48], bag[48:], **REST)


def test_a_monitor_is_not_certified_again_on_what_it_was_made_of(llama):
    monitor = monitor_uses(llama, USES, BENIGN, **REST).monitor
    fresh = [Prompt(f"{a} {b} {b} {c}") for a in WORDS[:5] for b in WORDS[5:9] for c in WORDS[9:]]
    with pytest.raises(BadInput, match="fitted or chosen on 1 of these 61 groups"):
        certify_again(llama, monitor, [*fresh, BENIGN[7]], made="2026-11-24")
    again, _ = certify_again(llama, monitor, fresh, made="2026-11-24")
    assert (again.threshold.among, again.threshold.groups) == (1, {"benign": 60})
    with pytest.raises(BadInput, match="fitted or chosen on 60 of these 60"):
        certify_again(llama, again, BENIGN, made="2026-11-25")
    certify_again(llama, again, fresh, made="2026-11-25")  # nothing was chosen on these


def test_a_certificate_that_the_frames_cannot_carry_is_refused_before_anything_is_answered(llama, monkeypatch):
    topic = load_topic("capitals")
    monkeypatch.setattr(making, "rank_object", lambda *_: pytest.fail("something was asked"))
    for wrong, says in (({"rate": 0.01}, "needs 299"), ({"valid_until": "2001-01-01"}, "give a later end")):
        with pytest.raises((TooFew, BadInput), match=says):
            monitor_fact(llama, contexts(topic.facts[0], topic), topic, horizon=4, made="2026-11-23", **wrong)
