"""Tools of the simulator: a PSF with a formula, a scene, and what a camera makes of them."""

from psflib.simulation.camera import Camera, Observation, make_wcs, observe, optimal_snr
from psflib.simulation.pair import simulate_pair
from psflib.simulation.psf_model import PsfModel
from psflib.simulation.scene import Scene, render
from psflib.simulation.star_stamps import EpsfTruth, FieldTruth, StarStamps, simulate_stamps

__all__ = [
    "Camera",
    "EpsfTruth",
    "FieldTruth",
    "Observation",
    "PsfModel",
    "Scene",
    "StarStamps",
    "make_wcs",
    "observe",
    "optimal_snr",
    "render",
    "simulate_pair",
    "simulate_stamps",
]
