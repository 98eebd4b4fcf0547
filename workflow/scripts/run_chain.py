"""Runs the stages of the chain that bears the rule's name, one after the other in one process."""

from pathlib import Path

from psflib.stages import CHAINS, run_all

params = dict(snakemake.params.items())  # noqa: F821 (Snakemake puts this name here)
for path in params.pop("measured"):
    Path(path).unlink(missing_ok=True)
run_all(
    CHAINS[snakemake.rule],  # noqa: F821
    logs=dict(snakemake.log.items()),  # noqa: F821
    threads=snakemake.threads,  # noqa: F821
    **dict(snakemake.input.items()),  # noqa: F821
    **dict(snakemake.output.items()),  # noqa: F821
    **params,
)
