"""The course of a training: lines by step, marks where something was learned, nothing made up."""

import pytest

from probes import plots
from probes.errors import BadInput

COURSE = [
    {"step": 100, "chosen": {"said": 0.1, "judged": 0.5}, "reference": {"said": 0.2}},
    {"step": 200, "chosen": {"said": 0.9, "judged": 0.6}},
]


def test_a_line_for_each_figure_of_the_kind_and_its_name_at_the_right():
    figure = plots.learning_curve(COURSE, "chosen", when={"safeguard <b>": 150})
    assert [(list(line.x), list(line.y)) for line in figure.data] == [
        ([100, 200], [0.1, 0.9]),
        ([100, 200], [0.5, 0.6]),
    ]
    texts = {text.text: text for text in figure.layout.annotations}
    assert {"said", "judged", "safeguard &lt;b&gt;"} == set(texts)
    assert texts["said"].y == 0.9
    assert figure.layout.shapes[0].x0 == 150
    assert len(plots.learning_curve(COURSE, "reference").data[0].x) == 1, "an entry without the kind is left out"


def test_a_folder_without_a_course_is_told_to_be_built_again():
    with pytest.raises(BadInput, match="no entry of kind 'chosen'.*build the model again"):
        plots.learning_curve([], "chosen")
