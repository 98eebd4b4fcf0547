"""A row of numbers on every epoch, of whatever has been made: summary.ecsv.

Nothing that a product, a log or the lack of them can do takes a row away: what cannot be had is
left empty, and said.
"""

import logging
import re
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable

from psflib import products
from psflib.detection.verdict import Verdict, verdict_of_psf, worst
from psflib.errors import PsflibError
from psflib.files import TEMPLATE, FieldsTable
from psflib.judging import metrics
from psflib.words import NONE, spoken

log = logging.getLogger(__name__)

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
OPTIONAL = {"starless.fits": products.read_starless, "injection.ecsv": products.read_injection}
OF_SCIENCE_ONLY = tuple(READERS)[5:]
TOLD = ("exposure.fits", "stars.ecsv", "epsf.fits", "extended_psf.fits", "decorrelated.fits")

COST = re.compile(r"took ([\d.]+) s, peak memory (\d+) MB")

#: Column -> (value when it could not be made, unit, description)
COLUMNS = {
    "verdict": ("unknown", None, "can the products be believed? good, suspicious or bad"),
    "reasons": (NONE, None, "why, in words and numbers"),
    "n_psf_stars": (0, None, "stars that the PSF was fitted to; reserved ones not among them"),
    "locus": ("unknown", None, "stellar locus: clear, doubtful (galaxies?) or too few to tell"),
    "psf_order": (-1, None, "degree of the PSF's polynomial over the field; -1 without a PSF"),
    "psf_fwhm": (np.nan, u.pix, "FWHM of the PSF at the centre"),
    "psf_e1": (np.nan, None, "ellipticity of the PSF at the centre, (Ixx - Iyy)/(Ixx + Iyy)"),
    "psf_e2": (np.nan, None, "ellipticity of the PSF at the centre, 2 Ixy/(Ixx + Iyy)"),
    "reserve_chi2": (np.nan, None, "mean chi-square per degree of freedom of reserved stars"),
    "registration": ("unknown", None, "what aligned template and science: wcs, stars, grid ..."),
    "registration_before": (np.nan, u.pix, "rms shift of the stars of both as WCS or grid say"),
    "registration_after": (np.nan, u.pix, "the same after the correction by the stars, if any"),
    "kernel_sum": (np.nan, None, "flux scale, science over template, at the centre"),
    "chi2": (np.nan, None, "chi-square per pixel of the matching on its sources"),
    "noise_std": (np.nan, None, "std of decorrelated difference / sigma in empty sky; 1 is right"),
    "correlation_raw": (np.nan, None, "largest correlation of neighbouring pixels' noise, raw"),
    "correlation": (np.nan, None, "the same after decorrelation; 0 is right"),
    "candidates": (-1, None, "detections of both signs; -1 if not searched"),
    "clean": (-1, None, "candidates without a flag; -1 if not searched"),
    "flux_50": (np.nan, u.adu, "flux of sources of which half are found, by injected ones"),
    "flux_50_err": (np.nan, u.adu, "its standard error"),
    "flux_90": (np.nan, u.adu, "flux of which 90 % are found"),
    "mag_50": (np.nan, u.mag, "flux_50 as a magnitude, where a zero point is known"),
    "mag_90": (np.nan, u.mag, "flux_90 likewise"),
    "expected_alarms": (np.nan, None, "peaks that Gaussian noise lifts over the threshold"),
    "alarms_halves": (np.nan, None, "the same as the noise of the sky itself does it"),
    "alarms_flipped": (-1, None, "clean candidates of the sign-flipped difference"),
    "purity": (np.nan, None, "share of clean positive candidates that is true, by these"),
    "purity_err": (np.nan, None, "its Poisson error"),
    "purity_dark": (np.nan, None, "purity where the template has no light, so that nothing faded"),
    "seconds": (np.nan, u.s, "time of all stages"),
    "peak_memory": (np.nan, u.MB, "largest memory of any stage"),
    "missing": (NONE, None, "first product that could not be made, none if all are there"),
    "problem": (NONE, None, "why it could not be made"),
}  # fmt: skip
#: Of them, what the table of candidates tells in its `meta`.
DEPTH = ("flux_50", "flux_50_err", "flux_90", "mag_50", "mag_90", "expected_alarms",
         "alarms_halves", "alarms_flipped", "purity", "purity_err", "purity_dark")  # fmt: skip


class Epoch:
    """The products of one image; each is read when it is asked for, None if it is not there.

    `unreadable` tells, by the name of a product, why it could not be read; it fills by reading.
    """

    def __init__(self, output: Path, field: str, epoch: str, difference: bool = True):
        self.field, self.epoch = field, epoch
        self.folder = output / field / epoch
        self.logs = output / "logs" / field / epoch
        self.difference = difference and epoch != TEMPLATE
        self.unreadable: dict[str, str] = {}
        self._tables: dict[str, QTable] = {}

    @property
    def products(self) -> list[str]:
        """Names of the files that this image should have."""
        return [n for n in READERS if self.difference or n not in OF_SCIENCE_ONLY]

    @property
    def missing(self) -> str:
        """The first product that is not there, or ''."""
        return next((n for n in self.products if not (self.folder / n).exists()), "")

    @property
    def problem(self) -> str:
        """What the stages said before they failed, or what is damaged; '' if nothing is."""
        found = [line for log in self._logs() for line in _lines(log) if " ERROR " in line]
        failed = [found[-1].split(": ", 1)[-1]] if self.missing and found else []
        return "; ".join([*failed, *self.unreadable.values()])

    def read(self, name: str):
        """The value of a product, or None; tables, dear to parse and small, are kept."""
        path = self.folder / name
        if name in self._tables or not path.exists():
            return self._tables.get(name)
        value = self.attempt(name, (READERS | OPTIONAL)[name], path)
        if name.endswith(".ecsv") and value is not None:
            self._tables[name] = value
        return value

    def attempt(self, name, function, *arguments):
        """What the function returns; None if it fails, whatever it is that the file made it do."""
        try:
            return function(*arguments)
        except MemoryError:
            raise
        except Exception as error:
            if name not in self.unreadable:
                text = _sentence(error)
                self.unreadable[name] = text if name in text else f"{name}: {text}"
                log.warning("%s %s: %s", self.field, self.epoch, self.unreadable[name])
            return None

    def provenance(self) -> dict[str, str]:
        """Version of psflib that wrote each product."""
        about = {name: self._each(products.read_provenance, name) for name in self.products}
        return {name: found["version"] for name, found in about.items() if found}

    def assumptions(self) -> list[tuple[str, str, bool]]:
        """(stage, text, is it a doubt?) of all that was assumed or doubted, doubts first."""
        found = [(log.stem, _text_of(line), True) for log in self._logs() for line in _lines(log)
                 if " WARNING " in line]  # fmt: skip
        for name in TOLD:
            for note in self._each(products.read_notes, name) or ():
                found.append((name.split(".")[0], note, False))
        first = {text: (stage, text, doubt) for stage, text, doubt in reversed(found)}
        return list(reversed(first.values()))

    def _each(self, reader, name):
        path = self.folder / name
        return self.attempt(name, reader, path) if path.exists() else None

    def sources(self) -> list[Path]:
        """Every file that tells of this image: products and logs."""
        products = [self.folder / name for name in (*self.products, *OPTIONAL)]
        return [*(path for path in products if path.exists()), *self._logs()]

    def _logs(self):
        logs = [path for path in self.logs.glob("*.log") if path.name != "page.log"]
        return sorted(logs, key=lambda path: path.stat().st_mtime)

    def notes(self) -> list[tuple[str, str]]:
        """(stage, line) of all that the logs say, in the order of the work."""
        return [(log.stem, line) for log in self._logs() for line in _lines(log)]

    def cost(self) -> dict[str, tuple[float, float]]:
        """Seconds and peak memory (MB) by stage."""
        found = {}
        for log in self._logs():
            match = COST.search("\n".join(_lines(log)))
            if match:
                found[log.stem] = (float(match[1]), float(match[2]))
        return found


def epochs(table: FieldsTable, output: Path, until: str = "all") -> list[Epoch]:
    """All images of the table, the template of each field first."""
    difference = until != "psf" and table.differences
    return [
        Epoch(output, field, epoch, difference)
        for field in table.fields
        for epoch in table.images(field)
    ]


def image_of(table: FieldsTable, output: Path, field: str, epoch: str, until: str) -> Epoch:
    """One image of the table."""
    return next(e for e in epochs(table, output, until) if (e.field, e.epoch) == (field, epoch))


def summarise(found: list[Epoch]) -> QTable:
    """Numbers on every image: verdict, reasons, field, epoch, then the rest of `COLUMNS`."""
    return summary_table([(e.field, e.epoch) for e in found], [row_of(e) for e in found])


def summary_table(images: list[tuple[str, str]], rows: list[dict]) -> QTable:
    """`summarise` for images (field, epoch) whose rows are known."""
    fields, epochs = zip(*images, strict=True) if images else ((), ())
    names = {"field": list(fields), "epoch": list(epochs)}
    summary = QTable()
    for name in (*list(COLUMNS)[:2], *names, *list(COLUMNS)[2:]):
        default, unit, description = COLUMNS.get(name, ("", None, ""))
        listed = names.get(name) or [row.get(name, default) for row in rows]
        column = spoken(listed, default) if isinstance(default, str) else listed
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


def row_of(epoch: Epoch) -> dict:
    """The row of one image, a plain value a column of `COLUMNS`; what is not known is left out."""
    row: dict = {"missing": epoch.missing}
    for part in (
        _cost,
        _stars,
        _psf,
        *((_kernel, _difference, _candidates) if epoch.difference else ()),
    ):
        row |= epoch.attempt(f"the figures of {part.__name__.strip('_')}", part, epoch) or {}
    epoch.provenance()  # the tables that it reads stand last in a product: none that is truncated
    found = epoch_verdict(epoch)
    return row | {
        "verdict": found.word, "reasons": "; ".join(found.reasons), "problem": epoch.problem,
    }  # fmt: skip


def epoch_verdict(epoch: Epoch) -> Verdict:
    """What `detect` found, or what the PSF says, and what is not there; a lack of both is bad."""
    found, problem = _said(epoch), epoch.problem
    if not epoch.missing and not problem:
        return found
    lacking = f"{epoch.missing} could not be made" if epoch.missing else ""
    if lacking and not problem and epoch.difference:
        problem = "no stage of this image failed, see its template"
    line = ": ".join(text for text in (lacking, problem) if text)
    return Verdict(worst([found.word, "suspicious"]), (line, *found.reasons))


def _said(epoch):
    """The verdict of the products alone; bad without a reason if there are none."""
    if epoch.difference:
        table = epoch.read("candidates.ecsv")
        if table is None:
            return Verdict("bad")
        if "verdict" not in table.meta:
            return Verdict("suspicious", ("not judged: candidates.ecsv is of an older version",))
        return Verdict(str(table.meta["verdict"]), tuple(map(str, table.meta.get("reasons", ()))))
    psf = epoch.read("epsf.fits")
    return Verdict("bad") if psf is None else verdict_of_psf(psf)


def _stars(epoch):
    stars = epoch.read("stars.ecsv")
    return {} if stars is None else {"locus": str(stars.meta.get("locus", ""))}


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


def _difference(epoch):
    names = "difference.fits", "decorrelated.fits", "exposure.fits"
    raw, clean, science = (epoch.read(name) for name in names)
    if raw is None:
        return {}
    row = {"registration": str(raw.meta.get("registration", ""))} | {
        name: float(raw.meta.get(name, np.nan))
        for name in ("registration_before", "registration_after")
    }
    if clean is None or science is None:
        return row
    found = metrics.whiteness(raw, clean, science)
    return row | {
        "noise_std": found.std,
        "correlation_raw": found.correlation_before,
        "correlation": found.correlation_after,
    }


def _candidates(epoch):
    table = epoch.read("candidates.ecsv")
    if table is None:
        return {}
    limits = table.meta.get("completeness", {}).get("all", {})
    told = limits | dict(table.meta)
    known = {name: told[name] for name in DEPTH if name in told}
    return {"candidates": len(table), "clean": int(np.sum(table["clean"]))} | known


def _lines(path):
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        return [f"{path.name} cannot be read: {error.strerror}"]


def _text_of(line):
    """What a line of a log says, without time, level and module."""
    return line.split(" WARNING ", 1)[-1].split(": ", 1)[-1]


def _sentence(error):
    """An exception as one line, with its type where it is not one of ours."""
    lines = str(error).strip().splitlines() or [""]
    return lines[0] if isinstance(error, PsflibError) else f"{type(error).__name__}: {lines[0]}"
