"""The median without a sorted copy, and cheaper to compile than NumPy's inside a loop."""

from psflib.loops._numba import loop


@loop
def partition(values, k):
    """Rearrange `values` so that values[k] is what it would be if they were sorted (Hoare 1961).

    Smaller values stand before it, larger ones behind; they must not hold NaN.
    """
    low, high = 0, values.size - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            return


@loop
def median(values):
    """Median of `values` (n,), n > 0, which are rearranged; they must not hold NaN."""
    middle = values.size // 2
    partition(values, middle)
    upper = values[middle]
    if values.size % 2:
        return upper
    lower = values[0]
    for i in range(1, middle):
        lower = max(lower, values[i])
    return 0.5 * (lower + upper)
