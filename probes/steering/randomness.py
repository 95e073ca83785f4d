"""Random directions to stand beside one that means something: N(0, I) inside the top principal components at a site.

Directions drawn in all of d_model would lie where no activation varies, and do nothing (Heimersheim & Mendel 2024,
arXiv:2409.15019). The components hold 90 % of the variance behind the prompts given, and are 10 at least.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probes.activations.capture import read_rows
from probes.activations.tokens import TokenRule
from probes.errors import BadInput
from probes.model.language_model import Chat, LanguageModel
from probes.model.sites import Site

__all__ = ["draw_inside", "inside_components", "random_directions", "top_components"]

VARIANCE, LEAST_COMPONENTS = 0.9, 10


def random_directions(
    model: LanguageModel, prompts: Sequence[str | Chat], site: Site, draws: int, *, seed: int = 0
) -> tuple[Float[Tensor, "draw d_model"], int]:
    """Return random unit vectors, and how many components they lie in.

    Args:
        model: the model.
        prompts: the activations at their last tokens have the components.
        site: where.
        draws: how many.
        seed: of the draws.

    Raises:
        BadInput: the activations are all alike.
    """
    rows = read_rows(model, prompts, (site,), TokenRule("last")).values[site]
    return inside_components(rows, draws, np.random.default_rng([seed, 5]))


def inside_components(
    rows: Float[Tensor, "row d_model"], draws: int, rng: np.random.Generator
) -> tuple[Float[Tensor, "draw d_model"], int]:
    """Return random unit vectors inside the top principal components of some rows, and how many components."""
    axes = top_components(rows)
    return draw_inside(axes, draws, rng), len(axes)


def top_components(
    rows: Float[Tensor, "row d_model"], least: int = LEAST_COMPONENTS
) -> Float[Tensor, "component d_model"]:
    """Return the axes, in float64, that hold 90 % of the variance of some rows; `least` where there are so many.

    Raises:
        BadInput: the rows are all alike.
    """
    centred = rows.double() - rows.double().mean(0)
    _, sizes, axes = torch.linalg.svd(centred, full_matrices=False)
    share = (sizes**2).cumsum(0) / (sizes**2).sum()
    sound = int((sizes > 1e-9 * sizes[0]).sum())
    if not sound or not torch.isfinite(share).all():
        raise BadInput("the activations behind these prompts are all alike, so they have no principal components")
    return axes[: min(max(int((share < VARIANCE).sum()) + 1, least), sound)]


def draw_inside(
    axes: Float[Tensor, "component d_model"], draws: int, rng: np.random.Generator
) -> Float[Tensor, "draw d_model"]:
    """Return random unit vectors in the span of some axes, in float64."""
    drawn = torch.from_numpy(rng.standard_normal((draws, len(axes)))) @ axes
    return drawn / drawn.norm(dim=-1, keepdim=True)
