"""Saturation seen in the stars themselves, whatever the header says of it."""

import numpy as np

DROP = 0.05  # of ln(peak) below what the flux asks for, where the detector is no longer linear,
SPREADS = 1.5  # if that is also this many times the scatter of single stars
GROUP = 9  # stars of like flux that are looked at together
FEWEST = 3 * GROUP

LIT = 0.05  # of a pixel's value, that a neighbour has at least if a star shines there


def without_light_around(image, marked) -> np.ndarray:
    """Marked pixels (ny, nx) bool beside which there is no light: hot ones, not stars.

    A star of 0.9 px FWHM still has a quarter of its central pixel's light beside it.

    Parameters
    ----------
    image : ndarray (ny, nx)
        With or without sky.
    marked : ndarray (ny, nx) bool
    """
    hot = np.zeros(marked.shape, bool)
    y, x = np.nonzero(marked)
    if not len(y):
        return hot
    level = np.median(image[::7, ::7])
    padded = np.pad(image, 1, mode="constant", constant_values=level)
    around = [padded[y + j, x + i] for j in range(3) for i in range(3) if (j, i) != (1, 1)]
    brightest = np.max(np.nan_to_num(around, nan=level), axis=0)
    hot[y, x] = brightest - level < LIT * (image[y, x] - level)
    return hot


def expected_peak(x, y, flux, size, scale=1.0):
    """Value (ADU) of the brightest pixel that a star of this flux and size has.

    By the flux and the size of the stars around, not by the star's own: a cut in the measured peak
    would take the narrower of two equal stars.

    Parameters
    ----------
    x, y : ndarray (n,)
        px; their fractions tell how far the brightest pixel is from the centre.
    flux : ndarray (n,)
        ADU.
    size : ndarray (n,)
        FWHM of a star at these places, px.
    scale : float
        Peak of a star centred on a pixel, over flux / size².
    """
    away = np.hypot(x - np.rint(x), y - np.rint(y))
    return scale * flux / size**2 * np.exp(-4 * np.log(2) * (away / size) ** 2)


def peak_scale(peak, expected) -> float:
    """Median of the measured over the expected peaks: the `scale` of this image's stars."""
    return float(np.median(peak / expected)) if len(peak) else 1.0


def turn_over(peak, expected) -> float | None:
    """Peak (ADU) from which stars have less of it than their flux asks for, or None.

    Galaxies have less peak too, but not all sources of a flux are galaxies: the upper quartile of
    peak / expected is followed through groups of like flux, from the brightest down.

    Parameters
    ----------
    peak, expected : ndarray (n,)
        Measured, and from `expected_peak`; ADU above the sky, both positive.
    """
    if len(peak) < FEWEST:
        return None
    order = np.argsort(expected)
    ratio = np.log(peak / expected)[order]
    windows = np.lib.stride_tricks.sliding_window_view(ratio, GROUP)
    envelope = np.percentile(windows, 75, axis=1)
    usual = np.median(envelope)
    spread = 1.4826 * np.median(np.abs(ratio - np.median(ratio)))
    low = envelope < usual - max(DROP, SPREADS * spread)
    if not low[-1]:
        return None
    linear = np.flatnonzero(~low)
    # the first group that is all low begins one star after the last linear one
    start = min(linear[-1] + 1, len(low) - 1) + GROUP // 2
    return float(expected[order][start] * np.exp(usual))
