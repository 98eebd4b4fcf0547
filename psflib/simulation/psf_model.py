"""An effective PSF given by a formula, smoothly varying over the field."""

import dataclasses

import numpy as np

from psflib.loops.simulate import add_point_sources


@dataclasses.dataclass(frozen=True)
class PsfModel:
    """Sheared Moffat with a faint circular wing: I(r) falls as r^-3 far out.

    This is the *effective* PSF: the value at offset (dx, dy) is what a pixel there collects, the
    integration over the pixel already in it.  Sampling it at pixel centres is therefore exact.

    Core: (β-1)/(πR²) (1 + |S⁻¹d|²/R²)^-β, where S is a shear of unit determinant (g1, g2) and
    FWHM = 2R √(2^(1/β)-1) the geometric mean of both axes (Moffat 1969, A&A 3, 455).
    Wing: 1/(2πa²) (1 + r²/a²)^-3/2.

    Parameters
    ----------
    fwhm : float
        Of the core at the field's centre, px.
    g1, g2 : float
        Shear at the centre; (major - minor)/(major + minor) = √(g1² + g2²).
    variation : float
        Size of the trend over the field: FWHM changes by about -0.7 to +1.2 times
        `variation` (relative), the shear by up to 0.8 `variation`.
    beta : float
        Moffat exponent.
    wing : float
        Fraction of the flux in the wing.
    wing_radius : float
        Its scale a, px.
    shape : (ny, nx)
        Of the field over which it varies.
    coma : float
        Offset of a second, wider image of the core, relative to the FWHM, at the middle of the
        field's edges; it points away from the centre and grows with the distance from it.
    """

    fwhm: float = 3.0
    g1: float = 0.0
    g2: float = 0.0
    variation: float = 0.0
    beta: float = 3.0
    wing: float = 0.03
    wing_radius: float = 4.0
    shape: tuple[int, int] = (1024, 1024)
    coma: float = 0.0

    def fwhm_at(self, x, y):
        """FWHM of the core (px) at positions x, y (px)."""
        u, v = self._unit(x, y)
        trend = 0.5 * u - 0.3 * v + 0.35 * (u * u - 1 / 3) + 0.25 * u * v
        return self.fwhm * (1 + self.variation * trend)

    def shear_at(self, x, y):
        """(g1, g2) at positions x, y (px)."""
        u, v = self._unit(x, y)
        g1 = self.g1 + self.variation * (0.5 * v + 0.3 * u * u)
        g2 = self.g2 + self.variation * (-0.4 * u + 0.3 * u * v)
        return g1, g2

    def render(self, x, y, flux, out, reach=120.0, sky_sigma=10.0, at=None):
        """Add point sources to the image `out` (ny, nx) float64, in place.

        Parameters
        ----------
        x, y, flux : array (n,)
            px, px, ADU.
        reach : float
            Smallest radius (px) to which a star is followed; grows with flux until the wing is
            below 1 % of `sky_sigma`.  Beyond 120 px lies 1e-3 of the flux with the default wing.
        sky_sigma : float
            Noise of the sky, ADU.
        at : (x, y), optional
            Take the PSF of this place instead of that of each source.
        """
        x, y, flux = (np.atleast_1d(np.asarray(a, float)) for a in (x, y, flux))
        shapes = np.broadcast_to(self._shapes(*(at or (x, y))), (x.size, 3))
        level = self.wing * np.abs(flux) * self.wing_radius / (2 * np.pi)
        far = np.cbrt(level / (0.01 * sky_sigma))
        radius = np.maximum(reach, np.minimum(far, 400.0))
        for share, dx, dy, width in self._images(*(at or (x, y))):
            add_point_sources(
                out, x + dx, y + dy, share * flux, radius, shapes * [width, 1, 1],
                float(self.beta), float(self.wing), float(self.wing_radius),
            )  # fmt: skip

    def at(self, x, y, size=41, dx=0.0, dy=0.0, step=1.0):
        """The PSF of place (x, y) as a stamp.

        Parameters
        ----------
        x, y : float
            Place in the field, px.
        size : int
            Odd side of the stamp.
        dx, dy : float
            Where in the stamp it is centred, px from the central sample.
        step : float
            Distance of samples, px.

        Returns
        -------
        ndarray (size, size) float64
            Flux per px²; not renormalised: its sum times step² is the flux inside the stamp.
        """
        shapes = self._shapes(x, y) * [1 / step, 1, 1]
        half, out = size // 2, np.zeros((size, size))
        for share, to_x, to_y, width in self._images(x, y):
            add_point_sources(
                out, np.atleast_1d(half + (dx + to_x) / step),
                np.atleast_1d(half + (dy + to_y) / step), np.array([share * step**-2.0]),
                np.array([2.0 * size]), shapes * [width, 1, 1],
                float(self.beta), float(self.wing), self.wing_radius / step,
            )  # fmt: skip
        return out

    def _images(self, x, y):
        """(share of the flux, offset x, offset y, relative width) of the images that make a star.

        Coma is a quarter of the light, 1.3 times as wide, thrown away from the field's centre;
        the rest moves the other way, so that the centroid stays.
        """
        if self.coma == 0:
            return [(1.0, 0.0, 0.0, 1.0)]
        u, v = self._unit(x, y)
        dx, dy = self.coma * self.fwhm * u, self.coma * self.fwhm * v
        return [(0.75, -0.25 * dx, -0.25 * dy, 1.0), (0.25, 0.75 * dx, 0.75 * dy, 1.3)]

    def _shapes(self, x, y):
        """(n, 3): core radius, g1, g2."""
        core_radius = self.fwhm_at(x, y) / (2 * np.sqrt(2 ** (1 / self.beta) - 1))
        g1, g2 = self.shear_at(x, y)
        return np.atleast_2d(np.stack(np.broadcast_arrays(core_radius, g1, g2), axis=-1))

    def _unit(self, x, y):
        """Field coordinates on [-1, 1]."""
        ny, nx = self.shape
        return 2 * np.asarray(x) / (nx - 1) - 1, 2 * np.asarray(y) / (ny - 1) - 1
