"""The kernels of ``layers/bits`` as part of a wheel, where there is a compiler; else the first use compiles them.

They are a plain library, which Python's ``ctypes`` loads, and know of which source they were made.
"""

import hashlib
from pathlib import Path

from setuptools import Extension, setup

SOURCE = "lit_scaledrop/layers/bits/kernels.c"
DIGEST = hashlib.sha256(Path(__file__).parent.joinpath(SOURCE).read_bytes()).hexdigest()

setup(
    ext_modules=[
        Extension(
            "lit_scaledrop.layers.bits.kernels",
            [SOURCE],
            define_macros=[("SOURCE_DIGEST", f'"{DIGEST}"')],
            extra_compile_args=["-O3", "-ffp-contract=off", "-pthread"],
            extra_link_args=["-lm", "-pthread"],
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
