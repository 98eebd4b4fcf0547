"""What simulated scenes teach of the ranking; written by `python benchmarks/ranking.py --learn`."""

#: Feature -> centre, scale, weight, and the standard deviation by which a run may change it.
PRIOR = {
    "snr": (2.7, 0.809, 0.0282, 0.5),
    "misfit": (1.1, 1.12, -3.02, 0.5),
    "elongation": (0.359, 0.429, -3.24, 0.5),
    "extent": (0.108, 0.272, -5.79, 0.5),
    "narrow": (0.05, 0.283, 3.11, 0.5),
    "sharpness": (0.304, 0.469, -0.733, 0.5),
    "opposite": (0.15, 0.533, -0.276, 0.5),
    "masked": (0, 0.129, -0.973, 0.5),
    "light": (-0.047, 1.64, -0.0556, 0.5),
    "star": (0.081, 0.292, -0.341, 0.5),
    "dipole": (0, 0.281, -0.787, 0.5),
    "shapeless": (0, 0.432, -0.221, 0.5),
    "halo": (0, 0.1, 0.119, 0.5),
    "constant": (0, 1, -2.89, 0.5),
}
