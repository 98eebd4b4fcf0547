"""Loop of the noise correlation."""

import numpy as np

from psflib.loops._numba import loop


@loop
def lag_products(z, select, max_lag):
    """Mean of z(p) z(p + lag) over selected pairs; lags dy >= 0, |dx| <= max_lag."""
    ny, nx = z.shape
    out = np.zeros((max_lag + 1, 2 * max_lag + 1))
    for dy in range(max_lag + 1):
        for dx in range(-max_lag, max_lag + 1):
            total = 0.0
            count = 0
            for y in range(ny - dy):
                for x in range(max(0, -dx), nx - max(0, dx)):
                    if select[y, x] and select[y + dy, x + dx]:
                        total += np.float64(z[y, x]) * z[y + dy, x + dx]
                        count += 1
            out[dy, dx + max_lag] = total / max(count, 1)
    return out
