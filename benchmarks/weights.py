"""Is the empty sky of a difference unbiased, whatever the variance planes are made of?

python benchmarks/weights.py                               the table
python benchmarks/weights.py --write docs/benchmarks.md    the same, into that file
"""

import itertools
import logging
import os

# CPU seconds of idle threads would be counted, so set before NumPy is loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
from measure import run_sections  # noqa: E402

import psflib  # noqa: E402
from psflib.simulation.psf_model import PsfModel  # noqa: E402

GAIN, READ, SHAPE, SEEDS = 1.5, 3.0, (512, 512), (1, 2, 3, 4)
PLANES = {
    "the pixel's counts": lambda seen, light: np.maximum(seen, 1) / GAIN + READ**2,
    "the truth": lambda seen, light: light / GAIN + READ**2,
    "measured by prepare": lambda seen, light: None,
}


def lights(sky, seed):
    """Noiseless science image and template, skies included."""
    rng = np.random.default_rng([seed, 17])
    x, y = rng.uniform(0, SHAPE[0], (2, 150))
    flux = 10 ** rng.uniform(2.8, 5, 150)
    made = []
    for fwhm, scale, level in ((3.6, 1.2, sky), (2.6, 1.0, 1.5 * sky)):
        light = np.zeros(SHAPE)
        PsfModel(fwhm, wing=0.0, shape=SHAPE).render(x, y, scale * flux, light)
        made.append(light + level)
    return made


def sky_of(sky, plane, method, seed):
    """Mean of the difference (ADU), its standard error, and mean of the score, in empty sky."""
    clean = lights(sky, seed)
    empty = clean[0] - sky < 0.02
    empty[:20], empty[-20:], empty[:, :20], empty[:, -20:] = False, False, False, False
    rng, pair = np.random.default_rng([seed, 18]), []
    for light in clean:
        seen = rng.poisson(light * GAIN) / GAIN + rng.normal(0, READ, SHAPE)
        variance = PLANES[plane](seen, light)
        variance = None if variance is None else variance.astype(np.float32)
        pair.append(psflib.Exposure(seen.astype(np.float32), variance, gain=GAIN))
    raw = psflib.subtract(*pair, method=method)
    score = psflib.decorrelate(raw).score
    use = empty & (raw.mask == 0)
    values = raw.image[use].astype(float)
    return values.mean(), values.std() / np.sqrt(values.size), score[use].mean()


def bias():
    """The empty sky of differences."""
    rows = []
    for sky, plane, method in itertools.product((300.0, 40.0, 5.0), PLANES, ("al", "sfft")):
        found = np.array([sky_of(sky, plane, method, seed) for seed in SEEDS])
        error = np.sqrt(np.sum(found[:, 1] ** 2)) / len(SEEDS)
        rows.append(
            [f"{sky:g}", plane, method, f"{found[:, 0].mean():+.3f} ± {error:.3f}",
             f"{found[:, 2].mean():+.3f}"]
        )  # fmt: skip
    columns = ["sky, ADU", "variance from", "method", "mean of the difference, ADU", "of the score"]
    title = "Empty sky of differences, 4 pairs of 512 x 512, gain 1.5 (goal 0)"
    return title, columns, rows


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    run_sections(__doc__, {"bias": bias}, "weights")
