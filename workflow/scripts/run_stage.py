"""Runs the stage that bears the rule's name, with the rule's files and parameters."""

from psflib.stages import run

run(
    snakemake.rule,  # noqa: F821 (Snakemake puts this name here)
    log_file=snakemake.log[0],  # noqa: F821
    threads=snakemake.threads,  # noqa: F821
    **dict(snakemake.input.items()),  # noqa: F821
    **dict(snakemake.output.items()),  # noqa: F821
    **dict(snakemake.params.items()),  # noqa: F821
)
