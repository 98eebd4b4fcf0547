"""How well the stars of two images agree once one is put on the other."""

import dataclasses
import functools

import numpy as np
from scipy import spatial

from psflib.image.exposure import UNUSABLE, MaskBit
from psflib.image.warp import STEP, Nodes
from psflib.registration.asterism import find_asterism
from psflib.registration.detections import Detections
from psflib.registration.match import binomial_tail, common_offset, match_positions
from psflib.registration.shift_field import MODELS, ShiftField, fit_shift_field

FINE = 2.0  # px, radius of the matches at the end
#: Where a common offset is looked for: reach and tolerance, px, and the log10 of the chance
#: that is taken as none.  Near the place that is expected less evidence will do.
SEARCHES = ((4.0, 1.5, -4.0), (60.0, 2.0, -6.0))
CERTAIN = -4.0  # log10 of the chance of the matches that are left, of fields that fit them
ROUNDS = (5.0, 3.0, FINE)  # px, radii of the matches
LEAST = {"shift": 1, "similarity": 3}  # stars that must match
LITTLE = 0.3  # matched share of what could match below which another place may be a better one
MORE = 1.3  # times as many matches make it one


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Sources of both images and where the one image lies on the other.

    All lengths are in science pixels: positions on the template are divided by `scale`.

    Parameters
    ----------
    science, template : Detections
    nodes : Nodes
        The science image's pixels on the template.
    template_mask : ndarray (ny, nx)
    shape : (ny, nx)
        Of the science image.
    """

    science: Detections
    template: Detections
    nodes: Nodes
    template_mask: np.ndarray
    shape: tuple[int, int]

    @property
    def scale(self) -> float:
        """Template pixels in a science pixel."""
        return float(np.sqrt(self.nodes.area(self.template_mask.shape)))

    def at(self, nodes: Nodes) -> "Pair":
        """The same sources, the image elsewhere."""
        return dataclasses.replace(self, nodes=nodes)


@dataclasses.dataclass(frozen=True, eq=False)
class Agreement:
    """Matched stars and what is left between them.

    Parameters
    ----------
    nodes : Nodes
        Where `field` starts from: the place that was named, mirrored if the stars say so.
    scale : float
        Template pixels in a science pixel.
    field : ShiftField
        Shift of the template's stars against it, science px, by position on the template over
        `scale`.
    stars : ndarray (n, 2)
        Science positions.
    before, after : float
        px, rms of the stars' shifts without and with the field (each held out), both axes
        together, weighted by their errors.
    common : (int, int)
        Sources of science and template that could match.
    expected : float
        Matches by chance.
    """

    nodes: Nodes
    scale: float
    field: ShiftField
    stars: np.ndarray
    before: float
    after: float
    common: tuple[int, int]
    expected: float

    def corrected(self) -> Nodes:
        """Where the science image's pixels lie by the stars."""
        scale, field = self.scale, self.field
        return self.nodes.moved(lambda xy: xy + scale * field(xy / scale))

    def shifts(self) -> tuple[float, float]:
        """Mean shift, and the rms of its variation, over the box of the stars: science px."""
        low, high = self.field.low, self.field.high
        x, y = np.meshgrid(*(np.linspace(low[k], high[k], 9) for k in range(2)))
        shifts = self.field(np.c_[x.ravel(), y.ravel()])
        mean = shifts.mean(axis=0)
        varying = np.sqrt(np.square(shifts - mean).sum(axis=1).mean())
        return float(np.hypot(*mean)), float(varying)


def measure(pair: Pair) -> Agreement | None:
    """What the stars say of the place that `pair` names, or None if they do not know it."""
    scale = pair.scale
    rows, columns, area = common_part(pair)
    one, two = pair.science.take(rows), pair.template.take(columns)
    here, there = pair.nodes.at(one.xy) / scale, two.xy / scale
    for reach, tolerance, certain in SEARCHES:
        offset, chance = common_offset(here, there, reach, tolerance, area)
        if chance < certain:
            return _refined(pair, pair.nodes, functools.partial(np.add, offset), "shift")
    return None


def _refined(pair, base, place, stiffest, named=None) -> Agreement | None:
    """Stars matched at `place` (a map of positions on `base`), and the field through them.

    `named` are the nodes that were asked about, if `pair` has others.
    """
    scale = pair.at(base).scale
    rows, columns, area = common_part(pair)
    one, two = pair.science.take(rows), pair.template.take(columns)
    here, there = base.at(one.xy) / scale, two.xy / scale
    placed = place(here)
    for radius in ROUNDS:
        found = match_positions(placed, there, radius, area)
        fine = ~(one.rough[found.first] | two.rough[found.second])
        if fine.sum() < LEAST[stiffest]:
            return None
        first, second = found.first[fine], found.second[fine]
        away = there[second] - here[first]
        error = np.hypot(one.error[first], two.error[second] / scale)
        field = fit_shift_field(here[first], away, error, stiffest)
        placed = here + field(here)
    spent = MODELS[field.model] // 2  # stars that agree with any field through them
    share = found.expected / len(here)
    weight = field.weight / (error**2 + field.scatter**2)
    if binomial_tail(len(found) - spent, len(here) - spent, share) > CERTAIN or not weight.any():
        return None
    asked = there[second] - (named or pair.nodes).at(one.xy[first]) / scale
    before, after = (
        float(np.sqrt(np.average(np.square(off).sum(axis=1), weights=weight)))
        for off in (asked, field.residual)
    )
    stars = one.xy[first][field.weight > 0]
    common = len(rows), len(columns)
    return Agreement(base, scale, field, stars, before, after, common, found.expected)


def common_part(pair: Pair):
    """Rows of the sources of both images that the other sees, and the area (px²) of that part."""
    mask, scale = pair.template_mask, pair.scale
    at = pair.nodes.at(pair.science.xy)
    col, row = np.rint(np.clip(at.T, -1e6, 1e6)).astype(int)
    seen = (row >= 0) & (col >= 0) & (row < mask.shape[0]) & (col < mask.shape[1])
    bad = np.uint16(UNUSABLE & ~MaskBit.SAT)
    seen[seen] = (mask[row[seen], col[seen]] & bad) == 0
    inside = pair.nodes.inside(mask.shape)
    if not inside.any():
        return np.flatnonzero(seen), np.zeros(0, int), 1.0
    nodes = np.c_[pair.nodes.x[inside], pair.nodes.y[inside]]
    distance, _ = spatial.cKDTree(nodes).query(pair.template.xy)
    area = inside.mean() * pair.shape[0] * pair.shape[1]
    return np.flatnonzero(seen), np.flatnonzero(distance < STEP * scale), area


def search(pair: Pair) -> Agreement | None:
    """The place of the science image on the template by asterisms of their stars, measured."""
    scale = pair.scale
    here, there = pair.nodes.at(pair.science.xy) / scale, pair.template.xy / scale
    known = here.min(axis=1) > -1e5 / scale
    shape = pair.template_mask.shape
    area = pair.shape[0] * pair.shape[1], shape[0] * shape[1] / scale**2
    found = find_asterism(here[known], there, area)
    if found is None:
        return None
    turned, _ = found
    moved = pair.nodes.moved(lambda xy: turned(xy / scale) * scale)
    # a shift field can turn and scale, but mirrors only with a step where it passes zero
    flip = np.array([np.sign(np.linalg.det(turned.matrix)), 1.0])
    base = pair.nodes.moved(lambda xy: xy * flip)
    place = pair.at(moved)
    return _refined(place, base, lambda xy: turned(xy * flip), "similarity", pair.nodes)


def better(first: Agreement | None, second: Agreement | None) -> Agreement | None:
    """The second if it has many more matches."""
    if first is None or second is None:
        return first or second
    return second if len(second.stars) > MORE * len(first.stars) else first


def has_few(agreement: Agreement) -> bool:
    """Whether so few of the stars match that the place may be wrong."""
    return len(agreement.stars) < LITTLE * min(agreement.common)
