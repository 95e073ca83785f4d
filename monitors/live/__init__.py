"""While the model runs.

In reading order: recorder, guard.
"""
