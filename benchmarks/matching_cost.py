"""One subtraction, measured in this process alone: JSON on standard output.

python benchmarks/matching_cost.py SCENE SIZE SEED HIGHEST-ORDER
"""

import hashlib
import json
import logging
import sys
import time

import numpy as np
from measure import cpu, peak_growth

from psflib.preparation.prepare import prepare
from psflib.simulation.simulate import simulate_scene
from psflib.subtraction import al

SMALL = 512  # px, the subtraction that warms up


def pair(name, size, seed):
    """The prepared images of a scene and the function that knows their PSFs."""
    scene = simulate_scene(name, size, seed)
    images = [prepare(o.exposure) for o in (scene.science, scene.template)]
    psfs = {id(e): camera.psf for e, camera in zip(images, scene.cameras, strict=True)}
    return *images, lambda exposure: psfs[id(exposure)]


def main(name, size, seed, order):
    logging.disable(logging.WARNING)
    settings = al.AlSettings(kernel_order=order, flux_order=min(order, 2))

    def subtract(science, template, psf_of):
        begin = time.perf_counter()
        return al.subtract(science, template, settings, psf_of), time.perf_counter() - begin

    subtract(*pair(name, SMALL, seed))
    images = pair(name, size, seed)
    ((difference, wall), seconds), memory = peak_growth(cpu, subtract, *images)
    bits = hashlib.sha256(np.ascontiguousarray(difference.image).tobytes()).hexdigest()
    return {
        "cpu": seconds, "wall": wall, "planes": memory * 2**20 / (4 * size**2), "bits": bits,
        "order": difference.kernel.order, "flux_order": difference.kernel.flux_order,
    }  # fmt: skip


if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    print(json.dumps(main(name, *map(int, numbers))))
