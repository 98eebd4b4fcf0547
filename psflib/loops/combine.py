"""Robust combination of a stack, pixel by pixel."""

import numpy as np

from psflib.loops._numba import loop


@loop
def median_of_sorted(values, start, stop):
    """Median of `values[start:stop]`, already sorted; mean of the middle two if even."""
    middle = (start + stop) // 2
    if (stop - start) % 2:
        return values[middle]
    return 0.5 * (values[middle - 1] + values[middle])


@loop
def clip_sorted(values, n, kappa, max_iter):
    """Range [start, stop) of `values[:n]`, sorted, that survives kappa·RMS clipping."""
    # |v - c| > kappa·scale can only remove from the two ends of a sorted list.
    start, stop = 0, n
    for _ in range(max_iter):
        if stop <= start:
            break
        centre = median_of_sorted(values, start, stop)
        total = 0.0
        for i in range(start, stop):
            total += (values[i] - centre) ** 2
        limit = kappa * np.sqrt(total / (stop - start))
        first, last = start, stop
        while start < stop and abs(values[start] - centre) > limit:
            start += 1
        while stop > start and abs(values[stop - 1] - centre) > limit:
            stop -= 1
        if start == first and stop == last:
            break
    return start, stop


@loop
def combine_stack(stack, weight, use_median, kappa, max_iter, combined, total, count):
    """Combine `stack` (star, pixel) with `weight` into `combined`, `total`, `count` (pixel)."""
    n_stars, n_pixels = stack.shape
    values = np.empty(n_stars)
    for p in range(n_pixels):
        n = 0
        for s in range(n_stars):
            w = weight[s, p]
            if np.isfinite(stack[s, p]) and np.isfinite(w) and w > 0:
                values[n] = stack[s, p]
                n += 1
        combined[p], total[p], count[p] = np.nan, 0.0, 0
        values[:n].sort()
        start, stop = 0, n
        if not use_median:
            start, stop = clip_sorted(values, n, kappa, max_iter)
        if stop <= start:
            continue
        low, high = values[start], values[stop - 1]
        sum_w, sum_wv = 0.0, 0.0
        for s in range(n_stars):  # in the order of the stack, so that sums do not depend on sorting
            v, w = stack[s, p], weight[s, p]
            if np.isfinite(w) and w > 0 and v >= low and v <= high:
                sum_w += w
                sum_wv += w * v
        total[p] = sum_w
        count[p] = stop - start
        combined[p] = median_of_sorted(values, start, stop) if use_median else sum_wv / sum_w
