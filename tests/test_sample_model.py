"""The sample model: its files, what it was (not) trained on, and that it has learned English."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest

from floatfmt.data import SAMPLE_MODEL, train_sample

WEIGHTS = SAMPLE_MODEL / "model.safetensors"


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    """The tensors stored in the sample model."""
    numpy_io = pytest.importorskip("safetensors.numpy")
    return numpy_io.load_file(WEIGHTS)


@pytest.fixture(scope="module")
def training_text() -> str:
    """The training corpus of the running CPython."""
    return train_sample.training_text().decode("utf-8")


@pytest.fixture(scope="module")
def model() -> Any:
    """The sample model, loaded by transformers."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return train_sample.load_model(SAMPLE_MODEL)


def unigram_bits(text: bytes) -> float:
    """The entropy of the byte frequencies of ``text``: the best a context-free model can do."""
    counts = Counter(text).values()
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts)


# --- files ---------------------------------------------------------------------------------


def test_files_are_there_and_small() -> None:
    assert (SAMPLE_MODEL / "README.md").is_file()
    assert 4_000_000 < WEIGHTS.stat().st_size <= 8_000_000


def test_tensors_are_finite_fp32(tensors: dict[str, np.ndarray]) -> None:
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float32)}
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())


def test_parameter_count_and_tied_head(tensors: dict[str, np.ndarray]) -> None:
    assert 1_000_000 <= sum(tensor.size for tensor in tensors.values()) <= 2_000_000
    assert "transformer.wte.weight" in tensors
    assert not [name for name in tensors if name.startswith("lm_head")]


def test_config_describes_the_tensors(tensors: dict[str, np.ndarray]) -> None:
    config = json.loads((SAMPLE_MODEL / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "gpt2"
    assert config["architectures"] == ["GPT2LMHeadModel"]
    assert tensors["transformer.wte.weight"].shape == (256, config["n_embd"])
    assert tensors["transformer.wpe.weight"].shape == (config["n_positions"], config["n_embd"])
    assert config["vocab_size"] == 256
    layers = {name.split(".")[2] for name in tensors if name.startswith("transformer.h.")}
    assert layers == {str(layer) for layer in range(config["n_layer"])}


def test_model_card_names_every_heldout_topic() -> None:
    card = (SAMPLE_MODEL / "README.md").read_text(encoding="utf-8")
    assert [name for name in train_sample.HELDOUT_TOPICS if f"`{name}`" not in card] == []


# --- corpus --------------------------------------------------------------------------------


def test_heldout_topics_are_a_fair_share_of_the_topics() -> None:
    heldout = train_sample.heldout_topics()
    training = train_sample.training_topics()
    assert tuple(heldout) == train_sample.HELDOUT_TOPICS
    assert heldout.keys().isdisjoint(training)
    share = sum(map(len, heldout.values()))
    share /= share + sum(map(len, training.values()))
    assert 0.06 < share < 0.12


def test_no_heldout_line_is_trained_on(training_text: str) -> None:
    lines = {
        line.strip()
        for line in train_sample.heldout_text().decode("utf-8").splitlines()
        if len(re.findall(r"\w+", line)) >= train_sample.SHINGLE_WORDS + 2
    }
    assert len(lines) > 300
    assert [line for line in lines if line in training_text] == []


def test_heldout_text_would_be_found_if_it_were_trained_on() -> None:
    """The topics overlap one another: without the filter the check above would fail."""
    unfiltered = "\n".join(train_sample.training_topics().values())
    lines = train_sample.heldout_topics()["context-managers"].splitlines()
    assert [line for line in lines if len(line) > 50 and line in unfiltered]


def test_filter_drops_heldout_and_repeated_paragraphs_only() -> None:
    keep = train_sample._ParagraphFilter(["One two three four five six seven eight.\n\nSee also:"])
    assert not keep("He said: one, two\nthree four FIVE six seven   eight!")
    assert not keep("See also")
    assert keep("See there")
    assert keep("One two three four five six seven nine ten eleven twelve")
    assert not keep("one two three four five six seven nine ten eleven twelve")


def test_training_text_is_large_and_mostly_ascii(training_text: str) -> None:
    assert 1_200_000 < len(training_text) < 4_000_000
    assert sum(map(str.isascii, training_text)) > 0.999 * len(training_text)
    assert training_text.count("\0") > 5000  # documents apart


def test_docstrings_of_tests_and_third_parties_are_skipped(tmp_path: Any) -> None:
    kept = "A docstring of some words."
    for name in ("b.py", "a/c.py", "test/d.py", "site-packages/e/f.py", "a/tests/g.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'"""{kept} {path.stem}"""\ndef f():\n    """{kept}"""\n')
    (tmp_path / "broken.py").write_text("def f(:\n")
    assert train_sample.stdlib_docstrings(tmp_path) == [f"{kept} c", kept, f"{kept} b"]


def test_learning_rate_warms_up_and_decays_to_near_zero() -> None:
    recipe = train_sample.Recipe()
    rates = [train_sample.learning_rate(step, recipe) for step in range(recipe.steps)]
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(recipe.learning_rate)
    assert abs(peak - recipe.warmup_steps) <= 1
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[0] < 0.01 * rates[peak]
    assert rates[-1] < 0.01 * rates[peak]


# --- what it has learned -------------------------------------------------------------------


def test_heldout_bits_per_byte(model: Any) -> None:
    text = train_sample.heldout_text()[:8192]
    bits = train_sample.bits_per_byte(model, text)
    assert bits < 0.55 * unigram_bits(text)
    # The score depends on the text being English read forwards, not on its byte frequencies.
    assert train_sample.bits_per_byte(model, text[:2048][::-1]) > 1.5 * bits


def test_bits_per_byte_scores_every_byte_once(model: Any) -> None:
    """300 bytes: the first 256 in a window from the start, the other 44 in the last window."""
    torch = pytest.importorskip("torch")
    text = train_sample.heldout_text()[:300]
    tokens = torch.tensor([train_sample.END_OF_TEXT, *text])

    def bits(window: Any) -> Any:
        with torch.inference_mode():
            logits = model(input_ids=window[None, :-1]).logits[0].double()
        picked = torch.log_softmax(logits, dim=-1).gather(1, window[1:, None])
        return -picked[:, 0] / math.log(2.0)

    expected = (bits(tokens[:257]).sum() + bits(tokens[44:])[-44:].sum()).item() / 300
    assert train_sample.bits_per_byte(model, text) == pytest.approx(expected, rel=1e-5)


def test_greedy_generation_is_made_of_known_words(model: Any, training_text: str) -> None:
    known = set(re.findall(r"[a-z]+", training_text.lower()))
    sample = train_sample.generate(model, b"The following ", length=120)
    words = re.findall(r"[a-z]{3,}", sample.decode("utf-8", "replace").lower())[:-1]
    assert len(sample) == 120
    assert len(words) >= 10
    assert len(set(words)) >= 5
    assert sum(word in known for word in words) >= 0.9 * len(words)
    assert sample[:20] == train_sample.generate(model, b"The following ", length=20)
