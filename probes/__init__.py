"""Floor 1, READ: open a language model, read its activations, fit probes, and say what a score would be without knowledge.

In reading order: errors, artifact, model/ (sites, blocks, inspection, embedded, fingerprint, language_model, hooks), facts/ (templates,
facts, contexts), activations/ (capture), reading/ (metrics, probe, streams, fitting, sweep, controls), plots, page, cli. A wing imports only
wings listed before it, and inside a wing a file only files listed before it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["plots"],
    submod_attrs={
        "activations.capture": ["Activations", "capture"],
        "errors": ["ArtifactError", "BadInput", "BeliefError", "CouldNotRun", "Mismatch", "NotFound", "TooFew"],
        "model.hooks": ["edits", "taps"],
        "model.language_model": ["LanguageModel", "load_model"],
        "model.sites": ["Site"],
    },
)
