"""Large arrays on several threads: the same bits, errors and counts as on one."""

import concurrent.futures
import os
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import floatfmt as ff
from floatfmt.backends import thread_count, threads

pytestmark = pytest.mark.skipif(
    ff.available_backends() == ("reference",), reason="the reference runs on one thread"
)
COUNTS = (2, 3, 7)


@pytest.fixture(autouse=True)
def small_arrays_are_shared_out(monkeypatch):
    monkeypatch.setattr(threads, "LEAST", 1)


def fields_of(x):
    fields = ff.decompose(x)
    return fields.sign, fields.exponent, fields.fraction


def values(seed, shape):
    rng = np.random.default_rng(seed)
    return np.float32(rng.normal(size=shape) * np.exp2(rng.integers(-20, 20, shape)))


def flattened(found):
    if isinstance(found, ff.Quantized):
        parts = (found.packed, found.scale, found.zero_point, found.saturated, found.tensor_scale)
        return [np.asarray(part).tobytes() for part in parts if part is not None]
    if isinstance(found, tuple):
        return [np.asarray(part).tobytes() for part in found]
    return np.asarray(found).tobytes()


FP8 = "fp8_e4m3fn"
#: Everything that is shared out, on values of any shape.
OPERATIONS = {
    "encode": lambda x: ff.encode(x, FP8),
    "encode stochastic": lambda x: ff.encode(x, "bf16", rounding="stochastic", seed=7),
    "decode": lambda x: ff.decode(ff.encode(x, FP8), FP8),
    "round": lambda x: ff.round_to(x, "bf16"),
    "round stochastic": lambda x: ff.round_to(x, FP8, rounding="stochastic", seed=7),
    "decompose": fields_of,
    "compose": lambda x: ff.compose(ff.decompose(x)),
    "pack fp4": lambda x: ff.pack(ff.encode(x, "fp4_e2m1fn"), "fp4_e2m1fn"),
    "pack fp6": lambda x: ff.pack(ff.encode(x, "fp6_e2m3fn"), "fp6_e2m3fn"),
    "unpack fp6": lambda x: ff.unpack(
        ff.pack(ff.encode(x, "fp6_e2m3fn"), "fp6_e2m3fn"), "fp6_e2m3fn", x.shape[-1]
    ),
    **{
        f"{scheme} {options}": lambda x, s=scheme, o=options: ff.quantize(
            x, *filter(None, [s]), **o
        )
        for scheme, options in (
            ("absmax", {}),
            ("absmax", {"axis": 0}),
            ("absmax", {"axis": -1}),
            ("absmax", {"block": 4}),
            ("absmax", {"bits": 4}),
            ("zeropoint", {}),
            ("zeropoint", {"axis": 0}),
            ("zeropoint", {"axis": -1}),
            (None, {"scale": 0.5, "zero_point": 3}),
            (FP8, {}),
            (FP8, {"axis": 0}),
            ("nf4", {"block": 4}),
            ("mxfp4", {}),
            ("nvfp4", {}),
            ("dynamic8", {"block": 16}),
        )
    },
}
RESTORED = (
    "absmax {}",
    "absmax {'axis': 0}",
    "zeropoint {'axis': -1}",
    "nf4 {'block': 4}",
    "mxfp4 {}",
)


@pytest.mark.parametrize("name", OPERATIONS)
@given(
    st.integers(0, 2**32),
    st.tuples(st.integers(1, 40), st.integers(1, 200)) | st.tuples(st.integers(1, 3000)),
)
def test_any_number_of_threads_gives_the_same(name, seed, shape):
    x = values(seed, shape)
    with ff.use_threads(1):
        alone = flattened(OPERATIONS[name](x))
    for count in COUNTS:
        with ff.use_threads(count):
            assert flattened(OPERATIONS[name](x)) == alone


@pytest.mark.parametrize("scheme", ["absmax", "zeropoint", FP8])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((70, 1100), -1), ((5, 1030), -1), ((200, 3), -1), ((40, 600, 3), 1), ((3, 9, 700), 1)],
)
def test_channels_that_rows_have_pieces_of_are_as_the_reference_has_them(shape, axis, scheme):
    x = values(2, shape)
    with ff.use_backend("reference"):
        wanted = ff.quantize(x, scheme, axis=axis)
    for count in (1, *COUNTS):
        with ff.use_threads(count):
            found = ff.quantize(x, scheme, axis=axis)
            assert flattened(found) == flattened(wanted)
            assert flattened(found.dequantize()) == flattened(wanted.dequantize())


#: Formats of scales and the schemes that have them, for every type of values that they take; the
#: least magnitudes make subnormal scales where the format has some.
STORED = [
    *((f"absmax {fmt}", {"block": 4, "scale_dtype": fmt}) for fmt in ("fp32", "fp16", "bf16")),
    ("absmax fp64", {"block": 4, "scale_dtype": "fp64"}),
    ("nf4 fp32", {"block": 4}),
    ("mxfp4 fp8_e8m0fnu", {}),
    ("nvfp4 fp8_e4m3fn", {}),
    ("fp8_e4m3fn fp32", {"block": 16}),
]


@pytest.mark.parametrize(("name", "options"), STORED)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_scales_of_many_blocks_are_stored_as_the_reference_stores_them(name, options, dtype):
    scheme = name.split()[0]
    x = np.clip(values(1, (5000, 16)), -60000, 60000)
    x[::7] *= np.float32(2.0**-30)
    x = x.reshape(-1).astype(dtype)
    with ff.use_backend("reference"):
        wanted = flattened(ff.quantize(x, scheme, **options))
    for count in (1, 3):
        with ff.use_threads(count):
            assert flattened(ff.quantize(x, scheme, **options)) == wanted


@pytest.mark.parametrize("name", RESTORED)
@given(st.integers(0, 2**32), st.tuples(st.integers(1, 40), st.integers(1, 200)))
def test_any_number_of_threads_gives_the_same_values_back(name, seed, shape):
    q = OPERATIONS[name](values(seed, shape))
    with ff.use_threads(1):
        alone = flattened(q.dequantize())
    for count in COUNTS:
        with ff.use_threads(count):
            assert flattened(q.dequantize()) == alone


@pytest.mark.parametrize("name", [name for name in OPERATIONS if "{" in name])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 511, 1023])
def test_what_is_not_finite_is_found_in_any_part(name, bad, at):
    x = values(0, 1024)
    x[at] = bad
    with ff.use_threads(3), pytest.raises(ValueError, match=rf"\[{at}\] is {bad}"):
        OPERATIONS[name](x.reshape(-1))


def test_a_value_that_has_no_code_is_found_in_any_part():
    x = values(0, 1000)
    x[700] = np.nan
    with ff.use_threads(3), pytest.raises(ValueError, match="nan"):
        ff.encode(x, FP8, nan="error")


def said(code: str, **environment: str) -> str:
    """Return what a process prints that runs the code."""
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=os.environ | environment,
    )
    return ran.stdout


def tasks() -> set[str]:
    """Return the threads of this process, as Linux numbers them."""
    return set(os.listdir("/proc/self/task"))


def nanoseconds_at_work(task: str) -> int:
    return int(Path("/proc/self/task", task, "schedstat").read_text().split()[0])


on_linux = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="asks Linux")


@on_linux
def test_large_arrays_are_shared_out():
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import floatfmt as ff, test_threads
from floatfmt.backends import threads
threads.LEAST = 1
x = test_threads.values(0, (64, 4096))
before, idle, helpers = test_threads.tasks(), [], []
for name, operation in test_threads.OPERATIONS.items():
    with ff.use_threads(2):
        operation(x)
        helpers = helpers or list(test_threads.tasks() - before)
        worked = test_threads.nanoseconds_at_work(helpers[0])
        for _ in range(50):
            operation(x)
    if test_threads.nanoseconds_at_work(helpers[0]) == worked:
        idle.append(name)
print(len(test_threads.tasks() - before), idle)
"""
    assert said(code) == "1 []\n"


@on_linux
def test_no_more_threads_are_started_than_there_is_work_for():
    code = """
import os, numpy as np, floatfmt as ff
from floatfmt.backends import threads
threads.LEAST = 1
before = len(os.listdir("/proc/self/task"))
with ff.use_threads(10**9):
    ff.absmax(np.ones((3, 1000), np.float32), axis=0)
print(len(os.listdir("/proc/self/task")) - before)
"""
    assert said(code) == "2\n"


@on_linux
def test_threads_that_cannot_be_had_are_done_without():
    code = """
import resource, numpy as np, floatfmt as ff
from floatfmt.backends import threads
threads.LEAST = 1
x = np.arange(5000, dtype=np.float32)
with ff.use_threads(1):
    alone = ff.encode(x, "bf16")
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), -1))  # too little for a stack
with ff.use_threads(4):
    same = ff.encode(x, "bf16") == alone
import os
print(len(os.listdir("/proc/self/task")), same.all())
"""
    assert said(code, OPENBLAS_NUM_THREADS="1") == "1 True\n"


@pytest.mark.parametrize("scheme", ["absmax", "zeropoint"])
def test_subnormals_are_not_flushed_where_parts_are_put_together(scheme):
    x = np.full(1000, 1e-310)
    x[0] = 2e-310
    before = torch.is_flush_denormal() if hasattr(torch, "is_flush_denormal") else False
    found = []
    assert torch.set_flush_denormal(True)
    try:
        for count in (1, 3):
            with ff.use_threads(count):
                found.append(flattened(ff.quantize(x, scheme)))
                found.append(flattened(ff.quantize(x, "zeropoint", include_zero=True)))
    finally:
        torch.set_flush_denormal(before)
    found.append(flattened(ff.quantize(x, scheme)))
    assert found[0] == found[2] == found[4]
    assert found[1] == found[3] == flattened(ff.quantize(x, "zeropoint", include_zero=True))


def test_callers_on_many_threads_get_what_one_gets():
    x = values(0, (64, 100))
    with ff.use_threads(1):
        alone = [flattened(work(x)) for work in OPERATIONS.values()]

    def all_of_them(_):
        with ff.use_threads(3):
            return [flattened(work(x)) for work in OPERATIONS.values()]

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert all(found == alone for found in pool.map(all_of_them, range(12)))


@on_linux
def test_a_forked_child_has_threads_of_its_own():
    code = """
import os, numpy as np, floatfmt as ff
from floatfmt.backends import threads
threads.LEAST = 1
x = np.arange(4096, dtype=np.float32)
with ff.use_threads(4):
    ours = ff.encode(x, "bf16")
    child = os.fork()
    same = (ff.encode(x, "bf16") == ours).all()
    if child == 0:
        os._exit(0 if same and len(os.listdir("/proc/self/task")) == 4 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), same)
"""
    assert said(code) == "0 True\n"


# --- how many -----------------------------------------------------------------------------------


def test_small_arrays_stay_with_their_caller(monkeypatch):
    monkeypatch.undo()
    with ff.use_threads(4):
        assert [threads.threads_for(n) for n in (0, 1, threads.LEAST - 1)] == [1, 1, 1]
        assert threads.threads_for(threads.LEAST) == 2
        assert threads.threads_for(10 * threads.LEAST) == 4


def test_the_environment_says_how_many(monkeypatch):
    monkeypatch.setattr(threads, "_wanted", "3")
    assert thread_count() == 3
    with ff.use_threads(2):
        assert thread_count() == 2


def test_no_more_threads_than_torch_was_given(monkeypatch):
    monkeypatch.setattr(threads, "_wanted", None)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert thread_count() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("wanted", [0, -1, 1.5, "two", True, None])
def test_what_is_no_number_of_threads_is_refused(wanted):
    with pytest.raises(ValueError, match="1 or more"), ff.use_threads(wanted):
        pass


@pytest.mark.parametrize("wanted", ["0", "many", "-2", "1.5"])
def test_an_environment_that_makes_no_sense_is_refused_before_the_first_large_array(wanted):
    code = "import floatfmt as ff, numpy as np; ff.encode(np.zeros(1, np.float32), 'bf16')"
    with pytest.raises(subprocess.CalledProcessError) as caught:
        said(code, FLOATFMT_THREADS=wanted)
    told = f"ValueError: FLOATFMT_THREADS: {wanted!r} is no number of threads; it takes 1 or more"
    assert caught.value.stderr.splitlines()[-1] == told


def test_what_use_threads_says_goes_before_the_environment(monkeypatch):
    monkeypatch.setattr(threads, "_wanted", "many")
    with ff.use_threads(1):
        ff.encode(np.zeros(1, np.float32), FP8)
    with pytest.raises(ValueError, match="FLOATFMT_THREADS: 'many'"):
        ff.encode(np.zeros(1, np.float32), FP8)


def test_arrays_of_ml_dtypes_are_shared_out_too():
    x = values(0, 1000).astype(ml_dtypes.bfloat16)
    with ff.use_threads(1):
        alone = flattened(ff.encode(x, FP8))
    with ff.use_threads(3):
        assert flattened(ff.encode(x, FP8)) == alone
