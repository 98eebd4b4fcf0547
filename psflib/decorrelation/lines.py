"""Straight lines in a noisy plane: where one is to be looked at.

The dyadic Radon transform (Brady 1998; on streaks Nir, Zackay & Ofek 2018, AJ 156, 229) sums along
all lines of a strip of rows at the cost of a few sums a pixel.  Here it runs over short strips that
overlap by half, in four directions: a line of twice their height crosses one from edge to edge,
wherever it begins and ends, and strips stay in the processor's cache.  Values are clipped before,
so that a star counts as a few pixels.
"""

import dataclasses

import numpy as np

from psflib.loops import streaks as loops

STRIPS = 128, 256  # px: a long strip sees fainter lines, a short one shorter
CLIP = 2.5  # sigma of a binned pixel, beyond which it counts no more
TAPS = 0.5  # sum of the squares of `standing_out`'s
FOUND = 7.0  # sigma
MOST = 6  # lines of a strip, direction and sign
NEAR = 6  # px between the ends of lines that are one


@dataclasses.dataclass(frozen=True)
class Line:
    """From (x1, y1) to (x2, y2), px; `snr` is negative where light is missing."""

    x1: float
    y1: float
    x2: float
    y2: float
    snr: float


def binned(plane: np.ndarray, known: np.ndarray, size: int) -> np.ndarray:
    """Pixels of size x size, in units of their scatter and clipped; 0 where nothing is known.

    plane (ny, nx) float32 in sigma, 0 where it is not known.
    """
    ny, nx = (n // size for n in plane.shape)
    cut = np.s_[: ny * size, : nx * size]
    blocks = plane[cut].reshape(ny, size, nx, size)
    count = known[cut].reshape(ny, size, nx, size).sum((1, 3), dtype=np.float32)
    out = np.clip(blocks, -CLIP * size, CLIP * size).sum((1, 3), dtype=np.float32)
    np.divide(out, np.sqrt(count), out=out, where=count > 0)
    some = out[::3, ::3][count[::3, ::3] > 0]
    scatter = 1.4826 * float(np.median(np.abs(some))) if some.size else 0.0
    if not scatter > 0:
        return np.zeros_like(out)
    return np.clip(out / scatter, -CLIP, CLIP, dtype=np.float32)


def lines(plane: np.ndarray, size: int) -> list[Line]:
    """Lines that stand out of a binned plane (ny, nx), in px of what was binned by `size`."""
    found = []
    for transposed in (False, True):
        turned = np.ascontiguousarray(plane.T) if transposed else plane
        for flipped in (False, True):
            view = turned[:, ::-1] if flipped else turned
            for strip in STRIPS:
                height = max(32, 2 ** round(np.log2(strip / size)))
                if height > 2 * view.shape[0]:
                    continue
                for top, s, x, snr in _of_strips(view, height):
                    ends = np.array([[x, top], [x + s, top + height - 1]], float)
                    if flipped:
                        ends[:, 0] = view.shape[1] - 1 - ends[:, 0]
                    ends = ends[:, ::-1] if transposed else ends
                    ends = size * ends + (size - 1) / 2
                    (x1, y1), (x2, y2) = ends.tolist()
                    found.append(Line(x1, y1, x2, y2, snr))
    return sorted(found, key=lambda line: -abs(line.snr))


def _of_strips(view, height):
    """First row, slope, column and significance of each line that stands out in some strip."""
    ny, nx = view.shape
    planes = np.empty((2, height, nx + height), np.float32)
    for top in range(0, max(ny - height // 2, 1), height // 2):
        part = view[top : top + height]
        planes[0] = 0
        planes[0, : len(part), height:] = part
        sums = planes[loops.line_sums(planes)]
        for s, x, snr in _peaks(_standing_out(sums, height)):
            yield top, s, x - height, snr


def _standing_out(sums, height):
    """Significance (h, w) of each line against those to both sides of it; 0 near the borders."""
    out = np.empty_like(sums)
    loops.standing_out(sums, np.float32(1 / np.sqrt(TAPS * height)), out)
    some = out[:: max(height // 16, 1), 8:-8:5]
    scatter = 1.4826 * float(np.median(np.abs(some)))
    if scatter > 1:
        out /= np.float32(scatter)
    return out


def _peaks(values):
    """Slope, column and significance of the strongest lines of both signs."""
    for _ in range(MOST):
        low, high = values.argmin(), values.argmax()
        best = high if values.flat[high] >= -values.flat[low] else low
        s, x = np.unravel_index(best, values.shape)
        snr = float(values[s, x])
        if abs(snr) < FOUND:
            return
        yield int(s), int(x), snr
        reach = 2 * NEAR
        values[max(s - reach, 0) : s + reach + 1, max(x - reach, 0) : x + reach + 1] = 0
