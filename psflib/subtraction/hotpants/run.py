"""`run_hotpants`: the interface of STDPipe's wrapper of HOTPANTS, on our own fit in memory.

Becker 2015, ascl:1504.004; STDPipe: Karpov 2021, ascl:2112.006.  What differs from the C program:
pixels are weighted by their inverse variance, the kernel is exact at each pixel (no blocks of
2 r + 1), masked pixels are filled before the convolution, and failures are errors.
"""

import logging
import os

import numpy as np

from psflib.errors import BadImage
from psflib.files.bare import read_first_plane
from psflib.image.exposure import Exposure
from psflib.matching.cells.candidates import positions
from psflib.subtraction.arrays import (
    check_shapes,
    measured_variance,
    noise_of_sky,
    read_variance,
    speaker,
    takes_planes,
    usable_pixels,
    valid_range,
)
from psflib.subtraction.hotpants import header
from psflib.subtraction.hotpants.masks import input_bits
from psflib.subtraction.hotpants.options import HotpantsOptions, read_options, without_effect
from psflib.subtraction.hotpants.outputs import Given, check_clobber, write_outputs
from psflib.subtraction.hotpants.regions import subtract_regions

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
        sqrt(|counts| / gain), not below the noise of the sky.
    extra : dict, optional
        HOTPANTS's options by name; they override everything but `obj`.  `ini, tni, imi, tmi` are
        arrays or files.
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
        Return also, in this order: the convolved image (background included) in the units of the
        difference; the difference in sigma; sigma; a table with a row on each region's kernel;
        the FITS header that HOTPANTS writes.
    _workdir : str, optional
        Folder for all that goes in and comes out, as FITS files and lists of substamps.
    _tmpdir, _exe : without effect, there is no executable.
    {verbose}

    Returns
    -------
    ndarray (ny, nx) float32, or list of it and what was asked for
        Masked pixels hold the option `fi` (1e-30), in the plane of sigma `fin` (0); the convolved
        image is not masked.  With the kernel on the template, f image - convolved = difference;
        with that on the image, convolved - f template = difference: f is 1 where the other image
        is in the units that the option `n` asks for, else the factor to these.

    Raises
    ------
    ValueError
        Shapes that differ, unknown options, kernels larger than the image.
    BadFile, BadImage, NotEnoughStars, SingularFit
        The data do not allow it; numbers are in the message.
    """
    say, extra = speaker(verbose, log), dict(extra or {})
    given = Given(
        image, template, _plane(extra, "imi", mask), _plane(extra, "tmi", template_mask),
        _plane(extra, "ini", err), _plane(extra, "tni", template_err),
        None if obj is None or not len(obj) else positions(obj) + 1,
    )  # fmt: skip
    options = _options(given, extra, (image_fwhm, template_fwhm), (image_gain, template_gain),
                       (rel_r, rel_rss), (nx, nx if ny is None else ny))  # fmt: skip
    if idle := [*without_effect(extra), *(["_exe"] if _exe is not None else [])]:
        log.warning("without effect here: %s", ", ".join(idle))
    check_clobber(options)
    science = _exposure("image", given.image, given.mask, given.err, image_gain, options, "i")
    reference = _exposure("template", given.template, given.template_mask, given.template_err,
                          template_gain, options, "t")  # fmt: skip
    check_shapes(science, reference)
    made = subtract_regions(science, reference, options, say)
    names = ["image", "template", "difference"]
    if _workdir is not None:
        names = [os.path.join(_workdir, f"{n}.fits") for n in ("image", "template", "diff")]
    header.complete(made, options, names)
    write_outputs(made, options, given, _workdir)
    wanted = (get_convolved, get_scaled, get_noise, get_kernel, get_header)
    values = (made.convolved, made.scaled, made.noise, made.kernels, made.header)
    chosen = [made.difference, *[v for v, w in zip(values, wanted, strict=True) if w]]
    return chosen if len(chosen) > 1 else chosen[0]


def _plane(extra, name, own):
    """A plane that an option gives, taken out of the options; else the argument's."""
    value = extra.pop(name, None)
    if value is None:
        return own
    try:
        return read_first_plane(value) if isinstance(value, str | os.PathLike) else np.array(value)
    except ValueError as failure:
        raise ValueError(f"HOTPANTS option {name!r}: {failure}") from failure


def _options(given, extra, fwhms, gains, relative, regions) -> HotpantsOptions:
    """STDPipe's choices, overridden by `extra`."""
    chosen = {"n": "i", "c": "t", "ko": 0, "bgo": 0, "nrx": regions[0], "nry": regions[1],
              "ig": gains[0], "tg": gains[1]}  # fmt: skip
    for name, plane, bad in (
        ("image", given.image, given.mask), ("template", given.template, given.template_mask)
    ):  # fmt: skip
        low, high = valid_range(*usable_pixels(name, plane, bad))
        chosen |= {name[0] + "l": low, name[0] + "u": high}
    chosen["tuk"], chosen["iuk"] = chosen["tu"], chosen["iu"]
    image_fwhm, template_fwhm = fwhms
    for name, fwhm in (("image_fwhm", image_fwhm), ("template_fwhm", template_fwhm)):
        if fwhm is not None and not (np.isfinite(fwhm) and fwhm > 0):
            raise ValueError(f"{name} must be a positive number of px; got {fwhm}")
    if image_fwhm is not None:
        for name, factor in zip(("r", "rss"), relative, strict=True):
            if factor is not None:
                chosen[name] = int(np.ceil(image_fwhm * factor))
        if template_fwhm is not None:
            match = max(1.0, np.sqrt(abs(image_fwhm**2 - template_fwhm**2)) / 2.35)
            chosen["ng"] = (3, 6, 0.5 * match, 4, match, 2, 2 * match)
    places = {} if given.places is None else {"ssf": given.places}
    return read_options({**chosen, **extra, **places})


def _exposure(name, plane, bad, err, gain, options, letter) -> Exposure:
    """An image without its median, with variance and mask; meta keeps the median."""
    plane = np.asarray(plane, float)
    bits = input_bits(plane, bad, *(getattr(options, letter + end) for end in "lu"))
    good = bits == 0
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
        meta={"fwhm": fwhm, "level": level, "fit": fit, "bits": bits},
    )  # fmt: skip


def _variance(name, plane, good, err, gain, options, letter):
    if err is None or err is False:
        gain, noise, pedestal = (getattr(options, letter + o) for o in ("g", "r", "p"))
        variance = np.abs(np.where(good, plane, 0) - pedestal) / gain + np.square(noise / gain)
        return np.maximum(variance, np.square(noise_of_sky(plane, good)))
    variance = read_variance(name, err, plane.shape)
    return measured_variance(plane, good, gain) if variance is None else variance
