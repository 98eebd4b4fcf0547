"""Slow, readable twins of the loops of the detection."""

import numpy as np
from scipy import ndimage, signal


def shifted(psf, dy, dx):
    return ndimage.shift(psf, (dy, dx), order=3, mode="nearest")


def slopes(psf, dy, dx, step=1e-4):
    """Along y and x, of the PSF that was moved."""
    ends = [
        [shifted(psf, dy - s * a, dx - s * b) for s in (step, -step)] for a, b in ((1, 0), (0, 1))
    ]
    return [(high - low) / (2 * step) for high, low in ends]


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
    terms = [term[inside].ravel() for term in (moved, *(-slope for slope in slopes(psf, *shift)))]
    weighted = np.array(terms) * weight.ravel()
    return weighted @ np.array(terms).T, weighted @ data.ravel()


def fit_facts(planes, y, x, psf, shift, level, width):
    data, weight, inside = box(planes, y, x, psf)
    dy, dx = (np.indices(psf.shape)[a][inside] - len(psf) // 2 - shift[a] for a in (0, 1))
    bell = np.where(weight > 0, np.exp(-(dy**2 + dx**2) / (2 * width**2)), 0)
    moments = [
        np.sum(light * bell * factor)
        for light in (data, shifted(psf, *shift)[inside])
        for factor in (1, dy**2, dx**2, dy * dx)
    ]
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
        1 / float(planes[1][y, x]) if central else 0, off if central else 0, moved.max(), *moments,
    ]  # fmt: skip


def forced_sums(weigh, images, y, x, psf, shift, kernel):
    """weigh: image, variance and usable of the difference; images: image, variance, usable each."""
    (still, still_variance, _), (moved, moved_variance, seen) = images
    _, weight, inside = box(weigh, y, x, psf)
    plane = np.zeros(still.shape)
    half = len(psf) // 2
    rows, columns = (np.arange(-half, half + 1) + at for at in (y, x))
    rows, columns = (
        a[(a >= 0) & (a < n)] for a, n in zip((rows, columns), still.shape, strict=True)
    )
    model = shifted(psf, *shift)[inside]
    power = np.sum(model**2 * weight)
    plane[np.ix_(rows, columns)] = model * weight / power
    # with room for what reaches over the border
    wide = signal.convolve(np.pad(plane, len(kernel)), kernel[::-1, ::-1], mode="same")
    there = wide[len(kernel) : -len(kernel), len(kernel) : -len(kernel)] * seen
    share = wide.sum() / there.sum()
    return [
        power, plane.sum(), np.sum(plane * still), np.sum(plane**2 * still_variance),
        share * np.sum(there * moved), share**2 * np.sum(there**2 * moved_variance),
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


def moved_with_slopes(psf, shift, step=1e-4):
    y, x = shift
    return np.array(
        [
            shifted(psf, y, x),
            (shifted(psf, y + step, x) - shifted(psf, y - step, x)) / (2 * step),
            (shifted(psf, y, x + step) - shifted(psf, y, x - step)) / (2 * step),
        ]
    )


def dipole_sums(psf, seen, weight, share, state):
    k = len(psf)
    y, x = (np.indices(psf.shape) - k // 2) / k
    plus, minus = (moved_with_slopes(psf, state[i : i + 2]) for i in (1, 4))
    none = np.zeros_like(psf)
    matrix, vector, chi2 = np.zeros((9, 9)), np.zeros(9), np.zeros(2)
    factors = (1.0, -1.0), (share, 1 - share)
    for plane, (a, b) in enumerate(factors):
        ramp = (none + 1, y, x) if plane else (none, none, none)
        model = a * state[0] * plus[0] + b * state[3] * minus[0]
        model += sum(c * term for c, term in zip(state[6:], ramp, strict=True))
        lobes = [a * plus[0], *(a * state[0] * plus[1:]), b * minus[0], *(b * state[3] * minus[1:])]
        terms = np.array([*lobes, *ramp]).reshape(9, -1)
        rest, weighted = (seen[plane] - model).ravel(), terms * weight[plane].ravel()
        matrix += weighted @ terms.T
        vector += weighted @ rest
        chi2[plane] = weight[plane].ravel() @ rest**2
    return matrix, vector, chi2
