"""LanguageModel: a decoder, its tokenizer, and where its blocks are.

`load_model` takes a folder, a hub id, the name of an embedded model, a ready Hugging Face model, or a TransformerLens
bridge, and gives all of them the same handful of attributes. Weights are read from safetensors only, and code that
comes with a checkpoint is never run.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import StoppingCriteria, StoppingCriteriaList

from probes.errors import BadInput, CouldNotRun, NotFound, nearest
from probes.model import embedded
from probes.model.blocks import Block, find_blocks, is_bridge, places_on_bridge
from probes.model.fingerprint import fingerprint
from probes.model.generation import check_generation, generation_settings
from probes.model.inspection import measure_inner, measure_packing
from probes.model.sites import Site, select_sites

__all__ = ["Chat", "LanguageModel", "load_model", "system_of"]

Chat = Sequence[Mapping[str, str]]
"""Chat messages as tokenizers take them: `[{"role": "user", "content": "..."}]`."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A decoder with its tokenizer; made by `load_model`."""

    module: nn.Module
    """The Hugging Face model, in eval mode. For a bridge, the model inside it."""
    tokenizer: Any
    """Its tokenizer."""
    name: str
    """What it was loaded from, for people to read."""
    blocks: tuple[Block, ...]
    """The blocks in forward order."""
    bridge: Any = None
    """The TransformerLens bridge that the model came in, if it did."""

    def __repr__(self) -> str:
        return (
            f"LanguageModel({self.name!r}, {self.n_layers} layers, d_model {self.d_model}, {self.dtype}, {self.device})"
        )

    @property
    def config(self) -> Any:
        return self.module.config.get_text_config()

    @property
    def n_layers(self) -> int:
        return len(self.blocks)

    @property
    def d_model(self) -> int:
        return self.config.hidden_size

    @property
    def context(self) -> int | None:
        """The most tokens the model can read, or None where it does not say."""
        return getattr(self.config, "max_position_embeddings", None)

    @property
    def device(self) -> torch.device:
        """Where token ids go: the device of the embedding."""
        return self.module.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.module.get_input_embeddings().weight.dtype

    @property
    def pad(self) -> int:
        """The token id that fills up rows; it is always masked."""
        return next((i for i in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id) if i is not None), 0)

    @property
    def body(self) -> nn.Module:
        """The decoder without its vocabulary matrix."""
        return self.module.base_model

    @property
    def fingerprint(self) -> dict[str, str]:
        """What this model is, part by part, as of now: computed anew at each look, since weights can be trained."""
        if self.bridge is not None:
            raise CouldNotRun(
                "a model inside a TransformerLens bridge has no fingerprint: the bridge renames its parts; "
                "load the checkpoint plainly to save or match a probe"
            )
        return fingerprint(self.module, self.tokenizer, [block.module for block in self.blocks])

    def sites(self, pattern: str | Site | Iterable[str | Site] = "resid_post.*") -> tuple[Site, ...]:
        """Return the sites that a pattern names, in forward order."""
        return select_sites(pattern, self.n_layers)

    @staticmethod
    def awaits_answer(chat: Chat) -> bool:
        """Whether a chat is rendered up to where the answer starts: unless it ends with the assistant's message."""
        return chat[-1].get("role") != "assistant"

    def encode(self, text: str | Chat) -> list[int]:
        """Return token ids: of a text as the tokenizer begins one, of chat messages up to where the answer starts.

        A chat that ends with the assistant's message is a whole conversation, and is encoded as that.

        Raises:
            BadInput: no tokens at all, more than the model can read, or messages without a chat template.
        """
        if isinstance(text, str):
            ids = self.tokenizer(text)["input_ids"]
        elif isinstance(text, Sequence) and text and all(isinstance(message, Mapping) for message in text):
            if not getattr(self.tokenizer, "chat_template", None):
                raise BadInput(f"{self.name} has no chat template; give plain text instead of chat messages")
            ids = self.tokenizer.apply_chat_template(
                list(text), add_generation_prompt=self.awaits_answer(text), return_dict=True
            )["input_ids"]
        else:
            hint = "; one chat among several prompts is a list of its messages" if isinstance(text, Mapping) else ""
            raise BadInput(f"a {type(text).__name__} is neither a text nor a list of chat messages{hint}")
        if not ids:
            raise BadInput("the text has no tokens; give at least one")
        if self.context is not None and len(ids) > self.context:
            raise BadInput(f"the text has {len(ids)} tokens; {self.name} reads at most {self.context}: shorten it")
        return list(ids)

    def collate(self, rows: Sequence[Sequence[int]], side: str = "right") -> dict[str, torch.Tensor]:
        """Return `input_ids` and `attention_mask`, both `Int["batch position"]`, padded on one side."""
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.pad, dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for i, row in enumerate(rows):
            at = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
            ids[i, at] = torch.tensor(row, dtype=torch.long)
            mask[i, at] = 1
        return {"input_ids": ids.to(self.device), "attention_mask": mask.to(self.device)}

    def inputs(self, prompts: Sequence[str | Chat]) -> dict[str, torch.Tensor]:
        """Return a left-padded batch, ready for `generate`."""
        if isinstance(prompts, str | Mapping) or not prompts:
            raise BadInput("give a list with at least one prompt; a chat is a list of messages, so [chat]")
        if all(isinstance(prompt, Mapping) for prompt in prompts):
            raise BadInput("this is one chat; give a list of chats: [chat]")
        for i, prompt in enumerate(prompts):
            if not isinstance(prompt, str) and prompt and not self.awaits_answer(prompt):
                raise BadInput(
                    f"prompt {i} ends with the assistant's message: there is nothing to answer; take it away"
                )
        return self.collate([self.encode(prompt) for prompt in prompts], side="left")

    def generate(self, prompt: str | Chat, *, max_new_tokens: int = 40, **options: Any) -> str:
        """Return the continuation of one prompt, greedy unless told otherwise (see `generation.OPTIONS`)."""
        batch = self.inputs([prompt])
        sequences = self.generate_ids(batch, max_new_tokens=max_new_tokens, **options)
        return self.tokenizer.decode(sequences[0, batch["input_ids"].shape[1] :], skip_special_tokens=True)

    @torch.no_grad()
    def generate_ids(
        self, batch: Mapping[str, torch.Tensor], *, stopping: Sequence[StoppingCriteria] = (), **options: Any
    ) -> torch.Tensor:
        """Return prompts and responses, `Int["batch position"]`, each token of a row decided by one forward pass.

        Args:
            batch: from `inputs`.
            stopping: criteria of our own that look at each token.
            options: some of transformers' (see `generation.OPTIONS`), `max_new_tokens` among them; greedy by default.

        Raises:
            BadInput: an option or a batch under which tokens cannot be told apart (see `generation.check_generation`).
        """
        self.check_generation(batch, options)
        options = {"do_sample": False, "pad_token_id": self.pad, **options}
        options["return_dict_in_generate"] = False
        return self.module.generate(**batch, stopping_criteria=StoppingCriteriaList(stopping), **options)

    def generation_settings(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return how tokens would be chosen under some options (see `generation.generation_settings`)."""
        return generation_settings(self.module, options)

    def check_generation(self, batch: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> None:
        """Refuse what `generate_ids` would refuse, without running it."""
        check_generation(self.module, batch, options, self.context)

    def response_length(
        self, ids: Sequence[int], *, eos_token_id: int | Sequence[int] | None = None, **_: Any
    ) -> tuple[int, bool]:
        """Return how many of the generated ids belong to the response, and whether it came to its own end.

        The end token belongs to it, what stands behind is padding.
        """
        ends = self.module.generation_config.eos_token_id if eos_token_id is None else eos_token_id
        ends = {ends} if isinstance(ends, int) else set(ends or ())
        return next(((i + 1, True) for i, token in enumerate(ids) if token in ends), (len(ids), False))

    def words(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Return the text that each token adds to those before it: joined, they are the text.

        Decoding tokens one by one would lose the spaces of SentencePiece tokenizers and letters of several tokens.
        """
        words, done = [], 0
        for i in range(1, len(ids) + 1):
            text = self.tokenizer.decode(ids[:i], clean_up_tokenization_spaces=False)
            if text.endswith("\ufffd") and i < len(ids):  # half a letter: it belongs to the token that completes it
                words.append("")
                continue
            words.append(text[done:])
            done = len(text)
        return tuple(words)

    def check(self, site: Site) -> None:
        """Refuse a site that this architecture does not define.

        Raises:
            BadInput: the residual stream is not a plain sum here, or attention and MLP run side by side.
        """
        gap, parallel = (
            self._sums
        )  # measured at the first look, whatever the site: later, an open edit would falsify it
        kind = type(self.module).__name__
        if site.name in ("resid_pre", "resid_post"):
            return
        if not gap <= (1e-3 if self.dtype == torch.float32 else 3e-2):
            raise BadInput(
                f"{site} is not defined for {kind}: resid_pre + attn_out + mlp_out misses resid_post by {gap:.2g} "
                "of its norm, so what its sublayers put out is not what they add; use resid_pre or resid_post"
            )
        if site.name == "resid_mid" and parallel:
            raise BadInput(
                f"{site} is not defined for {kind}: attention and MLP run side by side; use resid_pre or resid_post"
            )

    @property
    def hooked(self) -> bool:
        """Whether somebody's hooks are on the decoder; those that transformers leaves there do not count."""
        return any(
            not (getattr(hook, "__module__", None) or "").startswith("transformers.")
            for module in self.body.modules()
            for hooks in (module._forward_pre_hooks, module._forward_hooks)
            for hook in hooks.values()
        )

    @cached_property
    def packs(self) -> bool:
        """Whether texts can share their beginnings in one pass: each token with a mask and a position of its own.

        Measured at the first look, which must not be under an open edit.
        """
        if self.bridge is not None:
            return False
        ids = [(7 * i + 3) % self.config.vocab_size for i in range(8)]
        gap = measure_packing(self.body, self.blocks, ids, self.dtype)
        return gap <= (1e-5 if self.dtype == torch.float32 else 3e-2)

    @cached_property
    def _sums(self) -> tuple[float, bool]:
        ids = torch.tensor([[(7 * i + 3) % self.config.vocab_size for i in range(4)]], device=self.device)
        return measure_inner(self.body, self.blocks, ids)


def system_of(prompt: str | Chat) -> str:
    """Return the system prompt of a chat; nothing where there is none."""
    first = {} if isinstance(prompt, str) else prompt[0]
    return str(first.get("content", "")) if first.get("role") == "system" else ""


def load_model(
    source: Any,
    *,
    tokenizer: Any = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
) -> LanguageModel:
    """Open a language model.

    Args:
        source: a folder, a hub id ("HuggingFaceTB/SmolLM2-135M-Instruct"), the name of an embedded model
            ("smollm2-135m"; fetch it once with `belief fetch`), a Hugging Face causal language model, or a
            TransformerLens bridge.
        tokenizer: needed with a ready Hugging Face model; taken in place of the bridge's own, if given.
        device: "auto" takes CUDA or MPS where there is one; a ready model stays where it is.
        dtype: "float32", "bfloat16", "float16"; None keeps what is stored.
        revision: branch, tag or commit of a hub id.

    Raises:
        NotFound: no such model. CouldNotRun: it cannot be read. BadInput: its blocks cannot be found.
    """
    if is_bridge(source):
        return LanguageModel(
            module=source.original_model.eval(),
            tokenizer=tokenizer or source.tokenizer,
            name="TransformerLens bridge",
            blocks=places_on_bridge(source),
            bridge=source,
        )
    if isinstance(source, nn.Module):
        if tokenizer is None:
            raise BadInput(
                f"a ready {type(source).__name__} needs its tokenizer: load_model(model, tokenizer=tokenizer)"
            )
        return _wrap(
            source.eval(),
            tokenizer,
            getattr(getattr(source, "config", None), "name_or_path", "") or type(source).__name__,
        )
    if not isinstance(source, str | os.PathLike):
        raise BadInput(
            f"cannot load a model from a {type(source).__name__}; "
            "give a folder, a hub id, a model with tokenizer=, or a bridge"
        )
    module, found = _read(str(source), device=_device(device), dtype=_dtype(dtype), revision=revision)
    return _wrap(module, tokenizer or found, str(source))


def _wrap(module: nn.Module, tokenizer: Any, name: str) -> LanguageModel:
    if any(parameter.is_meta for parameter in module.parameters()):
        raise BadInput(f"{name} holds meta tensors, which have no values; load its weights first")
    config = getattr(module, "config", None)
    if config is None or not hasattr(config.get_text_config(), "num_hidden_layers"):
        raise BadInput(
            f"{name} has no configuration with num_hidden_layers, so its blocks cannot be found; "
            "give a Hugging Face decoder"
        )
    return LanguageModel(module, tokenizer, name, find_blocks(module, config.get_text_config().num_hidden_layers))


def _read(source: str, *, device: torch.device, dtype: Any, revision: str | None) -> tuple[nn.Module, Any]:
    path = embedded.folder(source) if source in embedded.MODELS else Path(source).expanduser()
    hub = not path.is_dir()
    if hub and not _looks_like_hub_id(source):
        raise NotFound(
            f"no model {source!r}: it is no folder, no hub id (owner/name) and no embedded model; "
            f"{nearest(source, embedded.MODELS)}"
        )
    if not hub and not (path / "config.json").is_file():
        raise NotFound(f"{path} holds no model: config.json is missing; give a folder written by save_pretrained")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"revision": revision, "trust_remote_code": False}
    where = source if hub else str(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
        module = AutoModelForCausalLM.from_pretrained(where, dtype=dtype, use_safetensors=True, **options).to(device)
    except (AssertionError, OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CouldNotRun(f"cannot open {source}: {' '.join(str(error).split())[:300]}") from error
    return module.eval(), tokenizer


def _looks_like_hub_id(source: str) -> bool:
    return source.count("/") == 1 and not source.startswith((".", "/", "~")) and not source.endswith("/")


def _device(device: str | torch.device) -> torch.device:
    if device != "auto":
        try:
            return torch.device(device)
        except RuntimeError as error:
            raise BadInput(f"{device!r} is no device; give 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'") from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _dtype(dtype: str | torch.dtype | None) -> Any:
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype or "auto"
    if dtype not in DTYPES:
        raise BadInput(f"{dtype!r} is no dtype; {nearest(dtype, DTYPES)}")
    return DTYPES[dtype]
