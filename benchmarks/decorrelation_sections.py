"""Sections of the decorrelation benchmark: each gives a title, a head and rows."""

import measure
import numpy as np
import real_pairs
from astropy.wcs import WCS
from decorrelation_scenes import constant_field, gaussian, varying_field
from matching_figures import Bench
from scipy import ndimage, optimize, special

import psflib
from psflib.decorrelation.decorrelate import DecorrelateSettings, decorrelate
from psflib.decorrelation.score import score
from psflib.image.noise import empty_sky, robust_std
from psflib.image.warp import align
from psflib.judging import metrics
from psflib.lsst import DecorrelateALKernelTask
from psflib.simulation.simulate import SCENES
from psflib.subtraction import METHODS, SubtractSettings

BORDER = 48  # px left out: beyond the reach of the image's borders
VARYING, CONSTANT = DecorrelateSettings(), DecorrelateSettings(method="constant")
REALISATIONS = 12


def inside(shape):
    select = np.zeros(shape, bool)
    select[BORDER:-BORDER, BORDER:-BORDER] = True
    return select


def published():
    """DMTN-021, table 1: two images of variance 0.04."""
    width = optimize.brentq(lambda s: np.sum(gaussian(s) ** 2) - 0.1225, 0.5, 2)
    field = constant_field(gaussian(width), 0.04, 0.04)
    found = []
    for seed in range(REALISATIONS):
        raw = field.draw(seed)
        clean = decorrelate(raw)
        task = DecorrelateALKernelTask().run(
            raw.science, raw.template, raw.image, field.kernel, svar=0.04, tvar=0.04
        )
        images = raw.image, task.corrected_exposure, clean.image
        found.append([f(image) for image in images for f in (_variance, _covariance_ratio)])
    mean, error = np.mean(found, 0), np.std(found, 0, ddof=1) / np.sqrt(REALISATIONS)
    cells = [f"{m:.4f} ± {e:.4f}" for m, e in zip(mean, error, strict=True)]
    names = "raw", "`DecorrelateALKernelTask`", "`decorrelate`"
    theirs = ("0.0449", "0.793"), ("0.0778", "0.300"), ("0.0778", "0.300")
    rows = [[name, *cells[2 * k : 2 * k + 2], *theirs[k]] for k, name in enumerate(names)]
    head = ["difference", "variance", "covariance ratio", "DMTN-021", "DMTN-021"]
    return "Decorrelation: DMTN-021, table 1 (goal 0.0800 ± 1 %)", head, rows


def _variance(image):
    return float(np.var(image[inside(image.shape)], dtype=float))


def _covariance_ratio(image, lag=5):
    """Off-diagonal over diagonal covariance: the correlations' sum out to 5 px."""
    part = image[BORDER:-BORDER, BORDER:-BORDER].astype(float)
    part = part - part.mean()
    rho = np.fft.irfft2(np.abs(np.fft.rfft2(part)) ** 2, part.shape)
    index = np.arange(-lag, lag + 1)
    return float(rho[np.ix_(index, index)].sum() / rho[0, 0] - 1)


def field():
    """Varying kernel and noise, with a white and with a warped template."""
    rows = []
    for warped in (False, True):
        scene = varying_field(warped=warped)
        ways = {
            "none": lambda raw: raw,
            "constant": lambda raw: decorrelate(raw, CONSTANT),
            "varying": lambda raw: decorrelate(raw, VARYING),
        }
        for name, way in ways.items():
            planes = (way(scene.draw(seed)) for seed in range(REALISATIONS))
            row = _block_figures(planes, scene.target)
            rows.append(["smoothed" if warped else "white", name, *row])
    head = ["template", "filter", "block variance / target", "against its own plane",
            "largest of 8 neighbours", "rms", "floor", "score std"]  # fmt: skip
    return (
        "Decorrelation over the field: broad term x9, variances ± 30 to 40 %, K = 1.2, 1024², "
        f"{REALISATIONS} realisations, 16 blocks", head, rows,
    )  # fmt: skip


def _block_figures(planes, target):
    select = inside(target.shape)
    target = target.astype(np.float32)
    against, own, scores = [], [], []
    for p in planes:
        against.append(metrics.noise_correlation(p.image, target, select, 4, 1))
        own.append(metrics.noise_correlation(p.image, p.variance, select, 4, 1))
        if p.score is not None:
            scores.append(p.score[select].std(dtype=float) * scale(p))
    near = np.mean([m.nearest() for m in own], 0)
    floor = np.mean([m.floor for m in own]) / np.sqrt(len(own))
    return [
        _range(np.mean([m.variance for m in against], 0)),
        _range(np.mean([m.variance for m in own], 0)),
        f"{np.abs(near).max():.4f}", f"{np.sqrt(np.mean(near**2)):.4f}", f"{floor:.4f}",
        f"{np.mean(scores):.4f}" if scores else "",
    ]  # fmt: skip


def _range(values):
    return f"{values.min():.3f} to {values.max():.3f}"


def scale(plane):
    """What `decorrelate` divided the score by."""
    return plane.meta["score_scale"]


def scenes():
    """Score in empty sky of the matched scenes, the template as it is and resampled twice."""
    rows = []
    for name in SCENES:
        row = [name]
        for warped, true in ((False, False), (False, True), (True, True)):
            bench = Bench(name, 512, 1)
            if true:
                bench.science, bench.template = (
                    e.replace(variance=np.where(e.variance > 0, seen.variance, 0))
                    for e, seen in (
                        (bench.science, bench.scene.science),
                        (bench.template, bench.scene.template),
                    )
                )
            if warped:
                bench.template = _there_and_back(bench.template)
            raw = _subtracted(bench)
            clean = decorrelate(raw)
            sky = _dark(bench, clean)
            values = clean.score[sky & (clean.score != 0)] * scale(clean)
            error = 1.17 / np.sqrt(sky.sum() / (4 * np.pi * 1.5**2))
            row += [f"{robust_std(values):.3f} ± {error:.3f}", f"{clean.meta['noise_factor']:.3f}"]
        rows.append(row)
    head = ["scene", "score std", "noise / claimed", "true variances: score std",
            "noise / claimed", "and warped: score std", "noise / claimed"]  # fmt: skip
    title = "Decorrelation: score in empty sky, matched scenes of 512² (goal 0.99 to 1.01)"
    return title, head, rows


def _subtracted(bench):
    psfs = {id(bench.science): 0, id(bench.template): 1}
    return METHODS["al"](
        bench.science, bench.template, SubtractSettings().al,
        lambda e: bench.scene.cameras[psfs[id(e)]].psf,
    )  # fmt: skip


def _there_and_back(template):
    """Resampled to a grid that is off by (0.4, 0.3) px, and to its own again."""
    here, there = (_tangent(dx, dy) for dx, dy in ((0, 0), (0.4, 0.3)))
    first = template.replace(wcs=here)
    away, _ = align(first, template.replace(wcs=there))
    back, _ = align(away.replace(wcs=there), first)
    return back.replace(wcs=None)


def _tangent(dx, dy):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.cdelt = (150.0, 2.0), (-1e-4, 1e-4)
    wcs.wcs.crpix = (256.5 + dx, 256.5 + dy)
    return wcs


def _dark(bench, clean):
    """Sky that the truth says is empty."""
    light = ndimage.maximum_filter(bench.scene.steady[0], 9)
    sigma = bench.scene.cameras[0].sky_sigma
    return clean.usable & ~bench.spoiled & (light < np.quantile(light, 0.2) + 0.5 * sigma)


def stars():
    """PSF-fitted flux of noise-free stars put into the difference."""
    scene = varying_field()
    raw = scene.draw(3)
    places = [(x, y) for x in range(64, 1000, 128) for y in range(64, 1000, 128)]
    added = raw.image.copy()
    for x, y in places:
        star = raw.psf.at(x, y, 61)
        added[y - 30 : y + 31, x - 30 : x + 31] += (1e5 * star / star.sum()).astype(np.float32)
    rows = []
    for name, settings in (("constant", CONSTANT), ("varying", VARYING)):
        clean = decorrelate(raw, settings)
        sky = clean.whitening.convolve(raw.image)
        light = (clean.whitening.convolve(added) - sky).astype(float)
        boxes = [light[y - 20 : y + 21, x - 20 : x + 21] for x, y in places]
        new, old = (
            np.array([_fit(b, at(x, y, 61)) for b, (x, y) in zip(boxes, places, strict=True)])
            for at in (clean.psf_at, raw.psf.at)
        )
        total = np.array([b.sum() for b in boxes]) / 1e5
        gain = max(abs(clean.whitening.at(x, y).sum() - 1) for x, y in places)
        rows.append([name, _bias(new), _bias(old), _bias(total), f"{gain:.0e}"])
    head = ["filter", "fit, corrected PSF", "fit, PSF of before", "sum over 41 x 41 px",
            "DC gain - 1"]  # fmt: skip
    return "Decorrelation: flux of 64 stars, mean bias and largest (goals 0.1 %, 1e-6)", head, rows


def _fit(image, psf):
    psf = (psf / psf.sum())[10:-10, 10:-10]  # of unit sum over the box the star was put into
    return np.sum(image * psf) / np.sum(psf**2) / 1e5


def _bias(ratio):
    return f"{100 * np.mean(ratio - 1):+.4f} %, {100 * np.abs(ratio - 1).max():.4f} %"


def false_alarms(realisations=REALISATIONS):
    """Pixels and peaks of the score beyond 4 and 5 sigma where there is only noise."""
    scene, counts, area = varying_field(), np.zeros((3, 4)), 0
    for seed in range(realisations):
        raw = scene.draw(100 + seed)
        select = inside(raw.shape)
        area += select.sum()
        clean = decorrelate(raw)
        for row, plane in enumerate((_raw_score(raw), decorrelate(raw, CONSTANT), clean)):
            counts[row] += _beyond(plane.score * scale(plane), select)
    area /= 1e6
    peaks = [_expected_peaks(clean, n) * area for n in (4, 5)]
    pixels = [special.erfc(n / np.sqrt(2)) * 1e6 * area for n in (4, 5)]
    expected = [pixels[0], peaks[0], pixels[1], peaks[1]]
    names = "none", "constant", "varying"
    rows = [[name, *(f"{c:.0f}" for c in line)] for name, line in zip(names, counts, strict=True)]
    rows.append(["Gaussian expectation", *(f"{e:.1f}" for e in expected)])
    head = ["filter", "pixels > 4 sigma", "peaks > 4 sigma", "pixels > 5 sigma", "peaks > 5 sigma"]
    return f"Decorrelation: false alarms of both signs in {area:.1f} Mpx of noise", head, rows


def _raw_score(raw):
    return raw.replace(score=score(raw), meta={**raw.meta, "score_scale": 1.0})


def _beyond(score, select):
    size = np.abs(np.where(select, score, 0))
    peak = select & (size == ndimage.maximum_filter(size, 3))
    return [
        np.sum(size > n) if k == 0 else np.sum(peak & (size > n)) for n in (4, 5) for k in (0, 1)
    ]


def _expected_peaks(clean, level):
    """Maxima above `level` and minima below, per Mpx, of white noise seen through the PSF.

    nu exp(-nu²/2) sqrt(l_x l_y) / (2 pi)^1.5 a sign (Adler 1981; Kaiser 2004 for images), l the
    curvatures of the autocorrelation at 0.
    """
    psf = clean.psf_at(512, 512, 61)
    power = np.abs(np.fft.fft2(psf)) ** 2
    k = 2 * np.pi * np.fft.fftfreq(61)
    l_x, l_y = (np.sum(power * np.square(a)) / power.sum() for a in (k[None, :], k[:, None]))
    return 2e6 * level * np.exp(-(level**2) / 2) * np.sqrt(l_x * l_y) / (2 * np.pi) ** 1.5


def cost():
    """CPU seconds per Mpx, and peak memory in float32 planes of the image."""
    rows = []
    for size in (1024, 2048, 4096):
        scene = varying_field(size)
        raw = scene.draw(1)
        for name, settings in (("constant", CONSTANT), ("varying", VARYING)):
            decorrelate(raw, settings) if size == 1024 else None  # compiled, imported
            (clean, seconds), megabytes = measure.peak_growth(
                measure.cpu, decorrelate, raw, settings
            )
            planes = megabytes * 2**20 / (4 * size**2)
            terms = clean.whitening.images.shape
            nodes = getattr(clean.whitening.weights, "x", [0])
            rows.append([
                f"{size}²", name, f"{seconds / size**2 * 1e6:.2f}", f"{planes:.1f}",
                len(nodes), terms[0], terms[1],
            ])  # fmt: skip
    head = ["image", "filter", "CPU s per Mpx", "peak memory [planes]", "nodes an axis", "terms",
            "side [px]"]  # fmt: skip
    return "Decorrelation: cost (goals 0.15 and 0.6 s per Mpx, 10 planes at 4096²)", head, rows


def real():
    """Real pairs: correlation of the noise before and after, in empty sky."""
    folder = real_pairs.data_folder()
    rows = []
    for name, science, template in _real_pairs(folder):
        raw = psflib.subtract(psflib.read(science), psflib.read(template))
        clean = decorrelate(raw)
        seen = raw.science
        sky = empty_sky(seen.image, seen.variance, raw.usable & clean.usable, seen.meta["fwhm"])
        before, after = (
            metrics.noise_correlation(p.image, p.variance, sky, 2, 1) for p in (raw, clean)
        )
        rows.append([
            name, f"{before.largest:.3f}", f"{after.largest:.3f}", f"{before.rms:.3f}",
            f"{after.rms:.3f}", f"{after.floor:.3f}", f"{clean.meta['noise_factor']:.3f}",
            f"{scale(clean):.3f}", sky.sum(),
        ])  # fmt: skip
    head = ["pair", "largest before", "after", "rms before", "after", "floor", "noise / claimed",
            "score / claimed", "sky pixels"]  # fmt: skip
    return "Decorrelation of real pairs: the 8 neighbours in 4 blocks of empty sky", head, rows


def _real_pairs(folder):
    goto, decam = folder / "goto_pair", folder / "decam_stamps"
    if goto.is_dir():
        yield "GOTO", goto / "goto_virgo_sci.fits.fz", goto / "goto_virgo_ref.fits.fz"
    if decam.is_dir():
        first, second = (decam / f"DEC-OBS{n}a.mini.fits.fz" for n in ("04", "18"))
        yield "DECam 04a - 18a", first, second
        yield "DECam 18a - 04a", second, first


SECTIONS = {
    "published": published,
    "field": field,
    "scenes": scenes,
    "stars": stars,
    "false": false_alarms,
    "cost": cost,
    "real": real,
}
