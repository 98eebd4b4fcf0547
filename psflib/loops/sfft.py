"""Loops of the delta-function kernel fit."""

from psflib.loops._numba import loop


@loop
def gather_patches(image, y, x, half_y, half_x, root, out):
    """What each kernel pixel sees at the listed pixels, times `root`; the last column is `root`.

    out[p, (half_y + a) * (2 half_x + 1) + half_x + b] = root[p] * image[y[p] - a, x[p] - b].
    image (ny, nx); y, x (n,) at least half_y, half_x from its border; root (n,);
    out (n, (2 half_y + 1) * (2 half_x + 1) + 1).
    """
    last = out.shape[1] - 1
    for p in range(len(y)):
        values, factor, n = out[p], root[p], 0
        column = x[p] + half_x
        for a in range(2 * half_y + 1):
            row = image[y[p] + half_y - a]
            for b in range(2 * half_x + 1):
                values[n] = factor * row[column - b]
                n += 1
        values[last] = factor
