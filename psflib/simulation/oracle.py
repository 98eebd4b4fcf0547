"""What a perfect Alard-Lupton subtraction would give: the true kernel, and its difference."""

import numpy as np
from scipy import fft

from psflib.image.convolve import VaryingKernel, blend_nodes, node_grid
from psflib.simulation.scenes import MatchingScene

SIDE = 128  # px of the transforms
SMALLEST = 1e-3  # amplitude of the sharper PSF's transform below which it is not divided by


def true_kernel(scene: MatchingScene, convolved: str = "template", nodes: int = 7) -> VaryingKernel:
    """The kernel that turns the noiseless image `convolved` into the other one."""
    science, template = (camera.psf for camera in scene.cameras)
    half = int(np.ceil(3.5 * max(science.fwhm, template.fwhm)))
    x, y = node_grid(scene.scale.shape, nodes)
    grid = []
    for j in y:
        for i in x:
            scale = scene.scale[round(j), round(i)]
            if convolved == "template":
                grid.append(scale * _ratio(science, template, i, j, half))
            else:
                grid.append(_ratio(template, science, i, j, half) / scale)
    kernels = np.reshape(grid, (nodes, nodes, 2 * half + 1, 2 * half + 1))
    return blend_nodes(kernels, x, y)


def _ratio(broad, sharp, x, y, half):
    """Kernel from one PSF to the other, by division of their Fourier transforms."""
    spectra = [fft.rfft2(psf.at(x, y, SIDE - 1), (SIDE, SIDE)) for psf in (broad, sharp)]
    power = np.square(np.abs(spectra[1]))
    ratio = spectra[0] * np.conj(spectra[1]) / (power + SMALLEST**2)
    kernel = fft.fftshift(fft.irfft2(ratio, (SIDE, SIDE)))
    middle = SIDE // 2
    return kernel[middle - half : middle + half + 1, middle - half : middle + half + 1]


def oracle_difference(scene: MatchingScene, convolved: str = "template"):
    """Science minus template with the true kernel: exact where nothing changed.

    The noiseless images match by construction, so that only noise and changes pass through the
    kernel, which is known to some 1e-3.

    Returns
    -------
    image, variance : ndarray (ny, nx) float32
        ADU of the science image, and ADU²; 0 where pixels are masked.
    kernel : VaryingKernel
    """
    kernel = true_kernel(scene, convolved)
    rest, variance = [], []
    for seen, light in zip((scene.science, scene.template), scene.steady, strict=True):
        usable = seen.exposure.usable
        rest.append(np.where(usable, seen.exposure.image - seen.sky - light, 0))
        variance.append(seen.variance)
    if convolved == "science":
        rest, variance = rest[::-1], variance[::-1]
    image = rest[0] - kernel.convolve(rest[1])
    x, y = node_grid(scene.scale.shape, 7)
    square = blend_nodes(np.array([[np.square(kernel.at(i, j)) for i in x] for j in y]), x, y)
    noise = variance[0] + square.convolve(variance[1])
    if convolved == "science":
        image, noise = -image * scene.scale, noise * np.square(scene.scale)
    return image.astype(np.float32), noise.astype(np.float32), kernel
