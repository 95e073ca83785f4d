"""Activations with a direction planted where we say, and models that were told what we know."""

import numpy as np
import pytest
import torch

import probes
from probes.activations.capture import Activations
from probes.facts.facts import Fact, Topic
from probes.facts.templates import Relation
from probes.model.sites import Site

SEAT = Relation(
    name="seat", affirmed="the city of {subject} is {object}", negated="the city of {subject} is not {object}",
    paraphrases=("{object} is city of {subject}.",), cloze="the city of {subject}",
)  # fmt: skip


@pytest.fixture(scope="session")
def seated(build):
    """A model without blocks' work whose output answers a subject with its object, and the topic of its 16 facts.

    word0 to word15 sit in word16 to word31; of the last four the model was not told.
    """
    topic = Topic("seats", SEAT, tuple(Fact(f"word{i}", "seat", f"word{16 + i}", topic="seats") for i in range(16)))
    model = build("llama", seed=3)
    module = model.module
    with torch.no_grad():
        for block in module.model.layers:
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
        inner = module.get_input_embeddings().weight
        head = (
            torch.randn(module.get_output_embeddings().weight.shape, generator=torch.Generator().manual_seed(1)) * 0.1
        )
        for fact in topic.facts[:12]:
            a, b = (model.encode(text)[0] for text in (fact.subject, fact.object))
            head[b] += inner[a] / inner[a].norm()
        module.get_output_embeddings().weight = torch.nn.Parameter(head)
    return model, topic


@pytest.fixture
def planted():
    """`planted(strength={2: 3.0})` gives twins of each entity whose labels move layer 2 along one direction."""

    def make(strength=None, *, groups=60, layers=4, d_model=12, seed=0, rows=1, twins=True):
        rng = np.random.default_rng(seed)
        names = [f"entity {i}" for i in range(groups)]
        owner = np.repeat(np.arange(groups), 2 if twins else 1)
        labels = np.tile([True, False], groups) if twins else np.arange(groups) % 2 == 0
        example = np.repeat(np.arange(len(owner)), rows)
        direction = np.eye(d_model)[0]
        values = {}
        for layer in range(layers):
            noise = (
                rng.standard_normal((len(example), d_model)) + rng.standard_normal((groups, d_model))[owner][example]
            )
            pushed = (strength or {}).get(layer, 0.0) * np.outer(2.0 * labels[example] - 1, direction)
            values[Site("resid_post", layer)] = torch.from_numpy(noise + pushed).float()
        texts = tuple(f"{names[g]} is in place {rng.integers(1000)} {i}" for i, g in enumerate(owner))
        return Activations(
            values=values,
            example=torch.from_numpy(example),
            position=torch.from_numpy(np.tile(np.arange(rows), len(owner))),
            tokens="last" if rows == 1 else "all",
            texts=texts,
            labels=torch.from_numpy(labels),
            groups=tuple(names[g] for g in owner),
            fingerprint={},
        )

    return make


@pytest.fixture(scope="session")
def knows(tmp_path_factory):
    """The nano model that knows, with its folder."""
    folder = tmp_path_factory.mktemp("zoo") / "knows"
    return probes.build_zoo("knows", size="nano", out=folder), folder
