"""A PSF by a formula that has what real ones have far out: a power-law wing and spikes."""

import dataclasses
import functools

import numpy as np

SPIKE_WIDTH = 1.2  # px, standard deviation across a spike
NEAR = 4.0  # px, inside which the wing and its spikes flatten


@dataclasses.dataclass(frozen=True)
class HaloPsf:
    """Moffat core, wing falling as r^-slope, four spikes: what `ExtendedPsfField` measures.

    As `PsfModel`, the effective PSF: sampling it at pixel centres is exact.

    Parameters
    ----------
    fwhm : float
        Of the Moffat core (beta 3), px.
    wing : float
        Flux of the wing within `ee_radius`, relative to the core's.
    slope : float
        Of the wing's power law far out.
    spikes : float
        Height of a spike over the round wing, relative to it at 10 px; it grows as the root of r:
        with slope 2.5 the spike itself falls as r^-2, as those of diffraction do.
    angle : float
        Of the first spike from +x, degrees; the others stand at right angles.
    ee_radius : float
        px; the PSF has unit sum inside.
    error : float
        Relative error to be told by `relative_error`.
    radius : float
        Radius (px) to which it counts as measured.
    """

    fwhm: float = 3.0
    wing: float = 0.05
    slope: float = 2.5
    spikes: float = 2.0
    angle: float = 30.0
    ee_radius: float = 15.0
    error: float = 0.0
    radius: float = 400.0

    def at(self, size: int) -> np.ndarray:
        """PSF (size, size) float64, centred."""
        return self.render(0.0, 0.0, size)

    def render(self, x: float, y: float, size: int) -> np.ndarray:
        """Unit star at (x, y) px in a stamp (size, size) about the pixel next to it."""
        offset = np.arange(size) - size // 2
        dx, dy = offset[None, :] - (x - round(x)), offset[:, None] - (y - round(y))
        return self._values(dx, dy) / self._total

    def relative_error(self, r) -> np.ndarray:
        """Error over value at radius r (px)."""
        return np.full(np.shape(r), self.error)

    @functools.cached_property
    def _total(self) -> float:
        offset = np.arange(-int(self.ee_radius) - 1, int(self.ee_radius) + 2)
        dx, dy = offset[None, :], offset[:, None]
        return float(self._values(dx, dy)[np.hypot(dx, dy) <= self.ee_radius].sum())

    def _values(self, dx, dy):
        scale = self.fwhm / (2 * np.sqrt(2 ** (1 / 3) - 1))
        r2 = dx**2 + dy**2
        core = 2 / (np.pi * scale**2) * (1 + r2 / scale**2) ** -3.0
        wing = (1 + r2 / NEAR**2) ** (-0.5 * self.slope)
        if self.spikes:
            wing = wing * (1 + self._spikes(dx, dy, r2))
        # ∫ (1 + r²/a²)^(-k/2) 2πr dr to R
        power = 1 - 0.5 * self.slope
        within = np.pi * NEAR**2 / power * ((1 + (self.ee_radius / NEAR) ** 2) ** power - 1)
        return core + self.wing / within * wing

    def _spikes(self, dx, dy, r2):
        """Height over the round wing."""
        total = np.zeros(np.shape(r2))
        for turn in (0.0, 90.0):
            angle = np.radians(self.angle + turn)
            across = dy * np.cos(angle) - dx * np.sin(angle)
            total += np.exp(-0.5 * (across / SPIKE_WIDTH) ** 2)
        return self.spikes * total * (r2 / 100) / (1 + r2 / 100) ** 0.75
