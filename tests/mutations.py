"""Whether the tests notice a broken kernel: ``python tests/mutations.py [WORD...]``.

Each mutation changes a line of a copy of csrc/; the copy is built, and tests run until one fails.
A mutation that none notices is a hole in the tests, and then the exit status is 1. Words choose the
mutations whose name, file or level has one of them. Takes a minute or two a mutation.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import floatfmt as ff

ROOT = Path(__file__).resolve().parents[1]

#: The tests that a mutation is shown to, as pytest's -k has it, and their file.
CONVERSIONS = (
    "code or random or round_to or packing or compose or fit or boundary or long or length or f16c"
    " or inf_and"
)
QUANTISERS = (
    "scheme or given or power or tie or bits or scales or far or long or extremes or products"
    " or layers"
)
ELEMENTS = (
    "entry or tiny or not_finite or threshold or intervals or scaled_formats or scales_and_codes"
    " or packed or length or beside_a_tie"
)
BACKENDS, HOSTILE = "tests/test_backends.py", "tests/test_hostile_environment.py"
THREADS = "tests/test_threads.py"


class Mutation(NamedTuple):
    """A text of csrc/ that stands there once, what takes its place, and who should notice."""

    file: str
    old: str
    new: str
    tests: str
    level: str = "baseline"  # that the mutation is tried at
    path: str = BACKENDS


def rows(file: str, tests: str, level: str = "baseline") -> Iterator[tuple[str, Mutation]]:
    for name, (old, new) in TEXTS[file].items():
        yield name, Mutation(file, old, new, tests, level)


TEXTS = {
    "scalar.h": {
        "ties go away from zero": ("{{half - 1, half - 1}, 1}", "{{half, half}, 0}"),
        "the last lost bit is forgotten": ("<< 1 | (uint32_t)last)) |", "<< 1)) |"),
        "a sum that does not wrap goes up": ("lost + random < random;", "lost + random <= random;"),
        "to odd leaves even ones": ("{{most, most}, 0 - most}", "{{most, most}, 0}"),
        "upwards is outwards": ("{{most, 0}, 0}", "{{most, most}, 0}"),
        "a quarter counts as half": ("rest > half ? 12", "rest > half / 2 ? 12"),
        "a random bit is lost": (">> deeper >> 32) + random", ">> deeper >> 33) + random"),
        "the limit overflows": ("code = rounded > limit", "code = rounded >= limit"),
        "the limit overflows, fast": ("(I)rounded > (I)limit ?", "(I)rounded >= (I)limit ?"),
        "a NaN becomes Inf": ("p.payload_mask != 0 ? 1 :", "p.payload_mask != 0 ? 0 :"),
        "-0 has its sign where that is NaN": (
            "code = rounded ? rounded | (negative & p.sign) : 0",
            "code = rounded | (negative & p.sign)",
        ),
        "a lost bit is forgotten": ("(lost < 1 ? lost : 1)", "0"),
        "the last subnormal is not flushed": (
            "r->flushes ? INT64_C(1) << f.fraction_bits",
            "r->flushes ? (INT64_C(1) << f.fraction_bits) - 1",
        ),
        "the least integer is a normal": ("(one << m) - !twos;", "(one << m) - 1;"),
        "what overflows is a step too large": (
            "p->is_capped ? (p->overflow << drop) + p->rebias",
            "p->is_capped ? ((p->overflow + 1) << drop) + p->rebias",
        ),
        "fp64 to fp16 keeps half a bit": ("power_of_two(52 - m)", "power_of_two(51 - m)"),
        "fp32 to bf16 has no ties": ("kept & (half != 0)", "(half != 0)"),
        "fp32 to bf16 by a mode has no signs": ("(a.add[0] ^ a.add[1]),\n", "0 * a.add[1],\n"),
    },
    "convert.inc.h": {
        "the tail of nibbles is not packed": (
            "pack4(codes, packed, high_first, n);\n        i = n & ~(size_t)7;",
            "pack4(codes, packed, high_first, n);\n        i = (n + 7) & ~(size_t)7;",
        ),
        "fp32 goes on beyond 2^128": ("- f.bias <= 127;", "- f.bias <= 128;"),
        "the least integer is in fp32": (
            "max_code(f) + (f.sign == FF_TWOS_COMPLEMENT)",
            "max_code(f)",
        ),
        "fp32 has one bit more": ("f.fraction_bits <= 21 &&", "f.fraction_bits <= 22 &&"),
        "fp32's subnormals have one bit more": (">= -147 &&", ">= -148 &&"),
        "odd is away from zero": ("(bits - (near > magnitude))", "bits"),
        "what fp32 loses is forgotten": ("| (near != magnitude);", ";"),
        "NaN goes by way of fp32": (
            "narrow_to_odd(values + from, narrow, count) > 0x7f800000",
            "0 * narrow_to_odd(values + from, narrow, count)",
        ),
        "random words start late": ("first = start / 4", "first = (start + 3) / 4"),
        "every chunk draws anew": (
            "encode_carefully(f, r, seed, start + from, values + from,",
            "encode_carefully(f, r, seed, start, values + from,",
        ),
        "every chunk draws anew, in fp32": (
            "encode_block_f32(e, start + from,",
            "encode_block_f32(e, start,",
        ),
        "Inf is an error too": (
            "r->nan_is_error && magnitude > INFINITY_CODE",
            "r->nan_is_error && magnitude >= INFINITY_CODE",
        ),
        "E8M0 knows zero": ("(values[i] & 0x7fffffff) - 1;", "values[i] & 0x7fffffff;"),
        "E8M0's least value is doubled": ("UINT32_C(0x00400000)", "UINT32_C(0x00800000)"),
        "a sign without a place is fine": (
            "stray_sign > (f.sign != FF_UNSIGNED)",
            "stray_sign > 1",
        ),
        "the sign is not masked": (
            "sign[i] = (codes[i] & signs) != 0",
            "sign[i] = codes[i] >= signs",
        ),
        "bytes are packed whole": ("all |= (codes[k] & mask)", "all |= ((uint64_t)codes[k])"),
    },
    "quantize.inc.h": {
        "the guard band is too narrow": ("bound * 0x1p-22", "bound * 0x1p-25"),
        "a rounded scale is trusted": ("high = qmax + 0.25;", "high = qmax + 1;"),
        "zero is left out of positive ranges": ("includes_zero && low[k] > 0 ? 0", "0 ? 0"),
        "a zero point need not be a code": ("zero_point[k] > qmax ? qmax", "0 ? qmax"),
        "a scale underflows to 0": ("code + (code == 0);", "code;"),
        "a spread beyond double is halved once": ("(levels / 2.0)", "levels"),
        "a zero point is -0": (": zero) + 0.0;", ": zero);"),
        "a column's high follows its low": ("place > high[i] ? place", "place > low[i] ? place"),
        "even rounds a bit early": ("<< (51 - fraction_bits)", "<< (50 - fraction_bits)"),
        "powers end at 2^126": ("e > 127 ? 127", "e > 126 ? 126"),
        "a far zero point is a float": ("farthest <= 0x1p22", "farthest <= 0x1p40"),
        "a value by one scale goes beyond the largest": ("largest <= FLT_MAX", "1"),
        "values go beyond the largest": ("x = x > largest ? largest : x;", ""),
        "the ends count as clamped": ("(q < qmin) | (q > qmax)", "(q <= qmin) | (q > qmax)"),
        "no value counts as clamped, fast": ("within += q == code;", "within += 1;"),
        "clamping below is missed": ("least < origin + p->qmin || ", ""),
        "clamping above is missed": (" || most > origin + p->qmax)", ")"),
        "a near tie is trusted": (
            "near > limit ? FF_IN_DOUBT",
            "near > limit + 99999 ? FF_IN_DOUBT",
        ),
        "what float32 clamps stays clamped": ("more -= (clamped > 0) &", "more -= 0 &"),
        "what the formula clamps is not counted": (
            "more += (q < p->qmin) | (q > p->qmax)",
            "more += 0",
        ),
        "of eight in doubt one is decided": ("eight &= eight - 1", "eight = 0"),
        "a part of the sums is written": ("+= found[o][row];", "= found[o][row];"),
    },
    "elements.inc.h": {
        "thresholds are rounded up": ("- ((double)near > t);", "- ((double)near < t);"),
        "equal thresholds disagree": ("disorder |= edges[k] < edges[k - 1];", "disorder |= 0;"),
        "any scale is a power of two": ("v->is_far_from_0 && fraction == 0", "v->is_far_from_0"),
        "an infinite factor is taken": ("fraction == 0 && scale >= 0x1p-60", "fraction == 0"),
        "the middle code is the last": (
            "half = (uint8_t)((v->n + 1) / 2)",
            "half = (uint8_t)(v->n / 2)",
        ),
        "17 values are looked up as 16": ("entries <= 16 && inner", "entries <= 17 && inner"),
        "the second nibble comes first": (
            "out[i] = t[codes[i / 2] & 15]",
            "out[i] = t[codes[i / 2] >> 4]",
        ),
        "a quotient beside a tie is trusted": ("{ FF_GUARD = 4 };", "{ FF_GUARD = 0 };"),
        "subnormal quotients have no ties": (
            "magnitude < (int32_t)p.linear ? p.linear : 0;",
            "0;",
        ),
        "what float32 clamps of a format stays so": ("more -= (clamped > 0) &", "more -= 0 &"),
        "what the formula clamps of a format is not counted": (
            "more += (quotient < q->low) | (quotient > q->high);",
            "",
        ),
        "the quotient in doubt is by another scale": (
            "float_of_bits(load_f32(x, i)) / scale[i / length]",
            "float_of_bits(load_f32(x, i)) / scale[0]",
        ),
        "a scale is that of the first channel": (
            "scale + c, &q, 0, codes)",
            "scale, &q, 0, codes)",
        ),
        "the last search step is left out": ("step != 0; step >>= 1)", "step > 1; step >>= 1)"),
        "a value below all counts": ("least <= -1 - INFINITY_PLACE", "least < -1 - INFINITY_PLACE"),
    },
    "cells_256.h": {
        "no value is in doubt": (
            "_mm256_or_si256(*doubt, _mm256_cmpeq_epi16",
            "_mm256_and_si256(*doubt, _mm256_cmpeq_epi16",
        ),
        "a threshold may lie at a tie": ("off > -0.45 && off < 0.45", "off > -0.51 && off < 0.51"),
        "a third threshold is passed over": (
            "held[cell] == 2)\n            return;",
            "held[cell] == 2)\n            continue;",
        ),
        "the last cell counts all below": ("is_missing && is_last", "0 * is_missing"),
        "any scale has a reciprocal": ("& (near == scale[k])", ""),
        "halves of vectors follow each other": (
            "_mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)",
            "_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)",
        ),
    },
    "blocks_256.h": {
        "a scale's exponent is that of 1": (
            "(int32_t)s->top - 1023 + 127",
            "(int32_t)s->top - 896 + 1",
        ),
        "nothing carries": ("(int32_t)(s->carry >> 29)", "0"),
        "less carries": ("(int32_t)(s->carry >> 29)", "(int32_t)(s->carry >> 30)"),
        "the end counts as clamped, in a block": (
            "(int32_t)bits_of_float((float)high)",
            "(int32_t)bits_of_float((float)high) - 1",
        ),
        "less than an ulp beyond the end": (
            "(int32_t)bits_of_float((float)high)",
            "(int32_t)bits_of_float((float)high) + 1",
        ),
        "exponents end at 2^-126": ("_mm256_set1_epi32(-127));", "_mm256_set1_epi32(-126));"),
        "the scale of zeros is the least": (
            "_mm256_andnot_si256(is_zero, exponent)",
            "exponent",
        ),
        "the last four scales are the first": (
            "_mm256_extracti128_si256(field, 1)",
            "_mm256_castsi256_si128(field)",
        ),
        "two blocks have one scale": (
            "x[2 * k], x[2 * k + 1]),\n                                   _mm256_unpackhi",
            "x[2 * k], x[2 * k]),\n                                   _mm256_unpackhi",
        ),
        "half of the clamped values count": (
            "_mm256_cmpgt_epi32(_mm256_andnot_si256(sign, c), within)",
            "_mm256_setzero_si256()",
        ),
        "what is clamped last counts for all": ("*clamped += sum_of", "*clamped = sum_of"),
        "some lanes are not counted": ("k < 8; k++)\n        sum", "k < 7; k++)\n        sum"),
        "codes lie in a byte the other way round": ("(1 << 12 | 1)", "(1 << 8 | 16)"),
        "the last group's magnitudes are those of all": (
            "greatest = _mm256_max_epi32(greatest, most);",
            "greatest = most;",
        ),
        "any length is whole": ("inner % 32 != 0", "inner % 16 != 0"),
        "integers are formats like others": (
            "b.codes.kind == FF_BYTES_CAPPED && ",
            "",
        ),
        "a reciprocal is subnormal": ("FF_LEAST_TOP = 127 + 2", "FF_LEAST_TOP = 127 + 1"),
    },
    "codes.inc.h": {
        "bytes overflow at the limit": (
            "MM(min_epi32)(magnitude, above)",
            "MM(min_epi32)(magnitude, below)",
        ),
        "both signs overflow alike": ("p->beyond[1] | UINT32_C", "p->beyond[0] | UINT32_C"),
        "signs are left behind": (
            "big = MM(or_ps)(big, MM(and_ps)(x, FF_AS_FLOATS(sign)));",
            "big = MM(or_ps)(big, MM(setzero_ps)());",
        ),
        "a quarter of a place is added": ("MM(set1_epi32)(24 << 23)", "MM(set1_epi32)(25 << 23)"),
        "a byte has a sign where -0 is NaN": ("V(where_positive)(sign, magnitudes)", "sign"),
        "the larger limit is that of both signs": (
            "MM(set1_epi8)((int8_t)p->limit[1])",
            "MM(set1_epi8)((int8_t)p->limit[0])",
        ),
        "overflows have no sign": (
            "MM(set1_epi8)((int8_t)p->overflow[1]), signs);\n    FF_INTS",
            "MM(set1_epi8)((int8_t)p->overflow[0]), signs);\n    FF_INTS",
        ),
        "E8M0's subnormals are as long as others": ("MM(min_epi32)(above, zero)", "zero"),
        "E8M0 knows negative values": (
            "p->overflow[1]), signs);\n}",
            "p->overflow[0]), signs);\n}",
        ),
        "E8M0 knows 0": ("before < 0x7f7fffff ?", "before < UINT32_MAX ?"),
    },
    "codes_plan.h": {
        "what has no sign is negative": ("f.sign == FF_UNSIGNED ? 0 : UINT8_MAX", "UINT8_MAX"),
        "negative values overflow to 0": ("return r->overflow[s] == 0;", "return 1;"),
        "negative integers are flipped": ("twos ? UINT8_MAX : 0", "0"),
        "negative integers fill their bytes": (
            "c.code_mask = (uint8_t)(sign_bit(f) | magnitude_mask(f))",
            "c.code_mask = UINT8_MAX",
        ),
        "what lies beyond is the limit": ("(uint32_t)most + 1,", "(uint32_t)most,"),
        "Inf may be any code beyond": ("(uint64_t)r->limit[s] <= 1", "(uint64_t)r->limit[s] <= 9"),
    },
    "slots_256.h": {
        "what is lost is forgotten": ("(a, b, _CMP_NEQ_OQ)", "(a, b, _CMP_EQ_OQ)"),
        "fp64 is cut to fp32": (
            "_mm256_cvtps_pd(near_b), b, _CMP_NEQ_OQ",
            "_mm256_cvtps_pd(near_b), b, _CMP_LT_OQ",
        ),
        "the largest magnitude is of some": (
            "k < 8; k++)\n        largest",
            "k < 7; k++)\n        largest",
        ),
        "bf16 is fp16": ("_mm256_slli_epi32(bits, 16)", "_mm256_slli_epi32(bits, 13)"),
        "codes are packed the other way": ("256 << odd | 1 << even", "256 << even | 1 << odd"),
        "VCVTPH2PS decodes NaNs": (
            "_mm_cmpgt_epi16(nan, infinity)",
            "_mm_cmpgt_epi16(infinity, infinity)",
        ),
        "bytes decode as if NaN were a number": (
            "_mm256_cmpgt_epi16(most, limit)",
            "_mm256_cmpgt_epi16(limit, limit)",
        ),
        "the last binade of five exponent bits is fp16's": ("largest < last ?", "1 ?"),
        "bytes without a sign have one": (
            "f.sign == FF_UNSIGNED ? 16 : 16 - code_bits(f)",
            "16 - code_bits(f)",
        ),
        "formats have fp16's bias": ("power_of_two(15 - f.bias)", "power_of_two(0)"),
        "bf16 of NaN is another": ("_mm256_movemask_ps(nan) != 0", "0"),
        "of two registers one is asked for NaN": (
            "_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)",
            "_mm256_castsi256_ps(a), _mm256_castsi256_ps(a)",
        ),
    },
    "random_256.h": {
        "a counter comes twice": ("setr_epi64x(0, 1, 2, 3)", "setr_epi64x(0, 1, 2, 2)"),
        "keys are out of step": ("key1 += 0xBB67AE85u", "key1 += 0xBB67AE84u"),
        "counters are of 32 bits": ("_mm256_srli_epi64(counter, 32), zero", "zero, zero"),
    },
    "isa_avx2.c": {
        "VCVTPS2PH truncates": (
            "values), _MM_FROUND_CUR_DIRECTION)",
            "values), _MM_FROUND_TO_ZERO)",
        ),
        "the third bit chooses": ("_mm256_slli_epi32(at, 28)", "_mm256_slli_epi32(at, 29)"),
        "the middle place is off by one": (
            "_mm256_set1_epi32(places[7])",
            "_mm256_set1_epi32(places[6])",
        ),
        "places are in counting order": (
            "four_twice(c, d, 1), _MM_SHUFFLE(1, 2, 3, 0)",
            "four_twice(c, d, 1), _MM_SHUFFLE(3, 2, 1, 0)",
        ),
        "nibbles change places": (
            "_mm_unpacklo_epi8(first, second)",
            "_mm_unpacklo_epi8(second, first)",
        ),
        "the instruction rounds otherwise": (
            "toward_negative, _MM_FROUND_TO_NEG_INF)",
            "toward_negative, _MM_FROUND_TO_ZERO)",
        ),
    },
    "isa_avx512.c": {
        "edges are rounded to nearest": (
            "_MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC",
            "_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC",
        ),
        "edges of zero are not lowered": (
            "_mm256_mask_sub_epi32(place, at_zero, place, one)",
            "place",
        ),
        "a search starts late": ("int step = 4; step", "int step = 2; step"),
        "the middle is off by one": ("_mm512_set1_epi32(p[7])", "_mm512_set1_epi32(p[6])"),
        "nibbles change their places": (
            "_mm_unpacklo_epi8(first, second)",
            "_mm_unpacklo_epi8(second, first)",
        ),
        "the signs of bytes are of others": (
            "_mm512_movepi8_mask(y), positive, negative",
            "_mm512_movepi8_mask(positive), positive, negative",
        ),
        "NaN's byte has a sign": (
            "_mm512_cmpgt_epi8_mask(y, _mm512_setzero_si512())",
            "_mm512_cmpneq_epi8_mask(y, _mm512_setzero_si512())",
        ),
        "bytes beyond are compared with signs": ("cmple_epu8_mask", "cmple_epi8_mask"),
        "quarters are in another order": ("(0, 4, 8, 12, 1, 5,", "(0, 4, 8, 12, 5, 1,"),
        "the last 32 are left out": (
            "if (whole == n)\n        return most",
            "if (whole != 0)\n        return most",
        ),
        "narrowing saturates": (
            "_mm512_cvtepi64_epi32(_mm512",
            "_mm512_cvtusepi64_epi32(_mm512",
        ),
    },
}

#: Of code that other levels do not come to.
AVX2_ALONE = {
    "sums go the other way": (
        "UP = 2, DOWN = 1",
        "UP = 1, DOWN = 2",
        "scalar.h",
    ),
    "the CPU is not turned back": (
        "turn_back(void) { turn_to(FF_NEAREST_EVEN); }",
        "turn_back(void) {}",
        "scalar.h",
    ),
    "what follows a rest is to nearest": ("turn_to(r->rounding);\n}", "\n}", "convert.inc.h"),
    "VCVTPS2PH rounds to odd": (
        "return rounding == FF_NEAREST_EVEN ||",
        "return rounding == FF_TO_ODD || rounding == FF_NEAREST_EVEN ||",
        "convert.inc.h",
    ),
    "values beyond the last 32 are encoded": (
        "(n - done) & ~(size_t)31",
        "(n - done)",
        "convert.inc.h",
    ),
}

SHARED = {
    "the last part is left out": (
        *("pool.c", ", 1)) < job->parts)", ", 1)) + (job->parts > 1) < job->parts)"),
        "any_number",
    ),
    "a child has its parent's threads": ("pool.c", "    n_threads = 0;\n", "", "forked"),
    "parts draw the same words": (
        *("calls.c", "part.start += from * step;", "part.start += 0;"),
        "any_number",
    ),
    "parts have the first scales": (
        *("calls.c", "c->scale == NULL ? NULL : c->scale + from", "c->scale"),
        "any_number",
    ),
    "the first part's least value counts": (
        *("calls.c", ": least(*c.scale, found[0])", ": *c.scale"),
        "any_number",
    ),
    "parts' rows are as long as their own": (
        *("calls.c", "c->outer, c->stride, c->channels, c->inner, c->scale);"),
        *("c->outer, c->channels * c->inner, c->channels, c->inner, c->scale);", "pieces"),
    ),
    "a part that fails is forgotten": ("calls.c", "p.failed ? -1 :", "0 ? -1 :", "not_finite"),
    "scales have no subnormals": ("calls.c", "least >= first_normal)", "least > 0)", "stored"),
    "later scales are stored first": ("calls.c", "some.stored);", "c->stored);", "stored"),
}
MUTATIONS = {
    **dict(rows("scalar.h", f"{CONVERSIONS} or {QUANTISERS}")),
    **dict(rows("convert.inc.h", CONVERSIONS)),
    **dict(rows("quantize.inc.h", QUANTISERS)),
    **dict(rows("elements.inc.h", ELEMENTS)),
    **dict(rows("cells_256.h", ELEMENTS, "avx2")),
    **dict(rows("blocks_256.h", "scales_and_codes or power_of_two or any_block_of", "avx2")),
    **dict(rows("codes.inc.h", f"{CONVERSIONS} or {ELEMENTS}", "avx2")),
    **dict(rows("codes_plan.h", f"{CONVERSIONS} or {ELEMENTS}", "avx2")),
    **dict(rows("slots_256.h", f"{CONVERSIONS} or {ELEMENTS}", "avx2")),
    **dict(rows("random_256.h", CONVERSIONS, "avx2")),
    **dict(rows("isa_avx2.c", f"{CONVERSIONS} or {ELEMENTS}", "avx2")),
    **dict(rows("isa_avx512.c", f"{CONVERSIONS} or {ELEMENTS}", "avx512")),
    **{
        name: Mutation(file, old, new, CONVERSIONS, "avx2")
        for name, (old, new, file) in AVX2_ALONE.items()
    },
    "memory may overlap": Mutation(
        *("calls.c", "(overlap || a %", "(a %"),
        *("overlap", "baseline", "tests/test_arrays.py"),
    ),
    "arrays end an element early": Mutation(
        *("calls.c", "b < a + n * x_bytes", "b < a + (n - 1) * x_bytes"),
        *("overlap", "baseline", "tests/test_arrays.py"),
    ),
    "the caller's environment is worked in": Mutation(
        "pool.c",
        "saved = ff_default_float_environment();",
        "saved = ff_default_float_environment(); ff_restore_float_environment(saved);",
        *("ftz_and_daz", "baseline", HOSTILE),
    ),
    "the caller's environment is not put back": Mutation(
        *("pool.c", "    ff_restore_float_environment(saved);\n", "    (void)saved;\n"),
        *("ftz_and_daz", "baseline", HOSTILE),
    ),
    **{
        name: Mutation(file, old, new, tests, "baseline", THREADS)
        for name, (file, old, new, tests) in SHARED.items()
    },
}


def copy_project(to: Path) -> None:
    for folder in ("floatfmt", "csrc", "tests"):
        skipped = shutil.ignore_patterns("*.so", "__pycache__", "_native.c")
        shutil.copytree(ROOT / folder, to / folder, ignore=skipped)
    for file in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, to / file)
    # Bits do not depend on it, and it builds four times as fast.
    flags = to / "csrc" / "build_ffi.py"
    flags.write_text(flags.read_text().replace('"-O3"', '"-O1"'))


def build(project: Path) -> None:
    for made in (project / "floatfmt").glob("_native*.so"):
        made.unlink()
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    ran = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    if not any((project / "floatfmt").glob("_native*.so")):
        raise SystemExit(f"the kernel does not build:\n{ran.stdout}{ran.stderr}")


def first_failure(project: Path, how: Mutation) -> str | None:
    """Return the test that failed first, or None."""
    chosen = f"({how.level} or f16c or test_threads) and ({how.tests})"
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-xq", "-p", "no:cacheprovider", how.path),
            *("-k", chosen, "--hypothesis-seed=0"),
        ],
        cwd=project,
        env={
            **{key: value for key, value in os.environ.items() if key != "FLOATFMT_BACKEND"},
            **{"PYTHONPATH": str(project), "FLOATFMT_REQUIRE": "native"},
            "HYPOTHESIS_PROFILE": "mutations",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode == 0:
        return None
    if ran.returncode < 0:
        return f"signal {-ran.returncode}"
    found = re.search(r"^(?:FAILED|ERROR) \S+?::(.+?)(?: - |$)", ran.stdout, re.M)
    if ran.returncode != 1 or found is None:
        raise SystemExit(f"pytest did not run:\n{ran.stdout}{ran.stderr}")
    return found[1]


def check_unbroken(project: Path, choices: set[tuple[str, str, str]]) -> None:
    """Stop if the tests fail as it is: what they would say of a mutation meant nothing."""
    build(project)
    for choice in sorted(choices):
        if failed := first_failure(project, Mutation("", "", "", *choice)):
            raise SystemExit(f"{failed} fails without any mutation")


def try_out(project: Path, how: Mutation) -> str | None:
    """Break the copy, and return the test that notices, or None."""
    file = project / "csrc" / how.file
    text = file.read_text()
    if text.count(how.old) != 1:
        raise SystemExit(f"{how.file} has {text.count(how.old)} times {how.old!r}; mend this list")
    file.write_text(text.replace(how.old, how.new))
    try:
        build(project)
        return first_failure(project, how)
    finally:
        file.write_text(text)


def main(words: list[str]) -> int:
    survivors = 0
    chosen = {
        name: how
        for name, how in MUTATIONS.items()
        if not words or any(word in f"{name} {how.file} {how.level}" for word in words)
    }
    here = {name for name, how in chosen.items() if how.level in ff.available_backends()}
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        copy_project(project)
        check_unbroken(project, {chosen[name][3:] for name in here})
        for name, how in chosen.items():
            outcome = f"not tried: this machine has no {how.level}"
            if name in here:
                killer = try_out(project, how)
                survivors += killer is None
                outcome = "SURVIVED" if killer is None else f"killed by {killer}"
            print(f"{how.file:15}  {name:41}  {outcome}", flush=True)
    print(f"{survivors} survived")
    return int(survivors > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
