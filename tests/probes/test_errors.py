"""Errors come back from other processes with all that they carry."""

import pickle

import pytest

from probes.errors import BadInput, Mismatch, TooFew


@pytest.mark.parametrize("error", [BadInput("bad"), TooFew("too few", 59), Mismatch("another", ["weights.block.0"])])
def test_an_error_survives_the_way_between_processes(error):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
