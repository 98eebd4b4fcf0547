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
from psflib.registration.settings import RegisterSettings

log = logging.getLogger(__name__)

ENOUGH = 5  # sources of an image in the common part; fewer that do not match prove nothing
SIGNIFICANT = 3.0  # standard errors that a shift must have to be corrected


@dataclasses.dataclass(frozen=True)
class _Verdict:
    """What is to be done: `nodes` to warp by, and the words for it."""

    nodes: Nodes | None
    word: str
    agreement: Agreement | None
    shift: float
    notes: tuple[str, ...]


def register(
    science: Exposure, template: Exposure, settings: RegisterSettings | None = None
) -> tuple[Exposure, dict]:
    """The template on the science image's pixel grid, verified by the stars of both.

    Bright sources of both images are matched by position at the place that the WCS names (without
    one, pixel by pixel), and a smooth field is fitted to what is left between them.  If it exceeds
    the limits of `settings`, the place is corrected by it; if no stars match there, the place is
    looked for by asterisms of stars.  The template is resampled once, from its own pixels.

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
        errors, before and after the correction, here with each star held out; NaN if not
        measured), registration_shift (px, largest correction over the field), overlap (fraction
        of the science image with template data), aligned, area (as of `psflib.align`), notes
        (sentences).

    Raises
    ------
    DifferentSky
        If both images have sources enough and these do not agree anywhere; with the method `wcs`,
        also where they do not agree within the limits.
    NoOverlap
        If the WCS of the two have no sky in common, and the stars know no better.
    BadImage
        If the WCS of one could not be read, unless the method is `stars`.
    ValueError
        If the shapes differ, one of them has no WCS, and the stars are not to be asked.
    """
    settings = settings or RegisterSettings()
    _check_readable(science, template, settings.method)
    verdict = _decide(science, template, settings)
    for note in verdict.notes:
        log.info("%s", note)
    nodes = verdict.nodes
    if nodes is None:
        aligned, facts = align(template, science)
    else:
        aligned, facts = align(template, science, nodes)
    found = verdict.agreement
    nan = math.nan
    facts |= {
        "registration": verdict.word,
        "registration_stars": 0 if found is None else len(found.stars),
        "registration_before": nan if found is None else found.before,
        "registration_after": nan if found is None else _after(verdict),
        "registration_shift": verdict.shift,
        "notes": list(verdict.notes),
    }
    return aligned, facts


def _after(verdict):
    return verdict.agreement.after if verdict.shift else verdict.agreement.before


def _check_readable(science, template, method):
    for name, exposure in (("science", science), ("template", template)):
        problem = exposure.meta.get("wcs_problem")
        if problem and method != "stars":
            raise BadImage(f"{name}: {problem}; `register: {{method: stars}}` does without it")


def _decide(science, template, settings) -> _Verdict:
    by_wcs = None not in (science.wcs, template.wcs) and settings.method != "stars"
    word = "wcs" if by_wcs else "grid"
    nodes = Nodes.by_wcs(template, science) if by_wcs else Nodes.same(science.shape)
    sources = bright_sources(science), bright_sources(template)
    pair = Pair(*sources, nodes, template.mask, science.shape)
    may_search = settings.method in ("auto", "stars")
    found = measure(pair)
    at_place = found
    if may_search and (found is None or has_few(found)):
        elsewhere = search(pair)
        if elsewhere is None and by_wcs:
            elsewhere = search(pair.at(Nodes.same(science.shape)))
        found = better(found, elsewhere)
    if not by_wcs and found is None and template.shape != science.shape:
        return _cannot(pair, settings, word)
    if found is None:
        return _unmatched(pair, settings, word)
    return _matched(found, found is not at_place, pair, settings, word)


def _matched(found, moved, pair, settings, word):
    """Stars match: is what is left between them small enough?"""
    shifts = found.shifts()
    mean = shifts.mean(axis=0)
    constant, varying = np.hypot(*mean), np.sqrt(np.square(shifts - mean).sum(axis=1).mean())
    off = _exceeds(constant, settings.constant_limit, found) or _exceeds(
        varying, settings.limit, found
    )
    said = (
        f"{len(found.stars)} stars of {found.common[0]} in science and {found.common[1]} in the "
        f"template agree to {found.before:.3g} px rms; their shift is {constant:.3g} px and "
        f"varies by {varying:.3g} px rms over the field ({found.field.model})"
    )
    if settings.method == "none":
        return _Verdict(None, "none", found, 0.0, (f"registration not asked for: {said}",))
    if settings.method == "wcs":
        if off or moved:
            raise DifferentSky(
                f"{said}. Correct the WCS, or let `register: {{method: auto}}` do it",
                *found.common, len(found.stars), found.expected,
            )  # fmt: skip
        return _Verdict(None, "wcs", found, 0.0, (said,))
    if not (off or moved):
        return _Verdict(None if word == "wcs" else pair.nodes, word, found, 0.0, (said,))
    nodes = found.corrected()
    largest = _largest(nodes, pair)
    corrected = f"corrected by up to {largest:.4g} px, {found.after:.3g} px rms are left"
    by = "wcs+stars" if word == "wcs" else "stars"
    return _Verdict(nodes, by, found, largest, (f"{said}: {corrected}",))


def _exceeds(value, limit, found):
    return value > limit and value > SIGNIFICANT * found.field.error


def _largest(nodes, pair):
    """Largest correction (science px) over what the two images share."""
    seen = nodes.inside(pair.template_mask.shape)
    if not seen.any():
        return 0.0
    moved = np.hypot(nodes.x - pair.nodes.x, nodes.y - pair.nodes.y)[seen]
    return float(moved.max() / pair.scale)


def _unmatched(pair, settings, word):
    """No stars match: too few to tell, or another sky."""
    if word == "wcs" and not pair.nodes.inside(pair.template_mask.shape).any():
        raise NoOverlap(
            "science and template do not overlap on the sky, and their stars do not agree "
            "anywhere either; check the WCS of both"
        )
    rows, columns, area = common_part(pair)
    counts = len(rows), len(columns)
    said = f"{counts[0]} sources of science and {counts[1]} of the template lie in the common part"
    if settings.method == "none":
        note = f"registration not asked for, and not verified: {said}, and do not match"
        return _Verdict(None, "none", None, 0.0, (note,))
    if min(counts) < (ENOUGH if word == "wcs" else 2):
        note = f"registration not verified, taken from the {word}: {said}, too few to tell"
        log.warning("%s", note)
        return _Verdict(None, word, None, 0.0, (note,))
    looked = "" if settings.method == "wcs" else ", and no asterism of stars is in both"
    raise DifferentSky(
        f"{said}, but they do not agree within {SEARCHES[-1][0]:g} px of the place that the {word} "
        f"names{looked}. Check that both images are of the same field, and their WCS; `register: "
        "{method: none}` goes on unverified",
        *counts, 0, counts[0] * counts[1] * 4 * math.pi / area,
    )  # fmt: skip


def _cannot(pair, settings, word):
    counts = len(pair.science), len(pair.template)
    if settings.method in ("wcs", "none"):
        raise ValueError(
            f"template {pair.template_mask.shape} and science {pair.shape} differ in shape and not "
            "both have a WCS, so they cannot be aligned: add a WCS, give images on one grid, or "
            "let `register: {method: auto}` look for the place by the stars"
        )
    raise DifferentSky(
        f"shapes {pair.shape} and {pair.template_mask.shape} without a WCS in both, and no "
        f"asterism of the {counts[0]} sources of science and {counts[1]} of the template is in "
        "both. Give images of one field, or a WCS",
        *counts, 0, 0.0,
    )  # fmt: skip
