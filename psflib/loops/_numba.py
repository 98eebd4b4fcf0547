"""The one decorator of all compiled loops.

`error_model="numpy"` makes 1/0 an inf as in NumPy (by default compiled code raises), and the
fastmath flags leave out `nnan` and `ninf`: masks are made of NaN here, and must stay visible.
"""

import functools

import numba

FASTMATH = {"nsz", "arcp", "contract", "afn", "reassoc"}

loop = functools.partial(numba.njit, cache=True, nogil=True, fastmath=FASTMATH, error_model="numpy")
