"""Two images in, a decorrelated difference and its candidates out; see README.md."""

import contextlib
import re
import sys
import time
from pathlib import Path

from snakemake.utils import min_version

from psflib.config import find_table, load_settings
from psflib.files.fields import read_fields
from psflib.stages import CHAINS, OTHERS, STAGES
from psflib.stages import run as run_stage
from psflib.stages.plan import Plan

min_version("9.5")


configfile: Path(workflow.basedir) / "config.yaml"


# Everything that can be wrong with the configuration and the table is said here, before any job.
SETTINGS = load_settings(config)
FIELDS = read_fields(find_table(SETTINGS.fields, workflow.basedir), SETTINGS.until)
DIFFERENCES = SETTINGS.until == "all" and FIELDS.differences
OUT = SETTINGS.output
EMBEDDED = FIELDS.path.parent / "data/embedded"
PLAN = Plan(SETTINGS, FIELDS, EMBEDDED)


wildcard_constraints:
    field="|".join(map(re.escape, FIELDS.fields)),
    epoch="|".join(sorted({re.escape(row.epoch) for row in FIELDS.rows})),


include: "workflow/rules/plan.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/psf.smk"
include: "workflow/rules/difference.smk"
include: "workflow/rules/chains.smk"
include: "workflow/rules/report.smk"


rule all:
    """Every product of every image, and the report on them."""
    default_target: True
    input:
        PRODUCTS,
        PAGES,
        CURVES,
        INDEX,


onerror:
    # What could be made is reported all the same; the exit code still says that something failed.
    for path in CURVES:
        field = Path(path).parent.name
        if not Path(path).exists() and list(Path(OUT, field).glob("*/candidates.ecsv")):
            with contextlib.suppress(SystemExit):  # its log tells
                made_of_field = {
                    name: file.format(field=field)
                    for name, file in rules.lightcurves.output.items()
                }
                run_stage(
                    "lightcurves",
                    log_file=rules.lightcurves.log[0].format(field=field),
                    settings=SETTINGS.section("lightcurves"),
                    fields=FIELDS.path,
                    output=OUT,
                    field=field,
                    **made_of_field,
                )
    run_stage(
        "report",
        log_file=rules.report.log[0],
        settings=SETTINGS.section("report"),
        fields=FIELDS.path,
        output=OUT,
        until=SETTINGS.until,
        page=rules.report.output.page,
        summary=rules.report.output.summary,
    )
