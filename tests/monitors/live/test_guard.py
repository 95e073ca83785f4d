"""Toy: scores 1, 3, 2 against a threshold of 2.5: the second token crosses, so one token is released."""

import math

import pytest
import torch

from monitors.breaker.breaker import Breaker, BreakerOpen
from monitors.breaker.journal import Journal
from monitors.breaker.rule import Policy, State
from monitors.live.guard import guard
from monitors.live.recorder import record
from monitors.verdict import Outcome
from probes import BadInput, Mismatch, edits


def highest(model, monitor, prompts, tokens=8):
    return record(model, monitor.probes, prompts, max_new_tokens=tokens)


def test_a_response_is_cut_before_the_token_that_crossed(tiny, make_monitor, prompts):
    streams = highest(tiny, make_monitor(tiny), prompts)
    limit = float(torch.cat([stream.scores for stream in streams]).median())
    with guard(tiny, make_monitor(tiny, limit)) as guarded:
        reply = guarded.generate(prompts, max_new_tokens=8)
    crossed = 0
    for row, (stream, verdict) in enumerate(zip(streams, reply.verdicts, strict=True)):
        over = (stream.scores > limit).nonzero()
        released = reply.sequences[row, -8:] if reply.sequences.shape[1] >= 8 else reply.sequences[row]
        if len(over):
            crossed += 1
            at = int(over[0]) + 1
            assert (verdict.outcome, verdict.token) == (Outcome.ALARM, at)
            assert verdict.score == pytest.approx(float(stream.scores[at - 1]), abs=1e-4)
            assert reply.texts[row] == tiny.tokenizer.decode(
                tiny.tokenizer.convert_tokens_to_ids(list(stream.tokens[: at - 1])), skip_special_tokens=True
            )
            start = reply.sequences.shape[1] - (reply.sequences.shape[1] - max(len(tiny.encode(p)) for p in prompts))
            assert (reply.sequences[row, start + at - 1 :] == tiny.pad).all(), released
        else:
            assert verdict.outcome is Outcome.CLEAR
    assert crossed > 0, "the toy must alarm somewhere"


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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_not_finite_is_never_a_pass(tiny, make_monitor, prompts, value):
    def poison(tensor):
        tensor = tensor.clone()
        tensor[1] = value  # one row of the batch
        return tensor

    with guard(tiny, make_monitor(tiny)) as guarded, edits(tiny, {"resid_post.1": lambda t: t}):
        monitor_first = guarded.generate(prompts, max_new_tokens=4)
    assert {v.outcome for v in monitor_first.verdicts} == {Outcome.CLEAR}
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
    with guard(llama, make_monitor(llama, horizon=3)) as guarded:
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


def test_ways_to_generate_that_cannot_be_scored_are_refused(llama, make_monitor):
    with guard(llama, make_monitor(llama)) as guarded:
        for option in ({"num_beams": 2}, {"prompt_lookup_num_tokens": 3}, {"num_return_sequences": 2}):
            with pytest.raises(BadInput, match=f"{next(iter(option))} cannot be guarded"):
                guarded.generate("cheese", **option)
        batch = llama.collate([[5, 6, 7], [8]], side="right")
        with pytest.raises(BadInput, match="pad on the left"):
            guarded.generate(**batch)
        with pytest.raises(BadInput, match="nothing to generate from"):
            guarded.generate()
    with pytest.raises(BadInput, match="'halt' is no action"), guard(llama, make_monitor(llama), on_alarm="halt"):
        pass


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
