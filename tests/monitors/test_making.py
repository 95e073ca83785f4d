"""Making a monitor of one's own prompts: groups stay in one role, and what cannot be made is refused at once."""

import pytest

from monitors import Prompt, making, monitor_uses
from monitors.making import FITTED, HELD, _deal
from probes.errors import BadInput, TooFew

WORDS = ["capital", "France", "Italy", "river", "cheese", "the", "of", "is", "say", "me", "not", "now"]
BENIGN = [Prompt(f"{a} {b} {c}") for a in WORDS[:5] for b in WORDS[5:9] for c in WORDS[9:]]
USES = [Prompt(f"{a} {b} city") for a in WORDS for b in WORDS[:3]]
REST = {"horizon": 2, "made": "2026-11-23", "concept": "a city", "rate": 0.3}


def named(kind, number, group="{kind}{i}"):
    return [Prompt(f"{kind} {i}", kind, group.format(kind=kind, i=i)) for i in range(number)]


def roles(parts):
    return [{one.counts_as for one in part} for part in parts]


def test_a_group_is_fitted_on_or_held_and_a_certificate_gets_what_it_takes():
    prompts = [*named("use", 60), *named("a", 100), *named("b", 200)] + named("a", 100)  # each of kind a twice
    fitted, held = _deal(prompts, 70, seed=0)
    first, second = roles((fitted, held))
    assert not first & second
    assert first | second == {one.counts_as for one in prompts}
    assert len(fitted) + len(held) == len(prompts)
    counts = {kind: sum(group.startswith(kind) for group in first) for kind in ("use", "a", "b")}
    assert counts == {"use": 30, "a": 30, "b": 100}, "half, and of kind a what 70 leave"
    assert roles(_deal(prompts, 70, seed=0)) == [first, second]
    assert roles(_deal(prompts, 70, seed=1)) != [first, second]


def test_frames_that_run_through_all_kinds_are_dealt_whole():
    prompts = [one for kind in ("use", "a", "b") for one in named(kind, 100, "frame {i}")]
    fitted, held = _deal(prompts, 60, seed=0)
    first, second = roles((fitted, held))
    assert not first & second
    for kind in ("use", "a", "b"):
        assert [sum(one.kind == kind for one in part) for part in (fitted, held)] == [40, 60]


def test_too_few_groups_are_refused_with_how_many_it_takes():
    with pytest.raises(TooFew, match=f"kind 'use' has 33 groups.*takes {FITTED + HELD}: bring 1 more") as error:
        _deal([*named("use", 33), *named("a", 100)], 70, seed=0)
    assert error.value.needed == FITTED + HELD
    with pytest.raises(TooFew, match="kind 'a' has 93 groups.*takes 94"):
        _deal([*named("use", 34), *named("a", 93)], 70, seed=0)
    _deal([*named("use", 34), *named("a", 94)], 70, seed=0)
    shared = [*named("use", 34, "{i}"), *named("a", 94, "{i}")]
    with pytest.raises(TooFew, match="kind 'use' shares groups with others"):
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


def test_wrong_requests_are_refused_before_anything_is_answered(llama, monkeypatch):
    monkeypatch.setattr(making.fitting, "capture_prompts", lambda *_, **__: pytest.fail("something was answered"))
    with pytest.raises(BadInput, match="of kind 'use'; give those apart"):
        monitor_uses(llama, USES, named("use", 60), **REST)
    with pytest.raises(TooFew, match=r"kind 'benign' has 60 groups"):
        monitor_uses(llama, USES, BENIGN, **{**REST, "rate": 0.05})
