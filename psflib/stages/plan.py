"""What is to be made of each image: anew as a whole, stage by stage, or not at all."""

import functools
import os
from pathlib import Path
from typing import Any

from psflib.config import Settings
from psflib.files.fields import TEMPLATE, FieldsTable, Row
from psflib.stages import CHAINS, OTHERS
from psflib.stages.records import Record, asked

#: What a row says that concerns no pixel of `exposure.fits`.
NO_PIXELS = ("catalog", "table", "line")


class Plan:
    """The images of a table under one configuration, and what of their products still fits.

    Parameters
    ----------
    settings : Settings
    fields : FieldsTable
    made_here : Path
        Folder of images that the workflow makes itself: their times mean nothing.
    """

    def __init__(self, settings: Settings, fields: FieldsTable, made_here: Path):
        self.settings, self.fields, self.made_here = settings, fields, made_here
        self.home = fields.path.parent
        self.fits = functools.cache(self._fits)

    def record(self, stage: str, field: str, epoch: str) -> Record:
        """What a stage has made of an image, and is asked to; "" for those of no field or epoch."""
        output = self.made_here if stage == "simulate" else Path(self.settings.output)
        folder = output if stage == "simulate" else output / "made" / field / epoch
        told = self._asked(stage, field, epoch)
        return Record(str(folder / f"{stage}.json"), told, str(output), str(self.home))

    def _asked(self, stage, field, epoch):
        more: dict[str, Any] = {}
        files: list[Path] = []
        row = self.fields.row(field, epoch) if epoch else None
        if stage in ("page", "report"):
            more["until"] = self.settings.until
        if stage == "lightcurves":
            more["epochs"] = self.fields.epochs(field)
        elif row is None:
            images = [[row.field, row.epoch] for row in self.fields.rows]
            more |= {} if stage == "simulate" else {"images": images}
        elif stage == "prepare":
            more["row"] = {k: self._told(v) for k, v in vars(row).items() if k not in NO_PIXELS}
            files = self.image_files(row)
        elif stage == "select_stars" and row.catalog:
            more["catalog"] = self._told(row.catalog)
            files = [row.catalog] if row.catalog.is_file() else []
        elif stage == "inject":
            more["others"] = {other: self.settings.section(other) for other in OTHERS[stage]}
        elif stage == "detect":
            more["injected"] = self.settings.inject.enabled
        files = [file for file in files if file.parent != self.made_here]
        section = self.settings.section("report" if stage == "page" else stage)
        return asked(section, files, self.home, **more)

    def _told(self, value):
        return os.path.relpath(value, self.home) if isinstance(value, Path) else str(value)

    def chain(self, name: str) -> tuple[str, ...]:
        """The stages of a chain that are asked for."""
        enabled = self.settings.inject.enabled
        return tuple(stage for stage in CHAINS[name] if enabled or stage != "inject")

    def image_files(self, row: Row) -> list[Path]:
        """Files of an image that exist, or that the workflow makes.

        A missing one is left out, so that all fields are planned; the job that reads it then stops
        with a sentence that names file and row, and the other fields go on.
        """
        return [p for p in row.files if p.exists() or p.parent == self.made_here]

    def image_as_a_whole(self, field: str, epoch: str) -> bool:
        """Whether everything of an image, from `prepare` on, is to be made."""
        simulated = self.fields.row(field, epoch).image.parent == self.made_here
        new = simulated and not self.fits("simulate", "", "")
        return new or not self.fits("prepare", field, epoch)

    def epoch_as_a_whole(self, field: str, epoch: str) -> bool:
        """Whether everything of a difference is: an image or a PSF of it is new, or `subtract`."""
        needed = ["prepare", "select_stars", "build_stamps", "core_epsf"]
        if self.settings.subtract.use_extended_psf:
            needed.append("extended_psf")
        of_images = [(stage, image) for stage in needed for image in (epoch, TEMPLATE)]
        return not all(self.fits(s, field, e) for s, e in [*of_images, ("subtract", epoch)])

    def _fits(self, stage, field, epoch):
        return self.record(stage, field, epoch).fits()
