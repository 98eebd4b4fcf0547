"""Pairs of pure noise whose kernel and variances are known at each pixel."""

import dataclasses

import numpy as np
from scipy import ndimage, signal

from psflib.image.convolve import VaryingKernel, blend_nodes, constant_kernel, edge_grid
from psflib.image.difference import Difference
from psflib.image.exposure import Exposure
from psflib.simulation.psf_model import PsfModel

HALF = 12  # px, half width of the kernels
#: What resampling does to the noise of a template: about a bilinear warp by half a pixel, twice;
#: its squares sum to one.
SMOOTHING = np.outer([1, 2, 1], [1, 2, 1]) / 6.0


def gaussian(sigma, half=HALF, total=1.0):
    """A round Gaussian kernel of this sum."""
    r = np.arange(-half, half + 1)
    image = np.exp(-(r[:, None] ** 2 + r**2) / (2 * sigma**2))
    return total * image / image.sum()


class Kernel(VaryingKernel):
    """A varying kernel with what `decorrelate` asks of a matching kernel."""

    order, flux_order, convolved = 1, 0, "template"

    @property
    def basis(self):
        return self.images

    def kernel_sum(self, x, y):
        return float(self.at(x, y).sum())


@dataclasses.dataclass(frozen=True, eq=False)
class NoiseField:
    """Science minus matched template, all noise.

    kernel : Kernel;  svar, tvar : ndarray (ny, nx), variances of the two images (ADU²);
    warped : the template's noise is that of an image smoothed by `SMOOTHING`;  fwhm : px.
    """

    kernel: Kernel
    svar: np.ndarray
    tvar: np.ndarray
    warped: bool = False
    fwhm: float = 3.5

    @property
    def target(self):
        """Variance of white noise with the same power at frequency 0, ADU² (ny, nx)."""
        gain = SMOOTHING.sum() ** 2 if self.warped else 1.0
        ny, nx = self.svar.shape
        return self.svar + gain * self.tvar * self.kernel.kernel_sum(nx / 2, ny / 2) ** 2

    def draw(self, seed) -> Difference:
        """One realisation."""
        rng = np.random.default_rng(seed)
        science, template = (
            rng.normal(size=v.shape).astype(np.float32) * np.sqrt(v, dtype=np.float32)
            for v in (self.svar, self.tvar)
        )
        rho = None
        if self.warped:
            template = ndimage.convolve(template, SMOOTHING.astype(np.float32), mode="wrap")
            rho = signal.correlate2d(SMOOTHING, SMOOTHING).tolist()
        image = science - self.kernel.convolve(template)
        exposures = [
            Exposure(i, v, sky=0.0, meta={"fwhm": self.fwhm})
            for i, v in ((science, self.svar), (template, self.tvar))
        ]
        return Difference(
            image, self.raw_variance(), np.zeros(image.shape, np.uint16), self.kernel,
            PsfModel(self.fwhm, shape=image.shape), None, *exposures,
            meta={"noise_correlation": [None, rho]},
        )  # fmt: skip

    def raw_variance(self):
        """Variance of the difference, (ny, nx) float32, by the squared kernel at 9 x 9 places."""
        x, y = edge_grid(self.svar.shape, 9)
        squares = np.array([[self._square(self.kernel.at(i, j)) for i in x] for j in y])
        carried = blend_nodes(squares, x, y).convolve(self.tvar.astype(np.float32))
        return (self.svar + carried).astype(np.float32)

    def _square(self, kernel):
        return np.square(signal.fftconvolve(kernel, SMOOTHING) if self.warped else kernel)


def varying_field(size=1024, warped=False) -> NoiseField:
    """A kernel whose broad term grows nine times, variances that change by 30 and 40 %, K = 1.2."""
    narrow, broad = gaussian(1.0), gaussian(3.0)
    images = np.array([narrow, broad - narrow])

    def weights(x, y):
        share = 0.08 + 0.32 * (np.asarray(x) + np.asarray(y)) / (size - 1)  # 0.08 to 0.72
        return 1.2 * np.stack([np.ones_like(share), share])

    line = np.linspace(-1, 1, size, dtype=np.float32)
    svar = np.broadcast_to(25.0 * (1 + 0.3 * line[None, :]), (size, size))
    tvar = np.broadcast_to(16.0 * (1 + 0.4 * line[:, None]), (size, size))
    return NoiseField(Kernel(images, weights), svar, tvar, warped)


def constant_field(kappa, svar, tvar, size=1024) -> NoiseField:
    """One kernel, and the same noise everywhere."""
    kernel = constant_kernel(kappa)
    planes = [np.full((size, size), v, np.float32) for v in (svar, tvar)]
    return NoiseField(Kernel(kernel.images, kernel.weights), *planes)
