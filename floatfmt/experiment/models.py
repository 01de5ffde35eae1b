"""Loading a language model: the sample, a directory of Hugging Face, or a hub's id."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
import torch
from huggingface_hub.constants import ENDPOINT
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from .. import interop
from ..checkpoint import CheckpointError, open_checkpoint
from ..data import SAMPLE_MODEL
from ..formats import format
from ..table import printable

__all__ = [
    "ByteTokenizer",
    "LanguageModel",
    "ModelError",
    "Tokenizer",
    "load_model",
    "model_of",
    "quiet",
]

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
TOKENIZERS = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt"),
    *("spiece.model", "sentencepiece.bpe.model", "merges.txt"),
)
#: Context where a model's configuration names none.
CONTEXT = 1024


class ModelError(ValueError):
    """A model cannot be loaded or used; the message is one line for the user."""


class Tokenizer(Protocol):
    """Makes tokens of text, and text of tokens."""

    @property
    def name(self) -> str: ...
    def encode(self, text: str) -> list[int]: ...
    def decode(self, tokens: list[int]) -> str: ...


class ByteTokenizer:
    """A token a byte of UTF-8, as the sample model reads text.

    Examples
    --------
    >>> ByteTokenizer().encode("Hé"), ByteTokenizer().decode([72, 195, 169])
    ([72, 195, 169], 'Hé')
    """

    name = "bytes"
    length: ClassVar = 256

    def encode(self, text: str) -> list[int]:
        """Return the bytes of a text."""
        return list(text.encode(errors="surrogateescape"))  # bytes of a command line as they were

    def decode(self, tokens: list[int]) -> str:
        """Return the text of bytes; those that make no character become U+FFFD."""
        return bytes(tokens).decode(errors="replace")


class _HubTokenizer:
    """A tokenizer of transformers, without the special tokens that it would add."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.name = type(tokenizer).__name__
        self.length = len(tokenizer)

    def encode(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer.encode(text, add_special_tokens=False, verbose=False)
        return found

    def decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens)
        return text


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A model, and what makes tokens for it; made by `load_model`.

    Attributes
    ----------
    name : str
        "the sample model", or what it was loaded from.
    model : transformers.PreTrainedModel
        In fp32, for evaluation.
    tokenizer : Tokenizer
        Has ``encode`` and ``decode``.
    dtype : str
        The format that its weights came in.
    context : int
        The most tokens it takes at once.
    start : int or None
        The token that stands before a text, where the model knows one.
    """

    name: str
    model: Any
    tokenizer: Tokenizer
    dtype: str
    context: int
    start: int | None

    __hash__ = None  # type: ignore[assignment]


def model_of(model: Any) -> Any:
    """Return a model: it itself, or the one of a `LanguageModel`."""
    return model.model if isinstance(model, LanguageModel) else model


def load_model(
    model: str | os.PathLike[str] | None = None, *, tokenizer: str | None = None
) -> LanguageModel:
    """Load a causal language model in fp32.

    Parameters
    ----------
    model : str or os.PathLike, optional
        A directory in Hugging Face's layout, or a hub's id such as "openai-community/gpt2"; by
        default the sample model that ships with floatfmt. A directory that is here goes before an
        id of the same name.
    tokenizer : {None, "bytes"}
        "bytes" reads text byte by byte, as the sample model does always; a model must have 256
        tokens for it. By default the model's own tokenizer.

    Returns
    -------
    LanguageModel

    Raises
    ------
    ModelError
        There is no such model, it is not complete, is no causal language model, has no tokenizer,
        or has a NaN or Inf among its weights (the message names tensor and position). It is a
        ValueError.

    Examples
    --------
    >>> from floatfmt.experiment import load_model
    >>> found = load_model()
    >>> found.name, found.context, found.tokenizer.encode("pi")
    ('the sample model', 256, [112, 105])
    """
    if tokenizer not in (None, "bytes"):
        raise ValueError(f"tokenizer must be None or 'bytes', got {tokenizer!r}")
    if model is not None and not os.fspath(model):
        raise ModelError("the model's name is empty: pass a directory or a hub's id, or nothing")
    where = SAMPLE_MODEL if model is None else os.path.expanduser(model)
    directory = Path(where)
    is_local = directory.is_dir()
    if is_local:
        _check_directory(directory)
    elif directory.exists() or _looks_like_a_path(os.fspath(where)):
        raise ModelError(_no_directory(directory))
    with quiet():
        loaded = _from_pretrained(where, is_local)
    _check_finite(loaded, os.fspath(where))
    dtype = format(next(loaded.parameters()).dtype).name
    is_sample = is_local and directory.resolve() == SAMPLE_MODEL
    return LanguageModel(
        name="the sample model" if model is None else printable(os.fspath(where)),
        model=loaded.float().eval(),
        tokenizer=_tokenizer(where, is_local, loaded, tokenizer == "bytes" or is_sample),
        dtype=dtype,
        context=_context(loaded.config),
        start=loaded.config.bos_token_id,
    )


# --- what is on disk ----------------------------------------------------------------------------


def _looks_like_a_path(where: str) -> bool:
    return where.startswith((".", "/", "~")) or where.count("/") > 1 or os.sep != "/" in where


def _no_directory(path: Path) -> str:
    what = "is a file" if path.is_file() else "is not there"
    return (
        f"{printable(str(path))!r} {what}: pass a directory with config.json, model.safetensors"
        " and tokenizer.json, or a hub's id such as 'openai-community/gpt2'"
    )


def _check_directory(directory: Path) -> None:
    """Refuse a directory that has no model, or part of one, before anything slow is done."""
    shown = printable(str(directory))
    if not (directory / "config.json").is_file():
        raise ModelError(f"{shown!r} has no config.json, which a model directory has")
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it is no JSON object")
    except ValueError as exc:
        raise ModelError(f"{shown}/config.json cannot be read: {exc}") from None
    if not any((directory / name).is_file() for name in WEIGHTS):
        raise ModelError(f"{shown!r} has no weights: {_other_weights(directory)}")
    try:
        with open_checkpoint(directory) as checkpoint:  # headers, lengths and shards
            metadata = checkpoint.metadata
    except CheckpointError as exc:
        raise ModelError(f"{exc}; is the download complete?") from None
    if "floatfmt" in metadata:
        raise ModelError(
            f"{shown!r} is quantised by floatfmt: 'floatfmt dequantize' makes a model of it again"
        )


def _other_weights(directory: Path) -> str:
    parts = sorted(path.name for path in directory.iterdir())
    pickles = [name for name in parts if name.endswith((".bin", ".pt", ".pth"))]
    if pickles:
        return (
            f"{printable(pickles[0])} is a pickle, which can run any code when it is read; convert"
            " it to model.safetensors"
        )
    partial = [name for name in parts if "incomplete" in name or name.endswith(".part")]
    also = f"; {printable(partial[0])} is half a download" if partial else ""
    return f"it needs model.safetensors, or model.safetensors.index.json with its shards{also}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep libraries from drawing bars and telling of what is checked here."""
    bars_of: Any = transformers_logging
    bars = bars_of.is_progress_bar_enabled()
    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    bars_of.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            bars_of.enable_progress_bar()


def _from_pretrained(where: str | os.PathLike[str], is_local: bool) -> Any:
    """Load weights in the format they are in; fp32 comes later, when that format is known."""
    load: Any = AutoModelForCausalLM.from_pretrained
    options = {
        "dtype": "auto",
        "use_safetensors": True,
        "local_files_only": is_local or not _hub_is_there(),  # what was downloaded before
        "ignore_mismatched_sizes": True,  # told of below, in a line
    }
    shown = printable(os.fspath(where))
    try:
        loaded, info = load(where, output_loading_info=True, **options)
    except (OSError, SafetensorError) as exc:
        raise ModelError(_not_loaded(shown, exc, is_local)) from None
    except (ValueError, KeyError, RuntimeError, ImportError) as exc:
        raise ModelError(f"{shown!r} is no causal language model: {_line(exc)}") from None
    mismatched = sorted(info["mismatched_keys"])
    if mismatched:
        name, stored, wanted = mismatched[0]
        raise ModelError(
            f"{shown!r}: {printable(name)} has shape {tuple(stored)}, by config.json it is"
            f" {tuple(wanted)}: they do not belong together"
        )
    missing = sorted(info["missing_keys"])
    if any(name.endswith(".codes") for name in info["unexpected_keys"]):
        raise ModelError(
            f"{shown!r} holds int8 layers: load the original, call quantize_model, and then its"
            " load_state_dict with these tensors"
        )
    if missing:
        raise ModelError(
            f"{shown!r} lacks {len(missing):,} tensors of {type(loaded).__name__}, the first"
            f" {printable(missing[0])!r}: config.json and the weights do not belong together"
        )
    return loaded


def _hub_is_there() -> bool:
    """Return whether the hub's name is known to the network; a proxy may know it, too."""
    if getproxies():
        return True
    try:
        socket.getaddrinfo(urlsplit(ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


def _not_loaded(shown: str, exc: Exception, is_local: bool) -> str:
    if is_local:
        return f"{shown!r} cannot be loaded: {_line(exc)}"
    return (
        f"{shown!r} is no directory here and cannot be had from the hub ({_line(exc)}): download"
        f" config.json, model.safetensors and tokenizer.json of huggingface.co/{shown} into a"
        " directory, and pass that"
    )


def _line(exc: BaseException) -> str:
    """Return the first sentence of a message that may be pages long."""
    text = printable(" ".join(str(exc).split()))
    first = text.split(". ")[0].removesuffix(".")
    return first if len(first) <= 200 else f"{first[:199]}…"


def _check_finite(model: Any, where: str) -> None:
    for name, tensor in model.named_parameters():
        if not torch.isfinite(tensor).all():
            values = interop.to_numpy(tensor.detach().float())
            position, value = interop.first_where(values, lambda v: ~np.isfinite(v), name)
            raise ModelError(
                f"{printable(where)}: {position} is {value}; weights have to be finite"
            )


def _tokenizer(
    where: str | os.PathLike[str], is_local: bool, model: Any, in_bytes: bool
) -> Tokenizer:
    tokens = model.config.vocab_size
    if in_bytes:
        if tokens != ByteTokenizer.length:
            raise ModelError(f"a model read byte by byte has 256 tokens, this one has {tokens:,}")
        return ByteTokenizer()
    shown = printable(os.fspath(where))
    if is_local and not any((Path(where) / name).is_file() for name in TOKENIZERS):
        hint = "; if its tokens are bytes, say so: --tokenizer bytes" if tokens == 256 else ""
        raise ModelError(f"{shown!r} has no tokenizer: put tokenizer.json beside the weights{hint}")
    load: Any = AutoTokenizer.from_pretrained
    try:
        with quiet():
            offline = is_local or not _hub_is_there()
            found = _HubTokenizer(load(where, local_files_only=offline))
    except Exception as exc:  # tokenizers raises Exception itself
        raise ModelError(f"the tokenizer of {shown!r} cannot be loaded: {_line(exc)}") from None
    if found.length > tokens:
        raise ModelError(
            f"the tokenizer of {shown!r} has {found.length:,} tokens, the model {tokens:,}: they do"
            " not belong together"
        )
    return found


def _context(config: Any) -> int:
    for name in ("n_positions", "max_position_embeddings", "n_ctx", "max_seq_len"):
        length = getattr(config, name, None)
        if isinstance(length, int) and length > 0:
            return length
    return CONTEXT
