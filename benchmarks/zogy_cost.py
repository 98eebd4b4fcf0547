"""One run of run_zogy on 1 Mpx, measured in this process alone: JSON on standard output.

python benchmarks/zogy_cost.py psflib|stdpipe [TILES]
"""

import json
import logging
import sys
import warnings

import numpy as np
from measure import cpu, peak_growth

from psflib.simulation.simulate import simulate_scene

SIZE, SMALL, SIDE, SEED = 1024, 256, 31, 71


def arguments(size):
    """Images with sky, masks, noise maps and PSFs of the scene `sparse`."""
    scene = simulate_scene("sparse", size, SEED)
    pair = scene.science, scene.template
    images = [np.where(o.exposure.usable, o.exposure.image, 0).astype(float) for o in pair]
    masks = [~o.exposure.usable for o in pair]
    sigmas = [np.sqrt(o.variance).astype(float) for o in pair]
    middle = (size - 1) / 2
    stamps = [camera.psf.at(middle, middle, SIDE) for camera in scene.cameras]
    psfs = [
        {"data": (p / p.sum())[None], "degree": 0, "x0": 0.0, "y0": 0.0, "sx": 1.0, "sy": 1.0,
         "sampling": 1.0, "width": SIDE, "height": SIDE, "ncoeffs": 1, "fwhm": c.psf.fwhm}
        for p, c in zip(stamps, scene.cameras, strict=True)
    ]  # fmt: skip
    good = ~(masks[0] | masks[1])
    return {
        "image": images[0], "template": images[1], "mask": masks[0], "template_mask": masks[1],
        "err": sigmas[0], "template_err": sigmas[1], "image_psf": psfs[0],
        "template_psf": psfs[1], "scale": float(1 / np.median(scene.scale)), "get_psf": True,
        "get_Fpsf": True, "good_regions": good, "nthreads": 1,
    }  # fmt: skip


def main(which, tiles=1):
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    if which == "psflib":
        from psflib.subtraction import run_zogy
    else:
        from stdpipe.subtraction import run_zogy
    run_zogy(**arguments(SMALL), nx=1)  # compiled, imported
    options = arguments(SIZE)
    (_, seconds), memory = peak_growth(cpu, lambda: run_zogy(**options, nx=tiles))
    return {"cpu": seconds / SIZE**2 * 1e6, "mb": memory}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], *map(int, sys.argv[2:]))))
