"""Runs the stages of a chain, one after the other in one process."""

from pathlib import Path

from psflib.stages import run_all

params = dict(snakemake.params.items())  # noqa: F821 (Snakemake puts this name here)
for path in params.pop("measured"):
    Path(path).unlink(missing_ok=True)
run_all(
    params.pop("stages"),
    logs=dict(snakemake.log.items()),  # noqa: F821
    threads=snakemake.threads,  # noqa: F821
    **dict(snakemake.input.items()),  # noqa: F821
    **dict(snakemake.output.items()),  # noqa: F821
    **params,
)
