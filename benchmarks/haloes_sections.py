"""Rows of the table of haloes, and the pictures of two survey stars before and after."""

import os
import time
from pathlib import Path

import numpy as np
from astropy.stats import sigma_clipped_stats

import psflib
from psflib.figures import canvas, to_png
from psflib.haloes import fit_haloes, stars_and_psf, subtract_stars
from psflib.image.exposure import MaskBit, has_bits
from psflib.psf.wings.result import radial_profile
from psflib.simulation.halo_psf import HaloPsf
from psflib.simulation.haloes import halo_field, halo_pair
from psflib.subtraction import SubtractSettings

HELD_OUT = (31, 32)  # fields of haloes on which nothing was chosen
RINGS = ((10, 15), (15, 30), (30, 60), (60, 100))
IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
DES, DES_STAR = "des_coadd/des0353-4831_g_south.fits.fz", (1330, 984)
GOTO = "goto_pair/goto_virgo_ref.fits.fz"
GOTO_STARS = ((1733, 1035), (1037, 607))
REAL_RINGS = (
    (10, 15), (15, 20), (20, 30), (30, 40), (40, 60), (60, 100), (100, 150), (150, 200), (200, 300),
)  # fmt: skip


def simulated(seeds):
    """Rows with a truth."""
    return [*joint_rows(), order_row(), false_positive_row(seeds)]


def joint_rows():
    """30 overlapping haloes on 1024² px: what is left on rings, in sigma of the sky."""
    rows = []
    for name, known in (("true PSF", True), ("PSF of the image", False)):
        left, cpu = [], []
        for seed in HELD_OUT:
            field = halo_field((1024, 1024), seed, n_bright=30, n_faint=1500, psf=HaloPsf(3.5))
            psf, core, stars = HaloPsf(3.5), None, field.stars["id", "x", "y"]
            if not known:
                found = stars_and_psf(field.exposure)
                psf, core = found.extended, found.core
            start = time.process_time()
            made = subtract_stars(field.exposure, stars, psf, core=core)
            cpu.append(time.process_time() - start)
            left.append(ring_means(field, made.light, np.asarray(made.removed["ok"])))
        left = np.concatenate(left)
        text = "; ".join(
            f"{a}-{b} px {np.sqrt(np.nanmean(c**2)):.2f} ({np.nanmax(np.abs(c)):.2f})"
            for (a, b), c in zip(RINGS, left.T, strict=True)
        )
        rows.append([
            f"30 overlapping haloes, {name}: mean of a ring in sigma, rms over stars (worst)",
            "≤ 1", f"{text}; {np.mean(cpu):.1f} CPU s",
        ])  # fmt: skip
    return rows


def ring_means(field, light, ok):
    """True less removed light of the fitted stars on rings about them, in sigma of the sky.

    The inner 10 px of all stars are left out everywhere, and the sky's level is no star's.
    """
    y, x = np.indices(field.light.shape)
    left = field.light - light
    left = (left - np.median(left)) / field.exposure.meta["sky_rms"]
    outside = np.ones(left.shape, bool)
    for star in field.stars:
        outside &= np.hypot(x - star["x"].value, y - star["y"].value) >= RINGS[0][0]
    means = []
    for star in field.stars[ok]:
        r = np.hypot(x - star["x"].value, y - star["y"].value)
        means.append([left[(r >= a) & (r < b) & outside].mean() for a, b in RINGS])
    return np.array(means)


def order_row():
    field = halo_field((512, 512), HELD_OUT[0], n_bright=15, psf=HaloPsf(3.5))
    order = np.random.default_rng(0).permutation(len(field.stars))
    one = fit_haloes(field.exposure, field.stars, HaloPsf(3.5)).table["flux"][order]
    other = fit_haloes(field.exposure, field.stars[order], HaloPsf(3.5)).table["flux"]
    change = float(np.max(np.abs(one / other - 1)))
    return ["the same stars in another order: largest relative change of a flux", "1e-9",
            f"{change:.1g}"]  # fmt: skip


def false_positive_row(seeds):
    """Candidates within 100 px of saturated stars whose haloes differ between the images."""
    counts = {}
    for seed in seeds:
        for name, bright, use in (
            ("without the stars", False, False), ("haloes left", True, False),
            ("haloes removed", True, True),
        ):  # fmt: skip
            science, template, stars = halo_pair((1024, 1024), seed, bright=bright, n_stars=450,
                                                 n_bright=6)  # fmt: skip
            counts[name] = counts.get(name, 0) + near_candidates(science, template, stars, use)
    text = "; ".join(f"{name} {n[0]}, {n[1]}, {n[2]}" for name, n in counts.items())
    ratio = counts["haloes removed"][0] / max(counts["without the stars"][0], 1)
    return [
        f"candidates within 100 px of {6 * len(seeds)} saturated stars, above 4, 4.5 and 5 sigma",
        "≤ 1.5 x the sky without them", f"{text}: {ratio:.2f} x at 4 sigma",
    ]  # fmt: skip


def near_candidates(science, template, stars, use):
    settings = SubtractSettings(use_extended_psf=use)
    difference = psflib.decorrelate(psflib.subtract(science, template, settings=settings))
    found = psflib.detect(difference, threshold=4.0)
    x, y = found["x"].value, found["y"].value
    near = np.zeros(len(found), bool)
    for star in stars:
        near |= np.hypot(x - star["x"].value, y - star["y"].value) < 100
    near &= np.char.find(np.asarray(found["flags"]).astype(str), "masked") < 0
    return np.array([(near & (np.abs(found["snr"]) >= s)).sum() for s in (4, 4.5, 5)])


def data_folder() -> Path:
    return Path(os.environ.get("PSFLIB_DATA", IMAGES.parents[2] / "shared" / "data"))


def des():
    """The coadd, its repaired cores taken for what they are: saturated."""
    exposure = psflib.read(data_folder() / DES, mask_hdu="MASK")
    mask = np.where(has_bits(exposure.mask, MaskBit.BAD), np.uint16(MaskBit.SAT), exposure.mask)
    return psflib.prepare(exposure.replace(mask=mask.astype(np.uint16)))


def goto():
    return psflib.prepare(psflib.read(data_folder() / GOTO))


def without_stars(exposure):
    known = stars_and_psf(exposure)
    return subtract_stars(exposure, known.stars, known.extended, core=known.core)


def real():
    """Bright survey stars on rings, before and after; the same measure elsewhere is the error."""
    rows = []
    for name, path, load, places in (
        ("DES coadd", DES, des, [DES_STAR]), ("GOTO", GOTO, goto, GOTO_STARS),
    ):  # fmt: skip
        if not (data_folder() / path).exists():
            rows.append((name, "image not there", *[""] * len(REAL_RINGS)))
            continue
        rows += around_stars(name, load(), places)
    head = ["star", "", *(f"{a}-{b} px" for a, b in REAL_RINGS)]
    title = ("Haloes of survey stars: clipped mean of a ring in sigma of a pixel, less that of 40 "
             "other places (goal: zero beyond 30 px)")  # fmt: skip
    return title, head, rows


def around_stars(name, exposure, places):
    known = stars_and_psf(exposure)
    made = subtract_stars(exposure, known.stars, known.extended, core=known.core)
    sigma = exposure.meta["sky_rms"]
    rng, (ny, nx) = np.random.default_rng(1), exposure.shape
    others = np.c_[rng.uniform(300, nx - 300, 40), rng.uniform(300, ny - 300, 40)]
    there = np.array([profile(made.exposure, *place) for place in others]) / sigma
    level = np.nanmedian(there, axis=0)
    error = 1.4826 * np.nanmedian(np.abs(there - level), axis=0)
    rows = []
    for x, y in places:
        star = made.removed[np.argmin(np.hypot(made.removed["x"].value - x,
                                               made.removed["y"].value - y))]  # fmt: skip
        at = star["x"].value, star["y"].value
        before, after = profile(exposure, *at) / sigma, profile(made.exposure, *at) / sigma
        rows.append((f"{name} ({x}, {y})", "before", *(_number(v, ".1f") for v in before)))
        doubt = stated(known.extended, star["flux"].value) / sigma
        rows.append(("", "after", *(_number(v, "+.2f") for v in after - level)))
        rows.append(("", "stated error of the halo", *(f"{v:.2f}" for v in doubt)))
    rows.append(("", "scatter of the places", *(f"{e:.2f}" for e in error)))
    return rows


def _number(value, style):
    return f"{value:{style}}" if np.isfinite(value) else ""


def stated(extended, flux):
    """Standard error of a star's halo on the rings, ADU, from that of its profile."""
    r = np.arange(REAL_RINGS[-1][1] + 1.0)
    plane = extended.at(2 * len(r) + 1)
    middle = len(r)
    rings = np.interp(r, np.arange(middle + 1), radial_profile(plane)["value"][: middle + 1])
    light = flux * rings * extended.relative_error(r)
    return np.array([light[(r >= a) & (r < b)].mean() for a, b in REAL_RINGS])


def profile(exposure, x0, y0):
    """Clipped means (rings,) of the usable pixels about a place, ADU."""
    y, x = np.indices(exposure.shape, sparse=True)
    reach = REAL_RINGS[-1][1] + 1
    box = np.s_[
        max(int(y0) - reach, 0) : int(y0) + reach, max(int(x0) - reach, 0) : int(x0) + reach
    ]
    r = np.hypot(x - x0, y - y0)[box]
    image, usable = exposure.image[box], exposure.usable[box]
    rings = [image[(r >= a) & (r < b) & usable] for a, b in REAL_RINGS]
    return np.array([sigma_clipped_stats(v, sigma=3)[0] if len(v) > 50 else np.nan for v in rings])


def pictures():
    """docs/images/halo_des.png and halo_goto.png."""
    draw(des(), DES_STAR, "DES coadd, g", IMAGES / "halo_des.png")
    draw(goto(), GOTO_STARS[1], "GOTO, L", IMAGES / "halo_goto.png")


def draw(exposure, place, title, path):
    """A star and its surroundings before and after."""
    made = without_stars(exposure)
    table = made.removed[made.removed["ok"]]
    x, y = table["x"].value, table["y"].value
    k = np.argmin(np.hypot(x - place[0], y - place[1]))
    col, row = round(x[k]), round(y[k])
    figure = canvas.new_figure(6.4, 6.8, title)
    panels = figure.subplots(2, 2)
    noise = exposure.meta["sky_rms"]
    for column, half in zip(panels.T, (250, 60), strict=True):
        box = np.s_[max(row - half, 0) : row + half + 1, max(col - half, 0) : col + half + 1]
        for axes, image, words in zip(
            column, (exposure.image, made.exposure.image), ("before", "after"), strict=True
        ):
            axes.imshow(np.arcsinh(image[box] / (2 * noise)), origin="lower", cmap="gray",
                         vmin=-1.5, vmax=5)  # fmt: skip
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title(f"{words}, {2 * half + 1} px", fontsize=10)
    path.write_bytes(to_png(figure, dpi=70))
