rule table:
    message: "Every number of the tier in one table"
    input:
        needs("table"),
        stamp=fresh("table"),
    output:
        outputs("table"),
    log:
        log_of("table"),
    conda:
        "../../environment.yml"
    params:
        arguments=ARGUMENTS,
    threads: resource("table", "threads")
    resources:
        mem_mb=resource("table", "mem_mb"),
        runtime=resource("table", "runtime"),
        gpu=resource("table", "gpus"),
    shell:
        "python -m irepa table {params.arguments} --log {log:q}"


rule figure:
    message: "One figure, with the CSV of what it plots: {wildcards.key}"
    input:
        needs("figure"),
        stamp=fresh("figure"),
    output:
        outputs("figure"),
    log:
        log_of("figure"),
    conda:
        "../../environment.yml"
    params:
        arguments=ARGUMENTS,
    threads: resource("figure", "threads")
    resources:
        mem_mb=resource("figure", "mem_mb"),
        runtime=resource("figure", "runtime"),
        gpu=resource("figure", "gpus"),
    shell:
        "python -m irepa figure {wildcards.key:q} {params.arguments} --log {log:q}"


rule audit:
    message: "Every claim of the paper and its verdict"
    input:
        needs("audit"),
        stamp=fresh("audit"),
    output:
        outputs("audit"),
    log:
        log_of("audit"),
    conda:
        "../../environment.yml"
    params:
        arguments=ARGUMENTS,
    threads: resource("audit", "threads")
    resources:
        mem_mb=resource("audit", "mem_mb"),
        runtime=resource("audit", "runtime"),
        gpu=resource("audit", "gpus"),
    shell:
        "python -m irepa audit {params.arguments} --log {log:q}"


rule report:
    message: "The page"
    input:
        needs("report"),
        stamp=fresh("report"),
    output:
        outputs("report"),
    log:
        log_of("report"),
    conda:
        "../../environment.yml"
    params:
        arguments=ARGUMENTS,
    threads: resource("report", "threads")
    resources:
        mem_mb=resource("report", "mem_mb"),
        runtime=resource("report", "runtime"),
        gpu=resource("report", "gpus"),
    shell:
        "python -m irepa report {params.arguments} --log {log:q}"
