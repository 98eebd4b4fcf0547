"""Sums over the areas of sources."""

from psflib.loops._numba import loop


@loop
def area_sums(image, light, areas, sums, peak):
    """Peak of the image in each area, and sums of the light there and of its moments.

    image, light (ny, nx) float32; areas (ny, nx) int32, 0 outside of all; sums (n, 6): light times
    1, x, y, x², x y and y², of area k + 1 in row k, added; peak (n) float64.
    """
    ny, nx = areas.shape
    for y in range(ny):
        for x in range(nx):
            k = areas[y, x] - 1
            if k < 0:
                continue
            weight = float(light[y, x])
            sums[k, 0] += weight
            sums[k, 1] += weight * x
            sums[k, 2] += weight * y
            sums[k, 3] += weight * x * x
            sums[k, 4] += weight * x * y
            sums[k, 5] += weight * y * y
            peak[k] = max(peak[k], image[y, x])
