"""Method `zogy` of the stage `subtract`: proper image subtraction of prepared images."""

import itertools

import numpy as np

from psflib.decorrelation.filters import cut, reach
from psflib.image import polynomial
from psflib.image.convolve import blend_nodes, constant_kernel, convolve_by_tiles, edge_grid
from psflib.image.difference import Difference
from psflib.image.exposure import UNUSABLE, Exposure, MaskBit, has_bits
from psflib.image.noise import empty_sky, robust_std
from psflib.settings.subtract import ZogySettings
from psflib.subtraction import doubts
from psflib.subtraction.al import correlation
from psflib.subtraction.zogy.kernel import implied_kernel
from psflib.subtraction.zogy.mask import doubt_of_fill, proper_mask
from psflib.subtraction.zogy.pair import MatchedPair, MatchOptions, masked_share, match_pair
from psflib.subtraction.zogy.planes import node_filters, proper_difference
from psflib.subtraction.zogy.psf import StampPsf, stamp_psf
from psflib.subtraction.zogy.scale import scale_of_pixels
from psflib.subtraction.zogy.tiles import Tiling, node_tiling

COUNTS = (1, 3, 5, 9)  # nodes an axis; each grid but the first holds the one before
COVERED = 0.5  # share of the PSF that must fall on usable pixels for a score
EMPTIEST = 0.2  # share of the pixels, those with the least light, that tell it
TOO_FAR = 0.1  # of the predicted noise, that the measured may be off if inputs seem correlated


def subtract(science: Exposure, template: Exposure, settings: ZogySettings, psf_of) -> Difference:
    """Proper difference, its variance and its score S_corr.

    Parameters
    ----------
    science, template : Exposure
        Prepared, on one grid.
    psf_of : callable (Exposure) -> PSF with ``at(x, y, size)``
        Called once for each image.

    Returns
    -------
    Difference
        White already: `whitening` is the filter of the science image, `score` S_corr, and
        `decorrelate` passes it through.  `kernel` is the kernel that the PSFs imply.
    """
    if science.shape != template.shape:
        raise ValueError(f"images {science.shape} and {template.shape} differ in shape")
    models = psf_of(science), psf_of(template)
    psfs = tuple(
        stamp_psf(name, model, science.shape, exposure.meta["fwhm"], settings.psf_clean)
        for name, model, exposure in zip(
            ("the science image's PSF", "the template's PSF"), models, (science, template),
            strict=True,
        )
    )  # fmt: skip
    support = max(psf.size for psf in psfs)
    count = settings.nodes or _enough_nodes(psfs, science.shape, settings.accuracy)
    tiles = node_tiling(science.shape, count, support)
    rho = correlation(science), correlation(template)
    matched, made = _proper(science, template, psfs, tiles, support, rho, settings)
    if any(r is not None for r in rho):
        factor = _noise_factor(science, made, matched.bad)
        if abs(factor - 1) > TOO_FAR:  # crowded: unresolved stars look like correlated noise
            other = _proper(science, template, psfs, tiles, support, (None, None), settings)
            if abs(_noise_factor(science, other[1], matched.bad) - 1) < abs(factor - 1):
                (matched, made), rho = other, (None, None)
    return _difference((science, template), models[0], matched, made, tiles, support, rho, settings)


def _proper(science, template, psfs, tiles, support, rho, settings):
    flux = scale_of_pixels(science, template)
    options = MatchOptions(
        scale=1 / flux if flux else 1.0, scale_order=settings.scale_order,
        background_order=settings.background_order, rho=rho, flux_range=settings.flux_range,
    )  # fmt: skip
    matched = match_pair(science, template, psfs, tiles, support, options)
    error = settings.astrometric_error
    return matched, proper_difference(
        matched.pair, tiles, support, (error, error), settings.psf_error, with_variance=True
    )


def _enough_nodes(psfs: tuple[StampPsf, ...], shape, accuracy) -> int:
    """Nodes an axis between which both PSFs are linear to `accuracy`."""
    stamps = _grids(psfs, shape, COUNTS[1])
    middle = [grid[1:2, 1:2] for grid in stamps]
    if max(_error(m, g) for m, g in zip(middle, stamps, strict=True)) < accuracy:
        return COUNTS[0]
    for count, finer in itertools.pairwise(COUNTS[1:]):
        fine = _grids(psfs, shape, finer)
        error = max(_error(_midway(c), f) for c, f in zip(stamps, fine, strict=True))
        if error < accuracy:
            return count
        stamps = fine
    return COUNTS[-1]


def _grids(psfs, shape, count):
    """Stamps of each PSF at count x count nodes."""
    x, y = edge_grid(shape, count)
    return [np.array([[psf.at(i, j) for i in x] for j in y]) for psf in psfs]


def _midway(coarse):
    """Bilinear blend of stamps at the nodes of the next finer grid."""
    n = 2 * len(coarse) - 1
    fine = np.empty((n, n, *coarse.shape[2:]))
    fine[::2, ::2] = coarse
    fine[1::2, ::2] = (coarse[1:] + coarse[:-1]) / 2
    fine[:, 1::2] = (fine[:, 2::2] + fine[:, :-2:2]) / 2
    return fine


def _error(blend, stamps):
    return (np.abs(blend - stamps).sum((2, 3)) / np.abs(stamps).sum((2, 3))).max()


def _noise_factor(science, made, bad):
    """Measured over claimed noise of D in empty sky; NaN if there is too little to tell."""
    usable = ~bad & (made.variance > 0)
    sky = empty_sky(science.image, science.variance, usable, science.meta["fwhm"])
    if sky.sum() < 1000:
        return float("nan")
    return robust_std(made.image[sky] / np.sqrt(made.variance[sky]))


def _difference(images, psf, matched: MatchedPair, made, tiles: Tiling, support, rho, settings):
    """Masks, kernel and PSF of the difference."""
    science, template = images
    whitening, filters, psf_d = _filters(matched, tiles, support)
    pair = matched.pair
    sigma = [np.sqrt(v) for v in pair.noise(*_centre(science.shape))]
    doubt = doubt_of_fill(
        (pair.science, pair.template), [~e.usable for e in images], filters, sigma
    )
    spoiled = np.square(doubt) > np.float32(settings.doubt**2) * made.variance
    mask = proper_mask(science, template, filters, spoiled, settings.bad_fraction)
    area = np.float32(1 / np.square(psf_d).sum())
    most = np.float32(doubts.MOST_DOUBT * np.median(made.variance[::7, ::7]))
    added = np.minimum(area * np.square(doubt), most)
    added += _crowded_offset(matched, made, ~has_bits(mask, UNUSABLE))
    variance = made.variance + np.maximum(added, -doubts.MOST_TAKEN * made.variance)
    score = made.flux / np.sqrt(
        made.flux_variance * (variance / made.variance)
        + (0 if made.systematic is None else made.systematic)
    )
    score[masked_share(has_bits(mask, UNUSABLE), np.square(psf_d)) > 1 - COVERED] = 0
    no_data = has_bits(mask, MaskBit.NO_DATA)
    for plane in (made.image, variance, score):
        plane[no_data] = 0
    notes = [*matched.alignment.notes, _sentence(matched, tiles)]
    meta = {"method": "zogy", "notes": notes, "lowered": matched.scale_order < settings.scale_order}
    scales = polynomial.product_map(matched.scale, matched.scale_order, science.shape)
    meta |= {"kernel_sum_min": float(scales.min()), "kernel_sum_max": float(scales.max())}
    kernel = implied_kernel(matched, tiles.nodes, support, meta)
    return Difference(
        made.image, variance, mask, kernel, psf, science.wcs, science, template,
        whitening=whitening, score=score.astype(np.float32, copy=False),
        meta={**meta, "convolved": "both", "noise_correlation": rho, "white": True},
    )  # fmt: skip


def _crowded_offset(matched, made, usable):
    """What the variance of a crowded sky lacks, ADU², told by the difference; 0 if not crowded."""
    pair = matched.pair
    psf = pair.psfs(*_centre(usable.shape))[0]
    light = convolve_by_tiles(pair.template, psf[None], max(usable.shape), tolerance=1e-2)
    sky = usable & (np.abs(light) < np.float32(np.sqrt(np.median(pair.var_n[::7, ::7]))))
    if not doubts.is_crowded(sky, usable):
        return np.float32(0)
    emptiest = usable & (light < np.quantile(light[usable][::7], EMPTIEST))
    return doubts.sky_offset(made.image, made.variance, emptiest)


def _filters(matched, tiles, support):
    """c_n over the field, (c_n, c_r) at its centre, and P_D there."""
    half = min(support, (min(matched.bad.shape) - 1) // 2)
    science, template, psf = node_filters(matched.pair, tiles, support, half)
    small = cut(science, reach(science.reshape(-1, *science.shape[2:])))
    whitening = constant_kernel(small[0, 0])
    if len(tiles) > 1:
        whitening = blend_nodes(small, *tiles.nodes)
    middle = len(tiles.rows) // 2, len(tiles.columns) // 2
    return whitening, (science[middle], template[middle]), psf[middle]


def _sentence(matched, tiles):
    x, y = _centre(matched.bad.shape)
    dx, dy = matched.alignment.shift
    return (
        f"proper subtraction with PSFs at {len(tiles.columns)} x {len(tiles.rows)} places: flux "
        f"scale {float(matched.scale_at(x, y)):.5g} (degree {matched.scale_order}), template "
        f"displaced by ({dx:.3f}, {dy:.3f}) px"
    )


def _centre(shape):
    return (shape[1] - 1) / 2, (shape[0] - 1) / 2
