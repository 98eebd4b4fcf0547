"""First guess of an ePSF: an elliptical Moffat profile fitted to the stars."""

import dataclasses

import numpy as np
from scipy.optimize import least_squares

MOST_STARS = 40  # brightest ones that enter the fit


@dataclasses.dataclass(frozen=True)
class Moffat:
    """(1 + Q/α²)^-β with Q = (1+e1)·x² + (1-e1)·y² + 2·e2·xy; α in px (Moffat 1969)."""

    alpha: float
    beta: float
    e1: float
    e2: float

    def at(self, dy, dx):
        """Profile at offsets in px, 1 in the centre."""
        q = (1 + self.e1) * dx**2 + (1 - self.e1) * dy**2 + 2 * self.e2 * dx * dy
        return (1 + q / self.alpha**2) ** -self.beta


def moffat_epsf(profile: Moffat, size: int, oversample: int) -> np.ndarray:
    """The profile on the oversampled grid (os·s, os·s), sum os²."""
    axis = (np.arange(size * oversample) - (size * oversample - 1) / 2) / oversample
    psi = profile.at(axis[:, None], axis[None, :])
    return psi * (oversample**2 / psi.sum())


def fit_moffat(data, weight, delta) -> Moffat | None:
    """Profile that fits the stars best, each with its own flux and background.

    Parameters
    ----------
    data, weight : ndarray (n, s, s)
    delta : ndarray (n, 2)
        Offsets (row, col), px.

    Returns
    -------
    Moffat or None
        None if no star has light.
    """
    stars = _prepare(data, weight, delta)
    if not stars:
        return None

    def residuals(p):
        profile = Moffat(np.exp(p[0]), np.exp(p[1]), 0.9 * np.tanh(p[2]), 0.4 * np.tanh(p[3]))
        return np.concatenate([_misfit(profile, *star) for star in stars])

    # soft_l1: neighbours and cosmic rays must not shape the start.
    start = [np.log(2.5), np.log(3.0), 0.0, 0.0]
    bounds = [np.log(0.3), np.log(1.2), -3, -3], [np.log(60), np.log(10), 3, 3]
    p = least_squares(residuals, start, bounds=bounds, loss="soft_l1", f_scale=0.02, max_nfev=60).x
    return Moffat(
        float(np.exp(p[0])), float(np.exp(p[1])), float(0.9 * np.tanh(p[2])),
        float(0.4 * np.tanh(p[3])),
    )  # fmt: skip


def _prepare(data, weight, delta):
    """(values over peak, dy, dx) of the valid pixels of the brightest stars."""
    half = data.shape[1] // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    stars = []
    for star, w, (row, col) in zip(data, weight, delta, strict=True):
        use = (w > 0) & np.isfinite(star)
        if use.sum() < 10:
            continue
        level = np.median(star[use])
        near = use & (np.hypot(y - row, x - col) < 3)
        peak = (star[near] - level).max() if near.any() else 0.0
        if peak > 0:
            stars.append((peak, (star[use] / peak, y[use] - row, x[use] - col)))
    stars.sort(key=lambda star: -star[0])
    return [star for _, star in stars[:MOST_STARS]]


def _misfit(profile, values, dy, dx):
    """Residuals of one star at its best flux and background."""
    model = profile.at(dy, dx)
    basis = model - model.mean()
    flux = (basis @ values) / (basis @ basis)
    return values - values.mean() - flux * basis
