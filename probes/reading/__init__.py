"""From activations to scores.

In reading order: ranking, metrics, probe, streams, fitting, splits, controls, sweep, passes, faults, checks, doctor.
"""
