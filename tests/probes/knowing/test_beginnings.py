"""Beginnings: what one look at a prompt tells of every answer is what scoring each of them tells."""

import numpy as np
import pytest
import torch

from probes.activations.likelihood import log_likelihoods
from probes.errors import BadInput
from probes.knowing.beginnings import Beginnings, head_of, read_last

PROMPTS = ["the capital of France is", "the capital of Spain is", "the river of Italy is"]


def test_they_are_the_likelihoods_of_the_first_tokens(tiny):
    """Answers of one word, and one behind an article, whose two first tokens count."""
    reader = Beginnings(tiny, ["Paris", "Madrid", "Rome now", "the city"], PROMPTS[0])
    reader.read(PROMPTS)
    found = reader(PROMPTS, ["Paris", "Madrid", "Rome now", "the city"])
    for i, scored in enumerate(log_likelihoods(tiny, PROMPTS, ["Paris", "Madrid", "Rome", "the city"])):
        np.testing.assert_allclose(found[i], scored.total, atol=1e-5)
        assert torch.allclose(reader.row(PROMPTS[i]).double(), scored.total, atol=1e-5)
    assert len(reader.heads["Rome now"]) == 1
    assert len(reader.heads["the city"]) == 2


def test_the_greedy_beginning_is_what_generation_says(llama):
    reader = Beginnings(llama, ["Paris", "the city"], PROMPTS[0])
    reader.read(PROMPTS)
    for prompt in PROMPTS:
        first = llama.generate_ids(llama.inputs([prompt]), max_new_tokens=2)[0, -2:].tolist()
        assert list(reader.greedy(prompt)) in (first[:1], first)


def test_a_prompt_is_read_once(llama, monkeypatch):
    reader, calls = Beginnings(llama, ["Paris"], PROMPTS[0]), []
    monkeypatch.setattr("probes.knowing.beginnings.read_last", lambda *a: calls.append(a) or read_last(*a))
    reader.read(PROMPTS[:2])
    first = reader(PROMPTS[:2], ["Paris"])
    reader.read(PROMPTS)
    reader.read(PROMPTS)
    assert [len(call[1]) for call in calls] == [2, 1]
    assert (reader(PROMPTS[:2], ["Paris"]) == first).all()
    assert reader(PROMPTS[::-1], ["Paris"]).shape == (3, 1)


def test_a_blank_reader_of_the_same_answers_has_read_nothing(llama):
    reader = Beginnings(llama, ["Paris", "the city"], PROMPTS[0])
    reader.read(PROMPTS[:1])
    before = reader.row(PROMPTS[0]).clone()
    with torch.no_grad():
        llama.module.lm_head.weight.mul_(2)
    blank = reader.blank()
    assert blank.heads is reader.heads
    with pytest.raises(KeyError):
        blank.row(PROMPTS[0])
    blank.read(PROMPTS[:1])
    assert not torch.allclose(blank.row(PROMPTS[0]), before)
    reader.read(PROMPTS[:1])
    assert (reader.row(PROMPTS[0]) == before).all(), "the first one keeps what it read"


def test_what_cannot_be_told_is_refused(llama):
    with pytest.raises(BadInput, match="no answer"):
        Beginnings(llama, [], PROMPTS[0])
    with pytest.raises(BadInput, match="white space"):
        head_of(llama, PROMPTS[0], " Paris")
    torch.nn.init.constant_(llama.module.lm_head.weight, float("nan"))
    with pytest.raises(BadInput, match="not finite"):
        Beginnings(llama, ["Paris"], PROMPTS[0]).read(PROMPTS)
