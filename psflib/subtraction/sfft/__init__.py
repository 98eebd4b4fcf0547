"""Delta-function kernels that vary over the field: model, three assemblies, solution, fit.

Hu et al. 2022, ApJ 936, 157 (SFFT); Miller et al. 2008, PASP 120, 449 (delta-function kernels).
"""
