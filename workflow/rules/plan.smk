# Which products are made anew, and by how many jobs: docs/architecture.md, "Jobs".
#
# INPUTS   {output}/made/{field}/{epoch}/{stage}.json    what each product was made from
# OUTPUTS  nothing but `ANEW`
# STEPS    an input function for every rule, and its parameter `record`

# A job that Snakemake starts elsewhere is told which rule to run, and plans nothing.
ELSEWHERE = "--target-jobs" in sys.argv
# Who names a stage on the command line (--until, --forcerun ...) wants to see it as a job.
BY_STAGE = SETTINGS.jobs == "stage" or bool(set(STAGES) & set(sys.argv))
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
        fits = ELSEWHERE or PLAN.fits(stage, *image_of(wildcards))
        return [] if fits else [str(ANEW)]

    return files


def record(stage):
    """Where a stage says what it has made, and from what."""

    def told(wildcards):
        image = image_of(wildcards)
        return str(PLAN.record(stage, *image)), PLAN.asked(stage, *image)

    return told


def as_a_whole(planned):
    """An input that is there only if all stages of a chain are to run for this image."""

    def files(wildcards):
        whole = ELSEWHERE or (not BY_STAGE and planned(*image_of(wildcards)))
        return [] if whole else [NEVER]

    return files


def records(chain):
    """`record` of every stage of a chain."""
    return lambda wildcards: {stage: record(stage)(wildcards) for stage in CHAINS[chain]}


def image_files(wildcards):
    return PLAN.image_files(FIELDS.row(wildcards.field, wildcards.epoch))


def catalog(wildcards):
    """The catalogue of the sky that the table names for an image, or nothing."""
    return str(FIELDS.row(wildcards.field, wildcards.epoch).catalog or "")


def catalog_file(wildcards):
    """As an input only if it exists: a missing one stops its own image, in a sentence."""
    path = catalog(wildcards)
    return [path] if Path(path).is_file() else []
