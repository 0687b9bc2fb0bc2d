# Shared by the rules. The validated settings, and the questions that rules ask of the plan.
import os
import shlex
import time

sys.path.insert(0, str(REPOSITORY / "src"))

from irepa.commands.check import check_claims, check_machine
from irepa.config.load import load_settings
from irepa.config.tier import JobResources
from irepa.errors import IrepaError
from irepa.pipeline.files import write_text
from irepa.pipeline.graph import PHASES, STAGES, Job
from irepa.pipeline.plan import Plan
from irepa.pipeline.runner import WORKFLOW_VERSIONS, workflow_versions

ROOT = Path(os.path.relpath(REPOSITORY))

try:
    PLAN = Plan(load_settings(dict(config), ROOT / "workflow"), ROOT)
except IrepaError as error:
    raise WorkflowError(str(error)) from None

# Of what `irepa restore` took over there are records alone; what those were made from is not made again.
SPARED = PLAN.spared()

# Jobs run this checkout of the package, and this interpreter whether or not its environment is activated, unless they run
# in the conda environment that the rules name.
_path = "" if USES_CONDA else f"{Path(sys.executable).parent}:"
# A prefix of one's own replaces Snakemake's, so its strict mode is said again. Packages in a user's home are no part of an
# environment. Jobs import neither Snakemake nor DVC, so the versions for their records come from here.
shell.prefix(
    f'set -euo pipefail; export PYTHONPATH="{REPOSITORY / "src"}" PATH="{_path}$PATH" PYTHONNOUSERSITE=1 '
    f'{WORKFLOW_VERSIONS}="{workflow_versions()}"; '
)

# The parameters with what --config changed, for the jobs: written once this run holds Snakemake's lock. Its name is the same
# for all values, because what a job depends on is in its fingerprint and not in its command line.
STATE = Path(".snakemake") / "irepa"
PARAMS_FILE = STATE / f"params-{PLAN.settings.params.tier}.json"
ARGUMENTS = f"--params {PARAMS_FILE} --root {ROOT}"


onstart:
    write_text(PARAMS_FILE, PLAN.settings.params.model_dump_json(indent=2))
    try:
        # Weight packages are in the jobs' environment, which may not be this one: there the jobs look for them.
        check_machine(PLAN.settings, weights=not USES_CONDA)
        check_claims(ROOT / "workflow")
    except IrepaError as error:
        raise WorkflowError(str(error)) from None


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


def needs(stage):
    """Input function: the files that a job reads. Their modification times do not count, their fingerprints do."""

    def files(wildcards):
        job = Job(stage, key_of(wildcards))
        if job in SPARED:
            return []
        # Snakemake skips a job whose inputs are made again if it is told to ignore their times, even if the job has a reason of
        # its own to run; so times are ignored for jobs that are up to date only.
        mark = ancient if PLAN.is_current(job) else str
        return [mark(str(path)) for path in PLAN.inputs(job)]

    return files


def stamp_of(job):
    return STATE / "stamps" / PLAN.settings.params.tier / job.stage / (job.key or "all")


def write_stamps():
    """One stamp per job, newer than the job's outputs exactly if they have to be made again.

    Snakemake decides by modification times and contents of inputs, results are judged by fingerprints: this translates. A result
    whose record holds the expected fingerprint is up to date, be it made here, copied or pulled.
    """
    for job in PLAN.jobs():
        path = stamp_of(job)
        path.parent.mkdir(parents=True, exist_ok=True)
        if PLAN.is_current(job):
            path.touch()
            os.utime(path, (1, 1))
        else:
            # New content as well as a new time: Snakemake takes a file whose content it has seen before for unchanged.
            path.write_text(f"{PLAN.fingerprint(job)} {time.time()}")


# Before the graph is built, because Snakemake remembers which files a folder holds; and not again by the jobs that it starts.
if workflow.is_main_process:
    write_stamps()


def fresh(stage):
    """Input function: the job's stamp."""
    return lambda wildcards: str(stamp_of(Job(stage, key_of(wildcards))))


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
