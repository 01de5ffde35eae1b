"""Real int8 layers against fp32 in GPT-2's shape: time to quantise, memory, and two passes.

::

    python benchmarks/int8_layers.py

The model is initialised at random: speed does not depend on its weights. Both ways to multiply are
compared bit for bit before anything is timed, and fp32 and int8 take turns.
"""

from __future__ import annotations

import copy
import platform
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from floatfmt.bench.machine import cpu
from floatfmt.experiment import products, quantize_model
from floatfmt.experiment.int8_layers import int8_layers
from floatfmt.timing import interleaved

#: Tokens of a pass, and seconds for each comparison.
LENGTHS, BUDGET_S = (256, 1), 15.0


def check_products(model: Any) -> None:
    """Stop unless the way that is taken, the kernel and NumPy give the same."""
    for module in list(int8_layers(model).values())[:4]:
        codes = module.codes.numpy()
        x, ones = codes[: products.INT_MM_ROWS].copy(), np.ones(products.INT_MM_ROWS)
        layer = products.Layer8(codes, np.ones(len(codes), np.float32), None)
        wanted = (x.astype(int) @ codes.T.astype(int)).astype(np.float32)
        for way in (products.int8_linear, products.by_kernel):
            out = np.empty_like(wanted)
            way(x, ones, None, layer, out)
            assert (out == wanted).all()


class Memory:
    """The largest resident size of this process while the block runs, above that before it."""

    def __enter__(self) -> Memory:
        self._before, self.peak, self._is_over = _resident(), 0, False
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._is_over = True
        self._watcher.join()

    def _watch(self) -> None:
        while not self._is_over:
            self.peak = max(self.peak, _resident() - self._before)
            time.sleep(0.001)


def _resident() -> int:
    """Return this process's resident bytes, as Linux tells them."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def passes(model: Any, tokens: Any) -> Callable[[], object]:
    """Return a forward pass to be timed."""

    def run() -> None:
        with torch.inference_mode():
            model(tokens, use_cache=False)

    return run


def main() -> None:
    """Print what comes out."""
    torch.manual_seed(0)
    original: Any = GPT2LMHeadModel(GPT2Config()).eval()
    size = original.get_memory_footprint()
    tokens = torch.randint(0, original.config.vocab_size, (1, max(LENGTHS)))
    print(
        f"{cpu()}, {torch.get_num_threads()} threads, torch {torch.__version__},"
        f" Python {platform.python_version()}; int8 by {products.route_name()}"
    )
    for title, skip in (("head in fp32", None), ("head in int8", ())):
        model = copy.deepcopy(original)
        began = time.perf_counter()
        with Memory() as memory:
            quantize_model(model, skip=skip)
        seconds = time.perf_counter() - began
        check_products(model)
        print(
            f"\n{title}: quantised in {seconds:.2f} s, with {memory.peak / size:.2f} of the"
            f" model's memory on top; {size:,} → {model.get_memory_footprint():,} bytes"
        )
        for length in LENGTHS:
            given = tokens[:, :length]
            timings = interleaved(
                {"fp32": passes(original, given), "int8": passes(model, given)}, budget_s=BUDGET_S
            )
            ratio = timings["fp32"].median_s / timings["int8"].median_s
            print(
                f"{length:4} tokens: fp32 {timings['fp32']}, int8 {timings['int8']},"
                f" {ratio:.2f}× as fast"
            )


if __name__ == "__main__":
    main()
