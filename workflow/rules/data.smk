rule data:
    message: "Decode the dataset into arrays"
    input:
        needs("data"),
        stamp=fresh("data"),
    output:
        outputs("data"),
    log:
        log_of("data"),
    conda:
        "../../environment.yml"
    params:
        arguments=ARGUMENTS,
    threads: resource("data", "threads")
    resources:
        mem_mb=resource("data", "mem_mb"),
        runtime=resource("data", "runtime"),
        gpu=resource("data", "gpus"),
    shell:
        "python -m irepa data {params.arguments} --log {log:q}"


rule latents:
    message: "Moments of the training images"
    input:
        needs("latents"),
        stamp=fresh("latents"),
    output:
        outputs("latents"),
    log:
        log_of("latents"),
    conda:
        "../../environment.yml"
    params:
        arguments=ARGUMENTS,
    threads: resource("latents", "threads")
    resources:
        mem_mb=resource("latents", "mem_mb"),
        runtime=resource("latents", "runtime"),
        gpu=resource("latents", "gpus"),
    shell:
        "python -m irepa latents {params.arguments} --log {log:q}"


rule autoencoder:
    message: "An autoencoder, trained on the training images: {wildcards.key}"
    input:
        needs("autoencoder"),
        stamp=fresh("autoencoder"),
    output:
        outputs("autoencoder"),
    log:
        log_of("autoencoder"),
    conda:
        "../../environment.yml"
    params:
        arguments=ARGUMENTS,
    threads: resource("autoencoder", "threads")
    resources:
        mem_mb=resource("autoencoder", "mem_mb"),
        runtime=resource("autoencoder", "runtime"),
        gpu=resource("autoencoder", "gpus"),
    shell:
        "python -m irepa autoencoder {wildcards.key:q} {params.arguments} --log {log:q}"
