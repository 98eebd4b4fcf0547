"""Slow, readable twins of the PSF loops and functions: plain NumPy, no call into psflib."""

import numpy as np


def stamp(cutout, size, valid, fwhm=3.0, max_iter=10, tol=1e-3):
    """Stamp, its valid pixels, offset, centroid and origin; None if there is none."""
    rows, cols = cutout.shape
    if valid.sum() < 4:
        return None
    ring = [
        cutout[i, j]
        for i, j in np.ndindex(rows, cols)
        if valid[i, j] and (i in (0, rows - 1) or j in (0, cols - 1))
    ]
    sky = np.median(ring) if ring else 0.0
    sigma = fwhm / np.sqrt(8 * np.log(2))
    y, x = (rows - 1) / 2, (cols - 1) / 2
    for _ in range(max(1, max_iter)):
        total = sum_y = sum_x = 0.0
        for i, j in np.argwhere(valid):
            window = np.exp(-((i - y) ** 2 + (j - x) ** 2) / (2 * sigma**2))
            w = max(0.0, cutout[i, j] - sky) * window
            total, sum_y, sum_x = total + w, sum_y + w * i, sum_x + w * j
        if total <= 0:
            return None
        shift = np.hypot(sum_y / total - y, sum_x / total - x)
        y, x = sum_y / total, sum_x / total
        if shift < tol:
            break
    centre = [int(np.floor(v + 0.5)) if v >= 0 else int(np.ceil(v - 0.5)) for v in (y, x)]
    i, j = (c - size // 2 for c in centre)
    if i < 0 or j < 0 or i + size > rows or j + size > cols:
        return None
    cut = (slice(i, i + size), slice(j, j + size))
    return cutout[cut], valid[cut], (y - centre[0], x - centre[1]), (y, x), (i, j)


def catmull_rom(x):
    """Keys' cubic with a = -1/2 at distance x."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def catmull_rom_slope(x):
    """Derivative of `catmull_rom`."""
    a = np.abs(x)
    near = 4.5 * a**2 - 5 * a
    far = -1.5 * a**2 + 5 * a - 4
    return np.sign(x) * np.where(a < 1, near, np.where(a < 2, far, 0.0))


def axis_matrix(side, oversample, delta, function=catmull_rom):
    """(s, os·s) matrix of one axis: pixel i takes function(k_i - node)."""
    size = side // oversample
    pixel = np.arange(size)
    k = (side - 1) / 2 + oversample * ((pixel - (size - 1) / 2) - delta)
    return function(k[:, None] - np.arange(side)[None, :])


def sample(model, oversample, delta):
    rows = axis_matrix(len(model), oversample, delta[0])
    cols = axis_matrix(len(model), oversample, delta[1])
    return rows @ model @ cols.T


def slopes(model, oversample, delta):
    side = len(model)
    rows, cols = (axis_matrix(side, oversample, d) for d in delta)
    d_rows, d_cols = (axis_matrix(side, oversample, d, catmull_rom_slope) for d in delta)
    return -oversample * d_rows @ model @ cols.T, -oversample * rows @ model @ d_cols.T


def spread(stamp, oversample, delta):
    side = oversample * len(stamp)
    rows = axis_matrix(side, oversample, delta[0])
    cols = axis_matrix(side, oversample, delta[1])
    return rows.T @ stamp @ cols


def solve_2x2(a11, a12, a22, b1, b2):
    regular = np.isfinite([a11, a22]).all() and a11 > 0 and a22 > 0
    if not regular or a11 * a22 - a12**2 <= 1e-12 * a11 * a22:
        return None
    answer = np.linalg.solve([[a11, a12], [a12, a22]], [b1, b2])
    return answer if np.isfinite(answer).all() else None


def flux_background(data, weight, profile):
    use = np.isfinite(data) & np.isfinite(weight) & (weight > 0)
    if use.sum() < 3:
        return None
    d, w, p = data[use], weight[use], profile[use]
    return solve_2x2((w * p * p).sum(), (w * p).sum(), w.sum(), (w * p * d).sum(), (w * d).sum())


def refine(model, oversample, data, weight, delta, max_iter, tol):
    use = np.isfinite(data) & np.isfinite(weight) & (weight > 0)
    delta = np.array(delta)
    for _ in range(max_iter):
        profile = sample(model, oversample, delta)
        answer = flux_background(data, weight, profile)
        if answer is None:
            return None
        flux, background = answer
        g, h = (flux * slope[use] for slope in slopes(model, oversample, delta))
        w, r = weight[use], (data - flux * profile - background)[use]
        step = solve_2x2(
            (w * g * g).sum(), (w * g * h).sum(), (w * h * h).sum(),
            (w * g * r).sum(), (w * h * r).sum(),
        )  # fmt: skip
        if step is None:
            return None
        step = np.clip(step, -1, 1)
        delta = delta + step
        if not (np.abs(delta) <= 1).all():
            return None
        if np.hypot(*step) < tol:
            break
    answer = flux_background(data, weight, sample(model, oversample, delta))
    return None if answer is None else (*answer, delta)


def combine_pixel(values, weight, method="clipped_mean", kappa=3.0, max_iter=5):
    """Value, weight and count of one pixel."""
    use = np.isfinite(values) & np.isfinite(weight) & (weight > 0)
    values, weight = values[use], weight[use]
    for _ in range(max_iter if method == "clipped_mean" else 0):
        if not values.size:
            break
        centre = np.median(values)
        scale = np.sqrt(np.mean((values - centre) ** 2))
        keep = ~(np.abs(values - centre) > kappa * scale)
        values, weight = values[keep], weight[keep]
        if keep.all():
            break
    if not values.size:
        return np.nan, 0.0, 0
    value = np.median(values) if method == "median" else (weight * values).sum() / weight.sum()
    return value, weight.sum(), values.size


def robust_combine(stack, weight=None, **options):
    weight = np.ones(stack.shape) if weight is None else weight
    out = np.zeros((3, *stack.shape[1:]))
    for i, j in np.ndindex(stack.shape[1:]):
        out[:, i, j] = combine_pixel(stack[:, i, j], weight[:, i, j], **options)
    return out


def combine_with_options(stack, weight, star_scale, kappa):
    """Clipping by MAD, scale² weights, sample variance: value, weight, count, variance."""
    out = np.full((4, *stack.shape[1:]), np.nan)
    for i, j in np.ndindex(stack.shape[1:]):
        v = stack[:, i, j].astype(float)
        w = weight[:, i, j].astype(float) * star_scale**2
        use = np.isfinite(v) & np.isfinite(w) & (w > 0)
        v, w = v[use], w[use]
        for _ in range(5):
            if v.size:
                distance = np.abs(v - np.median(v))
                keep = ~(distance > kappa * 1.4826 * np.median(distance))
                v, w = v[keep], w[keep]
        out[1:3, i, j] = w.sum(), v.size
        if v.size:
            out[0, i, j] = (w * v).sum() / w.sum()
        if v.size > 1:
            out[3, i, j] = (w * (v - out[0, i, j]) ** 2).sum() / w.sum() * v.size / (v.size - 1)
    return out


def seed(data, oversample):
    stack = []
    for stamp in data[np.isfinite(data).any(axis=(1, 2))]:
        ring = np.concatenate([stamp[0], stamp[-1], stamp[1:-1, 0], stamp[1:-1, -1]])
        stamp = stamp - np.median(ring[np.isfinite(ring)])
        if np.nansum(stamp) > 0:
            stack.append(stamp / np.nansum(stamp))
    plane = robust_combine(np.array(stack))[0]
    return np.kron(np.where(plane > 0, plane, 0.0), np.ones((oversample, oversample)))


def reweight(residual, weight, ok, kind, c):
    factor = np.ones(residual.shape)
    if weight is None:
        r = residual[ok]
        r = r[np.isfinite(r)]
        scale = 1.482602218505602 * np.median(np.abs(r - np.median(r)))
    for n in np.flatnonzero(ok):
        for p in np.ndindex(residual.shape[1:]):
            sigma = scale if weight is None else 1 / np.sqrt(weight[(n, *p)])
            z = abs(residual[(n, *p)]) / sigma
            if not np.isfinite(z):
                continue
            if kind == "huber":
                factor[(n, *p)] = 1 if z <= c else c / z
            elif kind == "tukey":
                factor[(n, *p)] = (1 - (z / c) ** 2) ** 2 if z < c else 0
    return factor


def normal(image, oversample, flux, weight, delta):
    """AᵀWA applied to an oversampled image."""
    out = np.zeros_like(image)
    for f, w, d in zip(flux, weight, delta, strict=True):
        out += spread(f * w * f * sample(image, oversample, d), oversample, d)
    return out


def build_epsf(data, delta, oversample, weight=None, max_iter=6, kind="none", c=4.0, psi=None):
    """All rounds of the projected Landweber iteration, star by star."""
    n = len(data)
    base = np.ones(data.shape) if weight is None else weight
    psi = seed(data, oversample) if psi is None else psi
    psi = psi / psi.sum() * oversample**2
    delta = np.array(delta)
    stars = [flux_background(data[i], base[i], sample(psi, oversample, delta[i])) for i in range(n)]
    for _ in range(max_iter):
        ok = np.array([star is not None for star in stars])
        flux = np.array([0.0 if star is None else star[0] for star in stars])
        sky = np.array([0.0 if star is None else star[1] for star in stars])
        profiles = np.array([sample(psi, oversample, d) for d in delta])
        residual = data - flux[:, None, None] * profiles - sky[:, None, None]
        effective = base * reweight(residual, weight, ok, kind, c)
        use = ok[:, None, None] & np.isfinite(residual) & np.isfinite(effective) & (effective > 0)
        w = np.where(use, effective, 0.0)

        probe = np.full(psi.shape, 1 / len(psi))
        for _ in range(12):
            probe = normal(probe, oversample, flux, w, delta)
            norm = np.sqrt((probe**2).sum())
            probe = probe / norm
        pull = w * np.where(use, residual, 0.0)
        gradient = sum(spread(flux[i] * pull[i], oversample, delta[i]) for i in range(n))
        psi = np.maximum(0, psi + gradient / norm)
        psi = psi / psi.sum() * oversample**2
        for i in range(n):
            answer = refine(psi, oversample, data[i], effective[i], delta[i], 3, 1e-4)
            stars[i] = None if answer is None else answer[:2]
            delta[i] = delta[i] if answer is None else answer[2]
    ok = np.array([star is not None for star in stars])
    table = np.array([(np.nan, np.nan) if star is None else star for star in stars])
    return psi, table[:, 0], table[:, 1], delta, ok


def point(grid, row, col):
    """Catmull-Rom sample at one real position, 0 off the grid, NaN where it touches NaN."""
    total = 0.0
    for i in range(int(np.floor(row)) - 1, int(np.floor(row)) + 3):
        for j in range(int(np.floor(col)) - 1, int(np.floor(col)) + 3):
            w = catmull_rom(row - i) * catmull_rom(col - j)
            if 0 <= i < grid.shape[0] and 0 <= j < grid.shape[1] and w != 0:
                total += w * grid[i, j]
    return total


def stitch(core, oversample, wing, confidence=None, match=8.0, feather=4.0, aperture=15.0):
    """Core and wing of the extended PSF."""
    confidence = np.ones(wing.shape) if confidence is None else confidence
    inner, outer, trust = [], [], []
    for k in range(720):
        dy, dx = match * np.sin(2 * np.pi * k / 720), match * np.cos(2 * np.pi * k / 720)
        centre = (len(core) - 1) / 2
        inner.append(point(core, centre + oversample * dy, centre + oversample * dx))
        half = (len(wing) - 1) / 2
        value, c = point(wing, half + dy, half + dx), point(confidence, half + dy, half + dx)
        if np.isfinite(value) and c > 0:
            outer.append(value)
            trust.append(c)
    scale = np.mean(inner) / np.average(outer, weights=trust) if outer else 0.0
    size, half = len(core) // oversample, len(wing) // 2
    energy, new = 0.0, np.zeros(wing.shape)
    for i, j in np.ndindex(wing.shape):
        radius = np.hypot(i - half, j - half)
        t = min(max((radius - match + feather / 2) / feather, 0), 1)
        fade = 0.5 - 0.5 * np.cos(np.pi * t)
        new[i, j] = fade * scale * wing[i, j] if np.isfinite(wing[i, j]) else 0.0
        if radius <= aperture:
            a, b = i - half + size // 2, j - half + size // 2
            middle = oversample // 2
            on_core = 0 <= a < size and 0 <= b < size
            value = core[oversample * a + middle, oversample * b + middle] if on_core else 0.0
            energy += (1 - fade) * value + new[i, j]
    return core / energy, new / energy


def extended(data, delta, core, oversample, weight, aperture=6.0, annulus=(18, 24), **seam):
    """Extended PSF and the stars' flux, sky and whether the flux came from the core."""
    half, size = data.shape[1] // 2, len(core) // oversample
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    radius = np.hypot(y, x)
    flux, sky, from_core, stack, weights = [], [], [], [], []
    for star, w, d in zip(data, weight, delta, strict=True):
        valid = np.isfinite(star) & (w > 0)
        ring = star[valid & (radius >= annulus[0]) & (radius <= annulus[1])]
        sky.append(np.median(ring) if ring.size else 0.0)
        cut = slice(half - size // 2, half + size // 2 + 1)
        answer = flux_background(star[cut, cut], w[cut, cut], sample(core, oversample, d))
        from_core.append(answer is not None and answer[0] > 0)
        inside = valid & (radius <= aperture)
        flux.append(answer[0] if from_core[-1] else (star[inside] - sky[-1]).sum())
        if not flux[-1] > 0:
            flux[-1] = sky[-1] = np.nan
        moved, moved_w = np.full(star.shape, np.nan), np.zeros(star.shape)
        shift = [int(np.sign(v) * np.floor(abs(v) + 0.5)) for v in d]
        for i, j in np.ndindex(star.shape):
            a, b = i + shift[0], j + shift[1]
            if 0 <= a < len(star) and 0 <= b < len(star):
                moved[i, j] = (star[a, b] - sky[-1]) / flux[-1]
                moved_w[i, j] = w[a, b]
        stack.append(moved)
        weights.append(moved_w)
    wing, confidence, _ = robust_combine(np.array(stack), np.array(weights))
    return (*stitch(core, oversample, wing, confidence, **seam), flux, sky, from_core)


def moffat(size, fwhm, beta, delta, oversample=5):
    """Pixel sums of a Moffat star of unit total, centred at `delta` from the middle pixel."""
    alpha = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
    sub = (np.arange(size * oversample) - (size * oversample - 1) / 2) / oversample
    r2 = (sub[:, None] - delta[0]) ** 2 + (sub[None, :] - delta[1]) ** 2
    value = (beta - 1) / (np.pi * alpha**2) * (1 + r2 / alpha**2) ** -beta
    blocks = value.reshape(size, oversample, size, oversample)
    return blocks.sum(axis=(1, 3)) / oversample**2


def b_spline(x):
    """Cubic B-spline at distance x."""
    x = np.abs(x)
    near = (3 * x**3 - 6 * x**2 + 4) / 6
    far = (2 - x) ** 3 / 6
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def b_spline_slope(x):
    """Derivative of `b_spline`."""
    a = np.abs(x)
    near = (9 * a**2 - 12 * a) / 6
    far = -((2 - a) ** 2) / 2
    return np.sign(x) * np.where(a < 1, near, np.where(a < 2, far, 0.0))


BASES = [(catmull_rom, catmull_rom_slope), (b_spline, b_spline_slope)]


def profile(model, oversample, delta, basis):
    """Model at the pixels of a stamp, and its derivatives by the two offsets."""
    value, slope = BASES[basis]
    side = len(model)
    rows, cols = (axis_matrix(side, oversample, d, value) for d in delta)
    d_rows, d_cols = (axis_matrix(side, oversample, d, slope) for d in delta)
    p = rows @ model @ cols.T
    return p, -oversample * d_rows @ model @ cols.T, -oversample * rows @ model @ d_cols.T


def linear(data, weight, model, oversample, delta, basis):
    """Design matrix of (1-flux, background, d_row, d_col), with the best flux and background."""
    use = np.isfinite(data) & np.isfinite(weight) & (weight > 0)
    p, r, c = (plane[use] for plane in profile(model, oversample, delta, basis))
    d, root = data[use].astype(float), np.sqrt(weight[use].astype(float))
    matrix = np.column_stack([p, np.ones_like(p)]) * root[:, None]
    flux, background = np.linalg.lstsq(matrix, d * root, rcond=None)[0]
    residual = (d - flux * p - background) * root
    full = np.column_stack([p, np.ones_like(p), flux * r, flux * c]) * root[:, None]
    return flux, background, residual, full


def fit(model, oversample, data, weight, delta, basis, max_steps, tol=1e-12):
    """Plain Gauss-Newton of one star: flux, background, delta, covariance, chi²."""
    delta = np.array(delta, float)
    for _ in range(max_steps):
        flux, background, residual, full = linear(data, weight, model, oversample, delta, basis)
        step = np.linalg.lstsq(full, residual, rcond=None)[0][2:]
        delta = delta + step
        if np.hypot(*step) < tol:
            break
    flux, background, residual, full = linear(data, weight, model, oversample, delta, basis)
    free = 4 if max_steps else 2
    covariance = np.zeros((4, 4))
    covariance[:free, :free] = np.linalg.inv((full.T @ full)[:free, :free])
    return flux, background, delta, covariance, (residual**2).sum()


def render(terms, design, oversample, flux, background, delta, basis):
    """Stars of any number of terms, one by one."""
    stack = []
    for row, f, b, d in zip(design, flux, background, delta, strict=True):
        model = np.tensordot(row, terms, axes=1)
        stack.append(f * profile(model, oversample, d, basis)[0] + b)
    return np.array(stack)
