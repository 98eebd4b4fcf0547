"""Figures of the debug variables of `psflib.lsst.ImagePsfMatchTask`."""

import dataclasses

from psflib.figures.image import plane
from psflib.figures.matching import (
    kernel_basis,
    kernel_candidates,
    kernel_cells,
    kernel_coefficients,
    kernel_mosaic,
)


def debug_figures(view):
    """The figures that the debug variables of a match ask for.

    Parameters
    ----------
    view : psflib.lsst.debug.MatchView

    Returns
    -------
    dict of str to matplotlib.figure.Figure
        Debug variable (`display_candidates` ...) -> its figure, in the order of the work; empty
        without `display`.  `to_png` turns one into bytes.
    """
    debug, alpha = view.debug, 1 - view.debug.mask_transparency / 100
    cells = view.cells if debug.show_bad_candidates else _without_bad(view.cells)
    makers = {
        "display_template": lambda: plane(view.template, "template", mask_alpha=alpha),
        "display_sci_im": lambda: plane(view.science, "science", mask_alpha=alpha),
        "display_spatial_cells": lambda: kernel_cells(view.science, cells),
        "display_kernel_basis": lambda: kernel_basis(view.kernel.basis),
        "display_candidates": lambda: kernel_candidates(cells, view.pair, view.kernel),
        "display_kernel_mosaic": lambda: kernel_mosaic(view.kernel),
        "plot_kernel_spatial_model": lambda: kernel_coefficients(view.kernel, cells),
        "display_diff_im": lambda: plane(view.difference, "difference", sigma=True),
    }
    if view.difference is None:
        del makers["display_diff_im"]
    return {n: make() for n, make in makers.items() if debug.display and getattr(debug, n)}


def _without_bad(cells):
    kept = (dataclasses.replace(cell, candidates=tuple(cell.active(-1))) for cell in cells.cells)
    return dataclasses.replace(cells, cells=tuple(kept))
