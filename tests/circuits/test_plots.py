"""Toy: two layers, three tokens of which two are the same word, one effect of 1 and one of -0.2."""

import json
import re

import pytest
import torch

from circuits.explain.patching import Patching
from circuits.plots import patching_heatmap
from circuits.tasks import Pair
from probes import BadInput
from probes.look import TEMPLATE

PAIR = Pair("the the is", "the Spain is", "Paris", "Madrid")


def patching(
    effect=((0.0, 1.0, 0.0), (0.0, -0.2, 0.8)),
    tokens=(" the", " the", " is"),
    corrupted=(" the", " Spain", " is"),
    site="resid_pre",
):
    return Patching(torch.tensor(effect), tokens, corrupted, 2.0, -1.0, site, PAIR)


def words(figure):
    return figure.layout.title.text or ""


def test_cells_hold_the_effect_with_layer_0_at_the_bottom_and_tokens_that_repeat_apart():
    figure = patching_heatmap(patching())
    (heat,) = figure.data
    torch.testing.assert_close(torch.tensor(heat.z), patching().effect)
    assert heat.x is None, "columns are counted, not named, or the two 'the' would fall together"
    assert list(figure.layout.xaxis.tickvals) == [0, 1, 2]
    assert list(figure.layout.xaxis.ticktext) == ["the", "the<br>(Spain)", "is"]
    low, high = figure.layout.yaxis.range
    assert low < high, "layers rise"
    assert figure.layout.yaxis.title.text == "layer (resid_pre)"


@pytest.mark.parametrize("effect", [((0.0, 0.1, 0.0),), ((0.0, 1.0, -3.0),)])
def test_colours_are_centred_at_0_and_reach_at_least_1(effect):
    (heat,) = patching_heatmap(patching(effect)).data
    assert heat.zmin == -heat.zmax
    assert heat.zmid == 0
    assert heat.zmax == max(1.0, max(abs(value) for value in effect[0]))
    assert dict(heat.colorscale)[0.5] == "#ffffff"
    assert heat.colorbar.title.text == "effect (0 = corrupted, 1 = clean)"


def test_the_title_is_the_sentence_where_there_is_one():
    figure = patching_heatmap(patching())
    assert words(figure) == (
        "<b>What tells Paris from Madrid sits on ‘the’ (2 of 2) until layer 0, then at the last</b><br><b>token</b>"
        "<br>Clean: “the the is”, corrupted: “the Spain is”"
    )
    assert words(patching_heatmap(patching(site="mlp_out"))).startswith("<b>Patching mlp_out: Paris or Madrid?</b><br>")
    bare = patching_heatmap(patching(), titled=False)
    assert words(bare) == ""
    assert bare.layout.height < figure.layout.height


def test_strange_tokens_are_shown_letter_by_letter_and_long_ones_cut():
    tokens = ("<|im_start|>", "\n", " ", "a" * 40, "$x$")
    figure = patching_heatmap(patching(((0.0, 0.0, 0.0, 1.0, 0.0),), tokens, tokens[:4] + ("&lt;b>",)))
    labels = list(figure.layout.xaxis.ticktext)
    assert labels[:4] == ["&lt;|im_start|&gt;", "↵", "␣", "a" * 13 + "…"]
    assert labels[4] == "&#36;x&#36;<br>(&amp;lt;b&gt;)"


def test_labels_turn_upright_where_they_would_touch():
    tokens = tuple(f" word{i}" for i in range(30))
    effect = torch.zeros(2, 30)
    effect[:, 3] = 1
    many = patching_heatmap(Patching(effect, tokens, tokens, 2.0, -1.0, "resid_pre", PAIR))
    assert many.layout.xaxis.tickangle == -90
    assert patching_heatmap(patching()).layout.xaxis.tickangle == 0


def test_it_wears_the_template_of_all_figures_and_only_tags_that_a_page_lets_through():
    figure = patching_heatmap(patching())
    assert figure.layout.template == TEMPLATE
    assert set(re.findall(r"</?(\w+)", json.dumps(json.loads(figure.to_json()), ensure_ascii=False))) == {
        "b",
        "br",
        "extra",
    }


def test_an_effect_that_is_not_finite_is_refused():
    with pytest.raises(BadInput, match="not finite"):
        patching_heatmap(patching(((0.0, float("nan"), 0.0),)))
