"""The pictures of a report: each is made, or says why not; none takes the page down."""

import base64
import html
import logging
from collections.abc import Callable, Iterator

import numpy as np

from psflib import figures
from psflib.image.noise import empty_sky, noise_correlation
from psflib.judging import metrics
from psflib.report.summary import OPTIONAL

log = logging.getLogger(__name__)

NO_SKY = "Too little empty sky to measure the noise in."


def pictures(epoch, settings) -> Iterator[str]:
    """HTML of every picture that this image should have, in the order of the work.

    Parameters
    ----------
    epoch : psflib.report.summary.Epoch
    settings : ReportSettings
    """
    lacking: dict[str, list[str]] = {}
    for title, needed, draw in DRAWINGS:
        if not all(name in epoch.products or name in OPTIONAL for name in needed):
            continue
        values = [epoch.read(name) for name in needed]
        gone = [name for name, value in zip(needed, values, strict=True) if value is None]
        if not gone:
            yield _picture(title, epoch, settings, draw, values)
        elif all(name in epoch.products or name in epoch.unreadable for name in gone):
            lacking.setdefault(", ".join(gone), []).append(title)
        del values  # or the next products are read while these are still held
    for names, titles in lacking.items():
        why = [f" ({epoch.unreadable[n]})" for n in names.split(", ") if n in epoch.unreadable]
        text = f"Not drawn: {', '.join(titles)}. There is no usable {names}{''.join(why)}."
        yield f'<p class="lacking">{html.escape(text)}</p>'


def thumbnail(epoch) -> bytes:
    """WebP of the image, and of its difference if there is one, beside each other and small."""
    names = ("exposure.fits", "decorrelated.fits") if epoch.difference else ("exposure.fits",)
    found = [epoch.attempt("the small picture", epoch.read, name) for name in names]
    return figures.thumbnail([plane for plane in found if plane is not None])


def _picture(title, epoch, settings, draw, values):
    """An image in the page, or the sentence that a figure failed with."""
    try:
        picture = figures.to_webp(draw(settings, *values), settings.dpi)
    except MemoryError:
        raise
    except Exception as error:  # a product that no stage should make, and one did
        log.warning("%s %s: no picture %r: %r", epoch.field, epoch.epoch, title, error)
        why = f"Not drawn: {title}. {type(error).__name__}: {error}"
        return f'<p class="warning">{html.escape(why)}</p>'
    data = base64.b64encode(picture).decode()
    source = f"data:image/webp;base64,{data}"
    return f'<figure><img alt="{title}" loading="lazy" src="{source}"></figure>'


def _draw_noise(settings, raw, clean, science):
    planes = {"raw": raw, "decorrelated": clean}
    sky = _sky(raw, clean, science)
    if sky.sum() < 100:
        return figures.message(NO_SKY)
    correlations = {
        name: noise_correlation(plane.image, plane.variance, sky, settings.max_lag)
        for name, plane in planes.items()
    }
    return figures.noise(correlations, planes)


def _draw_noise_field(settings, raw, clean, science):
    sky = _sky(raw, clean, science)
    maps = {
        name: metrics.noise_correlation(
            plane.image, plane.variance, sky, settings.blocks, settings.max_lag
        )
        for name, plane in {"raw": raw, "decorrelated": clean}.items()
    }
    if not any(np.isfinite(one.variance).any() for one in maps.values()):
        return figures.message(NO_SKY)
    return figures.noise_field(maps)


def _sky(raw, clean, science):
    usable = raw.usable & clean.usable
    return empty_sky(science.image, science.variance, usable, science.meta["fwhm"])


def _draw_halo(_, exposure, starless):
    removed = starless.removed[np.asarray(starless.removed["ok"])]
    if not len(removed):
        return figures.message("No star of this image has a halo to be removed.")
    star = removed[np.argmax(removed["flux"].value)]
    return figures.halo(exposure, starless, star["x"].value, star["y"].value)


#: (title, products needed, figure from them) in the order of the work
DRAWINGS: list[tuple[str, tuple[str, ...], Callable]] = [
    (
        "Image",
        ("exposure.fits",),
        lambda _, exposure: figures.overview(exposure),
    ),
    (
        "Star selection",
        ("stars.ecsv", "exposure.fits"),
        lambda _, stars, exposure: figures.star_selection(stars, exposure.shape),
    ),
    (
        "Stamps",
        ("stamps.fits",),
        lambda settings, stamps: figures.stamp_gallery(stamps, settings.stamps),
    ),
    (
        "Core ePSF",
        ("epsf.fits", "stamps.fits"),
        lambda _, psf, stamps: figures.epsf(psf, stamps),
    ),
    (
        "Extended PSF",
        ("extended_psf.fits",),
        lambda _, extended: figures.extended_psf(extended),
    ),
    (
        "The brightest star removed",
        ("exposure.fits", "starless.fits"),
        _draw_halo,
    ),
    (
        "Matching kernel",
        ("kernel.fits",),
        lambda _, kernel: figures.kernel(kernel),
    ),
    (
        "Subtraction",
        ("exposure.fits", "template.fits", "difference.fits"),
        lambda _, *images: figures.triplet(*images),
    ),
    (
        "Noise",
        ("difference.fits", "decorrelated.fits", "exposure.fits"),
        _draw_noise,
    ),
    (
        "Noise over the field",
        ("difference.fits", "decorrelated.fits", "exposure.fits"),
        _draw_noise_field,
    ),
    (
        "Significance",
        ("decorrelated.fits", "candidates.ecsv"),
        lambda _, clean, found: figures.score_map(clean, found),
    ),
    (
        "Candidates",
        ("decorrelated.fits", "candidates.ecsv", "exposure.fits", "template.fits"),
        lambda settings, clean, found, science, template: figures.candidate_gallery(
            clean, found, science, template, top=settings.candidates
        ),
    ),
    (
        "What would have been found",
        ("injection.ecsv", "candidates.ecsv"),
        lambda _, injection, found: figures.completeness(
            injection, known="completeness" in found.meta
        ),
    ),
]
