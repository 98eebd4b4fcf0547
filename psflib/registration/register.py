"""The template on the science image's grid, by the WCS and by what the stars say of it."""

import dataclasses
import logging
import math

import numpy as np

from psflib.errors import BadImage, DifferentSky, NoOverlap
from psflib.image.exposure import Exposure
from psflib.image.warp import Nodes, align
from psflib.registration.agreement import (
    SEARCHES,
    Agreement,
    Pair,
    better,
    common_part,
    has_few,
    measure,
    search,
)
from psflib.registration.detections import bright_sources
from psflib.settings.register import RegisterSettings

log = logging.getLogger(__name__)

ENOUGH = 5  # sources of an image in the common part; fewer that do not match prove nothing
SIGNIFICANT = 3.0  # standard errors that a shift must have to be corrected
UNDERSAMPLED = 2.0  # px of FWHM, below which a template that is resampled is said to alias


@dataclasses.dataclass(frozen=True, eq=False)
class Place:
    """Where the science image lies on the template.

    Parameters
    ----------
    nodes : Nodes
    by : str
        wcs, wcs+stars, stars, grid (pixel by pixel) or none (not asked for): what says so.
    agreement : Agreement or None
        The stars that matched, if any did.
    correction : float
        px of the science image, largest correction by the stars over the common part; else 0.
    note : str
        The same in a sentence.
    """

    nodes: Nodes
    by: str
    agreement: Agreement | None
    correction: float
    note: str

    def facts(self) -> dict:
        """Entries of `Difference.meta`, as `register` describes them."""
        found = self.agreement
        before = math.nan if found is None else found.before
        varying = math.nan if found is None else found.shifts()[1]
        return {
            "registration": self.by,
            "registration_stars": 0 if found is None else len(found.stars),
            "registration_before": before,
            "registration_after": found.after if found and self.correction else before,
            "registration_varying": found.field.error if found and self.correction else varying,
            "registration_shift": self.correction,
        }


def register(
    science: Exposure, template: Exposure, settings: RegisterSettings | None = None
) -> tuple[Exposure, dict]:
    """The template on the science image's pixel grid, verified by the stars of both.

    The place is found by `locate`; the template is resampled once, from its own pixels.

    Parameters
    ----------
    science, template : Exposure
        Prepared.
    settings : RegisterSettings, optional

    Returns
    -------
    aligned : Exposure
        As `psflib.align` returns it; the template itself if it is on the grid already.
    facts : dict
        registration (wcs, wcs+stars, stars, grid or none: by what they were brought together),
        registration_stars (stars that matched), registration_before, registration_after (px of
        the science image, rms of the stars' shifts in both axes together, weighted by their
        errors, against the place that was named and against the corrected one, there with each
        star held out; NaN if not measured), registration_varying (px rms, by how much the shift
        that is left varies over the field, or is uncertain after a correction: what a kernel
        does not take up), registration_shift (px, largest correction over the field, 0
        without), overlap (fraction of the science image with template data), aligned,
        area (as of `psflib.align`), notes (sentences).

    Raises
    ------
    DifferentSky, NoOverlap, BadImage, ValueError
        As `locate`.
    """
    place = locate(science, template, settings)
    log.info("%s", place.note)
    aligned, facts = align(template, science, place.nodes)
    notes, width = [place.note], template.meta.get("fwhm")
    if aligned is not template and width is not None and width < UNDERSAMPLED:
        notes.append(
            f"the template, of FWHM {width:.2f} px, was resampled: below {UNDERSAMPLED:g} px its "
            "pixels do not hold all of the PSF, stars alias, and no kernel follows what that leaves"
        )
        log.warning("%s", notes[-1])
    return aligned, facts | place.facts() | {"notes": notes}


def locate(
    science: Exposure, template: Exposure, settings: RegisterSettings | None = None
) -> Place:
    """Where the science image lies on the template.

    Bright sources of both images are matched by position at the place that the WCS names (without
    one, pixel by pixel), and a smooth field is fitted to what is left between them.  If it exceeds
    the limits of `settings`, the place is corrected by it; if no stars match there, the place is
    looked for by asterisms of stars.

    Parameters
    ----------
    science, template : Exposure
        Prepared.
    settings : RegisterSettings, optional

    Raises
    ------
    DifferentSky
        If both images have sources enough and these do not agree anywhere.
    NoOverlap
        If the WCS of the two have no sky in common, and the stars know no better.
    BadImage
        If the WCS of one could not be read, unless the method is `stars`; with the method `wcs`,
        if the stars do not agree with it within the limits.
    ValueError
        If the shapes differ, one of them has no WCS, and the stars are not to be asked.
    """
    settings = settings or RegisterSettings()
    by_wcs = _has_wcs(science, template, settings.method)
    nodes = Nodes.by_wcs(template, science) if by_wcs else Nodes.same(science.shape)
    sources = bright_sources(science), bright_sources(template)
    pair = Pair(*sources, nodes, template.mask, science.shape)
    there = measure(pair)
    found = there
    if settings.method in ("auto", "stars") and (there is None or has_few(there)):
        found = better(there, search(pair))
        if found is None and by_wcs:
            found = search(pair.at(Nodes.same(science.shape)))
    named = "wcs" if by_wcs else "grid"
    if settings.method == "none":
        return Place(nodes, "none", found, 0.0, f"registration not asked for: {_said(pair, found)}")
    if found is None:
        return _unmatched(pair, settings, named, template.shape)
    return _matched(pair, found, found is not there, settings, named)


def _has_wcs(science, template, method):
    """Whether the place is named by the WCS of both."""
    for name, exposure in (("science", science), ("template", template)):
        problem = exposure.meta.get("wcs_problem")
        if problem and method != "stars":
            raise BadImage(f"{name}: {problem}; `register: {{method: stars}}` does without it")
    if method == "stars":
        return False
    by_wcs = science.wcs is not None and template.wcs is not None
    if not by_wcs and method != "auto" and template.shape != science.shape:
        raise ValueError(
            f"template {template.shape} and science {science.shape} differ in shape and not both "
            "have a WCS, so they cannot be aligned: add a WCS, give images on one grid, or "
            "let `register: {method: auto}` look for the place by the stars"
        )
    return by_wcs


def _matched(pair, found, moved, settings, named) -> Place:
    """Stars match: is what is left between them small enough?"""
    constant, varying = found.shifts()
    least = SIGNIFICANT * found.field.error
    off = constant > max(settings.constant_limit, least) or varying > max(settings.limit, least)
    said = _said(pair, found)
    if not (off or moved):
        return Place(pair.nodes, named, found, 0.0, said)
    if settings.method == "wcs":
        raise BadImage(
            f"the {named} of science and template is not that of their stars: {said}. Correct the "
            "WCS, or let `register: {method: auto}` do it"
        )
    nodes = found.corrected()
    largest = _largest(nodes, pair)
    note = f"{said}: corrected by up to {largest:.3f} px, {found.after:.3f} px rms are left"
    return Place(nodes, "wcs+stars" if named == "wcs" else "stars", found, largest, note)


def _largest(nodes, pair):
    """Largest correction (science px) over what the two images share."""
    seen = nodes.inside(pair.template_mask.shape)
    if not seen.any():
        return 0.0
    moved = np.hypot(nodes.x - pair.nodes.x, nodes.y - pair.nodes.y)[seen]
    return float(moved.max() / pair.scale)


def _unmatched(pair, settings, named, template_shape) -> Place:
    """No stars match: too few to tell, or another sky."""
    if named == "wcs" and not pair.nodes.inside(template_shape).any():
        raise NoOverlap(
            "science and template do not overlap on the sky, and their stars do not agree "
            "anywhere either; check the WCS of both"
        )
    rows, columns, area = common_part(pair)
    counts = len(rows), len(columns)
    said = _said(pair, None)
    if min(counts) < ENOUGH and (named == "wcs" or template_shape == pair.shape):
        note = f"registration not verified, taken from the {named}: {said}, too few to tell"
        log.warning("%s", note)
        return Place(pair.nodes, named, None, 0.0, note)
    looked = "" if settings.method == "wcs" else ", and no asterism of stars is in both"
    expected = counts[0] * counts[1] * 4 * math.pi / area
    raise DifferentSky(
        f"{said} within {SEARCHES[-1][0]:g} px of the place that the {named} names ({expected:.1f} "
        f"would match within 2 px by chance){looked}. Check that both images are of the same "
        "field, and their WCS; `register: {method: none}` goes on unverified",
        *counts, 0, expected,
    )  # fmt: skip


def _said(pair, found):
    """What the stars say, in words."""
    if found is None:
        rows, columns, _ = common_part(pair)
        return (
            f"{len(rows)} sources of science and {len(columns)} of the template lie in the common "
            "part, and do not agree"
        )
    constant, varying = found.shifts()
    return (
        f"{len(found.stars)} stars of {found.common[0]} in science and {found.common[1]} in the "
        f"template agree to {found.before:.3f} px rms; their shift is {constant:.3f} px and "
        f"varies by {varying:.3f} px rms over the field ({found.field.model})"
    )
