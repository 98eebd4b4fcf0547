"""The image without its haloes: what each star's stamp and the sky outside are measured on."""

import numpy as np

from psflib.psf.extended import on_native, radii
from psflib.psf.wings import bright_stars
from psflib.psf.wings.field import WingShape, stamp_of
from psflib.psf.wings.result import profile_of
from psflib.psf.wings.sky import FEWEST_CELLS, OutsideSky, sky_cells
from psflib.psf.wings.stars import search_norm

FARTHER = 2  # times the stamp's half side: what is taken from other stars' stamps and the sky


class HaloFreeImage:
    """The image between rounds: free of haloes, with the sky outside them."""

    def __init__(self, exposure, weight, fwhm):
        self.exposure, self.weight, self.fwhm = exposure, weight, fwhm
        self.norm = search_norm(weight, fwhm)
        self.sky = None

    def refresh(self, stars, shape):
        """Other stars' light out of every stamp; skies from outside all haloes."""
        used = [star for star in stars if star.ok]
        haloes = np.zeros((3, *self.exposure.shape), np.float32)
        plane = _continued(shape, self.exposure.shape)
        for star in used:
            add_star(haloes[0], plane, star)
        beyond = lift_planes(plane.wing, len(shape.wing) // 2)
        for star in used:
            add_lift(haloes[1:], beyond, star)
        for star in used:
            star.crowding = max(1.0, float(haloes[2, star.row, star.col]) / star.flux)
        rest = self.exposure.image - haloes[0]
        for star in used:
            size = len(star.data)
            own = star.flux * stamp_of(plane, star.delta, size)
            star.data = bright_stars.window(rest, star.row, star.col, star.half) + own.astype(
                np.float32
            )
        self._set_skies(used, rest, haloes)

    def _set_skies(self, stars, rest, haloes):
        cells = sky_cells(rest, self.weight, haloes, self.fwhm, self.norm)
        if len(cells) < FEWEST_CELLS:
            self.sky = None
        else:
            self.sky = OutsideSky(cells, self.exposure.shape)
        if self.sky is None:
            return
        x, y = (np.array([getattr(star, name) for star in stars]) for name in ("col", "row"))
        for star, *values in zip(stars, *self.sky.at(x, y), strict=True):
            star.sky, star.sky_error, star.sky_common = (float(value) for value in values)


def _continued(shape, image_shape):
    """The shape on a plane that reaches farther, by a power law."""
    side = len(shape.wing)
    size = min(2 * side + 1, 2 * (min(image_shape) // 2) + 1)
    profile = profile_of(shape)
    if size <= side:
        return shape
    wing = on_native(shape.wing, 1, size)
    radius = radii(wing.shape)
    margin = (size - side) // 2
    outside = np.ones(wing.shape, bool)
    outside[margin:-margin, margin:-margin] = False
    wing[outside] = profile(radius[outside])
    return WingShape(shape.core, shape.oversample, wing, shape.match_radius, shape.feather_width)


def add_star(image, shape, star):
    """Add the light of a `WingStar` to an image, in place."""
    size = min(len(shape.wing), 2 * FARTHER * star.half + 1)
    box, part = _overlap(star, size, image.shape)
    image[box] += (star.flux * stamp_of(shape, star.delta, size)).astype(np.float32)[part]


def lift_planes(wing, known):
    """Wing (3, h, h) float32 beyond `known` px, and 0 within; the lift; distances, px.

    The lift is what light of flux 1 changes by if the wing is raised by 1 to `known` px, and in
    proportion to itself beyond.
    """
    size, radius = len(wing), radii(wing.shape)
    edge = np.maximum(wing[size // 2, min(size // 2 + known, size - 1)], 1e-300)
    beyond = radius > known
    lift = np.where(beyond, np.clip(wing / edge, 0, 1), 1)
    return np.stack([np.where(beyond, wing, 0), lift, radius]).astype(np.float32)


def add_lift(planes, beyond, star):
    """Add a star to planes (2, ny, nx), in place: its far light, and its lift."""
    full = beyond.shape[1]
    box, part = _overlap(star, full, planes.shape[1:])
    planes[1][box] += star.flux * beyond[1][part]
    reach = min(full // 2, FARTHER * star.half)  # as in `add_star`
    box, part = _overlap(star, 2 * reach + 1, planes.shape[1:])
    wing, _, radius = beyond[:, full // 2 - reach :, full // 2 - reach :][:, *part]
    planes[0][box] += star.flux * np.where(radius <= reach, wing, np.float32(0))


def _overlap(star, size, shape):
    """Where a stamp about a star falls on an image, and which part of the stamp does."""
    top, left = star.row - size // 2, star.col - size // 2
    box = tuple(
        slice(max(start, 0), max(min(start + size, n), 0))
        for start, n in zip((top, left), shape, strict=True)
    )
    part = tuple(slice(s.start - o, s.stop - o) for s, o in zip(box, (top, left), strict=True))
    return box, part
