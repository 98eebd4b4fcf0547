"""Errors about data.

A bad *call* (wrong type, shape or option) raises ValueError; bad *data* raise a `PsflibError`,
so that a pipeline can catch the second and still see the first.  Numbers stand in attributes.
"""

import difflib


class PsflibError(Exception):
    """Base of all errors that the data, not the caller, are to blame for."""


class BadFile(PsflibError):
    """A file is missing, truncated, not FITS, or holds no usable image."""

    def __init__(self, path, problem, remedy=""):
        self.path, self.problem, self.remedy = str(path), problem, remedy
        super().__init__(f"{path}: {problem}" + (f". {remedy}" if remedy else ""))


class BadTable(PsflibError):
    """The table of images has a missing column or a bad row."""


class BadImage(PsflibError):
    """An image was read but nothing can be done with it (for example, no finite pixel)."""


class NoOverlap(PsflibError):
    """Science and template do not share any sky."""


class DifferentSky(PsflibError):
    """The sources of science and template do not agree, wherever one is put on the other."""

    def __init__(self, reason, science, template, matched, expected):
        self.science, self.template = science, template
        self.matched, self.expected = matched, expected
        super().__init__(f"science and template do not show the same sky: {reason}")


class NotEnoughStars(PsflibError):
    """Too few stars for the simplest model."""

    def __init__(self, what, found, needed):
        self.found, self.needed = found, needed
        super().__init__(f"{what}: {found} usable stars, at least {needed} needed")


class SingularFit(PsflibError):
    """The normal equations of a fit have no solution, even for its simplest model."""


class BadDifference(PsflibError):
    """A difference cannot be believed, and the settings ask to stop then."""

    def __init__(self, reasons):
        self.reasons = tuple(reasons)
        super().__init__(f"the verdict on the difference is bad: {'; '.join(self.reasons)}")


def did_you_mean(word: str, known) -> str:
    """ ", did you mean 'x'?" or nothing."""
    by_case = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_case, n=1)
    return f"; did you mean {by_case[close[0]]!r}?" if close else ""
