rule train:
    message: "Train one cell: {wildcards.key}"
    input:
        needs("train"),
        stamp=fresh("train"),
    output:
        outputs("train"),
    log:
        log_of("train"),
    conda:
        "../../environment.yml"
    params:
        arguments=ARGUMENTS,
    threads: resource("train", "threads")
    resources:
        mem_mb=resource("train", "mem_mb"),
        runtime=resource("train", "runtime"),
        gpu=resource("train", "gpus"),
    shell:
        "python -m irepa train {wildcards.key:q} {params.arguments} --log {log:q}"


rule inspect:
    message: "Self-similarity maps of one cell: {wildcards.key}"
    input:
        needs("inspect"),
        stamp=fresh("inspect"),
    output:
        outputs("inspect"),
    log:
        log_of("inspect"),
    conda:
        "../../environment.yml"
    params:
        arguments=ARGUMENTS,
    threads: resource("inspect", "threads")
    resources:
        mem_mb=resource("inspect", "mem_mb"),
        runtime=resource("inspect", "runtime"),
        gpu=resource("inspect", "gpus"),
    shell:
        "python -m irepa inspect {wildcards.key:q} {params.arguments} --log {log:q}"
