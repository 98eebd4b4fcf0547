"""`run_zogy`: the interface of STDPipe's proper image subtraction, on our own arithmetic.

Zackay, Ofek & Gal-Yam 2016, ApJ 830, 27; STDPipe: Karpov 2021, ascl:2112.006.  What differs:
tiles are blended inside safe margins, masked pixels are filled, PSFs come from our own models, and
nothing is written into the caller's arrays.
"""

import logging

import numpy as np

from psflib.image.exposure import Exposure
from psflib.image.noise import robust_std
from psflib.preparation.sky import fit_sky
from psflib.psf.build import build_psf
from psflib.subtraction.arrays import (
    check_shapes,
    exposure_of,
    speaker,
    takes_planes,
    usable_pixels,
)
from psflib.subtraction.zogy.pair import MatchedPair, MatchOptions, masked_share, match_pair
from psflib.subtraction.zogy.planes import node_filters, proper_difference
from psflib.subtraction.zogy.psf import StampPsf, stamp_psf
from psflib.subtraction.zogy.psfex import psf_settings
from psflib.subtraction.zogy.scale import regions_of_objects, scale_of_objects, scale_of_pixels
from psflib.subtraction.zogy.tiles import tiling

log = logging.getLogger(__name__)

MOST_MASKED = 0.5  # share of the PSF on filled pixels or off the image, above which S is 0
SAMPLE = 100_000  # pixels that tell the noise to 0.4 %
SAME_CENTRE = 0.2  # px, difference of the PSFs' centroids that is worth a word


@takes_planes
def run_zogy(
    image, template, mask=None, template_mask=None, err=None, template_err=None, image_psf=None,
    template_psf=None, image_gain=None, template_gain=None, image_fwhm=None, template_fwhm=None,
    scale=None, psf_clean=0, dx=0.25, dy=0.25, nx=1, ny=None, overlap=50, fit_scale=True,
    fit_shift=True, good_regions=None, image_obj=None, template_obj=None, get_psf=False,
    get_Fpsf=False, nthreads=0, verbose=False, **kwargs,
):  # fmt: skip
    """Proper image subtraction with the signature of STDPipe's `run_zogy`.

    Parameters
    ----------
    {planes}
    err, template_err : ndarray (ny, nx) or True, optional
        Sigma of each pixel, ADU; None and True measure it (with photon noise, if there is a gain).
    image_psf, template_psf : dict, ndarray (k, k) or object with ``at(x, y, size)``, optional
        PSFEx's model as a dictionary (data, width, height, sampling, degree, x0, y0, sx, sy), one
        stamp, or a model such as `PsfField`; None builds one from the image's own stars.  Stamps
        with an even side, off their centre or of another sum than 1 are corrected (logged).
    image_gain, template_gain : float, optional
        e-/ADU.
    image_fwhm, template_fwhm : float, optional
        px; measured on the PSF if not given.
    scale : float, optional
        Template flux over science flux of the same star.  None takes it from the lists of
        objects, else from the bright pixels, else 1.
    psf_clean : float
        PSF values below this fraction of the peak are set to 0.
    dx, dy : float
        Standard deviation of the registration, px.
    nx, ny : int
        Tiles, each with the PSFs of its centre; ny defaults to nx.
    overlap : int
        Width of the blend between two tiles, px; up to the size of a tile, where the PSFs change
        linearly between the tiles' centres.
    fit_scale, fit_shift : bool
        Fit flux scale and displacement of the template.
    good_regions : ndarray (ny, nx) bool, optional
        Pixels that this fit may use.
    image_obj, template_obj : Table, optional
        x, y (0-based px), flux or mag, and flags: they give the scale, and the first the regions.
    get_psf : bool
        Return also the PSF of the difference at the field's centre, (k, k) of unit sum.
    get_Fpsf : bool
        Return also the flux of a point source at each pixel and its error, ADU.
    nthreads : int
        Ignored: one thread is fast enough, and the result does not depend on it.
    {verbose}
    **kwargs
        For the PSFs that are built: STDPipe's `thresh, order, psf_size, vignet_size, aper`, or
        `stars, stamps, epsf` as of `psflib.psf.build.build_psf`.  The rest is ignored, with a
        warning.

    Returns
    -------
    list
        D (ADU of the science image), S_corr (sigma), and if asked for P_D, F_psf and its error.
        Where most of the PSF falls on masked pixels or off the image, S_corr and F_psf are 0 and
        the error is infinite; D is 0 at masked pixels.

    Raises
    ------
    ValueError
        Shapes that differ, a scale or FWHM that is not positive, PSFs of no use, too many tiles.
    BadImage, NotEnoughStars
        The data do not allow it.
    """
    say = speaker(verbose, log)
    _check_numbers(scale, dx, dy, nx, ny, overlap, image_fwhm, template_fwhm)
    unit = _unit(image, mask)
    pair = (
        _exposure("image", image, mask, err, image_gain, unit),
        _exposure("template", template, template_mask, template_err, template_gain, unit),
    )
    check_shapes(*pair)
    settings, fwhm, ignored = psf_settings(kwargs)
    given = image_psf, template_psf
    if all(psf is not None for psf in given):  # nothing is built
        ignored, fwhm = list(kwargs), None
    if ignored:
        log.warning("ignored, nothing here uses it: %s", ", ".join(ignored))
    psfs = _psfs(pair, given, psf_clean, settings)
    pair = _with_fwhm(pair, psfs, (image_fwhm or fwhm, template_fwhm or fwhm))
    support = max(psf.size for psf in psfs)
    tiles = tiling(pair[0].shape, nx, nx if ny is None else ny, overlap, support)
    factor = 1 / _scale(pair, scale, image_obj, template_obj, say)
    good = _good(pair, good_regions, image_obj)
    matched = match_pair(
        pair[0], pair[1], psfs, tiles, support,
        MatchOptions(scale=factor, fit_scale=fit_scale, fit_shift=fit_shift, good=good),
    )  # fmt: skip
    _report(matched, psfs, say)
    made = proper_difference(matched.pair, tiles, support, (dx, dy))
    psf = _central(matched.pair, tiles, support)
    return _results(made, matched, unit, psf, get_psf, get_Fpsf)


def _check_numbers(scale, dx, dy, nx, ny, overlap, image_fwhm, template_fwhm):
    for name, value in (
        ("scale", scale), ("image_fwhm", image_fwhm), ("template_fwhm", template_fwhm),
    ):  # fmt: skip
        if value is not None and not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive; got {value}")
    for name, value in (("dx", dx), ("dy", dy), ("overlap", overlap)):
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must not be negative; got {value}")
    for name, value in (("nx", nx), ("ny", ny)):
        if value is not None and (int(value) != value or value < 1):
            raise ValueError(f"{name} must be a positive number of tiles; got {value}")


def _unit(image, mask):
    """Noise of the image, ADU: in this unit float32 rounds alike, whatever the image's own unit."""
    plane, good = usable_pixels("image", image, mask)
    sample = plane[good][:: max(1, plane.size // SAMPLE)]
    return robust_std(sample) or float(np.std(plane[good]))


def _exposure(name, image, mask, err, gain, unit) -> Exposure:
    """In the unit, without sky: a polynomial through a mesh."""
    plane, _ = usable_pixels(name, image, mask)
    if err is not None and not isinstance(err, bool | np.bool_):
        err = np.asarray(err, float) / unit
    exposure = exposure_of(name, plane / unit, mask, err, gain and gain * unit)
    sky = fit_sky(exposure.image, exposure.usable)
    rest = np.where(exposure.usable, exposure.image - sky.level, np.nan)
    level = (exposure.sky or 0.0) + sky.median_level
    return exposure.replace(image=rest, sky=level)


def _psfs(pair, given, clean, settings):
    names = "image_psf", "template_psf"
    models = [
        build_psf(exposure, **settings) if psf is None else psf
        for exposure, psf in zip(pair, given, strict=True)
    ]
    return tuple(
        stamp_psf(name, model, exposure.shape, clean=clean)
        for name, model, exposure in zip(names, models, pair, strict=True)
    )


def _with_fwhm(pair, psfs, given):
    """The exposures with the seeing in their meta."""
    ny, nx = pair[0].shape
    return tuple(
        exposure.replace(meta={"fwhm": fwhm or psf.fwhm((nx - 1) / 2, (ny - 1) / 2)})
        for exposure, psf, fwhm in zip(pair, psfs, given, strict=True)
    )


def _scale(pair, scale, image_obj, template_obj, say):
    """Template flux over science flux."""
    if scale is not None:
        return float(scale)
    found = None
    fwhm = max(e.meta["fwhm"] for e in pair)
    if image_obj is not None and template_obj is not None:
        found = scale_of_objects(image_obj, template_obj, fwhm)
        say(f"scale by the objects of both images: {found}")
    if found is None:
        found = scale_of_pixels(*pair)
        say(f"scale by the bright pixels of both images: {found}")
    if found is None:
        log.warning("neither objects nor bright pixels tell the flux scale: taken as 1")
    return 1.0 if found is None else found


def _good(pair, good_regions, image_obj):
    """Where the fit may look; None is everywhere."""
    if good_regions is not None:
        good = np.asarray(good_regions)
        if good.shape != pair[0].shape:
            raise ValueError(f"good_regions {good.shape} and image {pair[0].shape} differ in shape")
        return good != 0
    if image_obj is not None and len(image_obj):
        fwhm = max(e.meta["fwhm"] for e in pair)
        return regions_of_objects(image_obj, pair[0].shape, fwhm)
    return None


def _report(matched: MatchedPair, psfs: tuple[StampPsf, ...], say):
    """What was found, in words."""
    alignment = matched.alignment
    for note in alignment.notes:
        log.warning("%s", note)
    dx, dy = alignment.shift
    say(
        f"template flux scale {1 / matched.scale[0]:.6g}, displacement to apply to the template "
        f"({dx:.3f}, {dy:.3f}) px, from {alignment.n_pixels} pixels"
    )
    if np.hypot(dx, dy) > SAME_CENTRE:
        log.info("template displaced by (%.2f, %.2f) px", dx, dy)


def _central(pair, tiles, support):
    """P_D of the tile nearest to the field's centre, (k, k)."""
    *_, psfs = node_filters(pair, tiles, support, support // 2 + support // 4)
    psf = psfs[len(tiles.rows) // 2, len(tiles.columns) // 2]
    return psf / psf.sum()


def _results(made, matched, unit, psf, get_psf, get_flux):
    score, unit = made.score, np.float32(unit)
    difference, flux, error = (
        unit * made.image,
        unit * made.flux,
        unit * np.sqrt(made.flux_variance),
    )
    difference[matched.bad] = 0
    empty = masked_share(matched.bad, np.square(psf)) > MOST_MASKED
    score[empty], flux[empty], error[empty] = 0, 0, np.inf
    results = [difference, score]
    results += [psf] if get_psf else []
    results += [flux, error] if get_flux else []
    return results
