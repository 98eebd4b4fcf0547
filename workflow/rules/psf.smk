# The point-spread function of every image; the template's is made once a field.
#
# INPUTS   {output}/{field}/{epoch}/exposure.fits
# OUTPUTS  {output}/{field}/{epoch}/stars.ecsv           every detection, with the reason if rejected
#          {output}/{field}/{epoch}/stamps.fits          cut-outs of the selected stars
#          {output}/{field}/{epoch}/epsf.fits            oversampled core, varying over the field
#          {output}/{field}/{epoch}/extended_psf.fits    core and wings, profile
#          {output}/{field}/{epoch}/starless.fits        without bright stars, if subtract_stars.enabled
# STEPS    select_stars -> build_stamps -> core_epsf -> extended_psf [-> subtract_stars]


rule select_stars:
    """PSF stars of {wildcards.field}, {wildcards.epoch}."""
    input:
        asked_anew("select_stars"),
        catalog_file,
        exposure=f"{OUT}/{{field}}/{{epoch}}/exposure.fits",
    output:
        stars=f"{OUT}/{{field}}/{{epoch}}/stars.ecsv",
    log:
        f"{OUT}/logs/{{field}}/{{epoch}}/select_stars.log",
    benchmark:
        f"{OUT}/benchmarks/{{field}}/{{epoch}}/select_stars.tsv"
    threads: SETTINGS.threads
    resources:
        mem_mb=1000,
    params:
        catalog=catalog,
        settings=SETTINGS.section("select_stars"),
        record=record("select_stars"),
    script:
        "../scripts/run_stage.py"


rule build_stamps:
    """Stamps of the selected stars of {wildcards.field}, {wildcards.epoch}."""
    input:
        asked_anew("build_stamps"),
        exposure=f"{OUT}/{{field}}/{{epoch}}/exposure.fits",
        stars=f"{OUT}/{{field}}/{{epoch}}/stars.ecsv",
    output:
        stamps=f"{OUT}/{{field}}/{{epoch}}/stamps.fits",
    log:
        f"{OUT}/logs/{{field}}/{{epoch}}/build_stamps.log",
    benchmark:
        f"{OUT}/benchmarks/{{field}}/{{epoch}}/build_stamps.tsv"
    threads: SETTINGS.threads
    resources:
        mem_mb=1000,
    params:
        settings=SETTINGS.section("build_stamps"),
        record=record("build_stamps"),
    script:
        "../scripts/run_stage.py"


rule core_epsf:
    """The oversampled ePSF of {wildcards.field}, {wildcards.epoch}."""
    input:
        asked_anew("core_epsf"),
        exposure=f"{OUT}/{{field}}/{{epoch}}/exposure.fits",
        stamps=f"{OUT}/{{field}}/{{epoch}}/stamps.fits",
    output:
        epsf=f"{OUT}/{{field}}/{{epoch}}/epsf.fits",
    log:
        f"{OUT}/logs/{{field}}/{{epoch}}/core_epsf.log",
    benchmark:
        f"{OUT}/benchmarks/{{field}}/{{epoch}}/core_epsf.tsv"
    threads: SETTINGS.threads
    resources:
        mem_mb=1000,
    params:
        settings=SETTINGS.section("core_epsf"),
        record=record("core_epsf"),
    script:
        "../scripts/run_stage.py"


rule extended_psf:
    """Core and wings of the PSF of {wildcards.field}, {wildcards.epoch}."""
    input:
        asked_anew("extended_psf"),
        exposure=f"{OUT}/{{field}}/{{epoch}}/exposure.fits",
        stars=f"{OUT}/{{field}}/{{epoch}}/stars.ecsv",
        epsf=f"{OUT}/{{field}}/{{epoch}}/epsf.fits",
    output:
        extended_psf=f"{OUT}/{{field}}/{{epoch}}/extended_psf.fits",
    log:
        f"{OUT}/logs/{{field}}/{{epoch}}/extended_psf.log",
    benchmark:
        f"{OUT}/benchmarks/{{field}}/{{epoch}}/extended_psf.tsv"
    threads: SETTINGS.threads
    resources:
        mem_mb=1000,
    params:
        settings=SETTINGS.section("extended_psf"),
        record=record("extended_psf"),
    script:
        "../scripts/run_stage.py"


rule subtract_stars:
    """Bright stars and their haloes out of {wildcards.field}, {wildcards.epoch}."""
    input:
        asked_anew("subtract_stars"),
        exposure=f"{OUT}/{{field}}/{{epoch}}/exposure.fits",
        stars=f"{OUT}/{{field}}/{{epoch}}/stars.ecsv",
        epsf=f"{OUT}/{{field}}/{{epoch}}/epsf.fits",
        extended_psf=f"{OUT}/{{field}}/{{epoch}}/extended_psf.fits",
    output:
        starless=f"{OUT}/{{field}}/{{epoch}}/starless.fits",
    log:
        f"{OUT}/logs/{{field}}/{{epoch}}/subtract_stars.log",
    benchmark:
        f"{OUT}/benchmarks/{{field}}/{{epoch}}/subtract_stars.tsv"
    threads: SETTINGS.threads
    resources:
        mem_mb=2000,
    params:
        settings=SETTINGS.section("subtract_stars"),
        record=record("subtract_stars"),
    script:
        "../scripts/run_stage.py"
