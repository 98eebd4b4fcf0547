"""Are skies and fluxes unbiased, whatever the variance planes are made of; are errors right?

python benchmarks/weights.py                               the table
python benchmarks/weights.py --write docs/benchmarks.md    the same, into that file
"""

import itertools
import logging
import os

# CPU seconds of idle threads would be counted, so set before NumPy is loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from astropy import units as u  # noqa: E402
from astropy.table import QTable  # noqa: E402
from measure import run_sections  # noqa: E402
from scipy import ndimage  # noqa: E402

import psflib  # noqa: E402
from psflib.psf.core.stage import build_epsf_field  # noqa: E402
from psflib.simulation.psf_model import PsfModel  # noqa: E402
from psflib.simulation.star_stamps import EpsfTruth, FieldTruth, simulate_stamps  # noqa: E402
from psflib.stamps.build import Stamps  # noqa: E402
from psflib.subtraction import METHODS, SubtractSettings, run_hotpants, run_sfft  # noqa: E402

GAIN, READ, SHAPE, SEEDS = 1.5, 3.0, (768, 768), (1, 2, 3, 4)
WIDTHS = 3.6, 2.6  # FWHM of science image and template, px
SKIES = 5000.0, 40.0, 5.0  # electrons
PLANES = {
    "the pixel's counts": lambda seen, light: np.maximum(seen, 1) / GAIN + READ**2,
    "counts smoothed over 3 x 3": lambda seen, light: (
        ndimage.uniform_filter(np.maximum(seen, 0), 3) / GAIN + READ**2
    ),
    "the truth": lambda seen, light: light / GAIN + READ**2,
    "measured by prepare": lambda seen, light: None,
}


def lights(sky, seed):
    """Noiseless science image and template, skies included."""
    rng = np.random.default_rng([seed, 17])
    count = SHAPE[0] * SHAPE[1] // 1750
    x, y = rng.uniform(0, SHAPE[0], (2, count))
    flux = 10 ** rng.uniform(2.8, 5, count)
    made = []
    for fwhm, scale, level in zip(WIDTHS, (1.2, 1.0), (sky, 1.5 * sky), strict=True):
        light = np.zeros(SHAPE)
        PsfModel(fwhm, wing=0.0, shape=SHAPE).render(x, y, scale * flux, light)
        made.append(light + level)
    return made


def observed(sky, plane, seed):
    """Two images with their variances, and where their sky is empty."""
    clean = lights(sky, seed)
    empty = clean[0] - sky < 0.02  # ADU of starlight
    empty[:24], empty[-24:], empty[:, :24], empty[:, -24:] = False, False, False, False
    rng, pair = np.random.default_rng([seed, 18]), []
    for light in clean:
        seen = rng.poisson(light * GAIN) / GAIN + rng.normal(0, READ, SHAPE)
        variance = PLANES[plane](seen, light)
        pair.append((seen.astype("f4"), None if variance is None else variance.astype("f4")))
    return pair, empty


def sky_of(sky, plane, method, seed):
    """Mean of the difference (ADU), its standard error, and mean of the score, in empty sky."""
    pair, empty = observed(sky / GAIN, plane, seed)
    science, template = (
        psflib.prepare(psflib.Exposure(*planes, gain=GAIN, meta={"fwhm": fwhm}))
        for planes, fwhm in zip(pair, WIDTHS, strict=True)
    )

    def psf_of(exposure):
        return PsfModel(WIDTHS[exposure is template], wing=0.0, shape=SHAPE)

    settings = getattr(SubtractSettings(), method)
    raw = METHODS[method](science, template, settings, psf_of)
    score = psflib.decorrelate(raw).score
    use = empty & (raw.mask == 0)
    values = raw.image[use].astype(float)
    return values.mean(), values.std() / np.sqrt(values.size), score[use].mean()


def bias():
    """The empty sky of differences."""
    rows = []
    for sky, plane, method in itertools.product(SKIES, PLANES, ("al", "sfft", "zogy")):
        found = np.array([sky_of(sky, plane, method, seed) for seed in SEEDS])
        error = np.sqrt(np.sum(found[:, 1] ** 2)) / len(SEEDS)
        rows.append(
            [f"{sky:g}", plane, method, f"{found[:, 0].mean():+.3f} ± {error:.3f}",
             f"{found[:, 2].mean():+.3f}"]
        )  # fmt: skip
    columns = ["sky, e-", "variance from", "method", "mean of the difference, ADU", "of the score"]
    title = "Empty sky of differences, 4 pairs of 768 x 768, gain 1.5 (goal: 1 error)"
    return title, columns, rows


def peers():
    """The empty sky of what the peers' calls return."""
    rows = []
    for sky, plane, call in itertools.product(SKIES, PLANES, (run_hotpants, run_sfft)):
        found = []
        for seed in SEEDS:
            pair, empty = observed(sky / GAIN, plane, seed)
            sigmas = [None if v is None else np.sqrt(v) for _, v in pair]
            widths = {"image_fwhm": 3.6, "template_fwhm": 2.6} if call is run_hotpants else {}
            made = call(
                pair[0][0], pair[1][0], err=sigmas[0], template_err=sigmas[1], image_gain=GAIN,
                template_gain=GAIN, **widths,
            )  # fmt: skip
            values = made[empty & (np.abs(made) > 1e-20)].astype(float)
            found.append((values.mean(), values.std() / np.sqrt(values.size)))
        level, error = np.array(found).T
        error = np.sqrt(np.sum(error**2)) / len(SEEDS)
        name = plane if plane != "measured by prepare" else "not given"
        rows.append([f"{sky:g}", name, call.__name__, f"{level.mean():+.3f} ± {error:.3f}"])
    title = "Empty sky of `run_hotpants` and `run_sfft`, 4 pairs of 768 x 768 (goal: 1 error)"
    return title, ["sky, e-", "variance from", "call", "mean of the difference, ADU"], rows


MOFFAT, FIELD, SIDE, OVERSAMPLE = EpsfTruth("moffat", 2.5), (900, 1500), 17, 3
FLUXES = (1e3, 1e4, 1e5, 1e6)  # e-: S/N of 13, 85, 310, 1000


def off_by(flux, seed):
    """Errors, their claim, and the part of it that is the noise's, of 5 stars of each flux."""
    n, test = len(flux), np.repeat(FLUXES, 5)
    stars = simulate_stamps(
        FieldTruth(MOFFAT, FIELD), n + len(test), SIDE, seed=seed, clean=True,
        flux=np.concatenate([flux, test]),
    )  # fmt: skip
    row0, col0 = (np.round(a).astype(int) - SIDE // 2 for a in (stars.y, stars.x))
    table = QTable({"id": np.arange(n + len(test)), "row0": row0, "col0": col0})
    for name, corner, delta in zip(("y", "x"), (row0, col0), stars.delta_init.T, strict=True):
        table[name] = (corner + SIDE // 2 + delta) * u.pix
    table["delta_row"], table["delta_col"] = (stars.delta_init * u.pix).T
    table["reserved"] = np.arange(len(table)) >= n
    stamps = Stamps(stars.data.astype("f4"), stars.weight.astype("f4"), table)
    psf = build_epsf_field(stamps, FIELD, oversample=OVERSAMPLE, order=0)
    found = psf.stars[n:]
    volume = MOFFAT.epsf(SIDE, OVERSAMPLE).sum() / OVERSAMPLE**2
    own = found["flux"].value * psf.flux_error(found["x"].value, found["y"].value)
    total = found["flux_err"].value
    return found["flux"].value - volume * test, total, np.sqrt(total**2 - own**2)


def pulls():
    """Fluxes by PSFs that few or faint stars make."""
    rows = []
    for name, flux in (
        ("12 stars of S/N 75", np.full(12, 8e3)),
        ("12 stars of S/N 25 to 230", np.repeat([2e3, 1.2e4, 6e4], 4)),
        ("30 stars of S/N 25", np.full(30, 2e3)),
        ("5 stars of S/N 310", np.full(5, 1e5)),
    ):
        found = np.array([off_by(flux, seed) for seed in range(40)])
        off, total, noise = (found[:, k].reshape(-1, len(FLUXES), 5) for k in range(3))
        both = (np.sqrt(np.mean((off / e) ** 2, axis=(0, 2))) for e in (total, noise))
        cells = [f"{a:.2f} ({b:.2f})" for a, b in zip(*both, strict=True)]
        rows.append([name, *cells])
    columns = ["PSF from", *(f"flux {f:.0e} e-" for f in FLUXES)]
    return (
        "Pulls of fluxes, rms over 40 PSFs (in brackets without the PSF's own error)",
        columns,
        rows,
    )


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    run_sections(__doc__, {"bias": bias, "peers": peers, "pulls": pulls}, "weights")
