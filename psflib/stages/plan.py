"""What is to be made of each image: anew as a whole, stage by stage, or not at all."""

import functools
from pathlib import Path
from typing import Any

from psflib.config import Settings
from psflib.files.fields import TEMPLATE, FieldsTable, Row
from psflib.stages.records import asked, fits_record

#: What a row says that concerns no pixel of `exposure.fits`.
OTHERS = ("catalog", "table", "line")


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
        self.fits = functools.cache(self._fits)

    def record(self, stage: str, field: str, epoch: str) -> Path:
        """Where it is written what a stage was asked for an image ("" for those of no image)."""
        if stage == "simulate":
            return self.made_here / "simulate.json"
        return Path(self.settings.output, "made", field, epoch, f"{stage}.json")

    def asked(self, stage: str, field: str, epoch: str) -> dict[str, Any]:
        """What a stage is asked to do for an image."""
        more: dict[str, Any] = {}
        files: list[Path] = []
        row = self.fields.row(field, epoch) if field else None
        if row is None:
            images = [[row.field, row.epoch] for row in self.fields.rows]
            more = {} if stage == "simulate" else {"until": self.settings.until, "images": images}
        elif stage == "prepare":
            more["row"] = {k: str(v) for k, v in vars(row).items() if k not in OTHERS}
            files = self.image_files(row)
        elif stage == "select_stars" and row.catalog:
            more["catalog"] = str(row.catalog)
            files = [row.catalog] if row.catalog.is_file() else []
        files = [file for file in files if file.parent != self.made_here]
        return asked(self.settings.section("report" if stage == "page" else stage), files, **more)

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
        return fits_record(self.record(stage, field, epoch), self.asked(stage, field, epoch))
