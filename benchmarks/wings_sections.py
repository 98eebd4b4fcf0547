"""The tables of benchmarks/wings.py.  The seeds here have chosen no setting."""

import os
from pathlib import Path

import numpy as np
from measure import cpu, peak_growth

import psflib
import psflib.files
from psflib.psf import build_epsf, robust_combine
from psflib.psf.core.stage import core_epsf
from psflib.psf.extended import radii
from psflib.psf.wings.disc import disc
from psflib.psf.wings.field import stamp_of
from psflib.psf.wings.result import assemble
from psflib.psf.wings.solve import solve_wing
from psflib.psf.wings.stage import extended_psf
from psflib.psf.wings.stars import WingStar
from psflib.simulation.star_stamps import simulate_stamps
from psflib.simulation.wing_scene import simulate_halo_image
from psflib.simulation.wing_stamps import WingTruth, simulate_wings
from psflib.stamps import build as cutouts
from psflib.stars import select as selection

RINGS = ((4, 8), (10, 20), (20, 40), (40, 70), (70, 100))
SEEDS = (101, 102, 103, 104, 105)
IMAGES = {
    "DES coadd g": "des_coadd/des0353-4831_g_south.fits.fz",
    "GOTO science": "goto_pair/goto_virgo_sci.fits.fz",
}
REAL_RINGS = ((10, 20), (20, 30), (30, 50), (50, 70), (70, 100), (100, 150), (150, 200), (200, 300))
APERTURE = 18.0  # px, of unit energy
SEAM = {"match_radius": 7.5, "feather_width": 3.0, "fwhm": 3.3}


def profile():
    """Ring means against the truth, by wing, number of stars and what is known of them."""
    rows = []
    for family, number, note, options in (
        *(("bench", m, "", {}) for m in (100, 30, 10, 5)),
        ("bench", 100, "core built from 100 stars", {"built": True}),
        ("bench", 30, "core built from 100 stars", {"built": True}),
        *(("bench", m, "given centres", {"centre": False}) for m in (30,)),
        *((family, m, "held out", {}) for family in ("break", "aureole", "ghost") for m in (30, 5)),
        ("bench", 30, "zero from the power law", {"pedestal": "power_law"}),
        ("ghost", 30, "zero from the power law", {"pedestal": "power_law"}),
    ):
        seeds = SEEDS[: {100: 2, 30: 3}.get(number, 5)]
        rows.append(
            (family, number, note, *_row([one(family, number, s, **options) for s in seeds]))
        )
    head = ["wing", "stars", "", *(f"{a}-{b} px" for a, b in RINGS), "scatter 70-100",
            "error / stated, rms and worst", "CPU s"]  # fmt: skip
    title = ("Wings: bias of the ring means [%] ~ scatter between seeds "
             "(goals 1 % to 40 px, 3 % to 100 px; pixel scatter 0.08)")  # fmt: skip
    return title, head, rows


def one(family, number, seed, *, built=False, centre=True, pedestal="sky"):
    """Biases of the rings (relative), stated errors, pixel scatter and CPU seconds."""
    truth = WingTruth(family)
    made = simulate_wings(truth, number, seed=seed)
    core = built_core(truth, seed) if built else truth.epsf(25, 3)
    first = made.delta_init if centre else made.delta
    stars = [
        WingStar(made.data[i], made.weight[i], first[i].copy(), 1e7, sky=made.outside_sky[i],
                 sky_error=made.outside_error)
        for i in range(number)
    ]  # fmt: skip
    size = made.data.shape[1]
    solution, seconds = cpu(
        lambda: solve_wing(stars, core, 3, size, centre=centre, pedestal=pedestal, **SEAM)
    )
    found = assemble(solution, APERTURE, np.zeros(size // 2 + 1))
    return *compare(found, truth, size), seconds


def built_core(truth, seed, size=25):
    """Core as psflib builds it from 100 stars of 5e3 to 5e5 e-."""
    made = simulate_stamps(truth, 100, size, seed=1000 + seed)
    return build_epsf(made.data, made.delta_init, 3, weight=made.weight, solver="normal").epsf


def compare(found, truth, size):
    """Relative bias and stated error of each ring, and the scatter of the outer pixels."""
    plane = stamp_of(found.shape, (0.0, 0.0), size)
    target = truth.plane(size)
    radius = radii(plane.shape)
    target = target / np.sum(target * disc(radius.shape, found.aperture))
    error = np.asarray(found.profile["error"])
    bias, stated = [], []
    for inner, outer in RINGS:
        ring = (radius >= inner) & (radius < outer)
        share = error[np.round(radius[ring]).astype(int).clip(max=len(error) - 1)]
        bias.append(plane[ring].mean() / target[ring].mean() - 1)
        stated.append(share.mean() / target[ring].mean())
    scatter = np.std((plane - target)[ring]) / target[ring].mean()
    return np.array(bias), np.array(stated), scatter


def _row(results):
    bias, stated, scatter, seconds = (np.array(column) for column in zip(*results, strict=True))
    pulls = bias[:, 1:] / stated[:, 1:]
    cells = [f"{100 * m:+.2f} ~ {100 * s:.2f}"
             for m, s in zip(bias.mean(0), bias.std(0), strict=True)]  # fmt: skip
    return (*cells, f"{scatter.mean():.3f}", f"{np.sqrt(np.mean(pulls**2)):.2f}, "
            f"{np.abs(pulls).max():.1f}", f"{seconds.mean():.1f}")  # fmt: skip


def image():
    """The whole chain on simulated images: the stage's own stars, core and sky."""
    rows = []
    for family in ("bench", "break", "aureole", "ghost"):
        for seed in SEEDS[: 2 if family == "bench" else 1]:
            truth = WingTruth(family)
            exposure, _ = simulate_halo_image(truth, seed=seed)
            ready = psflib.prepare(exposure)
            stars = selection.select_stars(ready)
            psf = core_epsf(cutouts.build_stamps(ready, stars), ready.shape)
            field, seconds = cpu(lambda: extended_psf(ready, stars, psf))  # noqa: B023
            rows.append((family, seed, *_field_row(field, truth), f"{seconds:.1f}"))
    head = ["wing", "seed", *(f"{a}-{b} px" for a, b in RINGS[1:]), "stars", "known to [px]",
            "CPU s"]  # fmt: skip
    return ("Wings: the stage on simulated images of 0.6 Mpx, bias and stated error of the ring "
            "means [%]", head, rows)  # fmt: skip


def _field_row(field, truth):
    size = len(field.wing)
    plane, radius = field.at(size), radii(field.wing.shape)
    target = truth.plane(size)
    target = target / np.sum(target * disc(radius.shape, field.ee_radius))
    error = field.relative_error(radius) * plane
    cells = []
    for inner, outer in RINGS[1:]:
        ring = (radius >= inner) & (radius < outer)
        level = target[ring].mean()
        cells.append(f"{100 * (plane[ring].mean() / level - 1):+.1f} ± "
                     f"{100 * error[ring].mean() / level:.1f}")  # fmt: skip
    return (*cells, field.meta["n_stars"], f"{field.radius:.0f}")


def combine():
    """Cost of the combination, beside astropy's clip and weighted mean."""
    rows = []
    for size in (201, 501):
        for kind in (np.float32, np.float64):
            rng = np.random.default_rng(5)
            stack = rng.normal(10, 1, (100, size, size)).astype(kind)
            weight = rng.uniform(0.5, 2, stack.shape).astype(kind)
            for name, call in (
                ("psflib", _ours),
                ("psflib, MAD", _ours_mad),
                ("astropy", _astropy),
            ):
                if name == "astropy" and size == 501 and kind is np.float32:
                    continue
                call(stack[:, :8, :8], weight[:, :8, :8])
                seconds = min(cpu(call, stack, weight)[1] for _ in range(3 if size == 201 else 1))
                _, memory = peak_growth(call, stack, weight)
                held = 1 + memory * 1e6 / (2 * stack.nbytes)
                rows.append((f"100 x {size}²", np.dtype(kind).name, name, f"{seconds:.3f}",
                             f"{memory:.0f}", f"{held:.2f}"))  # fmt: skip
    head = ["stack", "dtype", "tool", "CPU s", "growth [MB]", "memory / (stack and weights)"]
    title = "robust_combine (goals 0.12 and 1.2 CPU s, memory 1.3 times the stack)"
    return title, head, rows


def _ours(stack, weight):
    return robust_combine(stack, weight=weight)


def _ours_mad(stack, weight):
    return robust_combine(stack, weight=weight, clip_scale="mad", sample_variance=True)


def _astropy(stack, weight):
    from astropy.stats import sigma_clip

    clipped = sigma_clip(stack, sigma=3, maxiters=5, axis=0)
    return np.ma.average(clipped, axis=0, weights=weight)


def real():
    """Rings around the brightest star of survey images before and after all haloes are removed."""
    folder = Path(os.environ.get("PSFLIB_DATA", Path(__file__).parents[2] / "shared" / "data"))
    rows = []
    for name, path in IMAGES.items():
        if not (folder / path).exists():
            rows.append((name, *["image not there"] * (2 + len(REAL_RINGS))))
            continue
        ready = psflib.prepare(psflib.files.read(folder / path))
        stars = selection.select_stars(ready)
        psf = core_epsf(cutouts.build_stamps(ready, stars), ready.shape)
        field, seconds = cpu(lambda: extended_psf(ready, stars, psf))  # noqa: B023
        rows += around_brightest(name, ready, field, seconds)
    head = ["image", "", *(f"{a}-{b} px" for a, b in REAL_RINGS), "CPU s"]
    return ("Wings of survey images: median of the ring about the brightest star, in sigma of a "
            "pixel", head, rows)  # fmt: skip


def around_brightest(name, ready, field, seconds):
    """Two rows: ring medians in sigma, before and after."""
    used = field.stars[field.stars["ok"]]
    x, y, flux = (np.asarray(used[c].value) for c in ("x", "y", "flux"))
    halo = np.zeros(ready.shape)
    for k in range(len(used)):
        size = 2 * min(len(field.wing) // 2 * 2, 600) + 1
        stamp = flux[k] * field.render(x[k], y[k], size)
        _paste(halo, stamp, round(float(y[k])), round(float(x[k])))
    k = int(np.argmax(flux))
    row, col = np.ogrid[: ready.shape[0], : ready.shape[1]]
    radius = np.hypot(row - y[k], col - x[k])
    sigma = np.sqrt(np.median(ready.variance[ready.usable]))
    label = f"({x[k]:.0f}, {y[k]:.0f}), {flux[k]:.2e} ADU, known to {field.radius:.0f} px"
    out = []
    for text, plane in (("before", ready.image), ("after", ready.image - halo)):
        cells = []
        for inner, outer in REAL_RINGS:
            ring = (radius >= inner) & (radius < outer) & ready.usable
            cells.append(f"{np.median(plane[ring]) / sigma:+.2f}")
        out.append((f"{name}: {label}" if text == "before" else "", text, *cells,
                    f"{seconds:.1f}" if text == "before" else ""))  # fmt: skip
    return out


def _paste(image, stamp, row, col):
    half = len(stamp) // 2
    top, left = row - half, col - half
    box = tuple(
        slice(max(start, 0), min(start + len(stamp), n))
        for start, n in zip((top, left), image.shape, strict=True)
    )
    image[box] += stamp[
        box[0].start - top : box[0].stop - top, box[1].start - left : box[1].stop - left
    ]


SECTIONS = {"profile": profile, "image": image, "combine": combine, "real": real}
