"""Alard-Lupton bases as LSST's pipelines and HOTPANTS size them.

The shapes are Gaussians times polynomials (Alard & Lupton 1998, ApJ 503, 325); how many, how wide
and in which box is each program's own rule.
"""

import numpy as np

from psflib.matching.cells.pca_basis import renormalised

FWHM_OF_SIGMA = 2.354820


def gaussian_basis(half: int, sigmas, degrees) -> np.ndarray:
    """Gaussians of `sigmas` (px) times u^p v^q, p + q <= degree; order 1, u, v, u², uv, v² ...

    Returns
    -------
    ndarray (nb, 2 half + 1, 2 half + 1) float64
        Image 0 has unit sum, the others zero sum and unit norm; nb = sum (d + 1)(d + 2) / 2.

    Raises
    ------
    ValueError
        Lists of different length, a half width below 1, a sigma or degree out of range.
    """
    if len(sigmas) != len(degrees):
        raise ValueError(f"{len(sigmas)} sigmas but {len(degrees)} degrees")
    if half < 1 or min(sigmas) <= 0 or min(degrees) < 0:
        raise ValueError(
            f"half width >= 1, sigmas > 0 and degrees >= 0 are needed; got {half}, "
            f"{tuple(sigmas)}, {tuple(degrees)}"
        )
    u = np.arange(-half, half + 1)
    images = []
    for sigma, degree in zip(sigmas, degrees, strict=True):
        line = np.exp(-0.5 * np.square(u / sigma))
        line /= line.sum()
        for total in range(degree + 1):
            for q in range(total + 1):
                column, row = line * (u / half) ** q, line * (u / half) ** (total - q)
                images.append(np.outer(column, row))
    return renormalised(np.array(images))


def basis_sigmas(template_fwhm, science_fwhm, config) -> tuple[list[float], str]:
    """Sigmas of the Gaussians, and the rule: "config", "convolution" or "deconvolution".

    The smallest Gaussian matches the two PSFs as if they were Gaussians, divided by beta when
    there are several; each next one is beta times wider.
    """
    if template_fwhm is None or science_fwhm is None or not config.scale_by_fwhm:
        return list(config.alard_sig_gauss), "config"
    for name, value in (("template", template_fwhm), ("science", science_fwhm)):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name}_fwhm must be a positive number of px; got {value}")
    if template_fwhm == science_fwhm:
        return list(config.alard_sig_gauss), "config"
    convolution = science_fwhm > template_fwhm
    least = config.alard_min_sig if convolution else config.alard_min_sig_deconv
    match = np.sqrt(abs(science_fwhm**2 - template_fwhm**2)) / FWHM_OF_SIGMA
    count, beta = config.alard_n_gauss, config.alard_gauss_beta
    first = max(least, match if count == 1 else match / beta)
    sigmas = [float(first * beta**i) for i in range(count)]
    return sigmas, "convolution" if convolution else "deconvolution"


def kernel_size(sigmas, config) -> int:
    """Side of the kernel in px: six of the largest sigma, odd, within the limits."""
    side = int(config.kernel_size_fwhm_scaling * sigmas[-1])
    side += 1 - side % 2
    return min(max(side, config.kernel_size_min), config.kernel_size_max)


def choose_basis(template_fwhm, science_fwhm, config) -> tuple[np.ndarray, dict]:
    """The Alard-Lupton basis for a pair of FWHMs in px, and what was chosen."""
    sigmas, rule = basis_sigmas(template_fwhm, science_fwhm, config)
    side = config.kernel_size if rule == "config" else kernel_size(sigmas, config)
    degrees = list(config.alard_deg_gauss)
    meta = {
        "ALBasisNGauss": len(sigmas), "ALBasisDegGauss": degrees, "ALBasisSigGauss": sigmas,
        "ALKernelSize": side, "ALBasisMode": rule,
    }  # fmt: skip
    return gaussian_basis(side // 2, sigmas, degrees), meta
