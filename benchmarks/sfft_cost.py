"""One call of `run_sfft` on a scene, measured in this process alone: JSON on standard output.

python benchmarks/sfft_cost.py SIZE KERNEL ORDER [psflib|stdpipe]
"""

import json
import logging
import sys

import numpy as np
from measure import cpu, peak_growth

from psflib.preparation.prepare import prepare
from psflib.simulation.simulate import simulate_scene

SEED = 71
SMALL = 256  # px, the call that warms up


def inputs(size):
    """Arrays of the scene sparse, masks and noise maps as `run_sfft` takes them."""
    scene = simulate_scene("sparse", size, SEED)
    found = []
    for seen in (scene.science, scene.template):
        exposure = prepare(seen.exposure)
        variance = np.where(exposure.variance > 0, exposure.variance, np.median(exposure.variance))
        found.append((exposure.image.astype(float), ~exposure.usable, np.sqrt(variance)))
    (image, mask, err), (template, template_mask, template_err) = found
    return {
        "image": image, "template": template, "mask": mask, "template_mask": template_mask,
        "err": err, "template_err": template_err,
    }  # fmt: skip


def main(size, kernel, order, package="psflib"):
    logging.disable(logging.WARNING)
    if package == "stdpipe":
        from stdpipe.subtraction import run_sfft
    else:
        from psflib.subtraction import run_sfft

    def subtract(planes, side):
        return run_sfft(
            **planes, kernel_shape=(side, side), kernel_poly_order=order, get_noise=True,
            get_kernel=True,
        )  # fmt: skip

    subtract(inputs(SMALL), 5)
    planes = inputs(size)
    (found, seconds), memory = peak_growth(cpu, subtract, planes, kernel)
    difference, noise, result = found
    good = ~result.dmask
    z = (difference[good] / noise[good])[:: max(1, size * size // 200_000)]
    scatter = 1.4826 * float(np.median(np.abs(z)))
    return {"cpu": seconds, "memory": memory / 1024, "scatter": scatter}


if __name__ == "__main__":
    size, kernel, order, *package = sys.argv[1:]
    print(json.dumps(main(int(size), int(kernel), int(order), *package)))
