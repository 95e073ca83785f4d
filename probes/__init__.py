"""Floor 1, READ: open a language model, read its activations, fit probes, and say what a score would be without
knowledge.

In reading order: errors, strict_json, artifact_format, artifact, model/, facts/, activations/, reading/, judging/,
parity/, steering/, knowing/, zoo/, look, strips, plots/, page, probing, steered, report, known, cli. A wing imports
only wings listed before it, and inside a wing a file only files listed before it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["plots"],
    submod_attrs={
        "activations.capture": ["Activations", "capture", "concatenate"],
        "activations.cost": ["Cost", "estimate_cost"],
        "activations.likelihood": ["Likelihoods", "log_likelihoods"],
        "activations.responses": ["capture_responses"],
        "activations.store": ["store"],
        "activations.stored": ["Store"],
        "errors": [
            "ArtifactError",
            "BadInput",
            "BeliefError",
            "CouldNotRun",
            "Inconclusive",
            "Mismatch",
            "NotFound",
            "TooFew",
        ],
        "facts.contexts": ["Context", "Contexts", "contexts"],
        "facts.facts": ["Fact", "Statement", "Topic", "load_topic", "topics"],
        "facts.statements": ["LabelledText", "LabelledTexts", "load_statements"],
        "judging.claims": ["Claim", "Claims", "claims"],
        "judging.model_controls": ["controls"],
        "judging.sweep": ["Sweep", "sweep", "transfer"],
        "judging.transfer": ["Transfer", "transfer_matrix"],
        "knowing.betting": ["Rule", "bet"],
        "knowing.elicit": ["Elicited", "elicit"],
        "knowing.knowledge": ["Knowing", "Knowledge", "know", "self_topic"],
        "knowing.puzzles": ["Puzzle", "PuzzleMaker"],
        "knowing.using": ["Task"],
        "model.hooks": ["edits", "taps"],
        "model.language_model": ["LanguageModel", "load_model"],
        "model.sites": ["Site"],
        "parity.doctor": ["doctor"],
        "probing": ["Probing", "open_source", "probe_truth"],
        "reading.anomaly": [
            "AnomalyProbe",
            "Mahalanobis",
            "QuantumEntropy",
            "RelativeMahalanobis",
            "fit_mahalanobis",
            "fit_quantum_entropy",
            "fit_relative_mahalanobis",
        ],
        "reading.estimators": ["MassMean", "ReadingVector", "TTPD", "fit_sklearn"],
        "reading.fitting": ["Grid", "fit_grid"],
        "reading.metrics": ["Estimate", "auroc"],
        "reading.pairs": ["fit_ccs"],
        "reading.pooling": ["AttentionProbe", "by_text", "fit_attention_pooling"],
        "reading.probe": ["LinearProbe"],
        "reading.statistics": ["Statistic", "parse_statistic"],
        "reading.streams": ["Stream", "read"],
        "steered": ["Steered", "prove"],
        "steering.contrasts": ["Contrast", "fact_contrasts", "fact_uses", "fact_vector", "truth_contrasts"],
        "steering.orthogonal": ["orthogonalise"],
        "steering.receipt": ["receipt"],
        "steering.vectors": ["SteeringVector", "ablate", "steer"],
        "zoo.confusion": ["Confusion", "confusion"],
        "zoo.models": ["build_zoo"],
        "zoo.planted": ["Planted", "load_planted"],
    },
)
