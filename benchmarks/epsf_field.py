"""Sections of the ePSF benchmark on a PSF that varies over the field, and on survey images."""

import numpy as np
import real_psf
from astropy import units as u
from astropy.table import QTable
from measure import cpu

from psflib.psf.core.stage import build_epsf_field
from psflib.simulation.epsf_scores import field_shape_errors
from psflib.simulation.star_stamps import EpsfTruth, FieldTruth, simulate_stamps
from psflib.stamps.build import Stamps

SHAPE = (2048, 2048)
RESERVED = 5  # every fifth star
OVERSAMPLE = 3
GOAL = 2e-3  # of the shear, where only that varies
# Relative change of the FWHM and change of the shear, from the middle to the edge.
VARIATIONS = {
    "none": (0.0, 0.0), "shear ± 0.05": (0.0, 0.05), "FWHM ± 10 %": (0.1, 0.0),
    "both": (0.1, 0.05),
}  # fmt: skip


def field(plan):
    """Linear trends of FWHM and shear, recovered from clean stars."""
    head = ["variation", "FWHM", "N", "order", "rms error of FWHM", "of g1", "of g2",
            "reserved chi2 at order 0", "at the chosen one", "CPU s", "converged"]  # fmt: skip
    widths, numbers = ((3.0,), (300,)) if plan.quick else ((1.3, 3.0), (100, 300, 1000))
    rows = []
    for fwhm in widths:
        for name, change in VARIATIONS.items():
            truth = FieldTruth(EpsfTruth("bench", fwhm), SHAPE, *change)
            rows += [_field_row(name, truth, n, plan.seeds[0]) for n in numbers]
    return "A PSF that varies over the field", head, rows


def _field_row(name, truth, n, seed):
    stamps = stamps_of(simulate_stamps(truth, n, seed=seed, clean=True))
    psf, seconds = cpu(lambda: build_epsf_field(stamps, SHAPE, oversample=OVERSAMPLE))
    errors = [f"{e:.4f}" for e in field_shape_errors(psf, truth)]
    if not truth.fwhm:
        for k in (1, 2):
            errors[k] = errors[k] if float(errors[k]) <= GOAL else f"**{errors[k]}**"
    meta = psf.meta
    first = meta["scores"].get("0", np.nan)
    chi2 = [f"{value:.3f}" for value in (first, meta["reserve_chi2"])]
    chi2[1] = chi2[1] if abs(float(chi2[1]) - 1) <= 0.05 else f"**{chi2[1]}**"
    return [name, truth.base.fwhm, n, psf.order, *errors, *chi2, f"{seconds:.2f}",
            meta["converged"]]  # fmt: skip


def stamps_of(stars):
    """Simulated stars as the stage `build_stamps` would have left them."""
    n, half = len(stars.data), stars.data.shape[1] // 2
    row0, col0 = (np.round(a).astype(int) - half for a in (stars.y, stars.x))
    delta = stars.delta_init
    table = QTable({"id": np.arange(n), "row0": row0, "col0": col0})
    table["x"], table["y"] = stars.x * u.pix, stars.y * u.pix
    table["delta_row"], table["delta_col"] = delta[:, 0] * u.pix, delta[:, 1] * u.pix
    table["reserved"] = np.arange(n) % RESERVED == 0
    return Stamps(stars.data.astype(np.float32), stars.weight.astype(np.float32), table)


def real(plan):
    """Survey images, untuned, by their reserved stars."""
    head = ["image", "fitted", "reserved", "FWHM", "samples a pixel", "order",
            "chi2 by order", "median chi2", "stacked residual / peak", "its noise",
            "residual of one star / peak", "CPU s"]  # fmt: skip
    rows = []
    for name in ("SDSS r", "DECam 04a") if plan.quick else real_psf.IMAGES:
        path = real_psf.data_folder() / real_psf.IMAGES[name]
        rows.append(_real_row(name, path) if path.exists() else [name, "not here", *[""] * 10])
    return "Survey images", head, rows


def _real_row(name, path):
    solved = real_psf.solve(path)
    psf, meta, left = solved.psf, solved.psf.meta, real_psf.residuals(solved)
    scores = ", ".join(f"{score:.2f}" for score in meta["scores"].values())
    shares = [f"{share:.2%}" for share in (left.stacked, left.expected, left.single)]
    chi2 = f"{left.chi2:.2f}"
    return [name, meta["n_fitted"], left.stars, f"{meta['fwhm']:.2f}", psf.oversample, psf.order,
            scores, *([chi2, *shares] if left.stars else [""] * 4),
            f"{solved.seconds:.1f}"]  # fmt: skip


def sdss(plan):
    """Our PSF of the SDSS frame beside the survey's own."""
    head = ["x", "y", "relative L2", "FWHM: ours, theirs", "e1: ours, theirs", "e2: ours, theirs"]
    folder = real_psf.data_folder()
    path = folder / real_psf.IMAGES["SDSS r"]
    if not path.exists():
        return "SDSS's own model", head, [["not here", *[""] * 5]]
    solved = real_psf.solve(path)
    rows = []
    for place in real_psf.compare_sdss(solved, folder / real_psf.SDSS_FIELD):
        pairs = [place["fwhm"], *zip(*place["e"], strict=True)]
        digits = (2, 3, 3)
        rows.append([f"{place['x']:.0f}", f"{place['y']:.0f}", f"{place['relative L2']:.3f}",
                     *(", ".join(f"{v:.{d}f}" for v in p)
                       for p, d in zip(pairs, digits, strict=True))])  # fmt: skip
    judged = real_psf.judge_sdss(solved, folder / real_psf.SDSS_FIELD)
    chi2 = [np.mean([star[name] for star in judged]) for name in ("ours", "theirs")]
    title = (
        f"SDSS's own model (mean chi2 of {len(judged)} reserved stars: ours {chi2[0]:.2f}, "
        f"theirs {chi2[1]:.2f})"
    )
    return title, head, rows
