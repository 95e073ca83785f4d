"""Traffic: files of prompts, and certificates on a model's own answers to them."""

import json
from dataclasses import replace

import pytest
import torch

from monitors import Prompt, calibrate_streams, certify, certify_again, guard, read_traffic, record, traffic
from probes import LinearProbe
from probes.errors import BadInput, Mismatch, NotFound, TooFew

REST = {"horizon": 3, "made": "2026-11-23"}
WORDS = ["capital", "France", "Italy", "river", "cheese", "the", "of", "is", "say", "me", "not", "now"]


@pytest.fixture
def probe(llama):
    weight = torch.randn(llama.d_model, generator=torch.Generator().manual_seed(0))
    return LinearProbe.from_weights(weight, 0.0, "resid_post.1", fingerprint=llama.fingerprint)


@pytest.fixture
def benign():
    """60 prompts, all different."""
    return [Prompt(f"{a} {b} {c}") for a in WORDS[:5] for b in WORDS[5:9] for c in WORDS[9:]]


def test_a_text_file_is_one_prompt_a_line(tmp_path):
    file = tmp_path / "benign.txt"
    file.write_text("How are you?\n\n  The capital of Spain is \n")
    assert read_traffic(file) == (Prompt("How are you?"), Prompt("The capital of Spain is"))


def test_json_lines_have_texts_or_chats_with_kind_and_group(tmp_path):
    file, chat = tmp_path / "benign.jsonl", [{"role": "system", "content": ""}, {"role": "user", "content": "Hi"}]
    rows = [{"prompt": " a", "kind": "ordinary", "group": "7"}, {"messages": chat}]
    file.write_text("\n".join(map(json.dumps, rows)))
    assert read_traffic(file) == (Prompt(" a", "ordinary", "7"), Prompt(tuple(chat), "benign", ""))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"prompt": 3}', "'prompt' is 3"), ('{"prompt": " "}', "'prompt' is ' '"), ('["a"]', "How do I boil"),
        ('{"prompt": "a", "kind": ""}', "'kind' is ''"), ('{"prompt": "a", "grup": "b"}', "did you mean 'group'"),
        ('{"prompt": "a", "messages": []}', "either 'prompt' or 'messages'"), ('{"kind": "a"}', "either 'prompt'"),
        ('{"messages": []}', "'messages' is a list"), ('{"messages": ["a"]}', "'messages' is a list"),
        ('{"messages": [{"role": "user"}]}', "'messages' is a list"), ('{"prompt": "a"', "broken JSON"),
        ('{"messages": [{"role": "user", "content": 1}]}', "'messages' is a list"),
        ('{"prompt": "a", "prompt": "b"}', "given twice"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_prompt_is_refused_with_its_number(tmp_path, line, says):
    file = tmp_path / "benign.jsonl"
    file.write_text('{"prompt": "fine"}\n' + line)
    with pytest.raises(BadInput, match=f"line 2: .*{says}"):
        read_traffic(file)


def test_a_file_that_is_empty_or_missing_is_refused(tmp_path):
    file = tmp_path / "benign.txt"
    with pytest.raises(NotFound, match=r"benign\.txt"):
        read_traffic(file)
    file.write_text(" \n")
    with pytest.raises(BadInput, match="no prompts in it"):
        read_traffic(file)
    for name in ("benign.csv", "benign.ndjson", "benign"):
        (tmp_path / name).write_text("prompt,kind\nHi,ordinary\n")
        with pytest.raises(BadInput, match="neither"):
            read_traffic(tmp_path / name)


def test_a_certificate_is_what_the_models_own_answers_carry(llama, probe, benign):
    about = {"statistics": ["max", "cusum(0.0)"], "rate": 0.2, **REST}
    monitor, streams = certify(llama, [probe], benign, concept="made up", **about)
    answers = record(llama, [probe], [one.prompt for one in benign], max_new_tokens=3)
    assert [stream.scores.tolist() for stream in streams] == [stream.scores.tolist() for stream in answers]
    assert monitor.threshold.limits == calibrate_streams(answers, **about).limits
    assert monitor.threshold.groups == {"benign": 60}
    assert monitor.threshold.prompt_mix == {"form": "completion", "system": ""}
    assert monitor.threshold.generation == llama.generation_settings({})
    with guard(llama, monitor) as guarded:
        assert guarded.generate(["the river of"], max_new_tokens=3).verdicts[0].certified


def test_the_same_prompt_counts_once_and_so_does_a_group(llama, probe, benign):
    with pytest.raises(TooFew, match="has 58 groups"):
        certify(llama, [probe], [*benign[:58], *benign[:20]], concept="c", **REST)
    monitor, streams = certify(llama, [probe], [*benign, *benign[:20]], concept="c", **REST)
    assert (monitor.threshold.groups, len(streams)) == ({"benign": 60}, 80)
    turned = [Prompt(({"content": "now", "role": "user"},)), Prompt(({"role": "user", "content": "now"},))]
    assert turned[0].counts_as == turned[1].counts_as
    grouped = [replace(one, group=f"author {i // 2}") for i, one in enumerate(benign)]
    with pytest.raises(TooFew, match="has 30 groups"):
        certify(llama, [probe], grouped, concept="c", **REST)


def test_each_kind_has_to_carry_the_promise(llama, probe, benign):
    rare = [*benign, Prompt("now say", kind="rare")]
    with pytest.raises(TooFew, match="kind 'rare' has 1 groups"):
        certify(llama, [probe], rare, concept="c", **REST)


def test_texts_and_chats_are_certified_apart(llama, probe, benign):
    mixed = [*benign, Prompt(({"role": "user", "content": "now"},))]
    with pytest.raises(BadInput, match="some prompts are texts and some are chats"):
        certify(llama, [probe], mixed, concept="c", **REST)
    with pytest.raises(BadInput, match="no benign prompts"):
        certify(llama, [probe], [], concept="c", **REST)


@pytest.mark.parametrize(
    "wrong", [{"promise": "sworn"}, {"valid_until": "soon"}, {"valid_until": "2020-01-01"}, {"statistics": "mean"},
              {"rate": 0.001}, {"rate": 5}, {"horizon": 0}, {"made": "today"}],
)  # fmt: skip
def test_what_cannot_be_certified_is_refused_before_anything_is_answered(llama, probe, benign, monkeypatch, wrong):
    monkeypatch.setattr(traffic, "record", lambda *_, **__: pytest.fail("answered"))
    with pytest.raises((BadInput, NotFound, TooFew)):
        certify(llama, [probe], benign, concept="c", **REST | wrong)


def test_system_prompts_are_part_of_the_certificate(llama, probe, benign):
    def chat(one, system):
        return replace(one, prompt=({"role": "system", "content": system}, {"role": "user", "content": one.prompt}))

    monitor, _ = certify(llama, [probe], [chat(one, "the") for one in benign], concept="c", **REST)
    assert monitor.threshold.prompt_mix == {"form": "chat", "system": "the"}
    two = [chat(one, ("of", "the")[i % 2]) for i, one in enumerate(benign)]
    assert certify(llama, [probe], two, concept="c", **REST)[0].threshold.systems == ("of", "the")
    again, _ = certify_again(llama, monitor, benign, made="2026-12-01")
    assert again.threshold.prompt_mix == {"form": "chat", "system": "the"}, "plain lines are asked as certified"


def test_certifying_again_keeps_probes_and_promise(llama, probe, benign):
    first, _ = certify(llama, [probe], benign, concept="c", statistics="max_rolling_mean(2)", rate=0.1, **REST)
    again, streams = certify_again(llama, first, benign[:30], made="2026-12-01", valid_until="2027-01-01", horizon=None)
    assert again.probes == first.probes
    assert (again.concept, again.threshold.rate, again.threshold.horizon) == ("c", 0.1, 3)
    assert list(again.threshold.limits) == ["max_rolling_mean(2)"]
    assert (again.threshold.groups, len(streams)) == ({"benign": 30}, 30)
    assert (again.threshold.made, again.threshold.valid_until) == ("2026-12-01", "2027-01-01")
    changed, _ = certify_again(llama, first, benign, made="2026-12-01", statistics="max", promise="marginal", rate=0.05)
    assert (list(changed.threshold.limits), changed.threshold.certified) == (["max"], False)


def test_other_generation_settings_are_not_certified_unnoticed(llama, probe, benign):
    about = {"concept": "c", "do_sample": True, "temperature": 0.7, **REST}
    monitor, _ = certify(llama, [probe], benign, **about)
    with pytest.raises(BadInput, match="certified with the generation settings"):
        certify_again(llama, monitor, benign, made="2026-12-01")
    again, _ = certify_again(llama, monitor, benign, made="2026-12-01", do_sample=True, temperature=0.7)
    assert again.threshold.generation == monitor.threshold.generation


def test_another_model_is_not_certified_with_these_probes(build, llama, probe, benign):
    monitor, _ = certify(llama, [probe], benign, concept="c", **REST)
    other = build("llama", seed=1)
    with pytest.raises(Mismatch, match="weights"):
        certify_again(other, monitor, benign, made="2026-12-01")
