"""Files that HOTPANTS's options and `_workdir` promise."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from psflib.files.bare import write_planes, write_text

VETTED = ("edge", "mask")  # reasons of sources that never were substamps
COLOURS = {"": "green", ".all": "yellow", ".skipped": "red"}


@dataclasses.dataclass(frozen=True, eq=False)
class Given:
    """What a call was given: planes as they came, masks (or None), errors (or None), objects."""

    image: Any
    template: Any
    mask: Any
    template_mask: Any
    err: Any
    template_err: Any
    places: Any


def check_clobber(options) -> None:
    """Refuse files that exist, under the option nc.

    Raises
    ------
    ValueError
    """
    if not options.nc:
        return
    for name in ("omi", "oci", "oni", "ond", "oki", "savexy"):
        path = getattr(options, name)
        if path is not None and Path(path).exists():
            raise ValueError(f"HOTPANTS option {name!r}: {path} exists, and nc forbids to write it")


def write_outputs(planes, options, given: Given, folder=None) -> None:
    """Write what was asked for: by options, and everything into `folder`."""
    convolved = {"Convolved Image": planes.convolved}
    scaled = {"Noise-scaled (sigma) Difference Image": planes.scaled}
    noise = {"HOTPanTS Noise Image": planes.noise}
    header = planes.header
    for path, content in (
        (options.oci, convolved), (options.ond, scaled), (options.oni, noise),
        (options.omi, {"Hotpants output Mask Image": planes.mask}),
    ):  # fmt: skip
        if path is not None:
            write_planes(path, content, header)
    if options.oki is not None:
        write_planes(options.oki, {}, header, planes.kernels)
    if options.savexy is not None:
        _write_substamps(options.savexy, planes.cells, options.rss)
    if folder is None:
        return
    folder = Path(folder)
    difference = {"Difference Image": planes.difference}
    write_planes(
        folder / "diff.fits", {**difference, **convolved, **scaled, **noise}, header, planes.kernels
    )
    for name, plane, bad, err in (
        ("image", given.image, given.mask, given.err),
        ("template", given.template, given.template_mask, given.template_err),
    ):
        write_planes(folder / f"{name}.fits", {name: np.asarray(plane)})
        bad = ~np.isfinite(plane) if bad is None else (np.asarray(bad) != 0) | ~np.isfinite(plane)
        write_planes(folder / f"{name[0]}mask.fits", {"mask": bad.astype(np.uint16)})
        if np.ndim(err) == 2:
            write_planes(folder / f"{name[0].strip('i')}err.fits", {"err": np.asarray(err)})
    if given.places is not None:
        write_text(folder / "objects.xy", [f"{x:.1f} {y:.1f}" for x, y in given.places])
    _write_substamps(folder / "stamps.reg", planes.cells, options.rss)


def _write_substamps(path, regions, half):
    """Three files of boxes for a display: substamps used, all, and those that were passed over."""
    texts: dict[str, list[str]] = {suffix: [] for suffix in COLOURS}
    for cells, (y0, x0) in regions:
        for lines in texts.values():
            lines.append("#   X    Y")
        for cell in cells.cells:
            tried = [c for c in cell.candidates if c.reason not in VETTED]
            used = cell.active(1)
            chosen = {"": used, ".all": tried, ".skipped": [c for c in tried if c.status == "bad"]}
            for suffix, colour in COLOURS.items():
                texts[suffix] += [
                    f"image;box({round(c.x) + x0 + 1:4d},{round(c.y) + y0 + 1:4d},"
                    f"{2 * half + 1},{2 * half + 1}) # color={colour}"
                    for c in chosen[suffix]
                ]
    for suffix, lines in texts.items():
        write_text(f"{path}{suffix}", lines)
