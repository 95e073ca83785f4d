"""From texts to activations.

In reading order: tokens, packing, capture, corpus, shards, stored, store, responses.
"""
