"""Principal components of the candidates' kernels as a basis."""

import numpy as np

from psflib.errors import NotEnoughStars, SingularFit


def pca_basis(kernels, n_components: int = 5, subtract_mean: bool = True) -> np.ndarray:
    """Basis of the directions in which single kernels differ most.

    Parameters
    ----------
    kernels : ndarray (n, k, k)
        Kernels of single candidates; each is scaled to unit sum, so that a bright candidate or a
        high flux scale has no larger vote.  Those of less than half the typical sum are left out.
    n_components : int
        Images wanted, the mean included.
    subtract_mean : bool
        The mean kernel becomes image 0, and components are those of the deviations.

    Returns
    -------
    ndarray (<= n_components, k, k) float64
        Image 0 has unit sum, the others zero sum and unit norm.

    Raises
    ------
    NotEnoughStars
        Fewer than two kernels.
    SingularFit
        The kernels are all equal, or none has a finite sum.
    """
    kernels = np.asarray(kernels, float)
    sums = kernels.sum((1, 2))
    finite = np.isfinite(kernels).all((1, 2))
    # a noisy kernel of nearly no sum would dwarf all others once it is scaled to unit sum
    typical = np.median(sums[finite]) if finite.any() else 0.0
    good = finite & (sums * np.sign(typical) > 0.5 * abs(typical))
    if good.sum() < 2:
        raise NotEnoughStars("principal components of the kernels", int(good.sum()), 2)
    unit = kernels[good] / sums[good][:, None, None]
    mean = unit.mean(0) if subtract_mean else np.zeros_like(unit[0])
    _, values, directions = np.linalg.svd((unit - mean).reshape(len(unit), -1), full_matrices=False)
    used = values > 1e-10 * np.abs(unit).sum() / len(unit)
    if not used.any():
        raise SingularFit("the kernels of all candidates are equal: no principal components")
    images = directions[used].reshape(-1, *mean.shape)
    if subtract_mean:
        images = np.concatenate([mean[None], images])
    return renormalised(images[:n_components])


def renormalised(images: np.ndarray) -> np.ndarray:
    """Image 0 of unit sum, the others of zero sum and unit norm; the same span.

    The kernel sum is then the coefficient of image 0 alone.  Images that are copies of image 0
    are left out.

    Raises
    ------
    SingularFit
        Image 0 has no sum.
    """
    images = np.asarray(images, float)
    total = images[0].sum()
    if abs(total) < 1e-12 * np.abs(images[0]).sum():
        raise SingularFit("the first basis image has a sum of 0, so no kernel can have a sum")
    first = images[0] / total
    rest = images[1:] - images[1:].sum((1, 2))[:, None, None] * first
    norm = np.sqrt(np.square(rest).sum((1, 2)))
    keep = norm > 1e-10 * np.sqrt(np.square(images[1:]).sum((1, 2)))
    return np.concatenate([first[None], rest[keep] / norm[keep][:, None, None]])
