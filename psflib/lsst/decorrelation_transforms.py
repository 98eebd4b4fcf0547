"""`Transforms`: one shape for the Fourier transforms of kernels, PSFs and images."""

import numpy as np
from scipy import fft


class Transforms:
    """Spectra of `freq_space_shape`, with the origin of all arrays in the corner.

    Attributes
    ----------
    freq_space_shape : tuple of int or None
        Shape of all transforms, set by `compute_common_shape`.
    """

    def __init__(self):
        self.freq_space_shape: tuple[int, ...] | None = None

    def compute_common_shape(self, *shapes) -> None:
        """Set `freq_space_shape` to the common shape for the transforms of arrays.

        On each axis the smallest even number that is at least N1 + N2 - 1, with N1 and N2 the two
        largest sizes; of a single shape, its sizes rounded up to even.

        Raises
        ------
        ValueError
            No shape, or shapes that are not positive or differ in their number of axes.
        """
        sizes = [tuple(int(n) for n in shape) for shape in shapes]
        if not sizes or len({len(s) for s in sizes}) > 1 or min(map(min, sizes)) < 1:
            raise ValueError(f"expected shapes of positive sizes and as many axes; got {shapes}")
        largest = [sorted(axis)[-2:] for axis in zip(*sizes, strict=True)]
        totals = [sum(axis) - (len(axis) - 1) for axis in largest]
        self.freq_space_shape = tuple(n + n % 2 for n in totals)

    @staticmethod
    def pad_center_origin(array: np.ndarray, new_shape, use_inverse: bool = False) -> np.ndarray:
        """Pad with zeros and move the centre pixel to the corner, or undo that.

        Parameters
        ----------
        array : ndarray
            Its centre is pixel n // 2 on each axis of n pixels.
        new_shape : tuple of int
            Of the result: forward at least the shape of `array`; inverse the shape that the array
            had before it was padded.
        use_inverse : bool
            Move the corner back to the centre and crop.

        Returns
        -------
        ndarray of the same dtype

        Raises
        ------
        ValueError
            A result that is smaller (inverse: larger) than `array`, or of other dimensions.
        """
        array, new_shape = np.asarray(array), tuple(int(n) for n in new_shape)
        small, large = array.shape, new_shape
        if use_inverse:
            small, large = large, small
        if len(small) != len(large) or any(a > b for a, b in zip(small, large, strict=True)):
            raise ValueError(f"an array of shape {small} cannot be padded to {large}")
        centre, axes = [n // 2 for n in small], tuple(range(len(small)))
        corner = tuple(slice(n) for n in small)
        if use_inverse:
            return np.roll(array, centre, axes)[corner].copy()
        padded = np.zeros(new_shape, array.dtype)
        padded[corner] = array
        return np.roll(padded, [-n for n in centre], axes)

    def _choose_shape(self, image, *others):
        """The common shape, rounded up to even sizes whose transforms are fast."""
        shapes = [np.shape(a) for a in (image, *others) if a is not None]
        self.compute_common_shape(*shapes)
        self.freq_space_shape = tuple(2 * fft.next_fast_len(n // 2) for n in self._shape())

    def _checked(self, spectrum):
        spectrum = np.asarray(spectrum)
        if spectrum.shape != self._shape():
            raise ValueError(f"spectrum {spectrum.shape}, freq_space_shape {self._shape()}: shapes")
        return spectrum

    def _shape(self):
        if self.freq_space_shape is None:
            raise ValueError("no shape for the transforms yet: call compute_common_shape first")
        return self.freq_space_shape

    def _spectrum(self, kernel, name):
        kernel = np.asarray(kernel, float)
        if not np.isfinite(kernel).all():
            raise ValueError(f"{name} has values that are not finite")
        return fft.fft2(self.pad_center_origin(kernel, self._shape()))

    def _filtered(self, image, spectrum):
        """Image times a spectrum of a real filter; both stay where they are."""
        ny, nx = self._shape()
        half = self._checked(spectrum)[:, : nx // 2 + 1]
        if image.shape[0] > ny or image.shape[1] > nx:
            raise ValueError(f"an image {image.shape} is larger than freq_space_shape {(ny, nx)}")
        wide = fft.irfft2(fft.rfft2(image, (ny, nx)) * half, (ny, nx))
        return wide[: image.shape[0], : image.shape[1]]


def power(spectrum):
    return np.square(spectrum.real) + np.square(spectrum.imag)
