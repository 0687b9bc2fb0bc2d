# One rule per row of the graph.
for stage_name, stage in STAGES.items():

    rule:
        name:
            stage_name
        message:
            message(stage_name)
        input:
            needs(stage_name),
            stamp=fresh(stage_name),
        output:
            outputs(stage_name),
        log:
            log_of(stage_name),
        conda:
            "../envs/irepa.yaml"
        params:
            stage=stage_name,
            key=quoted_key,
            arguments=ARGUMENTS,
        threads: resource(stage_name, "threads")
        resources:
            mem_mb=resource(stage_name, "mem_mb"),
            runtime=resource(stage_name, "runtime"),
            gpu=resource(stage_name, "gpus"),
        # The shell gives way to the job: else a SIGTERM to both ends the shell, and with it the job before its checkpoint is written.
        shell:
            ": > {log:q}; exec python -m irepa {params.stage} {params.key} {params.arguments} --log {log:q}"
