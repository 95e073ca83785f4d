"""Ledger: streams are counted once, whoever counts them, and traffic that drifts revokes a certificate."""

import math
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
import torch

from monitors import Ledger, calibrate, calibrate_streams
from monitors import ledger as ledger_file
from monitors.breaker.journal import Journal
from monitors.drift import watch_drift
from probes.errors import ArtifactError, BadInput, CouldNotRun
from probes.reading.streams import Stream

REST = {"horizon": 4, "made": "2026-11-23"}


def stream(*scores):
    return Stream(("a",) * len(scores), torch.tensor(scores, dtype=torch.float32), kind="u")


def normal(seed, n, shift=0.0):
    return [stream(*row) for row in np.random.default_rng(seed).normal(size=(n, 4)) + shift]


@pytest.fixture
def threshold():
    return calibrate_streams(normal(0, 100), **REST)


def test_streams_count_up_to_the_limit_and_the_horizon(tmp_path):
    threshold = calibrate({"u": {i: i / 100 for i in range(93)}}, **REST)
    ledger = Ledger(tmp_path / "ledger", threshold)
    ledger.add([stream(0.5, 0.25), stream(7.0), stream(0.125, 0, 0, 0, 9.0)])
    by_hand = watch_drift([min(i / 100, 0.91) for i in range(93)]).after(0.5, 0.91, 0.125)
    assert ledger.drifts["max"].wealth == by_hand.wealth
    assert ledger.drifts["max"].seen == by_hand.seen
    assert (ledger.streams, ledger.unscored, ledger.revoked) == (3, 0, False)


def test_what_could_not_be_scored_is_counted_and_no_evidence(threshold, tmp_path):
    ledger = Ledger(tmp_path / "ledger", threshold)
    ledger.add([None, stream(math.nan), stream(), stream(math.inf), stream(0.5)])
    assert (ledger.streams, ledger.unscored, ledger.drifts["max"].streams) == (5, 4, 1)
    assert "4 of them without a score" in ledger.sentence


def test_it_goes_on_where_it_was_left_and_a_new_certificate_starts_anew(threshold, tmp_path):
    first = Ledger(tmp_path / "ledger", threshold)
    first.add(normal(1, 30))
    again = Ledger(tmp_path / "ledger", threshold)
    assert again.to_dict() == first.to_dict()
    assert again.streams == 30
    newer = Ledger(tmp_path / "ledger", replace(threshold, made="2026-11-24"))
    assert newer.streams == 0
    newer.add(normal(2, 1))
    first.add([])
    assert (first.streams, newer.streams) == (30, 1)


def count_in_a_process(path, threshold, seed):
    for one in normal(seed, 10):
        Ledger(path, threshold).add([one])


def test_several_processes_count_for_one_certificate(threshold, tmp_path):
    """Eight processes make the file and write it at once; nothing is lost, and in the end all say the same."""
    path = tmp_path / "ledger"
    with ProcessPoolExecutor(8, mp_context=get_context("fork")) as pool:
        for done in [pool.submit(count_in_a_process, path, threshold, seed) for seed in range(8)]:
            done.result()
    assert Ledger(path, threshold).streams == 80
    first, second = Ledger(path, threshold), Ledger(path, threshold)
    first.add(normal(9, 1))
    assert second.streams == 80
    second.refresh()
    assert second.to_dict() == first.to_dict()
    assert not list(tmp_path.glob(".ledger*"))


def test_traffic_that_drifts_revokes_for_good_and_like_traffic_does_not(threshold, tmp_path):
    quiet = Ledger(tmp_path / "quiet", threshold)
    quiet.add(normal(1, 500))
    assert not quiet.revoked
    assert "500 streams since the certificate; not revoked" in quiet.sentence
    loud = Ledger(tmp_path / "loud", threshold)
    loud.add(normal(2, 40, shift=1.0))
    assert loud.revoked
    assert "revoked at scored stream " in loud.sentence
    loud.add(normal(3, 40))
    assert loud.revoked
    assert loud.streams == 80


def test_exchangeable_streams_revoke_no_more_often_than_promised_though_values_stop_at_the_limit(tmp_path, monkeypatch):
    """Two statistics share 20 %: 150 certificates in one file, 100 streams each."""
    monkeypatch.setattr(ledger_file, "ERROR", 0.2)
    revoked = 0
    for seed in range(150):
        streams = normal(seed, 60 + 100)
        threshold = calibrate_streams(streams[:60], ["max", "cusum(0.5)"], promise="marginal", **REST)
        ledger = Ledger(tmp_path / "ledger", threshold)
        ledger.add(streams[60:])
        revoked += ledger.revoked
        assert max(max(drift.seen) - threshold.limits[name] for name, drift in ledger.drifts.items()) == 0
    assert 0 < revoked <= 45, "30 are promised at most, 5 is a standard error"


def test_of_several_statistics_each_has_its_part_of_the_error(tmp_path):
    threshold = calibrate_streams(normal(0, 100), ["max", "cusum(0.5)"], promise="marginal", **REST)
    ledger = Ledger(tmp_path / "ledger", threshold)
    assert {name: drift.error for name, drift in ledger.drifts.items()} == {"max": 0.005, "cusum(0.5)": 0.005}


def test_of_a_monitor_that_was_chosen_each_candidate_has_its_part_of_the_error(tmp_path):
    """Where the one with the lowest limit is taken, calibration values lie lower than those of new streams."""
    ledger = Ledger(tmp_path / "ledger", calibrate_streams(normal(0, 200), "max", among=30, **REST))
    assert ledger.drifts["max"].error == pytest.approx(0.01 / 30)


def test_a_file_that_is_none_of_ours_is_left_as_it_is(threshold, tmp_path):
    (tmp_path / "text").write_text("not a database " * 100)
    with pytest.raises(ArtifactError, match="no ledger"):
        Ledger(tmp_path / "text", threshold)
    Journal(tmp_path / "trips.sqlite").close()
    before = (tmp_path / "trips.sqlite").read_bytes()
    with pytest.raises(ArtifactError, match="no ledger; give another path"):
        Ledger(tmp_path / "trips.sqlite", threshold)
    assert (tmp_path / "trips.sqlite").read_bytes() == before
    for bad in (tmp_path, tmp_path / "missing" / "ledger"):
        with pytest.raises(BadInput, match="no place for a ledger"):
            Ledger(bad, threshold)


@pytest.mark.parametrize("size", [0, 1, 511])
def test_a_file_too_small_to_be_one_is_not_written_over(threshold, tmp_path, size):
    (tmp_path / "note").write_bytes(b"x" * size)
    with pytest.raises(ArtifactError, match="too small"):
        Ledger(tmp_path / "note", threshold)
    assert (tmp_path / "note").read_bytes() == b"x" * size


def test_what_could_not_be_written_is_written_the_next_time(threshold, tmp_path):
    path = tmp_path / "ledger"
    ledger = Ledger(path, threshold, patience_s=0.05)
    ledger.add(normal(1, 3))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert Ledger(path, threshold, patience_s=0.05).streams == 3, "looking takes no lock"
    with pytest.raises(CouldNotRun, match="locked"):
        ledger.add(normal(2, 2))
    other.execute("ROLLBACK")
    other.close()
    assert ledger.streams == 3
    ledger.add(normal(3, 1))
    assert ledger.streams == 6


@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_that_was_taken_away_counts_nothing_more(threshold, tmp_path, replaced):
    path = tmp_path / "ledger"
    ledger = Ledger(path, threshold)
    path.unlink()
    if replaced:
        (tmp_path / "between").touch()  # so that the number of the old file is not given out again
        Ledger(path, threshold).add(normal(1, 5))
    with pytest.raises((CouldNotRun, ArtifactError), match="replaced" if replaced else "taken away"):
        ledger.add(normal(2, 1))
    assert path.exists() == replaced


@pytest.mark.parametrize("row", ["", "[", "3", '{"max": "1"}', '{"max": NaN}', "{}", '{"max": 1, "cusum(1.0)": 2}'])
def test_a_row_that_is_none_of_ours_is_named(threshold, tmp_path, row):
    ledger = Ledger(tmp_path / "ledger", threshold)
    ledger.add(normal(1, 1))
    with sqlite3.connect(tmp_path / "ledger") as other:
        other.execute("INSERT INTO streams (certificate, came_to) SELECT certificate, ? FROM streams", (row,))
    with pytest.raises(ArtifactError, match="row 2"):
        Ledger(tmp_path / "ledger", threshold)


def test_a_file_of_another_version_is_refused(threshold, tmp_path):
    Ledger(tmp_path / "ledger", threshold)
    with sqlite3.connect(tmp_path / "ledger") as other:
        other.execute("PRAGMA user_version = 2")
    with pytest.raises(ArtifactError, match="version 2"):
        Ledger(tmp_path / "ledger", threshold)
