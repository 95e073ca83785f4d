"""Figures show the numbers they were given, name what they compare with, and show foreign text letter by letter."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from probes import plots
from probes.activations.capture import Activations
from probes.errors import BadInput
from probes.judging.sweep import Row, sweep
from probes.judging.transfer import Cell, Transfer
from probes.look import ACCENT, GREY, INK
from probes.model.sites import Site
from probes.plots.frame import LABEL_GAP
from probes.reading.metrics import Estimate, proportion
from probes.reading.probe import LinearProbe

HOSTILE = "<a href='http://127.0.0.1'>x</a>"


@dataclass(frozen=True, eq=False)
class Swept:
    """A sweep by hand."""

    best: LinearProbe
    lines: dict

    def by_layer(self):
        return self.lines


def estimate(value: float, half: float = 0.02) -> Estimate:
    return Estimate(value, value - half, value + half, 100)


def line(name: str, *values: float, site: str = "resid_post") -> tuple[Row, ...]:
    return tuple(Row(Site(site, i), name, estimate(v), estimate(v)) for i, v in enumerate(values))


def swept(layer: int = 1, controls=None, **lines) -> Swept:
    site = Site("resid_post", layer)
    return Swept(LinearProbe(torch.ones(2), 0.0, site, method="logistic", controls=controls or {}), lines)


def texts(figure) -> list[str]:
    return [annotation.text for annotation in figure.layout.annotations]


def markers(figure, symbol: str) -> list[float]:
    return [x for trace in figure.data if trace.type == "scatter" and trace.marker.symbol == symbol for x in trace.x]


def test_auroc_by_layer_draws_each_line_with_its_band_and_marks_the_chosen_layer():
    figure = plots.auroc_by_layer(swept(lda=line("lda", 0.6, 0.7, 0.65), logistic=line("logistic", 0.6, 0.9, 0.8)))
    bands = [trace for trace in figure.data if trace.fill == "toself"]
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert [list(trace.y) for trace in lines] == [[0.6, 0.7, 0.65], [0.6, 0.9, 0.8]]  # the chosen one lies on top
    assert [trace.line.color for trace in lines] == [GREY, INK]
    assert list(bands[1].y) == pytest.approx([0.62, 0.92, 0.82, 0.78, 0.88, 0.58])
    dot = figure.data[-1]
    assert (dot.x, dot.y, dot.marker.color) == ((1,), (0.9,), ACCENT)
    assert "<b>chosen: layer 1, .90 [.88, .92]</b>" in texts(figure)


def test_controls_are_drawn_at_their_value_and_labelled_there():
    controls = {"shuffled_95": estimate(0.57), "random_95": estimate(0.75), "bag_of_words": estimate(0.62)}
    controls["log_probability"] = estimate(0.79)
    figure = plots.auroc_by_layer(swept(controls=controls, logistic=line("logistic", 0.6, 0.9)))
    assert sorted(shape.y0 for shape in figure.layout.shapes) == [0.57, 0.62, 0.75, 0.79]
    for words in ("shuffled labels, 95th pct. .57", "random directions, 95th pct. .75", "bag of words .62"):
        assert words in texts(figure)
    assert not figure.layout.showlegend


def test_labels_at_the_right_edge_never_overlap_and_stay_in_order():
    controls = {"shuffled_95": estimate(0.6), "random_95": estimate(0.601), "bag_of_words": estimate(0.6)}
    figure = plots.auroc_by_layer(swept(controls=controls, logistic=line("logistic", 0.6, 0.6)))
    low, high = figure.layout.yaxis.range
    pixels = figure.layout.height - figure.layout.margin.t - figure.layout.margin.b
    labels = sorted((a for a in figure.layout.annotations if a.showarrow), key=lambda a: a.y)
    places = [(a.y - low) / (high - low) * pixels - a.ay for a in labels]
    assert len(places) == 4
    assert np.diff(places).min() >= LABEL_GAP - 1e-6
    assert abs(np.mean([a.ay for a in labels])) < 1e-6  # pushed apart evenly, no further than needed


def test_a_real_sweep_is_drawn_beside_its_controls():
    rng = np.random.default_rng(0)
    labels = torch.arange(48) % 2 == 0
    sites = {Site("resid_post", i): torch.tensor(rng.normal(size=(48, 3)), dtype=torch.float32) for i in range(2)}
    sites[Site("resid_post", 1)][:, 0] += 6 * labels
    groups = tuple(f"entity {i // 2}" for i in range(48))
    acts = Activations(
        values=sites, example=torch.arange(48), position=torch.zeros(48, dtype=torch.long), tokens="last",
        texts=tuple(f"text {i}" for i in range(48)), labels=labels, groups=groups, fingerprint={},
    )  # fmt: skip
    figure = plots.auroc_by_layer(sweep(acts, seed=0))
    assert any("chosen: layer 1, 1.00" in text for text in texts(figure))
    assert sum("95th pct." in text for text in texts(figure)) == 3


def test_several_hook_points_are_told_apart():
    lines = {
        "attn_out logistic": line("logistic", 0.6, 0.7, site="attn_out"),
        "resid_post logistic": line("logistic", 0.6, 0.9),
    }
    figure = plots.auroc_by_layer(swept(**lines))
    assert {"attn_out logistic", "resid_post logistic"} <= set(texts(figure))
    assert figure.layout.xaxis.title.text == "layer"


def test_many_lines_keep_only_the_band_of_the_chosen_one():
    lines = {name: line(name, 0.6, 0.7) for name in ("logistic", "b", "c", "d")}
    figure = plots.auroc_by_layer(swept(**lines))
    assert sum(trace.fill == "toself" for trace in figure.data) == 1


@pytest.mark.parametrize(("layers", "step"), [(1, 1), (12, 2), (30, 5), (80, 10)])
def test_layers_are_counted_in_whole_steps(layers, step):
    assert plots.auroc_by_layer(swept(0, logistic=line("logistic", *[0.6] * layers))).layout.xaxis.dtick == step


def test_an_auroc_below_one_half_is_not_cut_off():
    figure = plots.auroc_by_layer(swept(logistic=line("logistic", 0.07, 0.9)))
    assert figure.layout.yaxis.range[0] <= 0.05


def test_an_empty_sweep_is_refused():
    with pytest.raises(BadInput, match="the sweep has no rows"):
        plots.auroc_by_layer(swept(logistic=()))


def test_scores_by_hand_two_of_three_uses_alarm_and_one_of_two_benign():
    """Threshold 2: uses at 1, 3, 4 and benign at 0, 5. A score right at the threshold would be no alarm."""
    figure = plots.score_distributions({"use": [1.0, 3.0, 4.0], "same_subject": [0.0, 5.0]}, 2.0)
    assert markers(figure, "circle-open") == [1.0]  # missed
    assert markers(figure, "x") == [5.0]  # false alarm
    assert {"<b>2 of 3</b><br>alarm", "<b>1 of 2</b><br>alarm", "<b>alarm above 2</b> →"} == set(texts(figure))
    assert figure.layout.yaxis.ticktext == ("same subject", "use")  # drawn upwards, so the first kind is on top
    assert figure.layout.shapes[0].x0 == 2.0


def test_a_score_right_at_the_threshold_is_no_alarm():
    assert "<b>0 of 1</b><br>alarm" in texts(plots.score_distributions({"use": [2.0]}, 2.0))


def test_a_score_that_is_not_a_number_counts_as_an_alarm():
    figure = plots.score_distributions({"use": [3.0], "ordinary": [0.0, float("nan")]}, 2.0)
    assert "<b>1 of 2</b><br>alarm (1 invalid)" in texts(figure)


def test_points_of_a_row_stay_in_their_row():
    figure = plots.score_distributions({"use": [1.0] * 200, "ordinary": [1.0] * 200}, 2.0)
    rows = [trace.y for trace in figure.data if trace.type == "scatter" and trace.y]
    assert len(rows) == 2
    assert all(max(row) - min(row) < 0.45 for row in rows)


@pytest.mark.parametrize(("maxima", "threshold"), [({}, 1.0), ({"use": []}, 1.0), ({"use": [1.0]}, float("nan"))])
def test_scores_that_say_nothing_are_refused(maxima, threshold):
    with pytest.raises(BadInput, match="need a finite threshold and at least one response of every kind"):
        plots.score_distributions(maxima, threshold)


def test_recall_by_draws_the_interval_the_dot_and_the_figures_of_each_row():
    figure = plots.recall_by(
        {"use": proportion(37, 40), "ordinary": proportion(0, 40)}, benign=("ordinary",), limit=0.05
    )
    dots = {trace.y[0]: (trace.x[0], trace.marker.color) for trace in figure.data if trace.mode == "markers"}
    assert dots == {1: (0.925, ACCENT), 0: (0.0, GREY)}
    spans = [tuple(trace.x) for trace in figure.data if trace.mode == "lines"]
    assert spans[1] == pytest.approx((0.796, 0.984), abs=1e-3)
    assert "<b>92.5 %</b> [79.6, 98.4] of 40" in texts(figure)
    assert "promised: at most 5 %" in texts(figure)


def test_long_question_forms_are_broken_into_lines_and_keep_their_blanks():
    form = "Fill in the blank, please, and do mind the spelling of it: the capital of {subject} is ____."
    label = plots.recall_by({form: proportion(1, 2)}).layout.yaxis.ticktext[0]
    assert label.replace("<br>", " ").startswith("Fill in the blank, please, and do mind the spelling")
    assert 1 <= label.count("<br>") <= 3


def test_recall_of_nothing_is_refused():
    with pytest.raises(BadInput, match="no share to draw"):
        plots.recall_by({})


@pytest.mark.parametrize(
    "figure",
    [
        plots.auroc_by_layer(swept(**{HOSTILE: line(HOSTILE, 0.6, 0.9)})),
        plots.score_distributions({HOSTILE: [1.0], "use": [2.0]}, 1.5, label=HOSTILE),
        plots.recall_by({HOSTILE: proportion(1, 2)}, measure=HOSTILE),
    ],
    ids=["auroc_by_layer", "score_distributions", "recall_by"],
)
def test_foreign_text_in_a_figure_holds_no_tag_that_plotly_would_obey(figure):
    text = json.dumps(figure.to_plotly_json(), default=str)
    assert "&lt;a" in text
    assert "<a" not in text


def test_control_words_name_every_control_and_pass_unknown_names_on():
    assert plots.control_words("random_95") == "random directions, 95th percentile"
    assert plots.control_words("some_new_one") == "some new one"


def test_histograms_say_how_much_lies_above_the_boundary():
    figure = plots.score_histograms({"true": [1.0, 2.0, 3.0, -1.0], "false": [-2.0, -3.0], HOSTILE: [0.0, 0.0]})
    notes = [a.text for a in figure.layout.annotations]
    assert [n for n in notes if "above" in n] == [
        "<b>0 %</b> above<br>n = 2",  # a score on the boundary is not above it
        "<b>0 %</b> above<br>n = 2",
        "<b>75 %</b> above<br>n = 4",
    ]
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert [trace.marker.color for trace in bars] == [GREY, GREY, ACCENT]
    assert [sum(trace.customdata) for trace in bars] == pytest.approx([100] * 3), "no score is left out"
    assert "&lt;a href" in figure.layout.yaxis.ticktext[0]


@pytest.mark.parametrize("kinds", [{}, {"true": []}, {"true": [1.0, float("nan")]}])
def test_histograms_of_nothing_are_refused(kinds):
    with pytest.raises(BadInput, match="finite scores of every kind"):
        plots.score_histograms(kinds)


def matrix(columns: tuple[str, ...], *values: tuple[float, ...]) -> Transfer:
    """A transfer matrix by hand: the diagonal was trained on its own part."""
    cells = tuple(
        Cell(row, column, estimate(value), estimate(value / 2), row == column)
        for row, line in zip(columns, values, strict=True)
        for column, value in zip(columns, line, strict=True)
    )
    return Transfer(cells, columns, columns, Site("resid_post", 3), "ttpd", {})


def test_a_heat_map_shows_every_figure_and_which_part_was_fitted():
    figure = plots.transfer_heat_map(matrix(("cities", HOSTILE), (0.96, 0.1), (0.2, 0.97)))
    assert [list(row) for row in figure.data[0].z] == [[0.96, 0.1], [0.2, 0.97]]
    texts = [a.text for a in figure.layout.annotations]
    assert texts[:4] == ["(.96)", "[.94, .98]", "<b>.10</b>", "[.08, .12]"]
    assert not any("<span" in text for text in texts), "a page shows other tags than <b> as text"
    assert figure.layout.title.text == "<b>AUROC</b> of ttpd at resid_post.3"
    assert "<a href" not in json.dumps(figure.to_plotly_json(), default=str)
    halves = plots.transfer_heat_map(matrix(("a", "b"), (0.96, 0.1), (0.2, 0.97)), "accuracy")
    assert [list(row) for row in halves.data[0].z] == [[0.48, 0.05], [0.1, 0.485]]


def test_a_heat_map_of_many_parts_keeps_to_its_width():
    names = tuple(f"topic {i}" for i in range(12))
    figure = plots.transfer_heat_map(matrix(names, *[(0.5,) * 12] * 12))
    assert figure.layout.margin.l + figure.layout.margin.r < 220
    assert not any(a.text.startswith("[") for a in figure.layout.annotations), "intervals only where there is room"


def receipt_by_hand(**more: Estimate) -> dict[str, Estimate]:
    doses = {f"dose_{c:g}": estimate(4 * c, 0.3) for c in (-1.0, -0.5, 0.5, 1.0)}
    band = {f"random_{c:g}": Estimate(0.1, -0.9, 1.1, 100) for c in (-1.0, 1.0)}
    return {"slope_z": estimate(8.0, 1.0), "wrong_way": proportion(1, 20), **doses, **band, **more}


def test_a_dose_response_goes_through_the_plain_model_and_lies_over_its_band():
    figure = plots.dose_response(receipt_by_hand(), label="truth", answers="True over False")
    line = next(trace for trace in figure.data if trace.mode == "lines" and len(trace.x) == 5)
    assert list(line.x) == [-1, -0.5, 0, 0.5, 1]
    assert list(line.y) == [-4, -2, 0, 2, 4]
    band = next(trace for trace in figure.data if trace.fill == "toself")
    assert list(zip(band.x, band.y, strict=True)) == [(-1, 1.1), (0, 0), (1, 1.1), (1, -0.9), (0, 0), (-1, -0.9)]
    said = " ".join(annotation.text for annotation in figure.layout.annotations)
    for words in ("8.0 s.d.", "5 % of 20 move the wrong way", "100 random directions", "truth"):
        assert words in said
    assert "cross-entropy" not in said, "what was not measured is not on it"
    assert figure.layout.yaxis.range[0] < -4.3
    assert figure.layout.yaxis.range[1] > 4.3
    ends = [trace for trace in figure.data if trace.mode == "lines" and len(trace.x) == 2]
    assert [list(trace.y) for trace in ends][-1] == [3.7, 4.3]


def test_a_long_name_of_a_direction_is_broken_into_lines_that_have_room():
    figure = plots.dose_response(receipt_by_hand(), label="in use: the United Kingdom|capital|London")
    lines = next(one.text for one in figure.layout.annotations if "capital" in one.text).split("<br>")
    assert len(lines) > 1
    assert all(len(line.replace("<b>", "").replace("</b>", "")) <= 22 for line in lines)


def test_a_dose_response_without_a_band_or_with_flat_doses_can_still_be_drawn():
    flat = {f"dose_{c:g}": Estimate(0.0, 0.0, 0.0, 5) for c in (-1.0, 1.0)}
    figure = plots.dose_response(flat)
    assert figure.layout.yaxis.range[0] < 0 < figure.layout.yaxis.range[1]
    assert not [trace for trace in figure.data if trace.fill == "toself"]
    tiny = plots.dose_response({"dose_-1e-05": estimate(-1.0), "dose_1e-05": estimate(1.0)})
    assert list(tiny.layout.xaxis.tickvals) == [-1e-05, 1e-05, 0.0]
    with pytest.raises(BadInput, match="no doses"):
        plots.dose_response({"slope": estimate(1.0)})


def test_a_direction_s_name_is_shown_letter_by_letter():
    figure = plots.dose_response(receipt_by_hand(), label=HOSTILE, answers=HOSTILE)
    assert "<a href" not in figure.to_json()
