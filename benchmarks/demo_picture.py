"""The README's picture, from the products of the demo.

python benchmarks/demo_picture.py results docs/images/demo.png
"""

import sys
from pathlib import Path

from psflib import products
from psflib.figures import canvas
from psflib.figures.image import field_map, significance_map
from psflib.judging.metrics import values

WINDOW = slice(300, 812)  # half of the field, with every kind of source in it
BRIGHTER, FADED = "tab:red", "tab:blue"


def main(output, picture):
    folder = Path(output) / "embedded" / "1"
    clean = products.read_difference(folder / "decorrelated.fits")
    found = products.read_candidates(folder / "candidates.ecsv")
    figure = canvas.new_figure(13.0, 5.4)
    axes = figure.subplots(1, 3)
    origin = (WINDOW.start, WINDOW.start)
    for ax, name in zip(axes, ("exposure", "template"), strict=False):
        exposure = products.read_exposure(folder / f"{name}.fits").cutout(WINDOW, WINDOW)
        shown = field_map(ax, exposure, origin)
        canvas.label(ax, "x [px]", "y [px]", {"exposure": "science"}.get(name, name))
        canvas.bar(figure, shown, ax, "ADU", location="bottom", shrink=0.8)
    shown = significance_map(axes[2], clean.score[WINDOW, WINDOW], origin, limit=8)
    _circle(axes[2], found)
    canvas.label(axes[2], "x [px]", "y [px]", "what changed: significance")
    canvas.bar(figure, shown, axes[2], "σ", location="bottom", shrink=0.8)
    Path(picture).parent.mkdir(parents=True, exist_ok=True)
    Path(picture).write_bytes(canvas.to_png(figure, dpi=75))


def _circle(axes, found):
    x, y, flux = (values(found, name) for name in ("x", "y", "flux"))
    inside = values(found, "clean") & (abs(x - 555.5) < 256) & (abs(y - 555.5) < 256)
    for rows, colour, label in ((flux > 0, BRIGHTER, "brighter"), (flux < 0, FADED, "fainter")):
        axes.scatter(
            x[inside & rows], y[inside & rows], s=90, facecolors="none", edgecolors=colour,
            linewidths=1.4, label=f"{label} ({(inside & rows).sum()})",
        )  # fmt: skip
    canvas.legend(axes, loc="upper right")


if __name__ == "__main__":
    main(*sys.argv[1:3])
