"""The embedded field against its truth: what `make demo` prints and tests assert."""

import dataclasses
from pathlib import Path

import numpy as np
from astropy.table import QTable

from psflib import products
from psflib.errors import BadFile
from psflib.judging.metrics import Recovery, Whiteness, recovery, values, whiteness


@dataclasses.dataclass(frozen=True)
class Figures:
    """The figures of one science epoch of the embedded field."""

    epoch: str
    recovery: Recovery
    whiteness: Whiteness

    @property
    def goals(self) -> list[tuple[str, str, bool]]:
        """(what, measured, reached?) for each goal."""
        found, noise = self.recovery, self.whiteness
        return [
            ("transients of true S/N >= 8 found, >= 90 %", f"{found.found} of {found.expected}",
             found.found >= 0.9 * found.expected),
            ("other candidates per Mpx at 5 sigma, <= 5", f"{found.others_per_mpx:.1f}",
             found.others_per_mpx <= 5),
            ("std(D/sigma) in empty sky, 1 ± 0.05", f"{noise.std:.3f}", abs(noise.std - 1) <= 0.05),
            ("largest correlation of 8 nearest lags, <= 0.02", f"{noise.correlation_after:+.4f}",
             abs(noise.correlation_after) <= 0.02),
            ("the same before decorrelation, more", f"{noise.correlation_before:+.4f}",
             abs(noise.correlation_before) > abs(noise.correlation_after)),
            ("bias of transient fluxes, <= 2 %", f"{found.flux_bias:+.2%} ± {found.flux_error:.2%}",
             abs(found.flux_bias) <= 0.02),
        ]  # fmt: skip


def judge(output: Path, truth: Path, field: str = "embedded") -> list[Figures]:
    """Figures of every science epoch of the embedded field in `output`.

    Raises
    ------
    BadFile
        If the products or the truth are not there.
    """
    if not truth.exists():
        raise BadFile(truth, "no truth table", "Run `make demo` first, it simulates the field")
    table = QTable.read(truth, format="ascii.ecsv")
    epochs = sorted(set(values(table, "epoch").astype(str)))
    return [_judge_epoch(output / field / epoch, table, epoch) for epoch in epochs]


def _judge_epoch(folder, table, epoch):
    rows = table[values(table, "epoch").astype(str) == epoch]
    raw = products.read_difference(folder / "difference.fits")
    clean = products.read_difference(folder / "decorrelated.fits")
    found = products.read_candidates(folder / "candidates.ecsv")
    changed = rows[np.isin(values(rows, "kind"), ("transient", "variable"))]
    avoid = values(changed, "x"), values(changed, "y")
    science = products.read_exposure(folder / "exposure.fits")
    return Figures(
        epoch, recovery(found, rows, clean.usable.sum()), whiteness(raw, clean, science, avoid)
    )


def check_embedded(output: Path, truth: Path) -> list[str]:
    """Lines of a table: goal, measured, reached, for each epoch."""
    lines = []
    for figures in judge(output, truth):
        lines.append(f"embedded field, epoch {figures.epoch}")
        lines += [
            f"  {'ok  ' if reached else 'MISS'}  {what:<50} {measured}"
            for what, measured, reached in figures.goals
        ]
    return lines
