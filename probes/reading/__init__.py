"""From activations to scores.

In reading order: ranking, metrics, probe, streams, fitting, splits, controls, model_controls, claims, sweep,
transfer.
"""
