"""Libraries that quantise, called as they are called by their users, on and with NumPy arrays.

ggml's two kernels are functions of the shared libraries in the wheel of pywhispercpp.
"""

import ctypes
import importlib.metadata
import platform
from collections.abc import Callable, Iterator
from functools import cache

import bitsandbytes.functional as bnb
import numpy as np
import torch
import torch._dynamo

from floatfmt.bench.onnx_nodes import session

F32 = np.float32
#: bitsandbytes compiles one of its fallbacks, which takes a while and changes no result.
torch._dynamo.config.disable = True
#: Where there is a wheel with ggml, and where it has the AVX2 kernel.
HAS_GGML = platform.machine() == "x86_64" and platform.system() == "Linux"

# --- inputs -------------------------------------------------------------------------------------


def bit_patterns(size: int, seed: int) -> np.ndarray:
    """Finite fp32 numbers, their bits drawn evenly."""
    found = np.random.default_rng(seed).integers(0, 2**32, size, dtype=np.uint32)
    return np.where((found & 0x7F800000) == 0x7F800000, found & 0x807FFFFF, found).view(F32)


def near(x: np.ndarray, rng: np.random.Generator, ulps: int = 2) -> np.ndarray:
    """Each value or a neighbour of it."""
    bits = np.ascontiguousarray(x, F32).view(np.int32)
    steps = rng.integers(-ulps, ulps + 1, bits.shape, dtype=np.int32)
    return np.where(np.abs(x) > 1e-30, bits + steps, bits).view(F32)


def hard_blocks(middles: np.ndarray, block: int, blocks: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks on which quantisers are known to differ, flat; `middles` are parts of the largest.

    Normal values, bit patterns, ties and near ties of blocks whose largest is a power of two or any
    number, down to subnormals and up to the largest; zeros, constants.
    """
    rng, shape = np.random.default_rng(seed), (blocks, block)
    with np.errstate(all="ignore"):
        yield rng.standard_normal(shape, F32).reshape(-1)
        yield bit_patterns(blocks * block, seed)
        for sizes in (
            F32(2.0) ** rng.integers(-20, 20, (blocks, 1)).astype(F32),
            F32(2.0) ** rng.integers(-149, 128, (blocks, 1)).astype(F32),
            np.abs(bit_patterns(blocks, seed + 1))[:, None],
        ):
            parts = near(middles[rng.integers(0, middles.size, shape)].astype(F32), rng)
            parts[:, 0] = rng.choice([-1, 1], blocks)
            yield (parts * sizes).astype(F32).reshape(-1)
        sizes = 2.0 ** rng.integers(-149, 100, (blocks, 1))
        few = (rng.standard_normal((blocks, 1)) * sizes).astype(F32)
        rare = few * rng.choice([0, -0.0, 1, -1], (blocks, block), p=(0.5, 0.3, 0.1, 0.1))
        yield rare.astype(F32).reshape(-1)
        yield np.broadcast_to(few, shape).reshape(-1).copy()
        yield np.zeros(blocks * block, F32)


# --- the article --------------------------------------------------------------------------------


def article_absmax(x):
    """Codes as floats, values, multiplier, zero point: the published formulas, on torch."""
    multiplier = 127 / x.abs().max()
    codes = torch.round(multiplier * x)
    return codes, codes / multiplier, multiplier, torch.tensor(0.0)


def article_zeropoint(x):
    spread = x.max() - x.min()
    multiplier = 255 / torch.where(spread == 0, torch.tensor(1.0), spread)
    zero_point = torch.round(-multiplier * x.min() - 128)
    codes = torch.clip(torch.round(x * multiplier + zero_point), -128, 127)
    return codes, (codes - zero_point) / multiplier, multiplier, zero_point


# --- ONNX Runtime -------------------------------------------------------------------------------


@cache
def _session(op: str, inputs: tuple, outputs: tuple, **attributes: int | None):
    opened = session(op, dict(inputs), dict(outputs), attributes)
    names = [name for name, _ in inputs]
    return lambda *arrays: opened.run(None, dict(zip(names, arrays, strict=True)))


def onnx_quantize(x: np.ndarray, scale, zero_point, dtype: str, axis: int | None = None):
    """QuantizeLinear's codes."""
    inputs = (("x", "fp32"), ("scale", "fp32"), ("zero_point", dtype))
    run = _session("QuantizeLinear", inputs, (("y", dtype),), axis=axis)
    return run(x, np.array(scale, F32), np.array(zero_point, dtype))[0]


def onnx_dequantize(
    codes: np.ndarray, scale, zero_point, axis: int | None = None, block_size: int | None = None
) -> np.ndarray:
    """DequantizeLinear's values."""
    kind = codes.dtype.name
    inputs = (("x", kind), ("scale", "fp32"), ("zero_point", kind))
    attributes = {"axis": axis, "block_size": block_size}
    run = _session("DequantizeLinear", inputs, (("y", "fp32"),), **attributes)
    return run(codes, np.array(scale, F32), np.array(zero_point, codes.dtype))[0]


def onnx_quantize_dynamically(x: np.ndarray):
    """DynamicQuantizeLinear's codes, scale and zero point."""
    outputs = (("y", "uint8"), ("scale", "fp32"), ("zero_point", "uint8"))
    return _session("DynamicQuantizeLinear", (("x", "fp32"),), outputs)(x)


# --- ggml ---------------------------------------------------------------------------------------


@cache
def _ggml(library: str, function: str) -> Callable[..., None]:
    wheel = importlib.metadata.distribution("pywhispercpp")
    paths = {path.name: str(wheel.locate_file(path)) for path in wheel.files or ()}
    ctypes.CDLL(paths["libggml-base.so.0"], mode=ctypes.RTLD_GLOBAL)  # the other one needs it
    return getattr(ctypes.CDLL(paths[library]), function)


def ggml_quantize(x: np.ndarray, kernel: str) -> tuple[np.ndarray, np.ndarray]:
    """Codes and fp16 scales of Q8_0: 32 values of 34 bytes. Kernel "reference" or "avx2"."""
    found = {
        "reference": ("libggml-base.so.0", "quantize_row_q8_0_ref"),
        "avx2": ("libggml-cpu.so.0", "quantize_row_q8_0"),
    }[kernel]
    stored = np.zeros((x.size // 32, 34), np.uint8)
    pointers = (ctypes.c_void_p(array.ctypes.data) for array in (x, stored))
    _ggml(*found)(*pointers, ctypes.c_int64(x.size))
    return split_q8_0(stored)


def split_q8_0(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scales = np.ascontiguousarray(stored[:, :2]).view(np.float16)[:, 0]
    return np.ascontiguousarray(stored[:, 2:]).view(np.int8).reshape(-1), scales


# --- bitsandbytes -------------------------------------------------------------------------------


def bitsandbytes_4bit(x, kind: str, block: int, compresses: bool = False):
    """Codes one by one, the packed bytes and the state of quantize_4bit."""
    x = torch.as_tensor(x)
    packed, state = bnb.quantize_4bit(
        x, blocksize=block, quant_type=kind, compress_statistics=compresses
    )
    whole = packed.numpy().reshape(-1)
    codes = np.stack([whole >> 4, whole & 15], axis=1).reshape(-1)
    return codes[: x.numel()], packed, state
