"""Configurations of LSST's that are not ours: what of them is a setting here, and why not more.

`selectDetection`, `selectMeasurement`, `warpingConfig` and `afwBackgroundConfig` are tasks and
algorithms of other packages there.  A script that sets what is a setting here, or what is so here
anyway, runs; anything else is refused with a sentence, because it would change nothing.
"""

from typing import Any

from psflib.matching.cells.spelling import to_ours


class StandIn:
    """Answers to the names of one of LSST's configurations.

    Parameters
    ----------
    title : str
        Its name there.
    settings : settings model, or a changeable draft of one
    why : str
        Why the other names are nothing here.
    names : dict of str to str, optional
        Their name -> the setting of ours that it is.
    fixed : dict of str to (value, sentence), optional
        Their name -> what is so here, always, and why.
    """

    def __init__(self, title: str, settings: Any, why: str, names=None, fixed=None):
        for name, value in (("title", title), ("settings", settings), ("why", why),
                            ("names", names or {}), ("fixed", fixed or {})):  # fmt: skip
            object.__setattr__(self, "_" + name, value)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        if ours := to_ours(name, (), self._names):
            return getattr(self._settings, ours)
        if name in self._fixed:
            return self._fixed[name][0]
        raise AttributeError(self._sentence(name))

    def __setattr__(self, name, value):
        if ours := to_ours(name, (), self._names):
            setattr(self._settings, ours, value)
        elif name in self._fixed:
            known, why = self._fixed[name]
            if value != known:
                raise ValueError(f"{self._title}.{name} is {known!r} here, not {value!r}: {why}")
        else:
            raise AttributeError(self._sentence(name))

    def __repr__(self):
        return f"{self._title}({', '.join([*self._names, *self._fixed])})"

    def _sentence(self, name):
        known = ", ".join([*self._names, *self._fixed])
        return f"{self._title}.{name} is no setting here: {self._why}" + (
            f"; known: {known}" if known else ""
        )


#: Arguments of `StandIn`, by what they stand in for.
WARPING: dict[str, Any] = {
    "why": "psflib warps by one way, separable Lanczos-4 with weights that sum to one",
    "fixed": {
        "warpingKernelName": (
            "lanczos4", "it keeps the noise flat to higher frequencies than Lanczos-3",
        ),
        "interpLength": (16, "the WCS is interpolated between nodes of that step, to 1e-3 px"),
    },
}  # fmt: skip
SKY_OF_EACH: dict[str, Any] = {
    "why": "the sky of each image is removed by psflib.prepare (its sky_box and sky_order) before "
    "the task, and what is left is fitted with the kernel (fitForBackground, spatialBgOrder)",
}
DETECTION: dict[str, Any] = {
    "why": "candidates are detected by their pixels' S/N alone (detectionConfig); positions of any "
    "other detection go in as candidateList",
    "names": {
        "thresholdValue": "det_threshold",
        "thresholdType": "det_threshold_type",
        "minPixels": "fp_npix_min",
    },
    "fixed": {
        "reEstimateBackground": (False, "the sky is removed once, by psflib.prepare"),
        "thresholdPolarity": ("positive", "a kernel is told by light, not by its lack"),
    },
}
MEASUREMENT: dict[str, Any] = {
    "why": "candidates are not measured: their S/N on both images and the fit of their own kernels "
    "choose them (detectionConfig, singleKernelClipping); a selection by other measurements goes "
    "in as candidateList",
}
