"""Backends as fixtures, hypothesis profiles, and the switch that forbids a silent fallback."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

import floatfmt as ff

settings.register_profile(
    "default", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
# A gate gives the same answer to the same source; the search for new cases is the other profiles'.
settings.register_profile(
    "ci", settings.get_profile("default"), max_examples=200, print_blob=True, derandomize=True
)
settings.register_profile("exhaustive", settings.get_profile("default"), max_examples=5000)
# Failures are wanted, and need not be small.
settings.register_profile(
    "mutations", settings.get_profile("default"), phases=[Phase.explicit, Phase.generate]
)
# For sanitizers, which are slow and look at memory: boundaries come in the first examples.
settings.register_profile("quick", settings.get_profile("default"), max_examples=20)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

#: What /proc/cpuinfo must list for a level: asked of the kernel, not of our own detection.
CPU_FLAGS = {
    "baseline": set(),
    "avx2": {"avx2", "f16c"},
    "avx512": {"avx2", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl"},
}


def pytest_configure(config: pytest.Config) -> None:
    """With FLOATFMT_REQUIRE=native, stop unless every level that the CPU has is built in."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("FLOATFMT_REQUIRE") != "native":
        return
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    required = {level for level, needed in CPU_FLAGS.items() if needed <= flags}
    missing = required - set(ff.available_backends())
    if missing:
        pytest.exit(f"FLOATFMT_REQUIRE=native, but these levels are missing: {missing}", 1)


@pytest.fixture(params=ff.available_backends())
def backend(request: pytest.FixtureRequest) -> str:
    """Run the test on each backend this machine has, the reference included."""
    with ff.use_backend(request.param):
        yield request.param


@pytest.fixture(scope="session", params=ff.available_backends()[1:])
def level(request: pytest.FixtureRequest) -> str:
    """Each instruction-set level of the C kernel that this machine has."""
    return request.param
