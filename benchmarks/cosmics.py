"""Cosmic rays of known charge: which pixels are found, by psflib and by its peers.

python benchmarks/cosmics.py                               every section
python benchmarks/cosmics.py --write docs/benchmarks.md    the same, into that file

astroscrappy and lacosmic take part where they are installed.  The real frames are looked for in
$PSFLIB_DATA or ../shared/data beside the repository; that section needs them.
"""

import functools
import importlib.util
import itertools
import logging
import os

# CPU seconds of idle threads would be counted, so set before NumPy is loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from astropy.io import fits  # noqa: E402
from cosmics_scenes import RAYS, draw_rays, ray_scene  # noqa: E402
from measure import cpu, run_sections  # noqa: E402
from real_psf import data_folder  # noqa: E402
from scipy import ndimage  # noqa: E402

import psflib  # noqa: E402
from psflib.image.exposure import Exposure, MaskBit  # noqa: E402
from psflib.preparation.cosmics import find_cosmic_rays  # noqa: E402
from psflib.preparation.prepare import PrepareSettings  # noqa: E402
from psflib.simulation.psf_model import PsfModel  # noqa: E402
from psflib.stars.widths import estimate_widths  # noqa: E402

SIZE, SMALL = 1024, 128  # px; the second warms up
CASES = list(itertools.product((0.9, 1.3, 2.0, 3.0, 5.0), ("sparse", "crowded"), (5, 200, 5000)))
# false pixels are counted where the ray left less than this, sigma
NOTHING = 1.0
SEEN = 5.0  # sigma of charge that a pixel must hold to count as one of the ray's
REAL = {
    "GOTO": "goto_pair/goto_virgo_sci.fits.fz",
    "SDSS r": "sdss_fpC/fpC-005754-r3-0280.fit.gz",
    "EABA": "eaba_eso085/aligned_eso085-030-004.fits.fz",
    "DECam z 2017": "decam_legacypipe/c4d_170316_062107_ooi_z_ls9.N2.fits",
    "DECam r 2017": "decam_legacypipe/c4d_171113_060340_ooi_r_ls9.N6.fits",
}
COSMIC_RAY = 5  # of the Community Pipeline's quality codes


def prepared(exposure):
    """Image without sky, variance, mask and narrow FWHM, as `prepare` has them for the search."""
    done = psflib.prepare(exposure, PrepareSettings(cosmic_rays=False))
    _, narrow = estimate_widths(done.image, done.variance, done.mask)
    return done.image, done.variance, done.mask != 0, narrow


def ours(image, variance, mask, fwhm):
    return find_cosmic_rays(image, variance, mask, fwhm=fwhm)


def by_astroscrappy(image, variance, mask, fwhm):
    import astroscrappy

    return astroscrappy.detect_cosmics(
        image, inmask=mask, invar=np.maximum(variance, 1e-20), inbkg=np.zeros_like(image),
        sigclip=6.0, sigfrac=0.3, objlim=5.0, gain=1.0, readnoise=0.0, satlevel=1e9, niter=3,
        cleantype="medmask",
    )[0]  # fmt: skip


def by_lacosmic(image, variance, mask, fwhm):
    import lacosmic

    known = np.where(mask | ~(variance > 0), np.median(variance[~mask]), variance)
    return lacosmic.remove_cosmics(
        np.where(mask, 0, image), 5.0, 6.0, 1.8, error=np.sqrt(known), mask=mask, maxiter=3
    )[1]


def programs():
    """Name -> function, of those that are here."""
    found = {"psflib": ours}
    for name, function in (("astroscrappy", by_astroscrappy), ("lacosmic", by_lacosmic)):
        if importlib.util.find_spec(name):
            found[name] = function
    return found


def fast():
    """The same without lacosmic, which takes 5 s per Mpx."""
    return {name: function for name, function in programs().items() if name != "lacosmic"}


@functools.cache
def warm():
    """Every program has run once, on a small sky."""
    planes = prepared(ray_scene(3.0, size=SMALL).exposure)
    for function in programs().values():
        function(*planes)


def timed(planes, chosen):
    """Name -> (mask found, CPU seconds per Mpx)."""
    warm()
    found = {}
    for name, function in chosen.items():
        mask, seconds = cpu(function, *planes)
        found[name] = mask & ~planes[2], seconds / planes[0].size * 1e6
    return found


def score(found, charge, sigma, rays, bad):
    """Share of pixels, share of rays, false pixels per Mpx away from rays and beside them."""
    truth = (charge > SEEN * sigma) & ~bad
    caught = []
    for pixels, deposit in rays:
        counts = truth.ravel()[pixels] & (deposit > SEEN * sigma.ravel()[pixels])
        if counts.any():
            share = deposit[counts] @ found.ravel()[pixels[counts]] / deposit[counts].sum()
            caught.append(share > 0.5)
    false = found & (charge < NOTHING * sigma)
    beside = ndimage.binary_dilation(charge > NOTHING * sigma, np.ones((3, 3)))
    per_mpx = 1e6 / found.size
    return (
        found[truth].mean(), np.mean(caught), (false & ~beside).sum() * per_mpx,
        (false & beside).sum() * per_mpx,
    )  # fmt: skip


def cells(values, seconds):
    pixels, rays, far, beside = values
    return f"{pixels:.3f}, {rays:.3f}", f"{far:.0f} + {beside:.0f}", f"{seconds:.3f}"


def head(chosen, *first):
    columns = [
        f"{name}: {what}"
        for name in chosen
        for what in ("pixels, rays found", "false px/Mpx", "CPU s/Mpx")
    ]
    return [*first, *columns]


def on_skies(cases, chosen):
    """A row a sky."""
    rows = []
    for fwhm, stars, sky in cases:
        scene = ray_scene(fwhm, stars, float(sky), SIZE)
        planes = prepared(scene.exposure)
        row = [fwhm, stars, sky]
        for mask, seconds in timed(planes, chosen).values():
            values = score(mask, scene.charge, scene.sigma, scene.rays, planes[2])
            row += cells(values, seconds)
        rows.append(row)
    return rows


def scenes():
    """Rays on stars of all widths, and what is found."""
    columns = head(fast(), "FWHM, px", "stars", "sky, e-")
    return "Rays on simulated skies", columns, on_skies(CASES, fast())


def slow():
    """A few of the scenes, lacosmic too."""
    cases = [(fwhm, "sparse", 200) for fwhm in (1.3, 3.0)]
    columns = head(programs(), "FWHM, px", "stars", "sky, e-")
    return "Three programs", columns, on_skies(cases, programs())


def survival():
    """Stars alone, of PSFs that vary and are elongated: every pixel found is one too many."""
    rows = []
    for fwhm, (beta, g1, variation) in itertools.product(
        (1.3, 2.0, 3.0, 5.0), ((3.0, 0.05, 0.1), (3.0, 0.1, 0.2), (20.0, 0.1, 0.1))
    ):
        psf = PsfModel(fwhm, g1=g1, variation=variation, beta=beta, shape=(SIZE, SIZE))
        planes = prepared(ray_scene(fwhm, "crowded", 1000.0, SIZE, 4, 0, psf).exposure)
        counts = [f"{m.sum() / SIZE**2 * 1e6:.0f}" for m, _ in timed(planes, fast()).values()]
        rows.append([fwhm, f"{beta:g}", f"{g1:g}", f"{100 * variation:.0f} %", *counts])
    names = [f"{name}: false px/Mpx" for name in fast()]
    title = "No rays, 20 000 stars per Mpx of a varying PSF"
    return title, ["FWHM, px", "Moffat beta", "shear", "variation", *names], rows


def real():
    """Survey frames as they are, and with simulated rays added."""
    rows = []
    for name, path in REAL.items():
        exposure = psflib.read(data_folder() / path)
        gain = exposure.gain or 1.0
        planes = prepared(exposure)
        alone = [mask for mask, _ in timed(planes, fast()).values()]
        shape = exposure.image.shape
        number = round(RAYS * exposure.image.size / 1e6)
        charge, rays = draw_rays(shape, number, np.random.default_rng(5))
        # of a strength that suits the frame: 20 sigma a pixel for the typical track
        unit = 20 * np.sqrt(np.median(planes[1][~planes[2]])) / 1200
        charge, rays = charge * unit, [(pixels, deposit * unit) for pixels, deposit in rays]
        hit = Exposure(
            (exposure.image + charge).astype(np.float32), mask=exposure.mask, gain=gain,
            saturation=exposure.saturation,
        )  # fmt: skip
        planes = prepared(hit)
        sigma = np.sqrt(np.maximum(planes[1] - charge / gain, np.median(planes[1])))
        row = [name, f"{planes[3]:.2f}"]
        for before, (mask, seconds) in zip(alone, timed(planes, fast()).values(), strict=True):
            values = score(mask & ~before, charge, sigma, rays, planes[2] | before)
            row += [f"{before.sum() / before.size * 1e6:.0f}", *cells(values, seconds)]
        rows.append(row)
    columns = [
        f"{name}: {what}"
        for name in fast()
        for what in ("found as it is, px/Mpx", "added: pixels, rays", "false px/Mpx", "CPU s/Mpx")
    ]
    return "Survey frames, as they are and with rays added", ["frame", "FWHM, px", *columns], rows


def quality():
    """The DECam frame whose quality plane marks cosmic rays."""
    image = data_folder() / REAL["DECam z 2017"]
    codes = np.asarray(fits.getdata(str(image).replace("_ooi_", "_ood_")))
    exposure = psflib.read(image)
    exposure.mask[(codes != 0) & (codes != COSMIC_RAY)] |= np.uint16(MaskBit.BAD)
    rays = codes == COSMIC_RAY
    rows = []
    for name, (mask, _) in timed(prepared(exposure), programs()).items():
        near = ndimage.binary_dilation(rays, np.ones((3, 3)), iterations=2)
        share = f"{mask[rays].mean():.2f} of {rays.sum()}"
        rows.append([name, share, int((mask & near & ~rays).sum()), int((mask & ~near).sum())])
    columns = ["program", "its cosmic-ray pixels", "within 2 px of them", "elsewhere, px"]
    return "The Community Pipeline's own mask (DECam z, 245 x 251)", columns, rows


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    sections = {
        "scenes": scenes, "slow": slow, "survival": survival, "real": real, "quality": quality,
    }  # fmt: skip
    run_sections(__doc__, sections, "cosmics")
