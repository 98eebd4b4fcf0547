#!/usr/bin/env bash
# sep: with the matched filter, one masked pixel in an area keeps its stars from being deblended.
# Exit code 0: the surprise is still there; 1: it has changed; 2: the packages could not be installed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sep==1.4.1 numpy==2.4.6 || exit 2

cat > "$folder/try.py" <<'PYTHON'
"""Two equal stars 8 px apart, noise known; the pixel between them is masked, or is not."""
import numpy as np
import sep

SIGMA = 3 / 2.3548  # px
rows, columns = np.indices((60, 60))
image = np.random.default_rng(1).normal(0, 1, rows.shape)
for centre in (26, 34):
    image += 200 * np.exp(-((rows - 30) ** 2 + (columns - centre) ** 2) / (2 * SIGMA**2))
taps = np.arange(-3, 4) / SIGMA
kernel = np.exp(-np.add.outer(taps**2, taps**2) / 2)
for kind in ("matched", "conv"):
    for masked in (False, True):
        mask = np.zeros(image.shape, bool)
        mask[30, 30] = masked
        found = sep.extract(
            image, 5.0, err=np.ones(image.shape), mask=mask, filter_kernel=kernel, filter_type=kind
        )
        print(kind, "masked" if masked else "whole", len(found), f"{found['thresh'].max():.1e}")
PYTHON

echo "package:   sep 1.4.1 (2026-11-28)"
echo "guess:     a masked pixel is left out; two stars on both sides of it stay two, as without it"
echo "happens:   filter_type='matched', the default, gives one source with a threshold beyond 1e20:"
echo "           the area takes the noise of the masked pixel, which stands for infinite"
echo "who:       who hands sep a noise plane and a mask: pairs of stars with a cosmic ray or a bad column"
echo "           between them become one, with the position and flux of both"
echo "seen (filter, pixel, sources, threshold):"
"$folder/venv/bin/python" "$folder/try.py" | tee "$folder/seen"
matched=$(awk '$1 == "matched" && $2 == "masked" { print $3 }' "$folder/seen")
others=$(awk '!($1 == "matched" && $2 == "masked") { print $3 }' "$folder/seen" | sort -u | tr '\n' ' ')
if [ "$matched" -eq 1 ] && [ "$others" = "2 " ]; then
    echo "still there"
else
    echo "changed: $matched source with the masked pixel, otherwise $others"
    exit 1
fi
