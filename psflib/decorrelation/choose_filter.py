"""Step 2, which filter: the one that whitens the noise, at every place of the field."""

from psflib.decorrelation.field import constant_filter, varying_filter
from psflib.decorrelation.filters import filter_from_power, score_filter, whitening_filter
from psflib.decorrelation.sky_variance import SkyVariance
from psflib.image import noise
from psflib.image.convolve import VaryingKernel, constant_kernel


def filter_of_inputs(inputs, sky, settings) -> VaryingKernel:
    """By the kernel and the noise of the two images; in score mode by `inputs.pre` as well.

    Parameters
    ----------
    inputs : NoiseOfInputs
        Of both images.
    sky : ndarray (ny, nx) bool
        Empty sky: its variance counts, not that of sources.
    settings : DecorrelateSettings
    """
    variances = SkyVariance(inputs.still, sky), SkyVariance(inputs.moved, sky)
    varies = settings.method == "varying"

    def filter_at(x, y):
        still, moved = (v(x, y) if varies else v.typical for v in variances)
        powers = still, moved, inputs.rho_s, inputs.rho_t
        if inputs.pre is None:
            return whitening_filter(inputs.kernel.at(x, y), *powers)
        return score_filter(inputs.kernel.at(x, y), inputs.pre.at(x, y), *powers)

    if varies:
        return varying_filter(filter_at, sky.shape, settings.accuracy)
    return constant_filter(filter_at, sky.shape)


def filter_of_difference(inputs, crop: int) -> VaryingKernel:
    """By the noise of the difference itself, `measured_noise`; `crop` is its half width, px."""
    return constant_kernel(
        filter_from_power(noise.power_spectrum(inputs.rho_s, (4 * crop, 4 * crop)), crop)
    )
