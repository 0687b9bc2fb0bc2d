# Shared by the rules. The validated settings, and the questions that rules ask of the plan.
import errno
import functools
import logging
import os
import shlex
import time

from snakemake.settings.types import RerunTrigger
from snakemake.utils import update_config

sys.path.insert(0, str(REPOSITORY / "src"))

from irepa.commands.check import check_results, check_start
from irepa.config.load import load_settings
from irepa.config.read import from_command_line
from irepa.config.tier import JobResources
from irepa.errors import IrepaError
from irepa.pipeline.files import write_text
from irepa.pipeline.graph import PHASES, STAGES, Job
from irepa.pipeline.outside import IDENTITIES, Outside
from irepa.pipeline.plan import Plan
from irepa.pipeline.runner import WORKFLOW_VERSIONS, workflow_versions

ROOT = Path(os.path.relpath(REPOSITORY))

# The state of runs in this folder: parameters, stamps, and which files outside the repository they have seen.
STATE = Path(".snakemake") / "irepa"

try:
    # Snakemake gives what follows --config as text; what is in files has its types.
    update_config(
        config, {key: from_command_line(key, value) for key, value in workflow.config_settings.overwrite_config.items()}
    )
    PLAN = Plan(load_settings(dict(config), ROOT / "workflow"), ROOT)
    OUTSIDE_FILE = STATE / f"outside-{PLAN.settings.params.tier}.json"
    if not workflow.is_main_process:
        PLAN.outside = Outside.read(OUTSIDE_FILE)
    # Of what `irepa restore` took over there are records alone; what those were made from is not made again.
    SPARED = PLAN.spared()
except IrepaError as error:
    raise WorkflowError(str(error)) from None

# Jobs run this checkout of the package, and this interpreter whether or not its environment is activated, unless they run
# in the conda environment that the rules name.
_path = "" if USES_CONDA else f"{Path(sys.executable).parent}:"
# A prefix of one's own replaces Snakemake's, so its strict mode is said again. Packages in a user's home are no part of an
# environment. Jobs import neither Snakemake nor DVC, so the versions for their records come from here.
shell.prefix(
    f'set -euo pipefail; export PYTHONPATH="{REPOSITORY / "src"}" PATH="{_path}$PATH" PYTHONNOUSERSITE=1 '
    f'{WORKFLOW_VERSIONS}="{workflow_versions()}" {IDENTITIES}="{OUTSIDE_FILE.absolute()}"; '
)

# The parameters with what --config changed, for the jobs: written once this run holds Snakemake's lock. Its name is the same
# for all values, because what a job depends on is in its fingerprint and not in its command line.
PARAMS_FILE = STATE / f"params-{PLAN.settings.params.tier}.json"
ARGUMENTS = f"--params {shlex.quote(str(PARAMS_FILE.absolute()))} --root {ROOT}"


def refuse_to_write(error):
    """The refusal of a folder that cannot be written to."""
    return WorkflowError(
        f"cannot write {error.filename}: {error.strerror}. A run needs a folder of results that it may write to "
        f"({PLAN.results.resolve()}; `results` in params.yaml names another) and one for Snakemake's own state "
        f"({STATE.parent.absolute()}); in a folder of yours, `snakemake --snakefile {REPOSITORY}/Snakefile --configfile "
        f"{REPOSITORY}/params.yaml --config results=/a/folder/of/yours` leaves the repository as it is"
    )


def check_writable(folder):
    """Raises OSError where the folder cannot be written to; it is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


onstart:
    try:
        # Weight packages are in the jobs' environment, which may not be this one: there the jobs look for them.
        check_start(PLAN, weights=not USES_CONDA)
        check_writable(PLAN.results)
        set_back()
        write_text(PARAMS_FILE, PLAN.settings.params.model_dump_json(indent=2))
        PLAN.outside.hand_over(OUTSIDE_FILE)
    except IrepaError as error:
        raise WorkflowError(str(error)) from None
    except OSError as error:
        raise refuse_to_write(error) from None


def key_of(wildcards):
    return getattr(wildcards, "key", "")


def quoted_key(wildcards):
    key = key_of(wildcards)
    return shlex.quote(key) if key else ""


def outputs(stage):
    """Output patterns of a stage; {key} is the wildcard."""
    job = Job(stage, "{key}")
    scratch = PLAN.scratch(job)

    def marked(pattern, path):
        if path in scratch:
            return temp(str(path))
        category = STAGES[stage].shown.get(pattern)
        if category is None:
            return str(path)
        # The captions are beside the workflow, one for a kind of file.
        labels = {"name": "{key}"} if STAGES[stage].key else {"name": path.stem}
        caption = f"../report/{stage}-{path.suffix.removeprefix('.')}.rst"
        return report(str(path), caption=caption, category=category, labels=labels)

    return [marked(pattern, path) for pattern, path in zip(STAGES[stage].outputs, PLAN.outputs(job), strict=True)]


def decide_by_times():
    """Snakemake's memory of the commands, parameters and inputs of earlier runs makes no job run.

    Fingerprints say what is up to date, and a reworded rule changes no result. (`--rerun-triggers mtime`, which a user need not
    know of; Snakemake has these settings once it builds the graph.)
    """
    workflow.dag_settings.rerun_triggers = {RerunTrigger.MTIME}


def needs(stage):
    """Input function: the files that a job reads. Their modification times do not count, their fingerprints do."""

    def files(wildcards):
        decide_by_times()
        job = Job(stage, key_of(wildcards))
        if job in SPARED:
            return []
        # Snakemake skips a job whose inputs are made again if it is told to ignore their times, even if the job has a reason of
        # its own to run; so times are ignored for jobs that are up to date only.
        mark = ancient if was_current(job) else str
        return [mark(str(path)) for path in PLAN.inputs(job)]

    return files


@functools.cache
def was_current(job):
    """Whether the job's result was up to date when this process started."""
    return PLAN.is_current(job)


def stamp_of(job):
    return STATE / "stamps" / PLAN.settings.params.tier / job.stage / (job.key or "all")


def times(jobs):
    """The modification times of what is there of the jobs' outputs, in seconds, by path."""
    return {path: path.stat().st_mtime for job in jobs for path in PLAN.outputs(job) if path.exists()}


def write_stamps():
    """One stamp per job, newer than all outputs if the job has to run again.

    Snakemake decides by modification times and contents of inputs, results are judged by fingerprints: this translates. A result
    whose record holds the expected fingerprint is up to date, be it made here, copied or pulled.
    """
    jobs = PLAN.jobs()
    later = max([time.time(), *(moment + 1 for moment in times(jobs).values())])  # results may come from a clock that ran ahead
    for job in jobs:
        path = stamp_of(job)
        check_writable(path.parent)
        if was_current(job):
            path.touch()  # `fresh` tells Snakemake to ignore its time
        else:
            # New content as well as a new time: Snakemake takes a file whose content it has seen before for unchanged.
            path.write_text(f"{PLAN.fingerprint(job)} {time.time()}")
            os.utime(path, (later, later))


def set_back():
    """Bring times that lie in the future back to now: Snakemake refuses a job whose outputs are older than its inputs."""
    jobs, now = PLAN.jobs(), time.time()
    for path in [*(path for path, moment in times(jobs).items() if moment > now), *map(stamp_of, jobs)]:
        os.utime(path, (now, now))


# Before the graph is built, because Snakemake remembers which files a folder holds; and not again by the jobs that it starts.
if workflow.is_main_process:
    try:
        write_stamps()
        check_results(PLAN, only_existing=True)  # Snakemake would speak of write-protected outputs, in a dry run too
    except OSError as error:
        raise refuse_to_write(error) from None
    except IrepaError as error:
        raise WorkflowError(str(error)) from None


def fresh(stage):
    """Input function: the job's stamp."""

    def stamp(wildcards):
        job = Job(stage, key_of(wildcards))
        mark = ancient if was_current(job) else str
        return mark(str(stamp_of(job)))

    return stamp


def still_stale():
    """Jobs of this run whose results are not what the plan expects, though the run has ended without a failure."""
    rules = {(job.rule.name, job.wildcards_dict.get("key", "")) for job in workflow.dag.jobs}
    return [job for job in PLAN.jobs() if (job.stage, job.key) in rules and not PLAN.is_current(job)]


onsuccess:
    stale = still_stale()
    if stale:
        raise WorkflowError(
            f"the run has ended, but {len(stale)} of its results are not up to date: {', '.join(map(str, stale))}. Files of the "
            "results may have been changed while it ran; run again, and if this comes back delete their records"
        )


# Fingerprints say what is up to date, Snakemake's own notes of earlier runs do not, and results that were copied or pulled have
# none: a dry run is not to speak of that.
logging.getLogger("snakemake.logging").addFilter(lambda record: "provenance/metadata" not in str(record.msg))


def message(stage):
    return STAGES[stage].help + (" {wildcards.key}" if STAGES[stage].key else "")


def log_of(stage):
    name = f"{stage}/{{key}}" if STAGES[stage].key else stage
    return str(PLAN.results / "logs" / f"{name}.log")


def resource(stage, name):
    return getattr(PLAN.settings.tier.resources.get(stage, JobResources()), name)


def records(*stages):
    """The records of all jobs of some stages: the target of a phase."""
    return [str(PLAN.record_path(job)) for job in PLAN.jobs() if job.stage in stages]
