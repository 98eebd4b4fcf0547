"""Detection of sources, and the choice of those that show the PSF."""
