"""Tools of the simulator: a PSF with a formula, a scene, and what a camera makes of them."""

from psflib.lazy import lazy_names

_HOMES = {
    "Camera": "psflib.simulation.camera",
    "EpsfTruth": "psflib.simulation.star_stamps",
    "FieldTruth": "psflib.simulation.star_stamps",
    "MatchingScene": "psflib.simulation.scenes",
    "Observation": "psflib.simulation.camera",
    "PsfModel": "psflib.simulation.psf_model",
    "SCENES": "psflib.simulation.scenes",
    "Scene": "psflib.simulation.scene",
    "StarStamps": "psflib.simulation.star_stamps",
    "make_wcs": "psflib.simulation.camera",
    "observe": "psflib.simulation.camera",
    "optimal_snr": "psflib.simulation.camera",
    "oracle_difference": "psflib.simulation.oracle",
    "render": "psflib.simulation.scene",
    "simulate_pair": "psflib.simulation.pair",
    "simulate_scene": "psflib.simulation.scenes",
    "simulate_stamps": "psflib.simulation.star_stamps",
    "true_kernel": "psflib.simulation.oracle",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
