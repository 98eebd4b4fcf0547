"""Proper subtraction: by the PSFs and the noise of both images, without a kernel to fit.

Zackay, Ofek & Gal-Yam 2016, ApJ 830, 27 (ZOGY).
"""
