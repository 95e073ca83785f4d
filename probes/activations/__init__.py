"""From texts to activations.

In reading order: capture, responses.
"""
