"""What the model cannot do, told by bright pixels: their scatter beyond the noise.

Noise is not all that a fit leaves.  Where the PSFs vary too fast for polynomials, or hold detail
that no kernel makes, residuals are a share of the light and outgrow the noise.  A clip in units of
the noise takes the cores of just those stars out of the fit that know most.
"""

import numpy as np

BRIGHT = 5.0  # sigma of a pixel, above which it is judged by its like
STARS = 60  # fewer, and a group of bright pixels is one star, which may be variable (DECam)
# Share of the claimed variance that all pixels must show, or the fit stays as strict as it was.
# GOTO, whose images share exposures, shows 0.2: leniency leaves 2.4 and 4.7 sigma of held-out stars
# above S/N 300 and 1000 in place of 2.7 and 5.5, and 268 candidates for 342, finds 36 listed
# sources for 35, but calls 66 others clean for 40: fewer of them have a shape that gives them away.
CLAIMED = 0.5
GROUP = 100  # brightest pixels of the first group; each further one has twice as many
MEDIAN = 0.4549  # of the square of a normal deviate of variance 1


def scatter(z2, level) -> np.ndarray:
    """Variance of equally bright pixels in units of the noise's, at least 1, (n,) float64.

    Parameters
    ----------
    z2 : ndarray (n,)
        Squared residuals in units of the noise's variance.
    level : ndarray (n,)
        Light of the model in units of the noise.
    """
    result = np.ones(len(z2))
    bright = np.flatnonzero(level > BRIGHT)
    bright = bright[np.argsort(-level[bright], kind="stable")]
    edges = GROUP * (2 ** np.arange(1, 31) - 1)
    # the faintest group is not smaller than the one before
    for part in np.split(bright, edges[2 * edges < len(bright)]):
        if len(part):
            result[part] = max(np.median(z2[part]) / MEDIAN, 1.0)
    return result
