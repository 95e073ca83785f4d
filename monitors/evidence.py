"""Evidence: what a demo found, as plain finished values, for its page (report.py).

What was not measured keeps its default and is left out of the page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go

from monitors.breaker.rule import Policy
from monitors.history import Request
from monitors.threshold import Threshold
from monitors.verdict import Verdict
from probes.plots import Swept
from probes.reading.metrics import Estimate
from probes.reading.streams import Stream

__all__ = ["DemoEvidence"]


@dataclass(frozen=True, eq=False)
class DemoEvidence:
    """All that the page of the demo shows."""

    model: str
    """Name of the model."""
    fact: str
    """Id of the fact, such as "France|capital|Paris"."""
    sentence: str
    """What came out, in one sentence; where a baseline wins, that comes first."""
    number: str
    """The number that matters most, such as "37 of 40"."""
    measure: str
    """What that number counts."""
    threshold: Threshold
    """The threshold with its certificate."""
    maxima_by_kind: Mapping[str, Sequence[float]]
    """Largest score of each test response, by kind; the target's kind first."""
    recall: Estimate
    """Share of the responses that use the fact and alarm, in [0, 1]."""
    false_alarms: Estimate
    """Share of all benign responses that alarm, in [0, 1]."""
    by_kind: Mapping[str, Estimate]
    """Share of the responses that alarm, by kind."""
    strips: Sequence[tuple[str, Stream, Verdict]]
    """Title (the prompt), scores and verdict of a few responses; the first two are the picture: one tripped, one hard
    benign."""
    by_question: Mapping[str, Estimate] = field(default_factory=dict)
    """Recall by question form."""
    baselines: Mapping[str, Mapping[str, Estimate | None]] = field(default_factory=dict)
    """What else would do: for each detector its measures, those of the probe included; one that is missing is said to
    be."""
    sweep: Swept | None = None
    """Every layer x estimator, with the controls of the chosen one."""
    tokens_to_alarm: Estimate | None = None
    """Tokens released before the alarm, median over the uses that alarmed."""
    before_spelled_out: Estimate | None = None
    """Share of the responses that spell the fact out in which the alarm came first, in [0, 1]."""
    patching: go.Figure | None = None
    """Heat map of where the fact lives, layer x position."""
    patching_finding: str = ""
    """What is to be seen in it."""
    policy: Policy | None = None
    """Of the breaker."""
    histories: Mapping[str, Sequence[Request]] = field(default_factory=dict)
    """Requests as the breaker saw them, by title."""
    between_trips: float | None = None
    """Expected number of benign responses between two false trips, at the promised rate."""
    uses_to_trip: float | None = None
    """Expected number of true uses until the breaker trips, at the measured recall."""
    receipt: Mapping[str, Estimate] = field(default_factory=dict)
    """What steering along the probe's direction does to what the model says."""
    says: str = ""
    """Whether the model says the fact when asked, in a sentence."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What was fixed before the test responses were generated: seed, layers, versions."""
    target: str = "use"
    """The kind that should alarm."""
