"""How known libraries quantise: a row each. Proved in tests/test_convention_libraries.py."""

from __future__ import annotations

from dataclasses import replace

from .convention_plan import Convention, Scheme

__all__ = ["ROWS"]

_BLOCKWISE = Convention(
    "bitsandbytes_blockwise",
    "quantize_blockwise of bitsandbytes on the CPU: its dynamic 8-bit map",
    "bitsandbytes 0.50.2, in the tests",
    schemes=(Scheme("absmax", spread="amax but for NaN", scale="spread", constant="codes are 0"),),
    takes_scale=False,
    multiplier="1 / scale",
    rounding="by 65,536 bins",
    codebook="dynamic8",
    dtypes=("uint8",),
    over="block of 4096",
)

#: By which double quantisation quantises scales.
_BLOCKS_OF_256 = replace(_BLOCKWISE, over="block of 256")

ROWS: tuple[Convention, ...] = (
    Convention(
        "floatfmt",
        "ff.quantize: the correctly rounded quotient by the stored scale",
        "floatfmt itself, in the tests",
        schemes=(
            Scheme(
                "absmax",
                scale="spread / levels, never 0",
                constant="scale is 1",
                lowest=-127,
            ),
            Scheme(
                "zeropoint",
                spread="range",
                levels=255,
                scale="spread / levels, never 0",
                zero_point="rint(lowest - low / scale)",
                constant="scale is its size",
            ),
        ),
        precision="fp64",
        nan="refused",
        dtypes=("int8",),
        dequantize="* scale, rounded once",
    ),
    Convention(
        "article",
        "'Introduction to Weight Quantization' (M. Labonne, 2023), on torch",
        "its operations in torch 2.13.0, in the tests",
        schemes=(
            # torch divides a number by a tensor as the tensor's reciprocal times the number
            Scheme("absmax", scale="1 / spread * levels", clamp="none"),
            Scheme(
                "zeropoint",
                spread="range",
                levels=255,
                scale="1 / spread * levels",
                zero_point="rint(-multiplier * low + lowest)",
                constant="spread is 1",
            ),
        ),
        takes_scale=False,
        multiplier="1 / spread * levels",
        adds_zero_point="before rounding",
        dtypes=("int8",),
        takes_empty=False,
        dequantize="/ scale",
    ),
    Convention(
        "torch",
        "torch.quantize_per_tensor, on x86 with AVX2",
        "torch 2.13.0, in the tests",
        multiplier="1 / scale",
        adds_zero_point="before rounding",
        fused=True,
        nan="highest",
    ),
    Convention(
        "torch_channel",
        "torch.quantize_per_channel, on x86; a scale for each index of an axis",
        "torch 2.13.0, in the tests",
        multiplier="1 / scale",
        adds_zero_point="before rounding",
        over="channel",
        scale_dtype="fp64",
        dequantize="* scale in fp64",
    ),
    Convention(
        "torch_fake",
        "torch.fake_quantize_per_tensor_affine, on the CPU",
        "torch 2.13.0, in the tests",
        multiplier="1 / scale",
        nan="lowest",
    ),
    Convention(
        "onnx",
        "QuantizeLinear of ONNX, as ONNX Runtime does it on the CPU",
        "onnxruntime 1.32.0, in the tests",
        nan="lowest",
    ),
    Convention(
        "onnx_dynamic",
        "DynamicQuantizeLinear of ONNX, as ONNX Runtime does it on the CPU",
        "onnxruntime 1.32.0, in the tests",
        schemes=(
            Scheme(
                "zeropoint",
                spread="range with 0",
                levels=255,
                zero_point="rint(clamp(lowest - min(low, 0) / scale))",
                constant="scale is 1",
            ),
        ),
        takes_scale=False,
        nan="lowest",
        dtypes=("uint8",),
    ),
    Convention(
        "ggml_q8_0",
        "Q8_0 of ggml, the reference in C: a scale for every 32 values",
        "ggml 0.13.1 of pywhispercpp 1.5.1 and gguf 0.19.0, in the tests",
        schemes=(Scheme("absmax", constant="multiplier is 0", clamp="none"),),
        takes_scale=False,
        multiplier="1 / scale",
        rounding="half away",
        dtypes=("int8",),
        over="block of 32",
        dequantize="* fp16(scale)",
    ),
    Convention(
        "ggml_q8_0_avx2",
        "Q8_0 of ggml with AVX2, for activations",
        "ggml 0.13.1 of pywhispercpp 1.5.1, in the tests",
        schemes=(Scheme("absmax", constant="multiplier is 0", clamp="int32 saturates"),),
        takes_scale=False,
        multiplier="levels / spread",
        nan="lowest",
        dtypes=("int8",),
        over="block of 32",
        dequantize="* fp16(scale)",
    ),
    Convention(
        "bitsandbytes",
        "int8_vectorwise_quant of bitsandbytes on the CPU: a scale for every row",
        "bitsandbytes 0.50.2 with torch 2.13.0, in the tests",
        schemes=(Scheme("absmax", scale="spread", clamp="none"),),
        takes_scale=False,
        multiplier="1 / spread * levels",
        dtypes=("int8",),
        over="row",
        takes_empty=False,
        dequantize="* scale * (1 / 127)",
    ),
    _BLOCKWISE,
    *(
        Convention(
            f"bitsandbytes_{codebook}",
            "quantize_4bit of bitsandbytes on the CPU; double: compress_statistics",
            "bitsandbytes 0.50.2 with torch 2.13.0, in the tests",
            schemes=(
                Scheme("absmax", scale="spread"),
                Scheme("double", scale="spread", double=_BLOCKS_OF_256),
            ),
            takes_scale=False,
            multiplier="1 / max(scale, 1e-38)",
            rounding="nearest, lower of a tie",
            codebook=codebook,
            nan="highest",
            dtypes=("uint8",),
            over="block of 64",
            short_block="divides by max(scale, 1e-38)",
        )
        for codebook in ("nf4", "fp4")
    ),
)
