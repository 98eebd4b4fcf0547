"""Candidates against truth: false alarms, pulls of fluxes and places, seconds.

python benchmarks/candidates.py                             some ten minutes
python benchmarks/candidates.py --only alarms cost
python benchmarks/candidates.py --write docs/benchmarks.md  puts the tables into that file
"""

import os

# CPU seconds of idle threads would be counted, so set before NumPy is loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import itertools  # noqa: E402
import logging  # noqa: E402

import numpy as np  # noqa: E402
from decorrelation_scenes import constant_field, gaussian, varying_field  # noqa: E402
from measure import cpu, run_sections  # noqa: E402
from scipy import spatial  # noqa: E402

import psflib  # noqa: E402
from psflib.decorrelation.score import score  # noqa: E402
from psflib.detection.alarms import (  # noqa: E402
    empty_of_candidates,
    score_noise,
    snr_of,
    threshold_for,
)
from psflib.image import polynomial  # noqa: E402
from psflib.image.difference import Difference  # noqa: E402
from psflib.image.exposure import Exposure  # noqa: E402
from psflib.judging.metrics import values  # noqa: E402
from psflib.matching import MatchingKernel  # noqa: E402
from psflib.simulation.scenes import SCENES, simulate_scene  # noqa: E402

SIDE, FIELDS = 2048, 8  # px and number of the noise differences of each kind: 34 Mpx
ASKED = (1.0, 3.0, 10.0)  # false alarms per Mpx
FWHMS = (1.8, 3.5, 5.0)  # px
SEEDS = range(201, 206)  # of scenes that nothing was tuned on
BINS = (5, 7, 10, 20, 40, 100)  # S/N
PLACES = "empty sky", "on a galaxy", "in the light of a star"
LIT = 0.3  # light at the place, in noises of a pixel, from which it is not empty ...
HOST = 4.0  # ... and px to a galaxy that is its host
REACH = 2.0  # px between a source and its candidate
SOURCES = (1000, 10_700)  # candidates in 4096²


def trivial_kernel(shape):
    """The kernel of images that match already."""
    return MatchingKernel(np.ones((1, 1, 1)), np.ones((1, 1)), 0, 0, np.zeros(1), 0, shape)


def alarms():
    """Achieved over asked, on white and on resampled templates, by refined S/N."""
    rows = []
    for fwhm in FWHMS:
        fields = {
            "constant kernel": constant_field(gaussian(1.2), 25.0, 16.0, SIDE),
            "varying kernel, resampled template": varying_field(SIDE, warped=True),
        }
        for name, field in fields.items():
            object.__setattr__(field, "fwhm", fwhm)
            found, area = np.zeros((2, len(ASKED))), 0.0
            for seed in range(FIELDS):
                clean = psflib.decorrelate(field.draw([seed, 71]))
                kernel = trivial_kernel(clean.shape)
                clean = clean.replace(kernel=kernel, science=None, template=None)
                noise = score_noise(clean.score, empty_of_candidates(clean))
                limits = [snr_of(threshold_for(noise, rate * noise.area / 1e6)) for rate in ASKED]
                strength = np.abs(psflib.detect(clean, min(limits))["snr"])
                found[0] += [np.sum(strength >= limit) for limit in limits]
                area += noise.area / 1e6
            found[1] = np.array(ASKED) * area
            ratios = found[0] / found[1]
            errors = np.sqrt(found[1]) / found[1]
            rows.append([
                f"{fwhm} px", name, f"{area:.0f}",
                *(f"{r:.2f} ± {e:.2f}" for r, e in zip(ratios, errors, strict=True)),
            ])  # fmt: skip
    head = ["FWHM", "noise", "Mpx", *(f"{rate:g} per Mpx" for rate in ASKED)]
    return "False alarms, achieved over asked", head, rows


def pulls():
    """Fluxes and places of the scenes' transients, on the flux scale and in the frame of stars."""
    found = [one for seed in SEEDS for name in SCENES for one in _of_scene(name, seed)]
    snr, host, flux, x, y = np.array(found).T
    rows = []
    for lit, where in enumerate(PLACES):
        for low, high in itertools.pairwise(BINS):
            some = (host == lit) & (snr >= low) & (snr < high)
            seen = some & np.isfinite(flux)
            places = np.concatenate([x[seen], y[seen]])
            rows.append([
                where, f"{low} to {high}", f"{seen.sum()} of {some.sum()}",
                *(f"{np.mean(p):.2f} ± {1 / np.sqrt(len(p)):.2f}, {np.std(p):.2f}"
                  for p in (flux[seen], places)),
            ])  # fmt: skip
    head = ["where", "true S/N", "found", "flux: mean, std of the pulls", "place: mean, std"]
    return f"Pulls of {len(found)} transients of {len(SEEDS) * len(SCENES)} scenes", head, rows


def _of_scene(name, seed):
    """S/N, which of `PLACES`, and pulls of flux, x and y (NaN if not found) of each transient."""
    scene = simulate_scene(name, 1024, seed)
    exposures = scene.science.exposure, scene.template.exposure
    clean = psflib.decorrelate(psflib.subtract(*exposures))
    table = psflib.detect(clean, 4.0)
    sources = scene.sources
    new = sources[sources["kind"] == "transient"]
    at = np.c_[values(new, "x"), values(new, "y")]
    distance, i = spatial.cKDTree(np.c_[values(table, "x"), values(table, "y")]).query(at)
    scale, frame = _by_stars(clean, scene)
    terms = polynomial.evaluate(2, *at.T, clean.shape)
    flux = values(table, "flux")[i] - scale * values(new, "delta_flux")
    places = [values(table, c)[i] - at[:, k] - frame[:, k] @ terms for k, c in enumerate("xy")]
    made = [
        off / values(table, f"{c}_err")[i] for c, off in zip(("flux", *"xy"), (flux, *places),
                                                             strict=True)
    ]  # fmt: skip
    col, row = np.rint(at).astype(int).T
    lit = scene.steady[0][row, col] > LIT * np.sqrt(scene.total_variance[row, col])
    galaxies = sources[sources["kind"] == "galaxy"]
    hosts = spatial.cKDTree(np.c_[values(galaxies, "x"), values(galaxies, "y")])
    where = np.where(lit, np.where(hosts.query(at)[0] < HOST, 1, 2), 0)
    lost = distance > REACH
    return np.column_stack([new["snr"], where, *(np.where(lost, np.nan, pull) for pull in made)])


def _by_stars(clean, scene):
    """Median of the PSF's fluxes of its stars over the true ones, and their shifts (6, 2).

    What a zero point and an astrometric solution take out: light beyond the PSF's box, and the
    centre of a PSF that has coma.
    """
    stars = clean.psf.stars[np.asarray(clean.psf.stars["ok"])]
    at = np.c_[values(stars, "x"), values(stars, "y")]
    true = scene.sources[np.isin(scene.sources["kind"], ["star", "variable"])]
    there = np.c_[values(true, "x"), values(true, "y")]
    distance, i = spatial.cKDTree(there).query(at)
    near = distance < 0.5
    light = values(true, "flux")[i][near]
    if clean.meta["convolved"] == "science":  # the PSF is the template's
        light = light / scene.scale[tuple(np.rint(there[i][near]).astype(int).T[::-1])]
    terms = polynomial.evaluate(2, *at[near].T, clean.shape).T
    frame = np.linalg.lstsq(terms, at[near] - there[i][near], rcond=None)[0]
    return np.median(values(stars, "flux")[near] / light), frame


def cost():
    """CPU seconds of `detect` on 4096², with both images and all columns."""
    rows = []
    for count in SOURCES:
        clean = _busy(count)
        psflib.detect(clean)  # loops are compiled or loaded
        found, seconds = cpu(psflib.detect, clean)
        rows.append([len(found), f"{seconds:.1f}"])
    return "`detect` on 4096²", ["candidates", "CPU s"], rows


def _busy(count, side=4096, sigma=1.5, noise=5.0):
    """White noise with Gaussians of S/N 6 to 60 of both signs, and a template of 8000 stars."""
    rng = np.random.default_rng(count)
    image, template = rng.normal(0, noise, (2, side, side)).astype(np.float32)
    unit = noise * np.sqrt(4 * np.pi) * sigma
    cells = int(np.ceil(np.sqrt(count)))
    grid = np.stack(np.meshgrid(*2 * [np.linspace(30, side - 30, cells)]), -1).reshape(-1, 2)
    places = grid[:count] + rng.uniform(-3, 3, (count, 2))
    signs = rng.choice([-1, 1], count)
    _add(image, places, signs * unit * np.exp(rng.uniform(np.log(6), np.log(60), count)), sigma)
    _add(template, rng.uniform(20, side - 20, (8000, 2)), unit * rng.uniform(20, 500, 8000), sigma)
    variance = np.full((side, side), noise**2, np.float32)
    images = [
        Exposure(plane, variance.copy(), gain=1.0, sky=0.0, meta={"fwhm": 2.355 * sigma})
        for plane in (image + template, template)
    ]
    made = Difference(
        image, variance, np.zeros(image.shape, np.uint16), trivial_kernel(image.shape),
        _Gaussian(sigma), None, *images, meta={"convolved": "template"},
    )  # fmt: skip
    return made.replace(score=score(made))


class _Gaussian:
    def __init__(self, sigma):
        self.sigma = sigma

    def at(self, x, y, size=41):
        return gaussian(self.sigma, size // 2)


def _add(image, places, flux, sigma, half=12):
    """Add Gaussians to the image, each in its own box."""
    j, i = np.mgrid[-half : half + 1, -half : half + 1]
    for (x, y), f in zip(places, flux, strict=True):
        col, row = round(x), round(y)
        bell = np.exp(-((i + col - x) ** 2 + (j + row - y) ** 2) / (2 * sigma**2))
        image[row - half : row + half + 1, col - half : col + half + 1] += (
            f / (2 * np.pi * sigma**2) * bell
        )


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    run_sections(__doc__, {"alarms": alarms, "pulls": pulls, "cost": cost}, "candidates")
