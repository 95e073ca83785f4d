"""Floor 2, EXPLAIN and CHANGE: where a fact lives in a model.

In reading order: tasks, explain/, plots. Imports go down to `probes`, never up to `monitors`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["plots"],
    submod_attrs={"explain.patching": ["Patching", "patch"], "tasks": ["Pair", "fact_pair"]},
)
