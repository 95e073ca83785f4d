"""From activations to scores.

In reading order: ranking, metrics, probe, streams, newton, fitting, splits, controls, sweep.
"""
