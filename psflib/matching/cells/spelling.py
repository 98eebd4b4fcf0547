"""LSST's spelling of our names: one mechanism for methods, arguments, results and settings.

A name of theirs is ours in camelCase (`psfMatchingKernel` is `psf_matching_kernel`), or stands in a
class's table `theirs` where the two differ by more.  Whatever fits neither is refused with the name
that was probably meant, or with the sentence of the table `refused`.
"""

import functools
import inspect
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel

from psflib.errors import did_you_mean


def camel(name: str) -> str:
    """LSST's spelling of one of our names."""
    return to_camel(name)


def to_ours(name: str, known, theirs=None) -> str | None:
    """Our name of what either spelling means, None if that is none of `known`.

    Parameters
    ----------
    name : str
    known : iterable of str
        Our names.
    theirs : dict of str to str, optional
        Names of theirs that are not ours in camelCase, and what they are here.
    """
    table = {camel(k): k for k in known} | {k: k for k in known} | (theirs or {})
    return table.get(name)


def no_such_name(owner: str, what: str, name: str, known, refused=None) -> str:
    """The sentence that refuses a name."""
    if name in (refused or {}):
        return f"{owner} has no {what} {name!r}: {refused[name]}"
    is_theirs = name != name.lower()
    words = [camel(k) if is_theirs else k for k in known]
    return f"{owner} has no {what} {name!r}{did_you_mean(name, words)}"


class Spelled:
    """Base of classes whose methods, arguments and attributes answer to both spellings.

    Attributes
    ----------
    theirs : dict of str to str, of a class
        Names of LSST's that are not ours in camelCase -> ours; methods, arguments and attributes.
    refused : dict of str to str, of a class
        Names of LSST's that are nothing here -> a sentence why.
    """

    theirs: ClassVar[dict[str, str]] = {}
    refused: ClassVar[dict[str, str]] = {}

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        cls.theirs = _inherited(cls, "theirs")
        cls.refused = _inherited(cls, "refused")
        others: dict[str, list[str]] = {}
        for name, ours in cls.theirs.items():
            others.setdefault(ours, []).append(name)
        for name, member in list(vars(cls).items()):
            hidden = name.startswith("_") and name != "__init__"
            if hidden or not isinstance(_function(member), _FUNCTION):
                continue
            both = _either_keyword(member, cls.theirs)
            spellings = {camel(name), *others.get(name, ())} if name != "__init__" else ()
            for spelling in (name, *spellings):
                setattr(cls, spelling, both)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        known = _public(self)
        ours = to_ours(name, known, self.theirs)
        if ours is None or ours == name:
            kind = type(self).__name__
            raise AttributeError(no_such_name(kind, "attribute", name, known, self.refused))
        return getattr(self, ours)


_FUNCTION = type(camel)


def _inherited(cls, table):
    merged: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        merged |= vars(one).get(table, {})
    return merged


def _public(instance):
    names = {n for n in dir(type(instance)) if n == n.lower()} | set(vars(instance))
    return sorted(n for n in names if not n.startswith("_"))


def _function(member):
    return member.__func__ if isinstance(member, staticmethod | classmethod) else member


def _either_keyword(member, theirs):
    """`member` of a class, taking keywords in both spellings; its signature stays ours."""
    function = _function(member)
    parameters = inspect.signature(function).parameters
    known = [
        n for n, p in parameters.items()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and n not in ("self", "cls")
    ]  # fmt: skip
    is_open = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    arguments = {k: v for k, v in theirs.items() if v in known}

    @functools.wraps(function)
    def either(*args, **keywords):
        renamed: dict[str, Any] = {}
        for name, value in keywords.items():
            ours = to_ours(name, known, arguments)
            if ours is None and not (is_open and not _close(name, known)):
                raise TypeError(no_such_name(f"{function.__name__}()", "argument", name, known))
            ours = ours or name
            if ours in renamed:
                raise TypeError(f"{function.__name__}() got {ours!r} in both spellings")
            renamed[ours] = value
        return function(*args, **renamed)

    return type(member)(either) if isinstance(member, staticmethod | classmethod) else either


def _close(name, known):
    """True if an argument that a method would swallow is most likely a misspelt one of its own."""
    return bool(did_you_mean(name, [*known, *map(camel, known)]))


class EitherSpelling(BaseModel):
    """Frozen settings, both spellings accepted, unknown names refused with the nearest one."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    theirs: ClassVar[dict[str, str]] = {}
    refused: ClassVar[dict[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _known_names(cls, values: Any):
        if not isinstance(values, dict):
            return values
        renamed: dict[str, Any] = {}
        for name, value in values.items():
            ours = to_ours(name, cls.model_fields, cls.theirs)
            if ours is None:
                raise ValueError(_refusal(cls, name))
            if ours in renamed:
                raise ValueError(f"{cls.__name__} got {ours!r} in both spellings")
            renamed[ours] = value
        return renamed

    def __getattr__(self, name):
        known = known_settings(type(self))
        ours = to_ours(name, known, self.theirs)
        if name.startswith("_") or ours is None or ours == name:
            kind = type(self).__name__
            raise AttributeError(no_such_name(kind, "setting", name, known, self.refused))
        return getattr(self, ours)

    def __setattr__(self, name, value):
        raise ValueError(
            f"{type(self).__name__} is frozen: settings are changed in a ConfigClass() of the "
            f"task, before the task is made, or made anew"
        )


def _refusal(model, name):
    """Why a model cannot be made with a setting `name`."""
    if to_ours(name, known_settings(model), model.theirs):
        return (
            f"{model.__name__} has no setting {name!r} as a whole: it follows from others, or its "
            "parts are set in a ConfigClass() of the task"
        )
    return no_such_name(model.__name__, "setting", name, list(model.model_fields), model.refused)


def known_settings(model: type[BaseModel]) -> list[str]:
    """Our names of a model's fields and of what its properties derive from them."""
    own = set(dir(model)) - set(dir(BaseModel))
    derived = (n for n in own if isinstance(getattr(model, n, None), property))
    return [*model.model_fields, *sorted(derived)]
