"""Tiles that overlap, and weights that blend what was computed on each without seams.

A tile is transformed with a margin, and only what lies inside the margin is used: neighbouring
tiles share a linear ramp, over which their weights add up to one.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from psflib.image.convolve import edge_grid


@dataclasses.dataclass(frozen=True, eq=False)
class Strip:
    """A tile's extent on one axis.

    first, last : int
        Pixels first ... last - 1 are transformed.
    weight : ndarray (last - first,) float32
        Share of the tile in the result, 0 in the margin.
    centre : float
        Middle of the tile's own part, px.
    """

    first: int
    last: int
    weight: np.ndarray
    centre: float


@dataclasses.dataclass(frozen=True, eq=False)
class Tile:
    """A piece of the image: rows and columns."""

    y: Strip
    x: Strip

    @property
    def box(self) -> tuple[slice, slice]:
        """Where its pixels stand in the image."""
        return slice(self.y.first, self.y.last), slice(self.x.first, self.x.last)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.y.weight), len(self.x.weight)

    def add(self, total: np.ndarray, part: np.ndarray) -> None:
        """Add this tile's share of a plane, `part` of its own shape, to `total` (ny, nx)."""
        j, i = (np.flatnonzero(s.weight) for s in (self.y, self.x))
        inner = slice(j[0], j[-1] + 1), slice(i[0], i[-1] + 1)
        weight = self.y.weight[inner[0], None] * self.x.weight[None, inner[1]]
        total[self.box][inner] += weight * part[inner]


@dataclasses.dataclass(frozen=True, eq=False)
class Tiling:
    """All tiles of an image.

    rows, columns : list of Strip
    """

    rows: list[Strip]
    columns: list[Strip]

    def __iter__(self) -> Iterator[Tile]:
        return (Tile(row, column) for row in self.rows for column in self.columns)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    @property
    def nodes(self) -> tuple[np.ndarray, np.ndarray]:
        """Centres (x, y) of the tiles' columns and rows."""
        x, y = (np.array([s.centre for s in strips]) for strips in (self.columns, self.rows))
        return x, y


def tiling(shape, nx: int, ny: int, ramp: float, margin: int) -> Tiling:
    """nx * ny tiles of about equal size.

    Parameters
    ----------
    shape : (ny, nx) of the image
    nx, ny : int
    ramp : float
        Width of the blend between two neighbours, px; at most that of a tile, where the blend is
        linear between the tiles' centres.
    margin : int
        Pixels around what is used that are transformed too.

    Raises
    ------
    ValueError
        Fewer than one tile, or tiles of less than 8 px.
    """
    for name, count, length in (("nx", nx, shape[1]), ("ny", ny, shape[0])):
        if count < 1 or count > length // 8:
            raise ValueError(f"{name} must be 1 to {length // 8} for {length} px; got {count}")
    return Tiling(
        _strips(shape[0], int(ny), ramp, margin), _strips(shape[1], int(nx), ramp, margin)
    )


def node_tiling(shape, count: int, margin: int) -> Tiling:
    """count * count tiles about the nodes of `edge_grid`, blended linearly from node to node.

    The weights are those of a bilinear interpolation between the nodes, the outermost of which
    stand on the border.
    """
    x, y = edge_grid(shape, count)
    return Tiling(_hats(y, shape[0], margin), _hats(x, shape[1], margin))


def _hats(nodes, length, margin):
    strips, position = [], np.arange(length)
    for number, centre in enumerate(nodes):
        unit = np.zeros(len(nodes))
        unit[number] = 1
        weight = np.interp(position, nodes, unit)
        used = np.flatnonzero(weight)
        first, last = max(used[0] - margin, 0), min(used[-1] + 1 + margin, length)
        strips.append(Strip(first, last, weight[first:last].astype(np.float32), float(centre)))
    return strips


def _strips(length, count, ramp, margin):
    edges = np.linspace(0, length, count + 1)
    ramp = float(np.clip(ramp, 1, length / count))
    strips, position = [], np.arange(length)
    for number in range(count):
        weight = np.ones(length)
        if number:
            weight *= np.clip((position + 0.5 - edges[number]) / ramp + 0.5, 0, 1)
        if number < count - 1:
            weight *= np.clip((edges[number + 1] - position - 0.5) / ramp + 0.5, 0, 1)
        used = np.flatnonzero(weight)
        first, last = max(used[0] - margin, 0), min(used[-1] + 1 + margin, length)
        centre = (edges[number] + edges[number + 1] - 1) / 2
        strips.append(Strip(first, last, weight[first:last].astype(np.float32), centre))
    return strips
