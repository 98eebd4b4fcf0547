"""`run_hotpants`: the interface of STDPipe's wrapper of HOTPANTS, on our own fit in memory.

Becker 2015, ascl:1504.004; STDPipe: Karpov 2021, ascl:2112.006.  What differs from the C program:
pixels are weighted by their inverse variance, the kernel is exact at each pixel (no blocks of
2 r + 1), masked pixels are filled before the convolution, and failures are errors.
"""

import dataclasses
import logging

import numpy as np
from astropy.io import fits
from astropy.table import Table
from scipy import ndimage

from psflib.errors import BadImage
from psflib.image.exposure import Exposure
from psflib.image.noise import robust_std
from psflib.matching.apply import convolved_exposure, subtract_matched
from psflib.matching.cells.candidates import positions
from psflib.subtraction.arrays import (
    check_shapes,
    measured_variance,
    read_variance,
    speaker,
    takes_planes,
    usable_pixels,
    valid_range,
)
from psflib.subtraction.hotpants.options import HotpantsOptions, read_options
from psflib.subtraction.hotpants.stamps import StampFit, fit_stamps

log = logging.getLogger(__name__)


@takes_planes
def run_hotpants(
    image, template, mask=None, template_mask=None, err=None, template_err=None, extra=None,
    image_fwhm=None, template_fwhm=None, image_gain=None, template_gain=1000, rel_r=3, rel_rss=4,
    nx=1, ny=None, obj=None, get_convolved=False, get_scaled=False, get_noise=False,
    get_kernel=False, get_header=False, _tmpdir=None, _workdir=None, _exe=None, verbose=False,
):  # fmt: skip
    """Subtract a template as HOTPANTS does.

    Parameters
    ----------
    {planes}
    err, template_err : ndarray (ny, nx) or True, optional
        Sigma of each pixel, ADU.  True measures it: noise of the sky, and photon noise of what
        exceeds the sky, slightly smoothed, if there is a gain.  None takes HOTPANTS's own model,
        sqrt(|counts| / gain), not below the scatter of the sky.
    extra : dict, optional
        HOTPANTS's options by name; they override everything else.
    image_fwhm, template_fwhm : float, optional
        px.  Both set the basis: Gaussians of 0.5, 1 and 2 sigma of the Gaussian that matches the
        two (at least 1 px), of degrees 6, 4, 2.
    image_gain, template_gain : float, optional
        e-/ADU.
    rel_r, rel_rss : float
        Half widths of kernel and substamps in units of `image_fwhm`.
    nx, ny : int
        Regions of independent kernels; ny defaults to nx.
    obj : Table, optional
        Objects, 0-based x and y in px; they place the substamps.
    get_convolved, get_scaled, get_noise, get_kernel, get_header : bool
        Return also, in this order: what was subtracted (background included); the difference
        in sigma; sigma; a table with a row on each region's kernel; a FITS header.
    _tmpdir, _workdir, _exe : ignored, there is no executable and no file.
    {verbose}

    Returns
    -------
    ndarray (ny, nx) float32, or list of it and what was asked for
        Masked pixels hold the option `fi` (1e-30) in all planes, `fin` in the one of sigma.

    Raises
    ------
    ValueError
        Shapes that differ, unknown options, kernels larger than the image.
    BadImage, NotEnoughStars, SingularFit
        The data do not allow it; numbers are in the message.
    """
    options = _options(
        image, template, mask, template_mask, extra, image_fwhm, template_fwhm, image_gain,
        template_gain, rel_r, rel_rss, nx, ny, obj,
    )  # fmt: skip
    science = _exposure("image", image, mask, err, image_gain, options, "i")
    reference = _exposure("template", template, template_mask, template_err, template_gain,
                          options, "t")  # fmt: skip
    say = speaker(verbose, log)
    result = _regions(science, reference, options, say)
    wanted = (get_convolved, get_scaled, get_noise, get_kernel, get_header)
    values = (result.convolved, result.scaled, result.noise, result.kernels, result.header)
    chosen = [result.difference, *[v for v, w in zip(values, wanted, strict=True) if w]]
    return chosen if len(chosen) > 1 else chosen[0]


@dataclasses.dataclass(frozen=True, eq=False)
class _Planes:
    """Everything that can be returned; planes (ny, nx) float32."""

    difference: np.ndarray
    convolved: np.ndarray
    scaled: np.ndarray
    noise: np.ndarray
    kernels: Table
    header: fits.Header


def _options(
    image, template, mask, template_mask, extra, image_fwhm, template_fwhm, image_gain,
    template_gain, rel_r, rel_rss, nx, ny, obj,
) -> HotpantsOptions:  # fmt: skip
    """STDPipe's choices, overridden by `extra`."""
    chosen = {"n": "i", "c": "t", "ko": 0, "bgo": 0, "nrx": nx, "nry": nx if ny is None else ny,
              "ig": image_gain, "tg": template_gain}  # fmt: skip
    for name, plane, bad in (("image", image, mask), ("template", template, template_mask)):
        low, high = valid_range(*usable_pixels(name, plane, bad))
        chosen |= {name[0] + "l": low, name[0] + "u": high}
    chosen["tuk"], chosen["iuk"] = chosen["tu"], chosen["iu"]
    for name, fwhm in (("image_fwhm", image_fwhm), ("template_fwhm", template_fwhm)):
        if fwhm is not None and not (np.isfinite(fwhm) and fwhm > 0):
            raise ValueError(f"{name} must be a positive number of px; got {fwhm}")
    if image_fwhm is not None:
        for name, factor in (("r", rel_r), ("rss", rel_rss)):
            if factor is not None:
                chosen[name] = int(np.ceil(image_fwhm * factor))
        if template_fwhm is not None:
            match = max(1.0, np.sqrt(abs(image_fwhm**2 - template_fwhm**2)) / 2.35)
            chosen["ng"] = (3, 6, 0.5 * match, 4, match, 2, 2 * match)
    if obj is not None and len(obj):
        chosen["ssf"] = positions(obj) + 1
    return read_options({**chosen, **(extra or {})})


def _exposure(name, plane, bad, err, gain, options, letter) -> Exposure:
    """An image without its median, with variance and mask; meta keeps the median."""
    plane = np.asarray(plane, float)
    good = np.isfinite(plane)
    with np.errstate(invalid="ignore"):
        good &= (plane > getattr(options, letter + "l")) & (plane < getattr(options, letter + "u"))
    if bad is not None:
        good &= np.asarray(bad) == 0
    if not good.any():
        raise BadImage(f"{name}: no usable pixel of {plane.size} in the range of valid counts")
    variance = _variance(name, plane, good, err, gain, options, letter)
    level = float(np.median(plane[good]))
    limit = getattr(options, letter + "uk")
    upper = getattr(options, letter + "u") if limit is None else limit
    fit = good & (np.where(good, plane, 0) < upper)
    fwhm = max(2.0, options.r / 3)
    return Exposure(
        np.where(good, plane - level, np.nan), variance, ~good, sky=level,
        meta={"fwhm": fwhm, "level": level, "fit": fit},
    )  # fmt: skip


def _variance(name, plane, good, err, gain, options, letter):
    if err is None or err is False:
        gain, noise, pedestal = (getattr(options, letter + o) for o in ("g", "r", "p"))
        variance = np.abs(np.where(good, plane, 0) - pedestal) / gain + np.square(noise / gain)
        return np.maximum(variance, robust_std(plane[good]) ** 2)
    variance = read_variance(name, err, plane.shape)
    return measured_variance(plane, good, gain) if variance is None else variance


def _regions(science, template, options, say) -> _Planes:
    """Each region with its own kernel, computed with a margin so that no seam lacks light."""
    check_shapes(science, template)
    empty = [options.fi] * 3 + [options.fi if options.fin is None else options.fin]
    planes = [np.full(science.shape, value, np.float32) for value in empty]
    rows, header = [], fits.Header()
    margin = options.r + options.rss
    for number, (ys, xs) in enumerate(_split(science.shape, options)):
        outer = tuple(
            slice(max(s.start - margin, 0), min(s.stop + margin, n))
            for s, n in zip((ys, xs), science.shape, strict=True)
        )
        local = _shifted(options, outer)
        one, two = (_cut(e, outer) for e in (science, template))
        fit, good, made = _subtract(one, two, local)
        core = tuple(
            slice(s.start - o.start, s.stop - o.start) for s, o in zip((ys, xs), outer, strict=True)
        )
        for plane, part, value in zip(planes, made, empty, strict=True):
            plane[ys, xs] = np.where(good[core], part[core], value)
        for note in fit.notes:
            log.warning("region %d: %s", number, note)
        row = _row(number, fit, (ys, xs), outer)
        rows.append(row)
        _describe(header, number, fit, row, made[0][core][good[core]])
        say(
            f"region {number}: {fit.n_stamps} substamps, merit {fit.merit:.3f}, "
            f"kernel sum {row['ksum']:.5f}"
        )
    header["NREGION"] = (len(rows), "regions of independent kernels")
    header["NSTAMPS"] = (sum(r["n_stamps"] for r in rows), "substamps used")
    units = {"t": "TEMPLATE", "i": "IMAGE", "u": "UNCONVOLVED"}[options.n]
    header["PHOTNORM"] = (units, "flux scale of the difference")
    header["MASKVAL"] = (options.fi, "value of masked pixels")
    difference, convolved, scaled, noise = planes
    return _Planes(difference, convolved, scaled, noise, Table(rows), header)


def _split(shape, options):
    """Rows and columns of each region, within the good part of the image."""
    if options.gd is None:
        x0, x1, y0, y1 = 0, shape[1], 0, shape[0]
    else:
        x0, x1, y0, y1 = (round(v) for v in options.gd)
        x0, y0 = max(x0 - 1, 0), max(y0 - 1, 0)
        x1, y1 = min(x1, shape[1]), min(y1, shape[0])
        if x1 <= x0 or y1 <= y0:
            raise ValueError(f"gd {options.gd} holds no pixel of an image of {shape}")
    xs = np.linspace(x0, x1, options.nrx + 1).round().astype(int)
    ys = np.linspace(y0, y1, options.nry + 1).round().astype(int)
    return [(slice(ys[j], ys[j + 1]), slice(xs[i], xs[i + 1]))
            for j in range(options.nry) for i in range(options.nrx)]  # fmt: skip


def _shifted(options, outer):
    """Options with the substamps' positions in px of a region."""
    if options.ssf is None:
        return options
    moved = np.atleast_2d(np.asarray(options.ssf, float)) - (outer[1].start, outer[0].start)
    return options.model_copy(update={"ssf": moved})


def _cut(exposure, outer):
    part = exposure.cutout(*outer)
    return part.replace(meta={**exposure.meta, "fit": exposure.meta["fit"][outer]})


def _subtract(science, template, options):
    """The better of the directions that are allowed: fit, good pixels, and four planes."""
    fits_made = {
        name: _fit(science, template, options, name)
        for name, letter in (("template", "t"), ("science", "i"))
        if options.c in (letter, "b")
    }
    name = min(fits_made, key=lambda n: _price(fits_made[n]))
    return fits_made[name], *_apply(science, template, fits_made[name], options)


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
    """Good pixels; difference, convolved image, difference in sigma, and sigma."""
    kernel = fit.kernel
    convolved = template if kernel.convolved == "template" else science
    share = 0.0 if options.mous < 0 else options.kfm
    matched = convolved_exposure(kernel, convolved, share)
    difference = subtract_matched(kernel, science, template, matched)
    centre = (science.shape[1] - 1) / 2, (science.shape[0] - 1) / 2
    scale = np.float32(_unit(options.n, kernel, float(kernel.flux_scale(*centre))))
    image = difference.image * scale
    noise = np.sqrt(difference.variance) * abs(scale)
    target = science if kernel.convolved == "template" else template
    shown = matched.image + kernel.background_map() + np.float32(target.meta["level"])
    good = difference.usable & (noise > 0)
    scaled = np.divide(image, noise, out=np.zeros_like(image), where=good)
    return good, (image, shown, scaled, noise)


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


def _describe(header, number, fit, row, values):
    """HOTPANTS's cards of a region."""
    if number > 99:  # a keyword has eight letters; the table has every region
        return
    name = {"template": "TEMPLATE", "science": "IMAGE"}[fit.kernel.convolved]
    corners = "{x_min}:{x_max},{y_min}:{y_max}".format(**row)
    for key, value, comment in (
        ("REGION", f"[{corners}]", "0-based px of the region"),
        ("CONVOL", name, "the image that was convolved"), ("KSUM", row["ksum"], "kernel sum"),
        ("SSSIG", fit.merit, "mean merit of the substamps"),
        ("SSSCAT", fit.scatter, "scatter of the merit"),
        ("SSNUM", fit.n_stamps, "substamps used"), ("SSREJ", fit.n_rejected, "rejected"),
        ("DMEAN", float(np.mean(values)) if len(values) else 0.0, "mean of the difference"),
        ("DSIGM", float(robust_std(values)) if len(values) else 0.0, "its robust sigma"),
    ):  # fmt: skip
        header[f"{key}{number:02d}"] = (value, comment)
