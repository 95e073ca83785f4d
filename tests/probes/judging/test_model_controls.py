"""Controls that need the model: each can tell, and each is read at the very tokens of the probe."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from probes.activations.capture import capture
from probes.errors import BadInput, Mismatch
from probes.judging.controls import MEANINGS
from probes.judging.model_controls import controls, log_probability, random_twin, reread
from probes.judging.splits import row_groups, row_labels, select
from probes.judging.sweep import sweep
from probes.model.sites import Site
from probes.reading.fitting import ESTIMATORS
from probes.reading.metrics import auroc


def test_log_probability_in_batches_is_that_of_each_text_alone(tiny):
    texts = [
        "Paris is the capital of France",
        "cheese",
        "Rome is not the capital of the river me now",
        "Italy is a city",
    ]
    total, tokens = log_probability(tiny, texts, batch_size=3)
    for text, sum_, count in zip(texts, total, tokens, strict=True):
        ids = torch.tensor([tiny.encode(text)])
        with torch.no_grad():
            logs = tiny.module(input_ids=ids).logits.log_softmax(-1)
        alone = sum(logs[0, i, ids[0, i + 1]].item() for i in range(ids.shape[1] - 1))
        assert sum_.item() == pytest.approx(alone, abs=1e-4)
        assert count == max(1, ids.shape[1] - 1)
    assert total[1] == 0


def _bare(found, acts, site=None):
    """What `controls` needs of a sweep, and no more."""
    at = [found.site if site is None else site]
    return SimpleNamespace(best=found.best, train=select(acts, found.split.train, at), test=found.test)


@pytest.fixture(scope="module")
def swept(build):
    """A sweep of a tiny random model over statements that it finds likely (true) or unlikely (false)."""
    model, rng = build(d_model=32), np.random.default_rng(0)
    words = sorted(word for word in model.tokenizer.get_vocab() if not word.startswith("<"))
    pairs = {(*rng.choice(words, 4), i) for i in range(60)}
    texts = [" ".join(pair[:4]) + tail for pair in sorted(pairs) for tail in (f" {pair[0]}", f" {pair[1]}")]
    total, _ = log_probability(model, texts)
    likely = (total.view(-1, 2) == total.view(-1, 2).max(1, keepdim=True).values).flatten()
    groups = [" ".join(text.split()[:4]) for text in texts]
    acts = capture(model, texts, "resid_post.*", labels=likely.tolist(), groups=groups)
    found = sweep(acts, estimators="logistic")
    return model, found, _bare(found, acts), acts


def test_one_call_adds_every_control_that_needs_the_model(swept):
    model, found, bare, _ = swept
    assert "log-probability of the statement" in str(found.table)
    assert "missing (needs the model" in str(found.table)
    added = controls(bare, model)
    assert set(added) == set(MEANINGS)
    assert added["log_probability"].value > 0.6  # labels follow it within each pair
    assert added["log_probability"].how.startswith("log-probability ")
    assert added["layer_0"].how.startswith("logistic refitted at resid_pre.0; ")
    assert added["random_weights"].how.startswith(f"logistic refitted at {found.site} of random weights, seed 0; ")
    for name in ("log_probability", "layer_0", "random_weights"):
        gap = added["auroc"].value - added[name].value
        assert added[f"over_{name}"].value == pytest.approx(gap)
    whole = found.with_controls(added)
    assert "missing" not in str(whole.table)
    assert whole.best.controls == added
    assert "missing" in str(found.table)


def test_controls_refuse_another_model(swept, build):
    with pytest.raises(Mismatch):
        controls(swept[2], build(seed=5))


def test_another_seed_draws_other_weights_and_changes_nothing_else(swept):
    model, _, bare, _ = swept
    first, again, other = (controls(bare, model, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert other["random_weights"].value != first["random_weights"].value
    assert {name for name in MEANINGS if other[name] != first[name]} == {"random_weights", "over_random_weights"}


def test_what_one_word_gives_away_is_read_at_layer_0_and_with_random_weights(build):
    """The label is a matter of which word stands last: no block has to know anything. A label by chance is not read."""
    model, rng = build(d_model=32), np.random.default_rng(0)
    texts = [f"word{i % 30} word{i // 30} {word}" for i in range(120) for word in ("cheese", "river")]
    groups = [f"group {i // 2}" for i in range(240)]
    for labels, told in (([True, False] * 120, True), (rng.permutation(240) < 120, False)):
        acts = capture(model, texts, "resid_post.1", labels=labels, groups=groups)
        found = sweep(acts, estimators="lda")
        added = controls(_bare(found, acts), model)
        for name in ("layer_0", "random_weights"):
            assert (added[name].lower > 0.8) == told
            assert (added[name].lower < 0.5 < added[name].upper) != told
            assert added[f"over_{name}"].lower <= 0 <= added[f"over_{name}"].upper


def test_layer_0_is_at_one_half_where_every_text_ends_alike(build):
    """Without positions in the embedding, layer 0 at the same last word is the same number in every text."""
    model = build("llama")
    texts = [f"word{i % 30} {word} word{i // 30} now" for i in range(90) for word in ("cheese", "river")]
    acts = capture(model, texts, "resid_post.2", labels=[True, False] * 90, groups=[str(i // 2) for i in range(180)])
    found = sweep(acts, estimators="lda")
    added = controls(_bare(found, acts), model)
    assert added["auroc"].lower > 0.8
    assert added["layer_0"].value == 0.5
    assert "the same at every training text" in added["layer_0"].how
    assert added["over_layer_0"].lower > 0.3


def test_a_method_that_cannot_be_refitted_there_gives_way_to_logistic_regression_and_says_so(build):
    """By hand: two last words, one for each label: at layer 0 neither class varies, so LDA has nothing to invert."""
    model = build("llama")
    texts = [f"word{i % 30} word{i // 30} {word}" for i in range(60) for word in ("cheese", "river")]
    acts = capture(model, texts, "resid_post.1", labels=[True, False] * 60, groups=[str(i // 2) for i in range(120)])
    found = sweep(acts, estimators="lda")
    assert controls(_bare(found, acts), model)["layer_0"].how.startswith("logistic refitted at resid_pre.0")


def test_random_weights_are_of_the_same_making_and_leave_the_global_generator_alone(tiny):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    twin, same, other = (random_twin(tiny, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert type(twin.module) is type(tiny.module)
    assert twin.module is not tiny.module
    assert not twin.module.training
    assert (twin.n_layers, twin.d_model, twin.dtype, twin.device) == (
        tiny.n_layers,
        tiny.d_model,
        tiny.dtype,
        tiny.device,
    )
    theirs, mine, others, given = (
        torch.cat([p.flatten() for n, p in model.module.named_parameters() if p.ndim == 2])
        for model in (twin, same, other, tiny)
    )
    assert torch.equal(theirs, mine)
    assert not torch.equal(theirs, others)
    assert abs(torch.corrcoef(torch.stack([theirs, given]))[0, 1]) < 0.05
    # initializer_range is .2; GPT-2 draws what ends a sublayer smaller, by the root of twice the layers.
    assert 0.13 < theirs.std() < 0.21


@pytest.mark.parametrize("options", [{"tokens": "last"}, {"tokens": "all"}, {"tokens": "mean"}, {"tokens": 1}])
def test_reading_again_gives_the_rows_that_were_read(tiny, options):
    texts = [f"word{i % 30} Paris is the {'capital ' * (i % 4)}city" for i in range(300)]
    acts = capture(tiny, texts, "resid_post.1", **options)
    again = reread(tiny, acts, Site("resid_post", 1))
    assert torch.allclose(again, acts.values[Site("resid_post", 1)], atol=1e-4)
    others = dataclasses.replace(acts, texts=tuple(text.replace("Paris", "Rome") for text in acts.texts))
    assert not torch.allclose(reread(tiny, others, acts.sites[0]), again, atol=1e-2)


def test_reading_again_finds_entities_and_prompts_of_chats(tiny, monkeypatch):
    texts = [f"{'now ' * (i % 3)}the city Paris is in France" for i in range(7)]
    acts = capture(tiny, texts, "resid_post.1", tokens="entity", entities=["city Paris"] * 7)
    assert len(acts.example) == 14
    assert torch.allclose(reread(tiny, acts, acts.sites[0]), acts.values[acts.sites[0]], atol=1e-4)
    template = "{% for m in messages %}{{ '<user> ' if m['role'] == 'user' else '<answer> ' }}{{ m['content'] }} "
    template += "{% endfor %}{% if add_generation_prompt %}{{ '<answer>' }}{% endif %}"
    monkeypatch.setattr(tiny.tokenizer, "chat_template", template)
    chats = [({"role": "user", "content": text}, {"role": "assistant", "content": "Rome"}) for text in texts]
    read = {}
    for tokens, within in (("mean", "prompt"), ("mean", ("prompt", "ordinary")), ("mean", "text"), ("last", "prompt")):
        acts = capture(tiny, chats, "resid_post.1", tokens=tokens, within=within)
        read[acts.tokens] = reread(tiny, acts, acts.sites[0])
        assert torch.allclose(read[acts.tokens], acts.values[acts.sites[0]], atol=1e-4)
    assert list(read) == ["mean of prompt", "mean of prompt and ordinary", "mean", "last of prompt"]
    assert not torch.allclose(read["mean"], read["mean of prompt"], atol=1e-2)


def test_rows_picked_from_a_capture_are_read_again_in_their_order(llama):
    acts = capture(llama, [f"word{i} is a city" for i in range(9)], "resid_post.1", labels=[i > 3 for i in range(9)],
                   groups=[str(i) for i in range(9)], tokens="mean")  # fmt: skip
    for part in (acts, dataclasses.replace(acts, tokens="all", position=torch.full((9,), 2))):
        turned = dataclasses.replace(part, example=part.example.flip(0))
        assert torch.allclose(reread(llama, turned, acts.sites[0]), reread(llama, part, acts.sites[0]).flip(0))


def test_generated_responses_get_the_log_probability_alone(swept):
    model, _, bare, _ = swept
    parts = {name: dataclasses.replace(getattr(bare, name), tokens="response") for name in ("train", "test")}
    added = controls(SimpleNamespace(best=bare.best, **parts), model)
    assert "log_probability" in added
    assert "layer_0" not in added
    assert "random_weights" not in added
    with pytest.raises(BadInput, match="cannot be read again"):
        reread(model, parts["test"], bare.best.site)


def test_leads_are_paired_on_the_test_rows(swept):
    model, found, bare, _ = swept
    total, tokens = log_probability(model, bare.test.texts)
    labels, groups = row_labels(bare.test), row_groups(bare.test)
    best = max(
        (auroc(scores[bare.test.example], labels, groups=groups) for scores in (total, total / tokens)),
        key=lambda found: found.value,
    )
    added = controls(bare, model)
    assert added["log_probability"].value == best.value
    width = added["over_layer_0"].upper - added["over_layer_0"].lower
    apart = sum(added[name].upper - added[name].lower for name in ("auroc", "layer_0"))
    assert 0 < width < apart
    assert ESTIMATORS[found.best.method]
