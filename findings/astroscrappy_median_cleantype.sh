#!/usr/bin/env bash
# astroscrappy: cleantype="median" gives different masks for one and the same image.
# Exit code 0: the surprise is still there; 1: it has changed; 2: the packages could not be installed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    astroscrappy==1.3.0 astropy==7.2.0 numpy==2.3.5 || exit 2

cat > "$folder/try.py" <<'PYTHON'
"""One seeded image, one call; what the heap held before is the only difference."""
import hashlib
import sys

import numpy as np
from astroscrappy import detect_cosmics

cleantype, byte = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(1)
image = (200 + rng.normal(0, 15, (512, 512))).astype(np.float32)
for _ in range(60):
    y, x = rng.integers(10, 490, 2)
    image[y, x : x + 8] += 3000
# free memory of the image's size that holds values: what any longer program leaves behind
used = [np.full(image.shape, byte, np.float32) for _ in range(8)]
del used
mask, _ = detect_cosmics(image, gain=1.0, readnoise=5.0, cleantype=cleantype)
print(int(mask.sum()), hashlib.sha256(mask.tobytes()).hexdigest()[:12])
PYTHON

run() {  # cleantype -> number of different answers, and the answers
    for value in 0 30000 -30000; do
        for perturb in 0 85 170; do
            MALLOC_PERTURB_=$perturb "$folder/venv/bin/python" "$folder/try.py" "$1" "$value"
        done
    done | sort | uniq -c
}

echo "package:   astroscrappy 1.3.0 (2026-11-28)"
echo "guess:     the same image gives the same mask, whatever cleantype"
echo "happens:   with cleantype='median' the mask depends on what freed memory held before the call"
echo "who:       whoever cleans with the 3 x 5 median, and cannot repeat a run pixel by pixel"
for cleantype in median medmask; do
    echo "seen with cleantype='$cleantype' (times, pixels in the mask, hash of the mask):"
    run "$cleantype" | tee "$folder/$cleantype"
done
different=$(wc -l < "$folder/median")
control=$(wc -l < "$folder/medmask")
if [ "$different" -gt 1 ] && [ "$control" -eq 1 ]; then
    echo "still there: $different masks of one image; medmask gives 1"
else
    echo "changed: median gives $different, medmask $control"
    exit 1
fi
