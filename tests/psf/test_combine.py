"""Options of `robust_combine` beyond the reference, and stacks larger than memory."""

import numpy as np
import pytest

from psflib.psf import combine_chunks, robust_combine
from tests.psf import naive_psf as naive


def stack_of(n=40, dtype=np.float64, seed=2):
    rng = np.random.default_rng(seed)
    stack = rng.normal(10, 1, (n, 7, 9)).astype(dtype)
    stack[rng.random(stack.shape) < 0.1] += 30
    stack[rng.random(stack.shape) < 0.05] = np.nan
    stack[rng.random(stack.shape) < 0.02] = np.inf
    weight = rng.uniform(0.5, 2, stack.shape).astype(dtype)
    weight[rng.random(stack.shape) < 0.05] = 0
    stack[:, 0, 0] = np.nan
    return stack, weight


@pytest.mark.parametrize("n", [1, 2, 3, 8, 41])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mad_clip_scales_and_variance_equal_naive(n, dtype):
    stack, weight = stack_of(n, dtype)
    scale = np.linspace(0.5, 4, n)
    scale[n // 2] = np.nan if n > 2 else scale[n // 2]
    for kappa in (3.0, 1.0):
        found = robust_combine(
            stack, weight=weight, combine_kappa=kappa, clip_scale="mad", star_scale=scale,
            sample_variance=True,
        )  # fmt: skip
        value, total, count, variance = naive.combine_with_options(stack, weight, scale, kappa)
        np.testing.assert_array_equal(found.count, count)
        # sums of up to 41 float64 terms
        np.testing.assert_allclose(found.combined, value, rtol=1e-13)
        np.testing.assert_allclose(found.weight, total, rtol=1e-13)
        # a difference of terms of the size of the squares: (30 / 1)² · 1e-16
        np.testing.assert_allclose(found.variance, variance, rtol=1e-11, atol=1e-12)


def test_mad_is_not_widened_by_outliers():
    stack = np.concatenate([np.random.default_rng(1).normal(0, 1, (30, 4, 4)),
                            np.full((14, 4, 4), 12.0)])  # fmt: skip
    assert np.abs(robust_combine(stack, clip_scale="mad").combined).max() < 4 / np.sqrt(30)
    assert robust_combine(stack).combined.min() > 2  # the RMS keeps them


def test_options_are_off_by_default():
    stack, weight = stack_of()
    found = robust_combine(stack, weight=weight)
    assert found.variance is None
    same = robust_combine(stack, weight=weight, star_scale=np.ones(len(stack)), clip_scale="rms")
    np.testing.assert_array_equal(found.combined, same.combined)


@pytest.mark.parametrize("memory", [1e-9, 0.02, 256.0])
@pytest.mark.parametrize("weighted", [True, False])
def test_chunks_give_the_identical_result(memory, weighted):
    stack, weight = stack_of(33)
    scale = np.linspace(1, 3, 33)
    calls = []

    def chunks():
        calls.append(1)
        for start in range(0, 33, 10):
            part = slice(start, start + 10)
            yield stack[part], weight[part] if weighted else None

    options = {"clip_scale": "mad", "sample_variance": True, "star_scale": scale}
    whole = robust_combine(stack, weight=weight if weighted else None, **options)
    found = combine_chunks(chunks, memory=memory, **options)
    for name in ("combined", "weight", "count", "variance"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    assert len(calls) == {1e-9: 8, 0.02: 3, 256.0: 2}[memory]


def test_refused():
    stack, weight = stack_of(4)
    with pytest.raises(ValueError, match='invalid clip_scale "std"'):
        robust_combine(stack, clip_scale="std")
    with pytest.raises(ValueError, match=r"star_scale must have the shape \(4,\); got \(3,\)"):
        robust_combine(stack, star_scale=np.ones(3))
    with pytest.raises(ValueError, match="memory must be finite and > 0"):
        combine_chunks(lambda: [(stack, weight)], memory=0)
    with pytest.raises(ValueError, match="there are no chunks"):
        combine_chunks(lambda: [])
    with pytest.raises(ValueError, match="the chunks disagree"):
        combine_chunks(lambda: [(stack, weight), (stack[:, :3], weight[:, :3])])
    turns = iter([[(stack, None)], [(stack[:2], None)]])
    with pytest.raises(ValueError, match="changed between two passes"):
        combine_chunks(lambda: next(turns))


def test_does_not_touch_or_copy_the_stack():
    stack, weight = stack_of(5)
    before = stack.copy(), weight.copy()
    robust_combine(stack, weight=weight)
    np.testing.assert_array_equal(stack, before[0])
    np.testing.assert_array_equal(weight, before[1])
