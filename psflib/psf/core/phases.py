"""What no star of an undersampled image can tell: how its light depends on the sub-pixel phase.

A star shows the ePSF at one phase of the pixel only, and is free in flux and position.  Multiply
the ePSF by any function of the phase, or move it by one, and every star follows without a trace:
ψ'(u) = s(u)·ψ(u - ε(u)), with s and ε periodic over the pixel, fits all stars as well as ψ.  A
smoothness prior would decide, wrongly: it flattens.  Instead

* s: a PSF integrated over pixels of even response has the same volume at every phase;
* ε: it has the least power at high frequencies, relative to what is usual there, for a warp of the
  phases mixes every frequency f with f ± 1 per pixel.
"""

import numpy as np
from scipy import ndimage

UNDERSAMPLED = 2.5  # px of FWHM, below which there is anything to tell
RINGS = 0.05  # cycles per px, width of the rings of the mean power
FLOOR = 1e-8  # of the power at the centre


def volumes(coef, oversample):
    """Volume (os, os) of an ePSF at each phase, over their mean."""
    size = len(coef) // oversample
    sums = coef.reshape(size, oversample, size, oversample).sum(axis=(0, 2))
    return sums / sums.mean()


def spread(values, size):
    """A function of the phase (os, os) on all nodes (os·s, os·s)."""
    return np.tile(values, (size, size))


def at_stars(values, delta):
    """A function of the phase (os, os) at the stars' offsets `delta` (n, 2), px."""
    os = len(values)
    # Node k lies at (k - (os·s - 1)/2)/os px, and s is odd.
    index = (-delta * os + (os - 1) / 2).T
    return ndimage.map_coordinates(values, index, order=3, mode="grid-wrap")


def waves(oversample, size):
    """sin and cos (2, os·s) of the phase along an axis."""
    node = (np.arange(oversample * size) - (oversample * size - 1) / 2) / oversample
    return np.stack([np.sin(2 * np.pi * node), np.cos(2 * np.pi * node)])


def warps(coef, oversample):
    """Changes (4, n, n) by a warp of the phase: sin and cos along rows, then along columns."""
    sin_cos = waves(oversample, len(coef) // oversample)
    rows, cols = (slope * oversample for slope in np.gradient(coef))
    return -np.concatenate([sin_cos[:, :, None] * rows, sin_cos[:, None, :] * cols])


def free_phases(coef, oversample):
    """Changes (os² + 4, n, n) that stars can undo: the light of each phase, and the warps."""
    size, os = len(coef) // oversample, oversample
    single = np.eye(os * os).reshape(-1, os, os)
    return np.concatenate([[coef * spread(one, size) for one in single], warps(coef, oversample)])


def least_warp(psi, oversample):
    """Amplitudes (4,) px of the warps that leave an ePSF the least power where little is usual."""
    frequency = np.fft.fftfreq(len(psi), 1 / oversample)
    radius = np.hypot(frequency[:, None], frequency)
    ring = (radius / RINGS).astype(int)
    spectrum = np.fft.fft2(psi)
    usual = np.bincount(ring.ravel(), np.abs(spectrum.ravel()) ** 2)
    usual = np.minimum.accumulate(usual / np.maximum(np.bincount(ring.ravel()), 1))
    weight = 1 / np.sqrt(np.maximum(usual, FLOOR * usual[0]))[ring]

    def columns(changes):
        parts = np.array([np.fft.fft2(change) * weight for change in changes])
        parts = parts.reshape(len(parts), -1)
        return np.concatenate([parts.real, parts.imag], axis=1).T

    shifts = np.gradient(psi)  # a shift is no warp
    design = columns([*warps(psi, oversample), *shifts])
    right = columns([psi])[:, 0]
    return -np.linalg.lstsq(design, right, rcond=None)[0][:4]


def warped_offsets(delta, amplitudes):
    """Offsets (n, 2) of stars under a model that was warped by `amplitudes` (4,)."""
    angle = 2 * np.pi * delta
    sin, cos = np.sin(angle), np.cos(angle)
    a = np.asarray(amplitudes).reshape(2, 2)
    return delta - (-a[:, 0] * sin + a[:, 1] * cos)
