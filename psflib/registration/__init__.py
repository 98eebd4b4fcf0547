"""Science and template brought onto one grid, and how well they agree there."""

from psflib.registration.register import Place, locate, register
from psflib.settings.register import RegisterSettings

__all__ = ["Place", "RegisterSettings", "locate", "register"]
