"""Newton's method for many logistic regressions at once: one design, columns that differ in labels, rows and penalty.

Minimise for each column sum over its rows of log(1 + exp(-y s)) + sum_j penalty_j w_j^2 / 2, s = design w:

1. Gradients in the precision of the design (float64 where the device has it), all columns in one product.
2. Newton's direction by conjugate gradients in float32, all columns in one product, preconditioned by the Cholesky
   factor of ONE Hessian: design' W design with W the mean weight of a row over the columns. It is made anew where a
   solve took more than a few laps, so columns that are alike (folds, neighbouring penalties) share it.
3. Halve the step where the loss would rise.
4. Stop where gradient' P^-1 gradient, the Newton decrement measured by the preconditioner P, is so small that a row one
   spread from the mean in every coordinate moves by less than 1e-6 (|w - best|^2 <= decrement / penalty), after a step
   whose own decrement was below 1e-6 (quadratic convergence). It is evaluated at the point that is returned.

Steps of low precision with residuals of high precision are iterative refinement: float32 decides how many steps are
taken, not where they end. Where float32 gets nowhere, the inner solves are raised to the precision of the design.

A path of penalties, strongest first, starts each from the last one's solution and keeps its Hessian.

Sources: Nocedal & Wright, Numerical Optimization, algorithm 7.1 (Newton-CG); Carson & Higham, SIAM J. Sci. Comput. 40
(2018) A817 (refinement in several precisions).
Limits: the shared Hessian is dense, so the design should not have many more columns than rows; on a device without
float64 (MPS) a score may be 1e-3 off.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from probes.errors import CouldNotRun

__all__ = ["Rooms", "minimise", "precision"]

NEWTON_STEPS = 60
LOW_STEPS = 20
"""After these, inner solves are in the precision of the design."""
LAPS = 500
PATIENCE = 12
"""Laps of conjugate gradients that cost as much as another Hessian."""
SCORES = {torch.float64: 1e-6, torch.float32: 1e-3}
"""How far a score may be off."""
LEAST = {torch.float64: 1e-20, torch.float32: 1e-9}
"""Of a decrement: below lies rounding."""
NEAR = 1e-6
BLOCKS = 4


class Rooms:
    """Large buffers, kept from one fit to the next: fresh memory costs more than what is written into it.

    Limits: what `take` returns is overwritten by the next `take` of the same name; one thread.
    """

    def __init__(self):
        self._kept: dict[str, Tensor] = {}

    def take(self, name: str, shape: Sequence[int], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Return a tensor of this shape on the device of `like`, with whatever numbers are in it."""
        dtype, kept = dtype or like.dtype, self._kept.get(name)
        if kept is None or (kept.shape, kept.dtype, kept.device) != (torch.Size(shape), dtype, like.device):
            kept = self._kept[name] = torch.empty(shape, dtype=dtype, device=like.device)
        return kept


def precision(device: torch.device) -> torch.dtype:
    """Return the dtype of solutions on a device: float64, or float32 where there is no other."""
    return torch.float32 if device.type == "mps" else torch.float64


def minimise(
    design: Float[Tensor, "row coordinate"],
    targets: Float[Tensor, "#column row"],
    masks: Float[Tensor, "#column row"] | None,
    penalties: Sequence[Float[Tensor, "column coordinate"]],
    rooms: Rooms | None = None,
) -> list[Float[Tensor, "column coordinate"]]:
    """Return the minimiser of each column, for each set of penalties.

    Args:
        design: the last coordinate is all ones, the intercept.
        targets: 1 where the concept is present, else 0.
        masks: 1 where a row counts for a column, else 0; None: every row for every column.
        penalties: strongest first; the last coordinate 0.
        rooms: to reuse memory where many designs of one shape are fitted.

    Raises:
        CouldNotRun: no convergence.
    """
    path, found = _Path(design, targets, masks, rooms or Rooms()), []
    for penalty in penalties:
        found.append(path.minimise(found[-1] if found else path.start(len(penalty)), penalty))
    return found


class _Path:
    """What is kept from one penalty to the next: the design in both precisions, and the last Hessian without penalty.

    Limits: `low`, `gram` and `stale` change as the path is walked; one thread.
    """

    def __init__(self, design: Tensor, targets: Tensor, masks: Tensor | None, rooms: Rooms):
        self.design, self.targets, self.masks, self.rooms = design, targets, masks, rooms
        self.low = rooms.take("low", design.shape, design, torch.float32).copy_(design)
        self.gram: Tensor | None = None
        self.stale = False

    def start(self, columns: int) -> Tensor:
        """Return columns that are zero but for the intercept, the log-odds of the labels."""
        found = self.design.new_zeros(columns, self.design.shape[1])
        share = self.targets.mean(1)
        if self.masks is not None:
            share = (self.masks * self.targets).sum(1) / self.masks.sum(1)
        found[:, -1] = torch.logit(share)
        return found

    def minimise(self, start: Tensor, penalty: Tensor) -> Tensor:
        found, dtype = start.clone(), start.dtype
        goal = SCORES[dtype] ** 2 * float(penalty[:, :-1].min()) / penalty.shape[1]
        goal = min(max(goal, LEAST[dtype]), SCORES[dtype] ** 2)
        active = torch.arange(len(found), device=found.device)
        here, scores, factor = found, found @ self.design.T, None
        target, mask, last = self.targets, self.masks, torch.full_like(found[:, 0], torch.inf)
        for taken in range(NEWTON_STEPS):
            if taken == LOW_STEPS and self.low.dtype != self.design.dtype:
                self.low, self.gram = self.design, None
            probability = torch.sigmoid(scores)
            gradient = _masked(probability - target, mask) @ self.design + penalty * here
            bend = _masked(probability * (1 - probability), mask).to(self.low.dtype)
            if self.gram is None or (self.stale and bool((last > NEAR).any())):
                self.gram, self.stale, factor = _gram(self.low, bend.mean(0), self.rooms), False, None
            if factor is None:
                factor = _factor(self.gram, penalty.mean(0).to(self.low.dtype))
            near = (gradient * _solve(factor, gradient.to(self.low.dtype))).sum(1) <= goal
            going = ~(near & (last <= NEAR))
            if not going.any():
                found[active] = here
                return found
            if not going.all():
                found[active[~going]] = here[~going]
                active, here, scores, gradient, bend, penalty = (
                    part[going] for part in (active, here, scores, gradient, bend, penalty)
                )
                target, mask = (part if part is None or len(part) == 1 else part[going] for part in (target, mask))
            step, laps = _conjugate_gradients(self.low, bend, gradient, penalty, factor, goal)
            last = -(gradient * step).sum(1)
            here, scores = self._moved(here, step, scores, last, target, mask, penalty)
            self.stale = laps > PATIENCE
        raise CouldNotRun(
            f"logistic regression did not converge in {NEWTON_STEPS} steps; are the activations of a sane size? Lower C"
        )

    def _moved(
        self, here: Tensor, step: Tensor, scores: Tensor, decrement: Tensor, target: Tensor, mask: Tensor | None,
        penalty: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Go the largest of 1, 1/2, 1/4, ... of the step at which the loss falls (Armijo), for each column."""
        there = here + step
        ahead = there @ self.design.T

        def loss(at: Tensor, scored: Tensor) -> Tensor:
            return _masked(softplus(scored) - target * scored, mask).sum(1) + (penalty * at.square()).sum(1) / 2

        before, size = loss(here, scores), torch.ones_like(decrement)
        slack = 100 * torch.finfo(before.dtype).eps * before.abs() * len(self.design) ** 0.5  # a fall below rounding
        high = loss(there, ahead) > before - 1e-4 * decrement + slack
        for _ in range(30):
            if not high.any():
                break
            size = torch.where(high, size / 2, size)
            there, tried = here + size[:, None] * step, torch.lerp(scores, ahead, size[:, None])
            high = loss(there, tried) > before - 1e-4 * size * decrement + slack
        else:
            there = torch.where(high[:, None], here, there)
        return (there, ahead) if bool((size == 1).all()) else (there, there @ self.design.T)


def _masked(values: Tensor, mask: Tensor | None) -> Tensor:
    return values if mask is None else values * mask


def _gram(low: Tensor, weight: Float[Tensor, "row"], rooms: Rooms) -> Float[Tensor, "coordinate coordinate"]:
    """Return the lower triangle of low' weight low, in blocks: what lies above it is never computed."""
    width = low.shape[1]
    gram = low.new_zeros(width, width)
    weighted = torch.mul(low, weight[:, None], out=rooms.take("weighted", low.shape, low))
    edges = [width * i // BLOCKS for i in range(BLOCKS + 1)]
    for start, stop in zip(edges, edges[1:], strict=False):
        gram[start:stop, start:] = weighted[:, start:stop].T @ low[:, start:]
    return gram.T  # by columns, as LAPACK wants it


def _factor(gram: Tensor, penalty: Tensor) -> Tensor:
    """Return the lower Cholesky factor of gram + penalty; the diagonal grows where rounding made it indefinite."""
    diagonal, extra = gram.diagonal() + penalty, 0.0
    largest = diagonal.amax()
    for _ in range(12):
        whole = gram.clone(memory_format=torch.preserve_format)
        whole.diagonal().copy_(diagonal + extra * largest)
        factor, failed = torch.linalg.cholesky_ex(whole)
        if not failed:
            return factor
        extra = 10 * extra or torch.finfo(gram.dtype).eps
    raise CouldNotRun("the Hessian of logistic regression cannot be factored; are the activations of a sane size?")


def _solve(factor: Tensor, rows: Tensor) -> Tensor:
    half = torch.linalg.solve_triangular(factor, rows.T, upper=False)
    return torch.linalg.solve_triangular(factor.T, half, upper=True).T


def _conjugate_gradients(
    low: Tensor, bend: Tensor, gradient: Tensor, penalty: Tensor, factor: Tensor, goal: float
) -> tuple[Float[Tensor, "column coordinate"], int]:
    """Solve (low' bend low + penalty) step = -gradient for each column, the tighter the nearer the minimum is.

    Gradients are scaled to norm 1 on the way, so that float32 does not underflow at the end.
    """
    size = gradient.norm(dim=1, keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)
    residual, penalty = (-gradient / size).to(low.dtype), penalty.to(low.dtype)
    step, direction = torch.zeros_like(residual), _solve(factor, residual)
    energy = (residual * direction).sum(1)
    decrement = energy.to(gradient.dtype) * size[:, 0].square()
    enough = goal / 10 / decrement  # what would end the descent; more is wasted
    left = energy * torch.maximum(0.1 * decrement, enough).clamp(1e-8, 0.01).to(low.dtype)
    for lap in range(LAPS):  # noqa: B007
        running = energy > left
        if not running.any():
            break
        bent = ((direction @ low.T) * bend) @ low + penalty * direction
        along = torch.where(running, energy / (direction * bent).sum(1), 0.0)[:, None]
        step, residual = step + along * direction, residual - along * bent
        scaled = _solve(factor, residual)
        following = (residual * scaled).sum(1)
        direction = scaled + torch.where(running, following / energy, 0.0)[:, None] * direction
        energy = torch.where(running, following, energy)
    return step.to(gradient.dtype) * size, lap
