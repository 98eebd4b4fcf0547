#!/usr/bin/env bash
# STDPipe's run_sfft: the flux scale follows the sky where the sky is left in the images.
# Exit code 0: the surprise is still there; 1: it has changed; 2: the packages could not be installed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    stdpipe==0.4.1 "numpy>=2.1,<2.5" || exit 2

cat > "$folder/try.py" <<'PYTHON'
"""A pair whose flux scale is known, with its sky and without it."""
import sys
import warnings

import numpy as np
from stdpipe.subtraction import run_sfft

warnings.simplefilter("ignore")
TRUE, SKY, TEMPLATE_SKY = 1.3, 500.0, 300.0
rng = np.random.default_rng(5)
y, x = np.mgrid[0:300, 0:300]


def stars(fwhm):
    out = np.zeros(x.shape)
    for px, py, flux in places:
        out += flux / (2 * np.pi * (fwhm / 2.355) ** 2) * np.exp(
            -0.5 * ((x - px) ** 2 + (y - py) ** 2) / (fwhm / 2.355) ** 2
        )
    return out


places = [(*rng.uniform(20, 280, 2), rng.uniform(2e4, 2e5)) for _ in range(60)]
image = TRUE * stars(4.0) + rng.normal(0, 10, x.shape)
template = stars(3.0) + rng.normal(0, 5, x.shape)
scale = {}
for name, sky in (("sky left in", 1.0), ("sky subtracted", 0.0)):
    found = run_sfft(
        image + sky * SKY, template + sky * TEMPLATE_SKY, kernel_shape=(15, 15), kernel_poly_order=0,
        bg_poly_order=0, flux_poly_order=0, get_kernel=True,
    )
    result = found[-1]
    scale[name] = float(np.ravel(result.flux_poly_coeffs)[0])
    diff = found[0]
    print(f"  {name:16s} flux scale {scale[name]:.4f}, true {TRUE}; ratio of the skies "
          f"{SKY / TEMPLATE_SKY:.4f}; scatter of the difference {1.4826*np.median(np.abs(diff-np.median(diff))):.2f}")
follows = scale["sky left in"] - TRUE > 0.1 and abs(scale["sky subtracted"] - TRUE) < 0.01
sys.exit(0 if follows else 1)
PYTHON

echo "package:   stdpipe 0.4.1 (2026-11-28)"
echo "guess:     run_sfft fits a differential background, so that a constant sky in both images costs"
echo "           nothing: the flux scale is that of the stars"
echo "happens:   with the sky left in, the flux scale lies between that of the stars and the ratio of"
echo "           the two skies, and the stars stay in the difference; nothing is said"
echo "who:       whoever subtracts images as they come from the camera, and measures fluxes in them"
echo "seen:"
if OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/try.py"; then
    echo "still there"
else
    echo "changed"
    exit 1
fi
