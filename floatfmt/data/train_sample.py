"""Train and evaluate the sample model: a byte-level GPT-2 on CPython's own documentation.

The training text is what every CPython installation carries: the topics of
``pydoc_data.topics`` and the docstrings of the standard library, read with :mod:`ast` without
importing anything. A fixed list of topics (:data:`HELDOUT_TOPICS`) is held out by name;
training paragraphs that repeat held-out text are dropped. The held-out text is only ever
scored and printed: the weights saved are those of the last step.

::

    python -m floatfmt.data.train_sample --output DIR              # train, fixed steps and seed
    python -m floatfmt.data.train_sample --evaluate                # score the model shipped
    python -m floatfmt.data.train_sample --evaluate --output DIR   # score another one

Only training and evaluation need ``torch`` and ``transformers``; the corpus functions need
nothing outside the standard library.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import math
import platform
import re
import sysconfig
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from floatfmt.data import SAMPLE_MODEL

if TYPE_CHECKING:
    import torch

__all__ = [
    "HELDOUT_TOPICS",
    "Recipe",
    "bits_per_byte",
    "generate",
    "heldout_text",
    "heldout_topics",
    "load_model",
    "main",
    "stdlib_docstrings",
    "train",
    "training_documents",
    "training_text",
    "training_topics",
]

HELDOUT_TOPICS: tuple[str, ...] = (
    "augassign",
    "booleans",
    "context-managers",
    "execmodel",
    "global",
    "import",
    "lambda",
    "typesmapping",
    "typesmethods",
    "while",
)
"""Topics of ``pydoc_data.topics`` never trained on; all exist in CPython 3.10 to 3.13."""

SKIPPED_DIRECTORIES = frozenset(
    {
        "__pycache__",
        "dist-packages",
        "ensurepip",
        "idle_test",
        "idlelib",
        "lib-dynload",
        "lib2to3",
        "pydoc_data",
        "site-packages",
        "test",
        "tests",
        "turtledemo",
    }
)
"""Directory names of the standard library whose docstrings are not read."""

END_OF_TEXT = 0
"""The byte between documents; it occurs in none of them."""

SHINGLE_WORDS = 8
"""A training paragraph that shares this many consecutive words with held-out text is dropped."""

VOCAB_SIZE = 256
CONTEXT_LENGTH = 256
PROMPTS = (b"The following ", b"The following ", b"Return the ")


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of the training run; the defaults are those of the model shipped."""

    steps: int = 7000
    batch_size: int = 16
    learning_rate: float = 2e-3
    final_learning_rate: float = 1e-5
    warmup_steps: int = 200
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    dropout: float = 0.1
    n_embd: int = 192
    n_layer: int = 4
    n_head: int = 6
    seed: int = 20240229
    threads: int = 2
    report_every: int = 250


# --- corpus --------------------------------------------------------------------------------


def _all_topics() -> dict[str, str]:
    """Return every pydoc topic of the running CPython, sorted by name."""
    from pydoc_data.topics import topics

    return dict(sorted(topics.items()))


def heldout_topics() -> dict[str, str]:
    """Return the held-out topics, name to text, in the order of :data:`HELDOUT_TOPICS`."""
    topics = _all_topics()
    missing = [name for name in HELDOUT_TOPICS if name not in topics]
    if missing:
        raise LookupError(f"pydoc_data.topics of this Python lacks {', '.join(missing)}")
    return {name: topics[name] for name in HELDOUT_TOPICS}


def heldout_text() -> bytes:
    """Return the held-out topics as one byte string, joined by the end-of-text byte."""
    return _join(heldout_topics().values())


def training_topics() -> dict[str, str]:
    """Return the topics that may be trained on (not yet cleared of held-out paragraphs)."""
    return {name: text for name, text in _all_topics().items() if name not in HELDOUT_TOPICS}


def stdlib_sources(root: Path | None = None) -> list[Path]:
    """Return the standard library's ``.py`` files in sorted order, without tests and the like."""
    base = Path(sysconfig.get_path("stdlib")) if root is None else root
    paths = {path.relative_to(base).as_posix(): path for path in base.rglob("*.py")}
    return [
        path
        for name, path in sorted(paths.items())
        if SKIPPED_DIRECTORIES.isdisjoint(name.split("/")[:-1])
    ]


def _docstrings(source: bytes) -> Iterator[str]:
    """Yield the docstrings of one module, outermost first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes and the like in the source parsed
        tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node)
            if docstring:
                yield docstring


def stdlib_docstrings(root: Path | None = None) -> list[str]:
    """Return the English docstrings of the standard library, each once, in source order."""
    found: dict[str, None] = {}
    for path in stdlib_sources(root):
        try:
            found.update(dict.fromkeys(_docstrings(path.read_bytes())))
        except SyntaxError:  # a template or a deliberately broken file
            continue
    return [docstring for docstring in found if _is_english(docstring)]


def _is_english(text: str) -> bool:
    """Say whether ``text`` is mostly ASCII, has several words and is mainly made of letters."""
    ascii_share = sum(char.isascii() for char in text) / len(text)
    letter_share = sum(char.isalpha() or char.isspace() for char in text) / len(text)
    return ascii_share >= 0.98 and letter_share >= 0.6 and len(_words(text)) >= 3


def _paragraphs(text: str) -> list[str]:
    """Split ``text`` at blank lines; indentation stays, trailing white space goes."""
    lines = "\n".join(line.rstrip() for line in text.expandtabs().splitlines())
    return [part for part in re.split(r"\n{2,}", lines) if part.strip()]


def _words(text: str) -> list[str]:
    """Return the lower-case words of ``text``, so that layout and punctuation do not matter."""
    return re.findall(r"\w+", text.lower())


def _shingles(words: Sequence[str]) -> Iterator[str]:
    """Yield every run of :data:`SHINGLE_WORDS` consecutive words."""
    for start in range(len(words) - SHINGLE_WORDS + 1):
        yield " ".join(words[start : start + SHINGLE_WORDS])


class _ParagraphFilter:
    """Passes paragraphs that repeat neither held-out text nor, if long, one passed before."""

    def __init__(self, heldout: Sequence[str]) -> None:
        words = [_words(text) for text in heldout]
        self._heldout = f" {' | '.join(' '.join(part) for part in words)} "
        self._shingles = {shingle for part in words for shingle in _shingles(part)}
        self._seen: set[str] = set()

    def __call__(self, paragraph: str) -> bool:
        """Say whether to keep ``paragraph``."""
        words = _words(paragraph)
        key = " ".join(words)
        if len(words) < SHINGLE_WORDS:
            return f" {key} " not in self._heldout
        if key in self._seen or not self._shingles.isdisjoint(_shingles(words)):
            return False
        self._seen.add(key)
        return True


def training_documents() -> list[str]:
    """Return the training documents: topics, then docstrings, cleared of held-out text."""
    keep = _ParagraphFilter(list(heldout_topics().values()))
    documents: list[str] = []
    for text in [*training_topics().values(), *stdlib_docstrings()]:
        kept = "\n\n".join(filter(keep, _paragraphs(text)))
        if kept:
            documents.append(kept)
    return documents


def training_text() -> bytes:
    """Return the training documents as one byte string, joined by the end-of-text byte."""
    return _join(training_documents())


def _join(documents: Iterable[str]) -> bytes:
    """Encode ``documents`` as UTF-8 and join them by the end-of-text byte."""
    return bytes([END_OF_TEXT]).join(
        "\n\n".join(_paragraphs(text)).encode("utf-8") for text in documents
    )


# --- training ------------------------------------------------------------------------------


def build_model(recipe: Recipe) -> Any:
    """Return a freshly initialised GPT-2 (``transformers.GPT2LMHeadModel``) over bytes."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(recipe.seed)
    config = GPT2Config(
        vocab_size=VOCAB_SIZE,
        n_positions=CONTEXT_LENGTH,
        n_embd=recipe.n_embd,
        n_layer=recipe.n_layer,
        n_head=recipe.n_head,
        activation_function="gelu_pytorch_tanh",  # gelu_new in one fused kernel
        embd_pdrop=recipe.dropout,
        resid_pdrop=recipe.dropout,
        attn_pdrop=0.0,
        bos_token_id=END_OF_TEXT,
        eos_token_id=END_OF_TEXT,
    )
    return GPT2LMHeadModel(config)


def build_optimizer(model: Any, recipe: Recipe) -> torch.optim.AdamW:
    """Return AdamW with weight decay on the matrices only, not on biases and LayerNorm."""
    import torch

    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True)


def learning_rate(step: int, recipe: Recipe) -> float:
    """Return the learning rate of ``step``: linear warm-up, then cosine decay."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    progress = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    return recipe.final_learning_rate + cosine * (recipe.learning_rate - recipe.final_learning_rate)


def as_tokens(text: bytes) -> torch.Tensor:
    """Return the bytes of ``text`` as an int64 tensor of token ids."""
    import torch

    return torch.frombuffer(bytearray(text), dtype=torch.uint8).long()


def sample_batch(
    tokens: torch.Tensor, recipe: Recipe, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs and next-byte targets of random windows of ``tokens``."""
    import torch

    offsets = torch.randint(
        len(tokens) - CONTEXT_LENGTH, (recipe.batch_size, 1), generator=generator
    )
    windows = tokens[offsets + torch.arange(CONTEXT_LENGTH + 1)]
    return windows[:, :-1], windows[:, 1:]


def train_step(
    model: Any,
    optimizer: torch.optim.Optimizer,
    batch: tuple[torch.Tensor, torch.Tensor],
    rate: float,
    clip_norm: float,
) -> float:
    """Make one optimiser step (bf16 autocast, fp32 weights); return the loss in nats per byte."""
    import torch

    inputs, targets = batch
    for group in optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=inputs, use_cache=False).logits
    loss: Any = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    return float(loss.item())


def steps_for(minutes: float, tokens: torch.Tensor, recipe: Recipe) -> int:
    """Return how many steps fit into ``minutes``, by timing a throw-away model."""
    import torch

    model = build_model(recipe).train()
    optimizer = build_optimizer(model, recipe)
    generator = torch.Generator().manual_seed(recipe.seed)
    seconds = []
    for step in range(15):
        started = time.perf_counter()
        batch = sample_batch(tokens, recipe, generator)
        train_step(model, optimizer, batch, learning_rate(step, recipe), recipe.clip_norm)
        seconds.append(time.perf_counter() - started)
    return max(1, int(60.0 * minutes / sorted(seconds)[len(seconds) // 2]))


def train(recipe: Recipe, tokens: torch.Tensor, heldout: bytes) -> Any:
    """Train a new model on ``tokens`` and return it; Ctrl-C ends training early.

    ``heldout`` is scored for the progress line and influences nothing.
    """
    import torch

    model = build_model(recipe).train()
    optimizer = build_optimizer(model, recipe)
    generator = torch.Generator().manual_seed(recipe.seed)
    started = time.perf_counter()
    losses: list[float] = []
    try:
        for step in range(recipe.steps):
            batch = sample_batch(tokens, recipe, generator)
            rate = learning_rate(step, recipe)
            losses.append(train_step(model, optimizer, batch, rate, recipe.clip_norm))
            done = step + 1
            if done % recipe.report_every == 0 or done == recipe.steps:
                score = bits_per_byte(model, heldout, stride=CONTEXT_LENGTH)
                elapsed = time.perf_counter() - started
                left = elapsed / done * (recipe.steps - done)
                print(
                    f"step {done}/{recipe.steps}  loss {sum(losses) / len(losses):.4f} nats/byte"
                    f"  held-out {score:.4f} bits/byte (stride {CONTEXT_LENGTH})"
                    f"  lr {rate:.2e}  elapsed {elapsed / 60:.1f} min  left {left / 60:.1f} min",
                    flush=True,
                )
                losses.clear()
    except KeyboardInterrupt:
        print("interrupted: keeping the weights trained so far", flush=True)
    print(f"trained for {(time.perf_counter() - started) / 60:.1f} minutes", flush=True)
    return model.eval()


# --- evaluation ----------------------------------------------------------------------------


def load_model(directory: Path) -> Any:
    """Load a saved model for evaluation, in fp32 and without dropout."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    disable_progress_bar: Any = logging.disable_progress_bar
    disable_progress_bar()
    model: Any = AutoModelForCausalLM.from_pretrained(directory)
    return model.float().eval()


def bits_per_byte(model: Any, text: bytes, stride: int = CONTEXT_LENGTH // 2) -> float:
    """Return the cross-entropy of ``model`` on ``text`` in bits per byte.

    Every byte of ``text`` is scored exactly once, in windows of the full context length that
    advance by ``stride``: each byte has at least ``CONTEXT_LENGTH - stride`` bytes of context,
    except at the start, where the end-of-text byte stands before the first one.
    """
    import torch

    if not text:
        raise ValueError("no text to score")
    if not 1 <= stride <= CONTEXT_LENGTH:
        raise ValueError(f"stride must be in 1..{CONTEXT_LENGTH}, not {stride}")
    tokens = as_tokens(bytes([END_OF_TEXT]) + text)
    length = min(CONTEXT_LENGTH, len(text))
    starts = [*range(0, len(text) - length, stride), len(text) - length]
    scored = 0
    nats = 0.0
    training = model.training
    model.eval()
    with torch.inference_mode():
        for group in (starts[i : i + 32] for i in range(0, len(starts), 32)):
            windows = torch.stack([tokens[start : start + length + 1] for start in group])
            logits = model(input_ids=windows[:, :-1], use_cache=False).logits.float()
            losses = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), windows[:, 1:], reduction="none"
            ).double()
            for start, row in zip(group, losses, strict=True):
                nats += row[scored - start :].sum().item()
                scored = start + length
    model.train(training)
    return nats / scored / math.log(2.0)


def generate(
    model: Any, prompt: bytes, length: int = 200, temperature: float = 0.0, seed: int = 0
) -> bytes:
    """Continue ``prompt`` by ``length`` bytes, greedily where ``temperature`` is 0.

    The end-of-text byte is never chosen, so that the continuation has the length asked for.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    output = bytearray(prompt)
    with torch.inference_mode():
        for _ in range(length):
            inputs = as_tokens(bytes(output[-CONTEXT_LENGTH:]))[None]
            logits = model(input_ids=inputs, use_cache=False).logits[0, -1].float()
            logits[END_OF_TEXT] = -math.inf
            if temperature == 0.0:
                choice = logits.argmax()
            else:
                weights = torch.softmax(logits / temperature, dim=-1)
                choice = torch.multinomial(weights, 1, generator=generator)[0]
            output.append(int(choice))
    return bytes(output[len(prompt) :])


def evaluate(directory: Path) -> None:
    """Print the size, the held-out bits per byte and three samples of a saved model."""
    model = load_model(directory)
    heldout = heldout_text()
    _print_corpus("held-out text", heldout)
    print(f"held-out topics: {', '.join(HELDOUT_TOPICS)}")
    print(f"parameters: {sum(p.numel() for p in model.parameters())}")
    print(f"model.safetensors: {(directory / 'model.safetensors').stat().st_size} bytes")
    print(f"unigram entropy of the held-out text: {unigram_entropy(heldout):.4f} bits per byte")
    stride = CONTEXT_LENGTH // 2
    score = bits_per_byte(model, heldout, stride)
    print(f"held-out: {score:.4f} bits per byte over {len(heldout)} bytes (stride {stride})")
    for seed, prompt in enumerate(PROMPTS):
        temperature = 0.7 if seed else 0.0
        sample = generate(model, prompt, temperature=temperature, seed=seed)
        how = f"temperature {temperature}, seed {seed}" if seed else "greedy"
        print(f"\n--- sample ({how}), prompt {prompt.decode()!r}")
        print((prompt + sample).decode("utf-8", "replace"))


def unigram_entropy(text: bytes) -> float:
    """Return the entropy of the byte frequencies of ``text``, in bits per byte."""
    shares = [text.count(byte) / len(text) for byte in set(text)]
    return -sum(share * math.log2(share) for share in shares)


# --- command line --------------------------------------------------------------------------


def _print_corpus(name: str, text: bytes) -> None:
    """Print the size and the digest of a corpus together with the CPython it comes from."""
    digest = hashlib.sha256(text).hexdigest()
    print(f"{name}: {len(text)} bytes, CPython {platform.python_version()}, sha256 {digest}")


def _parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(
        prog="python -m floatfmt.data.train_sample",
        description="Train or evaluate floatfmt's sample model, a byte-level GPT-2.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where to save the model (default: ./sample-model), or, with --evaluate, "
        "the model to evaluate (default: the one that ships with floatfmt)",
    )
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help=f"training steps (default: {Recipe.steps}, the recipe of the model shipped)",
    )
    budget.add_argument(
        "--minutes",
        type=float,
        metavar="M",
        help="train for about this long instead; the number of steps then depends on the machine",
    )
    budget.add_argument(
        "--evaluate", action="store_true", help="evaluate a saved model instead of training"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.evaluate:
        evaluate(options.output or SAMPLE_MODEL)
        return 0
    if (options.steps is not None and options.steps < 1) or (
        options.minutes is not None and not options.minutes > 0
    ):
        parser.error("--steps and --minutes must be positive")
    train_and_save(options.output or Path("sample-model"), options.steps, options.minutes)
    return 0


def train_and_save(output: Path, steps: int | None, minutes: float | None) -> None:
    """Train by the default recipe (or for ``steps`` or ``minutes``) and save to ``output``."""
    import torch

    recipe = Recipe() if steps is None else replace(Recipe(), steps=steps)
    torch.set_num_threads(recipe.threads)
    text, heldout = training_text(), heldout_text()
    _print_corpus("training text", text)
    _print_corpus("held-out text", heldout)
    tokens = as_tokens(text)
    if minutes is not None:
        recipe = replace(recipe, steps=steps_for(minutes, tokens, recipe))
    epochs = recipe.steps * recipe.batch_size * CONTEXT_LENGTH / len(text)
    print(f"{recipe}\n{epochs:.1f} epochs", flush=True)
    output.mkdir(parents=True, exist_ok=True)  # fail before the training, not after it
    train(recipe, tokens, heldout).save_pretrained(output)
    print(f"saved to {output}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
