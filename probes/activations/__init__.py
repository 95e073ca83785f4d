"""From texts to activations: capture."""
