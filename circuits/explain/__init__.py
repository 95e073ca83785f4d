"""Why the model does it.

In reading order: patching.
"""
