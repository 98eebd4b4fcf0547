"""What a candidate is, by the light in both images: new, variable, faded, gone or moved."""

import numpy as np
from scipy import spatial

LIT = 3.0  # sigma of a flux from which there is light
HERE = 0.5  # FWHM to a source of the template within which a candidate is that source
SURE = 3.0  # errors of the place, which count if they are more
MOVED = 5.0  # FWHM between the two ends of what moved
ALIKE = 3.0  # sigma that their fluxes may differ by, and ...
SHARE = 0.1  # ... of the flux: what moves turns, too

NEW, VARIABLE, FADED, GONE, MOVED_AWAY, UNKNOWN = (
    "new", "variable", "faded", "gone", "moved", "unknown",
)  # fmt: skip


def kinds(flux, fluxes, distance, place_error, fwhm: float) -> np.ndarray:
    """A word (n,) for each candidate.

    new : brighter, and no source of the template stands there (light of a host may be);
    variable : brighter, at a source of the template;  faded : fainter, and light is left;  gone :
    fainter, and nothing is left, or no source of the template stands there (a transient of the
    template on its host);  unknown : without both images.

    Parameters
    ----------
    flux : ndarray (n,)
        Of the difference, ADU.
    fluxes : ForcedFluxes
    distance : ndarray (n,)
        To the nearest source of the template, px; NaN if there is none.
    place_error : ndarray (n,)
        px, NaN if not known.
    fwhm : float
        px.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        left = fluxes.science > LIT * fluxes.science_err
        before = fluxes.template > LIT * fluxes.template_err
        here = distance < np.maximum(HERE * fwhm, SURE * np.nan_to_num(place_error))
    known = np.isfinite(fluxes.science) & np.isfinite(fluxes.template)
    word = np.where(flux > 0, NEW, GONE).astype("U8")
    word[(flux > 0) & here & before] = VARIABLE
    word[(flux <= 0) & here & left] = FADED
    word[~known | ~np.isfinite(flux)] = UNKNOWN
    return word


def mark_moved(word, x, y, flux, flux_err, fwhm: float) -> None:
    """Call new and gone candidates moved that are each other's nearest partner of the other sign.

    Parameters
    ----------
    word : ndarray (n,) of str
        As `kinds` gives them; changed in place.
    x, y : ndarray (n,)
        px.
    flux, flux_err : ndarray (n,)
        ADU.
    fwhm : float
        px.
    """
    up, down = (np.flatnonzero(word == kind) for kind in (NEW, GONE))
    if not up.size or not down.size:
        return
    trees = [spatial.cKDTree(np.c_[x[rows], y[rows]]) for rows in (up, down)]
    apart = trees[0].sparse_distance_matrix(trees[1], MOVED * fwhm, output_type="ndarray")
    i, j = up[apart["i"]], down[apart["j"]]
    error = np.hypot(flux_err[i], flux_err[j])
    alike = np.abs(flux[i] + flux[j]) < ALIKE * error + SHARE * np.abs(flux[i])
    i, j, distance = i[alike], j[alike], apart["v"][alike]
    taken = np.zeros(len(word), bool)
    for p in np.argsort(distance, kind="stable"):
        if not (taken[i[p]] or taken[j[p]]):
            taken[i[p]] = taken[j[p]] = True
    word[taken] = MOVED_AWAY
