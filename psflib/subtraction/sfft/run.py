"""`run_sfft`: the interface of STDPipe's SFFT, on our own fit.

Hu et al. 2022, ApJ 936, 157; STDPipe: Karpov 2021, ascl:2112.006.  What differs: strengths are in
units of the data, so that the result does not depend on the images'; pixels are rejected in units
of the noise, so that bright stars keep their cores; regions around objects save time.
"""

import dataclasses
import logging

import numpy as np
from scipy import ndimage
from threadpoolctl import threadpool_limits

from psflib.errors import BadImage
from psflib.image import polynomial
from psflib.image.weights import weight_variance
from psflib.matching import pixels
from psflib.matching.background import background_of_sky
from psflib.subtraction.arrays import (
    check_shapes,
    exposure_of,
    speaker,
    takes_planes,
    usable_pixels,
)
from psflib.subtraction.sfft.fit import Fitted, Planes, Rules, fit, is_sparse, noise_variance
from psflib.subtraction.sfft.model import Model
from psflib.subtraction.sfft.regions import ObjectChoice, choose_pixels
from psflib.subtraction.sfft.result import SFFTResult, in_units
from psflib.subtraction.sfft.solver import Penalties

log = logging.getLogger(__name__)


@threadpool_limits.wrap(limits=1, user_api="blas")  # the same bits whatever the threads
@takes_planes
def run_sfft(
    image, template, mask=None, template_mask=None, err=None, template_err=None, image_gain=None,
    template_gain=None, kernel_shape=(7, 7), kernel_poly_order=2, bg_poly_order=2,
    flux_poly_order=1, flux_penalty=1000.0, ridge=1e-06, sigma_clip=3.0, max_iter=5, obj=None,
    obj_size=None, obj_grid=4, obj_per_cell=10, obj_max_masked_fraction=0.5, get_convolved=False,
    get_scaled=False, get_noise=False, get_kernel=False, verbose=False, *, assembly="auto",
    flux_constraint="soft", smooth=0.0, kernel_spline=None, noise_correction=False,
    legacy_units=False,
):  # fmt: skip
    """Subtract a template, convolved with a delta-function kernel that varies over the field.

    Parameters
    ----------
    {planes}
    err, template_err : ndarray (ny, nx) or True, optional
        Sigma of each pixel, ADU; pixels are weighted by them.  True measures it: noise of the sky,
        and photon noise of what exceeds it if there is a gain.  None for both: no weights, and the
        measured noise for what is returned.  `err` alone: the template is taken as free of noise.
    image_gain, template_gain : float, optional
        e-/ADU.
    kernel_shape : (int, int)
        (ky, kx) in px, odd.
    kernel_poly_order, bg_poly_order, flux_poly_order : int
        Degrees of the kernel's variation, of the differential background and of the flux scale.
    flux_penalty, ridge : float
        Strength of the constraint of the flux scale, and of what holds down each pixel of the
        kernel, in units of the mean diagonal of the kernel's normal matrix.
    sigma_clip : float
        Pixels off by more are left out, with their neighbours, in sigma of the noise or, if it is
        larger, of the scatter of equally bright pixels; 0 keeps all.
    max_iter : int
        Most solutions, at least 1; all but the last are followed by a rejection.
    obj : Table, optional
        Objects, 0-based x and y in px; only boxes about them are fitted.  Those with `flags` are
        not used; `flux`, over `fluxerr` if there is one, tells which are the best.  If the boxes
        hold fewer than 10 pixels for each unknown, all pixels are fitted.
    obj_size : int, optional
        Half size of a box, px; 3 median `fwhm` of `obj`, or 15.
    obj_grid, obj_per_cell : int
        Cells along each axis, and most objects of a cell; None is one cell, or all objects.
    obj_max_masked_fraction : float
        Share of masked pixels above which a box is not used.
    get_convolved, get_scaled, get_noise, get_kernel : bool
        Return also, in this order: the convolved template, without the differential background;
        the difference in sigma; sigma of the difference; an `SFFTResult`.
    {verbose}
    assembly : "auto", "fourier", "tiles" or "gram"
        How the normal equations are made: from Fourier transforms (exact, no weights), from small
        tiles, or pixel by pixel (exact, slow); auto takes the cheaper of the first two.
    flux_constraint : "soft" or "hard"
        A penalty, or no kernel sum beyond `flux_poly_order` at all.
    smooth : float or "gcv"
        Strength of a penalty on the kernel's Laplacian; "gcv" lets the data choose.
    kernel_spline : (int, int), optional
        B-spline coefficients (along y, along x) that take the place of `kernel_poly_order`.
    noise_correction : bool
        Undo the shrinkage of the kernel that the noise of the template causes.
    legacy_units : bool
        `flux_penalty`, `ridge` and `smooth` are absolute, as STDPipe's were before 0.4.1.

    Returns
    -------
    ndarray (ny, nx) float32, or list of it and what was asked for
        Elsewhere than at `SFFTResult.dmask`, where the difference is 0,
        image = difference + convolved + background.

    Raises
    ------
    ValueError
        Shapes that differ, an even or too large kernel, unknown options.
    BadImage, SingularFit
        The data do not allow it; numbers are in the message.
    """
    say = speaker(verbose, log)
    check_shapes(image, template)
    quiet = err is not None and template_err is None
    science, unit = _in_noise("image", image, mask, err, image_gain, legacy_units)
    reference, own = _in_noise(
        "template", template, template_mask, np.ones(np.shape(template)) if quiet else template_err,
        template_gain, legacy_units,
    )  # fmt: skip
    model = _model(science.shape, kernel_shape, kernel_poly_order, bg_poly_order, flux_poly_order,
                   kernel_spline)  # fmt: skip
    weighted = err is not None or template_err is not None
    penalties = Penalties(ridge, flux_penalty, flux_constraint, smooth, absolute=legacy_units)
    rules = _rules(assembly, weighted, sigma_clip, max_iter, noise_correction, penalties)
    good, edges = _good(model, science, reference)
    choice = ObjectChoice(obj_size, obj_grid, obj_per_cell, obj_max_masked_fraction)
    seen = science.usable & reference.usable
    use, model, flags = choose_pixels(model, good, seen, obj, choice)
    planes = _planes(science, reference, use, quiet)
    fitted = fit(model, planes, rules)
    claimed = _variances(science, reference, quiet)
    if rules.clip and not is_sparse(use, fitted.assembly):
        fitted = _with_background_of_sky(fitted, planes, good)
    for note in flags:
        log.warning(note)
    light = planes.target - fitted.residual
    if is_sparse(use, fitted.assembly):
        light = model.matched(fitted.solution, planes.template)
    sigma = np.sqrt(noise_variance(model, fitted.solution, claimed))
    rest = np.where(good, planes.target - light, 0).astype(np.float32)
    levels = unit * float(science.sky), own * float(reference.sky)
    difference, noise = rest * np.float32(unit), sigma * np.float32(unit)
    result = SFFTResult(
        difference, (unit * light + levels[0]).astype(np.float32), noise, ~good, edges, model,
        in_units(fitted, unit, own, weighted), levels, weighted, template_err is not None, flags,
    )  # fmt: skip
    say(
        f"SFFT: {result.n_good} pixels, {result.n_iter} solutions, {result.assembly}, "
        f"rms {result.rms:.4g}" + "".join(f"; {note}" for note in flags)
    )
    wanted = (
        (get_convolved, lambda: result.convolved), (get_scaled, lambda: rest / sigma),
        (get_noise, lambda: noise), (get_kernel, lambda: result),
    )  # fmt: skip
    chosen = [difference, *[value() for asked, value in wanted if asked]]
    return chosen if len(chosen) > 1 else difference


def _in_noise(name, image, mask, err, gain, as_is):
    """An image in units of its own scatter, and that unit; so other units change no bit."""
    plane, good = usable_pixels(name, image, mask)
    some = pixels.sample(plane, good)
    spread = np.abs(some - np.median(some))
    unit = float(np.median(spread)) or float(np.mean(spread))
    unit = 1.0 if as_is else unit
    if err is not None and not isinstance(err, bool | np.bool_):
        err = np.asarray(err, float) / unit
    return exposure_of(name, plane / unit, mask, err, gain * unit if gain else gain), unit


def _model(shape, kernel_shape, order, bg_order, flux_order, spline) -> Model:
    """The model that is asked for, if it makes sense."""
    sides = tuple(int(n) for n in np.atleast_1d(kernel_shape))
    sides = sides * 2 if len(sides) == 1 else sides
    if len(sides) != 2 or any(n < 1 or n % 2 == 0 for n in sides):
        raise ValueError(f"kernel_shape must be two odd numbers; got {kernel_shape}")
    if any(2 * k > n for k, n in zip(sides, shape, strict=True)):
        raise ValueError(f"a kernel of {sides} is too large for an image of {shape}")
    if min(order, bg_order, flux_order) < 0:
        raise ValueError(f"degrees cannot be negative; got {order}, {bg_order}, {flux_order}")
    if spline is not None:
        spline = tuple(int(n) for n in spline)
        if len(spline) != 2 or min(spline) < 1:
            raise ValueError(f"kernel_spline must be two positive numbers; got {spline}")
        order = min(3, min(spline) - 1)
    if flux_order > order:
        raise ValueError(f"flux_poly_order {flux_order} exceeds the kernel's degree {order}")
    return Model(shape, sides, order, bg_order, flux_order, spline)


def _rules(assembly, weighted, clip, max_iter, corrected, penalties) -> Rules:
    """Options of the fit, if they make sense."""
    if not max_iter >= 1:
        raise ValueError(f"max_iter must be at least 1; got {max_iter}")
    if penalties.constraint not in ("soft", "hard"):
        raise ValueError(f"unknown flux_constraint {penalties.constraint!r}; one of soft, hard")
    smooth, clip = penalties.smooth, clip or 0
    if isinstance(smooth, str) and smooth != "gcv":
        raise ValueError(f"smooth is a number or 'gcv'; got {smooth!r}")
    numbers = {
        "flux_penalty": penalties.flux, "ridge": penalties.ridge, "sigma_clip": clip,
        "smooth": 0 if smooth == "gcv" else smooth,
    }  # fmt: skip
    for name, value in numbers.items():
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a number that is not negative; got {value}")
    clip = clip if max_iter > 1 else 0
    return Rules(assembly, weighted, clip, int(max_iter) - 1, penalties, corrected)


def _good(model, science, reference):
    """Where the difference means something, and the border where the kernel reaches beyond."""
    hy, hx = model.half
    edges = np.ones(model.shape, bool)
    edges[hy : model.shape[0] - hy, hx : model.shape[1] - hx] = False
    seen = ndimage.maximum_filter(~reference.usable, model.kernel_shape, mode="constant")
    good = science.usable & ~seen & ~edges
    if not good.any():
        raise BadImage(
            f"no pixel is left: {100 * np.mean(~science.usable):.0f} % of the image are masked, "
            f"and the kernel of {model.kernel_shape} reaches masked pixels of the template "
            f"from {100 * np.mean(seen):.0f} %"
        )
    return good, edges


def _with_background_of_sky(fitted: Fitted, planes, good) -> Fitted:
    """The fit with the background that the sky asks for; plain least squares are left as they are.

    The seeing is not known: a third of the kernel is room enough around a source.
    """
    model = fitted.solver.model
    noise = noise_variance(model, fitted.solution, planes.variance)
    light = planes.target - fitted.residual
    fwhm = max(2.0, max(model.kernel_shape) / 3)
    more = background_of_sky(
        fitted.residual.astype(np.float32), noise, light.astype(np.float32), good, fwhm,
        model.bg_order,
    )  # fmt: skip
    if more is None:
        return fitted
    left = fitted.residual - polynomial.product_map(more, model.bg_order, model.shape)
    solution = fitted.solution.copy()
    solution[model.n_kernel :] += more
    return dataclasses.replace(fitted, solution=solution, residual=left)


def _planes(science, reference, use, quiet) -> Planes:
    """Planes without holes: what is masked has the value 0 and the typical variance.

    quiet : the template has no noise
    """
    return Planes(
        np.where(science.usable, science.image, 0).astype(np.float32),
        np.where(reference.usable, reference.image, 0).astype(np.float32),
        _variances(science, reference, quiet, weight_variance), use,
    )  # fmt: skip


def _variances(science, reference, quiet, of=lambda image, variance, known: variance):
    """Variances of both images, as claimed or as `of` makes them, without holes."""
    found = []
    for exposure in (science, reference):
        known = exposure.usable & (exposure.variance > 0)
        variance = of(exposure.image, exposure.variance, known)
        typical = np.median(pixels.sample(variance, known))
        found.append(np.where(known, variance, typical).astype(np.float32))
    if quiet:
        found[1] = np.zeros_like(found[1])
    return tuple(found)
