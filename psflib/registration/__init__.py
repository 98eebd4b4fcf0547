"""Science and template brought onto one grid, and how well they agree there."""

from psflib.registration.register import register
from psflib.registration.settings import RegisterSettings

__all__ = ["RegisterSettings", "register"]
