"""Who quantises by rows and blocks, and back: torch, bitsandbytes, torchao, gfloat.

Builders as in `contenders`, and what is made of a library's result before it is compared: codes one
by one in x's shape, scales in that of floatfmt's.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from ..arrays import decode
from ..codebooks import NF4
from ..packing import unpack
from .contenders import Arrays, Builder, Run, Work, quietly, tensor

__all__ = ["GFLOAT_BLOCKS_MAX_SIZE"]

#: gfloat rounds and encodes blocks a value at a time in Python, some 50,000 values a second.
GFLOAT_BLOCKS_MAX_SIZE = 2**12
#: Any format of 4 bits: how codes are packed depends on nothing else.
FOUR_BITS = "fp4_e2m1fn"


@contextmanager
def _silence() -> Iterator[None]:
    """Keep quiet what libraries say when imported, of GPUs and of torch's future."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _torch() -> Any:
    import torch

    return torch


def _bitsandbytes() -> Any:
    with _silence():
        import bitsandbytes.functional

    return bitsandbytes.functional


def _mx() -> Any:
    with _silence():
        import torchao.prototype.mx_formats.mx_tensor

    return torchao.prototype.mx_formats.mx_tensor


def _nvfp4() -> Any:
    with _silence():
        import torchao.prototype.mx_formats.nvfp4_tensor

    return torchao.prototype.mx_formats.nvfp4_tensor


# --- torch --------------------------------------------------------------------------------------


def torch_given_per_channel(work: Work) -> Run:
    """torch.quantize_per_channel alone, by scales found beforehand: half of the others' work."""
    torch, x = _torch(), tensor(work.x)
    scale = torch.amax(torch.abs(x), dim=1) / 127
    zeros = torch.zeros(len(x), dtype=torch.int64)
    return quietly(lambda: torch.quantize_per_channel(x, scale, zeros, 0, torch.qint8))


def torch_zeropoint_rows(work: Work) -> Run:
    """torch.aminmax along rows, then torch.quantize_per_channel."""
    torch, x = _torch(), tensor(work.x)

    def run() -> Any:
        low, high = (end.double() for end in torch.aminmax(x, dim=1))
        scale = ((high - low) / 255).float()
        zeros = (-128 - low / scale).round().long()
        return torch.quantize_per_channel(x, scale, zeros, 0, torch.qint8)

    return quietly(run)


def torch_absmax_blocks(block: int, bits: int) -> Builder:
    """The expressions one would write; two codes of 4 bits a byte, the first in its lower half."""
    largest = 2 ** (bits - 1) - 1

    def build(work: Work) -> Run:
        torch, x = _torch(), tensor(work.x)
        blocks = x.view(len(x), -1, block)

        def run() -> Any:
            scale = torch.amax(torch.abs(blocks), dim=2, keepdim=True) / largest
            codes = (blocks / scale).round().to(torch.int8).view(x.shape)
            if bits == 4:
                codes = codes[:, ::2] & 15 | codes[:, 1::2] << 4
            return codes, scale.squeeze(2)

        return run

    return build


def signed_codes(arrays: Arrays) -> Arrays:
    """Unpack the 4-bit integers of `torch_absmax_blocks`."""
    packed, *rest = arrays
    codes = np.stack([packed << 4 >> 4, packed >> 4], axis=-1)
    return codes.reshape(len(packed), -1), *rest


def torch_fp8_rows(work: Work) -> Run:
    """A row's largest magnitude becomes 448, then torch's cast, which saturates."""
    torch, x = _torch(), tensor(work.x)

    def run() -> Any:
        scale = torch.amax(torch.abs(x), dim=1, keepdim=True) / 448
        return (x / scale).to(torch.float8_e4m3fn), scale

    return run


def torch_dequantize_rows(work: Work) -> Run:
    """The expression one would write."""
    q = work.more["quantized"]
    codes, scale = tensor(q.codes), tensor(q.scale)
    return lambda: codes * scale


def torch_dequantize_channels(work: Work) -> Run:
    """Tensor.dequantize of a tensor quantised per channel."""
    torch, q = _torch(), work.more["quantized"]
    scale = tensor(q.scale).reshape(-1).double()
    zeros = torch.zeros(len(scale), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = torch._make_per_channel_quantized_tensor(tensor(q.codes), scale, zeros, 0)
    return quietly(quantized.dequantize)


def torch_dequantize_nf4(work: Work) -> Run:
    """The expressions one would write: the values of both halves of a byte, times their scale."""
    torch, q = _torch(), work.more["quantized"]
    packed, scale = tensor(q.packed), tensor(q.scale).reshape(-1, 1)
    table = torch.tensor(NF4, dtype=torch.float32)

    def run() -> Any:
        codes = torch.stack((packed & 15, packed >> 4), dim=-1)
        values = table[codes.int()].view(len(scale), -1) * scale
        return values.view(q.shape)

    return run


# --- bitsandbytes -------------------------------------------------------------------------------


def bitsandbytes_rows(work: Work) -> Run:
    """int8_vectorwise_quant, which returns the largest magnitude of each row beside the codes."""
    return partial(_bitsandbytes().int8_vectorwise_quant, tensor(work.x))


def scale_of_127(arrays: Arrays) -> Arrays:
    """Make scales of largest magnitudes, as floatfmt does: divided by 127, rounded once to fp32."""
    codes, largest = arrays
    scale = (largest.astype(np.float64) / 127).astype(np.float32)
    return codes, scale.reshape(-1, 1)


def bitsandbytes_nf4(work: Work) -> Run:
    bnb, x = _bitsandbytes(), tensor(work.x)

    def run() -> Any:
        packed, state = bnb.quantize_nf4(x, blocksize=64)
        return packed, state.absmax

    return run


def bitsandbytes_dynamic8(work: Work) -> Run:
    bnb, x = _bitsandbytes(), tensor(work.x)

    def run() -> Any:
        codes, state = bnb.quantize_blockwise(x, blocksize=4096)
        return codes, state.absmax

    return run


def high_first(arrays: Arrays) -> Arrays:
    """Unpack 4-bit codes as bitsandbytes packs them, the first in a byte's upper half."""
    packed, *rest = arrays
    return unpack(packed.reshape(-1), FOUR_BITS, order="high_first"), *rest


def in_order(arrays: Arrays) -> Arrays:
    """The codes as one row, as bitsandbytes packs them."""
    codes, *rest = arrays
    return codes.reshape(-1), *rest


def bitsandbytes_dequantize_rows(work: Work) -> Run:
    q = work.more["quantized"]
    largest = np.abs(work.x).max(axis=1)
    return partial(_bitsandbytes().int8_vectorwise_dequant, tensor(q.codes), tensor(largest))


def bitsandbytes_dequantize_nf4(work: Work) -> Run:
    """dequantize_nf4 of the same codes, repacked beforehand in its order."""
    bnb, q = _bitsandbytes(), work.more["quantized"]
    packed = tensor(q.packed << 4 | q.packed >> 4).reshape(-1, 1)
    state = bnb.QuantState(
        tensor(q.scale),
        shape=_torch().Size(q.shape),
        code=bnb.get_4bit_type("nf4", device="cpu"),
        blocksize=q.block,
        quant_type="nf4",
        dtype=_torch().float32,
    )
    return partial(bnb.dequantize_nf4, packed, state)


# --- torchao ------------------------------------------------------------------------------------


def torchao_mx(dtype: str) -> Builder:
    """to_mx with a dtype of torch's by name; its rule for scales is OCP's, as floatfmt's is."""
    return lambda work: partial(_mx().to_mx, tensor(work.x), getattr(_torch(), dtype), 32)


def codes_first(arrays: Arrays) -> Arrays:
    """Put the scales, which torchao returns first, behind the codes."""
    scale, codes, *rest = arrays
    return codes, scale, *rest


def low_first(arrays: Arrays) -> Arrays:
    """The same, with 4-bit codes unpacked."""
    packed, *rest = codes_first(arrays)
    return unpack(packed, FOUR_BITS), *rest


def torchao_nvfp4(work: Work) -> Run:
    torch, x, library = _torch(), tensor(work.x), _nvfp4()

    def run() -> Any:
        scale = library.per_tensor_amax_to_scale(torch.amax(torch.abs(x)))
        return *library.nvfp4_quantize(x, 16, scale), scale

    return run


def torchao_dequantize_mxfp4(work: Work) -> Run:
    torch, q = _torch(), work.more["quantized"]
    packed, scale, fp4 = tensor(q.packed), tensor(q.scale), torch.float4_e2m1fn_x2
    return partial(_mx().to_dtype, packed, scale, fp4, 32, torch.float32)


# --- gfloat -------------------------------------------------------------------------------------


def gfloat_mxfp4(work: Work) -> Run:
    """gfloat.quantize_block for each block of 32: values, not codes."""
    import gfloat
    from gfloat.formats import format_info_mxfp4_e2m1 as mxfp4

    blocks, quantize = work.x.reshape(-1, mxfp4.k), gfloat.quantize_block

    def run() -> np.ndarray:
        values = [quantize(mxfp4, block, gfloat.compute_scale_amax) for block in blocks]
        return np.concatenate(values).reshape(work.x.shape)

    return run


def mxfp4_values(arrays: Arrays) -> Arrays:
    """Values of floatfmt's codes and scales, exact in fp64."""
    codes, scale = arrays
    values = decode(codes, FOUR_BITS, dtype=np.float64)
    return (values * np.repeat(scale.astype(np.float64), 32, axis=-1),)
