"""What simulated scenes teach of the ranking; written by `python benchmarks/ranking.py --write`."""

#: Feature -> centre, scale, weight, and the standard deviation by which a run may change it.
PRIOR = {
    "snr": (2.3, 0.8, 0.0, 0.3),
    "constant": (0.0, 1.0, 0.0, 1.0),
}
