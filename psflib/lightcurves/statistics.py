"""How an object varies: numbers of its light curve, NaN where there are too few points."""

import numpy as np
from scipy import special

#: Name -> what it says.
MEANING = {
    "n_epochs": "epochs that cover it",
    "n_found": "epochs in which it is a candidate",
    "n_clean": "of these without a flag",
    "max_snr": "of its fluxes, the farthest from 0, in sigma",
    "mean_flux": "weighted mean of the fluxes of all epochs that cover it; all fluxes here are on "
    "the template's scale",
    "mean_flux_err": "its error",
    "mean_snr": "the same in sigma: what is not in the template, in all epochs together",
    "chi2": "reduced, of fluxes that do not change from their mean",
    "log_p": "log10 of the chance that a constant source shows such a chi-square, at least -300",
    "amplitude": "largest less smallest flux",
    "excess": "standard deviation of the fluxes beyond their errors",
    "neumann": "mean square of successive changes over the variance: 2 for noise, less for trends",
}


def statistics(flux, error, found, clean) -> dict[str, np.ndarray]:
    """Numbers of `MEANING`, each (m,).

    Parameters
    ----------
    flux, error : ndarray (m, e)
        Of m objects in e epochs, in the order of time; NaN where an epoch does not cover one.
    found, clean : ndarray (m, e) of bool
        Where it is a candidate, and one without a flag.
    """
    known = np.isfinite(flux) & np.isfinite(error) & (error > 0)
    value = np.where(known, flux, 0.0)
    weight = np.where(known, 1 / np.where(known, error, 1.0) ** 2, 0.0)
    count = known.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        snr = np.where(known, value * np.sqrt(weight), 0.0)
        total = weight.sum(1)
        mean = (weight * value).sum(1) / total
        chi2 = (weight * (value - mean[:, None]) ** 2).sum(1)
        spread = np.where(known, (value - value.sum(1)[:, None] / count[:, None]) ** 2, 0).sum(1)
        variance = spread / (count - 1)
        noise = np.where(known, 1 / np.where(known, weight, 1.0), 0).sum(1) / count
        excess = np.sqrt(np.maximum(variance - noise, 0))
    several = count > 1
    log_p = np.full(len(flux), np.nan)
    chance = special.gammaincc((count[several] - 1) / 2, chi2[several] / 2)
    log_p[several] = np.log10(np.maximum(chance, 1e-300))  # what floats can hold
    high = np.where(known, value, -np.inf).max(1, initial=-np.inf)
    low = np.where(known, value, np.inf).min(1, initial=np.inf)
    strongest = np.argmax(np.abs(snr), axis=1) if flux.shape[1] else np.zeros(len(flux), int)
    return {
        "n_epochs": count,
        "n_found": found.sum(1),
        "n_clean": clean.sum(1),
        "max_snr": _if(count > 0, np.take_along_axis(snr, strongest[:, None], 1)[:, 0]),
        "mean_flux": _if(count > 0, mean),
        "mean_flux_err": _if(count > 0, 1 / np.sqrt(np.where(total > 0, total, 1))),
        "mean_snr": _if(count > 0, mean * np.sqrt(total)),
        "chi2": _if(several, chi2 / np.maximum(count - 1, 1)),
        "log_p": log_p,
        "amplitude": _if(several, np.where(several, high, 0) - np.where(several, low, 0)),
        "excess": _if(several, excess),
        "neumann": _if(count > 2, _neumann(value, known, variance)),
    }


def _if(condition, values):
    return np.where(condition, values, np.nan)


def _neumann(value, known, variance):
    """Von Neumann's ratio (1941) of the points that are there."""
    out = np.full(len(value), np.nan)
    for row in range(len(value)):
        steps = np.diff(value[row, known[row]])
        if len(steps) > 1 and variance[row] > 0:
            out[row] = np.mean(steps**2) / variance[row]
    return out
