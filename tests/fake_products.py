"""Small products made by hand, with the attributes that figures and widgets read.

They let a picture be tested without running the stage that makes its values.
"""

from types import SimpleNamespace

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable

from psflib.detection.flags import CandidateFlag, set_flags
from psflib.image.exposure import Exposure, MaskBit
from psflib.injection.summary import summarise
from psflib.judging.comparison import BINS, Comparison
from psflib.matching import MatchingKernel
from psflib.matching.cells.candidates import stamp_box
from psflib.matching.cells.grid import REASONS, KernelCandidate, make_cells
from psflib.matching.cells.lsst_basis import gaussian_basis
from psflib.matching.cells.single import Pair
from psflib.psf.core.field import PsfField
from psflib.stamps.build import Stamps

SHAPE = (180, 220)
SIGMA = 4.0


def moffat(side, fwhm, dx=0.0, dy=0.0, beta=3.0):
    """Unit-sum Moffat (side, side) centred on the centre pixel plus (dx, dy)."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    core = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
    image = (1 + ((x - dx) ** 2 + (y - dy) ** 2) / core**2) ** -beta
    return image / image.sum()


def sky(rng, shape=SHAPE, stars=30):
    """(image, positions, fluxes): stars over unit sky noise times SIGMA."""
    ny, nx = shape
    image = rng.normal(0, SIGMA, shape)
    xy = np.c_[rng.uniform(20, nx - 20, stars), rng.uniform(20, ny - 20, stars)]
    flux = 10 ** rng.uniform(2.5, 4.5, stars)
    for (x, y), value in zip(xy, flux, strict=True):
        col, row = round(x), round(y)
        box = np.s_[row - 12 : row + 13, col - 12 : col + 13]
        image[box] += value * moffat(25, 3.0, x - col, y - row)
    return image, xy, flux


def exposure(rng, shape=SHAPE):
    """An exposure of stars with a bad column and a block without data."""
    image, _, _ = sky(rng, shape)
    mask = np.zeros(shape, np.uint16)
    mask[:, shape[1] // 3] |= np.uint16(MaskBit.BAD)
    image[10:30, 10:25] = np.nan
    variance = np.full(shape, SIGMA**2)
    return Exposure(image, variance=variance, mask=mask, mask_bits="psflib")


def star_table(rng, shape=SHAPE, count=60):
    """A star table with some of every reason."""
    _, xy, flux = sky(rng, shape, count)
    reasons = np.array([*["none"] * 3, "faint", "saturated", "extended", "crowded", "edge"])
    reason = reasons[np.arange(count) % len(reasons)]
    fwhm = np.where(reason == "extended", 4.5, 3.0) + rng.normal(0, 0.1, count)
    table = QTable(
        {
            "id": np.arange(1, count + 1),
            "x": xy[:, 0] * u.pix,
            "y": xy[:, 1] * u.pix,
            "flux": flux * u.adu,
            "flux_err": np.full(count, 30.0) * u.adu,
            "snr": flux / 30,
            "fwhm": fwhm * u.pix,
            "ellipticity": rng.uniform(0, 0.3, count),
            "peak": flux / 10 * u.adu,
            "selected": reason == "none",
            "reserved": (reason == "none") & (np.arange(count) % 8 == 2),
            "reason": reason,
        }
    )
    table.meta["fwhm"] = 3.0
    return table


def stamps(rng, count=8, side=21):
    """Stamps of one star each, the corner of every one masked."""
    delta = rng.uniform(-0.5, 0.5, (count, 2))
    flux = 10 ** rng.uniform(3, 4.5, count)
    data = np.array(
        [f * moffat(side, 3.0, dx, dy) for f, (dy, dx) in zip(flux, delta, strict=True)]
    )
    data += rng.normal(0, SIGMA, data.shape)
    weight = np.full(data.shape, 1 / SIGMA**2, np.float32)
    weight[:, :4, :4] = 0
    table = QTable(
        {
            "id": np.arange(1, count + 1),
            "x": rng.uniform(20, 200, count) * u.pix,
            "y": rng.uniform(20, 160, count) * u.pix,
            "delta_row": delta[:, 0] * u.pix,
            "delta_col": delta[:, 1] * u.pix,
            "row0": rng.integers(0, 100, count),
            "col0": rng.integers(0, 100, count),
            "reserved": np.arange(count) % 4 == 1,
            "snr": flux / 100,
            "masked": np.full(count, 16 / side**2),
            "sky_variance": np.full(count, SIGMA**2) * u.adu**2,
            "background_err": np.full(count, 0.2) * u.adu,
        }
    )
    return Stamps(data.astype(np.float32), weight, table)


def psf_field(rng, count=8, order=1):
    """A PSF whose width grows over the field, with the stars of `stamps`."""
    ok = np.arange(count) % 9 != 0
    chi2 = rng.chisquare(100, count) / 100
    stars = QTable(
        {
            "id": np.arange(1, count + 1),
            "x": rng.uniform(0, SHAPE[1], count) * u.pix,
            "y": rng.uniform(0, SHAPE[0], count) * u.pix,
            "flux": 10 ** rng.uniform(3, 5, count) * u.adu,
            "background": np.zeros(count) * u.adu,
            "delta_row": np.zeros(count) * u.pix,
            "delta_col": np.zeros(count) * u.pix,
            "chi2": np.where(ok, chi2, np.nan),
            "ok": ok,
            "reserved": np.arange(count) % 4 == 1,
            "reason": np.where(ok, "none", "chi2"),
        }
    )
    narrow, wide = 9 * moffat(63, 8.0), 9 * moffat(63, 9.5)
    terms = [(narrow + wide) / 2, (wide - narrow) / 2, np.zeros_like(wide)]
    meta = {
        "n_fitted": int(np.sum(ok) - 2),
        "iterations": 5,
        "converged": True,
        "noise": 1.0,
        "model_error": 0.002,
        "phases": 0.9,
        "reserve_chi2": 1.02,
        "scores": {"0": 1.5, "1": 1.02},
        "notes": ["order at most 1: 7 stars"],
    }
    error = np.full((63, 63), 1e-4)
    return PsfField(np.array(terms[: 1 + 2 * order]), 3, order, SHAPE, stars, meta, error)


def extended(side=81):
    """An extended PSF with a profile that has errors."""
    image = moffat(side, 3.0, beta=2.2)
    r = np.arange(0, side // 2, 1.0)
    value = image[side // 2, side // 2 :][: len(r)]
    profile = QTable(
        {
            "r": r * u.pix,
            "value": value,
            "error": 0.02 * value + 1e-7,
            "enclosed": np.clip(np.cumsum(2 * np.pi * np.maximum(r, 0.3) * value), 0, 1),
        }
    )
    return SimpleNamespace(
        core=moffat(75, 9.0),
        oversample=3,
        wing=image,
        match_radius=8.0,
        feather_width=4.0,
        ee_radius=15.0,
        profile=profile,
        at=lambda size=side: moffat(size, 3.0, beta=2.2),
    )


def matching_kernel():
    """A kernel that grows over the field, with a negative ring."""

    def at(x, y):
        return 1.1 * moffat(21, 2.0 + x / 300) - 0.1 * moffat(21, 8.0)

    return SimpleNamespace(
        shape=SHAPE,
        convolved="template",
        at=at,
        flux_scale=lambda x, y: 1.0 + 1e-4 * x,
        background_at=lambda x, y: 0.1 * y - 3,
        meta={"broadened": 1.4},
    )


def polynomial_kernel():
    """A kernel of seven basis images, linear over the field."""
    basis = gaussian_basis(6, [1.2, 2.4], [2, 0])
    coefficients = np.zeros((len(basis), 3))
    coefficients[0, 0], coefficients[1:, 0], coefficients[3:5, 1] = 1.1, 0.02, 0.05
    return MatchingKernel(basis, coefficients, 1, 0, np.array([2.0]), 0, SHAPE)


def kernel_candidates(rng):
    """Candidates of every fate in their cells, and the pair of images they lie on."""
    image = exposure(rng)
    every = []
    for i, reason in enumerate(["", "", *REASONS]):
        x, y = rng.uniform(5, SHAPE[1] - 5), rng.uniform(5, SHAPE[0] - 5)
        one = KernelCandidate(i, x, y, 100.0 - i, stamp_box(x, y, 15, SHAPE))
        if reason:
            one.reject(reason)
        elif i:
            one.accept()
        every.append(one)
    return make_cells(SHAPE, 90, 80, every), Pair(image, image)


def difference(rng, correlated=True, score=False):
    """Noise with two transients, one bright and one faded."""
    noise = rng.normal(0, 1, SHAPE)
    if correlated:
        noise = 0.8 * noise + 0.42 * (np.roll(noise, 1, 0) + np.roll(noise, 1, 1))
    for x, y, flux in ((60, 50, 60.0), (150, 120, -40.0), (3, 170, 30.0)):
        box = np.s_[max(y - 12, 0) : y + 13, max(x - 12, 0) : x + 13]
        part = moffat(25, 3.0)[-noise[box].shape[0] :, -noise[box].shape[1] :]
        noise[box] += flux * part[: noise[box].shape[0], : noise[box].shape[1]]
    mask = np.zeros(SHAPE, np.uint16)
    mask[100:110, :40] = np.uint16(MaskBit.NO_DATA)
    return SimpleNamespace(
        image=(SIGMA * noise).astype(np.float32),
        variance=np.full(SHAPE, SIGMA**2, np.float32),
        mask=mask,
        score=(2 * noise).astype(np.float32) if score else None,
        shape=SHAPE,
    )


def candidate_table(count=5):
    """Candidates of both signs, one of them at the very border."""
    x, y = [60, 150, 3, 219, 100.4], [50, 120, 170, 179, 0.2]
    snr = [22.0, -15.0, 11.0, 6.0, -5.5]
    table = QTable({"id": np.arange(1, 6), "x": x * u.pix, "y": y * u.pix, "snr": snr})
    set_flags(table, [0, CandidateFlag.MASKED | CandidateFlag.HALO, 0, 0, CandidateFlag.DIPOLE])
    return table[:count]


def light_curve_points():
    """One object in five epochs: found, not found, not covered."""
    flux = np.array([100.0, 80.0, -3.0, 5.0, np.nan])
    limit = np.array([np.nan, np.nan, 25.0, 25.0, np.nan])
    return QTable(
        {
            "epoch": [f"night{n}" for n in range(5)],
            "mjd": (60000.5 + np.arange(5.0)) * u.day,
            "flux": flux * u.adu,
            "flux_err": np.full(5, 5.0) * u.adu,
            "limit": limit * u.adu,
            "found": flux > 50,
            "scale": np.full(5, 1.2),
        }
    )


def injection_table(rng, count=300):
    """Injected sources, of which those above about 5 sigma are found, half of them clean."""
    snr = np.exp(rng.uniform(np.log(3), np.log(30), count))
    found = snr + rng.normal(size=count) > 5
    place = rng.uniform(10, 150, (2, count))
    flux = 20 * snr
    table = QTable({"true_snr": snr, "true_flux": flux * u.adu, "found": found})
    table["clean"] = found & (rng.uniform(size=count) < 0.5)
    table["drawn"] = table["place"] = rng.choice(["sky", "galaxy", "star"], count)
    for name, at in zip("xy", place, strict=True):
        table[f"true_{name}"] = at * u.pix
        table[name] = np.where(found, at + rng.normal(0, 0.2, count), np.nan) * u.pix
    table["flux"] = np.where(found, flux + rng.normal(0, 20, count), np.nan) * u.adu
    table["flux_err"] = np.where(found, 20, np.nan) * u.adu
    summarise(table, 0.9, 5.0)
    return table


def method_comparison(rng):
    """Two methods on one field, with one star and no sources found; the second failed."""
    field, shown = exposure(rng), difference(rng)
    bins = {f"star_{low}": [1.02, np.nan] for low in BINS}
    columns = {
        "method": ["al", "zogy"], "seconds": [0.4, np.nan] * u.s, "sky": [1.01, np.nan],
        "correlation": [0.002, np.nan], "score": [0.99, np.nan], **bins, "found": [8, 0],
        "injected": [10, 0], "flux_bias": [0.01, np.nan], "flux_bias_err": [0.01, np.nan],
        "others": [3.0, np.nan], "note": ["", "no PSF"],
    }  # fmt: skip
    table = QTable(columns, meta={"stars": dict.fromkeys(bins, 1)})
    stars = QTable({"x": [60.0] * u.pix, "y": [50.0] * u.pix, "snr": [300.0]})
    sigma = np.full(SHAPE, SIGMA, np.float32)
    return Comparison(table, {"al": shown}, field, field, sigma, stars, QTable())


def _truncated(path):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _without_rows(path):
    """Every table of a product empty, its own META and SETTINGS kept."""
    if path.suffix == ".ecsv":
        table = QTable.read(path, format="ascii.ecsv")
        table.meta["psflib"]["rows"] = 0
        table[:0].write(path, format="ascii.ecsv", overwrite=True)
        return
    _each_hdu(path, lambda data: data[:0] if data.dtype.names else data)


def _filled(value):
    """Every number of a product this value; words and masks stay."""

    def change(path):
        if path.suffix == ".ecsv":
            table = QTable.read(path, format="ascii.ecsv")
            for name in table.colnames:
                if table[name].dtype.kind == "f":
                    table[name][:] = value * (table[name].unit or 1)
            table.write(path, format="ascii.ecsv", overwrite=True)
        else:
            _each_hdu(path, fill)

    def fill(data):
        for part in [data[n] for n in data.dtype.names] if data.dtype.names else [data]:
            if part.dtype.kind == "f":
                part[:] = value
        return data

    return change


def _all_masked(path):
    if path.suffix != ".ecsv":
        bad = np.uint16(MaskBit.BAD)
        _each_hdu(path, lambda data: data | bad if data.dtype.kind == "u" else data)


def _each_hdu(path, change):
    with fits.open(path, memmap=False) as hdus:
        for hdu in hdus[1:]:
            if hdu.name not in ("META", "SETTINGS") and hdu.data is not None:
                hdu.data = change(hdu.data)
        hdus.writeto(path, overwrite=True)


#: Ways in which a product on the disk can be odd: name -> function (path) that makes it so.
DAMAGES = {
    "truncated": _truncated,
    "no rows": _without_rows,
    "NaN": _filled(np.nan),
    "zero": _filled(0.0),
    "masked": _all_masked,
    "gone": lambda path: path.unlink(),
    "no bytes": lambda path: path.write_bytes(b""),
}
