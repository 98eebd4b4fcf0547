"""Regions of independent kernels: fitted one by one with a margin, and put together."""

import dataclasses
import logging

import numpy as np
from astropy.io import fits
from astropy.table import Table
from scipy import ndimage

from psflib.image.fill import fill_masked
from psflib.image.weights import weight_variance
from psflib.matching.apply import convolved_exposure, subtract_matched
from psflib.matching.background import background_of_sky
from psflib.subtraction.hotpants import header as cards
from psflib.subtraction.hotpants.masks import IS_BAD, output_mask
from psflib.subtraction.hotpants.stamps import StampFit, fit_stamps

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Planes:
    """Everything that can be returned or written; planes (ny, nx) float32, mask uint16.

    cells : list of (SpatialCellSet, (y0, x0)), the substamps of each region and its first pixel
    """

    difference: np.ndarray
    convolved: np.ndarray
    scaled: np.ndarray
    noise: np.ndarray
    mask: np.ndarray
    kernels: Table
    header: fits.Header
    cells: list


def subtract_regions(science, template, options, say) -> Planes:
    """Each region with its own kernel, computed with a margin so that no seam lacks light.

    Parameters
    ----------
    science, template : Exposure
        Without their medians; meta has `level`, `fit` (pixels that may be fitted) and `bits`.
    options : HotpantsOptions
    say : callable
        Gets a line on each region.
    """
    empty = [options.fi] * 3 + [options.fin]
    planes = [np.full(science.shape, value, np.float32) for value in empty]
    mask = np.full(science.shape, IS_BAD, np.uint16)
    rows, cells, header = [], [], fits.Header()
    margin = options.r + options.rss
    for number, (ys, xs) in enumerate(_split(science.shape, options)):
        outer = tuple(
            slice(max(s.start - margin, 0), min(s.stop + margin, n))
            for s, n in zip((ys, xs), science.shape, strict=True)
        )
        one, two = (_cut(e, outer) for e in (science, template))
        fit, made = _subtract(one, two, _shifted(options, outer))
        if options.sconv:
            options = options.model_copy(update={"c": fit.kernel.convolved[0].replace("s", "i")})
        core = tuple(
            slice(s.start - o.start, s.stop - o.start) for s, o in zip((ys, xs), outer, strict=True)
        )
        row = _row(number, fit, (ys, xs), outer)
        cards.describe(header, number, fit, row, made, core, options)
        good = (made[4] & IS_BAD) == 0
        for plane, part, value in zip(planes, made[:4], empty, strict=True):
            shown = part[core] if plane is planes[1] else np.where(good[core], part[core], value)
            plane[ys, xs] = shown
        mask[ys, xs] = made[4][core]
        for note in fit.notes:
            log.warning("region %d: %s", number, note)
        rows.append(row)
        cells.append((fit.cells, (outer[0].start, outer[1].start)))
        say(
            f"region {number}: {fit.n_stamps} substamps, merit {fit.merit:.3f}, "
            f"kernel sum {row['ksum']:.5f}" + "".join(f"; {note}" for note in fit.notes)
        )
    header["NSTAMPS"] = (sum(r["n_stamps"] for r in rows), "substamps used")
    difference, convolved, scaled, noise = planes
    return Planes(difference, convolved, scaled, noise, mask, Table(rows), header, cells)


def _split(shape, options):
    """Rows and columns of each region, within the good part of the image."""
    if options.gd is None:
        x0, x1, y0, y1 = 0, shape[1], 0, shape[0]
    else:
        x0, x1, y0, y1 = (round(v) for v in options.gd)
        x0, y0 = max(x0, 0), max(y0, 0)
        x1, y1 = min(x1, shape[1]), min(y1, shape[0])
        if x1 <= x0 or y1 <= y0:
            raise ValueError(f"gd {options.gd} holds no pixel of an image of {shape}")
    if options.rf is not None:
        return [_region(row, (x0, x1, y0, y1)) for row in options.rf]
    xs = np.linspace(x0, x1, options.nrx + 1).round().astype(int)
    ys = np.linspace(y0, y1, options.nry + 1).round().astype(int)
    return [(slice(ys[j], ys[j + 1]), slice(xs[i], xs[i + 1]))
            for j in range(options.nry) for i in range(options.nrx)]  # fmt: skip


def _region(row, limits):
    """Rows and columns of a region xmin, xmax, ymin, ymax that is given, both ends inside."""
    x0, x1, y0, y1 = (round(v) for v in row)
    rows = slice(max(y0, limits[2]), min(y1 + 1, limits[3]))
    columns = slice(max(x0, limits[0]), min(x1 + 1, limits[1]))
    if rows.stop <= rows.start or columns.stop <= columns.start:
        raise ValueError(f"rf: the region {x0}:{x1},{y0}:{y1} holds no pixel of the image")
    return rows, columns


def _shifted(options, outer):
    """Options with the substamps' positions in px of a region."""
    if options.places is None:
        return options
    moved = options.places - (outer[1].start, outer[0].start)
    return options.model_copy(update={"ssf": moved})


def _cut(exposure, outer):
    planes = {name: exposure.meta[name][outer] for name in ("fit", "bits")}
    return exposure.cutout(*outer).replace(meta={**exposure.meta, **planes})


def _subtract(science, template, options):
    """The better of the directions that are allowed: fit, and what `_apply` makes."""
    fits_made = {
        name: _fit(science, template, options, name)
        for name, letter in (("template", "t"), ("science", "i"))
        if options.c in (letter, "b")
    }
    name = min(fits_made, key=lambda n: _price(fits_made[n]))
    return _apply(science, template, fits_made[name], options)


def _price(fit: StampFit) -> float:
    """Merit times the price of a kernel with negative lobes, which multiplies noise."""
    ny, nx = fit.kernel.shape
    image = fit.kernel.at((nx - 1) / 2, (ny - 1) / 2)
    return fit.merit * float(np.abs(image).sum() / image.sum()) ** 2


def _fit(science, template, options, name) -> StampFit:
    target, convolved = (science, template) if name == "template" else (template, science)
    usable = science.meta["fit"] & template.meta["fit"] & science.usable & template.usable
    grow = int(options.mins * options.r)
    if grow and not usable.all():
        bad = ~convolved.meta["fit"] | ~convolved.usable
        usable &= ~ndimage.maximum_filter(bad, 2 * grow + 1)
    return fit_stamps(target, convolved, usable, options, name)


def _apply(science, template, fit, options):
    """The fit with its last background, and what it makes: difference, convolved image, difference
    in sigma, sigma, mask, and the factor of option okn; the images in the units of option n."""
    kernel = fit.kernel
    convolved = template if kernel.convolved == "template" else science
    share = 0.0 if options.mous < 0 else options.kfm
    matched = convolved_exposure(kernel, convolved, share)
    target = science if kernel.convolved == "template" else template
    kernel = _with_background_of_sky(kernel, target, convolved, matched, options.bgo)
    fit = dataclasses.replace(fit, kernel=kernel)
    difference = subtract_matched(kernel, science, template, matched)
    centre = (science.shape[1] - 1) / 2, (science.shape[0] - 1) / 2
    flux_scale = float(kernel.flux_scale(*centre))
    scale = np.float32(_unit(options.n, kernel, flux_scale))
    image = difference.image * scale
    noise = np.sqrt(difference.variance) * abs(scale)
    shown = matched.image + kernel.background_map() + np.float32(target.meta["level"])
    # the matched image has the units of the one that is not convolved
    shown *= scale if target is science else scale * np.float32(flux_scale)
    good = difference.usable & (noise > 0)
    mask = output_mask(good, convolved, target, options.r)
    factor = cards.noise_factor(image, noise, mask, options.ssig) if options.okn else 1.0
    noise = np.where(cards.is_fair(mask), noise * np.float32(factor), noise)
    scaled = np.divide(image, noise, out=np.zeros_like(image), where=good)
    return fit, (image, shown, scaled, noise, mask, factor)


def _with_background_of_sky(kernel, target, convolved, matched, order):
    """The kernel with the background that the sky between the substamps asks for."""
    usable = target.usable & matched.usable
    rest = target.image - matched.image - kernel.background_map()
    own, spread = (weight_variance(e.image, e.variance, e.usable) for e in (target, convolved))
    if spread is convolved.variance:
        spread = matched.variance
    else:
        spread = kernel.squared().convolve(fill_masked(convolved.replace(variance=spread))[1])
    more = background_of_sky(rest, own + spread, matched.image, usable, target.meta["fwhm"], order)
    if more is None:
        return kernel
    return dataclasses.replace(kernel, background=kernel.background + more)


def _unit(choice, kernel, flux_scale) -> float:
    """Factor from science flux units to those of option n."""
    if choice == "i" or (choice == "u" and kernel.convolved == "template"):
        return 1.0
    return 1 / flux_scale


def _row(number, fit: StampFit, region, outer) -> dict:
    """What is known of a region's kernel; x and y of its polynomials count from x0, y0."""
    kernel = fit.kernel
    ny, nx = kernel.shape
    x, y = (nx - 1) / 2, (ny - 1) / 2
    return {
        "region": number, "x_min": region[1].start, "x_max": region[1].stop - 1,
        "y_min": region[0].start, "y_max": region[0].stop - 1, "x0": outer[1].start,
        "y0": outer[0].start, "nx": nx, "ny": ny, "convolved": kernel.convolved,
        "ksum": float(kernel.kernel_sum(x, y)), "flux_scale": float(kernel.flux_scale(x, y)),
        "merit": fit.merit, "scatter": fit.scatter, "n_stamps": fit.n_stamps,
        "n_rejected": fit.n_rejected, "notes": "; ".join(fit.notes),
        "ko": kernel.order, "bgo": kernel.bg_order,
        "kernel": kernel.at(x, y), "basis": kernel.basis, "coefficients": kernel.coef,
        "background": kernel.background,
    }  # fmt: skip
