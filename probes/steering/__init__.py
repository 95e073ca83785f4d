"""From a direction to what it does to the model.

In reading order: places, vectors, orthogonal, contrasts, randomness, cost, receipt.
"""
