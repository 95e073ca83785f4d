"""A model and where to touch it: sites, blocks, inspection, embedded, fingerprint, language_model, hooks."""
