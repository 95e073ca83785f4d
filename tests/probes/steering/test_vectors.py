"""Toy: two rows (3, 0) labelled true and (0, 1) labelled false. The difference of means is (3, -1) = sqrt(10) * d, the
mean norm is 2, so the size of the vector is sqrt(10) / 2; adding 2 of it adds 2 * 2 * d.
"""

import dataclasses
from math import sqrt

import pytest
import torch

import probes
from probes import ArtifactError, BadInput, Mismatch, NotFound, SteeringVector, ablate, steer, taps
from probes.model.sites import Site
from probes.reading.metrics import Estimate
from probes.steering.vectors import mean_norm, unit, writes

TEXT = "the capital of France is Paris"
PROMPTS = ["the capital of France is", "the river is"]


def toy_activations():
    return probes.Activations(
        values={Site("resid_post", 1): torch.tensor([[3.0, 0.0], [0.0, 1.0]])},
        example=torch.tensor([0, 1]), position=torch.tensor([0, 0]), tokens="last", texts=("a", "b"),
        labels=torch.tensor([True, False]), groups=("a", "b"), fingerprint={},
    )  # fmt: skip


def vector_of(direction, site="resid_post.1", scale=2.0):
    return SteeringVector(direction, Site.parse(site), scale)


def logits_of(model, texts=(TEXT,)):
    with torch.no_grad():
        return model.module(**model.collate([model.encode(text) for text in texts])).logits


def test_the_toy_by_hand():
    vector = SteeringVector.from_activations(toy_activations())
    torch.testing.assert_close(vector.direction, torch.tensor([3.0, -1.0]) / sqrt(10))
    assert vector.scale == 2.0
    assert vector.size == pytest.approx(sqrt(10) / 2)


def test_steering_adds_the_coefficient_times_the_scale_times_the_direction(tiny, direction):
    seen = {}
    with taps(tiny, "resid_post.1", lambda site, tensor: seen.setdefault("plain", tensor.clone())):
        logits_of(tiny)
    with (
        steer(tiny, vector_of(direction), 1.5),
        taps(tiny, "resid_post.1", lambda site, tensor: seen.setdefault("steered", tensor.clone())),
    ):
        logits_of(tiny)
    moved = seen["steered"] - seen["plain"]
    torch.testing.assert_close(moved, (1.5 * 2.0 * unit(direction)).expand_as(moved), rtol=1e-5, atol=1e-5)


BIASES = {
    "llama": lambda m: m.module.model.layers[1].mlp.down_proj.bias,
    "gpt2": lambda m: m.module.transformer.h[1].mlp.c_proj.bias,
    "neox": lambda m: m.module.gpt_neox.layers[1].mlp.dense_4h_to_h.bias,
    "opt": lambda m: m.module.model.decoder.layers[1].fc2.bias,
    "phi": lambda m: m.module.model.layers[1].mlp.fc2.bias,
}


@pytest.mark.parametrize("site", ["mlp_out.1", "resid_post.1"])
@pytest.mark.parametrize("name", BIASES)
def test_adding_by_hook_equals_adding_a_bias(architecture, direction, name, site):
    model = architecture(name)
    plain, texts = logits_of(model, PROMPTS), PROMPTS
    with steer(model, vector_of(direction, site), -1.5):
        hooked = logits_of(model, texts)
    with torch.no_grad():
        BIASES[name](model).add_(-1.5 * 2.0 * unit(direction))
    edited = logits_of(model, texts)
    torch.testing.assert_close(hooked, edited, rtol=0, atol=1e-5)
    assert float((hooked - plain).abs().max()) > 0.1, "and it is not that nothing happened"


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt"])
def test_adding_to_the_embeddings_equals_adding_at_the_first_block(architecture, direction, name):
    model = architecture(name)
    with steer(model, vector_of(direction, "resid_pre.0"), 1.0):
        hooked = logits_of(model)
    table, output = model.module.get_input_embeddings(), model.module.get_output_embeddings()
    output.weight = torch.nn.Parameter(output.weight.detach().clone())  # untied, where it was tied
    with torch.no_grad():
        table.weight.add_(2.0 * unit(direction))
    torch.testing.assert_close(hooked, logits_of(model), rtol=0, atol=1e-5)


@pytest.mark.parametrize("tokens", ["all", "last", "prompt", "response", -1, 3])
@pytest.mark.parametrize("name", ["llama", "gpt2", "neox", "opt"])
def test_generating_with_a_cache_equals_one_pass_over_everything(architecture, direction, name, tokens):
    """The logits of each step, left-padded and cached, against each text alone, edited where the rule means."""
    model = architecture(name)
    batch, vector = model.inputs(PROMPTS), vector_of(direction)
    with steer(model, vector, 2.0, tokens=tokens):
        out = model.module.generate(
            **batch, max_new_tokens=4, min_new_tokens=4, do_sample=False, return_dict_in_generate=True,
            output_logits=True,
        )  # fmt: skip
    width, steered = batch["input_ids"].shape[1], torch.stack(out.logits, 1)
    for row, prompt in enumerate(PROMPTS):
        n = len(model.encode(prompt))
        ids = out.sequences[row, width - n :]
        first = {"all": 0, "prompt": 0, "last": n - 1, "response": n, -1: n - 1, 3: 3}[tokens]
        end = {"prompt": n, -1: n, 3: 4}.get(tokens, len(ids))

        def edit(tensor, first=first, end=end):
            new = tensor.clone()
            new[:, first:end] += 2.0 * 2.0 * unit(direction)
            return new

        with probes.edits(model, {"resid_post.1": edit}), torch.no_grad():
            alone = model.module(input_ids=ids[None]).logits[0, n - 1 : -1]
        torch.testing.assert_close(steered[row], alone, rtol=0, atol=2e-5)


def test_our_own_generate_is_steered_and_is_itself_again_behind_it(llama, direction):
    plain = llama.generate(TEXT, max_new_tokens=6)
    with steer(llama, vector_of(direction), 5.0, tokens="last"):
        assert llama.generate(TEXT, max_new_tokens=6) != plain
    assert llama.generate(TEXT, max_new_tokens=6) == plain


def test_a_coefficient_of_zero_changes_no_bit(tiny, direction):
    plain = logits_of(tiny)
    with steer(tiny, vector_of(direction), 0.0):
        assert torch.equal(logits_of(tiny), plain)


def test_two_open_steerings_add_up_and_a_step_back_takes_one_away(llama, direction):
    vector = vector_of(direction)
    with steer(llama, vector, 3.0):
        thrice = logits_of(llama)
    with steer(llama, vector, 1.0), steer(llama, vector, 2.0):
        torch.testing.assert_close(logits_of(llama), thrice, rtol=0, atol=1e-5)
        with steer(llama, vector, -3.0):
            back = logits_of(llama)
    torch.testing.assert_close(back, logits_of(llama), rtol=0, atol=1e-4)


def test_ablating_leaves_nothing_along_the_direction_anywhere(architecture, direction):
    for name in ("llama", "gpt2", "opt"):
        model, along = architecture(name), []

        def look(site, tensor, along=along):
            along.append(float((tensor @ unit(direction)).abs().max()))

        with ablate(model, direction), taps(model, "resid_*.*" if name != "neox" else "resid_post.*", look):
            logits_of(model)
        assert max(along) < 1e-5
        del along[:]
        with taps(model, "resid_post.*", look):
            logits_of(model)
        assert max(along) > 0.1


def test_ablating_at_some_tokens_leaves_the_others(llama, direction):
    seen = []
    with (
        ablate(llama, direction, sites="resid_post.1", tokens=[0, -1]),
        taps(llama, "resid_post.1", lambda _, tensor: seen.append(tensor @ unit(direction))),
    ):
        logits_of(llama)
    free = seen[0][0].abs() > 1e-4
    assert free.tolist() == [False, True, True, True, True, False]


def test_a_probe_is_steered_by_the_norm_of_ordinary_texts(llama, direction):
    probe = probes.LinearProbe.from_weights(7 * direction, 1.0, "resid_post.1")
    vector = SteeringVector.from_probe(llama, probe)
    assert vector.scale == mean_norm(llama, "resid_post.1")
    torch.testing.assert_close(vector.direction, unit(direction))
    with steer(llama, vector, 1.0):
        wanted = logits_of(llama)
    with steer(llama, probe, 1.0):
        assert torch.equal(logits_of(llama), wanted)
    with steer(llama, probe.direction, 1.0, site="resid_post.1"):
        torch.testing.assert_close(logits_of(llama), wanted, rtol=0, atol=1e-5)


def test_the_mean_norm_is_that_of_all_tokens_but_the_first(llama):
    from probes.facts.wordings import ordinary_texts

    texts, norms = ordinary_texts()[:32], []
    for text in texts:
        with taps(llama, "resid_post.0", lambda _, tensor: norms.append(tensor[0, 1:].norm(dim=-1))):
            logits_of(llama, [text])
    assert mean_norm(llama, "resid_post.0") == pytest.approx(float(torch.cat(norms).mean()), rel=1e-4)


def test_pca_finds_the_direction_in_which_pairs_differ():
    torch.manual_seed(0)
    base, axis = torch.randn(20, 8), torch.eye(8)[2]
    rows = torch.cat([base + 2 * axis + 0.1 * torch.randn(20, 8), base - 0.1 * torch.randn(20, 8)])
    acts = probes.Activations(
        values={Site("resid_post", 0): rows}, example=torch.arange(40), position=torch.zeros(40), tokens="last",
        texts=("t",) * 40, labels=torch.arange(40) < 20, groups=tuple(str(i % 20) for i in range(40)), fingerprint={},
    )  # fmt: skip
    vector = SteeringVector.from_activations(acts, method="pca", pairs=True)
    assert float(vector.direction @ axis) > 0.99
    assert vector.size == 0
    loose = SteeringVector.from_activations(acts, method="pca")
    assert abs(float(loose.direction @ axis)) < 0.99, "without pairs what the texts are about is in the way"


def test_two_lists_of_texts_make_the_vector_between_their_means(llama):
    toward, away = ["the capital of France", "Paris is now"], ["the river", "a cheese please", "Rome"]
    vector = SteeringVector.from_texts(llama, toward, away, "resid_post.1", concept="France")
    values = [probes.capture(llama, texts, "resid_post.1").values[Site("resid_post", 1)] for texts in (toward, away)]
    difference = values[0].mean(0) - values[1].mean(0)
    torch.testing.assert_close(vector.direction, difference / difference.norm(), rtol=1e-4, atol=1e-5)
    assert vector.size * vector.scale == pytest.approx(float(difference.norm()), rel=1e-4)
    assert vector.match(llama) == ()


def test_saved_and_loaded_it_is_the_same(tmp_path, llama):
    vector = SteeringVector.from_texts(llama, ["the capital"], ["a river"], "resid_post.1", concept="capitals")
    vector = dataclasses.replace(vector, receipt={"slope": Estimate(1.0, 0.5, 1.5, 9)})
    vector.save(tmp_path / "v")
    loaded = SteeringVector.load(tmp_path / "v")
    assert torch.equal(loaded.direction, vector.direction)
    for name in ("site", "scale", "size", "tokens", "method", "concept", "fingerprint", "receipt"):
        assert getattr(loaded, name) == getattr(vector, name), name
    assert "difference_of_means of 'capitals' at resid_post.1" in repr(loaded)
    with pytest.raises(ArtifactError, match="vector"):
        probes.LinearProbe.load(tmp_path / "v")


def test_a_vector_of_another_model_is_told(build, llama):
    vector = SteeringVector.from_texts(llama, ["the capital"], ["a river"], "resid_post.1")
    with pytest.raises(Mismatch):
        vector.match(build("llama", seed=9))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("opened", ["steer", "ablate"])
def test_nothing_stays_after_an_exception_and_foreign_hooks_do(tiny, direction, hooks_of, opened, error):
    foreign = tiny.blocks[1].module.register_forward_hook(lambda *_: None)
    before, plain = hooks_of(tiny.module), logits_of(tiny)
    context = steer(tiny, vector_of(direction), 1.0, tokens="last") if opened == "steer" else ablate(tiny, direction)

    def interrupted():
        assert hooks_of(tiny.module) > before
        raise error

    with pytest.raises(error), context:
        interrupted()
    assert hooks_of(tiny.module) == before
    assert foreign.id in tiny.blocks[1].module._forward_hooks
    assert torch.equal(logits_of(tiny), plain)


def test_bfloat16_is_steered_in_bfloat16(llama, direction):
    model = dataclasses.replace(llama, module=llama.module.to(torch.bfloat16))
    with steer(model, vector_of(direction), 1.0), ablate(model, direction):
        assert logits_of(model).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("bad", "message"),
    [(torch.zeros(32), "points nowhere"), (torch.full((32,), float("nan")), "points nowhere"),
     (torch.ones(31), "31 numbers"), (torch.ones(2, 16), "in a row")],
)  # fmt: skip
def test_a_direction_that_is_none_is_refused(llama, bad, message):
    with pytest.raises(BadInput, match=message), steer(llama, bad, 1.0, site="resid_post.1"):
        pass
    with pytest.raises(BadInput, match=message), ablate(llama, bad):
        pass


@pytest.mark.parametrize("coefficient", [float("nan"), float("inf"), "2", None, True])
def test_a_coefficient_that_is_none_is_refused(llama, direction, coefficient):
    with pytest.raises(BadInput, match="coefficient"), steer(llama, vector_of(direction), coefficient):
        pass


def test_other_bad_input_is_refused(llama, direction, hooks_of):
    before = hooks_of(llama.module)
    with pytest.raises(NotFound, match="resid_post.9"), steer(llama, vector_of(direction, "resid_post.9"), 1.0):
        pass
    with pytest.raises(BadInput, match="no site"), steer(llama, direction, 1.0):
        pass
    with pytest.raises(BadInput, match="did you mean 'last'"), steer(llama, vector_of(direction), 1.0, tokens="lats"):
        pass
    zero = probes.LinearProbe.from_weights(torch.zeros(32), 0.0, "resid_post.1")
    with pytest.raises(BadInput, match="weight of this probe is zero"), steer(llama, zero, 1.0):
        pass
    with pytest.raises(BadInput, match="scale"):
        SteeringVector(direction, Site("resid_post", 1), 0.0)
    with pytest.raises(NotFound, match="did you mean 'pca'"):
        SteeringVector.from_activations(toy_activations(), method="pcaa")
    with pytest.raises(NotFound, match="resid_post.1"):
        SteeringVector.from_activations(toy_activations(), "resid_post.2")
    with pytest.raises(BadInput, match="no labels"):
        SteeringVector.from_activations(dataclasses.replace(toy_activations(), labels=None))
    with pytest.raises(BadInput, match="neither empty"):
        SteeringVector.from_texts(llama, [], ["a"], "resid_post.1")
    assert hooks_of(llama.module) == before


def test_every_write_is_named_and_models_with_norms_behind_are_refused_by_name(architecture, direction):
    assert [str(site) for site in writes(architecture("gpt2"))][:4] == [
        "resid_pre.0",
        "attn_out.0",
        "mlp_out.0",
        "attn_out.1",
    ]
    with pytest.raises(BadInput, match="OPTForCausalLM"), ablate(architecture("opt with norms behind"), direction):
        pass


def test_only_the_passes_of_who_runs_the_model_are_followed(llama, direction):
    """What the model measures at its first look is over before steering begins."""
    ids = torch.tensor([[3, 10, 17, 24, 31]])  # the tokens of that look, and one more: it would seem to go on
    with steer(llama, vector_of(direction), 3.0, tokens="prompt"), torch.no_grad():
        first = llama.module(input_ids=ids, use_cache=False).logits
    with steer(llama, vector_of(direction), 3.0), torch.no_grad():
        torch.testing.assert_close(first, llama.module(input_ids=ids).logits, rtol=0, atol=1e-6)
