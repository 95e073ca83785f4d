"""A model and where to touch it.

In reading order: sites, blocks, inspection, generation, embedded, matching, fingerprint, language_model, hooks.
"""
