"""Floor 3, DECIDE: certify a threshold, watch a model while it generates, and trip a circuit breaker.

In reading order: verdict, threshold, calibration, drift, sqlite_file, ledger, monitor, breaker/, live/, traffic,
choosing, piping, fitting, making, measuring, summary, history, evidence, report, demo, trips, cli. Imports go down to
`circuits` and `probes`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "breaker.breaker": ["Breaker", "BreakerOpen"],
        "breaker.journal": ["Journal"],
        "breaker.rule": ["Policy", "State"],
        "calibration": ["calibrate", "calibrate_streams"],
        "choosing": ["Choice", "choose"],
        "drift": ["Drift", "watch_drift"],
        "ledger": ["Ledger"],
        "live.guard": ["Alarmed", "Guarded", "Reply", "Withheld", "guard"],
        "live.recorder": ["record"],
        "making": ["FactMonitor", "monitor_fact", "monitor_uses"],
        "monitor": ["Monitor"],
        "piping": ["Answer", "pipe"],
        "threshold": ["Threshold"],
        "traffic": ["Prompt", "certify", "certify_again", "read_traffic"],
        "verdict": ["Outcome", "Verdict"],
    },
)
