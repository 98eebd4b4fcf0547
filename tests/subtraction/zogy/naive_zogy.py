"""Proper image subtraction by the equations of Zackay, Ofek & Gal-Yam 2016, one after the other.

Complex transforms of the whole image, float64, periodic; F_n = 1, F_r the template's flux scale.
"""

import numpy as np


def zogy(new, ref, p_new, p_ref, sigma_new, sigma_ref, f_ref, var_new, var_ref, dx=0.0, dy=0.0,
         unknown=0.0):  # fmt: skip
    """D / F_D, P_D, S_corr, flux and its error; all planes have the shape of `new`.

    p_new, p_ref : the PSFs on planes of that shape, centred on pixel (0, 0).
    unknown : see `psflib.subtraction.zogy.filters.proper_filters`.
    """
    fft, ifft = np.fft.fft2, lambda a: np.fft.ifft2(a).real
    n, r, pn, pr = map(fft, (new, ref, p_new, p_ref))
    qn, qr = pn, pr
    if unknown:
        size = np.maximum(abs(pn) ** 2, abs(pr) ** 2)
        known = size / (size + unknown**2)
        qn, qr = known * pn + (1 - known) * unknown, known * pr + (1 - known) * unknown
    den = sigma_new**2 * f_ref**2 * abs(qr) ** 2 + sigma_ref**2 * abs(qn) ** 2
    f_d = f_ref / np.sqrt(sigma_new**2 * f_ref**2 + sigma_ref**2)  # eq. 15
    d = (f_ref * qr * n - qn * r) / np.sqrt(den)  # eq. 13
    p_d = f_ref * qr * pn / (f_d * np.sqrt(den))  # eq. 14
    k_new = f_d * np.conj(p_d) * f_ref * qr / np.sqrt(den)  # eq. 28, 29
    k_ref = f_d * np.conj(p_d) * qn / np.sqrt(den)
    s_new, s_ref = ifft(k_new * n), ifft(k_ref * r)
    s = s_new - s_ref
    v_s = sum(
        ifft(fft(v) * fft(ifft(k) ** 2)) for v, k in ((var_new, k_new), (var_ref, k_ref))
    )  # eq. 26, 27
    v_ast = sum(
        (dx * np.gradient(a, axis=1)) ** 2 + (dy * np.gradient(a, axis=0)) ** 2
        for a in (s_new, s_ref)
    )  # eq. 30-32
    f_s = np.sum(f_d**2 * abs(p_d) ** 2) / p_d.size  # eq. 42
    return ifft(d) / f_d, ifft(p_d), s / np.sqrt(v_s + v_ast), s / f_s, np.sqrt(v_s) / f_s
