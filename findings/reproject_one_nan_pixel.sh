#!/usr/bin/env bash
# reproject: with a spline of second or third order one NaN pixel makes the whole output NaN.
# Exit code 0: the surprise is still there; 1: it has changed; 2: the packages could not be installed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check reproject==0.21.0 astropy==8.0.2 numpy==2.4.6 scipy==1.17.1 || exit 2

echo "package:   reproject 0.21.0, astropy 8.0.2 (2026-11-28)"
echo "guess:     a missing pixel costs the output pixels about it, a few more for a higher order"
echo "happens:   bilinear loses 4 pixels, biquadratic and bicubic all 10,000: the spline's coefficients"
echo "           are found by a recursion along rows and columns, which a NaN never leaves"
echo "who:       who resamples a template with bad pixels as NaN by the smoother kernel; the whole"
echo "           difference is then empty. Fill the holes before, and resample their mask beside them"

cat > "$folder/show.py" <<'PYTHON'
"""One NaN in an image of ones, moved by a part of a pixel."""
import numpy as np
from astropy.wcs import WCS
from reproject import reproject_interp

here = WCS(naxis=2)
here.wcs.ctype = "RA---TAN", "DEC--TAN"
here.wcs.crval, here.wcs.crpix, here.wcs.cdelt = (10, 20), (50, 50), (-1e-4, 1e-4)
there = here.deepcopy()
there.wcs.crpix = 50.3, 50.4
image = np.ones((100, 100))
whole = image.copy()
image[20, 30] = np.nan
lost = {}
for order in ("nearest-neighbor", "bilinear", "biquadratic", "bicubic"):
    count = [np.isnan(reproject_interp((i, here), there, shape_out=(100, 100), order=order)[0]).sum()
             for i in (whole, image)]
    lost[order] = int(count[1] - count[0])
    print(f"{order:17} {lost[order]} of 10000 pixels lost by one")
raise SystemExit(not (lost["bilinear"] <= 4 and lost["biquadratic"] == lost["bicubic"] == 10000))
PYTHON
cd "$folder"
"$folder/venv/bin/python" show.py || { echo "it has changed"; exit 1; }
