"""From texts to activations.

In reading order: tokens, packing, capture, cost, corpus, shards, stored, store, responses, likelihood.
"""
