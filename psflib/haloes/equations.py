"""Amplitudes of overlapping stars and the sky about each, solved together.

Star i is fitted on its patch, the disc about it with its own polynomial sky.  With that sky
projected out, q_i = W_i (P_i - S t) and its equation is Σ_j (q_i·P_j) a_j = q_i·d: every other
star that shines into the patch stands in it with its own unknown.  All of these are solved at
once, so that no star comes first.
"""

import dataclasses

import numpy as np
from scipy import sparse

from psflib.haloes.model import Halo, boxes, distance, overlap

SAME = 1e-6  # of the diagonal; pivots below this are two stars that no pixel can tell apart


@dataclasses.dataclass(frozen=True, eq=False)
class Patch:
    """What the fit of one star sees.

    Parameters
    ----------
    box : (slice, slice)
        Rows and columns of the image.
    data : ndarray (h, w) float64
        ADU.
    weight : ndarray (h, w) float64
        Inverse variance, ADU⁻²; 0 where the pixel is not fitted.
    terms : ndarray (k, h, w) float64
        Of the sky: 1, then u, v within [-1, 1] about the star.
    """

    box: tuple[slice, slice]
    data: np.ndarray
    weight: np.ndarray
    terms: np.ndarray


def cut_patch(exposure, weight, x, y, inner, outer, order) -> Patch:
    """The pixels from `inner` to `outer` px about (x, y), and the terms of the sky there."""
    half = int(np.ceil(outer))
    box, _ = boxes(x, y, half, exposure.shape)
    r = distance(x, y, box)
    rows, cols = (np.arange(s.start, s.stop, dtype=float) for s in box)
    one = np.ones(r.shape)
    u, v = one * (cols[None, :] - x) / half, one * (rows[:, None] - y) / half
    terms = np.stack([one, u, v, u * u, u * v, v * v][: (order + 1) * (order + 2) // 2])
    used = np.where((r >= inner) & (r <= outer), weight[box], 0).astype(float)
    return Patch(box, exposure.image[box].astype(float), used, terms)


def neighbours(patches: list[Patch], haloes: list[Halo]) -> list[list[tuple]]:
    """For each patch the stars that shine into it: (star, part of the patch, part of its box)."""
    table = []
    for patch in patches:
        seen = ((j, overlap(patch.box, halo.box)) for j, halo in enumerate(haloes))
        table.append([(j, *parts) for j, parts in seen if parts is not None])
    return table


def light_on(patch: Patch, haloes, flux, near) -> np.ndarray:
    """Light (h, w) of all stars with their `flux` on a patch, ADU."""
    total = np.zeros(patch.data.shape)
    for j, here, there in near:
        total[here] += flux[j] * haloes[j].light[there]
    return total


@dataclasses.dataclass(frozen=True, eq=False)
class Solution:
    """What the equations give for n stars.

    Parameters
    ----------
    flux : ndarray (n,)
    covariance : ndarray (n, n)
        Of the fluxes, from the noise of the pixels.
    """

    flux: np.ndarray
    covariance: np.ndarray


def solve(patches, haloes, near, weights) -> Solution:
    """Fluxes that satisfy all stars' equations.

    Parameters
    ----------
    patches, haloes : lists of n
    near : list of lists
        From `neighbours`.
    weights : list of ndarray (h, w)
        Of each patch, robust factors included.
    """
    n = len(patches)
    matrix, right = np.zeros((n, n)), np.zeros(n)
    influence = []
    for i, (patch, weight) in enumerate(zip(patches, weights, strict=True)):
        q = _without_sky(patch, weight, _own_light(i, patch, haloes, near[i]))
        influence.append(q)
        right[i] = np.vdot(q, patch.data)
        for j, here, there in near[i]:
            matrix[i, j] = np.vdot(q[here], haloes[j].light[there])
    noise = _noise(patches, influence)
    flux, covariance = np.zeros(n), np.zeros((n, n))
    for block in _blocks(matrix):
        part = np.ix_(block, block)
        inverse = _inverse(matrix[part])
        flux[block] = inverse @ right[block]
        covariance[part] = inverse @ noise[part] @ inverse.T
    return Solution(flux, covariance)


def sky_of(patch: Patch, weight, rest) -> np.ndarray:
    """Coefficients (k,) of the sky under `rest`, the data without stars."""
    normal = np.einsum("ahw,hw,bhw->ab", patch.terms, weight, patch.terms, optimize=True)
    right = np.einsum("ahw,hw->a", patch.terms, weight * rest)
    return np.linalg.lstsq(normal, right, rcond=1e-12)[0]


def _own_light(i, patch, haloes, near):
    light = np.zeros(patch.data.shape)
    for j, here, there in near:
        if j == i:
            light[here] = haloes[j].light[there]
    return light


def _without_sky(patch, weight, light):
    """W (P - S t), with t the sky's coefficients that fit P best."""
    t = sky_of(patch, weight, light)
    return weight * (light - np.tensordot(t, patch.terms, 1))


def _noise(patches, influence):
    """Covariance of the right sides: Σ q_i q_j σ² over the pixels that two patches share."""
    n = len(patches)
    noise = np.zeros((n, n))
    for i, patch in enumerate(patches):
        spread = np.divide(
            influence[i], patch.weight, out=np.zeros_like(patch.data), where=patch.weight > 0
        )
        for j in range(i, n):
            parts = overlap(patch.box, patches[j].box)
            if parts is not None:
                noise[i, j] = noise[j, i] = np.vdot(spread[parts[0]], influence[j][parts[1]])
    return noise


def _blocks(matrix):
    """Rows of each group of stars that see each other."""
    count, label = sparse.csgraph.connected_components(sparse.csr_array(matrix != 0))
    return [np.flatnonzero(label == k) for k in range(count)]


def _inverse(matrix):
    """Inverse, by singular values where stars cannot be told apart; rows scaled to unity."""
    scale = np.sqrt(np.abs(np.diag(matrix)))
    scale = np.where(scale > 0, scale, 1)
    scaled = matrix / np.outer(scale, scale)
    return np.linalg.pinv(scaled, rcond=SAME) / np.outer(scale, scale)
