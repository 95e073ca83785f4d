"""Toy: the prompts differ in "France" alone. What enters block 0 differs there alone, so putting the clean "France"
into block 0 of the corrupted run IS the clean run (effect 1), and putting anything else in there changes nothing
(effect 0). What leaves the last block at the last position is all that the logits are made of: effect 1 again.
"""

import pytest
import torch

import probes
from circuits.explain.patching import LEAST_SEPARATION, Patching, as_bridge, patch
from circuits.tasks import Pair
from probes.model.sites import SITE_NAMES

PAIR = Pair("the capital of France is", "the capital of Spain is", "Paris", "Madrid")
FAR = Pair("Spain the capital of France is not the", "Spain the capital of Italy is in the", "Madrid", "Rome")


def blocks_of(module):
    """The Hugging Face blocks by their own names."""
    return module.model.layers if hasattr(module, "model") else module.transformer.h


def part_of(block, site):
    """The Hugging Face module that writes what a site names, by its own name."""
    return {"attn_out": getattr(block, "self_attn", None) or getattr(block, "attn", None), "mlp_out": block.mlp}.get(
        site, block
    )


def brute_force(model, pair, site, layers=None, positions=None):
    """Patch one activation at a time with plain torch hooks: no code of ours but the token ids."""
    module, ids = model.module, pair.tokens(model)

    def run(rows, target=None, change=None):
        """Return the logit difference, with `change` applied to what enters the target or leaves it."""

        def before(_, args, kwargs):
            new = change(args[0] if args else kwargs["hidden_states"])
            return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

        def after(_, args, output):
            return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

        if target is not None:
            pre = site == "resid_pre"
            handle = (
                target.register_forward_pre_hook(before, with_kwargs=True)
                if pre
                else target.register_forward_hook(after)
            )
        with torch.no_grad():
            logits = module(input_ids=torch.tensor([rows])).logits[0, -1]
        if target is not None:
            handle.remove()
        return float(logits[ids.answer] - logits[ids.wrong])

    corrupted, effect = run(ids.corrupted), []
    for layer in layers or range(model.n_layers):
        target, kept = part_of(blocks_of(module)[layer], site), {}

        def keep(tensor, kept=kept):
            kept["clean"] = tensor.clone()
            return tensor

        clean = run(ids.clean, target, keep)
        for position in positions or range(len(ids.clean)):

            def put(tensor, kept=kept, position=position):
                new = tensor.clone()
                new[:, position] = kept["clean"][:, position]
                return new

            effect.append((run(ids.corrupted, target, put) - corrupted) / (clean - corrupted))
    return torch.tensor(effect).view(-1, len(positions or ids.clean))


def test_what_enters_block_0_is_the_clean_run_where_the_prompts_differ_and_nothing_elsewhere(tiny):
    found = patch(tiny, PAIR)
    torch.testing.assert_close(found.effect[0], torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0]), rtol=0, atol=1e-5)
    assert found.effect.shape == (3, 5)
    assert not torch.allclose(found.effect[2], found.effect[0], atol=0.05), "deeper down the table must differ"


def test_what_leaves_the_last_block_is_the_clean_run_at_the_last_position_alone(tiny):
    found = patch(tiny, PAIR, "resid_post")
    torch.testing.assert_close(found.effect[-1], torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]), rtol=0, atol=1e-5)


def test_resid_post_of_a_block_is_resid_pre_of_the_next(tiny):
    torch.testing.assert_close(
        patch(tiny, PAIR, "resid_post").effect[:-1], patch(tiny, PAIR).effect[1:], rtol=0, atol=1e-5
    )


def test_all_differing_positions_at_once_are_the_clean_run(tiny):
    """One at a time none is enough here; together they are: the sanity half of the test above."""
    ids = FAR.tokens(tiny)
    assert ids.differing == (4, 6)
    found, kept = patch(tiny, FAR), {}
    with (
        probes.taps(tiny, "resid_pre.0", lambda site, tensor: kept.__setitem__("clean", tensor.clone())),
        torch.no_grad(),
    ):
        clean = tiny.module(input_ids=torch.tensor([ids.clean])).logits[0, -1]
    with probes.edits(tiny, {"resid_pre.0": lambda tensor: kept["clean"]}), torch.no_grad():
        together = tiny.module(input_ids=torch.tensor([ids.corrupted])).logits[0, -1]
    torch.testing.assert_close(together, clean)
    assert (found.effect[0, [4, 6]] - 1).abs().min() > 0.01
    assert found.clean == pytest.approx(float(clean[ids.answer] - clean[ids.wrong]), abs=1e-5)


@pytest.mark.parametrize("pair", [PAIR, FAR], ids=["one subject", "two differences"])
@pytest.mark.parametrize("site", ["resid_pre", "attn_out", "mlp_out", "resid_post"])
def test_equals_brute_force_with_plain_torch_hooks(tiny, site, pair):
    found = patch(tiny, pair, site)
    torch.testing.assert_close(found.effect, brute_force(tiny, pair, site), rtol=1e-4, atol=1e-4)
    assert found.effect.abs().max() > 0.1


def test_resid_mid_equals_attn_out_and_resid_pre_patched_together_by_hand(tiny):
    ids, kept = PAIR.tokens(tiny), {}

    def hooks(change):
        block = blocks_of(tiny.module)[1]
        attention = part_of(block, "attn_out")
        stream = {}
        yield block.register_forward_pre_hook(
            lambda _, args, kw: stream.update(x=args[0] if args else kw["hidden_states"]), with_kwargs=True
        )
        yield attention.register_forward_hook(lambda _, args, output: change(stream["x"], output))

    def keep(stream, output):
        kept["clean"] = stream + output[0]

    def put(stream, output):
        new = output[0].clone()
        new[:, 4] = kept["clean"][:, 4] - stream[:, 4]
        return (new, *output[1:])

    def run(rows, change):
        handles = list(hooks(change))
        with torch.no_grad():
            logits = tiny.module(input_ids=torch.tensor([rows])).logits[0, -1]
        for handle in handles:
            handle.remove()
        return float(logits[ids.answer] - logits[ids.wrong])

    clean, corrupted = run(ids.clean, keep), run(ids.corrupted, lambda *_: None)
    expected = (run(ids.corrupted, put) - corrupted) / (clean - corrupted)
    assert float(patch(tiny, PAIR, "resid_mid").effect[1, 4]) == pytest.approx(expected, abs=1e-4)
    assert abs(expected) > 1e-3


@pytest.mark.parametrize("site", SITE_NAMES)
def test_a_bridge_gives_the_same_table_as_the_plain_model(tiny, site):
    plain, bridged = patch(tiny, FAR, site), patch(as_bridge(tiny), FAR, site)
    torch.testing.assert_close(bridged.effect, plain.effect, rtol=1e-4, atol=1e-4)
    assert (bridged.tokens, bridged.corrupted_tokens) == (plain.tokens, plain.corrupted_tokens)


def test_the_size_of_a_batch_does_not_matter(tiny):
    torch.testing.assert_close(patch(tiny, FAR, batch_size=1).effect, patch(tiny, FAR).effect, rtol=1e-4, atol=1e-5)


def test_swapping_clean_and_corrupted_swaps_their_logit_differences(tiny):
    swapped = patch(tiny, Pair(PAIR.corrupted, PAIR.clean, PAIR.answer, PAIR.wrong))
    found = patch(tiny, PAIR)
    assert (swapped.clean, swapped.corrupted) == pytest.approx((found.corrupted, found.clean), abs=1e-5)
    assert float(swapped.effect[0, 3]) == pytest.approx(1, abs=1e-5)


def test_the_result_says_what_it_is(tiny):
    found = patch(tiny, PAIR)
    assert found.tokens == ("the", "capital", "of", "France", "is")
    assert found.corrupted_tokens == ("the", "capital", "of", "Spain", "is")
    assert found.pair is PAIR
    assert repr(found).startswith("Patching(resid_pre, 3 layers x 5 positions, LD clean ")


@pytest.mark.parametrize("bridged", [False, True], ids=["plain", "bridge"])
def test_no_hook_stays_and_no_foreign_hook_goes(tiny, hooks_of, bridged):
    model = as_bridge(tiny) if bridged else tiny
    model.blocks[1].module.register_forward_hook(lambda *_: None)
    first = patch(model, PAIR)  # in the first run transformers hangs hooks of its own on a bridge: those stay
    before = hooks_of(model.module)
    assert torch.equal(patch(model, PAIR).effect, first.effect)
    assert hooks_of(model.module) == before
    with torch.no_grad():
        model.module.get_output_embeddings().weight[5] = float("nan")
    with pytest.raises(probes.BadInput, match="not finite"):
        patch(model, PAIR)
    assert hooks_of(model.module) == before


def test_a_hook_that_does_not_fire_is_an_error_and_no_table_of_zeros(tiny, monkeypatch):
    bare = type(tiny.blocks[0].module).forward
    tiny.check(probes.Site("resid_pre", 0))
    monkeypatch.setattr(
        type(tiny.blocks[0].module), "__call__", bare
    )  # `block.forward(...)` called directly skips every hook
    with pytest.raises(probes.CouldNotRun, match="the hook at resid_pre.0 did not fire"):
        patch(tiny, PAIR)


def test_a_model_that_does_not_tell_the_prompts_apart_is_refused(tiny):
    with torch.no_grad():
        tiny.module.get_input_embeddings().weight[tiny.encode("Spain")] = tiny.module.get_input_embeddings().weight[
            tiny.encode("France")
        ]
    with pytest.raises(probes.BadInput, match=r"does not tell the prompts apart: logit\('Paris'\) - logit\('Madrid'\)"):
        patch(tiny, PAIR)
    assert LEAST_SEPARATION == 0.1


def test_an_unknown_hook_point_is_refused(tiny):
    with pytest.raises(probes.NotFound, match="did you mean 'resid_pre'"):
        patch(tiny, PAIR, "resid_per")
    with pytest.raises(probes.NotFound, match="'resid_pre.0' is no hook point"):
        patch(tiny, PAIR, "resid_pre.0")
    with pytest.raises(probes.BadInput, match="batch_size=0"):
        patch(tiny, PAIR, batch_size=0)


def test_a_site_that_the_architecture_lacks_is_refused(build, tokenizer):
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, use_parallel_residual=True, initializer_range=0.2,
    )  # fmt: skip
    model = probes.load_model(GPTNeoXForCausalLM(config), tokenizer=tokenizer)
    assert patch(model, PAIR).effect.shape == (2, 5)
    with pytest.raises(probes.BadInput, match="side by side"):
        patch(model, PAIR, "resid_mid")


def table(rows, site="resid_pre", tokens=("the", " France", " is")):
    return Patching(torch.tensor(rows), tokens, ("the", " Spain", " is"), 2.0, -1.0, site, PAIR)


def test_the_sentence_names_where_the_effect_is_largest_and_until_which_layer():
    """Two layers on the subject, two on the last token."""
    found = table([[0, 1.0, 0], [0, 0.9, 0.1], [0, 0.4, 0.6], [0, 0.0, 1.0]])
    assert found.holders == ((1, 1), (2, 3))
    assert found.sentence == "What tells Paris from Madrid sits on ‘France’ until layer 1, then at the last token"
    assert (
        table([[0, 0, 1.0], [0, 0, 1.0]]).sentence
        == "What tells Paris from Madrid sits at the last token in every layer"
    )
    twice = table([[1.0, 0, 0], [0, 0, 1.0]], tokens=(" the", " the", " is"))
    assert twice.sentence == "What tells Paris from Madrid sits on ‘the’ (1 of 2) until layer 0, then at the last token"


def test_there_is_no_sentence_where_the_table_has_no_such_story():
    assert table([[0, 1.0, 0], [0, 0, 1.0]], site="mlp_out").sentence == "", "a sublayer holds nothing, it adds"
    assert table([[0, 0.3, 0.1], [0, 0.1, 0.4]]).sentence == "", "nothing brings back half"
    assert table([[0, 0.9, 0.8], [0, 0.1, 0.4]]).sentence == "", "nor does the last token while it holds the most"
    assert table([[0, 1.0, 0], [0, 0, 1.0], [0, 1.0, 0], [0, 0, 1.0]]).sentence == "", "it moves to and fro"


def test_a_bridge_is_made_of_a_copy_and_leaves_the_model_as_it_was(tiny, hooks_of):
    calls = []
    tiny.blocks[0].module.register_forward_hook(lambda *_: calls.append(1))
    names = {name: type(part).__name__ for name, part in tiny.module.named_modules()}
    before, implementation = hooks_of(tiny.module), tiny.module.config._attn_implementation
    bridged = as_bridge(tiny)
    patch(bridged, PAIR)
    assert calls == [], "hooks of others on the model must not be called for the copy"
    assert {name: type(part).__name__ for name, part in tiny.module.named_modules()} == names
    assert (hooks_of(tiny.module), tiny.module.config._attn_implementation) == (before, implementation)
    assert bridged.tokenizer is tiny.tokenizer
    assert tiny.tokenizer.bos_token is None, "TransformerLens gives its own copy one"
    assert bridged.bridge.tokenizer.bos_token == "<eos>"
    with torch.no_grad():
        bridged.module.get_output_embeddings().weight.zero_()
    assert tiny.module.get_output_embeddings().weight.abs().sum() > 0, "no weight is shared"
    assert as_bridge(bridged) is bridged
    assert (bridged.n_layers, bridged.d_model, bridged.dtype, bridged.device) == (3, 32, tiny.dtype, tiny.device)


def test_hidden_states_can_still_be_had_from_a_copy_of_a_model_that_gave_them_before(tiny):
    """At the first such call transformers hangs hooks on a model, and marks it: a copy needs both, or neither."""
    ids = torch.tensor([tiny.encode(PAIR.clean)])
    with torch.no_grad():
        states = tiny.module(input_ids=ids, output_hidden_states=True).hidden_states
        copied = as_bridge(tiny).module(input_ids=ids, output_hidden_states=True).hidden_states
    assert len(copied) == len(states) == 4


def test_an_architecture_that_transformerlens_does_not_know_is_one_clear_error(build):
    model = build()
    model.module.config.architectures, model.module.config.model_type = ["NobodyKnowsForCausalLM"], "nobody-knows"
    with pytest.raises(
        probes.CouldNotRun, match="TransformerLens cannot take a LlamaForCausalLM: .*; patch the plain model"
    ):
        as_bridge(model)


@pytest.mark.embedded
def test_on_the_embedded_model_the_bridge_equals_brute_force_and_the_capital_moves(embedded_model):
    """SmolLM2-135M carries the country on its own token and reads it at the last one in block 23."""
    pair = Pair("The capital of France is", "The capital of Spain is", "Paris", "Madrid")
    bridged = as_bridge(embedded_model)
    assert bridged.encode(pair.clean) == embedded_model.encode(pair.clean), (
        "a bridge's own tokenizer would put a token in front"
    )
    found = patch(bridged, pair)
    layers, positions = [12, 23, 24], [3, 4]
    by_hand = brute_force(embedded_model, pair, "resid_pre", layers, positions)
    torch.testing.assert_close(found.effect[layers][:, positions], by_hand, rtol=1e-4, atol=1e-4)
    assert found.clean > 5 > -2 > found.corrupted
    assert found.sentence == "What tells Paris from Madrid sits on ‘France’ until layer 23, then at the last token"
    assert not found.effect[:, :3].any()
