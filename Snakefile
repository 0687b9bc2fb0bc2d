# `snakemake` looks here; the workflow is in workflow/. An included file cannot set the default target, so it is named here.
include: "workflow/Snakefile"


rule reproduce:
    default_target: True
    input:
        rules.all.input,
