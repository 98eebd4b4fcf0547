"""The table of images: which files make up which field."""

import csv
import dataclasses
import difflib
import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psflib.errors import BadFile, BadImage, BadTable, did_you_mean
from psflib.files.choice import parse_choice
from psflib.files.formats import AUTO, companions, names
from psflib.lazy import lazy_function

if TYPE_CHECKING:
    from psflib.image.exposure import Exposure

# the workflow reads the table, and no image
read = lazy_function("psflib.files.reading", "read")

#: The word in the column `epoch` that marks a field's template.
TEMPLATE = "template"

#: Fields and epochs become folders of the output, so only characters safe in any shell and file
#: system; a leading dot would hide the folder, a leading minus look like an option.
NAME = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9._+-]*")
#: Other things beside the fields, or their epochs.
RESERVED = {
    "logs", "benchmarks", "made", "pages", "summary.ecsv", "report.html", "index.html",
    *(f"lightcurves.{end}" for end in ("ecsv", "parquet", "html", "json")), "objects.ecsv",
}  # fmt: skip

_OR_PSF = ", or ask for PSFs alone (until=psf)"
_EXAMPLE = "The first line must name the columns, such as: field,epoch,image"


@dataclasses.dataclass(frozen=True)
class Row:
    """One image of the table; None is what the row leaves out."""

    field: str
    epoch: str
    image: Path
    format: str = AUTO  # the survey's product
    hdu: int | str | None = None
    mask: Path | None = None
    mask_hdu: int | str | None = None
    mask_bits: tuple[int | str, ...] | None = None  # bad bits
    mask_ignore: tuple[int | str, ...] | None = None  # bits that are no defects
    mask_codes: tuple[int | str, ...] | None = None  # bad values, where they are no bits
    variance: Path | None = None
    variance_hdu: int | str | None = None
    sigma: Path | None = None
    sigma_hdu: int | str | None = None
    weight: Path | None = None
    weight_hdu: int | str | None = None
    gain: float | None = None  # electrons per unit of a pixel
    read_noise: float | None = None  # e-
    saturation: float | None = None  # ADU
    zero_point: float | None = None  # mag of one pixel unit
    catalog: Path | None = None  # read by `select_stars`
    table: Path = dataclasses.field(default=Path(), kw_only=True)
    line: int = dataclasses.field(default=0, kw_only=True)

    def read(self, unreadable_wcs: str = "error") -> "Exposure":
        """The image with its planes, by `psflib.read`; errors name the table's line, too.

        Parameters
        ----------
        unreadable_wcs : "error" or "note", optional
            As of `psflib.read`.

        Raises
        ------
        BadFile, BadImage
            As `psflib.read`.
        """
        named = f"It is named in {self.table}, line {self.line}"
        try:
            options = {name: getattr(self, name) for name in _READ_OPTIONS}
            exposure = read(self.image, **options, unreadable_wcs=unreadable_wcs)
        except BadFile as error:
            remedy = f"{error.remedy}. {named}" if error.remedy else named
            raise BadFile(error.path, error.problem, remedy) from error
        except BadImage as error:
            raise BadImage(f"{error}. {named}") from error
        return exposure.replace(meta={**exposure.meta, "field": self.field, "epoch": self.epoch})

    @property
    def files(self) -> list[Path]:
        """Every file of the image itself, each once, with those that a named format implies."""
        named = (self.image, self.mask, self.variance, self.sigma, self.weight)
        files = [path for path in named if path is not None]
        return list(dict.fromkeys([*files, *companions(self.image, self.format)]))


_READ_OPTIONS = tuple(
    f.name
    for f in dataclasses.fields(Row)
    if f.name not in ("field", "epoch", "image", "catalog", "table", "line")
)
REQUIRED = ("field", "epoch", "image")
COLUMNS = (*REQUIRED, *_READ_OPTIONS, "catalog")


@dataclasses.dataclass(frozen=True)
class FieldsTable:
    """All rows of a table of images, checked by `read_fields`."""

    path: Path
    rows: tuple[Row, ...]

    @property
    def fields(self) -> list[str]:
        """Names of the fields, in the table's order."""
        return list(dict.fromkeys(row.field for row in self.rows))

    def epochs(self, field: str) -> list[str]:
        """Names of the science epochs of `field`, in the table's order."""
        if field not in self.fields:
            raise ValueError(f"no field {field!r} in {self.path}{did_you_mean(field, self.fields)}")
        return [epoch for epoch in self.images(field) if epoch != TEMPLATE]

    def images(self, field: str) -> list[str]:
        """Names of all images of `field`, its template (if there is one) first."""
        found = [row.epoch for row in self.rows if row.field == field]
        return sorted(found, key=lambda epoch: epoch != TEMPLATE)

    @property
    def differences(self) -> bool:
        """Whether there is anything to subtract: a field with a template and a science epoch."""
        return any(_can_subtract(self.images(field)) for field in self.fields)

    def row(self, field: str, epoch: str) -> Row:
        """The row of one image; `epoch` may be "template"."""
        self.epochs(field)  # or it is no field
        for row in self.rows:
            if (row.field, row.epoch) == (field, epoch):
                return row
        only = ", ".join(self.images(field))
        raise ValueError(f"field {field!r} of {self.path} has no epoch {epoch!r}, only {only}")


def read_fields(path: str | Path, until: str = "all") -> FieldsTable:
    """Read and check the table of images (CSV; one row an image).

    A table of nothing but templates, or of science epochs alone, is one of images whose PSF is
    wanted; `until` = "psf" says so of any table.  Else each field has a template and an epoch.

    Columns `field, epoch, image` are required; the optional ones are the arguments of
    `psflib.read` (lists of bits with blanks between them) and `catalog`, a catalogue of the sky
    for the choice of the stars.  Paths are relative to the table.  Lines that begin with #
    and blank lines are skipped; semicolons or tabs may stand for the commas.  Whether the images
    exist is not checked: a missing one must stop its own field only.

    Raises
    ------
    BadFile
        If the table itself is missing or is not text.
    BadTable
        If anything is wrong in it; the message lists all problems with their lines.
    """
    path = Path(path)
    lines = _lines(path)
    if not lines:
        raise BadTable(f"{path} is empty. {_EXAMPLE}")
    problems: list[str] = []
    (header_line, names), body = lines[0], lines[1:]
    _check_columns(names, header_line, problems)
    if problems:
        raise BadTable(_report(path, problems))
    rows = _rows(body, names, path, problems, until)
    if not body:
        problems.append("it has no row below the column names")
    if problems:
        raise BadTable(_report(path, problems))
    return FieldsTable(path, tuple(rows))


def _lines(path):
    """(line number, cells) of every line that is neither blank nor a comment."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise BadFile(path, "no such file", "Check `fields` in the configuration") from error
    except UnicodeDecodeError as error:
        raise BadFile(path, "is not a text file in UTF-8", "Save it as CSV (UTF-8)") from error
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})") from error
    kept = [
        (number, line)
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip(" \t,;") and not line.lstrip().startswith("#")
    ]
    if not kept:
        return []
    separator = next((s for s in ",;\t" if s in kept[0][1]), ",")
    return [(number, _cells(line, separator)) for number, line in kept]


def _cells(line, separator):
    cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
    return [cell.strip() for cell in cells]


def _report(path, problems):
    count = f"{len(problems)} problems" if len(problems) > 1 else "a problem"
    return f"{path} has {count}:" + "".join(f"\n  {problem}" for problem in problems)


def _check_columns(names, line, problems):
    missing = [name for name in REQUIRED if name not in names]
    unknown = [name for name in names if name not in COLUMNS]
    for name in unknown:
        hint = did_you_mean(name, [c for c in COLUMNS if c not in names])
        hint = hint or f". Known columns: {', '.join(COLUMNS)}"
        problems.append(f"line {line}: unknown column {name!r}{hint}")
    for name in missing:
        problems.append(f"line {line}: no column {name!r}. {_EXAMPLE}")
    for name in [name for name, count in Counter(names).items() if count > 1]:
        problems.append(f"line {line}: column {name!r} stands there twice")


def _fits(cells, names, line, problems):
    """Too few cells are as good as empty ones; too many would be lost in silence."""
    if len(cells) <= len(names):
        return True
    problems.append(
        f"line {line}: {len(cells)} cells for {len(names)} columns. "
        "Put a path that holds the separator in double quotes"
    )
    return False


def _rows(body, names, table, problems, until):
    rows = []
    broken = set()  # fields with a row that could not be understood
    epochs = {cells[names.index("epoch")] for _, cells in body if len(cells) > names.index("epoch")}
    for line, cells in body:
        named = dict(zip(names, cells, strict=False))
        row = None
        if _fits(cells, names, line, problems):
            row = _row(named, line, table, problems)
        if row is None:
            broken.add(named.get("field"))
        else:
            rows.append(row)
    _check_twice(rows, problems)
    # a missing template may be in the broken row
    known = [row for row in rows if row.field not in broken]
    if until != "psf" and not _is_of_psfs(epochs):
        for field in dict.fromkeys(row.field for row in known):
            _check_field([row for row in known if row.field == field], problems)
    return rows


def _can_subtract(epochs):
    """Whether a field of these images has a template and something to subtract it from."""
    return TEMPLATE in epochs and set(epochs) != {TEMPLATE}


def _is_of_psfs(epochs):
    """Nothing but templates, or nothing but science epochs, none of them a template misspelt."""
    return epochs == {TEMPLATE} or not (TEMPLATE in epochs or _like_template(epochs))


def _like_template(epochs):
    return [e for e in epochs if difflib.get_close_matches(TEMPLATE, [e.lower()])]


def _row(cells, line, table, problems):
    """A `Row`, or None after adding to `problems`."""
    before = len(problems)
    values: dict[str, Any] = {}
    for name in COLUMNS:
        cell = cells.get(name, "")
        if cell:
            try:
                values[name] = _PARSERS[name](cell, table)
            except ValueError as error:
                problems.append(f"line {line}: {name}: {error}")
        elif name in REQUIRED:
            problems.append(f"line {line}: {name} is empty")
    _check_planes(values, line, problems)
    return Row(**values, table=table, line=line) if len(problems) == before else None


def _check_planes(values, line, problems):
    noise = [n for n in ("variance", "sigma", "weight") if {n, f"{n}_hdu"} & set(values)]
    if len(noise) > 1:
        what = " and a ".join(noise)
        problems.append(f"line {line}: both a {what} are given. Leave all but one empty")
    choices = [n for n in ("mask_bits", "mask_ignore", "mask_codes") if n in values]
    if len(choices) > 1:
        what = " and ".join(choices)
        problems.append(f"line {line}: {what} say each what is bad. Leave all but one empty")
    for what in ("mask", "variance", "sigma", "weight"):
        if what in values and f"{what}_hdu" not in values and values[what] == values.get("image"):
            problems.append(
                f"line {line}: {what} and image are the same file. "
                f"Say in {what}_hdu which HDU is the {what}"
            )


def _check_twice(rows, problems):
    first: dict[tuple[str, str], Row] = {}
    for row in rows:
        # compared without case: on some file systems A and a are one folder
        earlier = first.setdefault((row.field.lower(), row.epoch.lower()), row)
        if earlier is not row:
            problems.append(
                f"line {row.line}: field {row.field!r}, epoch {row.epoch!r} stands already in "
                f"line {earlier.line}. Give each image of a field its own epoch"
            )


def _check_field(rows, problems):
    """A field must have a template and something to subtract it from."""
    epochs = [row.epoch for row in rows]
    where = f"line {', '.join(str(row.line) for row in rows)}: field {rows[0].field!r}"
    if TEMPLATE not in epochs:
        close = _like_template(epochs)
        hint = f" (is {close[0]!r} meant as one?)" if close else ""
        problems.append(
            f"{where} has no template{hint}. Add a row with the epoch {TEMPLATE!r}{_OR_PSF}"
        )
    elif set(epochs) == {TEMPLATE}:
        problems.append(f"{where} has only a template. Add a row with a science epoch{_OR_PSF}")


def _name(cell, table):
    if not NAME.fullmatch(cell):
        raise ValueError(
            f"{cell!r} cannot name a folder. Use letters, digits and . _ + - (not first: . -)"
        )
    if cell.lower() in RESERVED:
        raise ValueError(f"{cell!r} is the name of another output. Choose another")
    return cell


def _path(cell, table):
    return table.parent / Path(cell).expanduser()


def _format(cell, table):
    if cell not in names():
        known = ", ".join(names())
        raise ValueError(f"{cell!r} is not known{did_you_mean(cell, names())}. Known: {known}")
    return cell


def _words(name):
    def parse(cell, table):
        choice = parse_choice(**{name: cell})
        return getattr(choice, name.removeprefix("mask_"))

    return parse


def _hdu(cell, table):
    if re.fullmatch(r"-\d+", cell):
        raise ValueError(f"{cell} is no HDU. Give its number, counted from 0, or its EXTNAME")
    return int(cell) if cell.isdecimal() else cell


def _number(positive):
    def parse(cell, table):
        try:
            value = float(cell)
        except ValueError:
            raise ValueError(f"{cell!r} is not a number") from None
        if not math.isfinite(value) or value < 0 or (positive and value == 0):
            kind = "positive" if positive else "zero or positive"
            raise ValueError(f"{cell} is not {kind}. Leave it empty to take it from the header")
        return value

    return parse


_PARSERS: dict[str, Callable[[str, Path], Any]] = {
    "field": _name,
    "epoch": _name,
    "format": _format,
    **dict.fromkeys(("image", "mask", "variance", "sigma", "weight", "catalog"), _path),
    **dict.fromkeys(("hdu", "mask_hdu", "variance_hdu", "sigma_hdu", "weight_hdu"), _hdu),
    **{name: _words(name) for name in ("mask_bits", "mask_ignore", "mask_codes")},
    "gain": _number(positive=True),
    "read_noise": _number(positive=False),
    "saturation": _number(positive=True),
    "zero_point": _number(positive=False),
}
