"""Toy: a matrix that writes (2, 3) becomes, without the first axis, one that writes (0, 3)."""

import pytest
import torch
from torch import nn

import probes
from probes import BadInput, ablate, orthogonalise
from probes.steering.orthogonal import _project

TEXT = "the capital of France is Paris"


def logits_of(model):
    with torch.no_grad():
        return model.module(**model.collate([model.encode(TEXT), model.encode("a river")], side="left")).logits


def test_the_toy_by_hand():
    layer = nn.Linear(1, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[2.0], [3.0]]))
        layer.bias.copy_(torch.tensor([5.0, 7.0]))
        _project(layer, torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert layer.weight.tolist() == [[0.0], [3.0]]
    assert layer.bias.tolist() == [0.0, 7.0]


@pytest.mark.parametrize("name", ["llama", "gpt2", "neox", "opt", "phi", "tied llama"])
def test_ablating_by_hook_equals_orthogonalised_weights(architecture, direction, hooks_of, name):
    model = architecture(name)
    hooks, plain = hooks_of(model.module), logits_of(model)
    with ablate(model, direction):
        hooked = logits_of(model)
    changed = orthogonalise(model, direction)
    torch.testing.assert_close(logits_of(changed), hooked, rtol=0, atol=1e-4)
    assert float((hooked - plain).abs().max()) > 0.05, "and it is not that nothing happened"
    assert torch.equal(logits_of(model), plain), "the model given stays as it is"
    assert hooks_of(changed.module) == hooks_of(model.module) == hooks


def test_the_vocabulary_matrix_keeps_what_it_reads(architecture, direction):
    for name in ("tied llama", "gpt2"):
        model = architecture(name)
        before = model.module.get_output_embeddings().weight.detach().clone()
        changed = orthogonalise(model, direction)
        assert torch.equal(changed.module.get_output_embeddings().weight, before)
        assert not torch.equal(changed.module.get_input_embeddings().weight, before)
        assert model.module.get_output_embeddings().weight is model.module.get_input_embeddings().weight


def test_a_changed_model_saved_and_loaded_is_the_changed_model(architecture, direction, tmp_path):
    changed = orthogonalise(architecture("tied llama"), direction)
    changed.module.save_pretrained(tmp_path / "m")
    changed.tokenizer.save_pretrained(tmp_path / "m")
    torch.testing.assert_close(logits_of(probes.load_model(tmp_path / "m", device="cpu")), logits_of(changed))


@pytest.mark.parametrize(
    ("name", "said"),
    [("gemma2", "Gemma2ForCausalLM"), ("mixtral", "MixtralForCausalLM"), ("opt with norms behind", "OPTForCausalLM"),
     ("bloom", "BloomForCausalLM")],
)  # fmt: skip
def test_architectures_whose_writes_are_no_linear_layer_are_refused_by_name(architecture, direction, name, said):
    model = architecture(name)
    plain = logits_of(model)
    with pytest.raises(BadInput, match=said):
        orthogonalise(model, direction)
    assert torch.equal(logits_of(model), plain)


def test_other_people_s_hooks_stay_where_they_are(llama, direction, hooks_of):
    handle = llama.blocks[0].module.register_forward_hook(lambda *_: None)
    changed = orthogonalise(llama, direction)
    assert hooks_of(llama.module) == hooks_of(changed.module) + 1
    handle.remove()


def test_bad_input_is_refused(llama, direction):
    with pytest.raises(BadInput, match="31 numbers"):
        orthogonalise(llama, direction[:31])
    with pytest.raises(BadInput, match="points nowhere"):
        orthogonalise(llama, torch.zeros(32))
