"""A row of numbers on every epoch, of whatever has been made: summary.ecsv."""

import re
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable

from psflib import products
from psflib.errors import BadFile
from psflib.files import TEMPLATE, FieldsTable
from psflib.judging import metrics

#: Products of one epoch, in the order in which they are made, and who reads them.
READERS = {
    "exposure.fits": products.read_exposure,
    "stars.ecsv": products.read_stars,
    "stamps.fits": products.read_stamps,
    "epsf.fits": products.read_psf,
    "extended_psf.fits": products.read_extended_psf,
    "template.fits": products.read_exposure,
    "kernel.fits": products.read_kernel,
    "difference.fits": products.read_difference,
    "decorrelated.fits": products.read_difference,
    "candidates.ecsv": products.read_candidates,
}
OPTIONAL = {"starless.fits": products.read_starless}
OF_SCIENCE_ONLY = tuple(READERS)[5:]

COST = re.compile(r"took ([\d.]+) s, peak memory (\d+) MB")

#: Column -> (value when it could not be made, unit, description)
COLUMNS = {
    "n_psf_stars": (0, None, "stars that the PSF was fitted to; reserved ones not among them"),
    "locus": ("", None, "stellar locus: clear, doubtful (galaxies?) or too few to tell"),
    "psf_order": (-1, None, "degree of the PSF's polynomial over the field; -1 without a PSF"),
    "psf_fwhm": (np.nan, u.pix, "FWHM of the PSF at the centre"),
    "psf_e1": (np.nan, None, "ellipticity of the PSF at the centre, (Ixx - Iyy)/(Ixx + Iyy)"),
    "psf_e2": (np.nan, None, "ellipticity of the PSF at the centre, 2 Ixy/(Ixx + Iyy)"),
    "reserve_chi2": (np.nan, None, "mean chi-square per degree of freedom of reserved stars"),
    "kernel_sum": (np.nan, None, "flux scale, science over template, at the centre"),
    "chi2": (np.nan, None, "chi-square per pixel of the matching on its sources"),
    "noise_std": (np.nan, None, "std of decorrelated difference / sigma in empty sky; 1 is right"),
    "correlation_raw": (np.nan, None, "largest correlation of neighbouring pixels' noise, raw"),
    "correlation": (np.nan, None, "the same after decorrelation; 0 is right"),
    "candidates": (-1, None, "detections of both signs; -1 if not searched"),
    "clean": (-1, None, "candidates without a flag; -1 if not searched"),
    "seconds": (np.nan, u.s, "time of all stages"),
    "peak_memory": (np.nan, u.MB, "largest memory of any stage"),
    "missing": ("", None, "first product that could not be made, empty if all are there"),
    "problem": ("", None, "why it could not be made"),
}  # fmt: skip


class Epoch:
    """The products of one image; each is read when it is asked for, None if it is not there."""

    def __init__(self, output: Path, field: str, epoch: str):
        self.field, self.epoch = field, epoch
        self.folder = output / field / epoch
        self.logs = output / "logs" / field / epoch

    @property
    def products(self) -> list[str]:
        """Names of the files that this image should have."""
        return [n for n in READERS if self.epoch != TEMPLATE or n not in OF_SCIENCE_ONLY]

    @property
    def missing(self) -> str:
        """The first product that is not there, or ''."""
        return next((n for n in self.products if not (self.folder / n).exists()), "")

    @property
    def problem(self) -> str:
        """What the stages said before they failed, or '' when nothing is missing."""
        logs = sorted(self.logs.glob("*.log"), key=lambda path: path.stat().st_mtime)
        found = [line for log in logs for line in _lines(log) if " ERROR " in line]
        return found[-1].split(": ", 1)[-1] if self.missing and found else ""

    def read(self, name: str):
        """The value of a product, or None."""
        try:
            return (READERS | OPTIONAL)[name](self.folder / name)
        except BadFile:
            return None

    def provenance(self) -> dict[str, str]:
        """Version of psflib that wrote each product."""
        paths = {name: self.folder / name for name in self.products}
        there = {name: path for name, path in paths.items() if path.exists()}
        return {name: products.read_provenance(path)["version"] for name, path in there.items()}

    def notes(self) -> list[tuple[str, str]]:
        """(stage, line) of all that the logs say, in the order of the work."""
        logs = sorted(self.logs.glob("*.log"), key=lambda path: path.stat().st_mtime)
        return [(log.stem, line) for log in logs for line in _lines(log)]

    def cost(self) -> dict[str, tuple[float, float]]:
        """Seconds and peak memory (MB) by stage."""
        found = {}
        for log in sorted(self.logs.glob("*.log")):
            match = COST.search(log.read_text(encoding="utf-8", errors="replace"))
            if match:
                found[log.stem] = (float(match[1]), float(match[2]))
        return found


def epochs(table: FieldsTable, output: Path) -> list[Epoch]:
    """All images of the table, the template of each field first."""
    return [
        Epoch(output, field, epoch)
        for field in table.fields
        for epoch in (TEMPLATE, *table.epochs(field))
    ]


def summarise(table: FieldsTable, output: Path) -> QTable:
    """Numbers on every image, by the columns of `COLUMNS`."""
    found = epochs(table, output)
    rows = [_row(epoch) for epoch in found]
    summary = QTable({"field": [e.field for e in found], "epoch": [e.epoch for e in found]})
    for name, (default, unit, description) in COLUMNS.items():
        column = [row.get(name, default) for row in rows]
        summary[name] = column * unit if unit else column
        summary[name].info.description = description
    return summary


def cost_lines(output: Path) -> list[str]:
    """Seconds and peak memory of every stage, from the logs below `output`: lines to print."""
    lines = [f"{'stage':16} {'image':24} {'seconds':>8} {'peak MB':>8}"]
    total = 0.0
    for log in sorted((output / "logs").rglob("*.log"), key=lambda path: path.stat().st_mtime):
        match = COST.search(log.read_text(encoding="utf-8", errors="replace"))
        if match:
            image = "/".join(log.parent.relative_to(output / "logs").parts)
            lines.append(f"{log.stem:16} {image:24} {match[1]:>8} {match[2]:>8}")
            total += float(match[1])
    return [*lines, f"{'all':16} {'':24} {total:8.2f}"]


def _row(epoch):
    row = {"missing": epoch.missing, "problem": epoch.problem, **_cost(epoch)}
    stars = epoch.read("stars.ecsv")
    if stars is not None:
        row["locus"] = str(stars.meta.get("locus", ""))
    row |= _psf(epoch)
    if epoch.epoch != TEMPLATE:
        row |= _kernel(epoch) | _noise(epoch) | _candidates(epoch)
    return row


def _cost(epoch):
    cost = list(epoch.cost().values())
    if not cost:
        return {}
    return {"seconds": sum(c[0] for c in cost), "peak_memory": max(c[1] for c in cost)}


def _psf(epoch):
    psf = epoch.read("epsf.fits")
    if psf is None:
        return {}
    fwhm, e1, e2 = (float(value) for value in psf.shape_at(*psf.centre))
    chi2 = psf.meta.get("reserve_chi2")
    return {
        "n_psf_stars": psf.meta.get("n_fitted", len(psf.stars)),
        "psf_order": psf.order,
        "psf_fwhm": fwhm,
        "psf_e1": e1,
        "psf_e2": e2,
        "reserve_chi2": np.nan if chi2 is None else float(chi2),
    }


def _kernel(epoch):
    kernel = epoch.read("kernel.fits")
    if kernel is None:
        return {}
    ny, nx = kernel.shape
    scale = kernel.flux_scale((nx - 1) / 2, (ny - 1) / 2)
    return {"kernel_sum": float(scale), "chi2": float(kernel.meta.get("chi2", np.nan))}


def _noise(epoch):
    read = [epoch.read(n) for n in ("difference.fits", "decorrelated.fits", "exposure.fits")]
    if any(value is None for value in read):
        return {}
    found = metrics.whiteness(*read)
    return {
        "noise_std": found.std,
        "correlation_raw": found.correlation_before,
        "correlation": found.correlation_after,
    }


def _candidates(epoch):
    table = epoch.read("candidates.ecsv")
    if table is None:
        return {}
    return {"candidates": len(table), "clean": int(np.sum(table["flags"] == ""))}


def _lines(path):
    return path.read_text(encoding="utf-8", errors="replace").splitlines()
