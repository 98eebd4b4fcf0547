"""Positions of two images matched, and how likely as many would match by chance."""

import dataclasses
import math

import numpy as np
from scipy import spatial, special


@dataclasses.dataclass(frozen=True, eq=False)
class Match:
    """Pairs of positions that are each other's nearest.

    Parameters
    ----------
    first, second : ndarray (n,) int
        Rows of the two lists.
    possible : int
        Positions of the first list that were tried.
    log_chance : float
        log10 of the probability that as many match if the second list is of another sky; 0 if
        that is to be expected.
    expected : float
        Matches by chance.
    """

    first: np.ndarray
    second: np.ndarray
    possible: int
    log_chance: float
    expected: float

    def __len__(self):
        return len(self.first)


def match_positions(first, second, radius, area, trials=1.0) -> Match:
    """Mutual nearest neighbours within `radius`.

    Parameters
    ----------
    first, second : ndarray (n, 2), (m, 2)
        px, on one grid.
    radius : float
        px.
    area : float
        px² that both lists cover: the second one's density gives the expectation by chance.
    trials : float
        Of how many places of the second list this is the best.
    """
    one, two = mutual_nearest(first, second, radius)
    share = min(1.0, len(second) * math.pi * radius**2 / max(area, 1.0))
    log_chance = binomial_tail(len(one), len(first), share) + math.log10(trials)
    return Match(one, two, len(first), min(0.0, log_chance), share * len(first))


def mutual_nearest(first, second, radius):
    """Rows of both lists that are each other's nearest, within `radius` px."""
    if not (len(first) and len(second)):
        return np.zeros(0, int), np.zeros(0, int)
    distance, two = spatial.cKDTree(second).query(first, distance_upper_bound=radius)
    one = np.flatnonzero(np.isfinite(distance))
    back = spatial.cKDTree(first).query(second[two[one]])[1]
    one = one[back == one]
    return one, two[one]


def binomial_tail(count, possible, share):
    """log10 of the probability of `count` or more of `possible` at the chance `share` each."""
    if count <= 0:
        return 0.0
    chance = special.bdtrc(count - 1, possible, min(share, 1.0))
    return math.log10(chance) if chance > 0 else -math.inf


def common_offset(first, second, reach, tolerance, area):
    """The offset (dx, dy), px, that most pairs within `reach` px share, and log10 of its chance.

    Pairs of two skies fill the disc of `reach` evenly; those of one sky crowd within `tolerance`.
    """
    if not (len(first) and len(second)):
        return np.zeros(2), 0.0
    near = spatial.cKDTree(first).sparse_distance_matrix(
        spatial.cKDTree(second), reach, output_type="ndarray"
    )
    offsets = second[near["j"]] - first[near["i"]]
    if not len(offsets):
        return np.zeros(2), 0.0
    tree = spatial.cKDTree(offsets)
    counts = tree.query_ball_point(offsets, tolerance, return_length=True)
    # of equal crowds the smallest offset
    best = np.lexsort((np.hypot(*offsets.T), -counts))[0]
    crowd = offsets[tree.query_ball_point(offsets[best], tolerance)]
    share = len(second) * math.pi * tolerance**2 / max(area, 1.0)
    trials = max(1.0, 4 * (reach / tolerance) ** 2)
    log_chance = binomial_tail(int(counts[best]), len(first), share) + math.log10(trials)
    return np.median(crowd, axis=0), min(0.0, log_chance)
