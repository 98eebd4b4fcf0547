"""The core PSF of survey images, untuned, judged by reserved stars and by SDSS's own model.

    python benchmarks/real_psf.py [folder with the survey images]

The folder defaults to $PSFLIB_DATA or ../shared/data beside the repository.  All settings are the
defaults.  Reserved stars are those that no fit of the PSF has seen.
"""

import dataclasses
import os
import sys
import time
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy import ndimage, optimize

import psflib
from psflib.psf.core.field import area_fwhm, ellipticity
from psflib.psf.model import fit_stars, render
from psflib.stamps.build import pixels

IMAGES = {
    "SDSS r": "sdss_fpC/fpC-005754-r3-0280.fit.gz",
    "DES coadd g": "des_coadd/des0353-4831_g_south.fits.fz",
    "GOTO reference": "goto_pair/goto_virgo_ref.fits.fz",
    "GOTO science": "goto_pair/goto_virgo_sci.fits.fz",
    "EABA 004": "eaba_eso085/aligned_eso085-030-004.fits.fz",
    "EABA 005": "eaba_eso085/aligned_eso085-030-005.fits.fz",
    "DECam 04a": "decam_stamps/DEC-OBS04a.mini.fits.fz",
    "DECam 18a": "decam_stamps/DEC-OBS18a.mini.fits.fz",
}
SDSS_FIELD = "sdss_fpC/psField-005754-3-0280.fit"
SDSS_GAIN = 4.72  # e-/ADU in r, of the table in SDSS_FIELD, which the image's header lacks
FILTER_R = 3  # HDU of that file
SCALE = 0.001  # of pixel positions in the polynomials of that file
CORE = 1.0  # FWHM, radius of the residuals that are counted
PLACES = (0.1, 0.5, 0.9)  # of the width and of the height


@dataclasses.dataclass(frozen=True, eq=False)
class Solved:
    """An image with its stamps, its core PSF and the CPU seconds that the last one took."""

    exposure: object
    stamps: object
    psf: object
    seconds: float


@dataclasses.dataclass(frozen=True)
class Residuals:
    """Residuals of reserved stars within CORE, relative to the peak.

    Parameters
    ----------
    stars : int
    stacked : float
        rms of the mean residual of all stars, weighed by their S/N².
    expected : float
        What the noise alone would leave in it.
    single : float
        rms of one star's residual, weighed likewise, less the noise: √(mean square - variance).
    chi2 : float
        Median of their χ² per degree of freedom, of all pixels with weight.
    """

    stars: int
    stacked: float
    expected: float
    single: float
    chi2: float


def data_folder(argument=None) -> Path:
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(argument or os.environ.get("PSFLIB_DATA", default))


def solve(path: Path) -> Solved:
    """The chain up to the core PSF, with all defaults."""
    gain = SDSS_GAIN if "sdss" in str(path) else None
    exposure = psflib.prepare(psflib.read(path, gain=gain))
    stamps = psflib.build_stamps(exposure, psflib.select_stars(exposure))
    start = time.process_time()
    psf = psflib.core_epsf(stamps, exposure.shape)
    return Solved(exposure, stamps, psf, time.process_time() - start)


def residuals(solved: Solved) -> Residuals:
    """What the PSF leaves of the reserved stars, as they were fitted by the stage."""
    stamps, psf = solved.stamps, solved.psf
    table, size = psf.stars, stamps.data.shape[1]
    use = np.flatnonzero(np.asarray(table["reserved"]) & np.asarray(table["ok"]))
    if not len(use):
        return Residuals(0, *[np.nan] * 4)
    peak, radius = psf.at(*psf.centre).max(), CORE * psf.fwhm()
    pixel = np.arange(size) - size // 2
    left, variance, chi2 = [], [], []
    for k in use:
        fit = _fit(stamps, k, psf.epsf(*(pixels(table[n])[k] for n in ("x", "y"))), psf.oversample)
        scale = fit.flux * peak
        left.append(fit.residual / scale)
        with np.errstate(divide="ignore"):
            variance.append(1 / (stamps.weight[k] * scale**2))
        chi2.append(fit.chi2)
    left, variance = np.array(left), np.array(variance)
    core = (np.hypot(pixel[:, None], pixel) < radius) & np.isfinite(variance)
    share = np.where(core, 1 / np.median(variance, axis=(1, 2), keepdims=True), 0)
    total = share.sum(axis=0)
    seen = total > 0
    variance = np.where(core, variance, 0)
    mean = (share * left).sum(axis=0)[seen] / total[seen]
    noise = (share**2 * variance).sum(axis=0)[seen] / total[seen] ** 2
    single = np.average((left**2 - variance)[core], weights=share[core])
    return Residuals(
        len(use), _rms(mean), float(np.sqrt(noise.mean())),
        float(np.sign(single) * np.sqrt(abs(single))), float(np.median(chi2)),
    )  # fmt: skip


def sdss_model(path: Path, x: float, y: float) -> np.ndarray:
    """The survey's own PSF (51, 51) at a pixel: eigenimages times polynomials in row and column."""
    with fits.open(path) as hdus:
        table = hdus[FILTER_R].data
        model = 0
        for row in table:
            powers = np.outer(
                (SCALE * y) ** np.arange(row["nrow_b"]), (SCALE * x) ** np.arange(row["ncol_b"])
            )
            factor = np.sum(powers * np.asarray(row["c"])[: row["nrow_b"], : row["ncol_b"]])
            model = model + factor * np.array(row["RROWS"], float).reshape(row["RNROW"], -1)
    return model / model.sum()


def on_grid(native: np.ndarray, size: int, oversample: int, shift=(0.0, 0.0)) -> np.ndarray:
    """A PSF of native pixels on the oversampled nodes of a stamp, by a quintic spline."""
    node = (np.arange(size * oversample) - (size * oversample - 1) / 2) / oversample
    middle = len(native) // 2
    places = np.meshgrid(middle + node - shift[0], middle + node - shift[1], indexing="ij")
    return ndimage.map_coordinates(native, places, order=5, mode="constant")


def compare_sdss(solved: Solved, path: Path) -> list[dict]:
    """Our PSF beside the survey's at 9 places: relative L2, FWHM and ellipticity of both."""
    psf, (ny, nx) = solved.psf, solved.exposure.shape
    rows = []
    for y, x in ((b * ny, a * nx) for b in PLACES for a in PLACES):
        ours, native = psf.epsf(x, y), sdss_model(path, x, y)

        def difference(shift, ours=ours, native=native):
            theirs = on_grid(native, psf.size, psf.oversample, shift)
            scale = np.sum(ours * theirs) / np.sum(theirs**2)
            return (ours - scale * theirs).ravel() / np.linalg.norm(ours)

        best = optimize.least_squares(difference, np.zeros(2), diff_step=1e-3, x_scale=0.1)
        theirs = on_grid(native, psf.size, psf.oversample, best.x)
        rows.append({
            "x": x, "y": y, "relative L2": float(np.linalg.norm(best.fun)),
            "fwhm": (area_fwhm(ours, psf.oversample), area_fwhm(theirs, psf.oversample)),
            "e": (ellipticity(ours), ellipticity(theirs)),
        })  # fmt: skip
    return rows


def judge_sdss(solved: Solved, path: Path) -> list[dict]:
    """χ² per degree of freedom of each reserved star under our PSF, and under the survey's."""
    psf, table = solved.psf, solved.psf.stars
    rows = []
    for k in np.flatnonzero(table["reserved"]):
        x, y = (float(pixels(table[name])[k]) for name in ("x", "y"))
        theirs = on_grid(sdss_model(path, x, y), psf.size, psf.oversample)
        fits_ = [_fit(solved.stamps, k, grid, psf.oversample) for grid in (psf.epsf(x, y), theirs)]
        rows.append({
            "x": x, "y": y, "snr": float(solved.stamps.table["snr"][k]),
            "ours": fits_[0].chi2, "theirs": fits_[1].chi2,
        })  # fmt: skip
    return rows


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """One star: flux, residual (s, s) and χ² per degree of freedom of all pixels with weight."""

    flux: float
    residual: np.ndarray
    chi2: float


def _fit(stamps, k, grid, oversample):
    grid = grid * (oversample**2 / grid.sum())
    data, weight = (a[k : k + 1].astype(float) for a in (stamps.data, stamps.weight))
    data = np.where(weight > 0, data, 0)
    found = fit_stars(grid, data, stamps.delta[k : k + 1], oversample=oversample, weight=weight)
    model = render(grid, oversample, found.flux, found.background, found.delta)
    return Fit(float(found.flux[0]), (data - model)[0], float(found.chi2[0] / found.dof[0]))


def _rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


def main(argument=None):
    folder = data_folder(argument)
    if not folder.is_dir():
        raise SystemExit(f"{folder}: no such folder; name the folder with the survey images")
    for name, path in IMAGES.items():
        if not (folder / path).exists():
            sys.stdout.write(f"{name}: not in {folder}\n")
            continue
        solved = solve(folder / path)
        sys.stdout.write(f"{name}: {residuals(solved)}\n    {solved.psf.meta}\n")
        if name == "SDSS r" and (folder / SDSS_FIELD).exists():
            rows = compare_sdss(solved, folder / SDSS_FIELD) + judge_sdss(
                solved, folder / SDSS_FIELD
            )
            sys.stdout.writelines(f"    {row}\n" for row in rows)


if __name__ == "__main__":
    main(*sys.argv[1:2])
