"""What simulated scenes teach of the ranking; written by `python benchmarks/ranking.py --learn`."""

#: Feature -> centre, scale, weight, and the standard deviation by which a run may change it.
PRIOR = {
    "snr": (2.7, 0.809, 0.156, 0.5),
    "chi2": (1.28, 1.36, -4.66, 0.5),
    "misfit": (3.1, 5.38, 2.31, 0.5),
    "elongation": (0.359, 0.429, -3.36, 0.5),
    "extent": (0.108, 0.272, -5.93, 0.5),
    "narrow": (0.05, 0.283, 3.32, 0.5),
    "sharpness": (0.304, 0.469, -0.74, 0.5),
    "opposite": (0.15, 0.533, -0.336, 0.5),
    "masked": (0, 0.129, -0.976, 0.5),
    "light": (-0.047, 1.64, -0.068, 0.5),
    "star": (0.081, 0.292, -0.337, 0.5),
    "dipole": (0, 0.281, -0.844, 0.5),
    "shapeless": (0, 0.432, -0.25, 0.5),
    "halo": (0, 0.1, 0.603, 0.5),
    "constant": (0, 1, -2.7, 0.5),
}
