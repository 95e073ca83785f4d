"""Toy: a prompt of two tokens and a response of three. Score 1 is read at the second prompt token, score 3 at the
second
token of the response; the third token of the response is never read."""

import pytest
import torch

from monitors.live.recorder import Recorder, record
from probes import BadInput, CouldNotRun, Site, capture, read
from probes.activations.responses import capture_responses
from probes.reading.streams import score_tokens

SITE = Site("resid_post", 1)


def test_scores_are_read_where_each_token_was_decided(tiny, make_monitor):
    probe = make_monitor(tiny).probes[0]
    (stream,) = record(tiny, [probe], ["the capital"], max_new_tokens=3, eos_token_id=-1)
    prompt = tiny.encode("the capital")
    answer = tiny.tokenizer.convert_tokens_to_ids([word.strip() for word in stream.tokens])
    every = tiny.collate([prompt + answer])
    with torch.no_grad():
        states = tiny.module(**every, output_hidden_states=True).hidden_states[2][0]  # behind block 1
    by_hand = states[[1, 2, 3]] @ probe.weight + probe.bias
    torch.testing.assert_close(stream.scores, by_hand, rtol=1e-4, atol=1e-4)


def test_capture_read_record_and_responses_give_one_score(tiny, make_monitor, prompts):
    probe = make_monitor(tiny).probes[0]
    streams = record(tiny, [probe], prompts, max_new_tokens=6)
    decisions = capture_responses(tiny, prompts, SITE, max_new_tokens=6)
    for i, (prompt, stream) in enumerate(zip(prompts, streams, strict=True)):
        scale = stream.scores.abs().max()
        ids = tiny.tokenizer.convert_tokens_to_ids([word.strip() for word in stream.tokens])
        offline = read(tiny, probe, prompt, ids)
        assert offline.tokens == stream.tokens
        torch.testing.assert_close(offline.scores, stream.scores, rtol=0, atol=1e-4 * scale)
        live = probe.scores(decisions.values[SITE][decisions.example == i])
        torch.testing.assert_close(live, stream.scores, rtol=0, atol=1e-4 * scale)
        first = probe.scores(capture(tiny, [prompt], SITE).values[SITE])[0]
        torch.testing.assert_close(first, stream.scores[0], rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("options", [{"use_cache": False}, {"do_sample": True, "temperature": 2.0}])
def test_other_ways_to_generate_give_the_scores_of_one_forward_pass(tiny, make_monitor, prompts, options):
    probe = make_monitor(tiny).probes[0]
    torch.manual_seed(0)
    streams = record(tiny, [probe], prompts, max_new_tokens=6, **options)
    for prompt, stream in zip(prompts, streams, strict=True):
        ids = tiny.tokenizer.convert_tokens_to_ids([word.strip() for word in stream.tokens])
        torch.testing.assert_close(read(tiny, probe, prompt, ids).scores, stream.scores, rtol=1e-4, atol=1e-3)


def test_a_row_scores_in_a_batch_as_it_does_alone(tiny, make_monitor, prompts):
    probe = make_monitor(tiny).probes[0]
    together = record(tiny, [probe], prompts, max_new_tokens=6)
    alone = [record(tiny, [probe], [prompt], max_new_tokens=6)[0] for prompt in prompts]
    spread = torch.cat([stream.scores for stream in alone]).std()
    for a, b in zip(together, alone, strict=True):
        assert a.tokens == b.tokens
        assert (a.scores - b.scores).abs().max() <= 1e-5 * spread


def test_two_requests_in_two_threads_do_not_mix(llama, make_monitor, prompts):
    from concurrent.futures import ThreadPoolExecutor

    monitor = make_monitor(llama)
    recorder = Recorder(monitor.probes)

    def run(prompt):
        batch = llama.inputs([prompt])
        with recorder.request(batch["input_ids"]) as recording:
            llama.generate_ids(batch, max_new_tokens=5, stopping=[recording], eos_token_id=-1)
        return recording.scores()[0]

    with recorder.attached(llama), ThreadPoolExecutor(4) as pool:
        got = list(pool.map(run, prompts * 5))
    for i, prompt in enumerate(prompts):
        (expected,) = record(llama, monitor.probes, [prompt], max_new_tokens=5, eos_token_id=-1)
        for scores in got[i::4]:
            torch.testing.assert_close(scores, expected.scores, rtol=1e-4, atol=1e-4)


def test_a_recording_without_fresh_activations_is_deaf_and_stops(llama, make_monitor):
    recorder = Recorder(make_monitor(llama).probes)
    batch = llama.inputs(["the capital"])
    with recorder.request(batch["input_ids"]) as recording:  # not attached: nothing will be heard
        ids = llama.generate_ids(batch, max_new_tokens=5, stopping=[recording])
    assert ids.shape[1] == 3, "it stops after one token"
    assert "no activations at resid_post.1" in recording.deaf
    assert recording.scores().shape == (1, 0)


def test_an_activation_heard_twice_for_one_token_is_deaf(llama, make_monitor):
    """Another forward pass in between may have overwritten what decided the token."""
    recorder = Recorder(make_monitor(llama).probes)
    batch = llama.inputs(["the capital"])
    with recorder.attached(llama), recorder.request(batch["input_ids"]) as recording:
        llama.body(**llama.inputs(["cheese"]))
        llama.generate_ids(batch, max_new_tokens=5, stopping=[recording])
    assert "more than one forward pass" in recording.deaf
    assert recording.scores().shape == (1, 0)


def test_what_is_heard_is_a_copy(llama, make_monitor):
    """A module behind the site that works in place must not change a score."""
    probes = make_monitor(llama).probes
    (before,) = record(llama, probes, ["the capital"], max_new_tokens=2, eos_token_id=-1)

    def in_place(_, args):
        args[0].add_(100.0)

    handle = llama.blocks[2].module.register_forward_pre_hook(in_place)
    (after,) = record(llama, probes, ["the capital"], max_new_tokens=2, eos_token_id=-1)
    handle.remove()
    assert torch.equal(before.scores[0], after.scores[0])


def test_a_deaf_recording_is_no_stream(llama, make_monitor, monkeypatch):
    monkeypatch.setattr(Recorder, "_hear", lambda *_: None)
    with pytest.raises(CouldNotRun, match="no activations at resid_post.1"):
        record(llama, make_monitor(llama).probes, ["the capital"], max_new_tokens=2)


def test_one_string_is_no_list_of_prompts(llama, make_monitor):
    with pytest.raises(BadInput, match="one string"):
        record(llama, make_monitor(llama).probes, "the capital", max_new_tokens=2)


def test_a_nan_of_one_of_several_probes_is_never_outvoted(llama, make_monitor):
    one, two = make_monitor(llama, sites=("resid_post.0", "resid_post.2")).probes
    values = {one.site: torch.ones(3, 32), two.site: torch.ones(3, 32)}
    values[two.site][1] = float("nan")
    for order in ((one, two), (two, one)):
        assert torch.isnan(score_tokens(order, values)).tolist() == [False, True, False]


def test_the_largest_of_several_probes_counts(llama, make_monitor):
    two = make_monitor(llama, sites=("resid_post.0", "resid_post.2")).probes
    (both,) = record(llama, two, ["the capital"], max_new_tokens=4)
    singles = [record(llama, [probe], ["the capital"], max_new_tokens=4)[0].scores for probe in two]
    torch.testing.assert_close(both.scores, torch.maximum(*singles))
