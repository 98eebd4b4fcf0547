"""Degrees of the Alard-Lupton basis by the Bayesian information criterion (Schwarz 1978)."""

import itertools

import numpy as np

from psflib.matching.cells.lsst_basis import gaussian_basis
from psflib.matching.cells.single import build_candidate, inner_box

MOST = 20  # candidates, the best rated: each is fitted once for every choice of degrees


def degrees_by_bic(candidates, pair, half, sigmas, degrees, config) -> tuple[tuple, dict]:
    """The degrees, none above `degrees`, that the candidates' own fits are best described with.

    BIC = chi² + n ln(pixels), n the number of basis images and the background, summed over the
    candidates, each of which has its own kernel.

    Parameters
    ----------
    candidates : list of KernelCandidate
        Rejected ones are left out.
    pair : Pair
    half : int
        Half width of the kernel, px.
    sigmas, degrees : sequences, as of `gaussian_basis`
    config : PsfMatchConfig

    Returns
    -------
    degrees : tuple of int
        `degrees` itself if no candidate can be fitted.
    scores : dict of tuple to float
        BIC of each choice.
    """
    usable = sorted((c for c in candidates if c.status != "bad"), key=lambda c: (-c.rating, c.id))
    scores = {}
    for choice in itertools.product(*(range(0, d + 1, 2) for d in degrees)):
        images = gaussian_basis(half, sigmas, choice)
        values = [_bic(one, pair, images, config) for one in usable[:MOST]]
        finite = [v for v in values if np.isfinite(v)]
        if finite and len(finite) == len(values):
            scores[choice] = float(np.sum(finite))
    best = min(scores, key=lambda c: (scores[c], sum(c))) if scores else tuple(degrees)
    return best, scores


def _bic(one, pair, images, config):
    fit = build_candidate(one, pair, images, config)
    if isinstance(fit, str):
        return np.inf
    pixels = np.prod([s.stop - s.start for s in inner_box(one.box, images.shape[-1] // 2)])
    unknowns = len(images) + 1
    return fit.chi2 * (pixels - unknowns) + unknowns * np.log(pixels)
