"""Figures of knowing: counts where they belong, and wealth on a logarithmic axis up to where it was decided."""

import pytest

from probes import plots
from probes.errors import BadInput


def test_the_counts_stand_in_their_quadrants():
    figure = plots.quadrants({"knows-says": 5, "guesses": 2, "undecided": 1}, {"guesses": ["Oz <b>", "b", "c", "d"]})
    texts = {text.text: (text.x, text.y) for text in figure.layout.annotations}
    assert texts["<b>5</b>"][0] > 1, "says it: to the right"
    assert texts["<b>5</b>"][1] > 1, "knows it: above"
    assert texts["<b>2</b>"][1] < 1
    assert any("Oz &lt;b&gt;<br>b<br>c" in text and "d" not in text.split("<br>") for text in texts)
    assert figure.layout.xaxis.title.text == "1 undecided"
    long = plots.quadrants({"ignorant": 1}, {"ignorant": ["the Democratic Republic of the Congo|capital|Kinshasa"]})
    shown = next(text.text for text in long.layout.annotations if "Congo" in text.text).split("<br>")[1]
    assert shown.endswith("…"), "what is wider than its quadrant is cut"
    assert len(shown) <= 42
    with pytest.raises(BadInput, match="no fact"):
        plots.quadrants({"guesses": 0})


def test_both_bets_and_the_bound_are_drawn():
    figure = plots.wealth([1.5, 0.4, 0.0], [0.7, 2.7, 120.0], [True, False, False])
    assert figure.layout.yaxis.type == "log"
    assert list(figure.data[0].y) == [1.5, 0.4, 1e-6], "a logarithm shows no zero"
    assert list(figure.data[2].customdata) == ["right", "wrong", "wrong"]
    assert figure.layout.shapes[0].y0 == 100
    with pytest.raises(BadInput, match="one of each"):
        plots.wealth([1.0], [], [True])
