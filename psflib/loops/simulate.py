"""Loops of the simulator: light of stars, charge that bleeds along columns."""

import math

from psflib.loops._numba import loop


@loop
def add_point_sources(out, x, y, flux, radius, shapes, beta, wing, wing_radius):
    """Add `flux` times the effective PSF at each (x, y) to `out`, within `radius` pixels.

    Moffat core, circular r^-3 wing; both normalised over the whole plane.
    """
    # out (ny, nx); x, y, flux, radius (n); shapes (n, 3): the Moffat's core radius, g1, g2
    ny, nx = out.shape
    wing_norm = wing * 0.5 / (math.pi * wing_radius * wing_radius)
    for s in range(x.size):
        core_radius, g1, g2 = shapes[s, 0], shapes[s, 1], shapes[s, 2]
        stretch = 1 / (core_radius * math.sqrt(1 - g1 * g1 - g2 * g2))
        core_norm = (1 - wing) * (beta - 1) / (math.pi * core_radius * core_radius)
        reach2 = radius[s] * radius[s]
        for row in range(max(0, math.ceil(y[s] - radius[s])), min(ny, int(y[s] + radius[s]) + 1)):
            dy = row - y[s]
            half = math.sqrt(max(reach2 - dy * dy, 0.0))
            for col in range(max(0, math.ceil(x[s] - half)), min(nx, int(x[s] + half) + 1)):
                dx = col - x[s]
                u = stretch * ((1 - g1) * dx - g2 * dy)
                v = stretch * ((1 + g1) * dy - g2 * dx)
                q = 1 + u * u + v * v
                core = 1 / (q * q * q) if beta == 3 else q**-beta
                p = 1 + (dx * dx + dy * dy) / (wing_radius * wing_radius)
                out[row, col] += flux[s] * (core_norm * core + wing_norm / (p * math.sqrt(p)))


@loop
def bleed_columns(image, level):
    """Clip `image` at `level`; the charge above it moves along the column, up and down in turn."""
    # image (ny, nx), changed in place
    ny, nx = image.shape
    for col in range(nx):
        row = 0
        while row < ny:
            if image[row, col] < level:
                row += 1
                continue
            low, charge = row, 0.0
            while row < ny and image[row, col] >= level:
                charge += image[row, col] - level
                image[row, col] = level
                row += 1
            high = row - 1
            while charge > 0 and (low > 0 or high < ny - 1):
                for side in range(2):
                    if side == 0 and low > 0:
                        low -= 1
                        charge = _fill(image, low, col, level, charge)
                    elif side == 1 and high < ny - 1:
                        high += 1
                        charge = _fill(image, high, col, level, charge)
            row = high + 1


@loop
def _fill(image, row, col, level, charge):
    """Fill one pixel up to `level` with `charge`; return the charge that is left."""
    if image[row, col] >= level:
        charge += image[row, col] - level
        image[row, col] = level
        return charge
    taken = min(level - image[row, col], charge)
    image[row, col] += taken
    return charge - taken
