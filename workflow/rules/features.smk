rule pretrain:
    message: "An encoder, trained on the training images: {wildcards.key}"
    input:
        needs("pretrain"),
        stamp=fresh("pretrain"),
    output:
        outputs("pretrain"),
    log:
        log_of("pretrain"),
    conda:
        "../../environment.yml"
    params:
        arguments=ARGUMENTS,
    threads: resource("pretrain", "threads")
    resources:
        mem_mb=resource("pretrain", "mem_mb"),
        runtime=resource("pretrain", "runtime"),
        gpu=resource("pretrain", "gpus"),
    shell:
        "python -m irepa pretrain {wildcards.key:q} {params.arguments} --log {log:q}"


rule features:
    message: "Tokens of one encoder: {wildcards.key}"
    input:
        needs("features"),
        stamp=fresh("features"),
    output:
        outputs("features"),
    log:
        log_of("features"),
    conda:
        "../../environment.yml"
    params:
        arguments=ARGUMENTS,
    threads: resource("features", "threads")
    resources:
        mem_mb=resource("features", "mem_mb"),
        runtime=resource("features", "runtime"),
        gpu=resource("features", "gpus"),
    shell:
        "python -m irepa features {wildcards.key:q} {params.arguments} --log {log:q}"


rule spatial:
    message: "Spatial metrics of one encoder: {wildcards.key}"
    input:
        needs("spatial"),
        stamp=fresh("spatial"),
    output:
        outputs("spatial"),
    log:
        log_of("spatial"),
    conda:
        "../../environment.yml"
    params:
        arguments=ARGUMENTS,
    threads: resource("spatial", "threads")
    resources:
        mem_mb=resource("spatial", "mem_mb"),
        runtime=resource("spatial", "runtime"),
        gpu=resource("spatial", "gpus"),
    shell:
        "python -m irepa spatial {wildcards.key:q} {params.arguments} --log {log:q}"


rule probe:
    message: "Linear probe of one encoder: {wildcards.key}"
    input:
        needs("probe"),
        stamp=fresh("probe"),
    output:
        outputs("probe"),
    log:
        log_of("probe"),
    conda:
        "../../environment.yml"
    params:
        arguments=ARGUMENTS,
    threads: resource("probe", "threads")
    resources:
        mem_mb=resource("probe", "mem_mb"),
        runtime=resource("probe", "runtime"),
        gpu=resource("probe", "gpus"),
    shell:
        "python -m irepa probe {wildcards.key:q} {params.arguments} --log {log:q}"
