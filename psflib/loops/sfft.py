"""Loops of the delta-function kernel fit."""

from psflib.loops._numba import loop


@loop
def gather_patches(image, y, x, half_y, half_x, root, out):
    """What each kernel pixel sees at the listed pixels, times `root`; a column of `root`.

    out[p, (half_y + a) * (2 half_x + 1) + half_x + b] = root[p] * image[y[p] - a, x[p] - b],
    0 beyond the border.  image (ny, nx); y, x (n,); root (n,);
    out (n, at least (2 half_y + 1) * (2 half_x + 1) + 1), of which the rest stays.
    """
    last, (ny, nx) = (2 * half_y + 1) * (2 * half_x + 1), image.shape
    zero = image.dtype.type(0)
    for p in range(len(y)):
        values, factor, n = out[p], root[p], 0
        column = x[p] + half_x
        if not (half_y <= y[p] < ny - half_y and half_x <= x[p] < nx - half_x):
            for a in range(-half_y, half_y + 1):
                for b in range(-half_x, half_x + 1):
                    inside = 0 <= y[p] - a < ny and 0 <= x[p] - b < nx
                    values[n] = factor * image[y[p] - a, x[p] - b] if inside else zero
                    n += 1
            values[last] = factor
            continue
        for a in range(2 * half_y + 1):
            row = image[y[p] + half_y - a]
            for b in range(2 * half_x + 1):
                values[n] = factor * row[column - b]
                n += 1
        values[last] = factor
