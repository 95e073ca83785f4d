"""On a TransformerLens bridge steering and ablating change what they change on the plain model."""

import pytest
import torch

from circuits.explain.patching import as_bridge
from probes import BadInput, SteeringVector, ablate, orthogonalise, steer
from probes.model.sites import Site

TEXT = "the capital of France is Paris"


def logits_of(model):
    runs = model.bridge if model.bridge is not None else model.module
    ids = torch.tensor([model.encode(TEXT)])
    with torch.no_grad():
        out = runs(ids)
    return getattr(out, "logits", out)


@pytest.mark.parametrize("tokens", ["all", "last", "prompt", [0, -1]])
def test_steering_and_ablating_a_bridge_equal_those_of_the_plain_model(tiny, direction, tokens):
    bridge = as_bridge(tiny)
    vector = SteeringVector(direction, Site("resid_post", 1), 2.0)
    with steer(tiny, vector, 1.0, tokens=tokens), steer(bridge, vector, 1.0, tokens=tokens):
        torch.testing.assert_close(logits_of(bridge), logits_of(tiny), rtol=0, atol=2e-4)
    with ablate(tiny, direction, tokens=tokens), ablate(bridge, direction, tokens=tokens):
        torch.testing.assert_close(logits_of(bridge), logits_of(tiny), rtol=0, atol=2e-4)


def test_a_bridge_is_not_orthogonalised_and_the_message_says_what_to_do(llama, direction):
    with pytest.raises(BadInput, match="load the checkpoint plainly"):
        orthogonalise(as_bridge(llama), direction)
