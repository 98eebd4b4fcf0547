"""What the errors of a core PSF do to the fluxes that are measured with it.

To first order a PSF that is off by d changes all fluxes by the factor 1 - <P, d> / <P, P>, and what
makes its sum 1 by 1 + sum d: a number for all stars, that no single star's noise holds.  Where it
comes from are the noise of the stars that the PSF is made of, and the zero of its wing, which they
cannot tell from their skies.
"""

import numpy as np

from psflib.psf.core.state import nodes, witnesses


def relative_flux_error(state, draws, slow) -> tuple[float, float]:
    """Relative standard errors of a flux in the middle of the field, from shape and from zero.

    Parameters
    ----------
    state : State
        Of the constant model.
    draws : ndarray (m, n, n)
        Random errors of its nodes, see `Factor.draws`.
    slow : list of (float, ndarray (n, n))
        More variance, in units of the square of a pattern of nodes.

    Returns
    -------
    shape, zero : float
        Independent of each other.  The zero is 1 if nothing tells it.
    """
    psi = nodes(state.coef[0])
    shape = np.mean(np.square(_change(psi, draws)))
    if slow:
        variances, patterns = zip(*slow, strict=True)
        shape += np.sum(np.maximum(variances, 0) * np.square(_change(psi, np.array(patterns))))
    _, errors = witnesses(state)
    weight = np.sum(errors**-2.0)
    zero = psi.size / psi.sum() / np.sqrt(weight) if weight > 0 else 1.0
    return float(np.sqrt(shape)), float(min(zero, 1.0))


def _change(psi, errors):
    """Relative change of fluxes, fitted beside a free sky, by errors (m, n, n) of the nodes."""
    above = psi - psi.mean()
    return errors.sum((1, 2)) / psi.sum() - (above * errors).sum((1, 2)) / (above * psi).sum()
