#!/usr/bin/env bash
# fitsio: in a weight map that it compresses, one zero in ten is no longer zero.
# Exit code 0: the surprise is still there; 1: it has changed; 2: the packages could not be installed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check fitsio==1.4.2 astropy==8.0.2 numpy==2.4.6 || exit 2

echo "package:   fitsio 1.4.2, astropy 8.0.2 to read (2026-11-28)"
echo "guess:     compression of floats is lossy, but 0, which marks pixels without information, stays 0"
echo "happens:   by default values are quantised with a dither that moves zeros too: some become small"
echo "           and positive, some negative, others in each run. qmethod=SUBTRACTIVE_DITHER_2 keeps them, and so does astropy,"
echo "           which does not dither by default"
echo "who:       who masks by weight > 0: dead pixels come back as data, with a variance a hundred times"
echo "           that of their neighbours, whatever their values are"

cat > "$folder/show.py" <<'PYTHON'
"""A weight map with dead rows and a dead column, compressed by each."""
import fitsio
import numpy as np
from astropy.io import fits

weight = np.random.default_rng(1).normal(0.04, 0.002, (200, 200)).astype("f4")
weight[50:60], weight[:, 100] = 0, 0
dead = weight == 0


def kept(name, path):
    back = fits.getdata(path, 1)[dead]
    print(f"{name:34} {100 * np.mean(back == 0):5.1f} % of {back.size} zeros are kept, "
          f"{np.sum(back > 0)} are now above 0 (up to {back.max():.1e}), {np.sum(back < 0)} below")
    return np.mean(back == 0), np.sum(back > 0)


fitsio.write("default.fits", weight, compress="rice", clobber=True)
fitsio.write("second.fits", weight, compress="rice", qmethod="SUBTRACTIVE_DITHER_2", clobber=True)
fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(weight)]).writeto("astropy.fits", overwrite=True)
share, above = kept("fitsio", "default.fits")
others = kept("fitsio, SUBTRACTIVE_DITHER_2", "second.fits"), kept("astropy", "astropy.fits")
raise SystemExit(not (share < 0.95 and above > 50 and all(other[0] == 1 for other in others)))
PYTHON
cd "$folder"
"$folder/venv/bin/python" show.py || { echo "it has changed"; exit 1; }
