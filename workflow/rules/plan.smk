# Which products are made anew, and by how many jobs: docs/architecture.md, "Jobs".
#
# INPUTS   {output}/made/{field}/{epoch}/{stage}.json    what each product was made from
# OUTPUTS  nothing but `ANEW`
# STEPS    an input function for every rule, and its parameter `record`

# A job that Snakemake starts elsewhere is told which rule to run, and plans nothing.
ELSEWHERE = "--target-jobs" in sys.argv
# Newer than any product: the input of those that are not what is asked for.
ANEW = Path(".snakemake/asked_anew")
NEVER = ".snakemake/made_stage_by_stage"  # is never there: Snakemake then takes the other rules

if not ELSEWHERE:
    ANEW.parent.mkdir(exist_ok=True)
    # a small input with a new time but the old content is not new to Snakemake
    ANEW.write_text(f"{time.time_ns()}\n")


def image_of(wildcards):
    """Field and epoch; nothing for the rules that concern no single image."""
    return wildcards.get("field", ""), wildcards.get("epoch", "")


def asked_anew(stage):
    """An input that makes Snakemake run a stage whose product is not what is asked for."""

    def files(wildcards):
        if ELSEWHERE or PLAN.fits(stage, *image_of(wildcards)):
            return []
        PLAN.record(stage, *image_of(wildcards)).correct_times()
        return [str(ANEW)]

    return files


def record(stage):
    """Where a stage says what it has made, and from what."""

    def told(wildcards):
        return PLAN.record(stage, *image_of(wildcards))

    return told


def as_a_whole(chain, planned):
    """An input that is there only if all stages of a chain are to run for this image."""

    def files(wildcards):
        told = workflow.dag_settings
        named = {*told.until, *told.forcerun, *told.omit_from}
        # who names a stage (--until, --forcerun ...) wants to see it as a job
        if SETTINGS.jobs == "stage" or named & set(STAGES):
            return [NEVER]
        whole = ELSEWHERE or told.forceall or chain in named or planned(*image_of(wildcards))
        return [] if whole else [NEVER]

    return files


def measured(chain):
    """Benchmarks of single stages: Snakemake would take old ones for old products."""
    return [f"{OUT}/benchmarks/{{field}}/{{epoch}}/{stage}.tsv" for stage in CHAINS[chain]]


def records(chain):
    """`record` of every stage of a chain."""
    return lambda wildcards: {stage: record(stage)(wildcards) for stage in CHAINS[chain]}


def known(files):
    """The user's files: what is in them decides, by the records, and not their times."""
    return [path if path.parent == EMBEDDED else ancient(str(path)) for path in files]


def image_files(wildcards):
    return known(PLAN.image_files(FIELDS.row(wildcards.field, wildcards.epoch)))


def catalog(wildcards):
    """The catalogue of the sky that the table names for an image, or nothing."""
    return str(FIELDS.row(wildcards.field, wildcards.epoch).catalog or "")


def catalog_file(wildcards):
    """As an input only if it exists: a missing one stops its own image, in a sentence."""
    path = catalog(wildcards)
    return known([Path(path)]) if Path(path).is_file() else []
