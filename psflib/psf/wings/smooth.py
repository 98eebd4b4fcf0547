"""Less noise in the stack without loss of spikes.

The picture is a radial profile times a ratio.  The ratio is averaged along the rays, which is
where spikes and streaks stay alike; then each ray is drawn towards the level of its ring as far as
what stands out there is no more than noise.
"""

import numpy as np

from psflib.loops.wings import ray_power, smooth_rays
from psflib.psf.extended import radii

#: Half length of the mean along a ray, of the radius: where the noise left by the first is large,
#: the second.  Spikes lose 1 and 2 % of their peak.
SHARE, LONG_SHARE = 0.10, 0.22
NOISY = 0.03  # relative noise after the first at which both count alike
CHANCE = 0.5  # of the noise's variance: structure that noise alone makes, 1 sigma
POWER_SHARE = 0.30  # of the stretch where the structure is measured
LANE = 1.5  # px between the three parallel rays of that measure
FROM = 12.0  # px; within, nothing is smoothed
FITTED = 4  # degree of the profile in log-log
RING_SHARE = 0.06  # half length of the mean over rings, of the radius


def ring_means(value, weight, rings, n):
    """Weighted ring means (n,), their inverse variances; nan and 0 where nothing is known."""
    use = np.isfinite(value) & (weight > 0) & (rings < n)
    total = np.bincount(rings[use], weight[use], minlength=n)
    sums = np.bincount(rings[use], (weight * np.where(use, value, 0))[use], minlength=n)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, sums / total, np.nan), total


def plain_means(value, weight, rings, n):
    """Unweighted means (n,) of the known pixels, and their variances from those of the pixels."""
    use = np.isfinite(value) & (weight > 0) & (rings < n)
    count = np.bincount(rings[use], minlength=n)
    sums = np.bincount(rings[use], value[use], minlength=n)
    variances = np.bincount(rings[use], 1 / weight[use], minlength=n)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, sums / count, np.nan), variances / np.maximum(count, 1) ** 2


def radial_shape(mean, variance, radius_known):
    """Smooth positive profile (n,) through ring means, continued by its own slope.

    A polynomial in log-log takes the steep fall, a running mean over r(1 ± 0.06) what it misses.
    """
    n = len(mean)
    r = np.arange(n, dtype=float)
    good = np.isfinite(mean) & (variance > 0) & (r >= 2) & (r <= radius_known)
    good &= mean > 2 * np.sqrt(np.where(good, variance, 1.0))
    if good.sum() < 3:
        return None
    degree = min(FITTED, max(1, good.sum() // 8))
    log_r, log_p = np.log(r[good]), np.log(mean[good])
    # no ring is better known than 2 %: else the steep inside would decide the shape outside
    weight = 1 / np.hypot(np.sqrt(variance[good]) / mean[good], 0.02)
    polynomial = np.polynomial.Polynomial.fit(log_r, log_p, degree, w=weight)
    first, last = log_r[0], log_r[-1]
    slope = min(polynomial.deriv()(last), -1.0)
    at = np.log(np.maximum(r, 1.0))
    # the degree 4 runs to infinity where saturated stars have no pixels: inwards it stays level
    base = np.exp(polynomial(np.clip(at, first, last)) + slope * np.maximum(at - last, 0))
    return base * _running(mean / base, variance / base**2, good)


def _running(ratio, variance, good):
    """Running weighted mean of ring ratios, triangular over r(1 ± RING_SHARE), 1 beyond."""
    out = np.ones(len(ratio))
    rings = np.flatnonzero(good)
    for i in range(len(ratio)):
        reach = max(1.0, RING_SHARE * i)
        near = rings[np.abs(rings - i) < reach]
        if len(near):
            # slopes within the window must not tilt the mean: rings weigh alike
            tri = 1 - np.abs(near - i) / reach
            tri = tri / (variance[near] + np.median(variance[near]))
            out[i] = np.sum(tri * ratio[near]) / np.sum(tri)
        elif len(rings) and i > rings[-1]:
            out[i] = out[rings[-1]]
    return out


def smooth_wing(value, variance, shape, radial_only=False):
    """The stack without most of its noise.

    Parameters
    ----------
    value, variance : ndarray (h, h)
        Stack and variance of its pixels; inf where nothing is known.
    shape : ndarray (n,)
        Smooth profile at the radii 0, 1, ... px, n beyond the corners.
    radial_only : bool
        Only the profile, without any azimuthal structure.

    Returns
    -------
    ndarray (h, h)
    """
    radius = radii(value.shape)
    profile = np.exp(np.interp(radius, np.arange(len(shape)), np.log(shape)))
    if radial_only:
        return profile
    known = np.isfinite(variance) & np.isfinite(value)
    ratio = np.where(known, value / profile, 1.0)
    weight = np.where(known, profile**2 / np.where(known, variance, 1.0), 0.0)
    rings = np.round(radius).astype(int)
    mean, noise = _along_rays(ratio, weight, rings)
    kept = _shrunk(mean, noise, radius)
    inner = radius <= FROM
    return profile * np.where(inner & known, ratio, kept)


def _along_rays(ratio, weight, rings):
    """Means along rays and their variances: long means where short ones leave much noise."""
    (mean, noise), (long, less) = (
        _mean_and_noise(ratio, weight, share) for share in (SHARE, LONG_SHARE)
    )
    known = noise > 0
    count = np.maximum(np.bincount(rings[known], minlength=rings.max() + 1), 1)
    typical = np.bincount(rings[known], noise[known], minlength=rings.max() + 1) / count
    part = (typical / (typical + NOISY**2))[rings]
    # both are means of the same samples: their errors add
    error = (1 - part) * np.sqrt(noise) + part * np.sqrt(less)
    return (1 - part) * mean + part * long, np.where(known, error**2, 0.0)


def _mean_and_noise(ratio, weight, share):
    mean, noise = np.empty(ratio.shape), np.empty(ratio.shape)
    smooth_rays(ratio, weight, share, FROM, mean, noise)
    return mean, noise


def _shrunk(mean, noise, radius):
    """Each pixel drawn to the level of its ring by noise/(noise + structure along its ray)."""
    rings = np.round(radius).astype(int)
    n = rings.max() + 1
    known = noise > 0
    level = _ring_level(mean, known, rings, n)[rings]
    square = np.where(known, (mean - level) ** 2 - noise, 0.0)
    power = np.empty(mean.shape)
    ray_power(square, POWER_SHARE, LANE, power)
    power = np.maximum(power - CHANCE * noise, 0)
    share = power / np.maximum(power + noise, 1e-300)
    share = np.where(known, share, 0.0)
    drawn = level + share * (mean - level)
    # what the rings hold is not to change: a level below the mean would take the spikes' noise
    count = np.maximum(np.bincount(rings[known], minlength=n), 1)
    change = np.bincount(rings[known], (mean - drawn)[known], minlength=n) / count
    free = np.bincount(rings[known], (1 - share)[known], minlength=n) / count
    ramp = np.divide(change, free, out=np.zeros(n), where=free > 0.05)
    return drawn + ramp[rings] * (1 - share) * known


def _ring_level(mean, known, rings, n):
    """Median of each ring, 1 where it is empty; a median leaves spikes above it."""
    level = np.ones(n)
    order = np.argsort(rings[known], kind="stable")
    which, values = rings[known][order], mean[known][order]
    starts = np.searchsorted(which, np.arange(n + 1))
    for k in range(n):
        if starts[k + 1] > starts[k]:
            level[k] = np.median(values[starts[k] : starts[k + 1]])
    return level
