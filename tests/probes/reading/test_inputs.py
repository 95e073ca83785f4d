"""What a fit is given, and what it is spared."""

import numpy as np
import pytest
import torch

from probes.errors import BadInput
from probes.reading.inputs import check_features, check_labels, spread


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_two_rows_come_back_as_float64_whatever_they_were(dtype):
    found = check_features(torch.tensor([[1.0, 2.0], [3.0, -4.0]], dtype=dtype, requires_grad=True))
    assert found.dtype == np.float64
    assert found.tolist() == [[1, 2], [3, -4]]
    assert check_features([[1, 2]]).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (torch.ones(3), "row x d_model"),
        (torch.ones(0, 3), "row x d_model"),
        (torch.ones(3, 0), "row x d_model"),
        (torch.tensor([[1.0], [float("nan")], [float("inf")]]), r"row 1 of the rows is not finite \(2 such"),
        (["a"], "cannot be read as numbers"),
    ],
)
def test_rows_that_are_none_are_refused(rows, words):
    with pytest.raises(BadInput, match=words):
        check_features(rows, what="the rows")


def test_labels_are_true_and_false_and_both_occur():
    assert check_labels(torch.tensor([1, 0]), 2).tolist() == [True, False]
    assert check_labels([True, False], 2).dtype == bool
    for labels, words in (
        ([True, True], "one class only"),
        ([False, False], "one class only"),
        ([True], "a label a row"),
        ([[True, False]], "a label a row"),
        ([1, 2], "true or false"),
        (["yes", "no"], "true or false"),
    ):
        with pytest.raises(BadInput, match=words):
            check_labels(labels, 2)


def test_a_constant_feature_has_no_spread_however_its_mean_was_rounded():
    rows = np.full((3001, 3), 0.3)
    rows[:, 1] = np.linspace(-1, 1, 3001)
    rows[:, 2] = 1e6 + 1e-3 * rows[:, 1]
    centred = rows - rows.mean(0)
    assert centred[0, 0] != 0  # the sanity half: there is rounding to be seen through
    found = spread(centred, np.abs(rows).max(0))
    assert found[0] == 0
    assert found[1:] == pytest.approx(rows[:, 1:].std(0), rel=1e-6)
