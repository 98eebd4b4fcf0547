"""The configuration: one section a stage, checked as a whole before anything runs.

A stage's settings are a frozen model beside its verb; here they are put together, and what a
user wrote is compared with them.
"""

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from psflib.errors import did_you_mean
from psflib.settings.build_stamps import StampSettings
from psflib.settings.core_epsf import EpsfSettings
from psflib.settings.decorrelate import DecorrelateSettings
from psflib.settings.detect import DetectSettings
from psflib.settings.extended_psf import ExtendedSettings
from psflib.settings.inject import InjectSettings
from psflib.settings.lightcurves import LightcurveSettings
from psflib.settings.prepare import PrepareSettings
from psflib.settings.report import ReportSettings
from psflib.settings.select_stars import StarSettings
from psflib.settings.simulate import SimulateSettings
from psflib.settings.subtract import SubtractSettings
from psflib.settings.subtract_stars import SubtractStarsSettings

WIDTH = 98  # characters in a line of config.yaml

HEAD = """\
yaml-language-server: $schema=workflow/schemas/config.schema.json

Every setting with its default, a section a stage. For data of your own leave this file as it is
and say only what differs, in a file (snakemake --configfile my.yaml) or on the command line:
  snakemake --config fields=my.csv output=my_results 'detect={threshold: 6}'

Made by `make schema` from the models in psflib; a test keeps them equal."""


class Settings(BaseModel):
    """All settings of a run; a section is named as its stage."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    fields: str = Field(
        "fields.csv",
        description="table of the images, one row each; relative to the folder you run in, else "
        "the embedded field's table beside the Snakefile",
    )
    output: str = Field(
        "results", description="folder of all products; relative to the folder you run in"
    )
    until: str = Field(
        "all", pattern="^(all|psf)$",
        description="how far to go: all, or psf for the PSFs of all images and no differences, as "
        "of a table without templates or of templates alone",
    )  # fmt: skip
    threads: int = Field(
        1, ge=1,
        description="threads of a job, for large images; many images use more cores as more jobs",
    )  # fmt: skip
    jobs: str = Field(
        "image", pattern="^(image|stage)$",
        description="image: one job makes all of an image, and one all of a difference, where all "
        "is to be made; stage: a job a stage, as it also is if one is named on the command line",
    )  # fmt: skip
    simulate: SimulateSettings = SimulateSettings()
    prepare: PrepareSettings = PrepareSettings()
    select_stars: StarSettings = StarSettings()
    build_stamps: StampSettings = StampSettings()
    core_epsf: EpsfSettings = EpsfSettings()
    extended_psf: ExtendedSettings = ExtendedSettings()
    subtract_stars: SubtractStarsSettings = SubtractStarsSettings()
    subtract: SubtractSettings = SubtractSettings()
    decorrelate: DecorrelateSettings = DecorrelateSettings()
    inject: InjectSettings = InjectSettings()
    detect: DetectSettings = DetectSettings()
    lightcurves: LightcurveSettings = LightcurveSettings()
    report: ReportSettings = ReportSettings()

    def section(self, stage: str) -> dict[str, Any]:
        """Settings of one stage as plain numbers and words."""
        return getattr(self, stage).model_dump(mode="json")


def load_settings(mapping: Mapping[str, Any] | None = None) -> Settings:
    """Check a configuration, as read from YAML, against the models.

    Raises
    ------
    ValueError
        Listing every unknown section or key (with what was probably meant) and every bad value.
    """
    try:
        return Settings.model_validate(_without_empty(mapping or {}))
    except ValidationError as failure:
        problems = [_problem(error) for error in failure.errors()]
    count = f"{len(problems)} problems" if len(problems) > 1 else "a problem"
    lines = "".join(f"\n  {problem}" for problem in problems)
    raise ValueError(f"the configuration has {count}:{lines}") from None


def section_settings(stage: str, values: Mapping[str, Any] | None = None) -> BaseModel:
    """The model of one stage's settings, from plain values; ValueError as `load_settings`."""
    return getattr(load_settings({stage: dict(values or {})}), stage)


def read_config(path: str | Path) -> Settings:
    """Read and check a YAML file."""
    return load_settings(yaml.safe_load(Path(path).read_text(encoding="utf-8")))


def find_table(fields: str, home: str | Path) -> Path:
    """The table of images: in the folder one runs in; else, if it is the default's, in `home`."""
    here, there = Path(fields).expanduser(), Path(home) / fields
    default = fields == Settings().fields
    # relative where possible: Snakemake knows files by the very words of their paths
    return there if default and not here.exists() and there.exists() else here


def config_text() -> str:
    """The text of config.yaml: every default with its meaning."""
    lines = [f"# {line}".rstrip() for line in HEAD.splitlines()]
    for name, field in Settings.model_fields.items():
        lines += ["", *_entry(name, field, getattr(Settings(), name), 0)]
    return "\n".join(lines) + "\n"


def config_schema() -> dict[str, Any]:
    """JSON schema of config.yaml, by which editors complete and check it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema"
    } | Settings.model_json_schema()


def _without_empty(mapping):
    """Sections of which only comments are left are read by YAML as None; they mean defaults."""
    if not isinstance(mapping, Mapping):
        raise ValueError(f"the configuration must be sections of `key: value`; got {mapping!r}")
    return {
        key: value
        for key, value in mapping.items()
        if not (value is None and key in Settings.model_fields)
    }


def _problem(error) -> str:
    """One sentence on one error of pydantic's."""
    *parents, name = [str(part) for part in error["loc"]]
    where = ".".join([*parents, name])
    if error["type"] == "extra_forbidden":
        known = list(_model_at(parents).model_fields)
        hint = did_you_mean(name, known) or f"; known here: {', '.join(known)}"
        return f"{where}: unknown {'setting' if parents else 'section'}{hint}"
    return f"{where}: {_sentence(error)}"


def _sentence(error):
    given = error["input"]
    if error["type"] == "string_pattern_mismatch":  # our patterns are lists of words
        words = error["ctx"]["pattern"].strip("^$()").split("|")
        return f"must be one of {', '.join(words)}, not {given!r}{did_you_mean(given, words)}"
    if error["type"] == "model_type":
        return f"must be a section of `key: value`, not {given!r}"
    rule = error["msg"].replace("Input should", "must").replace("must be a valid", "must be a")
    return f"{rule}, not {given!r}"


def _model_at(parents):
    model: Any = Settings
    for name in parents:
        model = model.model_fields[name].annotation
    return model


def _entry(name, field, value, depth) -> Iterator[str]:
    """Comment and `name: value` of one setting or one section."""
    if isinstance(value, BaseModel):
        text = field.description or (type(value).__doc__ or "").splitlines()[0]
        yield from _comment(text, depth)
        yield f"{'  ' * depth}{name}:"
        for key, inner in type(value).model_fields.items():
            yield from _entry(key, inner, getattr(value, key), depth + 1)
        return
    yield from _comment(field.description or "", depth)
    plain = list(value) if isinstance(value, tuple) else value
    written = yaml.safe_dump(plain, default_flow_style=True, width=1000).split("\n...")[0].strip()
    yield f"{'  ' * depth}{name}: {written}"


def _comment(text, depth):
    indent = "  " * depth + "# "
    return textwrap.wrap(
        " ".join(text.split()), WIDTH, initial_indent=indent, subsequent_indent=indent
    )
