"""How the wing changes over the field, from the bright stars that made it.

Real inner wings follow the optics as cores do: on one camera the light at 9 px, in units of
the star's, was 37 % more at one border than in the middle.
"""

import dataclasses

import numpy as np

from psflib.psf.extended import radii
from psflib.psf.wings.disc import disc
from psflib.psf.wings.field import WingShape, stamp_of
from psflib.psf.wings.stars import TUKEY
from psflib.psf.wings.variation import WingVariation, tents

STEP = 1.6  # ratio of the radii of neighbouring tents: 4 of them span a factor of 4
TENTS = 4
FEWEST = 10  # stars
FLOOR = 0.02  # relative error of a star's model in its own fit: its core is not that of the place
SCATTER = 0.03  # of the wings of single stars about a smooth field, relative
PASSES = 3
HUBER = 2.0  # sigma of a star's misfit
PRIOR = 0.5  # relative, of all that is fitted: holds what no star tells
GAIN = 2.0  # chi-square that a free number must win with stars that were left out


@dataclasses.dataclass(frozen=True, eq=False)
class _Told:
    """What n stars say of k tents.

    Parameters
    ----------
    change : ndarray (n, k)
        Relative change of the wing's light under each tent.
    weight : ndarray (n, k, k)
        Inverse of its covariance, `SCATTER` included.
    terms : ndarray (n, 3)
        1, u, v of the star's place.
    """

    change: np.ndarray
    weight: np.ndarray
    terms: np.ndarray

    def chi2(self, values):
        """Misfit (n,) of the stars from levels and slopes (k, 3), divided by k."""
        rest = self.change - self.terms @ values.T
        return np.einsum("ni,nij,nj->n", rest, self.weight, rest) / rest.shape[1]


def wing_variation(stars, shape: WingShape, psf, image_shape, aperture):
    """Shape at the middle of the field and the linear change of its wing about it.

    Each star's flux and sky are fitted anew with the core of its place; tents are taken in from the
    seam outwards as long as stars that were left out are predicted better.

    Parameters
    ----------
    stars : list of WingStar
        Fitted.
    shape : WingShape
        Core and wing that all stars have on average, on any scale.
    psf : PsfField
        Gives the core of each place.
    image_shape : (ny, nx)
    aperture : float
        px, within which the sum is to stay.

    Returns
    -------
    shape : WingShape
        The same one if there is no change to tell.
    variation : WingVariation or None
        None with fewer than ten stars, or if a change predicts no other star better.
    """
    ny, nx = image_shape
    centre, scale = ((nx - 1) / 2, (ny - 1) / 2), max(nx, ny) / 2
    nodes = shape.match_radius * STEP ** np.arange(TENTS)
    used = [star for star in stars if star.ok and star.clean is not None]
    if len(used) < FEWEST:
        return shape, None
    told = _told(used, shape, psf, nodes, centre, scale)
    number = _tents_that_predict(told)
    if number == 0:
        return shape, None
    values, errors = _solve(told, np.ones(len(told.terms), bool), number)
    level, slopes = 1 + values[:, 0], values[:, 1:]
    radius = radii(shape.wing.shape)
    wing = shape.wing * np.tensordot(level, tents(radius, nodes), 1)
    light = tents(radius, nodes) * wing * disc(wing.shape, aperture)
    middle = dataclasses.replace(shape, wing=wing)
    whole = np.sum(stamp_of(middle, (0.0, 0.0), len(wing)) * disc(wing.shape, aperture))
    return middle, WingVariation(
        nodes, slopes / level[:, None], errors[:, 1:] / level[:, None],
        light.sum(axis=(1, 2)) / whole, centre, scale,
    )  # fmt: skip


def _told(stars, shape, psf, nodes, centre, scale):
    """`_Told` of all stars whose equations have a solution."""
    changes, weights, terms = [], [], []
    for star in stars:
        x, y = star.col + star.delta[1], star.row + star.delta[0]
        core = psf.epsf(x, y)
        here = dataclasses.replace(shape, core=core * (shape.core.sum() / core.sum()))
        found = _one_star(star, here, nodes)
        if found is None:
            continue
        normal, right = found
        # (normal^-1 + scatter²)^-1, also where the star says nothing of a tent
        weights.append(normal @ np.linalg.inv(np.eye(len(nodes)) + SCATTER**2 * normal))
        changes.append(np.linalg.pinv(normal, rcond=1e-10, hermitian=True) @ right)
        terms.append((1.0, (x - centre[0]) / scale, (y - centre[1]) / scale))
    k = len(nodes)
    return _Told(np.reshape(changes, (-1, k)), np.reshape(weights, (-1, k, k)),
                 np.reshape(terms, (-1, 3)))  # fmt: skip


def _one_star(star, shape, nodes):
    """Normal matrix and right side of the tents, flux and sky plane solved for; None if singular.

    Each tent is the wing's light under it; what it holds too much, relative, is the unknown.
    """
    side = len(star.data)
    axis = np.arange(side) - star.half
    radius = np.hypot(axis[:, None] - star.delta[0], axis - star.delta[1])
    light = star.flux * stamp_of(shape, star.delta, side)
    wing = star.flux * stamp_of(
        dataclasses.replace(shape, core=np.zeros_like(shape.core)), star.delta, side
    )
    rows, columns = (np.broadcast_to(a / star.half, light.shape) for a in (axis[:, None], axis))
    model = np.stack([light, np.ones_like(light), rows, columns, *(tents(radius, nodes) * wing)])
    use = star.clean > 0
    model, data = model[:, use], star.data[use].astype(float)
    start = star.clean[use] / (1 + star.clean[use] * (FLOOR * light[use]) ** 2)
    held = np.diag(np.r_[np.zeros(4), np.full(len(nodes), PRIOR**-2.0)])

    def equations(weight):
        return (model * weight) @ model.T, (model * weight) @ data

    normal, right = equations(start)
    try:
        for _ in range(PASSES - 1):
            z = (data - np.linalg.solve(normal + held, right) @ model) * np.sqrt(start)
            spread = max(1.0, 1.4826 * float(np.median(np.abs(z))))
            tukey = np.square(np.maximum(1 - np.square(z / (TUKEY * spread)), 0))
            normal, right = equations(start * tukey / spread**2)
        # flux and sky go out: what is left speaks of the tents alone
        cross = np.linalg.solve(normal[:4, :4], normal[:4, 4:])
    except np.linalg.LinAlgError:
        return None
    normal, right = normal[4:, 4:] - normal[4:, :4] @ cross, right[4:] - right[:4] @ cross
    return (normal, right) if np.isfinite(normal).all() and np.isfinite(right).all() else None


def _tents_that_predict(told):
    """Number of tents, from the seam on, with which left-out stars are predicted best."""
    n = len(told.terms)
    if n < FEWEST:
        return 0
    costs = []
    for number in range(TENTS + 1):
        cost = GAIN * 3 * number
        for i in range(n):
            others = np.arange(n) != i
            cost += TENTS * _huber(told.chi2(_solve(told, others, number)[0])[i])
        costs.append(cost)
    return int(np.argmin(costs))


def _huber(chi2):
    return chi2 if chi2 < HUBER**2 else HUBER * (2 * np.sqrt(chi2) - HUBER)


def _solve(told, use, number):
    """Levels and slopes (TENTS, 3) of the first tents, 0 beyond, and their standard errors."""
    values, errors = np.zeros((TENTS, 3)), np.zeros((TENTS, 3))
    if number == 0:
        return values, errors
    weight, terms = told.weight[use, :number], told.terms[use]
    right = np.einsum("nij,nj,na->nia", weight, told.change[use], terms).reshape(len(terms), -1)
    normal = np.einsum("nij,na,nb->niajb", weight[:, :, :number], terms, terms)
    normal = normal.reshape(len(terms), 3 * number, 3 * number)
    share = np.ones(len(terms))
    for _ in range(PASSES):
        whole = np.tensordot(share, normal, 1) + np.eye(3 * number) * PRIOR**-2.0
        values[:number] = np.linalg.solve(whole, share @ right).reshape(number, 3)
        z = np.sqrt(told.chi2(values)[use])
        share = np.minimum(1, HUBER / np.maximum(z, 1e-300))
    spread = max(1.0, float(np.sqrt(np.mean(share * z**2))))
    errors[:number] = spread * np.sqrt(np.diag(np.linalg.inv(whole))).reshape(number, 3)
    return values, errors
