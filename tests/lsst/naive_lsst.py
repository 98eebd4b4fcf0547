"""Slow, readable twins of `DecorrelateALKernelTask`, written from its formulas.

They share no code with psflib and use no fast Fourier transform.
"""

import numpy as np


def dft(kernel, shape):
    """Spectrum of a kernel whose centre pixel is the origin, term by term."""
    ny, nx = shape
    rows = np.arange(kernel.shape[0]) - kernel.shape[0] // 2
    cols = np.arange(kernel.shape[1]) - kernel.shape[1] // 2
    along_y = np.exp(-2j * np.pi * np.outer(np.arange(ny), rows) / ny)
    along_x = np.exp(-2j * np.pi * np.outer(cols, np.arange(nx)) / nx)
    return along_y @ kernel @ along_x


def inverse_dft(spectrum):
    """What has this spectrum, its origin at pixel (0, 0)."""
    ny, nx = spectrum.shape
    along_y = np.exp(2j * np.pi * np.outer(np.arange(ny), np.arange(ny)) / ny)
    along_x = np.exp(2j * np.pi * np.outer(np.arange(nx), np.arange(nx)) / nx)
    return (along_y @ spectrum @ along_x).real / (ny * nx)


def common_shape(*shapes):
    result = []
    for sizes in zip(*shapes, strict=True):
        sizes = sorted(sizes, reverse=True)
        n = sizes[0] + sizes[1] - 1 if len(sizes) > 1 else sizes[0]
        result.append(n if n % 2 == 0 else n + 1)
    return tuple(result)


def pad_center_origin(array, shape):
    """Each pixel moved by hand."""
    out = np.zeros(shape, array.dtype)
    for row in range(array.shape[0]):
        for col in range(array.shape[1]):
            y, x = row - array.shape[0] // 2, col - array.shape[1] // 2
            out[y % shape[0], x % shape[1]] = array[row, col]
    return out


def diffim_correction(kappa, svar, tvar, shape):
    """DMTN-021, eq. 6."""
    kernel = dft(kappa, shape)
    return np.sqrt((svar + tvar * kappa.sum() ** 2) / (svar + tvar * abs(kernel) ** 2))


def score_correction(kappa, svar, tvar, before, shape):
    """DMTN-179; for kernels `before` that pass all frequencies."""
    kernel, first = dft(kappa, shape), dft(before, shape)
    return (svar + tvar * kappa.sum() ** 2) / (svar + tvar * abs(kernel / first) ** 2)


def filtered(image, correction):
    """Circular convolution of an image, zero beyond its border, pixel by pixel."""
    kernel = inverse_dft(correction)
    ny, nx = kernel.shape
    out = np.zeros(image.shape)
    for row in range(image.shape[0]):
        for col in range(image.shape[1]):
            for y in range(image.shape[0]):
                for x in range(image.shape[1]):
                    out[row, col] += image[y, x] * kernel[(row - y) % ny, (col - x) % nx]
    return out


def variance_plane(plane1, plane2, c1, c2):
    """Each plane convolved with the squares of its kernel."""
    return sum(
        filtered(plane, dft_of_plane(inverse_dft(c) ** 2))
        for plane, c in ((plane1, c1), (plane2, c2))
    )


def dft_of_plane(plane):
    """Spectrum of a plane with its origin at pixel (0, 0)."""
    ny, nx = plane.shape
    moved = np.roll(plane, (ny // 2, nx // 2), (0, 1))
    return dft(moved, plane.shape)


def clipped_mean(values, clip=3.0, rounds=3):
    values = np.sort(np.ravel(values))
    low, centre, high = (np.quantile(values, q) for q in (0.25, 0.5, 0.75))
    spread = (high - low) / 1.3490
    for _ in range(rounds):
        kept = [v for v in values if abs(v - centre) <= clip * spread]
        if not kept:
            break
        centre = sum(kept) / len(kept)
        spread = np.sqrt(sum((v - centre) ** 2 for v in kept) / len(kept))
    return centre
