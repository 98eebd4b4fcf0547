#!/usr/bin/env bash
# sep: the flux of an aperture with masked pixels is scaled up by its area, as if it were sky.
# Exit code 0: the surprise is still there; 1: it has changed; 2: the packages could not be installed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sep==1.4.1 photutils==3.0.0 astropy==8.0.2 numpy==2.4.6 scipy==1.17.1 || exit 2

echo "package:   sep 1.4.1, photutils 3.0.0 beside it (2026-11-28)"
echo "guess:     masked pixels are left out of the sum, and the sum is what is left, as photutils has it"
echo "happens:   sep multiplies the sum by all pixels over those left: right for a flat sky, for a star"
echo "           whose outskirts are masked ten times its flux. The flag says only that some were masked"
echo "who:       who measures stars beside bad columns, edges and masked neighbours with sep.sum_circle:"
echo "           zero points and flux ratios are too bright wherever masks are, by a factor of area"

cat > "$folder/show.py" <<'PYTHON'
"""A star of 1000 counts whose pixels beyond 3 px, or one pixel of whose core, are masked."""
import numpy as np
import sep
from photutils.aperture import CircularAperture, aperture_photometry

y, x = np.mgrid[:41, :41] - 20.0
radius = np.hypot(x, y)
star = 1000 * np.exp(-(radius**2) / (2 * 1.5**2)) / (2 * np.pi * 1.5**2)
found = {}
for name, mask in {"nothing": radius > 99, "core pixel": radius == 0, "beyond 3 px": radius > 3}.items():
    flux, _, flag = sep.sum_circle(star, [20.0], [20.0], 10.0, mask=mask)
    other = aperture_photometry(star, CircularAperture((20, 20), 10.0), mask=mask)["aperture_sum"][0]
    print(f"masked: {name:12} sep {flux[0]:7.0f} (flag {flag[0]}), photutils {other:6.0f}, "
          f"unmasked light {star[~mask].sum():5.0f}")
    found[name] = flux[0], other
raise SystemExit(not (found["beyond 3 px"][0] > 9000 and found["beyond 3 px"][1] < 900))
PYTHON
cd "$folder"
"$folder/venv/bin/python" show.py || { echo "it has changed"; exit 1; }
