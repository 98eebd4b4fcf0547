#!/usr/bin/env bash
# astropy and fitsio: BLANK, the value of missing pixels, is forgotten in some integer images.
# Exit code 0: the surprise is still there; 1: it has changed; 2: the packages could not be installed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check astropy==8.0.2 fitsio==1.4.2 numpy==2.4.6 || exit 2

echo "packages:  astropy 8.0.2, fitsio 1.4.2 (2026-11-28)"
echo "guess:     an integer image with BLANK comes back with NaN at its missing pixels: the FITS standard"
echo "           gives the keyword that one meaning, whatever BSCALE and BZERO are"
echo "happens:   astropy does so, but not for unsigned integers (BZERO = 2^15), where they become 0;"
echo "           fitsio never: they are BZERO + BSCALE x BLANK like any other value"
echo "who:       who reads raw frames or mosaics with gaps: the gaps are black sky of a definite value,"
echo "           thousands of sigma deep, with sharp edges. Compare with BLANK before scaling"

cat > "$folder/show.py" <<'PYTHON'
"""The same missing pixel in a scaled and in an unsigned image, read by both."""
import fitsio
import numpy as np
from astropy.io import fits

MISSING = -32768


def write(path, zero, scale):
    stored = np.full((10, 10), 100, np.int16)
    stored[3, 3] = MISSING
    hdu = fits.PrimaryHDU(stored)
    hdu.header["BLANK"] = MISSING
    hdu.writeto(path, overwrite=True)
    # the scale goes in afterwards: astropy would apply it to the values that it is given
    head = open(path, "rb").read()
    cards = [f"{key:8}= {value:>20}".ljust(80) for key, value in (("BZERO", zero), ("BSCALE", scale))]
    end = head.index(b"END" + b" " * 77)
    block = head[:end] + "".join(cards).encode() + b"END".ljust(80)
    open(path, "wb").write(block.ljust(2880) + head[2880:])
    return fits.getdata(path)[3, 3], fitsio.read(path)[3, 3]


scaled, unsigned = write("scaled.fits", 10.0, 0.5), write("unsigned.fits", 32768, 1)
print("missing pixel   astropy", "  fitsio")
print(f"BSCALE 0.5      {scaled[0]:7}  {scaled[1]:7}")
print(f"unsigned        {unsigned[0]:7}  {unsigned[1]:7}")
same = np.isnan(scaled[0]) and scaled[1] == 10 + 0.5 * MISSING and unsigned == (0, 0)
raise SystemExit(not same)
PYTHON
cd "$folder"
"$folder/venv/bin/python" show.py || { echo "it has changed"; exit 1; }
