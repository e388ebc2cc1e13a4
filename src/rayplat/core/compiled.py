"""How numeric kernels become machine code: numba, compiled once and kept beside the module.

Knows one set of options for all kernels; it does not know what a kernel computes. Import a module that
holds kernels only where they run: numba alone takes some tenths of a second.

Kernels keep IEEE 754 to the letter (no fast math, no contraction): what they give is the same on every
machine and the same as plain Python gives. They let go of Python's lock, so threads run them side by side.
"""

from collections.abc import Callable
from typing import TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile a function of numbers and NumPy arrays for the types that it is called with.

    The code is kept in the module's `__pycache__`, or in numba's own folder where that cannot be written.
    `function.py_func` is the Python original.
    """
    import numba

    return cast("Function", numba.njit(cache=True, nogil=True, fastmath=False)(function))


def inlined(function: Function) -> Function:
    """As `compiled`, for a part of another kernel: its code is put in the place of each call."""
    import numba

    return cast("Function", numba.njit(inline="always", nogil=True, fastmath=False)(function))
