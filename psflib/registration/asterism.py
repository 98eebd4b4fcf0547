"""The place of one image on another by the shapes of triangles of its stars.

The two ratios of a triangle's sides do not change when it is moved, turned, mirrored or scaled
(Groth 1986, AJ 91, 1244; Valdes et al. 1995, PASP 107, 1119).  Triangles of stars that are near
each other survive where the images share a small part only, and where each misses stars of the
other.  Each pair of like triangles proposes a similarity, mirrored if they run round in opposite
directions; those that many pairs propose are tried on all stars.
"""

import dataclasses
import itertools
import math

import numpy as np
from scipy import spatial

from psflib.registration.match import Match, binomial_tail, match_positions, mutual_nearest

NEIGHBOURS = 7  # of each star, to make triangles with
COUNTS = (30, 80, 200)  # brightest stars of the smaller image, tried one after the other
ALL_BELOW = 12  # stars; of so few every triangle is made
TOLERANCE = 0.01  # of the ratios of the sides
SMALLEST = 12.0  # px, longest side; smaller ones tell no direction
SCALES = (0.85, 1.18)  # accepted: 10 % off, and the error of a triangle
TRIED, GROWN = 100, 10  # proposals that are looked at, and that are fitted
FINE, COARSE = 2.0, 8.0  # px, radius of the matches at the end and at the beginning
CERTAIN = -5.0  # log10 of the chance that is taken as none


@dataclasses.dataclass(frozen=True, eq=False)
class Similarity:
    """second = first @ matrix + shift."""

    matrix: np.ndarray
    shift: np.ndarray

    def __call__(self, xy):
        return xy @ self.matrix + self.shift


def find_asterism(first, second, area) -> tuple[Similarity, Match] | None:
    """The affine map of `first` (n, 2) on `second` (m, 2), positions in px, brightest first.

    Parameters
    ----------
    area : (float, float)
        px² that each list covers; the lists are cut to equal densities.

    Returns
    -------
    (map, match) or None
        None if no map makes more stars agree than chance would.
    """
    density = len(first) / area[0], len(second) / area[1]
    seen = None
    for count in COUNTS:
        # equal densities, so that a star has the same neighbours in both
        level = min(count / min(area), *density)
        counts = tuple(max(3, round(level * a)) for a in area)
        if counts == seen:
            break
        seen = counts
        found = _among(first[: counts[0]], second[: counts[1]], first, second, area)
        if found is not None:
            return found
    return None


def _among(some_first, some_second, first, second, area):
    one, two = _triangles(some_first), _triangles(some_second)
    if one is None or two is None:
        return None
    proposals = _proposals(some_first, some_second, one, two)
    tree = spatial.cKDTree(some_second)
    counts = [np.isfinite(tree.query(p(some_first), 1, 0, 2, COARSE)[0]).sum() for p in proposals]
    for k in np.argsort(-np.array(counts, int), kind="stable")[:GROWN]:
        found = _grown(proposals[k], some_first, some_second, area, len(proposals))
        if found is not None:
            # all stars, now that few can be wrong
            full = _grown(found[0], first, second, area, 1, FINE)
            return found if full is None else full
    return None


def _triangles(xy):
    """Corners (n, 3) opposite the longest, middle and shortest side, the ratios, and the sense."""
    if len(xy) < 3:
        return None
    n = len(xy)
    near = spatial.cKDTree(xy).query(xy, min(n, n if n <= ALL_BELOW else NEIGHBOURS + 1))[1]
    pairs = np.array(list(itertools.combinations(range(1, near.shape[1]), 2)))
    corners = np.stack(
        [np.repeat(near[:, 0], len(pairs)), near[:, pairs[:, 0]].ravel(),
         near[:, pairs[:, 1]].ravel()], axis=1,
    )  # fmt: skip
    corners = np.unique(np.sort(corners, axis=1), axis=0)
    corners = corners[(np.diff(corners, axis=1) > 0).all(axis=1)]
    points = xy[corners]
    sides = np.linalg.norm(points[:, [1, 2, 0]] - points[:, [2, 0, 1]], axis=2)  # opposite corners
    order = np.argsort(-sides, axis=1, kind="stable")
    sides = np.take_along_axis(sides, order, 1)
    corners = np.take_along_axis(corners, order, 1)
    # nearly equal sides may be taken for each other, needles have no direction
    clear = (sides[:, 0] > SMALLEST) & (sides[:, 2] > 0.1 * sides[:, 0])
    clear &= (sides[:, 1] < 0.985 * sides[:, 0]) & (sides[:, 2] < 0.985 * sides[:, 1])
    if not clear.any():
        return None
    corners, sides = corners[clear], sides[clear]
    a, b, c = (xy[corners[:, k]] for k in range(3))
    (bx, by), (cx, cy) = (b - a).T, (c - a).T
    sense = np.sign(bx * cy - by * cx)
    return corners, sides[:, 1:] / sides[:, :1], sense


def _proposals(first, second, one, two):
    """Similarities (matrix, shift), those that most pairs of triangles agree on first."""
    near = spatial.cKDTree(one[1]).query_ball_tree(spatial.cKDTree(two[1]), TOLERANCE)
    i = np.repeat(np.arange(len(near)), [len(n) for n in near])
    j = np.concatenate([np.asarray(n, int) for n in near]) if len(i) else i
    if not len(i):
        return []
    mirrored = one[2][i] != two[2][j]
    matrix, shift, scale, turn = _similarities(first[one[0][i]], second[two[0][j]], mirrored)
    keep = (scale > SCALES[0]) & (scale < SCALES[1])
    matrix, shift, scale, turn, mirrored = (a[keep] for a in (matrix, shift, scale, turn, mirrored))
    if not len(scale):
        return []
    centre = np.einsum("j,njk->nk", first.mean(axis=0), matrix) + shift
    votes = np.c_[
        np.log(scale) / 0.03, np.cos(turn) / 0.03, np.sin(turn) / 0.03, centre / 15, mirrored * 9
    ]
    support = spatial.cKDTree(votes).query_ball_point(votes, 1.0, return_length=True)
    chosen: list[int] = []
    for k in np.argsort(-support, kind="stable"):
        if not (np.square(votes[chosen] - votes[k]).sum(axis=1) < 1).any():
            chosen.append(k)
        if len(chosen) == TRIED:
            break
    return [Similarity(matrix[k], shift[k]) for k in chosen]


def _similarities(p, q, mirrored):
    """Least-squares similarities of triangles p (n, 3, 2) to q; x of p turned round if mirrored.

    With positions as complex numbers q = a p + b, a = sum(conj(p) q) / sum(|p|²) about the means.
    """
    flip = np.where(mirrored, -1.0, 1.0)
    zp, zq = p[..., 0] * flip[:, None] + 1j * p[..., 1], q[..., 0] + 1j * q[..., 1]
    mp, mq = zp.mean(axis=1), zq.mean(axis=1)
    dp, dq = zp - mp[:, None], zq - mq[:, None]
    a = (np.conj(dp) * dq).sum(axis=1) / (np.abs(dp) ** 2).sum(axis=1)
    b = mq - a * mp
    matrix = np.empty((len(a), 2, 2))  # rows: x and y of p
    matrix[:, 0] = np.c_[a.real * flip, a.imag * flip]
    matrix[:, 1] = np.c_[-a.imag, a.real]
    return matrix, np.c_[b.real, b.imag], np.abs(a), np.angle(a)


def _grown(start, first, second, area, trials, radius=COARSE):
    """The affine map through all stars that match, from one that holds near its triangle."""
    found = start
    for r in (radius, radius, (radius + FINE) / 2, FINE, FINE):
        one, two = mutual_nearest(found(first), second, r)
        if len(one) < 3:
            return None
        found = affine(first[one], second[two])
        if found is None:
            return None
    scale = np.linalg.svd(found.matrix, compute_uv=False)
    if not (SCALES[0] < scale[1] and scale[0] < SCALES[1]):
        return None
    rows = np.flatnonzero(_inside(found(first), second))
    match = match_positions(found(first[rows]), second, FINE, area[1])
    # three stars agree with any map through them
    share = match.expected / max(len(rows), 1)
    chance = binomial_tail(len(match) - 3, len(rows) - 3, share) + math.log10(max(trials, 1))
    if chance > CERTAIN:
        return None
    return found, dataclasses.replace(match, first=rows[match.first], log_chance=chance)


def affine(first, second) -> Similarity | None:
    """Affine map through pairs of positions; with fewer than six of them a similarity.

    Medians of residuals decide which pairs count: those beyond three times theirs do not.
    """
    keep = np.ones(len(first), bool)
    for _ in range(4):
        if keep.sum() < 3:
            return None
        made = _least_squares(first[keep], second[keep])
        off = np.linalg.norm(made(first) - second, axis=1)
        keep = off <= max(3 * np.median(off[keep]), 0.3)
    return made


def _least_squares(first, second):
    if len(first) < 6:
        both = np.array([False, True])  # mirrored, whichever leaves less
        matrix, shift, _, _ = _similarities(np.stack([first] * 2), np.stack([second] * 2), both)
        made = [Similarity(*m) for m in zip(matrix, shift, strict=True)]
        return min(made, key=lambda m: np.square(m(first) - second).sum())
    centre = first.mean(axis=0)
    design = np.c_[first - centre, np.ones(len(first))]
    solution = np.linalg.lstsq(design, second, rcond=None)[0]
    return Similarity(solution[:2], solution[2] - centre @ solution[:2])


def _inside(xy, other):
    """Which positions lie in the box that the other list spans."""
    low, high = other.min(axis=0) - FINE, other.max(axis=0) + FINE
    return ((xy >= low) & (xy <= high)).all(axis=1)
