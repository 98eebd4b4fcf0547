"""Names of a package that are imported when they are first asked for.

A job of the workflow calls one or a few stages; what they do not call costs it nothing.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> tuple[Callable, Callable]:
    """`__getattr__` and `__dir__` of a package (PEP 562).

    Parameters
    ----------
    package : str
        Its `__name__`.
    homes : mapping
        Public name -> module that holds it.
    """

    def getattr_(name: str) -> Any:
        if name not in homes:
            if importlib.util.find_spec(f"{package}.{name}"):  # psflib.files, after `import psflib`
                return importlib.import_module(f"{package}.{name}")
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def dir_() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return getattr_, dir_


def lazy_function(module: str, name: str) -> Callable:
    """A function that imports its module when it is called."""

    def call(*arguments, **options):
        return getattr(importlib.import_module(module), name)(*arguments, **options)

    call.__name__ = name
    call.__doc__ = f"`{module}.{name}`."
    return call
