"""Plots: figures of what was measured, each beside what it must be compared with.

Every function takes finished numbers and returns a plotly Figure that nothing else refers to: show it in a notebook,
or put it on a page (page.py). Lines and rows are labelled where they stand; a legend appears nowhere. All fit a width
of 700 pixels. `token_strip` is plain HTML (strips.py).

In reading order: frame, knowledge, layers, scores, shares, transfer, doses, course.

Limits: labels longer than 46 characters are broken or cut; a row of points is meant for 10 to 1,000 of them.
"""

import lazy_loader

from probes.look import TEMPLATE
from probes.strips import token_strip

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "knowledge": ["quadrants", "wealth"],
        "doses": ["dose_response"],
        "course": ["learning_curve"],
        "layers": ["Swept", "auroc_by_layer", "control_words"],
        "scores": ["score_distributions", "score_histograms"],
        "shares": ["recall_by"],
        "transfer": ["transfer_heat_map"],
    },
)
__all__ += ["TEMPLATE", "token_strip"]
