"""The filters of proper image subtraction, as spectra (Zackay, Ofek & Gal-Yam 2016, ApJ 830, 27).

The template is on the science image's flux scale before it comes here, so the paper's F_n and F_r
are 1, and all filters are those of the paper divided by F_D: D is in science flux units and its
filters have unit gain at zero frequency.  With noise powers s² and t² of the two images:

    c_n = P_r / (F_D √den),  c_r = P_n / (F_D √den),  den = s² |P_r|² + t² |P_n|²   (eq. 13)
    D = c_n N - c_r R,   F_D = 1 / √(s² + t²)                                       (eq. 13, 15)
    P_D = P_n P_r / (F_D √den) = P_n c_n                                            (eq. 14)
    S = F_D² conj(P_D) D,   k_n = F_D² conj(P_D) c_n,  k_r = F_D² conj(P_D) c_r     (eq. 17, 28, 29)
    F_S = F_D² mean |P_D|²                                                          (eq. 42)

`S / F_S` is the flux of a point source, so the filters of S are kept divided by F_S.
"""

import dataclasses

import numpy as np
from scipy import fft

#: Amplitude of both PSFs' transforms, relative to zero frequency, below which nothing is known.
UNKNOWN = 1e-3


@dataclasses.dataclass(frozen=True, eq=False)
class ProperFilters:
    """Spectra on the rfft2 grid of planes of `shape`, the origin in the corner.

    science, template : ndarray complex
        c_n and c_r, of unit gain.
    psf : ndarray complex
        P_D.
    f_d : float
        F_D, one over the standard deviation of D's noise (1/ADU).
    f_s : float
        F_S, one over the variance of the flux of a point source (1/ADU²).
    shape : (ny, nx)
    """

    science: np.ndarray
    template: np.ndarray
    psf: np.ndarray
    f_d: float
    f_s: float
    shape: tuple[int, int]

    @property
    def matched(self) -> np.ndarray:
        """conj(P_D) F_D² / F_S: turns D into point-source fluxes."""
        return np.conj(self.psf) * self.psf.real.dtype.type(self.f_d**2 / self.f_s)


def proper_filters(
    psf_n, psf_r, var_n, var_r, shape, shift=(0.0, 0.0), unknown=UNKNOWN, dtype=np.float32
) -> ProperFilters:
    """Filters for two PSFs and two noise powers.

    Parameters
    ----------
    psf_n, psf_r : ndarray (k, k)
        PSF of the science image and of the template, k odd, unit sum.
    var_n, var_r : float, or ndarray on the rfft2 grid
        Noise power, ADU² of the science image.
    shape : (ny, nx)
        Of the planes to be transformed.
    shift : (dx, dy)
        Displacement to be applied to the template, px.
    unknown : float
        Where the amplitudes of both PSFs are below it, their ratio is taken as 1: rounding and
        the noise of the PSFs would spread the sharpest features (cosmic rays) over the image.
    """
    p_n, p_r = (psf_spectrum(p, shape, dtype) for p in (psf_n, psf_r))
    power_n, power_r = _power(p_n), _power(p_r)
    q_n, q_r = p_n, p_r
    if unknown:
        # both PSFs times one factor give the same filters, so known frequencies keep their ratio
        known = np.maximum(power_n, power_r)
        known /= known + dtype(unknown**2)
        floor = dtype(unknown) * (1 - known)
        q_n, q_r = p_n * known + floor, p_r * known + floor
        power_n, power_r = _power(q_n), _power(q_r)
    noise_d = (np.ravel(var_n)[0] + np.ravel(var_r)[0]).astype(float)  # at zero frequency
    den = np.asarray(var_n / noise_d, dtype) * power_r
    den += np.asarray(var_r / noise_d, dtype) * power_n
    root = np.sqrt(np.maximum(den, np.finfo(dtype).tiny * 100))
    science, template = q_r / root, q_n / root
    psf = p_n * science
    if any(shift):
        template *= phase(shift, shape, dtype)
    f_d = 1 / np.sqrt(noise_d)
    f_s = f_d**2 * mean_over_frequencies(_power(psf), shape)
    return ProperFilters(science, template, psf, float(f_d), float(f_s), shape)


def psf_spectrum(stamp, shape, dtype=np.float32) -> np.ndarray:
    """rfft2 of a stamp (k, k), k odd, its central pixel at the origin."""
    half, plane = len(stamp) // 2, np.zeros(shape, dtype)
    plane[: len(stamp), : len(stamp)] = stamp
    return fft.rfft2(np.roll(plane, (-half, -half), (0, 1)))


def phase(shift, shape, dtype=np.float32) -> np.ndarray:
    """Factor that displaces a plane by (dx, dy) px, on its rfft2 grid."""
    dx, dy = shift
    u, v = frequencies(shape)
    return (np.exp(-1j * v * dy) * np.exp(-1j * u * dx)).astype(np.result_type(dtype, 1j))


def frequencies(shape):
    """Angular frequencies (rad/px) along x (1, n) and y (ny, 1); 0 where their sign is unknown."""
    ny, nx = shape
    u, v = 2 * np.pi * fft.rfftfreq(nx)[None, :], 2 * np.pi * fft.fftfreq(ny)[:, None]
    if nx % 2 == 0:
        u[:, -1] = 0
    if ny % 2 == 0:
        v[ny // 2] = 0
    return u, v


def mean_over_frequencies(power, shape) -> float:
    """Mean of a real, symmetric spectrum over all ny * nx frequencies, from its rfft2 half."""
    total = 2 * power.sum(dtype=float) - power[:, 0].sum(dtype=float)
    if shape[1] % 2 == 0:
        total -= power[:, -1].sum(dtype=float)
    return float(total / (shape[0] * shape[1]))


def centred(spectrum, shape, half) -> np.ndarray:
    """The real filter of a spectrum, (2 * half + 1, 2 * half + 1) float64, origin in the middle."""
    plane = fft.irfft2(spectrum, shape)
    rows, cols = (np.arange(-half, half + 1) % n for n in shape)
    return plane[np.ix_(rows, cols)].astype(float)


def _power(spectrum):
    return np.square(spectrum.real) + np.square(spectrum.imag)
