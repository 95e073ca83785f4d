"""From activations to scores.

In reading order: ranking, metrics, inputs, statistics, folding, probe, streams, estimators, pairs, pooling, anomaly,
newton, fitting.
"""
