"""From activations to scores.

In reading order: ranking, metrics, inputs, statistics, folding, probe, streams, fitting, splits, controls, sweep.
"""
