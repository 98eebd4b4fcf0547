"""Flux ratios of sources: what the kernel's first scale rests on."""

import numpy as np
import pytest

from psflib.matching import pixels


def test_new_sources_do_not_speak_for_all():
    """Of two sources that only the convolved image has, the ratio is nearly 0, and so its error."""
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, 300, (2, 13))
    truth = np.full(13, 2.25)
    truth[[3, 8]] = 0.03, 0.1
    error = truth * rng.uniform(0.002, 0.05, 13)
    error[[3, 8]] = 0.0024, 0.0037  # 4 and 8 % of them: precise enough to be trusted
    ratio = truth + rng.normal(0, error)
    order, trend = pixels._trend(x, y, ratio, error, (300, 300))
    sources = pixels.Sources(x, y, ratio, error, None, None, trend, order)
    assert sources.scale == pytest.approx(2.25, rel=0.05)
