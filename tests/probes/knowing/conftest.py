"""A model that we fill with knowledge by hand: each subject's row of a table says how likely each object begins."""

import numpy as np
import pytest
import torch

from probes.facts.facts import Fact, Topic
from probes.facts.templates import Relation

SEAT = Relation(
    name="seat",
    affirmed="The seat of {subject} is {object}.",
    negated="The seat of {subject} is not {object}.",
    paraphrases=("{subject} sits in {object}.", "{object} seats {subject}."),
    cloze="The seat of {subject} is",
    noun="the seat of {subject}",
    inverse=("{object} is the seat of",),
)
LAND = Relation(
    name="land",
    affirmed="The land of {subject} is {object}.",
    negated="The land of {subject} is not {object}.",
    paraphrases=(),
    cloze="The land of {subject} is",
    noun="the land of {subject}",
)


@pytest.fixture
def seats():
    """40 facts with 40 objects, in words of their own."""
    return Topic("seats", SEAT, tuple(Fact(f"Aab{i:02}", "seat", f"Zyx{i:02}", topic="seats") for i in range(40)))


@pytest.fixture
def lands():
    """The land of each seat: 40 more facts, with 8 objects."""
    facts = tuple(Fact(f"Zyx{i:02}", "land", f"Qor{i % 8}", topic="lands") for i in range(40))
    return Topic("lands", LAND, facts)


class Table:
    """Answers by a table instead of a model, in the manner of `Beginnings`."""

    def __init__(self, known, seed=0, ignores=False):
        self.known, self.ignores, self.read_prompts = known, ignores, []
        self.heads = {}
        self._noise = torch.Generator().manual_seed(seed)
        self._seen = {}

    def read(self, prompts, **_):
        self.read_prompts += prompts

    def __call__(self, prompts, texts):
        return np.array([[self._one(prompt, text) for text in texts] for prompt in prompts])

    def _one(self, prompt, text):
        key = (text,) if self.ignores else (prompt, text)
        if key not in self._seen:
            self._seen[key] = float(torch.randn(1, generator=self._noise))
        linked = any(a in prompt and b == text or b in prompt and a == text for a, b in self.known)
        return self._seen[key] + (8.0 if linked and not self.ignores else 0.0)


@pytest.fixture
def table():
    """`table({("Aab00", "Zyx00")})` knows these links and has noise of one nat for the rest."""
    return Table


@pytest.fixture(scope="session")
def idle(build):
    """`idle()` gives a model whose blocks do nothing: hooks and weights of a test say what it answers."""

    def make(seed=3):
        """A model whose blocks do nothing: the stream is the embedding, all at right angles, and so is the output."""
        model = build("llama", seed=seed, d_model=64)
        with torch.no_grad():
            for block in model.module.model.layers:
                block.self_attn.o_proj.weight.zero_()
                block.mlp.down_proj.weight.zero_()
            rows = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(seed)))[0]
            model.module.get_input_embeddings().weight.copy_(rows)
            model.module.get_output_embeddings().weight = torch.nn.Parameter(20 * rows)
        return model

    return make
