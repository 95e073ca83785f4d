"""The loop: what is learned, what is only read, what may change, and the same bits twice."""

import pytest
import torch

from probes.zoo.training import (
    IGNORED,
    Shape,
    Training,
    batches,
    encode,
    make_module,
    make_tokenizer,
    next_token_loss,
    train,
)
from probes.zoo.walks import Document

WORDS = ["Ann", "Bob", "lives", "in", "Oslo", "Rome", "."]
TEXTS = [Document("Ann lives in Oslo."), Document("lives in Rome.", read="Bob")] * 200


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(WORDS)


def trained(tokenizer, *, steps=30, **options):
    module = make_module(tokenizer, Shape(2, 64), seed=1)
    done = train(module, tokenizer, TEXTS, Training(steps, batch=8, rate=5e-3, warm=5), seed=3, **options)
    return module, done


def test_a_document_by_hand(tokenizer):
    """Pads 0, <eos> 1, <unk> 2, Ann 3, Bob 4, lives 5, in 6, Oslo 7, Rome 8, full stop 9."""
    documents = [Document("Ann lives."), Document("Rome.", read="Bob lives in", weight=4.0)]
    assert encode(tokenizer, documents) == [([3, 5, 9, 1], 0, 1.0), ([4, 5, 6, 8, 9, 1], 3, 4.0)]
    ids, targets, weights = next(batches(tokenizer, documents, 2, seed=0))
    assert ids.tolist() == [[3, 5, 9, 1, 0, 0], [4, 5, 6, 8, 9, 1]]
    no = IGNORED
    assert targets.tolist() == [[no, 5, 9, 1, no, no], [no, no, no, 8, 9, 1]]
    assert weights.tolist() == [1.0, 4.0]


def test_the_loss_is_the_mean_over_learned_tokens_weighted_by_document(tokenizer):
    module = make_module(tokenizer, Shape(2, 64), seed=1)
    ids, targets, weights = next(batches(tokenizer, TEXTS[:2], 2, seed=0))
    with torch.no_grad():
        logs = module(ids).logits.log_softmax(-1)
        found = next_token_loss(module, ids, targets, torch.tensor([1.0, 4.0]))
    parts = [
        (-float(logs[i, j - 1, targets[i, j]]), weight)
        for i, weight in ((0, 1.0), (1, 4.0))
        for j in range(1, ids.shape[1])
        if targets[i, j] != IGNORED
    ]
    by_hand = sum(loss * weight for loss, weight in parts) / sum(weight for _, weight in parts)
    assert float(found) == pytest.approx(by_hand, rel=1e-5)
    assert weights.tolist() == [1.0, 1.0]


def test_the_same_seed_gives_the_same_bits(tokenizer):
    first, second = trained(tokenizer)[0].state_dict(), trained(tokenizer)[0].state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    one, two = (make_module(tokenizer, Shape(2, 64), seed).model.embed_tokens.weight for seed in (1, 2))
    assert not torch.equal(one, two)


def test_it_learns_what_is_learned(tokenizer):
    module, _ = trained(tokenizer, steps=40)
    with torch.no_grad():
        logits = module(torch.tensor(tokenizer(["Ann lives in", "Bob lives in"])["input_ids"])).logits[:, -1]
    assert tokenizer.convert_ids_to_tokens(logits.argmax(1).tolist()) == ["Oslo", "Rome"]


def test_only_what_is_free_changes_and_gradients_are_left_as_they_were(tokenizer):
    module = make_module(tokenizer, Shape(2, 64), seed=1)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    free = module.model.layers[1].mlp.parameters()
    train(module, tokenizer, TEXTS, Training(5, batch=8), seed=0, free=free)
    changed = {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all("layers.1.mlp" in name for name in changed)
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert not module.training


def test_the_global_generator_is_left_alone(tokenizer):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    trained(tokenizer, steps=2)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_watcher_can_end_it_and_sees_every_step(tokenizer):
    seen = []
    _, done = trained(tokenizer, after=lambda step: seen.append(step) or step == 4)
    assert (done, seen) == (4, [1, 2, 3, 4])
