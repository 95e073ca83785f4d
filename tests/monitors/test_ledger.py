"""Ledger: streams are counted once, whoever counts them, and traffic that drifts revokes a certificate."""

import math
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from monitors import Ledger, calibrate, calibrate_streams
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


def test_several_processes_count_for_one_certificate(threshold, tmp_path):
    """Eight ledgers on one file, as eight processes would have; in the end all say the same."""
    ledgers = [Ledger(tmp_path / "ledger", threshold) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: [ledgers[i].add([one]) for one in normal(i, 10)], range(8)))
    for ledger in ledgers:
        ledger.add([])
    assert {str(ledger.to_dict()) for ledger in ledgers} == {str(Ledger(tmp_path / "ledger", threshold).to_dict())}
    assert ledgers[0].streams == 80


def test_traffic_that_drifts_revokes_for_good_and_like_traffic_does_not(threshold, tmp_path):
    quiet = Ledger(tmp_path / "quiet", threshold)
    quiet.add(normal(1, 500))
    assert not quiet.revoked
    assert "500 streams since the certificate; not revoked" in quiet.sentence
    loud = Ledger(tmp_path / "loud", threshold)
    loud.add(normal(2, 40, shift=1.0))
    assert loud.revoked
    assert "revoked at stream" in loud.sentence
    loud.add(normal(3, 40))
    assert loud.revoked
    assert loud.streams == 80


def test_exchangeable_streams_revoke_no_more_often_than_promised_though_values_stop_at_the_limit():
    """Two statistics share 20 %: 200 calibrations, 150 streams each. Counted twice where both revoke."""
    revoked = 0
    for seed in range(200):
        scores = torch.from_numpy(np.random.default_rng(seed).normal(size=(60 + 150, 4)).astype(np.float32))
        streams = [stream(*row) for row in scores[:60].tolist()]
        threshold = calibrate_streams(streams, ["max", "cusum(0.5)"], promise="marginal", **REST)
        for statistic in threshold.statistics:
            cut = statistic.largest(scores).clamp(max=threshold.limits[statistic.name]).tolist()
            revoked += watch_drift(cut[:60], error=0.1, seed=seed).after(*cut[60:]).revoked
    assert 0 < revoked <= 55, "40 are promised at most, 6 is a standard error"


def test_of_several_statistics_each_has_its_part_of_the_error(tmp_path):
    threshold = calibrate_streams(normal(0, 100), ["max", "cusum(0.5)"], promise="marginal", **REST)
    ledger = Ledger(tmp_path / "ledger", threshold, error=0.02)
    assert {name: drift.error for name, drift in ledger.drifts.items()} == {"max": 0.01, "cusum(0.5)": 0.01}


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


def test_a_file_that_was_taken_away_or_is_locked_counts_nothing_more(threshold, tmp_path):
    path = tmp_path / "ledger"
    ledger = Ledger(path, threshold, patience_s=0.05)
    ledger.add(normal(1, 3))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(CouldNotRun, match="locked"):
        ledger.add(normal(2, 1))
    other.execute("ROLLBACK")
    other.close()
    assert ledger.streams == 3
    path.unlink()
    with pytest.raises(ArtifactError, match="lost rows"):
        ledger.add(normal(2, 1))
