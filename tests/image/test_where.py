"""`true_pixels` is `numpy.nonzero`, whatever the plane."""

import numpy as np
import pytest

from psflib.image.where import true_pixels


@pytest.mark.parametrize("shape", [(7, 11), (0, 5), (5, 0), (1, 1)])
@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_as_nonzero(shape, share):
    mask = np.random.default_rng(1).random(shape) < share
    for plane in (mask, mask.T, mask[::-1, ::2]):
        assert np.array_equal(true_pixels(plane), np.nonzero(plane))
