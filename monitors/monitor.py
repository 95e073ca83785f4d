"""Monitor: probes, what is done with their scores, and the threshold that says alarm; one frozen thing, saved as one
folder.

The score of a token is the largest over the probes; running statistics of the scores are compared with the limits of
the threshold, and an alarm is where one of them is strictly above its own. The certified rate is the Monitor's: the
probability that it alarms on one benign response.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from monitors.threshold import Threshold
from probes.artifact import read_artifact, require, write_artifact
from probes.errors import ArtifactError, BadInput
from probes.model.fingerprint import match
from probes.model.language_model import LanguageModel
from probes.model.sites import Site
from probes.reading.probe import LinearProbe

__all__ = ["Monitor"]

SCOPES = ("response",)


@dataclass(frozen=True, eq=False)
class Monitor:
    """What to read, and when to call it an alarm."""

    concept: str
    """What an alarm means, for people to read: "in use: France|capital|Paris"."""
    probes: tuple[LinearProbe, ...]
    """At least one, all fitted on the same model."""
    threshold: Threshold
    """With its certificate."""
    scope: str = "response"
    """Which tokens are scored: those of the response, each where it was decided."""

    def __post_init__(self) -> None:
        if not self.probes:
            raise BadInput("a monitor needs at least one probe")
        if self.scope not in SCOPES:
            raise BadInput(f"scope {self.scope!r} is none of {', '.join(SCOPES)}")
        if any(dict(probe.fingerprint) != dict(self.probes[0].fingerprint) for probe in self.probes):
            raise BadInput("the probes of a monitor come from different models; fit them on one")

    def __repr__(self) -> str:
        sites = ", ".join(str(probe.site) for probe in self.probes)
        return f"Monitor({self.concept!r}, {sites}, alarm where {self.threshold.crossed})"

    @property
    def sites(self) -> tuple[Site, ...]:
        return tuple(sorted({probe.site for probe in self.probes}))

    def match(self, model: LanguageModel, allow: Collection[str] = ()) -> tuple[str, ...]:
        """Refuse a model other than the one the probes were fitted on.

        Args:
            model: the model to be watched.
            allow: parts that may differ: "config", "weights", "tokenizer", "template", "dtype".

        Returns:
            The parts that differ and were allowed to: the certificate does not speak for such a model.

        Raises:
            Mismatch: names the parts that differ.
        """
        return match(self.probes[0].fingerprint, model.fingerprint, allow)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the monitor as one folder.

        Raises:
            BadInput: the folder exists. CouldNotRun: it cannot be written.
        """
        body = {
            "concept": self.concept,
            "scope": self.scope,
            "threshold": self.threshold.to_dict(),
            "probes": [probe.to_body() for probe in self.probes],
        }
        tensors = {f"weight.{i}": probe.weight for i, probe in enumerate(self.probes)}
        write_artifact(folder, "monitor", body, tensors, overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | Path) -> "Monitor":
        """Read a folder written by `save`; needs no model.

        Raises:
            ArtifactError: the folder is no monitor, or it is damaged.
        """
        artifact = read_artifact(folder, "monitor")
        body = require(artifact.manifest, {"concept": str, "scope": str, "threshold": dict, "probes": list})
        names = [f"weight.{i}" for i in range(len(body["probes"]))]
        if set(artifact.tensors) != set(names):
            raise ArtifactError(
                f"{folder}: its tensors are {sorted(artifact.tensors)}, not one weight for each of its probes"
            )
        try:
            probes = tuple(
                LinearProbe.from_body(entry, artifact.tensors[name], where=str(folder))
                for name, entry in zip(names, body["probes"], strict=True)
            )
            return cls(body["concept"], probes, Threshold.from_dict(body["threshold"]), body["scope"])
        except (BadInput, LookupError) as error:
            raise ArtifactError(f"{folder}: {error}") from error
