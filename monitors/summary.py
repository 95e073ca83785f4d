"""Summary: what figures come to, in words for a terminal and a headline."""

from collections.abc import Iterator, Mapping
from datetime import date

from monitors.breaker.odds import expected_streams_between_trips, uses_to_trip
from monitors.breaker.rule import Policy
from monitors.measuring import Figures
from monitors.threshold import Threshold
from probes.facts.contexts import BENIGN_KINDS
from probes.facts.facts import Fact
from probes.reading.metrics import Estimate

__all__ = ["certificate_lines", "lines", "sentence"]


def sentence(fact: Fact, figures: Mapping[str, Figures]) -> str:
    """Say what a monitor did on the uses of a fact; where a baseline does as well or better, that comes first."""

    def caught(name: str) -> int:
        return round(figures[name].recall.value * figures[name].recall.n)

    def false(name: str) -> int:
        return round(figures[name].false_alarms.value * figures[name].false_alarms.n)

    names = {"bag_of_words": "a bag of words on the prompt", "keyword": "a keyword match on the response"}
    best = max(names, key=lambda name: (caught(name), -false(name)))
    uses, benign = figures["probe"].recall.n, figures["probe"].false_alarms.n
    if caught(best) < caught("probe"):
        rest = ", ".join(f"{words} {caught(name)} ({false(name)})" for name, words in names.items())
        return (
            f"The probe caught {caught('probe')} of {uses} uses of {fact.id} ({false('probe')} false alarms on "
            f"{benign} benign responses); {rest}."
        )
    how = "does as well as the probe" if caught(best) == caught("probe") else "does better than the probe"
    return (
        f"{names[best].capitalize()} {how} here: it caught {caught(best)} of {uses} uses of {fact.id}, the probe "
        f"{caught('probe')} (false alarms on {benign} benign responses: {false(best)} and {false('probe')})."
    )


def lines(figures: Mapping[str, Figures], policy: Policy, rate: float) -> Iterator[str]:
    """Yield the figures as lines for a terminal: of the probe all, of the baselines recall and false alarms.

    Args:
        figures: by detector: "probe", "keyword", "bag_of_words".
        policy: of the breaker.
        rate: false alarms per benign response that are promised.
    """
    probe = figures["probe"]
    worst = min(probe.by_question, key=lambda text: probe.by_question[text].value)
    rows: dict[str, Estimate | None] = {"recall": probe.recall, "false alarms": probe.false_alarms}
    rows |= {f"  {kind.replace('_', ' ')}": probe.by_kind[kind] for kind in BENIGN_KINDS}
    rows |= {f"recall of the worst question form, {worst!r}": probe.by_question[worst]}
    rows |= {"tokens out before the alarm (median)": probe.tokens_to_alarm}
    rows |= {"alarm before the fact was spelled out": probe.before_spelled_out}
    for name in ("keyword", "bag_of_words"):
        words = name.replace("_", " ")
        rows |= {f"{words}: recall": figures[name].recall, f"{words}: false alarms": figures[name].false_alarms}
    yield from (f"  {name:<42} {value if value is not None else 'not measured'}" for name, value in rows.items())
    between = expected_streams_between_trips(rate, policy.k, policy.n)
    yield f"Breaker: {policy.k} of {policy.n}; one false trip in {between:,.0f} benign responses at {rate:.0%}."
    if probe.recall.value:
        yield f"At this recall, {uses_to_trip(probe.recall.value, policy.k, policy.n):.1f} uses in a row trip it."


def certificate_lines(threshold: Threshold, today: date) -> Iterator[str]:
    """Yield what a certificate says and how long it holds, for a terminal."""
    yield f"{'certificate' if threshold.certified else 'promise'}: {threshold.sentence}"
    if threshold.valid_until is None:
        yield f"made {threshold.made}; no end is stated"
    else:
        over = ": it is over, certify again" if threshold.ended(today) else ""
        yield f"made {threshold.made}, valid until {threshold.valid_until}{over}"
