"""The cost of a capture before it runs: bytes to the last one, seconds by a clock that the test turns."""

import pytest
import torch

import probes
from probes.activations import cost as module
from probes.activations.cost import Cost, estimate_cost
from probes.errors import BadInput, NotFound


class Clock:
    """Stands still unless it is told that something took time."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def timed(monkeypatch):
    """A clock on which each slot of a padded pass takes a millisecond, times what the pass is told to take."""
    monkeypatch.setattr(probes.LanguageModel, "packs", False)
    clock, read, pace = Clock(), module.read_rows, []

    def slow(model, texts, *args, **options):
        found = read(model, texts, *args, **options)
        longest = max(len(model.encode(text)) for text in texts)
        clock.now += len(texts) * longest * 0.001 * (pace.pop(0) if pace else 1)
        return found

    monkeypatch.setattr(module, "read_rows", slow)
    return clock, pace


TEXTS = [f"word{i % 30} {'capital ' * (i % 7)}word{(i * 7) % 30}" for i in range(100)]


@pytest.mark.parametrize(
    ("sites", "options"),
    [
        ("resid_post.*", {}),
        ("resid_post.1", {"tokens": "all"}),
        (["resid_pre.0", "resid_post.2"], {"tokens": "mean"}),
        ("resid_post.1", {"tokens": 0, "within": "ordinary"}),
    ],
)
def test_the_bytes_are_those_of_the_result(tiny, sites, options):
    cost, acts = estimate_cost(tiny, TEXTS, sites, **options), probes.capture(tiny, TEXTS, sites, **options)
    assert cost.nbytes == sum(values.nbytes for values in acts.values.values())
    assert (cost.texts, cost.rows, cost.sites) == (100, len(acts.example), len(acts.sites))
    half = estimate_cost(tiny, TEXTS, sites, dtype=torch.bfloat16, **options)
    assert half.nbytes * 2 == cost.nbytes


def test_statements_bring_their_entities(llama):
    statements = probes.load_topic("capitals").statements()[:20]
    options = {"tokens": "entity"}
    cost, acts = (f(llama, statements, "resid_post.0", **options) for f in (estimate_cost, probes.capture))
    assert cost.rows == len(acts.example) >= 20


def test_seconds_are_slots_times_what_a_slot_takes(llama, timed):
    """By hand: 96 texts of four words in batches of eight are 12 passes of 32 slots, .384 s at a millisecond each."""
    texts = [f"word{i % 30} word{i // 30} of cheese" for i in range(96)]
    clock, pace = timed
    cost = estimate_cost(llama, texts, batch_size=8, clock=clock)
    assert cost.seconds == pytest.approx(0.384)
    assert cost.slowest == pytest.approx(0.384)
    pace += [50, 1, 1, 3, 3]  # the first warms up and does not count
    cost = estimate_cost(llama, texts, batch_size=8, clock=clock)
    assert cost.seconds == pytest.approx(0.768)
    half = 3.182446 * (4 / 3) ** 0.5 / 2  # Student's t at 3 degrees of freedom, deviation sqrt(4 / 3), of 4
    assert cost.slowest == pytest.approx(0.768 + 0.384 * half)


def test_a_few_passes_are_run_and_no_more(llama, monkeypatch, timed):
    clock, _ = timed
    runs, read = [], module.read_rows
    monkeypatch.setattr(module, "read_rows", lambda *args, **options: runs.append(1) or read(*args, **options))
    for count, sample, expected in ((400, 4, 5), (400, 2, 3), (2, 4, 2)):
        runs.clear()
        estimate_cost(llama, (TEXTS * 4)[:count], batch_size=4, sample=sample, clock=clock)
        assert len(runs) == expected


def test_twice_the_texts_take_twice_as_long(llama, timed):
    clock, _ = timed
    one, two = (estimate_cost(llama, texts, batch_size=4, clock=clock).seconds for texts in (TEXTS, TEXTS * 2))
    assert two == pytest.approx(2 * one, rel=0.15)


def test_a_cost_reads_as_a_sentence():
    cost = Cost(1496, 1496, 30, 103_403_520, 12.4, 14.0)
    assert str(cost) == "1,496 texts, 1,496 rows at 30 sites: 98.6 MiB, about 12 s (at most 14 s)"
    assert "1 site: 2.0 KiB, about 2.5 hours (at most 3.0 hours)" in str(Cost(1, 1, 1, 2048, 9000, 10800))
    assert "500 bytes, about 1.5 s (at most 2 minutes)" in str(Cost(1, 1, 1, 500, 1.5, 120))


def test_what_a_capture_would_refuse_is_refused(llama):
    with pytest.raises(BadInput, match="the list of texts is empty"):
        estimate_cost(llama, [])
    with pytest.raises(NotFound):
        estimate_cost(llama, TEXTS, "resid_post.99")
    with pytest.raises(BadInput, match="is no token rule"):
        estimate_cost(llama, TEXTS, tokens="lats")
    with pytest.raises(BadInput, match="sample=1; two passes at least"):
        estimate_cost(llama, TEXTS, sample=1)
