"""Completeness told by injection beside the truth, false alarms beside what is predicted, cost.

python benchmarks/injection.py                               every table
python benchmarks/injection.py --only limits                 one of them
python benchmarks/injection.py --write docs/benchmarks.md    the same into that file
"""

import dataclasses
import itertools
import logging
import os
import warnings

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from matching_figures import Bench  # noqa: E402
from measure import cpu, run_sections  # noqa: E402
from scipy import spatial  # noqa: E402

import psflib  # noqa: E402
from psflib.detection.alarms import empty_of_candidates, score_noise  # noqa: E402
from psflib.detection.detect import psf_fwhm  # noqa: E402
from psflib.image.exposure import OWN_BITS  # noqa: E402
from psflib.injection import fit_completeness, fluxes, places, run  # noqa: E402
from psflib.judging.metrics import values  # noqa: E402
from psflib.psf.core.stage import core_epsf  # noqa: E402
from psflib.psf.wings.stage import extended_psf  # noqa: E402
from psflib.settings.inject import InjectSettings  # noqa: E402
from psflib.simulation import oracle_difference  # noqa: E402
from psflib.simulation.scene import Scene, render  # noqa: E402
from psflib.simulation.scenes import REACH, SCENES  # noqa: E402
from psflib.stamps.build import build_stamps  # noqa: E402
from psflib.stars.select import select_stars  # noqa: E402
from psflib.subtraction.widths import with_width  # noqa: E402

SIZE = 1024
SEED = 101  # of no scene that anything was chosen by
TRUTH_RUNS, INJECTIONS = 4, 2
#: Fewer sources at a time than are injected: what many do to each other is part of the error.
OF_TRUTH = InjectSettings(density=100, least=0, on_galaxies=0, near_stars=0, max_snr=16)
BRIGHT = 8, 15  # S/N at which the oracle finds all but what is masked


def chain(science, template):
    """Prepared science image, its PSF, decorrelated difference and star table."""
    science, template = psflib.prepare(science), psflib.prepare(template)
    stars = select_stars(science)
    psf = core_epsf(build_stamps(science, stars), science.shape)
    raw = psflib.subtract(science, template, psf=psf)
    return with_width(science, psf), template, psf, psflib.decorrelate(raw), stars


def put_truth(bench, rng, clean):
    """Sources of the true PSF in the raw science image, and where and how bright they are."""
    fwhm = psf_fwhm(clean)
    free, searched = run.free_pixels(clean, fwhm, 5.0)
    none = places.Sources(*np.zeros((3, 0)), np.zeros(0, bool))
    put = places.choose_places(
        rng, free, none, fwhm, (round(OF_TRUTH.density * searched.sum() / 1e6), 0, 0)
    )
    noise = score_noise(clean.score, empty_of_candidates(clean))
    sigma = fluxes.local_noise(clean, noise, put.x, put.y)
    snr = fluxes.draw_snr(rng, len(put.x), 5.0, OF_TRUTH)
    camera, seen = bench.scene.cameras[0], bench.scene.science
    flux = fluxes.flux_of_snr(snr, sigma, 1 / camera.gain)
    light = render(Scene.points(put.x, put.y, flux), camera.psf, seen.sky.shape, 10.0, REACH)
    electrons = rng.poisson(np.maximum(light, 0) * camera.gain)
    image = seen.exposure.image + electrons / camera.gain
    exposure = seen.exposure.replace(image=image, mask=seen.exposure.mask, mask_bits=OWN_BITS)
    return exposure, run.truth_table(put, flux, snr, sigma, 1.0), fwhm


def of_truth(bench, clean, seed):
    """Flux, S/N, whether psflib finds it, and whether the oracle does, of true sources."""
    rng = np.random.default_rng([seed, 7])
    exposure, truth, fwhm = put_truth(bench, rng, clean)
    template = bench.scene.template.exposure
    *_, again, _ = chain(exposure, template)
    found = run.matched(truth, psflib.detect(again), max(fwhm, run.LEAST_REACH))["found"]
    scene = dataclasses.replace(
        bench.scene, science=dataclasses.replace(bench.scene.science, exposure=exposure)
    )
    score = np.where(bench.good, psflib.decorrelate(bench.oracle_of(scene)).score, 0)
    y, x = np.nonzero(score >= 5)
    at = np.c_[values(truth, "true_x"), values(truth, "true_y")]
    ideal = spatial.cKDTree(np.c_[x, y]).query(at)[0] <= fwhm
    return values(truth, "true_flux"), values(truth, "true_snr"), np.asarray(found), ideal


class Scenery(Bench):
    """A scene whose oracle can be asked again, for other science images."""

    def oracle_of(self, scene):
        image, variance, _ = oracle_difference(scene, self.convolved)
        return self.oracle.replace(image=image, variance=variance)


def limits():
    """Of which flux half of the true sources are found, and what injection says of it."""
    rows, every = [], []
    for name in SCENES:
        bench = Scenery(name, SIZE, SEED)
        seen = bench.scene
        science, template, psf, clean, stars = chain(seen.science.exposure, seen.template.exposure)
        runs = [of_truth(bench, clean, seed) for seed in range(TRUTH_RUNS)]
        true = [np.concatenate(column) for column in zip(*runs, strict=True)]
        told = [
            psflib.inject(science, template, psf, clean, InjectSettings(seed=seed), stars=stars)
            for seed in range(INJECTIONS)
        ]
        rows.append(_compared(name, true, told))
        every.append((true, told))
    rows.append(_of_all(every))
    head = ["scene", "true 50 %, ADU", "injected", "apart, mag", "error, mag",
            "found at S/N 8-15: truth", "injection", "oracle"]  # fmt: skip
    return f"Limits, {SIZE} px, threshold 5", head, rows


def _compared(name, true, told):
    flux, snr, found, ideal = true
    truth = fit_completeness(flux, found).limit(0.5)
    injected = [t.meta["completeness"]["all"] for t in told]
    value = np.mean([i["flux_50"] for i in injected])
    error = np.sqrt(np.sum([i["flux_50_err"] ** 2 for i in injected])) / len(injected)
    apart = 2.5 * np.log10(value / truth[0])
    unsure = 1.0857 * np.hypot(error / value, truth[1] / truth[0])
    return [
        name, f"{truth[0]:.0f} ± {truth[1]:.0f}", f"{value:.0f} ± {error:.0f}", f"{apart:+.3f}",
        f"{unsure:.3f}", *_bright(snr, found, ideal, told),
    ]  # fmt: skip


def _of_all(every):
    """Mean of what the scenes are apart, and shares of all."""
    rows = [_compared("", *one) for one in every]
    apart, error = (np.array([float(row[k]) for row in rows]) for k in (3, 4))
    mean, unsure = np.average(apart, weights=error**-2), np.sum(error**-2) ** -0.5
    snr, found, ideal = (np.concatenate([t[k] for t, _ in every]) for k in (1, 2, 3))
    told = list(itertools.chain.from_iterable(t for _, t in every))
    return ["all", "", "", f"{mean:+.3f}", f"{unsure:.3f}", *_bright(snr, found, ideal, told)]


def _bright(snr, found, ideal, told):
    """Percent that is found between S/N 8 and 15, and how many there were."""
    low, high = BRIGHT
    rows = (snr >= low) & (snr < high)
    put = [t[(t["drawn"] == "sky") & (t["true_snr"] >= low) & (t["true_snr"] < high)] for t in told]
    injected = np.concatenate([np.asarray(t["found"]) for t in put])
    return [f"{100 * np.mean(one):.1f} % of {len(one)}"
            for one in (found[rows], injected, ideal[rows])]  # fmt: skip


def alarms():
    """Candidates above 5 sigma of nothing that changes, and what the difference says of them."""
    rows, total = [], np.zeros(7)
    for name, seed in itertools.product(SCENES, (SEED, SEED + 1, SEED + 2)):
        bench = Bench(name, SIZE, seed)
        seen = bench.scene
        *_, clean, _ = chain(seen.science.exposure, seen.template.exposure)
        found = psflib.detect(clean)
        false = {s: _false(bench, found, s) for s in (1, -1)}
        meta = found.meta
        total += [
            false[1], bench.false_positives(psflib.decorrelate(bench.oracle)) / 2, false[-1],
            meta["alarms_flipped"], meta.get("alarms_halves", np.nan) / 2,
            meta["expected_alarms"] / 2, meta["area"] / 1e6,
        ]  # fmt: skip
        if seed == SEED + 2:
            rows.append([name, *_per_mpx(total)])
            total = np.zeros(7)
    head = ["scene", "false, clean, positive", "oracle's peaks", "flipped, without what faded",
            "flipped, all", "noise of halves", "Gaussian noise"]  # fmt: skip
    return "False alarms per Mpx and sign at 5 sigma, three fields a scene", head, rows


def _per_mpx(total):
    area = total[-1]
    # the oracle's are told per Mpx already, of three fields
    rates = [t / area for t in total[:-1]]
    rates[1] = total[1] / 3
    return [f"{rate:.2f}" for rate in rates]


def _false(bench, found, sign):
    """Clean candidates of this sign that stand off everything that changes and off cosmic rays."""
    x, y = (np.rint(values(found, n)).astype(int) for n in ("x", "y"))
    rows = np.asarray(found["clean"]) & (sign * values(found, "snr") > 0)
    return int((rows & ~bench.spoiled[y, x]).sum())


def cost():
    """CPU seconds of the injection beside those of the whole run without it."""
    rows = []
    for size in (512, 1024, 2048):  # the first compiles
        bench = Bench("sparse", size, SEED)
        seen = bench.scene
        made, seconds = cpu(chain, seen.science.exposure, seen.template.exposure)
        science, template, psf, clean, stars = made
        _, more = cpu(_of_template, science, stars, psf, seen.template.exposure)
        _, found = cpu(psflib.detect, clean)
        table, extra = cpu(psflib.inject, science, template, psf, clean, None, None, stars)
        whole = seconds + more + found
        rows.append([size, len(table), f"{whole:.1f}", f"{extra:.1f}", f"{extra / whole:.0%}"])
    head = ["px", "sources", "run, CPU s", "injection", "share"]
    return "Cost: the run is prepare to detect, wings of both images included", head, rows[1:]


def _of_template(science, stars, psf, exposure):
    """What a run makes beside `chain`: PSF and wings of the template, wings of the science."""
    template = psflib.prepare(exposure)
    own = select_stars(template)
    core = core_epsf(build_stamps(template, own), template.shape)
    return extended_psf(template, own, core), extended_psf(science, stars, psf)


SECTIONS = {"limits": limits, "alarms": alarms, "cost": cost}

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    run_sections(__doc__, SECTIONS, "injection")
