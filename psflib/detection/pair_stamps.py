"""Cut-outs for the fit of a dipole: the difference, and both images on one PSF."""

import dataclasses

import numpy as np

from psflib.detection.fits import spline_coefficients
from psflib.image.convolve import fft_convolve
from psflib.image.difference import Difference


@dataclasses.dataclass(frozen=True, eq=False)
class PairStamps:
    """Cut-outs (p, k, k) about the middle of each pair; origin (p, 2): that of its central pixel.

    seen (p, 2, k, k): D and Q; variance likewise; share (p): of the science image in Q; usable;
    images (p, 2, k, k), science and matched template, with the variance (p, 2) of each;
    splines (p, 2, m, m): of P_D and P;  area (p): of P, px.
    """

    origin: np.ndarray
    seen: np.ndarray
    variance: np.ndarray
    share: np.ndarray
    usable: np.ndarray
    images: np.ndarray
    noise: np.ndarray
    splines: np.ndarray
    area: np.ndarray


def cut(difference: Difference, weights, psf, places) -> PairStamps:
    """Cut-outs about the middle of each pair of places (p, 2, 2: y, x); the rest as `dipoles`."""
    size = psf.images.shape[-1]
    half = size // 2
    origin = np.rint(places.mean(1)).astype(int)
    at, inside = _box(origin, size, difference.shape)
    usable = inside & difference.usable[at] & (weights[at] > 0)
    variance = np.where(usable, weights[at], 1).astype(float)
    pairs = [_matched(difference, y, x, half) for y, x in origin]
    images, noise, plain = (np.array(part) for part in zip(*pairs, strict=True))
    whitened = np.tensordot(psf.weights.at_points(origin[:, 1], origin[:, 0]).T, psf.images, 1)
    kernels = np.stack([whitened[:, ::-1, ::-1], plain], 1)
    # the noise that a flux sees is that of the difference, whatever the images claim of theirs
    count = np.maximum(usable.sum((1, 2)), 1)
    level = np.where(usable, variance, 0).sum((1, 2)) / count
    power = np.square(kernels).sum((2, 3))
    noise *= (power[:, 1] / power[:, 0] * level / noise.sum(1))[:, None]
    share = noise[:, 1] / noise.sum(1)
    mean = share[:, None, None] * images[:, 0] + (1 - share)[:, None, None] * images[:, 1]
    local = variance / level[:, None, None] * (noise.prod(1) / noise.sum(1))[:, None, None]
    seen = np.stack([np.where(usable, difference.image[at], 0).astype(float), mean], 1)
    return PairStamps(
        origin,
        seen,
        np.stack([variance, local], 1),
        share,
        usable,
        images,
        noise,
        spline_coefficients(kernels),
        1 / power[:, 1],
    )


def _box(origin, size, shape):
    """Index arrays of boxes about each pixel, within the image, and where they are inside."""
    steps = np.arange(size) - size // 2
    rows, columns = origin[:, 0, None] + steps, origin[:, 1, None] + steps
    inside = (rows >= 0) & (rows < shape[0]), (columns >= 0) & (columns < shape[1])
    rows, columns = np.clip(rows, 0, shape[0] - 1), np.clip(columns, 0, shape[1] - 1)
    return (rows[:, :, None], columns[:, None, :]), inside[0][:, :, None] & inside[1][:, None, :]


def _matched(difference, y, x, half):
    """Science and template (2, k, k) on one PSF and in science units, the noise of each (2) as a
    flux sees it, and that PSF (k, k)."""
    kernel, psf = difference.kernel, difference.psf.at(x, y, 2 * half + 1)
    matching = kernel.at(x, y)
    reach = half + matching.shape[0] // 2
    planes = []
    for exposure in (difference.science, difference.template):
        at, inside = _box(np.array([[y, x]]), 2 * reach + 1, difference.shape)
        inside = inside[0]
        variance = exposure.variance[at][0]
        known = variance[inside & (variance > 0)]
        level = float(np.median(known)) if known.size else 1.0
        planes.append((np.where(inside, exposure.image[at][0], 0).astype(float), level))
    inner = slice(reach - half, reach + half + 1)
    scale = 1.0 if kernel.convolved == "template" else 1 / float(kernel.kernel_sum(x, y))
    images, noise = [], []
    for name, (image, level) in zip(("science", "template"), planes, strict=True):
        if name == kernel.convolved:
            image = fft_convolve(image, matching)
            # of white noise that is convolved a sum over the PSF sees more than a pixel does
            seen = fft_convolve(psf, matching[::-1, ::-1], full=True)
            level *= np.square(seen).sum() / np.square(psf).sum()
        images.append(scale * image[inner, inner])
        noise.append(scale**2 * level)
    return np.array(images), np.array(noise), psf
