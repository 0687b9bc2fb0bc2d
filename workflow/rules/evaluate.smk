rule reference:
    message: "Reference statistics of one judge: {wildcards.key}"
    input:
        needs("reference"),
        stamp=fresh("reference"),
    output:
        outputs("reference"),
    log:
        log_of("reference"),
    conda:
        "../../environment.yml"
    params:
        arguments=ARGUMENTS,
    threads: resource("reference", "threads")
    resources:
        mem_mb=resource("reference", "mem_mb"),
        runtime=resource("reference", "runtime"),
        gpu=resource("reference", "gpus"),
    shell:
        "python -m irepa reference {wildcards.key:q} {params.arguments} --log {log:q}"


rule sample:
    message: "Samples of one cell: {wildcards.key}"
    input:
        needs("sample"),
        stamp=fresh("sample"),
    output:
        outputs("sample"),
    log:
        log_of("sample"),
    conda:
        "../../environment.yml"
    params:
        arguments=ARGUMENTS,
    threads: resource("sample", "threads")
    resources:
        mem_mb=resource("sample", "mem_mb"),
        runtime=resource("sample", "runtime"),
        gpu=resource("sample", "gpus"),
    shell:
        "python -m irepa sample {wildcards.key:q} {params.arguments} --log {log:q}"


rule evaluate:
    message: "Distances of one cell: {wildcards.key}"
    input:
        needs("evaluate"),
        stamp=fresh("evaluate"),
    output:
        outputs("evaluate"),
    log:
        log_of("evaluate"),
    conda:
        "../../environment.yml"
    params:
        arguments=ARGUMENTS,
    threads: resource("evaluate", "threads")
    resources:
        mem_mb=resource("evaluate", "mem_mb"),
        runtime=resource("evaluate", "runtime"),
        gpu=resource("evaluate", "gpus"),
    shell:
        "python -m irepa evaluate {wildcards.key:q} {params.arguments} --log {log:q}"
