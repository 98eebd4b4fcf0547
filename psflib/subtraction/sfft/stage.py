"""The method `sfft` of the stage `subtract`: a delta-function kernel, fitted with weights."""

from psflib.image.difference import Difference
from psflib.image.exposure import Exposure
from psflib.settings.subtract import SfftSettings
from psflib.subtraction.al import subtract_fitted
from psflib.subtraction.sfft.footprints import Wanted, fit_kernel


def subtract(science: Exposure, template: Exposure, settings: SfftSettings, psf_of) -> Difference:
    """Science minus template, matched by a delta-function kernel; arguments as of `al.subtract`."""
    smooth = "gcv" if settings.smoothness is None else settings.smoothness
    wanted = Wanted(
        settings.kernel_order, settings.flux_order, settings.background_order,
        settings.kernel_size, settings.free_radius, smooth, settings.flux_range,
    )  # fmt: skip

    def fit(target, convolved, fwhms, name):
        return fit_kernel(target, convolved, fwhms, wanted, name)

    return subtract_fitted(fit, science, template, settings, psf_of)
