"""While the model runs.

In reading order: recorder, streaming, guard.
"""
