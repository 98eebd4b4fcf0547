#!/usr/bin/env bash
# astropy.wcs (wcslib): a TPV header whose polynomial is left to its defaults puts every pixel at one place.
# Exit code 0: the surprise is still there; 1: it has changed; 2: the packages could not be installed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    astropy==7.2.0 numpy==2.3.5 || exit 2

cat > "$folder/try.py" <<'PYTHON'
"""Where pixel (0, 0) stands on the sky, by one projection written in three ways."""
import sys
import warnings

import numpy as np
from astropy.wcs import WCS

CARDS = dict(CRPIX1=1024.0, CRPIX2=1024.0, CRVAL1=150.0, CRVAL2=20.0,
             CD1_1=-1e-4, CD1_2=0.0, CD2_1=0.0, CD2_2=1e-4)
WAYS = {
    "TAN": {},
    "TPV, no PV card": {},
    "TPV, PV1_1 = 1 only": {"PV1_1": 1.0},
    "TPV, PV1_1 = PV2_1 = 1": {"PV1_1": 1.0, "PV2_1": 1.0},
}
places = {}
for name, terms in WAYS.items():
    kind = name[:3]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        wcs = WCS({"CTYPE1": f"RA---{kind}", "CTYPE2": f"DEC--{kind}", **CARDS, **terms})
        places[name] = wcs.all_pix2world([[0.0, 0.0]], 0)[0]
    print(f"  {name:24s} RA {places[name][0]:.5f}  Dec {places[name][1]:.5f}  {len(told)} warnings")
off = {n: float(np.abs(p - places["TAN"]).max()) for n, p in places.items()}
same = off["TPV, PV1_1 = PV2_1 = 1"] < 1e-9
collapsed = np.allclose(places["TPV, no PV card"], (150.0, 20.0), atol=1e-6)
half = abs(places["TPV, PV1_1 = 1 only"][1] - places["TAN"][1]) > 0.05
sys.exit(0 if same and collapsed and half else 1)
PYTHON

echo "package:   astropy 7.2.0 with the wcslib it ships (2026-11-28)"
echo "guess:     a distortion of which nothing is given is none: TPV without coefficients is TAN, and"
echo "           a linear term that is left out is 1"
echo "happens:   the linear terms are taken as 0: with no coefficient all pixels fall on CRVAL, with one of the"
echo "           two all pixels fall on a line of the sky, and nothing is said"
echo "who:       whoever turns TAN headers with SCAMP's terms into TPV by their name alone, or reads"
echo "           files whose writer left out the terms that are 1"
echo "seen, for pixel (0, 0), 0.1 degree from CRVAL on both axes:"
if "$folder/venv/bin/python" "$folder/try.py"; then
    echo "still there"
else
    echo "changed"
    exit 1
fi
