"""All 2^32 fp32 inputs through quantisers with a given scale, by `ff.verify_quantizer`.

Run by name: ``python -m pytest tests/exhaustive/test_quantizers.py -s``.
"""

import dataclasses
import sys
from functools import partial

import numpy as np
import pytest

import floatfmt as ff

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, torch.quantize_per_ch")

SCALE, ZERO_POINT = 0.1, 3
#: Under another name, so that the row is evaluated and not asked of the kernel.
EVALUATED = dataclasses.replace(ff.conventions()[0], name="floatfmt, evaluated")


def tell(name: str, done: int, of: int) -> None:
    print(f"\r{name}: {done / of:4.0%}", end="", file=sys.stderr)


@pytest.mark.parametrize("scale", [SCALE, 2.0**-149])
def test_ours_on_every_level(backend, scale):
    found = ff.verify_quantizer(
        lambda x: ff.quantize(x, scale=scale, zero_point=ZERO_POINT).codes,
        convention=EVALUATED,
        scale=scale,
        zero_point=ZERO_POINT,
        progress=partial(tell, f"{backend}, scale {scale}"),
    )
    print(f"\n{found}")
    assert found.verdict == "proved"
    assert found.judged + found.unjudged == 2**32


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_torch_as_its_convention(dtype):
    def fn(x):
        t = torch.from_numpy(x)
        return torch.quantize_per_tensor(t, SCALE, ZERO_POINT, getattr(torch, f"q{dtype}"))

    found = ff.verify_quantizer(
        fn,
        convention="torch",
        scale=SCALE,
        zero_point=ZERO_POINT,
        dtype=dtype,
        progress=partial(tell, f"torch {dtype}"),
    )
    print(f"\n{found}")
    assert (found.verdict, found.judged) == ("proved", 2**32)


def test_one_wrong_input_of_all_is_found():
    bad = 0x3D123457

    def fn(x):
        codes = ff.quantize(x, scale=SCALE).codes
        codes[x.view(np.uint32) == bad] ^= 1
        return codes

    found = ff.verify_quantizer(fn, scale=SCALE)
    print(f"\n{found}")
    assert (found.verdict, found.failing) == ("refuted", 1)
    assert found.faults[0].first.bits == bad
