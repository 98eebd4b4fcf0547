"""Slow, readable twins of the loops of the detection."""

import numpy as np
from scipy import ndimage


def shifted(psf, dy, dx):
    return ndimage.shift(psf, (dy, dx), order=3, mode="nearest")


def box(planes, y, x, psf):
    """Data, weight and PSF of the usable pixels in the box around a candidate."""
    image, variance, usable = planes
    half = len(psf) // 2
    rows, columns = (np.arange(-half, half + 1) + at for at in (y, x))
    rows, columns = (
        a[(a >= 0) & (a < n)] for a, n in zip((rows, columns), image.shape, strict=True)
    )
    at = np.ix_(rows, columns)
    weight = np.where(usable[at], 1 / variance[at].astype(float), 0)
    return image[at].astype(float), weight, np.ix_(rows - y + half, columns - x + half)


def fit_sums(planes, y, x, psf, shift):
    moved = shifted(psf, *shift)
    data, weight, inside = box(planes, y, x, psf)
    terms = [term[inside].ravel() for term in (moved, *(-slope for slope in np.gradient(moved)))]
    weighted = np.array(terms) * weight.ravel()
    return weighted @ np.array(terms).T, weighted @ data.ravel()


def fit_facts(planes, y, x, psf, shift, level):
    data, weight, inside = box(planes, y, x, psf)
    moved = shifted(psf, *shift)[inside]
    power, signal = np.sum(moved**2 * weight), np.sum(moved * data * weight)
    rest = data - signal / power * moved
    core = moved > level * moved.max()
    seen = core & (weight > 0)
    central = planes[2][y, x]
    off = planes[0][y, x] - signal / power * shifted(psf, *shift)[len(psf) // 2, len(psf) // 2]
    return [
        power, signal, moved[core].sum(), moved[seen].sum(), seen.sum(),
        np.sum(rest[seen] ** 2 * weight[seen]),
        1 / float(planes[1][y, x]) if central else 0, off if central else 0, moved.max(),
    ]  # fmt: skip


def strongest_opposite(score, y, x, half):
    box = score[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
    return (-box * np.sign(score[y, x])).max()


def naive_peak_heights(score, sky, limit):
    """Heights of the peaks of one half of a score minus the other, and the pixels that count."""
    heights, area = [], 0
    for plane, select in ((score, sky), (score.T, sky.T)):
        half = len(plane) // 2
        z = np.abs(plane[:half] - plane[-half:]) / np.sqrt(2)
        both = select[:half] & select[-half:]
        area += both.sum()
        for y in range(1, half - 1):
            for x in range(1, z.shape[1] - 1):
                box = z[y - 1 : y + 2, x - 1 : x + 2]
                if both[y, x] and z[y, x] == box.max() > limit:
                    line = [box[:, 1], box[1]]
                    gain = [(c - a) ** 2 / (8 * (2 * b - a - c)) for a, b, c in line]
                    heights.append(z[y, x] + sum(gain))
    return np.array(heights), area
