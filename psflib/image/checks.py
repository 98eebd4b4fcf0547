"""Checks on arrays and numbers that a caller passes in; they coerce nothing."""

import math
import operator

import numpy as np

FLOATS = (np.float32, np.float64)


def require_array(name, value, ndim, dtypes=FLOATS):
    """`value` as a C-contiguous float64 copy of an ndarray of exactly this kind.

    Raises
    ------
    ValueError
        If `value` is no ndarray of `ndim` dimensions and one of `dtypes` in native byte order.
    """
    dtypes = [np.dtype(d) for d in dtypes]
    fits = isinstance(value, np.ndarray) and value.ndim == ndim
    if not fits or value.dtype not in dtypes or not value.dtype.isnative:
        names = " or ".join(d.name for d in dtypes)
        raise ValueError(f"{name} must be a {ndim}-D numpy array of dtype {names}")
    return np.array(value, dtype=np.float64, order="C")


def require_weight(weight, data, against="data", name="weight"):
    """The weights of `data` as float64: same dtype and shape; None gives all ones."""
    if weight is None:
        return np.ones(data.shape)
    checked = require_array(name, weight, data.ndim, (data.dtype,))
    if weight.shape != data.shape:
        raise ValueError(f"{name} shape {weight.shape} must equal {against} shape {data.shape}")
    return checked


def require_count(value):
    """A non-negative int.  A float is a TypeError, a negative number an OverflowError."""
    value = operator.index(value)
    if value < 0:
        raise OverflowError("can't convert negative int to unsigned")
    return value


def require_odd_oversample(oversample):
    """An odd, positive int."""
    oversample = require_count(oversample)
    if oversample % 2 == 0:
        raise ValueError(f"oversample must be odd; got {oversample}")
    return oversample


def require_model(name, model, oversample):
    """An oversampled model `(os·s, os·s)` float64; returns it with os and the stamp size s."""
    model = require_array(name, model, 2, (np.float64,))
    if model.shape[0] != model.shape[1]:
        raise ValueError(f"{name} must be square; got {model.shape}")
    oversample = require_odd_oversample(oversample)
    side = model.shape[0]
    if side == 0 or side % oversample:
        raise ValueError(
            f"{name} side ({side}) must be an integer multiple of oversample ({oversample})"
        )
    size = side // oversample
    if size % 2 == 0:
        raise ValueError(f"derived stamp_size ({name}_side / oversample) must be odd; got {size}")
    return model, oversample, size


def is_positive(value):
    """True if `value` is a finite number above zero."""
    return math.isfinite(value) and value > 0


def require_choice(name, value, choices):
    """`value` if it is one of `choices`."""
    if value not in choices:
        expected = ", ".join(f'"{c}"' for c in choices)
        raise ValueError(f'invalid {name} "{value}"; expected one of {expected}')
    return value
