"""Toy: scores 1, 3, 2 against a threshold of 2.5: the second token crosses, so one token is released."""

import math
import sqlite3
from dataclasses import replace

import pytest
import torch

from monitors.breaker.breaker import Breaker, BreakerOpen
from monitors.breaker.entries import prompt_digest
from monitors.breaker.journal import Journal
from monitors.breaker.rule import Policy, State
from monitors.calibration import calibrate_streams
from monitors.ledger import Ledger
from monitors.live.guard import Alarmed, guard
from monitors.live.recorder import record
from monitors.monitor import Monitor
from monitors.verdict import Outcome
from probes import BadInput, Mismatch, edits
from probes.reading.statistics import parse_statistic
from probes.reading.streams import Stream


def highest(model, monitor, prompts, tokens=8):
    return record(model, monitor.probes, prompts, max_new_tokens=tokens)


def test_a_response_is_cut_before_the_token_that_crossed(tiny, make_monitor, prompts):
    streams = highest(tiny, make_monitor(tiny), prompts)
    limit = float(torch.cat([stream.scores for stream in streams]).median())
    with guard(tiny, make_monitor(tiny, limit)) as guarded:
        reply = guarded.generate(prompts, max_new_tokens=8)
    start, crossed = tiny.inputs(prompts)["input_ids"].shape[1], 0
    bare = tiny.generate_ids(tiny.inputs(prompts), max_new_tokens=8)
    for row, (stream, verdict) in enumerate(zip(streams, reply.verdicts, strict=True)):
        over = (stream.scores > limit).nonzero()
        if not len(over):
            assert verdict.outcome is Outcome.CLEAR
            continue
        crossed += 1
        at = int(over[0]) + 1
        assert (verdict.outcome, verdict.token) == (Outcome.ALARM, at)
        assert verdict.score == pytest.approx(float(stream.scores[at - 1]), abs=1e-4)
        assert torch.equal(reply.sequences[row, : start + at - 1], bare[row, : start + at - 1]), "what came before"
        assert (reply.sequences[row, start + at - 1 :] == tiny.pad).all(), "the crossing token and all behind it"
        assert reply.texts[row] == tiny.tokenizer.decode(bare[row, start : start + at - 1], skip_special_tokens=True)
        assert not reply.streams[row].finished
    assert crossed, "the toy must alarm somewhere"


def test_a_threshold_nobody_crosses_clears_everything_and_changes_no_token(tiny, make_monitor, prompts):
    bare = tiny.generate_ids(tiny.inputs(prompts), max_new_tokens=8)
    with guard(tiny, make_monitor(tiny)) as guarded:
        reply = guarded.generate(prompts, max_new_tokens=8)
    assert {verdict.outcome for verdict in reply.verdicts} == {Outcome.CLEAR}
    assert torch.equal(reply.sequences, bare)
    assert all(verdict.certified and verdict.scored == verdict.accepted for verdict in reply.verdicts)


def test_a_score_equal_to_the_threshold_is_no_alarm_and_one_above_it_is(llama, make_monitor):
    (stream,) = highest(llama, make_monitor(llama), ["cheese"])
    with guard(llama, make_monitor(llama, stream.maximum)) as guarded:
        assert guarded.generate("cheese", max_new_tokens=8).verdicts[0].outcome is Outcome.CLEAR
    with guard(llama, make_monitor(llama, math.nextafter(stream.maximum, -math.inf))) as guarded:
        assert guarded.generate("cheese", max_new_tokens=8).verdicts[0].outcome is Outcome.ALARM


@pytest.mark.parametrize(
    "names", [("cusum({drift})",), ("cusum({drift})", "centred_cusum(0.0, 2)"), ("rolling_mean(3)",)]
)
def test_a_running_statistic_stops_a_response_where_it_crosses_offline_to_the_bit(tiny, make_monitor, prompts, names):
    streams = highest(tiny, make_monitor(tiny), prompts)
    drift = float(torch.cat([stream.scores for stream in streams]).median())
    every = [parse_statistic(name.format(drift=drift)) for name in names]
    limits = {one.name: float(torch.stack([one.largest(s.scores) for s in streams]).median()) for one in every}
    monitor = make_monitor(tiny, limits=limits)
    with guard(tiny, monitor) as guarded:
        reply = guarded.generate(prompts, max_new_tokens=8)
    alarms = []
    for row, stream in enumerate(streams):
        trace = monitor.threshold.trace(reply.streams[row].scores)
        over = [t for t in range(len(stream.scores)) if any(one(stream.scores)[t] > limits[one.name] for one in every)]
        verdict = reply.verdicts[row]
        assert verdict.token == (over[0] + 1 if over else None)
        alarms += [verdict.token] if over else []
        assert len(reply.streams[row].scores) == (over[0] + 1 if over else len(stream.scores)), "stopped there"
        assert not over or verdict.statistic in [values[-1] for values in trace.values()], "the value it stopped at"
        assert torch.equal(reply.streams[row].scores, stream.scores[: len(reply.streams[row].scores)])
    assert 0 < len(alarms) < len(prompts), "the toy must alarm somewhere, and not everywhere"


def test_what_was_calibrated_on_recorded_streams_alarms_on_none_of_it(tiny, make_monitor, prompts):
    """The example of docs/deciding.md: record, calibrate a pair, guard; the limit is the largest of eight."""
    streams = record(tiny, make_monitor(tiny).probes, prompts * 2, max_new_tokens=8)
    pair = ["cusum(0.5)", "centred_cusum(0.5, 2, 2.5)"]
    about = {"generation": tiny.generation_settings({}), "rate": 0.4, "confidence": 0.6}
    threshold = calibrate_streams(streams, pair, horizon=8, made="2026-11-22", **about)
    assert set(threshold.limits) == set(pair)
    monitor = Monitor("made up", make_monitor(tiny).probes, threshold)
    with guard(tiny, monitor) as guarded:
        reply = guarded.generate(prompts, max_new_tokens=8)
    assert {verdict.outcome for verdict in reply.verdicts} == {Outcome.CLEAR}
    assert all(verdict.certified for verdict in reply.verdicts)


def test_flag_withholds_nothing_and_says_the_same(tiny, make_monitor, prompts):
    streams = highest(tiny, make_monitor(tiny), prompts)
    limit = float(torch.cat([stream.scores for stream in streams]).median())
    with guard(tiny, make_monitor(tiny, limit)) as guarded:
        stopped = guarded.generate(prompts, max_new_tokens=8)
    with guard(tiny, make_monitor(tiny, limit), on_alarm="flag") as guarded:
        flagged = guarded.generate(prompts, max_new_tokens=8)
    assert [v.outcome for v in flagged.verdicts] == [v.outcome for v in stopped.verdicts]
    assert [v.token for v in flagged.verdicts] == [v.token for v in stopped.verdicts]
    assert torch.equal(flagged.sequences, tiny.generate_ids(tiny.inputs(prompts), max_new_tokens=8))


def test_raise_withholds_tells_everybody_and_raises(tiny, make_monitor, prompts, tmp_path):
    breaker = Breaker(Policy(1, 1, latch=True), journal=Journal(tmp_path / "j.sqlite"))
    loud = guard(tiny, make_monitor(tiny, -1e6), breaker=breaker, on_alarm="raise")
    with pytest.raises(Alarmed, match="made up: row 0: max at token 1 is ") as caught, loud as guarded:
        guarded.generate(prompts, max_new_tokens=8)
    reply = caught.value.reply
    assert reply.texts == ("",) * len(prompts)
    assert all(verdict.alarmed for verdict in reply.verdicts)
    assert breaker.snapshot.state is State.OPEN
    with guard(tiny, make_monitor(tiny), on_alarm="raise") as guarded:
        assert len(guarded.generate(prompts, max_new_tokens=2).texts) == len(prompts), "nothing alarmed, nothing raised"


def test_a_function_says_what_stands_in_the_place_of_what_was_withheld(tiny, make_monitor, prompts):
    streams = highest(tiny, make_monitor(tiny), prompts)
    limit = float(torch.tensor([stream.maximum for stream in streams]).median())
    with guard(tiny, make_monitor(tiny, limit)) as guarded:
        stopped = guarded.generate(prompts, max_new_tokens=8)
    asked = []

    def instead(held):
        asked.append(held)
        return f" [{held.verdict.token}]"

    breaker = Breaker(Policy(100, 100))
    with guard(tiny, make_monitor(tiny, limit), breaker=breaker, on_alarm=instead) as guarded:
        reply = guarded.generate(prompts, max_new_tokens=8)
    alarmed = [row for row, verdict in enumerate(stopped.verdicts) if verdict.alarmed]
    assert 0 < len(alarmed) < len(prompts), "the toy must alarm somewhere, and not everywhere"
    assert [held.prompt for held in asked] == [prompts[row] for row in alarmed]
    assert [held.text for held in asked] == [stopped.texts[row] for row in alarmed]
    for row, verdict in enumerate(stopped.verdicts):
        assert reply.texts[row] == stopped.texts[row] + (f" [{verdict.token}]" if verdict.alarmed else "")
    assert reply.verdicts == stopped.verdicts
    assert torch.equal(reply.sequences, stopped.sequences)
    loud = guard(tiny, make_monitor(tiny, -1e6), breaker=breaker, on_alarm=lambda held: None)
    with pytest.raises(BadInput, match="returns a text"), loud as guarded:
        guarded.generate(prompts, max_new_tokens=8)
    assert sum(breaker.snapshot.window) == len(alarmed) + len(prompts), "told before anybody was asked"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_not_finite_is_never_a_pass(tiny, make_monitor, prompts, value):
    def poison(tensor):
        tensor = tensor.clone()
        tensor[1] = value  # one row of the batch
        return tensor

    with guard(tiny, make_monitor(tiny)) as guarded, edits(tiny, {"resid_post.1": poison}):
        late = guarded.generate(prompts, max_new_tokens=4)
    assert late.verdicts[1].outcome is Outcome.INVALID, "an edit made after the guard was attached is seen, too"
    with edits(tiny, {"resid_pre.1": poison}), guard(tiny, make_monitor(tiny)) as guarded:
        reply = guarded.generate(prompts, max_new_tokens=4)
    outcomes = [verdict.outcome for verdict in reply.verdicts]
    assert outcomes == [Outcome.CLEAR, Outcome.INVALID, Outcome.CLEAR, Outcome.CLEAR]
    assert reply.texts[1] == "", "nothing of an invalid response is released"


def test_a_hook_that_is_cleared_away_makes_the_response_invalid(tiny, make_monitor):
    with guard(tiny, make_monitor(tiny)) as guarded:
        tiny.blocks[1].module._forward_hooks.clear()
        reply = guarded.generate("the capital", max_new_tokens=4)
    assert reply.verdicts[0].outcome is Outcome.INVALID
    assert "no activations" in reply.verdicts[0].reason
    assert reply.texts == ("",)


def test_beyond_the_horizon_a_clear_response_is_uncertified(llama, make_monitor):
    with guard(llama, make_monitor(llama, horizon=3, generation={"eos_token_id": -1})) as guarded:
        assert guarded.generate("cheese", max_new_tokens=3, eos_token_id=-1).verdicts[0].certified
        assert not guarded.generate("cheese", max_new_tokens=4, eos_token_id=-1).verdicts[0].certified


def test_a_monitor_of_another_model_is_refused_naming_the_part(build, make_monitor):
    model, other = build("llama"), build("llama", seed=1)
    with pytest.raises(Mismatch, match="weights"), guard(other, make_monitor(model)):
        pass
    with torch.no_grad():
        model.module.model.layers[0].mlp.down_proj.weight[0, 0] += 1e-3
    monitor = make_monitor(build("llama"))
    with pytest.raises(Mismatch, match="layer 0"), guard(model, monitor):
        pass
    with guard(model, monitor, allow={"weights"}) as guarded:
        assert guarded.generate("cheese", max_new_tokens=2)


def test_hooks_are_gone_after_any_exception(tiny, make_monitor, hooks_of):
    before = hooks_of(tiny.module)
    for error in (RuntimeError, KeyboardInterrupt, SystemExit):

        def fail(tensor, error=error):
            raise error

        with pytest.raises(error), guard(tiny, make_monitor(tiny)) as guarded, edits(tiny, {"resid_post.2": fail}):
            guarded.generate("cheese", max_new_tokens=3)
        assert hooks_of(tiny.module) == before


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"num_beams": 2}, "num_beams is no option here"),
        ({"prompt_lookup_num_tokens": 3}, "prompt_lookup_num_tokens is no option"),
        ({"guidance_scale": 1.5}, "guidance_scale is no option"),
        ({"logits_processor": []}, "logits_processor is no option"),
        ({"return_dict_in_generate": True}, "return_dict_in_generate is no option"),
        ({"max_new_token": 3}, "did you mean 'max_new_tokens'"),
        ({"max_new_tokens": 0}, "whole number from 1"),
        ({"max_new_tokens": 2.5}, "whole number from 1"),
        ({"max_new_tokens": 128}, "reads at most 128"),
        ({"do_sample": True, "temperature": 0.0}, "temperature=0.0; it is a number above 0"),
        ({"eos_token_id": torch.tensor([1, 2])}, "eos_token_id"),
        ({"input_ids": torch.tensor([[5]])}, "either prompts, or input_ids"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_the_breaker_is_asked(llama, make_monitor, option, says):
    breaker = Breaker(Policy(k=1, n=1))
    with guard(llama, make_monitor(llama), breaker=breaker) as guarded, pytest.raises(BadInput, match=says):
        guarded.generate("cheese", **option)
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize(
    ("setting", "says"),
    [({"num_beams": 2}, "beam"), ({"prompt_lookup_num_tokens": 3}, "assisted"), ({"guidance_scale": 2.0}, "guidance")],
)
def test_a_way_to_generate_set_on_the_model_is_refused_too(llama, make_monitor, setting, says):
    llama.module.generation_config.update(**setting)
    with guard(llama, make_monitor(llama)) as guarded, pytest.raises(BadInput, match=says):
        guarded.generate("cheese", max_new_tokens=3)


def test_ids_are_refused_where_padding_could_be_read_as_text(llama, make_monitor, prompts):
    with guard(llama, make_monitor(llama)) as guarded:
        with pytest.raises(BadInput, match="pad on the left"):
            guarded.generate(**llama.collate([[5, 6, 7], [8]], side="right"))
        with pytest.raises(BadInput, match="without attention_mask"):
            guarded.generate(input_ids=llama.inputs(prompts)["input_ids"])
        with pytest.raises(BadInput, match="this is one chat"):
            guarded.generate([{"role": "user", "content": "which city"}])
        with pytest.raises(BadInput, match="either prompts"):
            guarded.generate()
    with pytest.raises(BadInput, match="'halt' is no action"), guard(llama, make_monitor(llama), on_alarm="halt"):
        pass


def test_what_fails_after_generation_is_recorded_and_ends_a_trial(llama, make_monitor, monkeypatch):
    breaker = Breaker(Policy(k=1, n=1))

    def fail(*_):
        raise RuntimeError("no words")

    monkeypatch.setattr(type(llama), "words", fail)
    with guard(llama, make_monitor(llama), breaker=breaker) as guarded, pytest.raises(RuntimeError, match="no words"):
        guarded.generate("cheese", max_new_tokens=2)
    assert breaker.state is State.OPEN


def test_no_verdict_is_certified_where_the_certificate_does_not_speak(build, make_monitor):
    model = build("llama")
    monitor = make_monitor(model)
    with guard(model, monitor) as guarded:
        assert guarded.generate("cheese", max_new_tokens=2).verdicts[0].certified
        verdict = guarded.generate("cheese", max_new_tokens=2, do_sample=True, temperature=5.0).verdicts[0]
        assert not verdict.certified
        assert "do_sample" in verdict.reason
        assert "temperature" in verdict.reason
        assert not guarded.generate("cheese", max_new_tokens=2, eos_token_id=63).verdicts[0].certified
    model.module.generation_config.repetition_penalty = 1.8  # behind the monitor's back
    with guard(model, monitor) as guarded:
        assert "repetition_penalty" in guarded.generate("cheese", max_new_tokens=2).verdicts[0].reason
    model.module.generation_config.repetition_penalty = None
    with guard(build("llama", seed=1), monitor, allow={"weights"}) as guarded:
        verdict = guarded.generate("cheese", max_new_tokens=2).verdicts[0]
        assert not verdict.certified
        assert "another model" in verdict.reason
    lasting = replace(monitor, threshold=replace(monitor.threshold, valid_until="2999-01-01"))
    with guard(model, lasting) as guarded:
        assert guarded.generate("cheese", max_new_tokens=2).verdicts[0].certified
    past = replace(monitor, threshold=replace(monitor.threshold, valid_until="20200102", made="2020-01-01"))
    with guard(model, past) as guarded:
        verdict = guarded.generate("cheese", max_new_tokens=2).verdicts[0]
        assert not verdict.certified
        assert "ended on 20200102" in verdict.reason


def test_what_is_served_in_another_form_than_certified_says_so(llama, make_monitor):
    chat = [{"role": "system", "content": "say"}, {"role": "user", "content": "which city"}]
    monitor = make_monitor(llama, mix={"form": "chat", "system": "say"})
    with guard(llama, monitor) as guarded:
        assert guarded.generate([chat], max_new_tokens=2).verdicts[0].certified
        assert "chat form" in guarded.generate("which city", max_new_tokens=2).verdicts[0].reason
        other = guarded.generate([chat[1:]], max_new_tokens=2).verdicts[0]
        assert not other.certified
        assert "another system prompt" in other.reason


def test_a_message_with_a_field_that_json_does_not_know_is_recorded_like_any_other(llama, make_monitor):
    breaker = Breaker(Policy(k=1, n=1), journal=None)
    chat = [{"role": "user", "content": "which city", "when": {1, 2}, 3: b"x"}]
    with guard(llama, make_monitor(llama, limit=-1e6), breaker=breaker) as guarded:
        guarded.generate([chat], max_new_tokens=2)
    assert breaker.state is State.OPEN


def test_a_prompt_has_one_digest_whatever_stands_beside_it(llama, make_monitor, prompts, tmp_path):
    with Journal(tmp_path / "trips.sqlite") as journal:
        breaker = Breaker(Policy(k=9, n=9), journal=journal)
        with guard(llama, make_monitor(llama, limit=-1e6), breaker=breaker) as guarded:
            guarded.generate(prompts, max_new_tokens=2)
            guarded.generate(prompts[1], max_new_tokens=2)
            guarded.generate(**llama.inputs([prompts[1]]), max_new_tokens=2)
        digests = [row.entry.prompt_sha256 for row in journal.rows() if row.entry.verdict]
    assert digests[1] == digests[4] == digests[5] == prompt_digest(prompts[1])
    assert len(set(digests[:4])) == 4


def test_transformers_own_arguments_work(llama, make_monitor, prompts):
    with guard(llama, make_monitor(llama)) as guarded:
        by_text = guarded.generate(prompts, max_new_tokens=4, request_id="r")
        by_ids = guarded.generate(**llama.inputs(prompts), max_new_tokens=4, request_id="r")
    assert torch.equal(by_text.sequences, by_ids.sequences)
    assert [v.request_id for v in by_ids.verdicts] == ["r/0", "r/1", "r/2", "r/3"]


def test_the_breaker_gets_every_verdict_and_blocks_the_next_request(llama, make_monitor, tmp_path):
    (stream,) = highest(llama, make_monitor(llama), ["cheese"])
    monitor = make_monitor(llama, stream.maximum - 1e-3)
    journal = Journal(tmp_path / "trips.sqlite")
    breaker = Breaker(Policy(k=2, n=3, latch=True), journal=journal)
    with guard(llama, monitor, breaker=breaker) as guarded:
        guarded.generate("cheese", max_new_tokens=8, request_id="a")
        assert breaker.state is State.CLOSED
        guarded.generate("cheese", max_new_tokens=8, request_id="b")
        assert breaker.state is State.OPEN
        with pytest.raises(BreakerOpen, match="2 of the last"):
            guarded.generate("cheese", max_new_tokens=8)
    journal.close()
    with Journal(tmp_path / "trips.sqlite") as reopened:
        assert Breaker(Policy(k=2, n=3, latch=True), journal=reopened).state is State.OPEN
        assert reopened.verify().holds
    assert b"cheese" not in (tmp_path / "trips.sqlite").read_bytes(), "no prompt in the journal unless asked for"


def test_an_exception_in_the_model_counts_against_the_breaker(llama, make_monitor):
    breaker = Breaker(Policy(k=1, n=1))

    def fail(tensor):
        raise RuntimeError("broken")

    with (
        guard(llama, make_monitor(llama), breaker=breaker) as guarded,
        edits(llama, {"resid_post.2": fail}),
        pytest.raises(RuntimeError, match="broken"),
    ):
        guarded.generate("cheese", max_new_tokens=3)
    assert breaker.state is State.OPEN


def test_every_probe_must_be_alive(llama, make_monitor):
    monitor = make_monitor(llama, sites=("resid_post.0", "resid_post.2"))
    with guard(llama, monitor) as guarded:
        llama.blocks[0].module._forward_hooks.clear()
        verdict = guarded.generate("cheese", max_new_tokens=3).verdicts[0]
    assert verdict.outcome is Outcome.INVALID
    assert "resid_post.0" in verdict.reason


def test_once_the_ledger_revokes_no_verdict_is_certified(llama, make_monitor, prompts, tmp_path):
    """Made-up maxima lie far below what the model's answers come to under a high limit: the first streams revoke."""
    top = max(stream.maximum for stream in highest(llama, make_monitor(llama), prompts))
    monitor = make_monitor(llama, top + 1)
    low = {"max": {"ordinary": [top - 10 - i / 100 for i in range(200)] + [top + 1] * 10}}
    monitor = replace(monitor, threshold=replace(monitor.threshold, maxima=low))
    ledger = Ledger(tmp_path / "ledger", monitor.threshold)
    with guard(llama, monitor, ledger=ledger) as guarded:
        first = guarded.generate(prompts, max_new_tokens=8)
        assert all(verdict.certified for verdict in first.verdicts)
        assert ledger.streams == 4
        for _ in range(20):
            guarded.generate(prompts, max_new_tokens=8)
        assert ledger.revoked
        after = guarded.generate(prompts, max_new_tokens=8)
    assert {verdict.outcome for verdict in after.verdicts} == {Outcome.CLEAR}
    assert not any(verdict.certified for verdict in after.verdicts)
    assert "not certified:" in after.verdicts[0].reason
    assert "revoked at scored stream " in after.verdicts[0].reason


def test_a_response_that_could_not_be_judged_is_no_evidence_in_the_ledger(tiny, make_monitor, tmp_path):
    monitor = make_monitor(tiny)
    ledger = Ledger(tmp_path / "ledger", monitor.threshold)
    broken = edits(tiny, {monitor.probes[0].site: lambda tensor: tensor * math.nan})
    with broken, guard(tiny, monitor, ledger=ledger) as guarded:
        assert guarded.generate(["cheese"], max_new_tokens=3).verdicts[0].outcome is Outcome.INVALID
    assert (ledger.streams, ledger.unscored) == (1, 1)


def test_where_the_ledger_cannot_be_used_verdicts_are_not_certified_and_nothing_is_lost(
    llama, make_monitor, prompts, tmp_path
):
    monitor, path = make_monitor(llama), tmp_path / "ledger"
    ledger = Ledger(path, monitor.threshold, patience_s=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    with guard(llama, monitor, ledger=ledger) as guarded:
        other.execute("BEGIN IMMEDIATE")
        assert guarded.generate(prompts, max_new_tokens=3).verdicts[0].certified, "it can be read"
        after = guarded.generate(prompts, max_new_tokens=3)
        assert "not certified: the streams before it could not be counted" in after.verdicts[0].reason
        other.execute("ROLLBACK")
        guarded.generate(prompts, max_new_tokens=3)
        assert guarded.generate(prompts, max_new_tokens=3).verdicts[0].certified
        assert ledger.streams == 16, "what was not written was kept"
        path.unlink()
        gone = guarded.generate(prompts, max_new_tokens=3)
    other.close()
    assert {verdict.outcome for verdict in (*after.verdicts, *gone.verdicts)} == {Outcome.CLEAR}
    assert "not certified: the ledger cannot be read" in gone.verdicts[0].reason


def test_what_the_certificate_does_not_speak_for_is_no_evidence_against_it(llama, make_monitor, prompts, tmp_path):
    monitor = make_monitor(llama, mix={"form": "completion"})
    ledger = Ledger(tmp_path / "ledger", monitor.threshold)
    with guard(llama, monitor, ledger=ledger) as guarded:
        guarded.generate(prompts, max_new_tokens=3, do_sample=True, temperature=5.0)
        guarded.generate([[{"role": "user", "content": "say me"}]], max_new_tokens=3)
        assert ledger.streams == 0
        guarded.generate(prompts, max_new_tokens=3)
    assert ledger.streams == 4


def test_what_another_process_counted_is_seen_before_the_next_verdict(llama, make_monitor, prompts, tmp_path):
    monitor = make_monitor(llama)
    mine, other = (Ledger(tmp_path / "ledger", monitor.threshold) for _ in range(2))
    with guard(llama, monitor, ledger=mine) as guarded:
        assert guarded.generate(prompts, max_new_tokens=3).verdicts[0].certified
        other.add([Stream(("a",), torch.tensor([1e9]))] * 40)
        assert other.revoked
        assert not guarded.generate(prompts, max_new_tokens=3).verdicts[0].certified


def test_a_chat_with_a_system_prompt_that_was_not_calibrated_is_not_certified(llama, make_monitor):
    monitor = make_monitor(llama, mix={"form": "chat", "system": ["the", "of"]})

    def certified(*system):
        chat = [*({"role": "system", "content": text} for text in system), {"role": "user", "content": "say me"}]
        return guarded.generate([chat], max_new_tokens=3).verdicts[0].certified

    with guard(llama, monitor) as guarded:
        assert certified("of")
        assert not certified("river")
        assert not certified()


def test_a_ledger_of_another_certificate_is_refused(llama, make_monitor, tmp_path):
    ledger = Ledger(tmp_path / "ledger", make_monitor(llama, 5.0).threshold)
    with pytest.raises(BadInput, match="another certificate"), guard(llama, make_monitor(llama), ledger=ledger):
        pass
