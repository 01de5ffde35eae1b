"""Every disagreement with another implementation has the cause that is expected of it.

A new version of a witness, or a change here, shows as a row that differs.
"""

from dataclasses import replace

import numpy as np
import pytest

import floatfmt as ff
import witnesses as w
from probes import p3109_formats

E4M3_LIKE = "fp8_e4m3fn fp8_e4m3fnuz fp8_e5m2fnuz fp8_e4m3b11fnuz"
WITH_PAYLOAD = "bf16 fp8_e4m3 fp8_e5m2 fp8_e3m4"
WITHOUT_NAN = "fp6_e2m3fn fp6_e3m2fn fp4_e2m1fn"
E8M0 = "fp8_e8m0fnu"
UNSIGNED = " ".join(fmt.name for fmt in p3109_formats() if not fmt.signed)

#: (witness, sources, targets, causes); all else agrees wholly, the bits of NaNs included.
EXPECTED = (
    ("NumPy", "fp64 fp32", "fp16", (w.SIGNALLING_KEPT,)),
    ("ml_dtypes", "fp64", WITH_PAYLOAD, (w.TWICE, w.PAYLOAD_LOST)),
    ("ml_dtypes", "fp64", E4M3_LIKE, (w.TWICE,)),
    ("ml_dtypes", "fp64", WITHOUT_NAN, (w.TWICE, w.NAN_IS_ZERO)),
    ("ml_dtypes", "fp64", E8M0, (w.TWICE, w.TIES_UP, w.NEAR_LEAST_UP)),
    ("ml_dtypes", "fp32 fp16 bf16", WITH_PAYLOAD, (w.PAYLOAD_LOST,)),
    ("ml_dtypes", "fp32 fp16 bf16", WITHOUT_NAN, (w.NAN_IS_ZERO,)),
    ("ml_dtypes", "fp32 bf16", E8M0, (w.TIES_UP, w.NEAR_LEAST_UP)),
    ("ml_dtypes", "fp16", E8M0, (w.TIES_UP,)),
    ("torch", "fp64", "fp16 bf16 fp8_e5m2 fp8_e4m3fnuz fp8_e5m2fnuz", (w.TWICE,)),
    ("torch", "fp64", "fp8_e4m3fn", (w.TWICE, w.SATURATES)),
    ("torch", "fp32 fp16 bf16", "fp8_e4m3fn", (w.SATURATES,)),
    (
        *("torch", "fp64", E8M0),
        (w.SIGN_DROPPED, w.ZERO_IS_LEAST, w.TWICE, w.TIES_UP, w.NEAR_LEAST_UP),
    ),
    (
        *("torch", "fp32 bf16", E8M0),
        (w.SIGN_DROPPED, w.ZERO_IS_LEAST, w.TIES_UP, w.NEAR_LEAST_UP),
    ),
    ("torch", "fp16", E8M0, (w.SIGN_DROPPED, w.ZERO_IS_LEAST, w.TIES_UP)),
    ("gfloat", "fp64 fp32", E8M0, (w.ZERO_IS_LEAST, w.OUTSIDE)),
    ("gfloat", "fp64 fp32", f"fp8_ue4m3 uint8 uint4 {UNSIGNED}", (w.OUTSIDE,)),
)


def expected_causes(row: w.Row) -> set[str]:
    (source, target), library = row.pairs[0], row.witness.partition(" ")[0]
    for name, sources, targets, causes in EXPECTED:
        asked = (name == library, source in sources.split(), target in targets.split())
        if row.what == "encode" and all(asked):
            return {cause.name for cause in causes}
    return set()


@pytest.fixture(scope="module")
def rows() -> tuple[w.Row, ...]:
    return w.all_rows()


def test_every_disagreement_has_a_confirmed_cause(rows):
    unexplained = [
        f"{row.witness}, {row.pairs}: {row.causes[w.UNEXPLAINED]:,}, {row.examples[w.UNEXPLAINED]}"
        for row in rows
        if w.UNEXPLAINED in row.causes
    ]
    assert not unexplained


def test_the_causes_of_every_row_are_those_expected(rows):
    # How a NaN's bits come out of torch and gfloat depends on the CPU and is not promised.
    found = {
        (row.witness, row.what, *row.pairs[0]): {*row.causes} - {w.NAN_DIFFERS} for row in rows
    }
    wanted = {(row.witness, row.what, *row.pairs[0]): expected_causes(row) for row in rows}
    assert found == wanted


def test_every_expectation_is_of_a_conversion_that_was_compared(rows):
    compared = {(row.witness.partition(" ")[0], *row.pairs[0]) for row in rows}
    for name, sources, targets, _ in EXPECTED:
        for source, target in ((s, t) for s in sources.split() for t in targets.split()):
            assert (name, source, target) in compared or source == target, (name, source, target)


def test_every_value_of_a_decoded_format_agrees(rows):
    decoded = [row for row in rows if row.what == "decode"]
    assert len(decoded) > 150
    assert all(row.compared == row.agree == 2 ** ff.format(row.pairs[0][0]).bits for row in decoded)


def test_a_row_counts_what_agrees(rows):
    for row in rows:
        values = {name for name in row.causes if name not in NAN_BITS}
        assert (row.agree == row.compared) == (not values), row.pairs
        assert row.compared >= 2 ** ff.format(row.pairs[0][0]).bits or row.compared > 2000


NAN_BITS = {w.NAN_DIFFERS, *(cause.name for cause in w.NAN_CAUSES)}


def one_code_wrong(x: np.ndarray, target: ff.Format, options: dict[str, str]) -> np.ndarray:
    codes = ff.encode(x, target).astype(np.int64)
    codes[x == 1] += 1
    return codes


def test_one_wrong_code_is_found_and_not_explained_away():
    torch = next(witness for witness in w.WITNESSES if witness.name == w.TORCH)
    liar = replace(torch, encode=one_code_wrong)
    row = w.compare_encode(liar, ff.format("fp32"), ff.format("bf16"), {}, np.float32([0.5, 1]))
    assert (row.compared, row.agree, dict(row.causes)) == (2, 1, {w.UNEXPLAINED: 1})
    assert str(row.examples[w.UNEXPLAINED]) == "1.0, 0x3F800000, into bf16: 0x3F80, theirs 0x3F81"


@pytest.mark.parametrize(
    ("cause", "x", "target", "code"),
    [
        (w.TWICE, 1 + 2**-11 + 2**-40, "fp16", 0x3C00),
        (w.SATURATES, np.inf, "fp8_e4m3fn", 0x7E),
        (w.TIES_UP, 3.0, E8M0, 129),
        (w.SIGN_DROPPED, -1.0, E8M0, 127),
        (w.ZERO_IS_LEAST, 0.0, E8M0, 0),
        (w.NEAR_LEAST_UP, 1.25 * 2.0**-127, E8M0, 1),
        (w.NAN_IS_ZERO, np.nan, "fp4_e2m1fn", 8),
    ],
)
def test_a_cause_changes_what_it_says(cause, x, target, code):
    cast = w.Cast(np.float64([x]), ff.format(target), {})
    assert cast.codes() != code
    assert cause.change(cast).codes() == code


def test_the_table_has_a_line_a_group_and_every_input_is_in_it(rows):
    lines = w.table().splitlines()
    assert all(line.startswith("| ") or line.startswith("|---") for line in lines)
    assert {line.count("|") for line in lines} == {6}
    compared = [int(line.split("|")[3].replace(",", "")) for line in lines[2:]]
    assert sum(compared) == sum(row.compared for row in rows)
    unavailable = sum(bool(witness.unavailable) for witness in w.WITNESSES)
    assert len(compared) == len(w.merged(rows)) + unavailable
