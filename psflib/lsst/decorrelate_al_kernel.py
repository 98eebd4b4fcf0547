"""`DecorrelateALKernelTask`: decorrelation by the names of LSST's pipelines.

One kernel and one variance for the whole image, as theirs; `psflib.decorrelate` is the stage that
follows both over the field.  Formulas: Reiss & Lupton 2016 (DMTN-021) for differences, DMTN-179
for score images and variance planes.
"""

import logging

import numpy as np
from scipy import fft

from psflib.image import noise
from psflib.image.checks import is_positive
from psflib.image.exposure import MaskBit, as_exposure, has_bits
from psflib.lsst.decorrelation_transforms import Transforms, power
from psflib.lsst.decorrelation_values import (
    Correction,
    DecorrelateALKernelConfig,
    DecorrelationResult,
    FixedPsf,
    kernel_at,
    local_median,
    pixels_of,
    psf_at,
    variance_of,
)

log = logging.getLogger(__name__)

LARGEST_RATIO = 1e8  # of the two variances, before the caller is asked whether it is meant
QUARTILES = 0.7413  # standard deviation of Gaussian values over their interquartile range
SUM_ERROR = 1e-6  # of a kernel that must have unit sum


class DecorrelateALKernelTask(Transforms):
    """Whiten the noise that matching one image to the other has correlated.

    Parameters
    ----------
    config : DecorrelateALKernelConfig or dict, optional

    Attributes
    ----------
    freq_space_shape : tuple of int or None
        Shape of all transforms, set by `compute_common_shape`.

    Notes
    -----
    All spectra are those of `scipy.fft.fft2`, with the origin of kernels and images in the corner
    (`pad_center_origin`).  No method changes what it is given.
    """

    def __init__(self, config: DecorrelateALKernelConfig | dict | None = None):
        super().__init__()
        if isinstance(config, dict):
            config = DecorrelateALKernelConfig(**config)
        if not isinstance(config, DecorrelateALKernelConfig | None):
            raise ValueError(
                f"config is a DecorrelateALKernelConfig or a dict; got {type(config).__name__}"
            )
        self.config = config or DecorrelateALKernelConfig()

    def compute_variance_mean(self, exposure) -> float:
        """Clipped mean of the variance plane in ADU², or NaN if all pixels are masked.

        Parameters
        ----------
        exposure : Exposure, CCDData or ndarray (ny, nx)
            Without a variance plane (arrays, say), the clipped variance of the pixels themselves.
        """
        exposure = as_exposure(exposure)
        keep = ~has_bits(exposure.mask, self.config.ignored)
        if exposure.variance is None:
            values = exposure.image[keep]
            return noise.clipped(values)[1] ** 2 if values.size else float("nan")
        return self._clipped_mean(exposure.variance[keep & (exposure.variance > 0)])

    def compute_diffim_correction(self, kappa, svar: float, tvar: float) -> Correction:
        """The filter that decorrelates a difference image (DMTN-021, eq. 6).

        corrft = sqrt[(svar + tvar K²) / (svar + tvar |kappa(k)|²)], with K the sum of the kernel:
        between min(1, ...) and sqrt(1 + K² tvar / svar), which it reaches where the kernel passes
        nothing.

        Parameters
        ----------
        kappa : ndarray (ny, nx)
            Matching kernel, odd or even sizes.
        svar, tvar : float
            Mean variance (ADU²) of the image that was not matched, and of the one that was,
            before its convolution.

        Raises
        ------
        ValueError
            A variance that is not positive and finite, or no `compute_common_shape` before.
        """
        _check_variances(svar, tvar)
        kernel = self._spectrum(kappa, "kappa")
        target = svar + tvar * np.sum(kappa, dtype=float) ** 2
        correction = np.sqrt(target / (svar + tvar * power(kernel)))
        return Correction(correction, correction.astype(complex), kernel * correction)

    def compute_score_correction(self, kappa, svar: float, tvar: float, pre_conv_arr) -> Correction:
        """The filter that makes a score image the optimal statistic for detection (DMTN-179).

        corrft = (svar + tvar K²) / (svar + tvar |kappa|² / |P|²): not white, but, up to a
        constant, the image S of Zackay, Ofek & Gal-Yam (2016) if P is the science image's PSF.

        Parameters
        ----------
        kappa : ndarray (ny, nx)
            Kernel that matched the template to the pre-convolved science image.
        svar, tvar : float
            Mean variance (ADU²) of science image and template, before any convolution.
        pre_conv_arr : ndarray (ny, nx)
            P, with whose reflection the science image was convolved; its sum is 1.

        Raises
        ------
        ValueError
            As in `compute_diffim_correction`, or a `pre_conv_arr` of another sum.
        """
        _check_variances(svar, tvar)
        total = np.sum(pre_conv_arr, dtype=float)
        if not abs(total - 1) <= SUM_ERROR:
            raise ValueError(f"the pre-convolution kernel must have unit sum; got {total:.8g}")
        kernel = self._spectrum(kappa, "kappa")
        before = self._spectrum(pre_conv_arr, "pre_conv_arr")
        floor = np.maximum(power(before), 1000 * np.finfo(float).tiny)
        target = svar + tvar * np.sum(kappa, dtype=float) ** 2
        with np.errstate(over="ignore"):  # infinite where P passes nothing: corrected to 0
            correction = target / (svar + tvar * (power(kernel) / floor))
        return Correction(correction, before.conj() * correction, kernel * correction)

    def compute_corrected_image(self, corrft: np.ndarray, img_old: np.ndarray) -> np.ndarray:
        """Filter an image.

        Parameters
        ----------
        corrft : ndarray of the task's `freq_space_shape`
        img_old : ndarray (ny, nx)
            Pixels that are NaN or inf count as the median of their surroundings.

        Returns
        -------
        ndarray (ny, nx)
            Of the dtype of `img_old` if that is float32 or float64, with NaN and inf where it has
            them.
        """
        image = np.array(img_old, dtype=float)
        bad = ~np.isfinite(image)
        if bad.all():
            return _as(img_old, image)
        kept = image[bad]
        image[bad] = local_median(image, bad)[bad]
        image = self._filtered(image, corrft)
        image[bad] = kept
        return _as(img_old, image)

    def compute_corrected_diffim_psf(self, corrft: np.ndarray, psf_old) -> np.ndarray:
        """The PSF of the corrected image.

        Parameters
        ----------
        corrft : ndarray of the task's `freq_space_shape`
            Of a score image `cnft`, which has the pre-convolution in it.
        psf_old : ndarray (ny, nx)
            PSF of the image before, as an image.

        Returns
        -------
        ndarray (ny, nx) float64 of unit sum
            What lies beyond the old box is cut off.
        """
        return self._corrected_psf(corrft, psf_old)[0]

    def calculate_variance_plane(
        self, vplane1, vplane2, var_mean1: float, var_mean2: float, c1ft, c2ft
    ) -> np.ndarray:
        """Variance (ADU²) of the corrected image: planes convolved with the squared kernels.

        Parameters
        ----------
        vplane1, vplane2 : ndarray (ny, nx)
            Variance of the independent pixels of the images before any convolution.
        var_mean1, var_mean2 : float
            What stands for values that are not finite.
        c1ft, c2ft : ndarray of the task's `freq_space_shape`
            `cnft` and `crft` of a correction, for the two planes.

        Returns
        -------
        ndarray (ny, nx) float64
            NaN or inf where one of the planes is.  Beyond the border there is no noise.
        """
        if np.shape(vplane1) != np.shape(vplane2):
            raise ValueError(f"planes differ in shape: {np.shape(vplane1)}, {np.shape(vplane2)}")
        total = np.zeros(np.shape(vplane1))
        lost = np.zeros(total.shape)
        for plane, mean, spectrum in (
            (vplane1, var_mean1, c1ft), (vplane2, var_mean2, c2ft)
        ):  # fmt: skip
            plane = np.array(plane, dtype=float)
            bad = ~np.isfinite(plane)
            lost[bad] += plane[bad]
            plane[bad] = mean
            squared = fft.fft2(np.square(fft.ifft2(self._checked(spectrum)).real))
            total += self._filtered(plane, squared)
        np.maximum(total, 0, out=total)  # rounding of the transform
        return total + lost

    @staticmethod
    def estimate_variance_plane(vplane1, vplane2, c1ft, c2ft) -> np.ndarray:
        """Variance (ADU²) of the corrected image, if it is the same all over a kernel.

        A weighted sum of the planes; parameters as in `calculate_variance_plane`.
        """
        weights = [float(np.mean(power(c))) for c in (c1ft, c2ft)]  # Parseval: sum of squares
        return weights[0] * np.asarray(vplane1, float) + weights[1] * np.asarray(vplane2, float)

    def run(
        self, science_exposure, template_exposure, subtracted_exposure, psf_matching_kernel,
        pre_conv_kernel=None, xcen=None, ycen=None, svar=None, tvar=None, template_matched=True,
        pre_conv_mode=False, **kwargs,
    ) -> DecorrelationResult:  # fmt: skip
        """Decorrelate a difference, or make a score image the optimal one.

        Parameters
        ----------
        science_exposure, template_exposure : Exposure, CCDData or ndarray (ny, nx)
            The images before pre-convolution and matching, on one grid.  Images without a
            variance plane have `svar` or `tvar` everywhere.
        subtracted_exposure : Exposure, CCDData or ndarray (ny, nx)
            In science flux units, with the PSF of the image that was not matched as
            ``meta["psf"]``: an object with ``at(x, y, size)`` or an image.  Its variance plane is
            not used.
        psf_matching_kernel : MatchingKernel (or any object with ``at(x, y)``), or ndarray (k, k)
            Not normalised: its sum is the flux scale.
        pre_conv_kernel : object with ``at(x, y, size)`` or ndarray, optional
            The science image was convolved with its reflection.  Default in `pre_conv_mode` the
            PSF of the science exposure.
        xcen, ycen : float, optional
            Place (px) of the kernel and PSF that stand for all; default the image's centre.
        svar, tvar : float, optional
            Variances (ADU²) of science image and template; default their clipped means.
        template_matched : bool
            True if the template was convolved, False if the science image was.
        pre_conv_mode : bool
            The difference is a score image.
        **kwargs
            Accepted for LSST's callers and named in a warning.

        Returns
        -------
        DecorrelationResult
            New objects.  If an image is entirely without data: a copy of the difference, and a
            warning.

        Raises
        ------
        ValueError
            A pre-convolution kernel without `template_matched` and `pre_conv_mode`, variances
            that are not positive, images of different shapes.
        """
        if not (template_matched and pre_conv_mode) and pre_conv_kernel is not None:
            raise ValueError("pre_conv_kernel needs template_matched=True and pre_conv_mode=True")
        if pre_conv_mode and not template_matched:
            raise ValueError("a score image has a matched template: template_matched=True")
        if kwargs:
            log.warning("these arguments have no effect: %s", ", ".join(sorted(kwargs)))
        exposures = [as_exposure(e) for e in (science_exposure, template_exposure)]
        image, exposure = pixels_of(subtracted_exposure)
        if any(e.shape != image.shape for e in exposures):
            shapes = [e.shape for e in exposures]
            raise ValueError(f"science and template {shapes}, difference {image.shape}: shapes")
        variances = self._variances(exposures, (svar, tvar))
        if variances is None or not np.isfinite(image).any():
            log.warning("an image has no usable pixel: the difference is returned as it is")
            return DecorrelationResult(_copy(subtracted_exposure), metadata={"decorrelated": False})
        place = _place(image.shape, xcen, ycen)
        kappa = kernel_at(psf_matching_kernel, place)
        psf = None if exposure is None else psf_at(exposure.meta.get("psf"), place)
        before = _pre_convolution(pre_conv_kernel, exposures[0], place) if pre_conv_mode else None
        self._choose_shape(image, kappa, psf, before)
        metadata = {
            "decorrelated": True, "svar": variances[0], "tvar": variances[1],
            "kernel_sum": float(np.sum(kappa)), "freq_space_shape": self.freq_space_shape,
        }  # fmt: skip
        if not template_matched:
            exposures, variances = exposures[::-1], variances[::-1]
        correction = self._correction(kappa, variances, before)
        corrected = self.compute_corrected_image(correction.corrft, image)
        variance = self._variance_plane(exposures, variances, correction)
        if not template_matched:  # the difference was divided by the kernel's sum
            variance /= metadata["kernel_sum"] ** 2
        if psf is not None:
            applied = correction.cnft if pre_conv_mode else correction.corrft
            psf, metadata["psf_clipped_energy"] = self._corrected_psf(applied, psf)
            psf = FixedPsf(psf)
        return self._result(exposure, corrected, variance.astype(np.float32), psf, metadata)

    def _correction(self, kappa, variances, before):
        if before is None:
            return self.compute_diffim_correction(kappa, *variances)
        return self.compute_score_correction(kappa, variances[0], variances[1], before)

    def _result(self, exposure, image, variance, psf, metadata):
        if exposure is None:
            return DecorrelationResult(image, variance, psf, metadata)
        meta = exposure.meta if psf is None else {**exposure.meta, "psf": psf}
        corrected = exposure.replace(image=image, variance=variance, meta=meta)
        metadata["variance_mean"] = self.compute_variance_mean(corrected)
        return DecorrelationResult(corrected, variance, psf, metadata)

    def _variances(self, exposures, given):
        """Mean variances of the two images, measured where not given; None without data."""
        result = []
        for exposure, value in zip(exposures, given, strict=True):
            if has_bits(exposure.mask, MaskBit.NO_DATA).all():
                return None
            result.append(self.compute_variance_mean(exposure) if value is None else float(value))
            if value is None and np.isnan(result[-1]):
                return None
        return result

    def _variance_plane(self, exposures, variances, correction):
        planes = [variance_of(*pair) for pair in zip(exposures, variances, strict=True)]
        filters = correction.cnft, correction.crft
        if self.config.complete_var_plane_propagation:
            return self.calculate_variance_plane(
                planes[0], planes[1], variances[0], variances[1], filters[0], filters[1]
            )
        return self.estimate_variance_plane(planes[0], planes[1], filters[0], filters[1])

    def _clipped_mean(self, values):
        """Mean of the values within `clip` sigma, from the median and quartiles on."""
        if not values.size:
            return float("nan")
        values = np.asarray(values, float)
        low, centre, high = np.percentile(values, (25, 50, 75))
        spread = QUARTILES * (high - low)
        for _ in range(self.config.iterations):
            kept = values[np.abs(values - centre) <= self.config.clip * spread]
            if not kept.size:  # all are equal, but for the rounding of their mean
                break
            centre, spread = kept.mean(), kept.std()
        return float(centre)

    def _corrected_psf(self, corrft, psf_old):
        """The PSF in its old box, and the share of its squares beyond."""
        psf_old = np.asarray(psf_old, float)
        wide = fft.ifft2(self._spectrum(psf_old, "psf_old") * self._checked(corrft)).real
        psf = self.pad_center_origin(wide, psf_old.shape, use_inverse=True)
        if not psf.sum() > 0:
            raise ValueError(f"the corrected PSF has the sum {psf.sum():.3g}")
        return psf / psf.sum(), float(1 - np.sum(psf**2) / np.sum(wide**2))


def _check_variances(svar, tvar):
    if not (is_positive(svar) and is_positive(tvar)):
        raise ValueError(f"svar and tvar must be positive and finite; got {svar} and {tvar}")
    if tvar > LARGEST_RATIO * svar:
        log.warning("tvar / svar is %.1e: are both variances in the same units?", tvar / svar)


def _place(shape, xcen, ycen):
    centre = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    return tuple(
        c if given is None else given for c, given in zip(centre, (xcen, ycen), strict=True)
    )


def _pre_convolution(kernel, science, place):
    """The pre-convolution kernel as an image; the science image's PSF if none was given."""
    given = psf_at(kernel, place)
    if given is not None:
        return given
    psf = psf_at(science.meta.get("psf"), place)
    if psf is None:
        raise ValueError('score mode needs pre_conv_kernel, or the science PSF as meta["psf"]')
    return psf / psf.sum()


def _copy(image):
    return image.copy() if isinstance(image, np.ndarray) else as_exposure(image).replace()


def _as(original, image):
    """`image` in the dtype of `original`, if that is a real float."""
    dtype = np.asarray(original).dtype
    return image.astype(dtype.newbyteorder("=") if dtype.kind == "f" else float, copy=False)
