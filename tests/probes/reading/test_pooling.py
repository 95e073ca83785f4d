"""Attention pooling: two tokens by hand, padding, a needle in a text, and what the mean of the tokens cannot find."""

import math
from types import SimpleNamespace

import pytest
import torch

from probes.artifact import write_artifact
from probes.errors import ArtifactError, BadInput, Mismatch, NotFound
from probes.model.sites import Site
from probes.reading.fitting import fit_logistic
from probes.reading.metrics import auroc_values
from probes.reading.pooling import POOLINGS, AttentionProbe, by_text, fit_attention_pooling
from probes.reading.probe import Probe

SITE = Site("resid_post", 1)


def _needles(texts=300, tokens=12, width=32, seed=0):
    """Axis 0 marks one token of each text, where axis 1 tells the label; elsewhere axis 1 is loud noise."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(texts, tokens, width, generator=generator)
    rows[..., 1] *= 3
    labels = torch.rand(texts, generator=generator) < 0.5
    where = torch.randint(0, tokens, (texts,), generator=generator)
    rows[torch.arange(texts), where, 0] += 6
    rows[torch.arange(texts), where, 1] = 3 * (2.0 * labels - 1)
    return rows * torch.linspace(0.5, 20, width) + 4, labels, where


def _auroc(scores, labels):
    return auroc_values(scores[:, None].double(), labels)[0]


def test_two_tokens_by_hand():
    """Query (ln 3, 0) sees tokens (1, 2) and (0, 6) as 3 to 1; values (0, 1) read 2 and 6: 3/4 * 2 + 1/4 * 6 = 3."""
    probe = AttentionProbe(torch.tensor([[math.log(3), 0.0]]), torch.tensor([[0.0, 1.0]]), 0.5, "resid_post.1")
    text = torch.tensor([[1.0, 2.0], [0.0, 6.0]])
    assert probe.scores(text).item() == pytest.approx(3.5)
    assert probe.attention(text)[:, 0].tolist() == pytest.approx([0.75, 0.25])
    loudest = AttentionProbe(probe.query, probe.value, 0.5, SITE, pooling="max")
    assert loudest.scores(text).item() == 6.5
    assert loudest.attention(text)[:, 0].tolist() == [0, 1]
    assert isinstance(probe, Probe)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_counts_for_nothing_wherever_it_is_and_whatever_it_holds(pooling):
    generator = torch.Generator().manual_seed(0)
    probe = AttentionProbe(*torch.randn(2, 3, 8, generator=generator), 0.1, SITE, pooling=pooling)
    text = torch.randn(5, 8, generator=generator)
    padded = torch.full((2, 9, 8), math.nan)
    padded[0, :5], padded[1, 4:] = text, text
    mask = torch.arange(9) < 5
    scores = probe.scores(padded, torch.stack([mask, mask.flip(0)]))
    assert torch.allclose(scores, probe.scores(text), atol=1e-5)
    assert probe.attention(padded, torch.stack([mask, mask.flip(0)]))[0, 5:].abs().sum() == 0
    unmasked = probe.scores(padded)
    assert unmasked.isnan().all()  # a real token that is not finite is not hidden
    assert probe.scores(text[None, None]).shape == (1, 1)
    assert probe.scores(text.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("pooling", POOLINGS)
def test_fitting_finds_a_needle_that_the_mean_cannot(pooling):
    rows, labels, where = _needles()
    if pooling == "max":  # what max can find: the loudest token tells
        rows[..., 1] = 4 + (rows[..., 1] - 4) / 8
        rows[torch.arange(300), where, 1] += 8.0 * labels
        rows[..., 1] -= 8.0 / 12 * labels[:, None]  # nothing is left in the mean
    probe = fit_attention_pooling(rows[:200], labels[:200], site=SITE, seed=0, pooling=pooling)
    assert _auroc(probe.scores(rows[200:]), labels[200:]) > 0.95
    mean = fit_logistic(rows[:200].mean(1), labels[:200], site=SITE).scores(rows[200:].mean(1))
    assert _auroc(mean, labels[200:]) < 0.9
    if pooling == "attention":
        found = probe.attention(rows[200:])[..., 0].argmax(-1)
        assert (found == where[200:]).float().mean() > 0.8
    shuffled = labels[:200][torch.randperm(200, generator=torch.Generator().manual_seed(0))]
    noise = fit_attention_pooling(rows[:200], shuffled, site=SITE, seed=0, pooling=pooling)
    assert 0.3 < _auroc(noise.scores(rows[200:]), labels[200:]) < 0.7


def test_texts_of_one_token_are_plain_logistic_regression():
    """One token has all the attention, so the value is what solves the penalised logistic loss, the query nothing."""
    rows, labels, _ = _needles(120, 1, 10)
    probe = fit_attention_pooling(rows, labels, site=SITE, seed=0, C=0.01)
    expected = fit_logistic(rows[:, 0], labels, site=SITE, C=0.01)
    assert (probe.scores(rows) - expected.scores(rows[:, 0])).abs().max() < 1e-3
    assert probe.query.abs().max() < 1e-3


def test_the_scaling_is_folded_in_and_padding_does_not_enter_it():
    rows, labels, _ = _needles(100, 6, 8)
    mask = torch.arange(9) < 6
    padded = torch.cat([rows, torch.full((100, 3, 8), math.nan)], 1)
    one = fit_attention_pooling(rows, labels, site=SITE, seed=0)
    two = fit_attention_pooling(padded, labels, mask=mask.expand(100, 9), site=SITE, seed=0)
    assert torch.allclose(one.scores(rows), two.scores(rows), atol=1e-3)
    scaled = fit_attention_pooling(rows * 100 - 7, labels, site=SITE, seed=0)
    assert torch.allclose(scaled.scores(rows * 100 - 7), one.scores(rows), atol=1e-2)


def test_the_seed_decides_all_and_the_global_generator_nothing():
    rows, labels, _ = _needles(60, 5, 8)
    state = torch.random.get_rng_state()
    once, again, other = (fit_attention_pooling(rows, labels, site=SITE, seed=s, heads=2) for s in (0, 0, 1))
    assert torch.equal(once.query, again.query)
    assert torch.equal(once.value, again.value)
    assert not torch.equal(once.query, other.query)
    assert once.query.shape == (2, 8)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_captured_rows_become_texts_in_the_order_of_their_tokens():
    values = torch.arange(10.0).reshape(5, 2)
    blocks, mask = by_text(values, torch.tensor([1, 0, 1, 0, 1]))
    assert mask.tolist() == [[True, True, False], [True, True, True]]
    assert blocks[0].tolist() == [[2, 3], [6, 7], [0, 0]]
    assert blocks[1].tolist() == [[0, 1], [4, 5], [8, 9]]
    with pytest.raises(BadInput, match="the text of each row"):
        by_text(values, torch.tensor([0, 1]))


def test_tokens_of_a_model_can_be_pooled(llama):
    import probes

    acts = probes.capture(llama, ["the capital of France", "Rome", "a river in Spain is"], "resid_post.1", tokens="all")
    blocks, mask = by_text(acts.values[SITE], acts.example)
    assert mask.sum(1).tolist() == torch.bincount(acts.example).tolist()
    probe = fit_attention_pooling(blocks, torch.tensor([True, False, True]), mask=mask, site=SITE, seed=0)
    alone = torch.stack([probe.scores(acts.values[SITE][acts.example == i]) for i in range(3)])
    assert torch.allclose(probe.scores(blocks, mask), alone, atol=1e-4)


def test_what_cannot_be_pooled_is_refused():
    rows, labels, _ = _needles(20, 4, 6)
    fit = {"site": SITE, "seed": 0}
    empty = torch.ones(20, 4, dtype=torch.bool)
    empty[3] = False
    holed = rows.clone()
    holed[2, 1, 0] = math.nan
    for kwargs, words in (
        ({"activations": rows[0], "labels": labels}, "text x token x d_model"),
        ({"activations": rows, "labels": labels[:5]}, "a label a row"),
        ({"activations": rows, "labels": labels | True}, "one class only"),
        ({"activations": rows, "labels": labels, "mask": empty}, "no real token"),
        ({"activations": rows, "labels": labels, "mask": empty[:, :3]}, "a mask of shape"),
        ({"activations": holed, "labels": labels}, "row 9 of the real tokens is not finite"),
        ({"activations": rows, "labels": labels, "heads": 0}, "at least 1 head"),
        ({"activations": rows, "labels": labels, "C": 0.0}, "C is above 0"),
    ):
        with pytest.raises(BadInput, match=words):
            fit_attention_pooling(**kwargs, **fit)
    with pytest.raises(NotFound, match="did you mean 'max'"):
        fit_attention_pooling(rows, labels, pooling="maxx", **fit)
    probe = AttentionProbe(torch.ones(1, 6), torch.ones(1, 6), 0.0, SITE)
    with pytest.raises(BadInput, match="token x 6 at resid_post.1"):
        probe.scores(torch.ones(4, 5))
    with pytest.raises(BadInput, match="no real token"):
        probe.scores(torch.ones(0, 6))
    with pytest.raises(BadInput, match="finite numbers"):
        AttentionProbe(torch.full((1, 6), math.inf), torch.ones(1, 6), 0.0, SITE)
    with pytest.raises(BadInput, match="a value a query"):
        AttentionProbe(torch.ones(2, 6), torch.ones(1, 6), 0.0, SITE)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_saved_and_loaded_it_is_the_same_probe(pooling, tmp_path):
    rows = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))
    about = {"concept": "é", "fingerprint": {"config": "a"}, "method": "mine"}
    probe = AttentionProbe(rows[0, :2], rows[1, :2], 0.1 + 0.2, SITE, pooling, **about)
    probe.save(tmp_path / "probe")
    again = AttentionProbe.load(tmp_path / "probe")
    assert torch.equal(again.scores(rows), probe.scores(rows))
    assert (again.site, again.pooling, again.bias, again.concept, again.method) == (
        SITE,
        pooling,
        0.1 + 0.2,
        "é",
        "mine",
    )
    assert again.match(SimpleNamespace(fingerprint={"config": "a"})) == ()
    with pytest.raises(Mismatch):
        again.match(SimpleNamespace(fingerprint={"config": "b"}))


def test_a_damaged_folder_is_refused(tmp_path):
    tensors = {"query": torch.ones(1, 3), "value": torch.ones(1, 3)}
    body = {"bias": 0.5, "site": "resid_post.1", "pooling": "max", "method": "", "concept": "", "fingerprint": {}}
    for name, changed, fields, words in (
        ("missing", {"query": tensors["query"]}, body, "a query and a value"),
        ("double", tensors | {"value": torch.ones(1, 3).double()}, body, "float32"),
        ("heads", tensors | {"value": torch.ones(2, 3)}, body, "a value a query"),
        ("pooling", tensors, body | {"pooling": "mean"}, "no pooling"),
        ("field", tensors, body | {"more": 1}, "more"),
    ):
        write_artifact(tmp_path / name, "attention", fields, changed)
        with pytest.raises(ArtifactError, match=words):
            AttentionProbe.load(tmp_path / name)
    write_artifact(tmp_path / "good", "attention", body, tensors)
    assert AttentionProbe.load(tmp_path / "good").bias == 0.5
