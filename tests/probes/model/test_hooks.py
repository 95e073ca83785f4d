"""Toy: in a decoder of three blocks, resid_post.0 is resid_pre.1, and resid_pre + attn_out + mlp_out = resid_post."""

from contextlib import ExitStack

import pytest
import torch

import probes
from probes import Site, edits, taps
from probes.model.hooks import outputs, passes, put_out_below, starting_at, unhooked_copy
from probes.model.sites import SITE_NAMES

TEXT = "the capital of France is Paris"


def read_all(model, pattern="*"):
    seen = {}
    with taps(model, pattern, lambda site, tensor: seen.__setitem__(str(site), tensor.clone())), torch.no_grad():
        model.module(**model.collate([model.encode(TEXT)]))
    return seen


def test_each_block_adds_its_two_sublayers_to_the_stream(tiny):
    seen = read_all(tiny)
    assert len(seen) == 3 * len(SITE_NAMES)
    for layer in range(3):
        pre, attention, middle, mlp, post = (seen[f"{name}.{layer}"] for name in SITE_NAMES)
        torch.testing.assert_close(pre + attention, middle)
        torch.testing.assert_close(middle + mlp, post)
    torch.testing.assert_close(seen["resid_post.0"], seen["resid_pre.1"], rtol=0, atol=0)


def test_residual_stream_equals_hugging_face_hidden_states(tiny):
    seen = read_all(tiny)
    with torch.no_grad():
        states = tiny.module(**tiny.collate([tiny.encode(TEXT)]), output_hidden_states=True).hidden_states
    for layer in range(3):
        torch.testing.assert_close(seen[f"resid_pre.{layer}"], states[layer], rtol=0, atol=0)
    assert not torch.allclose(seen["resid_post.2"], states[3]), (
        "Hugging Face's last state is after the final norm, ours before it"
    )


@pytest.mark.parametrize("name", SITE_NAMES)
def test_an_edit_of_any_site_reaches_the_stream_behind_it(tiny, name):
    plain = read_all(tiny)
    shift = torch.arange(32.0)
    with edits(tiny, {f"{name}.1": lambda tensor: tensor + shift}):
        edited = read_all(tiny, ["resid_post.0", "resid_mid.1", "resid_post.1"])
    assert torch.equal(edited["resid_post.0"], plain["resid_post.0"]), "nothing before the edit may change"
    if name in ("resid_pre", "attn_out", "resid_mid"):
        moved = edited["resid_mid.1"] - plain["resid_mid.1"]
        if name != "resid_pre":  # an edit of resid_pre changes what attention reads, too
            torch.testing.assert_close(moved, shift.expand_as(moved), rtol=1e-4, atol=1e-4)
    if name in ("mlp_out", "resid_post"):
        moved = edited["resid_post.1"] - plain["resid_post.1"]
        torch.testing.assert_close(moved, shift.expand_as(moved), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(edited["resid_post.1"], plain["resid_post.1"])


def test_adding_at_mlp_out_equals_adding_to_the_bias_of_the_mlp(build):
    model = build("gpt2")
    batch, shift = model.collate([model.encode(TEXT)]), torch.linspace(-1, 1, 32)
    with edits(model, {"mlp_out.1": lambda tensor: tensor + shift}), torch.no_grad():
        hooked = model.module(**batch).logits
    with torch.no_grad():
        model.module.transformer.h[1].mlp.c_proj.bias += shift
        torch.testing.assert_close(hooked, model.module(**batch).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_no_hook_stays_and_no_foreign_hook_goes_after_an_exception(tiny, hooks_of, error):
    foreign = tiny.blocks[1].module.register_forward_hook(lambda *_: None)
    before = hooks_of(tiny.module)

    def fail(site, tensor):
        raise error

    with pytest.raises(error), taps(tiny, "*", fail):
        read_all(tiny)
    assert hooks_of(tiny.module) == before
    assert foreign.id in tiny.blocks[1].module._forward_hooks


def test_attaching_is_all_or_nothing(tiny, hooks_of, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no more hooks")

    before = hooks_of(tiny.module)
    tiny.check(Site("resid_mid", 0))
    monkeypatch.setattr(tiny.blocks[2].attn_out.module, "register_forward_hook", refuse)
    with pytest.raises(RuntimeError, match="no more hooks"), taps(tiny, "*", lambda site, tensor: None):
        pass
    assert hooks_of(tiny.module) == before


def test_measuring_the_sums_leaves_nothing_behind_when_it_fails(tiny, hooks_of, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no more hooks")

    before = hooks_of(tiny.module)
    monkeypatch.setattr(tiny.blocks[2].attn_out.module, "register_forward_hook", refuse)
    with pytest.raises(RuntimeError, match="no more hooks"):
        tiny.check(Site("resid_mid", 0))
    assert hooks_of(tiny.module) == before


@pytest.mark.parametrize("tap_first", [True, False])
@pytest.mark.parametrize("seen", ["resid_pre.1", "resid_mid.1", "resid_post.1"])
def test_a_tap_sees_an_edit_at_its_site_whichever_was_opened_first(tiny, tap_first, seen):
    got = {}
    tap = taps(tiny, seen, lambda site, tensor: got.__setitem__("value", tensor.clone()))
    edit = edits(tiny, {"resid_pre.1": lambda tensor: tensor + torch.arange(32.0)})
    with ExitStack() as stack, torch.no_grad():
        for context in (tap, edit) if tap_first else (edit, tap):
            stack.enter_context(context)
        tiny.module(**tiny.collate([tiny.encode(TEXT)]))
    with edits(tiny, {"resid_pre.1": lambda tensor: tensor + torch.arange(32.0)}):
        torch.testing.assert_close(got["value"], read_all(tiny, seen)[seen])


def test_edits_of_one_call_are_made_in_forward_order_however_they_are_written(tiny):
    changes = {"resid_pre.1": lambda t: t + 1, "attn_out.1": lambda t: t * 2, "resid_mid.1": lambda t: t * 0.5}

    def logits(order):
        with edits(tiny, {site: changes[site] for site in order}), torch.no_grad():
            return tiny.module(**tiny.collate([tiny.encode(TEXT)])).logits

    assert torch.equal(logits(list(changes)), logits(list(reversed(changes))))


def test_a_model_that_is_not_finite_has_no_inner_sites(tiny):
    with torch.no_grad():
        for parameter in tiny.blocks[1].mlp_out.module.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(probes.BadInput, match="attn_out.1 is not defined"):
        tiny.check(Site("attn_out", 1))


def test_taps_change_no_bit_of_the_logits(tiny):
    batch = tiny.collate([tiny.encode(TEXT)])
    with torch.no_grad():
        bare = tiny.module(**batch).logits
        with taps(tiny, "*", lambda site, tensor: None):
            assert torch.equal(tiny.module(**batch).logits, bare)


def test_an_edit_that_returns_another_shape_is_refused(tiny):
    with (
        pytest.raises(probes.BadInput, match=r"resid_post.1 returned \(1, 6, 5\)"),
        edits(tiny, {"resid_post.1": lambda t: t[..., :5]}),
    ):
        read_all(tiny)


def test_an_edit_of_a_pattern_is_made_at_every_site_it_names(tiny):
    with edits(tiny, {"mlp_out.*": lambda tensor: tensor * 0}):
        silent = read_all(tiny, "mlp_out.*")
    assert len(silent) == 3
    assert not any(tensor.any() for tensor in silent.values())
    assert all(tensor.any() for tensor in read_all(tiny, "mlp_out.*").values())


def test_an_unknown_site_names_what_there_is(tiny):
    with pytest.raises(probes.NotFound, match="layers 0 to 2"), taps(tiny, "resid_post.3", print):
        pass
    with pytest.raises(probes.NotFound, match="did you mean 'resid_post'"), taps(tiny, "residpost.1", print):
        pass
    with pytest.raises(probes.NotFound, match="did you mean 'resid_post'"):
        Site("resid_pots", 1)


def test_passes_are_announced_with_their_arguments_and_ended_even_where_they_raise(tiny, hooks_of):
    before, heard = hooks_of(tiny.module), []
    tiny.check(Site("resid_post", 1))  # its first look runs passes of its own

    def fail(site, tensor):
        raise RuntimeError("no further")

    with passes(tiny, lambda arguments: heard.append(tuple(arguments["input_ids"].shape)), lambda: heard.append("end")):
        tiny.module(**tiny.collate([tiny.encode(TEXT)]))
        with pytest.raises(RuntimeError, match="no further"), taps(tiny, "resid_post.1", fail):
            tiny.module(**tiny.collate([tiny.encode("the river")]))
    assert heard == [(1, 6), "end", (1, 2), "end"]
    assert hooks_of(tiny.module) == before


def test_outputs_are_heard_of_the_modules_asked_for_alone(tiny, hooks_of):
    before, heard = hooks_of(tiny.module), []
    table = tiny.module.get_input_embeddings()
    with outputs([table], lambda module, output: heard.append((module, tuple(output.shape)))):
        tiny.module(**tiny.collate([tiny.encode(TEXT)]))
    assert heard == [(table, (1, 6, 32))]
    assert hooks_of(tiny.module) == before


@pytest.mark.parametrize("layer", [1, 2])
@torch.no_grad()
def test_a_pass_that_begins_at_a_layer_ends_as_the_whole_one_and_runs_nothing_below(tiny, hooks_of, layer):
    inputs, ran = tiny.inputs([TEXT]), []
    whole = tiny.module(**inputs).logits
    below = put_out_below(tiny, layer, inputs)
    inner = [block.module.get_submodule("mlp") for block in tiny.blocks]
    with starting_at(tiny, layer, below), outputs(inner, lambda module, _: ran.append(inner.index(module))):
        torch.testing.assert_close(tiny.module(**inputs).logits, whole)
    assert ran == list(range(layer, 3))
    assert hooks_of(tiny.module) == 0
    assert not any("forward" in vars(block.module) for block in tiny.blocks)
    other = put_out_below(tiny, layer, tiny.inputs([TEXT.replace("France", "Spain")]))
    with starting_at(tiny, layer, other):
        assert (tiny.module(**inputs).logits - whole).abs().max() > 1e-3


def test_a_forward_that_somebody_put_on_a_block_comes_back(llama):
    block = llama.blocks[0].module
    block.forward = kept = block.forward
    with pytest.raises(ZeroDivisionError), starting_at(llama, 2, torch.zeros(1, 1, 32)):
        raise ZeroDivisionError
    assert vars(block)["forward"] is kept
    assert "forward" not in vars(llama.blocks[1].module)


def test_a_copy_has_no_foreign_hooks_and_weights_of_its_own(tiny, hooks_of):
    before = hooks_of(tiny.module)
    handle = tiny.blocks[0].module.register_forward_hook(lambda *_: None)
    copied = unhooked_copy(tiny.module)
    assert (hooks_of(copied), hooks_of(tiny.module)) == (before, before + 1)
    assert copied.get_input_embeddings().weight is not tiny.module.get_input_embeddings().weight
    handle.remove()
