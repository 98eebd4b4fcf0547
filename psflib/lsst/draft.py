"""`Draft`: settings that can still be changed, as LSST's are until their task is made."""

from typing import Any

from pydantic import ValidationError

from psflib.matching.cells.spelling import EitherSpelling, known_settings, no_such_name, to_ours


class Draft:
    """A changeable stand-in of a frozen settings model, in either spelling.

    ``config.kernel.active.singleKernelClipping = False`` refuses unknown names at once
    (AttributeError) and bad values too (ValueError); what several settings must agree on is
    checked when the task is made of it.

    Parameters
    ----------
    start : EitherSpelling
        The settings to start from.
    """

    def __init__(self, start: EitherSpelling):
        values = {name: _open(getattr(start, name)) for name in type(start).model_fields}
        object.__setattr__(self, "_model", type(start))
        object.__setattr__(self, "_values", values)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        ours = self._ours(name)
        if ours in self._values:
            return self._values[ours]
        return getattr(self._model, ours).fget(self)  # properties only read what a draft has too

    def __setattr__(self, name, value):
        ours = self._ours(name)
        if ours not in self._values:
            kind = self._model.__name__
            raise AttributeError(f"{kind}.{name} follows from other settings, it cannot be set")
        current = self._values[ours]
        if isinstance(current, Draft) and isinstance(value, str):
            current.name = value  # of a choice: its word, which keeps what was set in each part
            return
        self._check(ours, _frozen_value(value))
        if isinstance(current, Draft):
            value = current._model.model_validate(_frozen_value(value))
        self._values[ours] = _open(value)

    def __getitem__(self, name):
        return self._model.__getitem__(self, name)

    def __dir__(self):
        return known_settings(self._model)

    def __eq__(self, other):
        if not isinstance(other, Draft | EitherSpelling):
            return NotImplemented
        return self.frozen() == (other.frozen() if isinstance(other, Draft) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self):
        values = ", ".join(f"{name}={value!r}" for name, value in self._values.items())
        return f"Draft of {self._model.__name__}({values})"

    def frozen(self) -> Any:
        """The settings as a model.

        Raises
        ------
        ValueError
            Settings that do not fit together.
        """
        return self._model(**{name: _frozen_value(v) for name, v in self._values.items()})

    def _ours(self, name):
        known = known_settings(self._model)
        ours = to_ours(name, known, self._model.theirs)
        if ours is None:
            raise AttributeError(
                no_such_name(self._model.__name__, "setting", name, known, self._model.refused)
            )
        return ours

    def _check(self, name, value):
        """ValueError if the value alone is bad, whatever the others are."""
        others = {k: _frozen_value(v) for k, v in self._values.items() if k != name}
        try:
            self._model(**others, **{name: value})
        except ValidationError as failure:
            mine = [e for e in failure.errors() if e["loc"][:1] == (name,)]
            if mine:
                words = mine[0]["msg"].removeprefix("Value error, ")
                raise ValueError(f"{self._model.__name__}.{name}: {words}; got {value!r}") from None


def _open(value):
    """What a draft holds: drafts of models, lists of tuples, so that all can be changed."""
    if isinstance(value, EitherSpelling):
        return Draft(value)
    return list(value) if isinstance(value, tuple | list) else value


def _frozen_value(value):
    return value.frozen() if isinstance(value, Draft) else value
