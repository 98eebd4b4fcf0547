"""Robust combination of a stack, pixel by pixel.

Axes: a stack (star, pixel); sorted samples (pixel, star), NaN last.
"""

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
def mad_of_sorted(values, start, stop, centre):
    """Median of |values[start:stop] - centre|, already sorted, centre within.

    Distances grow from the middle to both ends: the smaller of the two next ones is taken.
    """
    n = stop - start
    high = start
    while high < stop and values[high] < centre:
        high += 1
    low = high - 1
    last, before = 0.0, 0.0
    for _ in range(n // 2 + 1):
        before = last
        if high >= stop or (low >= start and centre - values[low] <= values[high] - centre):
            last = centre - values[low]
            low -= 1
        else:
            last = values[high] - centre
            high += 1
    return last if n % 2 else 0.5 * (before + last)


@loop
def clip_sorted(values, n, kappa, max_iter, use_mad):
    """Range [start, stop) of `values[:n]`, sorted, that survives clipping at kappa·scale.

    The scale is the RMS about the median, or 1.4826·MAD.
    """
    # |v - c| > kappa·scale can only remove from the two ends of a sorted list.
    start, stop = 0, n
    for _ in range(max_iter):
        if stop <= start:
            break
        centre = median_of_sorted(values, start, stop)
        if use_mad:
            limit = kappa * 1.4826 * mad_of_sorted(values, start, stop, centre)
        else:
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
def clip_pixels(ordered, use_median, kappa, max_iter, use_mad, low, high, middle, count):
    """Of each pixel of `ordered` (pixel, star): the lowest and highest survivor, their median and
    number; NaN, NaN, NaN and 0 without any.
    """
    n_pixels, n_stars = ordered.shape
    for p in range(n_pixels):
        n = n_stars
        while n > 0 and np.isnan(ordered[p, n - 1]):
            n -= 1
        start, stop = 0, n
        if not use_median:
            start, stop = clip_sorted(ordered[p], n, kappa, max_iter, use_mad)
        count[p] = stop - start
        low[p], high[p], middle[p] = np.nan, np.nan, np.nan
        if stop > start:
            low[p], high[p] = ordered[p, start], ordered[p, stop - 1]
            middle[p] = median_of_sorted(ordered[p], start, stop)


@loop
def sum_between(stack, weight, low, high, sum_w, sum_wv):
    """Σw and Σwv over the samples of each pixel within [low, high]; NaN limits hold none.

    In the order of the stack, so that sums do not depend on sorting.
    """
    sum_w[:], sum_wv[:] = 0.0, 0.0
    for s in range(stack.shape[0]):
        for p in range(stack.shape[1]):
            v, w = stack[s, p], weight[s, p]
            if w > 0 and v >= low[p] and v <= high[p]:
                sum_w[p] += w
                sum_wv[p] += w * v


@loop
def sum_squares_between(stack, weight, low, high, centre, sum_wvv):
    """Σw(v - centre)² over the samples of each pixel within [low, high]."""
    sum_wvv[:] = 0.0
    for s in range(stack.shape[0]):
        for p in range(stack.shape[1]):
            v, w = stack[s, p], weight[s, p]
            if w > 0 and v >= low[p] and v <= high[p]:
                sum_wvv[p] += w * (v - centre[p]) ** 2
