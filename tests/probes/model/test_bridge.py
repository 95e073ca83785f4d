"""One vocabulary, two ways in: taps and edits do the same on Hugging Face modules and on a TransformerLens bridge.

Toy: a bridge is booted on a copy of a tiny random model, so every number it gives must be that of the model itself.
"""

import copy

import pytest
import torch

import probes
from probes.model.blocks import is_bridge
from probes.model.hooks import read_logits
from probes.model.sites import SITE_NAMES

TEXTS = ["the capital of France is Paris", "a city of Spain is Madrid"]


def bridge_on(model):
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers(
        "tiny",
        hf_model=copy.deepcopy(model.module),
        tokenizer=copy.deepcopy(model.tokenizer),
        dtype=model.dtype,
        device="cpu",
    )
    return probes.load_model(bridge)


@pytest.fixture
def both(tiny):
    return tiny, bridge_on(tiny)


def run(model):
    with torch.no_grad():
        return model.module(**model.collate([model.encode(text) for text in TEXTS])).logits


def read_all(model):
    seen = {}
    with probes.taps(model, "*", lambda site, tensor: seen.__setitem__(str(site), tensor.clone())):
        run(model)
    return seen


def gap(a, b):
    return float((a - b).norm() / b.norm())


def test_a_bridge_is_told_from_a_plain_model_and_has_the_same_sizes(both):
    plain, bridged = both
    assert is_bridge(bridged.bridge)
    assert not is_bridge(plain.module)
    assert (bridged.n_layers, bridged.d_model, bridged.context) == (plain.n_layers, plain.d_model, plain.context)
    assert bridged.encode(TEXTS[0]) == plain.encode(TEXTS[0])
    assert gap(run(bridged), run(plain)) < 1e-5


def test_taps_read_the_same_at_every_site_of_every_layer(both):
    plain, bridged = map(read_all, both)
    assert list(plain) == list(bridged)
    assert len(plain) == 3 * len(SITE_NAMES)
    for site in plain:
        assert gap(bridged[site], plain[site]) < 1e-4, site
    for site, other in zip(plain, list(plain)[1:], strict=False):
        if (site, other) not in {("resid_post.0", "resid_pre.1"), ("resid_post.1", "resid_pre.2")}:
            assert gap(plain[other], plain[site]) > 1e-2, "or reading the wrong site could not be noticed"


@pytest.mark.parametrize("name", SITE_NAMES)
def test_edits_change_the_same_at_every_site(both, name):
    torch.manual_seed(1)
    shift = torch.randn(32)
    plain, bridged = both
    bare = run(plain)
    for layer in range(3):
        changed = []
        for model in both:
            with probes.edits(model, {f"{name}.{layer}": lambda tensor: 0.5 * tensor + shift}):
                changed.append(run(model))
        assert gap(changed[1], changed[0]) < 1e-4, f"{name}.{layer}"
        assert gap(changed[0], bare) > 1e-2, "an edit that does nothing would be the same on both, too"


def test_taps_read_what_a_cache_of_transformerlens_holds(both):
    """An outside reference: `run_with_cache`, by the names that TransformerLens gives these places."""
    _, bridged = both
    seen = read_all(bridged)
    with torch.no_grad():
        _, cache = bridged.bridge.run_with_cache(bridged.collate([bridged.encode(text) for text in TEXTS])["input_ids"])
    for name in ("resid_pre", "attn_out", "mlp_out", "resid_post"):
        for layer in range(3):
            theirs = cache[f"blocks.{layer}.hook_{name}"]
            rows = seen[f"{name}.{layer}"]
            assert gap(rows[0], theirs[0]) < 1e-5, f"{name}.{layer}"


def test_nothing_stays_on_a_bridge(both, hooks_of):
    _, bridged = both
    run(bridged)  # at the first run transformers hangs its own hooks on the attentions; those stay
    before = hooks_of(bridged.bridge)
    with (
        pytest.raises(RuntimeError, match="stop"),
        probes.taps(bridged, "*", lambda site, tensor: (_ for _ in ()).throw(RuntimeError("stop"))),
    ):
        run(bridged)
    with probes.edits(bridged, {f"{name}.1": torch.zeros_like for name in SITE_NAMES}):
        assert hooks_of(bridged.bridge) > before
        run(bridged)
    assert hooks_of(bridged.bridge) == before


def test_a_bridge_has_no_fingerprint_and_says_why(both):
    with pytest.raises(probes.CouldNotRun, match="no fingerprint"):
        _ = both[1].fingerprint


def test_logits_read_at_some_slots_are_those_of_the_whole_pass(both):
    for model in both:
        inputs = model.collate([model.encode(text) for text in TEXTS])
        with torch.no_grad():
            picked = read_logits(model, inputs, torch.tensor([1, 0, 1]), torch.tensor([2, 0, 2]))
        assert gap(picked, run(model)[[1, 0, 1], [2, 0, 2]]) < 1e-6
