"""Adaptive Gaussian-weighted moments of many sources."""

import math

from psflib.loops._numba import loop

LEAST_SIGMA = 0.35  # px; a lone hot pixel would otherwise shrink the weight to nothing
MOST_ROUNDS = 50


@loop
def adaptive_moments(image, usable, x, y, sigma, most_sigma, most_shift, out):
    """Centroid and covariance of the elliptical Gaussian that matches each source.

    The weight is given the shape of the source until both agree (Bernstein & Jarvis 2002,
    AJ 123, 583): for a Gaussian, weighted moments are half as large as the source's own.
    """
    # image, usable (ny, nx); x, y (n); out (n, 6): x, y, Cxx, Cxy, Cyy, 1 if converged
    for s in range(x.size):
        cx, cy = x[s], y[s]
        cxx, cxy, cyy = sigma * sigma, 0.0, sigma * sigma
        good = False
        for _ in range(MOST_ROUNDS):
            total, mx, my, mxx, mxy, myy = _weighted_sums(image, usable, cx, cy, cxx, cxy, cyy)
            if not total > 0:
                break
            mx, my = mx / total, my / total
            mxx, mxy, myy = mxx / total - mx * mx, mxy / total - mx * my, myy / total - my * my
            nxx, nxy, nyy, valid = _unweighted(mxx, mxy, myy, cxx, cxy, cyy)
            if not valid or nxx + nyy > 2 * most_sigma * most_sigma:
                break
            # 2 mx: moving the weight by the measured shift would go only half the way.
            cx, cy = cx + 2 * mx, cy + 2 * my
            if math.hypot(cx - x[s], cy - y[s]) > most_shift:
                break
            change = abs(nxx - cxx) + abs(nxy - cxy) + abs(nyy - cyy)
            cxx, cxy, cyy = nxx, nxy, nyy
            if change < 1e-3 * (cxx + cyy) and abs(mx) + abs(my) < 1e-3:
                good = True
                break
        out[s, 0], out[s, 1], out[s, 2], out[s, 3], out[s, 4] = cx, cy, cxx, cxy, cyy
        out[s, 5] = 1.0 if good else 0.0


@loop
def _weighted_sums(image, usable, cx, cy, cxx, cxy, cyy):
    """Zeroth, first and second sums about (cx, cy) under the Gaussian weight, out to 3.5 sigma."""
    ny, nx = image.shape
    det = cxx * cyy - cxy * cxy
    axx, axy, ayy = cyy / det, -cxy / det, cxx / det
    half_x, half_y = 3.5 * math.sqrt(cxx), 3.5 * math.sqrt(cyy)
    total = mx = my = mxx = mxy = myy = 0.0
    for row in range(max(0, math.ceil(cy - half_y)), min(ny, math.floor(cy + half_y) + 1)):
        dy = row - cy
        for col in range(max(0, math.ceil(cx - half_x)), min(nx, math.floor(cx + half_x) + 1)):
            dx = col - cx
            q = axx * dx * dx + 2 * axy * dx * dy + ayy * dy * dy
            if q > 12.25 or not usable[row, col]:
                continue
            light = image[row, col] * math.exp(-0.5 * q)
            total += light
            mx += light * dx
            my += light * dy
            mxx += light * dx * dx
            mxy += light * dx * dy
            myy += light * dy * dy
    return total, mx, my, mxx, mxy, myy


@loop
def _unweighted(mxx, mxy, myy, cxx, cxy, cyy):
    """Covariance C' with C'^-1 = M^-1 - C^-1: what is left once the weight is taken out."""
    det_m, det_c = mxx * myy - mxy * mxy, cxx * cyy - cxy * cxy
    if not (det_m > 0 and det_c > 0 and mxx > 0):
        return cxx, cxy, cyy, False
    axx, axy, ayy = myy / det_m - cyy / det_c, cxy / det_c - mxy / det_m, mxx / det_m - cxx / det_c
    det = axx * ayy - axy * axy
    if not (det > 0 and axx > 0):
        return cxx, cxy, cyy, False
    least = LEAST_SIGMA * LEAST_SIGMA
    return max(ayy / det, least), -axy / det, max(axx / det, least), True
