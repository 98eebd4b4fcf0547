"""First stage: a user's image becomes an exposure that every later stage can trust.

The sky is removed, the variance of each pixel is known, and what cannot serve as data is masked.
Whatever the header does not say is measured from the image, and said in `meta["notes"]`.
"""

from pathlib import Path

import numpy as np
from scipy import ndimage

from psflib.errors import BadImage
from psflib.files import read
from psflib.image.exposure import (
    OWN_BITS,
    Exposure,
    MaskBit,
    as_exposure,
    has_bits,
    unit_for,
)
from psflib.image.noise import robust_std
from psflib.image.smooth import own_share, smoothed
from psflib.image.where import true_pixels
from psflib.loops import lines as loops
from psflib.preparation.claims import (
    MOSAIC,
    absurd_variances,
    check_mask,
    check_variance,
    checked_gain,
    mosaic_of,
    sky_variances,
    steady_variance,
)
from psflib.preparation.cosmics import lobes, spare_stars
from psflib.preparation.crowd import is_alike, share_of_stars
from psflib.preparation.no_data import empty_areas
from psflib.preparation.sky import Sky, fit_sky
from psflib.settings.prepare import PrepareSettings
from psflib.stars.saturation import without_light_around
from psflib.stars.widths import measure_widths

DARK = 10.0  # sigma below sky and surroundings, that no noise is
MOST_DARK = 0.01  # of the pixels
LONE = 4  # such pixels at most in 5 x 5: more are a line
CLIP = 3.0  # sigma, of pixels in the mean of a line
SMOOTHING = 1.0  # px, sigma of the average that tells the photon noise of faint pixels


def prepare(exposure, settings: PrepareSettings | None = None) -> Exposure:
    """Remove the sky, measure the noise, complete the mask.

    Parameters
    ----------
    exposure : Exposure, CCDData, NDData, array (ny, nx) or path
        An image as it is, or a file as `psflib.read` reads it; an Exposure is returned unchanged
        if it has been prepared before.

    Returns
    -------
    Exposure
        With `sky` (ADU, the level removed), `variance` (ADU²), and in `meta`: `sky_rms` (ADU),
        `fwhm` (px, of the stars, a first guess), `gain_told` (e-/ADU, what the header or the user
        says; None if nothing), in a crowd `confusion` (ADU, rms of the unresolved stars, not in the
        variance), of a colour mosaic `mosaic` (sigma, see `mosaic_of`), and `notes` (what was
        measured, in sentences).

    Raises
    ------
    BadImage
        If no pixel is usable, or all usable pixels hold one value.
    BadFile
        If it is a file that cannot be read.
    ValueError
        If it is no image.
    """
    exposure = read(exposure) if isinstance(exposure, str | Path) else as_exposure(exposure)
    if exposure.sky is not None and "fwhm" in exposure.meta:
        return exposure
    if exposure.sky is not None and exposure.variance is not None:
        return _with_fwhm(exposure, settings or PrepareSettings())
    settings = settings or PrepareSettings()
    notes = list(exposure.meta.get("notes", []))
    _check_usable(exposure)
    exposure = _without_empty_areas(_in_a_fit_unit(exposure, notes), notes)
    saturation = _saturation(exposure, notes)
    mask = exposure.mask.copy()
    _mask_saturated(exposure.image, mask, saturation, settings, notes)
    sky = fit_sky(exposure.image, mask == 0, box=settings.sky_box, order=settings.sky_order)
    image = exposure.image - sky.level
    if settings.bad_lines:
        _mask_bad_lines(image, mask, sky.rms, notes)
    _mask_dark(image, mask, sky.rms, notes)
    check_mask(exposure, image, sky)
    sky, confusion = _without_crowd(image, sky, mask, settings, notes)
    variance, gain = _variance(exposure, image, sky, mask, notes)
    told = {"gain_told": exposure.gain, **confusion, **_mosaic(image, sky, mask, notes)}
    fwhm, narrow, stars = _widths(image, variance, mask, settings)
    if settings.cosmic_rays:
        rays = spare_stars(
            image, variance, mask != 0, stars, fwhm=narrow, threshold=settings.cosmic_ray_sigma
        )
        rays |= lobes(image, variance, rays) & (mask == 0)
        mask[rays] |= np.uint16(MaskBit.CR)
        notes.append(f"cosmic-ray pixels masked: {int(rays.sum())}")
    no_data = has_bits(mask, MaskBit.NO_DATA)
    image[no_data] = 0
    variance[no_data] = 0
    notes.append(
        f"sky {sky.median_level:.6g} ADU, sky noise {sky.median_rms:.4g} ADU, FWHM {fwhm:.2f} px"
    )
    told |= {"notes": notes, "sky_rms": sky.median_rms, **_seeing(fwhm, settings)}
    return exposure.replace(
        image=image, variance=variance, mask=mask, mask_bits=OWN_BITS, sky=sky.median_level,
        saturation=saturation, gain=gain, meta={**exposure.meta, **told},
    )  # fmt: skip


def _with_fwhm(exposure, settings):
    """An exposure that somebody else made free of sky, with the seeing measured."""
    fwhm, *_ = _widths(exposure.image, exposure.variance, exposure.mask, settings)
    rms = float(np.sqrt(np.median(exposure.variance[exposure.usable])))
    return exposure.replace(meta={**exposure.meta, **_seeing(fwhm, settings), "sky_rms": rms})


def _widths(image, variance, mask, settings):
    """FWHM (px) of the stars, across their narrow side, and (x, y) of those that told it."""
    if settings.fwhm is not None:
        return settings.fwhm, settings.fwhm, np.empty((0, 2))
    return measure_widths(image, variance, mask)


def _seeing(fwhm, settings):
    """What later stages know of the width: it is measured anew by none if it was given."""
    return {"fwhm": fwhm} if settings.fwhm is None else {"fwhm": fwhm, "fwhm_given": True}


def _check_usable(exposure):
    usable = exposure.usable
    if not usable.any():
        raise BadImage("no usable pixel: all are masked or not finite")
    values = exposure.image[usable]
    if values.min() == values.max():
        raise BadImage(f"all usable pixels hold the value {values[0]:g}: this is not a sky image")


def _in_a_fit_unit(exposure, notes):
    """The exposure in units in which its variance will be a number of float32."""
    seen = exposure.usable[:, 1:] & exposure.usable[:, :-1]
    steps = np.diff(exposure.image, axis=1)[seen]
    unit = unit_for(robust_std(steps[:: max(1, steps.size // 100_000)].astype(float)))
    exposure = exposure if unit == 1 else exposure.in_unit(unit)
    if "unit" in exposure.meta:
        notes.append(
            f"pixel values are kept in units of {exposure.meta['unit']:.6g}: their squares are "
            "beyond float32; candidates have the image's own"
        )
    return exposure


def _without_empty_areas(exposure, notes):
    empty, values = empty_areas(exposure.image, exposure.usable)
    if not empty.any():
        return exposure
    mask = exposure.mask.copy()
    mask[empty] |= np.uint16(MaskBit.NO_DATA)
    listed = ", ".join(f"{value:.6g}" for value in values)
    notes.append(f"no data where the image holds {listed}: {empty.mean():.2%} of it")
    made = exposure.replace(mask=mask, mask_bits=OWN_BITS)
    _check_usable(made)
    return made


def _saturation(exposure, notes):
    """Saturation level in ADU: the header's, or the pile-up of bright pixels if that is lower."""
    pile = pile_up(exposure.image[exposure.usable])
    given = exposure.saturation
    if given is None and pile is None:
        notes.append("no saturation level given and no pile-up of bright pixels: none masked")
        return None
    if pile is not None and (given is None or pile < 0.9 * given):
        notes.append(f"saturation measured from the pile-up of bright pixels: {pile:.6g} ADU")
        return pile
    return given


def pile_up(values: np.ndarray) -> float | None:
    """Level at which bright pixels pile up, or None.

    Star profiles make the density of pixels per ln(value) fall towards bright values; where it
    rises again, just below the maximum, the detector or the converter had no more to give.
    """
    median = float(np.median(values[:: max(1, len(values) // 100_000)]))
    bright = np.sort(values[values > median + 0.05 * (values.max() - median)]) - median
    if len(bright) < 20:
        return None
    top = bright[-3]  # the two highest may be hot pixels or cosmic rays
    n_pile = len(bright) - np.searchsorted(bright, 0.92 * top)
    n_below = np.searchsorted(bright, 0.92 * top) - np.searchsorted(bright, 0.5 * top)
    expected = n_below * np.log(1 / 0.92) / np.log(0.92 / 0.5)
    if n_pile < 15 or n_pile < 1.7 * expected + 3 * np.sqrt(expected):
        return None
    return median + float(np.median(bright[-n_pile:]))


def _mask_saturated(image, mask, saturation, settings, notes):
    if saturation is None:
        return
    full = image >= settings.saturation_margin * saturation
    hot = without_light_around(image, full)
    if hot.any():
        full &= ~hot
        mask[hot] |= np.uint16(MaskBit.BAD)
        notes.append(f"hot pixels masked, above saturation without light around: {hot.sum()}")
    y, x = true_pixels(full)
    mask[_grown(y, x, settings.saturation_grow, full.shape)] |= np.uint16(MaskBit.SAT)


def _grown(y, x, radius, shape):
    """Pixels within `radius` steps along rows and columns of these, each perhaps several times."""
    j, i = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1)
    near = np.abs(j) + np.abs(i) <= radius
    y, x = np.add.outer(y, j[near]).ravel(), np.add.outer(x, i[near]).ravel()
    inside = (y >= 0) & (x >= 0) & (y < shape[0]) & (x < shape[1])
    return y[inside], x[inside]


def _mask_dark(image, mask, rms, notes):
    """Pixels far below the sky and their surroundings: dead ones, and values that mean no data.

    Areas of such a value are known already (`no_data`), lines are another matter
    (`bad_lines`), and vignetted corners are dark as a whole.
    """
    y, x = true_pixels((image < -DARK * rms) & (mask == 0))
    if not 0 < len(y) <= MOST_DARK * image.size:
        return
    padded = np.pad(image, 2, mode="symmetric")
    around = [padded[y + j, x + i] for j in range(5) for i in range(5)]
    limit = np.median(around, axis=0) - DARK * rms[y, x]
    lone = (image[y, x] < limit) & (np.sum(around < limit, axis=0) <= LONE)
    if lone.any():
        mask[y[lone], x[lone]] |= np.uint16(MaskBit.BAD)
        notes.append(f"dead pixels masked, {DARK:g} sigma below the sky: {lone.sum()}")


def _mask_bad_lines(image, mask, rms, notes):
    """Columns and rows whose median stands out from their neighbours' by 8 standard errors."""
    lines = np.empty((2, image.shape[1])), np.empty((2, image.shape[0]))
    loops.line_means(image, rms, mask, CLIP, *lines)
    for axis, name in ((0, "column"), (1, "row")):
        limit = np.maximum(8 * 1.2533 / np.sqrt(np.maximum(lines[axis][1], 1)), 0.5)
        # medians of digitised noise jump by a whole ADU; the mean does not
        if not (np.abs(_off_trend(lines[axis][0])) > 0.5 * limit).any():
            continue
        planes = (image, rms, mask) if axis == 0 else (image.T, rms.T, mask.T)
        median, mean = np.empty((2, image.shape[1 - axis]))
        count = np.empty(len(median), np.int64)
        loops.line_statistics(*planes, CLIP, median, mean, count)
        bad = (np.abs(_off_trend(median)) > limit) & (np.abs(_off_trend(mean)) > 0.5 * limit)
        if not 0 < bad.sum() <= 0.02 * len(bad) + 1:
            continue  # none, or a pattern of the whole detector rather than bad lines
        mask[(slice(None), bad) if axis == 0 else (bad, slice(None))] |= np.uint16(MaskBit.BAD)
        notes.append(f"bad {name}s masked: {', '.join(map(str, np.flatnonzero(bad)))}")
        loops.line_means(image, rms, mask, CLIP, *lines)


def _off_trend(profile):
    """Profile minus its running median; NaN, which is never large, where a line has no data."""
    return profile - ndimage.median_filter(np.nan_to_num(profile), 11)


def _without_crowd(image, sky: Sky, mask, settings, notes):
    """The sky with the noise of its pixels alone, and what `meta` holds of its stars."""
    usable = mask == 0
    if not is_alike(image, sky.rms, usable):
        return sky, {}
    fwhm, *_ = _widths(image, np.square(sky.rms), mask, settings)
    share = share_of_stars(image, sky.rms, usable, fwhm)
    if not share.any():
        return sky, {}
    notes.append(
        f"crowded: up to {100 * share.max():.0f} % of the sky's scatter (its variance) is "
        "unresolved stars, which the noise leaves out"
    )
    confusion = float(np.sqrt(np.mean(share * np.square(sky.rms))))
    return Sky(sky.level, sky.rms * np.sqrt(1 - share)), {"confusion": confusion}


def _mosaic(image, sky, mask, notes):
    """What `meta` holds of a colour mosaic, which is said; nothing of any other image."""
    apart = mosaic_of(image, (mask == 0) & (np.abs(image) < 5 * sky.rms), sky)
    if not apart > MOSAIC:
        return {}
    notes.append(
        f"the skies of even and odd rows and columns are {apart:.2g} sigma apart: a raw "
        "frame of a colour camera? Split it into its colours: each has its own PSF"
    )
    return {"mosaic": apart}


def _variance(exposure, image, sky: Sky, mask, notes):
    """Variance plane: the given one, or sky noise plus photon noise of the sources."""
    usable = mask == 0
    gain = exposure.gain
    if gain is not None or exposure.variance is not None:
        empty = usable & (np.abs(image) < 3 * sky.rms)
        measured = sky_variances(image, empty, sky)
        gain = checked_gain(exposure, sky, measured, usable, notes)
    if exposure.variance is not None:
        variance = steady_variance(exposure, image, empty, notes)
        if variance is not exposure.variance:
            exposure = exposure.replace(variance=variance)
        check_variance(exposure, empty, measured)
        absurd = absurd_variances(exposure.variance, usable)
        if absurd.any():
            mask[absurd] |= np.uint16(MaskBit.BAD)
            notes.append(f"{absurd.sum()} pixels masked: a variance far below their neighbours'")
        variance = exposure.variance.copy()
        if exposure.meta.get("source_noise") is False:
            _complete(variance, image, sky, gain, mask, notes)
        return variance, gain
    if gain is None:
        gain = _gain_from_sky(sky, notes)
    variance = np.square(sky.rms)
    if gain is not None:
        variance += _photon_noise(image, sky, gain, mask)
    notes.append(
        "variance measured: sky noise of the image" + (" and photon noise" if gain else "")
    )
    return variance, gain


def _photon_noise(image, sky, gain, mask):
    """Variance of the sources' own light; `image` without sky."""
    image = np.where(has_bits(mask, MaskBit.BAD | MaskBit.NO_DATA), 0, image)
    # faint pixels take an average of their neighbours: weights that follow the noise bias the fits
    share = np.float32(own_share(SMOOTHING))
    around = (smoothed(image, SMOOTHING) - share * image) / (1 - share)
    source = np.where(image > 5 * sky.rms, image, around)
    return np.maximum(source, 0, out=source) / np.float32(gain)


def _complete(variance, image, sky, gain, mask, notes):
    """Photon noise of the sources into a given plane that is known to lack it."""
    if gain is None:
        notes.append("the variance lacks the photon noise of sources, and no gain is known")
        return
    known = variance > 0
    variance[known] += _photon_noise(image, sky, gain, mask)[known]
    notes.append("photon noise of sources is added to the variance, which lacks it")


def _gain_from_sky(sky, notes):
    """Gain for want of a better one: sky level / sky variance, if the image still has its sky."""
    gain = sky.median_level / sky.median_rms**2
    if sky.median_level < 5 * sky.median_rms:
        notes.append(
            "no gain given and no sky to measure it from: photon noise of sources left out"
        )
        return None
    notes.append(f"no gain given: {gain:.3g} e-/ADU taken from the sky's level and noise")
    return gain
