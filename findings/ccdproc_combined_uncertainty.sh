#!/usr/bin/env bash
# ccdproc: the uncertainty of a combined image knows nothing of the uncertainties of its images.
# Exit code 0: the surprise is still there; 1: it has changed; 2: the packages could not be installed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ccdproc==2.5.1 astropy==8.0.2 numpy==2.4.6 scipy==1.17.1 || exit 2

echo "package:   ccdproc 2.5.1, astropy 8.0.2 (2026-11-28)"
echo "guess:     images that carry standard deviations are combined to one whose own follow from them"
echo "happens:   it is the scatter of the few values at each pixel over the root of their number: 0 for"
echo "           one image, 30 % too small for two (no n - 1), half of the truth where images are weighted,"
echo "           and itself as noisy as a scatter of two or three values is"
echo "who:       who hands such a coadd with its uncertainty to a matching or a matched filter: weights"
echo "           1/sigma^2 pick the pixels whose values happened to agree. Combine the variances apart"

cat > "$folder/show.py" <<'PYTHON'
"""Images of known noise, each with its true uncertainty, combined by their mean."""
import warnings

import numpy as np
from astropy.nddata import CCDData, StdDevUncertainty
from ccdproc import Combiner

warnings.simplefilter("ignore")
rng = np.random.default_rng(2)
SIGMA = 5.0


def mean_of(count, weights=None):
    images = [
        CCDData(rng.normal(100, SIGMA, (200, 200)), unit="adu",
                uncertainty=StdDevUncertainty(np.full((200, 200), SIGMA)))
        for _ in range(count)
    ]
    combiner = Combiner(images)
    combiner.weights = weights
    made = combiner.average_combine()
    claimed = np.sqrt(np.mean(made.uncertainty.array ** 2))
    print(f"{count} images{', weights 1 1 8' if weights is not None else '':16} noise "
          f"{made.data.std():.2f}, claimed {claimed:.2f} (least {made.uncertainty.array.min():.4f})")
    return claimed / made.data.std()


one, two = mean_of(1), mean_of(2)
weighted = mean_of(3, np.array([1.0, 1.0, 8.0]))
raise SystemExit(not (one == 0 and 0.65 < two < 0.77 and 0.5 < weighted < 0.65))
PYTHON
cd "$folder"
"$folder/venv/bin/python" show.py || { echo "it has changed"; exit 1; }
