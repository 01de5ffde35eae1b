"""The codebooks are those of bitsandbytes, bit for bit."""

import bitsandbytes.functional as bnb
import numpy as np
import pytest

from floatfmt import codebooks


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (codebooks.NF4, lambda: bnb.get_4bit_type("nf4", device="cpu")),
        (codebooks.FP4, lambda: bnb.get_4bit_type("fp4", device="cpu")),
        (codebooks.DYNAMIC8, bnb.create_dynamic_map),
    ],
    ids=["NF4", "FP4", "DYNAMIC8"],
)
def test_a_codebook_is_that_of_bitsandbytes(ours, theirs):
    assert list(ours) == theirs().tolist()
    assert all(type(value) is float for value in ours)
    assert np.signbit(ours)[np.array(ours) == 0].sum() == 0
