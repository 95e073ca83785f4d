"""Streaming: what is released is what was judged, as soon as it was, and nothing from the crossing on."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from monitors.breaker.breaker import Breaker, BreakerOpen
from monitors.breaker.rule import Policy, State
from monitors.live.guard import Alarmed, guard
from monitors.live.recorder import record
from monitors.live.streaming import Pieces, Releaser
from monitors.verdict import Outcome
from probes import BadInput


def test_the_pieces_are_the_text_of_generate_and_the_reply_is_the_same(tiny, make_monitor, prompts):
    with guard(tiny, make_monitor(tiny)) as guarded:
        for prompt in prompts:
            pieces = guarded.stream(prompt, max_new_tokens=8, request_id="r")
            parts, whole = list(pieces), guarded.generate([prompt], max_new_tokens=8, request_id="r")
            assert "".join(parts) == whole.texts[0]
            assert len(parts) > 1
            assert torch.equal(pieces.reply.sequences, whole.sequences)
            assert pieces.reply.verdicts == whole.verdicts


def test_nothing_is_released_from_the_token_that_crossed_on(tiny, make_monitor, prompts):
    streams = record(tiny, make_monitor(tiny).probes, prompts, max_new_tokens=8)
    limit = float(torch.cat([stream.scores for stream in streams]).median())
    cut = 0
    with guard(tiny, make_monitor(tiny, limit)) as guarded:
        for prompt in prompts:
            pieces = guarded.stream(prompt, max_new_tokens=8)
            text = "".join(pieces)
            assert text == guarded.generate([prompt], max_new_tokens=8).texts[0] == pieces.reply.texts[0]
            cut += pieces.reply.verdicts[0].outcome is Outcome.ALARM
    assert cut, "the toy must alarm somewhere"
    with guard(tiny, make_monitor(tiny, limit), on_alarm="flag") as guarded:
        for prompt in prompts:
            assert "".join(guarded.stream(prompt, max_new_tokens=8)) == tiny.generate(prompt, max_new_tokens=8)


class _Recording:
    def __init__(self, over):
        self.over = torch.tensor([over])


@pytest.mark.parametrize(
    ("over", "hold", "wanted", "taken", "stops"),
    [(False, True, True, [7], False), (True, True, True, [], False), (True, False, True, [7], False),
     (False, True, False, [7], True)],
)  # fmt: skip
def test_a_token_is_handed_on_where_its_row_is_not_over_or_nothing_is_held(over, hold, wanted, taken, stops):
    """Whether a row that is over stops is the recording's business, not the releaser's."""
    got = []
    releaser = Releaser(_Recording(over), lambda token: got.append(token) or wanted, hold=hold)
    assert releaser(torch.tensor([[3, 5, 7]]), None).tolist() == [stops]
    assert got == taken


def test_a_piece_comes_while_the_response_is_still_made():
    go_on = threading.Event()

    def work(take):
        take(65)
        assert go_on.wait(10)
        take(66)
        return "made"

    pieces = Pieces(work, lambda ids: bytes(ids).decode())
    assert next(pieces) == "A"
    go_on.set()
    assert (list(pieces), pieces.reply) == (["B"], "made")


def test_a_letter_of_several_tokens_is_released_whole_and_half_a_one_at_the_end():
    def work(take):
        for byte in "né€".encode():
            take(byte)
        take("é".encode()[0])

    pieces = Pieces(work, lambda ids: bytes(ids).decode(errors="replace"))
    assert list(pieces) == ["n", "é", "€", "\ufffd"]


def test_a_response_that_is_closed_ends_early_and_is_judged(tiny, make_monitor, monkeypatch):
    breaker, told = Breaker(Policy(3, 10)), []
    monkeypatch.setattr(breaker, "record", lambda verdict, permit, **_: told.append(verdict))
    with guard(tiny, make_monitor(tiny), breaker=breaker) as guarded:
        with guarded.stream("cheese", max_new_tokens=64) as pieces:
            next(pieces)
        (verdict,) = pieces.reply.verdicts
        assert told == [verdict]
        assert (verdict.outcome, verdict.scored) == (Outcome.CLEAR, verdict.accepted)
        assert guarded.stream("cheese", max_new_tokens=3).reply.verdicts[0].accepted <= 3, "made whole without a reader"


def test_a_closed_response_stops_at_the_next_token():
    made = []

    def work(take):
        for token in range(65, 90):
            made.append(token)
            if not take(token):
                return "closed"
            started.wait(10)
        return "whole"

    started = threading.Event()
    pieces = Pieces(work, lambda ids: bytes(ids).decode())
    assert next(pieces) == "A"
    pieces._closed = True
    started.set()
    assert (pieces.reply, len(made)) == ("closed", 2)


def test_an_open_breaker_and_a_wrong_request_are_told_at_once(llama, make_monitor):
    breaker = Breaker(Policy(1, 1, latch=True))
    with guard(llama, make_monitor(llama, -1e6), breaker=breaker) as guarded:
        assert list(guarded.stream("cheese", max_new_tokens=4)) == []
        assert breaker.snapshot.state is State.OPEN
        with pytest.raises(BreakerOpen):
            guarded.stream("cheese")
        with pytest.raises(BadInput, match="num_beams"):
            guarded.stream("cheese", num_beams=2)


def test_what_breaks_the_model_is_raised_behind_the_pieces_and_is_no_pass(llama, make_monitor):
    breaker, steps = Breaker(Policy(2, 2)), []

    def break_down(*_):
        steps.append(1)
        if len(steps) == 3:
            raise RuntimeError("out of memory")

    hook = llama.blocks[0].module.register_forward_hook(break_down)
    try:
        with guard(llama, make_monitor(llama), breaker=breaker) as guarded:
            pieces = guarded.stream("cheese", max_new_tokens=8)
            with pytest.raises(RuntimeError, match="out of memory"):
                list(pieces)
            with pytest.raises(RuntimeError, match="out of memory"):
                pieces.reply  # noqa: B018 - a property that raises
    finally:
        hook.remove()
    assert sum(breaker.snapshot.window) == 1, "counts as an alarm"


def test_streams_side_by_side_do_not_mix(llama, make_monitor, prompts):
    with guard(llama, make_monitor(llama)) as guarded:
        alone = [guarded.generate([prompt], max_new_tokens=6) for prompt in prompts]
        with ThreadPoolExecutor(4) as pool:
            for _ in range(5):
                streams = [guarded.stream(prompt, max_new_tokens=6) for prompt in prompts]
                texts = list(pool.map("".join, streams))
                assert texts == [reply.texts[0] for reply in alone]
                for stream, reply in zip(streams, alone, strict=True):
                    assert torch.equal(stream.reply.streams[0].scores, reply.streams[0].scores)


def test_a_stream_raises_behind_its_pieces_or_ends_with_what_is_said_instead(tiny, make_monitor, prompts):
    streams = record(tiny, make_monitor(tiny).probes, prompts, max_new_tokens=8)
    limit = float(torch.cat([stream.scores for stream in streams]).median())
    with guard(tiny, make_monitor(tiny, limit)) as guarded:
        stopped = [guarded.generate([prompt], max_new_tokens=8) for prompt in prompts]
    with guard(tiny, make_monitor(tiny, limit), on_alarm="raise") as guarded:
        for prompt, reply in zip(prompts, stopped, strict=True):
            pieces, parts = guarded.stream(prompt, max_new_tokens=8), []
            if reply.verdicts[0].alarmed:
                with pytest.raises(Alarmed):
                    parts.extend(pieces)
            else:
                parts.extend(pieces)
            assert parts == [] or "".join(parts) == reply.texts[0]
    with guard(tiny, make_monitor(tiny, limit), on_alarm=lambda held: "[withheld]") as guarded:
        for prompt, reply in zip(prompts, stopped, strict=True):
            pieces = guarded.stream(prompt, max_new_tokens=8)
            text = reply.texts[0] + "[withheld]" * reply.verdicts[0].alarmed
            assert "".join(pieces) == text == pieces.reply.texts[0]
