#!/usr/bin/env bash
# astropy: a WCS with SIP distortion that is sliced with a step keeps the distortion of the full grid.
# Exit code 0: the surprise is still there; 1: it has changed; 2: the packages could not be installed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check astropy==8.0.2 numpy==2.4.6 || exit 2

echo "package:   astropy 8.0.2 (2026-11-28)"
echo "guess:     wcs[::2, ::2] is the WCS of the image binned by two, distortion and all, as wcs[10:, 20:]"
echo "           is that of the image cut out"
echo "happens:   reference pixel and scale follow, the SIP polynomials do not: those of second order"
echo "           then move half of what they should, of third order a quarter. No warning"
echo "who:       who bins or decimates survey images and slices their WCS along: positions are right in"
echo "           the middle and off towards the corners, by half of the distortion; templates do not align"

cat > "$folder/show.py" <<'PYTHON'
"""Sky positions of a grid's corners by the whole WCS and by the sliced one."""
import numpy as np
from astropy.wcs import WCS

header = {
    "NAXIS": 2, "CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "CRVAL1": 10.0, "CRVAL2": 20.0,
    "CRPIX1": 500.0, "CRPIX2": 500.0, "CDELT1": -1e-4, "CDELT2": 1e-4,
    "A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-5, "B_0_2": 1e-5,
}
distorted = WCS(header)
plain = WCS({k: v for k, v in header.items() if k[1:2] != "_"}
            | {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"})
x = np.array([0.0, 125.0, 250.0, 375.0, 499.0])


def off(wcs, part, at):
    """Distance in pixels of the full grid between what two WCS say of the same places."""
    return (wcs.pixel_to_world(at, at).separation(part.pixel_to_world(x, x)).deg / 1e-4).max()


straight, bent = (off(w, w[::2, ::2], 2 * x + 0.5) for w in (plain, distorted))
cut = off(distorted, distorted[10:, 10:], x + 10)
print(f"largest error: cut out {cut:.3f} px, every second pixel {straight:.3f} px without distortion,"
      f" {bent:.2f} px with 2.5 px of it")
raise SystemExit(not (straight < 0.01 and cut < 0.01 and bent > 1))
PYTHON
cd "$folder"
"$folder/venv/bin/python" show.py || { echo "it has changed"; exit 1; }
