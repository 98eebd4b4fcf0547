"""STDPipe's subtractions of a scene, where `stdpipe` is installed, by the figures of `Bench`.

Each gets the prepared images, masks and noise maps that psflib gets; ZOGY also the true PSFs and
the true flux scale.
"""

import dataclasses
import importlib.util
import itertools

import numpy as np
from matching_figures import Bench
from scipy import ndimage

from psflib.image.difference import Difference
from psflib.image.exposure import MaskBit
from psflib.image.noise import robust_std

PIECES = 4  # an axis, each with its own PSF in ZOGY
SIDE = 31  # px of ZOGY's PSFs
SPOILS = 8  # px around masked pixels where ZOGY, which has no mask, is not judged


def available():
    """Whether stdpipe can be imported."""
    return importlib.util.find_spec("stdpipe") is not None


@dataclasses.dataclass(frozen=True, eq=False)
class SfftKernel:
    """SFFT's kernel, with what `decorrelate` and the figures ask of a kernel."""

    result: object
    shape: tuple[int, int]
    order: int = 2
    flux_order: int = 1
    convolved: str = "template"

    @property
    def basis(self):
        return np.zeros((1, *self.result.kernel_shape))

    def at(self, x, y):
        from stdpipe.sfft import evaluate_kernel_at

        return evaluate_kernel_at(self.result, x, y, self.shape)

    def kernel_sum(self, x, y):
        return float(self.at(x, y).sum())


def _inputs(bench):
    pair = bench.science, bench.template
    images = [np.where(e.usable, e.image, 0).astype(float) for e in pair]
    masks = [~e.usable for e in pair]
    known = [np.where(e.variance > 0, e.variance, np.median(e.variance[e.usable])) for e in pair]
    errors = [np.sqrt(v).astype(float) for v in known]
    return {
        "image": images[0], "template": images[1], "mask": masks[0], "template_mask": masks[1],
        "err": errors[0], "template_err": errors[1],
    }  # fmt: skip


def sfft(bench: Bench, **options) -> Difference:
    """`run_sfft` as a difference."""
    from stdpipe.subtraction import run_sfft

    image, noise, result = run_sfft(**_inputs(bench), get_noise=True, get_kernel=True, **options)
    bad = ~(bench.science.usable & bench.template.usable) | result.dmask | ~np.isfinite(image)
    mask = np.where(bad, int(MaskBit.BAD), 0).astype(np.uint16)
    image, variance = (np.where(bad, 0, a).astype(np.float32) for a in (image, noise**2))
    return Difference(
        image, variance, mask, SfftKernel(result, image.shape), bench.psf,
        science=bench.science, template=bench.template, meta={"noise_correlation": (None, None)},
    )  # fmt: skip


def zogy(bench: Bench):
    """`run_zogy`: D, S_corr and point-source fluxes, all (ny, nx)."""
    from stdpipe.subtraction import run_zogy

    psfs = [_psf_model(camera.psf) for camera in bench.scene.cameras]
    good = ndimage.binary_erosion(bench.good, iterations=SPOILS)
    return run_zogy(
        **_inputs(bench), image_psf=psfs[0], template_psf=psfs[1], nx=PIECES,
        scale=float(1 / np.median(bench.scene.scale)), good_regions=good, get_Fpsf=True, nthreads=1,
    )[:3]  # fmt: skip


def zogy_figures(bench: Bench, planes) -> dict:
    """Figures of ZOGY: false positives and sky by S_corr, fluxes by its point-source photometry.

    D has no noise map: the ideal subtraction's sigma, scaled to D's scatter in the sky.
    """
    image, score, flux = planes
    use = ndimage.binary_erosion(bench.good, iterations=SPOILS)
    sky, bright = bench.regions(use)
    scale = robust_std((image / bench.sigma)[sky])
    strength = np.where(use, np.abs(score), 0)
    ratio = [flux[round(y), round(x)] / true for x, y, true in bench.transients]
    bias = np.median(ratio) - 1 - bench.bias(bench.oracle.image)
    return {
        "FP": bench.peaks(strength), **bench.star_bins(image / scale, use), "bias": 100 * bias,
        "sky": robust_std(score[sky]), "src": robust_std(score[bright]),
        "usable": use.sum() / bench.good.sum(),
    }  # fmt: skip


def _psf_model(psf):
    """A PSF in the form of STDPipe's: polynomials of degree 2 in x and y, by least squares."""
    ny, nx = psf.shape
    places = list(itertools.product(np.linspace(0, 1, 5), repeat=2))
    x, y = (
        (np.array(c) * (n - 1)) for c, n in zip(zip(*places, strict=True), (nx, ny), strict=True)
    )
    u, v = 2 * x / nx - 1, 2 * y / ny - 1
    terms = np.stack([u**i * v**j for j in range(3) for i in range(3 - j)], 1)
    stamps = np.array([psf.at(i, j, SIDE).ravel() for i, j in zip(x, y, strict=True)])
    data = np.linalg.lstsq(terms, stamps, rcond=None)[0].reshape(-1, SIDE, SIDE)
    return {
        "data": data, "degree": 2, "x0": nx / 2, "y0": ny / 2, "sx": nx / 2, "sy": ny / 2,
        "sampling": 1.0, "width": SIDE, "height": SIDE, "fwhm": psf.fwhm,
    }  # fmt: skip
