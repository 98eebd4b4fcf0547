"""Cut-outs at the border, outside, and of places that are none."""

import numpy as np
import pytest

from psflib.image.cutout import cutout


@pytest.mark.parametrize(("x", "y"), [(5.4, 4.6), (0, 0), (-2.2, 3), (11, 8.4), (30, 3), (3, -9)])
def test_as_cut_from_a_padded_plane(x, y):
    plane = np.arange(12.0 * 9).reshape(9, 12)
    wide = np.pad(plane, 50, constant_values=np.nan)
    row, col = round(y) + 50, round(x) + 50
    expected = wide[row - 2 : row + 3, col - 2 : col + 3]
    np.testing.assert_array_equal(cutout(plane, x, y, 5), expected)


def test_types_and_places_that_are_none():
    assert cutout(np.zeros((3, 3), np.float32), 1, 1, 3).dtype == np.float32
    assert cutout(np.zeros((3, 3), np.int16), 1, 1, 3).dtype.kind == "f"
    assert np.isnan(cutout(np.zeros((3, 3)), np.nan, 1, 3)).all()
