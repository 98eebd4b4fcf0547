"""Adaptive Gaussian-weighted moments of many sources."""

import math

from psflib.loops._numba import loop

LEAST_SIGMA = 0.35  # px; a lone hot pixel would otherwise shrink the source to nothing
LEAST_WEIGHT = 1.0  # px; sums under a narrower weight depend on where the pixels fall
MOST_ROUNDS = 50
MOST_HIDDEN = 0.5  # of the Gaussian's light, that may be its own guess where pixels are unusable


@loop
def adaptive_moments(image, usable, x, y, sigma, most_sigma, most_shift, out):
    """Centroid and covariance of the elliptical Gaussian that matches each source.

    The weight is given the shape of the source until both agree (Bernstein & Jarvis 2002,
    AJ 123, 583), but for a minor axis of at least `LEAST_WEIGHT`.  The product of two Gaussians of
    covariance C and W has M = (C^-1 + W^-1)^-1; so C follows from M and the known W.  Unusable
    pixels take the light of the Gaussian: without it a hole beside the core moves the centre.
    """
    # image, usable (ny, nx); x, y (n); out (n, 6): x, y, Cxx, Cxy, Cyy, 1 if converged
    for s in range(x.size):
        cx, cy = x[s], y[s]
        cxx, cxy, cyy = sigma * sigma, 0.0, sigma * sigma
        good = False
        for _ in range(MOST_ROUNDS):
            wxx, wyy = _widened(cxx, cxy, cyy)
            total, mx, my, mxx, mxy, myy = _weighted_sums(
                image, usable, cx, cy, wxx, cxy, wyy, cxx, cyy
            )
            if not total > 0:
                break
            mx, my = mx / total, my / total
            mxx, mxy, myy = mxx / total - mx * mx, mxy / total - mx * my, myy / total - my * my
            nxx, nxy, nyy, valid = _unweighted(mxx, mxy, myy, wxx, cxy, wyy)
            if not valid or nxx + nyy > 2 * most_sigma * most_sigma:
                break
            # Moving the weight by the measured shift would go only part of the way: M C^-1.
            step = min(2.0, (nxx + nyy) / (mxx + myy))
            cx, cy = cx + step * mx, cy + step * my
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
def fourth_moments(image, usable, x, y, covariance, out):
    """Weighted light, and its <q²> times that light, of sources of known covariance C.

    q = d' M^-1 d / 2 with M of a Gaussian of covariance C under the weight of `adaptive_moments`:
    <q²> is 2 for a Gaussian and larger for a profile with wings.
    """
    # image, usable (ny, nx); x, y (n); covariance (n, 3): Cxx, Cxy, Cyy; out (n, 2)
    for s in range(x.size):
        cxx, cxy, cyy = covariance[s, 0], covariance[s, 1], covariance[s, 2]
        wxx, wyy = _widened(cxx, cxy, cyy)
        out[s, 0], out[s, 1] = _fourth(image, usable, x[s], y[s], cxx, cxy, cyy, wxx, wyy)


@loop
def _widened(cxx, cxy, cyy):
    """Diagonal of the covariance made round until its minor axis is `LEAST_WEIGHT`."""
    minor = (cxx + cyy) / 2 - math.hypot((cxx - cyy) / 2, cxy)
    more = max(0.0, LEAST_WEIGHT * LEAST_WEIGHT - minor)
    return cxx + more, cyy + more


@loop
def _weighted_sums(image, usable, cx, cy, wxx, cxy, wyy, cxx, cyy):
    """Zeroth, first and second sums about (cx, cy) under the Gaussian weight, out to 3.5 sigma.

    The weight's covariance is (wxx, cxy, wyy), the source's (cxx, cxy, cyy).
    """
    ny, nx = image.shape
    det, det_c = wxx * wyy - cxy * cxy, cxx * cyy - cxy * cxy
    axx, axy, ayy = wyy / det, -cxy / det, wxx / det
    half_x, half_y = 3.5 * math.sqrt(wxx), 3.5 * math.sqrt(wyy)
    total = mx = my = mxx = mxy = myy = 0.0
    holes = 0
    for row in range(max(0, math.ceil(cy - half_y)), min(ny, math.floor(cy + half_y) + 1)):
        dy = row - cy
        for col in range(max(0, math.ceil(cx - half_x)), min(nx, math.floor(cx + half_x) + 1)):
            dx = col - cx
            q = axx * dx * dx + 2 * axy * dx * dy + ayy * dy * dy
            if q > 12.25:
                continue
            if not usable[row, col]:
                holes += 1
                continue
            light = image[row, col] * math.exp(-0.5 * q)
            total += light
            mx += light * dx
            my += light * dy
            mxx += light * dx * dx
            mxy += light * dx * dy
            myy += light * dy * dy
    if holes == 0 or not total > 0:
        return total, mx, my, mxx, mxy, myy
    # the Gaussian under the weight, where pixels are seen and where not
    seen = hx = hy = hxx = hxy = hyy = hidden = 0.0
    for row in range(max(0, math.ceil(cy - half_y)), min(ny, math.floor(cy + half_y) + 1)):
        dy = row - cy
        for col in range(max(0, math.ceil(cx - half_x)), min(nx, math.floor(cx + half_x) + 1)):
            dx = col - cx
            q = axx * dx * dx + 2 * axy * dx * dy + ayy * dy * dy
            if q > 12.25:
                continue
            own = (cyy * dx * dx - 2 * cxy * dx * dy + cxx * dy * dy) / det_c
            light = math.exp(-0.5 * (q + own))
            if usable[row, col]:
                seen += light
                continue
            hidden += light
            hx += light * dx
            hy += light * dy
            hxx += light * dx * dx
            hxy += light * dx * dy
            hyy += light * dy * dy
    if hidden > MOST_HIDDEN * (seen + hidden):
        return total, mx, my, mxx, mxy, myy
    a = total / seen
    return (
        total + a * hidden, mx + a * hx, my + a * hy, mxx + a * hxx, mxy + a * hxy, myy + a * hyy
    )  # fmt: skip


@loop
def fill_holes(image, usable, x, y, covariance, radius, most, share, out):
    """Light of each source's Gaussian at unusable pixels within `radius` of it, into `out`.

    share[s] is the part of its light that is hidden there; above `most` nothing is filled.
    """
    # image, usable, out (ny, nx); x, y, share (n); covariance (n, 3): Cxx, Cxy, Cyy
    ny, nx = image.shape
    for s in range(x.size):
        cxx, cxy, cyy = covariance[s, 0], covariance[s, 1], covariance[s, 2]
        det = cxx * cyy - cxy * cxy
        row0, row1 = max(0, math.ceil(y[s] - radius)), min(ny, math.floor(y[s] + radius) + 1)
        col0, col1 = max(0, math.ceil(x[s] - radius)), min(nx, math.floor(x[s] + radius) + 1)
        total = seen = hidden = 0.0
        for row in range(row0, row1):
            for col in range(col0, col1):
                dx, dy = col - x[s], row - y[s]
                if dx * dx + dy * dy > radius * radius:
                    continue
                own = (cyy * dx * dx - 2 * cxy * dx * dy + cxx * dy * dy) / det
                light = math.exp(-0.5 * own)
                if usable[row, col]:
                    total += light * image[row, col]
                    seen += light * light
                else:
                    hidden += light
        whole = 2 * math.pi * math.sqrt(det)
        share[s] = min(hidden / whole, 1.0)
        if hidden == 0 or share[s] > most or not total > 0:
            continue
        for row in range(row0, row1):
            for col in range(col0, col1):
                dx, dy = col - x[s], row - y[s]
                if dx * dx + dy * dy <= radius * radius and not usable[row, col]:
                    own = (cyy * dx * dx - 2 * cxy * dx * dy + cxx * dy * dy) / det
                    out[row, col] = max(out[row, col], total / seen * math.exp(-0.5 * own))


@loop
def _fourth(image, usable, cx, cy, cxx, cxy, cyy, wxx, wyy):
    """Sums of light and of light times q²; the weight's covariance is (wxx, cxy, wyy)."""
    ny, nx = image.shape
    det, det_w = cxx * cyy - cxy * cxy, wxx * wyy - cxy * cxy
    half_x, half_y = 3.5 * math.sqrt(wxx), 3.5 * math.sqrt(wyy)
    total = fourth = 0.0
    for row in range(max(0, math.ceil(cy - half_y)), min(ny, math.floor(cy + half_y) + 1)):
        dy = row - cy
        for col in range(max(0, math.ceil(cx - half_x)), min(nx, math.floor(cx + half_x) + 1)):
            dx = col - cx
            q = (wyy * dx * dx - 2 * cxy * dx * dy + wxx * dy * dy) / det_w
            if q > 12.25 or not usable[row, col]:
                continue
            light = image[row, col] * math.exp(-0.5 * q)
            # M^-1 = C^-1 + W^-1
            own = 0.5 * (q + (cyy * dx * dx - 2 * cxy * dx * dy + cxx * dy * dy) / det)
            total += light
            fourth += light * own * own
    return total, fourth


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
