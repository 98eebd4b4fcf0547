"""Saturation seen in the stars themselves, whatever the header says of it."""

import numpy as np

DROP = 0.05  # of ln(peak) below what the flux asks for, where the detector is no longer linear,
SPREADS = 1.5  # if that is also this many times the scatter of single stars
GROUP = 9  # stars of like flux that are looked at together
FEWEST = 3 * GROUP


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
