"""One panel a stage for notebooks: state, one observer that calls psflib, one redraw.

>>> from psflib.widgets import StarSelectionPanel
>>> StarSelectionPanel("results")  # doctest: +SKIP
"""

from psflib.widgets.comparison import ComparisonPanel
from psflib.widgets.decorrelation import DecorrelationPanel
from psflib.widgets.epsf import EpsfPanel
from psflib.widgets.extended import ExtendedPsfPanel
from psflib.widgets.injection import InjectionPanel
from psflib.widgets.stamps import StampPanel
from psflib.widgets.stars import StarSelectionPanel
from psflib.widgets.subtraction import SubtractionPanel

__all__ = [
    "ComparisonPanel",
    "DecorrelationPanel",
    "EpsfPanel",
    "ExtendedPsfPanel",
    "InjectionPanel",
    "StampPanel",
    "StarSelectionPanel",
    "SubtractionPanel",
]
