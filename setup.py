"""What pyproject.toml cannot say: the C extension, and the wheel's abi3 tag."""

import sysconfig

from setuptools import setup

# cffi builds against the limited API by itself; free-threaded CPython has none.
limited_api = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    cffi_modules=["csrc/build_ffi.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if limited_api else {},
)
