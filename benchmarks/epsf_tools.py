"""Builders of an effective PSF by one door: psflib, and its peers where they are installed.

Each takes `StarStamps` and an oversampling, and returns a `Built`.
"""

import dataclasses
import functools
import importlib.util
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits

from psflib.psf import build_epsf
from psflib.simulation.epsf_scores import catmull_rom_of

PSFEX_SETTINGS = {
    "BASIS_TYPE": "PIXEL", "PSFVAR_DEGREES": "0", "SAMPLE_AUTOSELECT": "N",
    "SAMPLE_MAXELLIP": "1.0", "SAMPLE_MINSN": "1", "SAMPLE_FWHMRANGE": "0.1,100",
    "CENTER_KEYS": "X_IMAGE,Y_IMAGE", "PHOTFLUX_KEY": "FLUX_APER(1)",
    "PHOTFLUXERR_KEY": "FLUXERR_APER(1)", "CHECKPLOT_TYPE": "NONE", "CHECKIMAGE_TYPE": "NONE",
    "WRITE_XML": "N", "VERBOSE_TYPE": "QUIET", "NTHREADS": "1",
}  # fmt: skip
PSFEX_TIMEOUT = 300  # s
BIG = 1e30  # what PSFEx takes for a missing pixel, with a minus


@dataclasses.dataclass(frozen=True, eq=False)
class Built:
    """ePSF at the nodes (os·s, os·s) and its value at any offset by the tool's interpolation."""

    grid: np.ndarray
    interpolate: object
    converged: bool | None = None
    n_used: int | None = None


def psflib_builder(solver):
    """The builder of psflib with one of its solvers."""

    chosen = {} if solver == "landweber" else {"solver": solver}

    def build(stars, oversample):
        made = build_epsf(stars.data, stars.delta_init, oversample, weight=stars.weight, **chosen)
        interpolate = catmull_rom_of(made.epsf, oversample)
        return Built(made.epsf, interpolate, bool(made.converged), int(made.ok.sum()))

    return build


def build_photutils(stars, oversample):
    """EPSFBuilder with its own defaults, on stamps less the true sky."""
    from astropy.nddata import NDData  # noqa: F401  (photutils loads it late: not in the timing)
    from photutils.psf import EPSFBuilder, EPSFStar, EPSFStars

    centre = (stars.data.shape[1] - 1) / 2
    cut = [
        EPSFStar(data - sky, cutout_center=(centre + d[1], centre + d[0]))
        for data, sky, d in zip(stars.data, stars.sky, stars.delta_init, strict=True)
    ]
    builder = EPSFBuilder(oversampling=oversample, progress_bar=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = builder(EPSFStars(cut))
    model = result.epsf

    def interpolate(dy, dx):
        dy, dx = np.broadcast_arrays(dy, dx)
        flat = model.evaluate(dx.ravel(), dy.ravel(), 1.0, 0.0, 0.0)
        return np.asarray(flat).reshape(dy.shape)

    return Built(_on_nodes(interpolate, stars, oversample), interpolate, bool(result.converged))


def build_psfex(stars, oversample):
    """PSFEx on a catalogue of vignettes less the true sky, one PSF for the field."""
    size = stars.data.shape[1]
    side = size * oversample
    with tempfile.TemporaryDirectory() as folder:
        catalogue = Path(folder) / "stars.cat"
        _write_ldac(catalogue, stars)
        settings = {
            **PSFEX_SETTINGS, "PSF_SAMPLING": str(1 / oversample), "PSF_SIZE": f"{side},{side}",
            "PSF_DIR": folder,
        }  # fmt: skip
        arguments = [word for key, value in settings.items() for word in (f"-{key}", value)]
        command = [shutil.which("psfex"), str(catalogue), "-c", "/dev/null", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PSFEX_TIMEOUT)
        output = catalogue.with_suffix(".psf")
        if done.returncode or not output.exists():
            raise RuntimeError(f"psfex failed: {done.stderr[-500:]}")
        with fits.open(output) as file:
            header, values = file[1].header, np.asarray(file[1].data["PSF_MASK"][0][0], float)
    interpolate = functools.partial(_lanczos4, values, header["PSF_SAMP"])
    return Built(_on_nodes(interpolate, stars, oversample), interpolate, None, header["ACCEPTED"])


def _on_nodes(interpolate, stars, oversample):
    side = stars.data.shape[1] * oversample
    node = (np.arange(side) - (side - 1) / 2) / oversample
    return interpolate(*np.meshgrid(node, node, indexing="ij"))


def _lanczos4(values, step, dy, dx):
    """`values` at offsets from their central sample, in the interpolation that PSFEx uses."""
    dy, dx = np.broadcast_arrays(dy, dx)
    rows, cols = (a / step + (len(values) - 1) / 2 for a in (dy, dx))
    padded = np.pad(values, 6)
    low_row, low_col = (np.floor(a).astype(int) for a in (rows, cols))
    out = np.zeros(dy.shape)
    taps = np.arange(-3, 5)
    weight_row, weight_col = (
        _lanczos(a[..., None] - low[..., None] - taps)
        for a, low in ((rows, low_row), (cols, low_col))
    )
    for i, a in enumerate(taps):
        r = np.clip(low_row + a + 6, 0, len(padded) - 1)
        for j, b in enumerate(taps):
            c = np.clip(low_col + b + 6, 0, len(padded) - 1)
            out += weight_row[..., i] * weight_col[..., j] * padded[r, c]
    return out


def _lanczos(t):
    taps = np.where(np.abs(t) < 4, np.sinc(t) * np.sinc(t / 4), 0.0)
    return taps / taps.sum(axis=-1, keepdims=True)


def _write_ldac(path, stars):
    """A catalogue as SExtractor would write it, of stars in a row of their own images."""
    size = stars.data.shape[1]
    centre = (size + 1) / 2  # 1-based, of stamp k at k*size
    origin = size * np.arange(len(stars.data)) + 1
    vignettes = stars.data - stars.sky[:, None, None]
    vignettes = np.where(np.isfinite(vignettes), vignettes, -BIG).astype(np.float32)
    error = np.sqrt((1 / stars.weight).sum(axis=(1, 2)))
    table = [
        fits.Column("VIGNET", f"{size * size}E", dim=f"({size},{size})", array=vignettes),
        fits.Column("FLAGS", "I", array=np.zeros(len(error), np.int16)),
    ]
    for name, values in {
        "X_IMAGE": origin + size // 2 + stars.delta_init[:, 1],
        "Y_IMAGE": centre + stars.delta_init[:, 0],
        "FLUX_APER": stars.flux, "FLUXERR_APER": error, "SNR_WIN": stars.flux / error,
        "FLUX_RADIUS": np.full(len(error), 2.0), "ELONGATION": np.ones(len(error)),
    }.items():  # fmt: skip
        table.append(fits.Column(name, "1E", array=values))
    sky = float(np.mean(stars.sky))
    card = fits.Header({
        "SIMPLE": True, "BITPIX": -32, "NAXIS": 2, "NAXIS1": int(size * len(error)),
        "NAXIS2": size, "GAIN": 1.0,
        "SATURATE": BIG, "SEXBKDEV": float(np.sqrt(sky + 25)), "SEXGAIN": 1.0,
        "SEXSATLV": BIG, "EXPTIME": 1.0,
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 0.0, "CRVAL2": 0.0, "CRPIX1": 1.0,
        "CRPIX2": 1.0, "CD1_1": -1e-5, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 1e-5,
    })  # fmt: skip
    # As bytes: a column of strings would lose the blanks that end a card.
    text = np.frombuffer(card.tostring(endcard=True, padding=False).encode(), np.uint8)
    column = fits.Column("Field Header Card", f"{len(text)}B", array=text[None, :])
    head = fits.BinTableHDU.from_columns([column], name="LDAC_IMHEAD")
    objects = fits.BinTableHDU.from_columns(table, name="LDAC_OBJECTS")
    fits.HDUList([fits.PrimaryHDU(), head, objects]).writeto(path)


def available(solver="normal"):
    """Name -> builder of every tool that can run here."""
    tools = {"psflib": psflib_builder(solver)}
    if importlib.util.find_spec("photutils"):
        tools["photutils"] = build_photutils
    if shutil.which("psfex"):
        tools["PSFEx"] = build_psfex
    return tools
