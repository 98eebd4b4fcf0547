"""Rows of the table of haloes, and the pictures of two survey stars before and after."""

import os
import time
from pathlib import Path

import numpy as np
from astropy.stats import sigma_clipped_stats

import psflib
from psflib.exposure import MaskBit, has_bits
from psflib.figures import canvas, to_png
from psflib.haloes import fit_haloes, stars_and_psf, subtract_stars
from psflib.simulation.halo_psf import HaloPsf
from psflib.simulation.haloes import halo_field, halo_pair
from psflib.subtraction import SubtractSettings

HELD_OUT = (31, 32)  # fields of haloes on which nothing was chosen
RINGS = ((10, 15), (15, 30), (30, 60), (60, 100))
IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
DES, DES_STAR = "des_coadd/des0353-4831_g_south.fits.fz", (1330, 984)
GOTO = "goto_pair/goto_virgo_ref.fits.fz"
DES_RINGS = ((20, 30), (30, 40), (40, 60), (60, 100), (100, 150), (150, 200), (200, 300))


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


def without_stars(exposure):
    known = stars_and_psf(exposure)
    return subtract_stars(exposure, known.stars, known.extended, core=known.core)


def real():
    """The DES star on rings; the scatter of the same measure elsewhere is its error."""
    exposure = des()
    made = without_stars(exposure)
    sigma = exposure.meta["sky_rms"]
    rng, (ny, nx) = np.random.default_rng(1), exposure.shape
    places = np.c_[rng.uniform(300, nx - 300, 40), rng.uniform(300, ny - 300, 40)]
    star = made.removed[np.argmin(np.hypot(made.removed["x"].value - DES_STAR[0],
                                           made.removed["y"].value - DES_STAR[1]))]  # fmt: skip
    at = star["x"].value, star["y"].value
    here = profile(made.exposure, *at) / sigma
    there = np.array([profile(made.exposure, *place) for place in places]) / sigma
    before = profile(exposure, *at) / sigma
    level, error = (
        np.nanmedian(there, axis=0),
        1.4826 * np.nanmedian(np.abs(there - np.nanmedian(there, axis=0)), axis=0),
    )
    text = "; ".join(
        f"{a}-{b} px {v - m:+.3f} ± {e:.3f} (before {o:.1f})"
        for (a, b), v, m, e, o in zip(DES_RINGS, here, level, error, before, strict=True)
    )
    return [["DES star at (1330, 984): clipped mean of a ring in sigma, less that of 40 other "
             "places, ± their scatter", "zero beyond 30 px", text]]  # fmt: skip


def profile(exposure, x0, y0):
    """Clipped means (rings,) of the usable pixels about a place, ADU."""
    y, x = np.indices(exposure.shape, sparse=True)
    reach = DES_RINGS[-1][1] + 1
    box = np.s_[
        max(int(y0) - reach, 0) : int(y0) + reach, max(int(x0) - reach, 0) : int(x0) + reach
    ]
    r = np.hypot(x - x0, y - y0)[box]
    image, usable = exposure.image[box], exposure.usable[box]
    rings = [image[(r >= a) & (r < b) & usable] for a, b in DES_RINGS]
    return np.array([sigma_clipped_stats(v, sigma=3)[0] if len(v) > 50 else np.nan for v in rings])


def pictures():
    """docs/images/halo_des.png and halo_goto.png."""
    draw(des(), DES_STAR, "DES coadd, g", IMAGES / "halo_des.png")
    exposure = psflib.prepare(psflib.read(data_folder() / GOTO))
    draw(exposure, None, "GOTO, L", IMAGES / "halo_goto.png")


def draw(exposure, place, title, path):
    """A star and its surroundings before and after; by default the brightest."""
    made = without_stars(exposure)
    table, (ny, nx) = made.removed[made.removed["ok"]], exposure.shape
    x, y = table["x"].value, table["y"].value
    inside = (np.minimum(x, nx - x) > 160) & (np.minimum(y, ny - y) > 160)
    k = np.argmax(table["flux"].value * inside)
    if place is not None:
        k = np.argmin(np.hypot(x - place[0], y - place[1]))
    col, row = round(x[k]), round(y[k])
    figure = canvas.new_figure(6.4, 6.8, title)
    axes = figure.subplots(2, 2)
    noise = exposure.meta["sky_rms"]
    for column, half in zip(axes.T, (250, 60), strict=True):
        box = np.s_[max(row - half, 0) : row + half + 1, max(col - half, 0) : col + half + 1]
        for place, image, words in zip(
            column, (exposure.image, made.exposure.image), ("before", "after"), strict=True
        ):
            place.imshow(np.arcsinh(image[box] / (2 * noise)), origin="lower", cmap="gray",
                         vmin=-1.5, vmax=5)  # fmt: skip
            place.set_xticks([])
            place.set_yticks([])
            place.set_title(f"{words}, {2 * half + 1} px", fontsize=10)
    path.write_bytes(to_png(figure, dpi=70))
