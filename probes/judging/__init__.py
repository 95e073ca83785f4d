"""What a score is worth: splits by entity, controls, the choice of a layer, claims, transfer.

In reading order: splits, controls, model_controls, claims, sweep, transfer.
"""
