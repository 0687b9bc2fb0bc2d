"""Command line: one command per stage, and a few that answer questions about a tier.

Snakemake calls these commands; so may you. Results go to results/<tier>, as configured by params.yaml.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from irepa.commands.check import check_start, downloads, jobs_of
from irepa.config.load import load_settings, read_tier, tier_names
from irepa.config.read import read_yaml
from irepa.config.released import notes, statistics_folder
from irepa.errors import ConfigError, IrepaError, of_system
from irepa.pipeline.graph import STAGES, Job, Stage
from irepa.pipeline.plan import Plan

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)

ParamsOption = Annotated[Path, typer.Option("--params", help="File of parameters.")]
RootOption = Annotated[Path, typer.Option("--root", help="The repository: where workflow/ and results/ are.")]
TierOption = Annotated[str | None, typer.Option("--tier", help="Use this tier instead of the one in the parameters.")]
LogOption = Annotated[Path | None, typer.Option("--log", help="Also write messages to this file.")]


def make_plan(params: Path, root: Path, tier: str | None, check_options: bool = True) -> Plan:
    values = read_yaml(root / params)
    if tier is not None:
        values["tier"] = tier
    return Plan(load_settings(values, root / "workflow", check_options), root)


def repository(root: Path) -> Path:
    """``root``, where the repository is. Raises ConfigError where it is not."""
    if not (root / "workflow" / "tiers").is_dir():
        raise ConfigError(f"--root {root}: there is no folder workflow/tiers in it; give the folder of the repository")
    return root


def start_log(path: Path | None) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers = [logging.FileHandler(path, mode="w", encoding="utf-8")]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers, force=True)


def _stage_run(plan: Plan, job: Job, log: Path | None) -> None:
    from irepa.pipeline.runner import execute

    start_log(log)
    try:
        if STAGES[job.stage].key and not plan.knows(job):
            raise ConfigError.unknown(f"{job.stage} key", job.key, plan.keys(job.stage))
        record = execute(plan, job)
        if (
            log is None or not sys.stdout.isatty()
        ):  # a terminal has the workflow's own progress, and a line would break it
            print(record.path)
    except IrepaError as error:
        if log is not None:  # the screen is told by main()
            logging.getLogger("irepa").error("error: %s", error)
        raise
    except Exception:
        logging.getLogger("irepa").exception("%s failed", job)
        raise


def _stage_command(name: str, stage: Stage) -> None:
    """Make a stage a command of its name."""

    def single(
        params: ParamsOption = Path("params.yaml"),
        root: RootOption = Path("."),
        tier: TierOption = None,
        log: LogOption = None,
    ) -> None:
        _stage_run(make_plan(params, root, tier, check_options=False), Job(name), log)

    def keyed(
        key: Annotated[str, typer.Argument(help=f"What to work on: {stage.key}.")],
        params: ParamsOption = Path("params.yaml"),
        root: RootOption = Path("."),
        tier: TierOption = None,
        log: LogOption = None,
    ) -> None:
        _stage_run(make_plan(params, root, tier, check_options=False), Job(name, key), log)

    keyed.__annotations__["key"] = Annotated[str, typer.Argument(help=f"What to work on: {stage.key}.")]
    app.command(name=name, help=stage.help)(keyed if stage.key else single)


for _name, _stage in STAGES.items():
    if _name != "audit":  # has options of its own
        _stage_command(_name, _stage)


@app.command()
def audit(
    params: ParamsOption = Path("params.yaml"),
    root: RootOption = Path("."),
    tier: TierOption = None,
    published: Annotated[
        bool, typer.Option("--published", help="Only what others have published: nothing has to be trained.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--json", help="With --published: also write the verdicts here.")
    ] = None,
    log: LogOption = None,
) -> None:
    """Judge the paper's claims and print the verdicts; those on a tier's results go to results/<tier>/audit/verdicts.json."""
    from irepa.commands import verdicts
    from irepa.pipeline.files import read_json

    plan = make_plan(params, root, tier, check_options=False)
    if published:
        document = verdicts.of_others(root / "workflow", statistics_folder(plan.settings), output)
    else:
        _stage_run(plan, Job("audit"), log)
        document = read_json(plan.outputs(Job("audit"))[1])
    if log is None:  # a job of the workflow says where its record is, like any other
        verdicts.show(document)


@app.command()
def check(params: ParamsOption = Path("params.yaml"), root: RootOption = Path("."), tier: TierOption = None) -> None:
    """Check the configuration and what it needs on this machine, and run nothing."""
    plan = make_plan(params, root, tier)
    check_start(plan)
    for note in notes(plan.settings):
        print(note)
    for needed in downloads(plan.settings, jobs_of(plan).__contains__):
        print(
            f"{needed.what}: weights are not in the cache; its job fetches them, as `{needed.download.fetch}` does now"
        )
    jobs = plan.jobs()
    stale = [job for job in jobs if not plan.is_current(job)]
    print(f"tier {plan.settings.params.tier}: configuration is valid; {len(jobs)} jobs, {len(stale)} to run")


@app.command()
def status(params: ParamsOption = Path("params.yaml"), root: RootOption = Path("."), tier: TierOption = None) -> None:
    """List the stages with their number of jobs and how many are up to date."""
    plan = make_plan(params, root, tier)
    total, current, failed = Counter[str](), Counter[str](), Counter[str]()
    for job in plan.jobs():
        total[job.stage] += 1
        if plan.is_current(job):
            current[job.stage] += 1
            failed[job.stage] += plan.record(job).failed is not None
    for stage in STAGES:
        note = f", {failed[stage]} of them failed" if failed[stage] else ""
        print(f"{stage:<10} {current[stage]:>4} of {total[stage]:>4} up to date{note}")


@app.command()
def verify(params: ParamsOption = Path("params.yaml"), root: RootOption = Path("."), tier: TierOption = None) -> None:
    """Hash every file of the tier's results: jobs trust large ones whose size, time and inode are what they were."""
    from irepa.commands.verify import verify as hash_all
    from irepa.errors import refuse
    from irepa.pipeline.files import size_of

    files, total, errors = hash_all(make_plan(params, root, tier, check_options=False))
    refuse(errors)
    print(f"{files} files, {size_of(total)}: all are what was written")


@app.command()
def encoders(params: ParamsOption = Path("params.yaml"), root: RootOption = Path("."), tier: TierOption = None) -> None:
    """List every declared encoder as the tier would see it, built without weights: grid, width, prefix tokens, input."""
    from irepa.commands.describe import show_encoders

    show_encoders(make_plan(params, root, tier, check_options=False).settings)


@app.command()
def score(
    encoder: Annotated[
        str, typer.Option(help="A declared name, timm:MODEL, open_clip:MODEL/PRETRAINED or transformers:ID.")
    ],
    images: Annotated[Path, typer.Option(help="Folder of images, searched in depth.")],
    weights: Annotated[str | None, typer.Option(help="hub, random, or the path of weights.")] = None,
    side: Annotated[int, typer.Option(min=4, help="The token grid is SIDE x SIDE.")] = 16,
    image_size: Annotated[
        int, typer.Option(min=32, max=4096, help="Images are centre-cropped to this many pixels.")
    ] = 256,
    limit: Annotated[int, typer.Option(min=2, help="At most this many images.")] = 1000,
    root: RootOption = Path("."),
) -> None:
    """Spatial metrics of an encoder of your own, and where it would fall on the published LDS-FID line."""
    from irepa.commands import score as scoring
    from irepa.engine.device import setup

    entry = scoring.parse_encoder(encoder, scoring.declared_encoders(root), weights)
    pixels = scoring.read_images(images, image_size, limit)
    scored = scoring.score(entry, pixels, (side, side), setup(os.cpu_count() or 1), name=encoder)
    scoring.show_score(scored, f"{encoder}, {side}x{side} tokens")


@app.command()
def plan(
    params: ParamsOption = Path("params.yaml"),
    root: RootOption = Path("."),
    tier: TierOption = None,
    gpu: Annotated[str, typer.Option(help="Card: A100, H100, H200, L40S or RTX4090.")] = "H100",
    utilisation: Annotated[float, typer.Option(min=0.01, max=1, help="Share of the card's peak rate.")] = 0.4,
    as_json: Annotated[bool, typer.Option("--json", help="Numbers for machines.")] = False,
) -> None:
    """Say what the tier costs before anything is spent: arithmetic, GPU-hours, disk, and a cheap subset."""
    from irepa.commands.plan import GPUS, Budget, show, summary

    if gpu not in GPUS:
        raise ConfigError.unknown("--gpu", gpu, list(GPUS))
    budget = Budget(make_plan(params, root, tier, check_options=False))
    costs = summary(budget, GPUS[gpu], utilisation)
    budget.counted.keep()
    if as_json:
        print(json.dumps(costs, indent=2))
    else:
        show(costs, gpu, GPUS[gpu], utilisation)


@app.command()
def export_autoencoder(
    key: Annotated[str, typer.Argument(help="A finished run of a recipe that trains the autoencoder along (REPA-E).")],
    folder: Annotated[Path, typer.Argument(help="Where to save it, in the hub's format.")],
    params: ParamsOption = Path("params.yaml"),
    root: RootOption = Path("."),
    tier: TierOption = None,
) -> None:
    """Save the autoencoder that a run has tuned: `autoencoder.weights: FOLDER` gives it to a plain latent recipe."""
    from irepa.commands.export import export

    export(make_plan(params, root, tier, check_options=False), key, folder)
    print(folder)


@app.command()
def archive(
    folder: Annotated[Path, typer.Argument(help="Where to keep them; replaced if it is there.")],
    params: ParamsOption = Path("params.yaml"),
    root: RootOption = Path("."),
    tier: TierOption = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Keep the numbers that are there, to go on from with `irepa restore`.")
    ] = False,
) -> None:
    """Keep a finished tier's numbers, table, figures, verdicts and report in the repository, without weights and images."""
    from irepa.commands.archive import save

    print(f"{folder}: {save(make_plan(params, root, tier, check_options=False), folder, unfinished)} files")


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="An archive of the tier, such as reports/cifar10.")],
    params: ParamsOption = Path("params.yaml"),
    root: RootOption = Path("."),
    tier: TierOption = None,
) -> None:
    """Go on from an archive: what its records say and would come out the same today is not computed again."""
    from irepa.commands.archive import restore as take_over

    found = take_over(make_plan(params, root, tier, check_options=False), folder)
    left = f", {found.other} made from other settings or code left" if found.other else ""
    print(f"{folder}: {found.taken} records taken over{left}")
    if found.unjudged:
        print(
            f"{found.unjudged} more, which another judge has measured than would measure here, left: {'; '.join(found.cures)}"
        )


@app.command()
def redraw(
    folder: Annotated[Path, typer.Argument(help="An archive, such as reports/cifar10.")],
    root: RootOption = Path("."),
) -> None:
    """Make table, figures, verdicts and report of an archive again from its numbers, without training anything."""
    from irepa.commands.archive import redraw as make_again

    changed = make_again(folder, root)
    print(f"{folder}: {'nothing changed' if not changed else 'changed: ' + ', '.join(changed)}")


@app.command()
def summary(
    folder: Annotated[Path, typer.Argument(help="An archive, such as reports/cifar10.")],
    root: RootOption = Path("."),
    write: Annotated[bool, typer.Option("--write", help="Fill in the tables of README.md and docs instead.")] = False,
) -> None:
    """Print an archive's tables: its claims, here and in print, in short and in full, and the changes that it measured."""
    from irepa.audit.summary import fill
    from irepa.audit.summary import summary as tables_of
    from irepa.commands.archive import Archive

    tables = tables_of(folder, Archive(folder, root).settings.params.tier)
    if write:
        for path in fill(root, Path(os.path.relpath(folder, root)).as_posix(), tables):
            print(path)
    else:
        print("\n\n".join(f"{name}\n\n{text}" for name, text in tables.items()))


@app.command()
def tiers(root: RootOption = Path(".")) -> None:
    """List the tiers."""
    for name in tier_names(repository(root) / "workflow"):
        print(f"{name:<12} {read_tier(name, root / 'workflow').get('title', '')}")


@app.command()
def where(params: ParamsOption = Path("params.yaml"), root: RootOption = Path("."), tier: TierOption = None) -> None:
    """Print where the report of a finished tier is, and its most telling numbers."""
    plan = make_plan(params, root, tier, check_options=False)
    verdicts = plan.outputs(Job("audit"))[1]
    if verdicts.exists():
        from irepa.audit.summary import headlines
        from irepa.pipeline.files import read_json

        for line in headlines(read_json(verdicts), plan.settings.params.tier):
            print(line)
    print(f"Report: {plan.outputs(Job('report'))[1]}")


@app.command()
def outside(params: ParamsOption = Path("params.yaml"), root: RootOption = Path("."), tier: TierOption = None) -> None:
    """Note which files outside the repository the tier reads, by content or by size and time: `dvc repro` asks first."""
    from irepa.pipeline.dvc import OUTSIDE
    from irepa.pipeline.files import write_json

    plan = make_plan(params, root, tier, check_options=False)
    write_json(plan.results / OUTSIDE, plan.all_outside())
    print(plan.results / OUTSIDE)


@app.command()
def dvc(root: RootOption = Path(".")) -> None:
    """Write dvc.yaml from the plan, and that of every archive in reports."""
    from irepa.commands import archive
    from irepa.pipeline.dvc import dvc_yaml
    from irepa.pipeline.files import write_text

    write_text(repository(root) / "dvc.yaml", dvc_yaml(root))
    for folder in archive.archives(root):
        write_text(folder / archive.PIPELINE, archive.dvc_yaml(folder, root))


@app.command()
def settings(
    part: Annotated[
        str | None,
        typer.Argument(help="Only this part, such as training, recipes or 'recipe jit'.", show_default="all"),
    ] = None,
    root: RootOption = Path("."),
    write: Annotated[bool, typer.Option("--write", help="Write all of it to docs/settings.md instead.")] = False,
) -> None:
    """Print what can be set, with ranges, defaults and meanings: params.yaml, tiers, encoders, methods, and every plug-in."""
    from irepa.commands.settings import reference, show
    from irepa.pipeline.files import write_text

    if write:
        write_text(repository(root) / "docs" / "settings.md", reference())
    else:
        show(part)


@app.command()
def schemas(root: RootOption = Path(".")) -> None:
    """Write the JSON schemas of params.yaml, the tiers, encoders.yaml and methods.yaml into workflow/schemas, for editors."""
    from irepa.commands.settings import schema_texts
    from irepa.pipeline.files import write_text

    for name, text in schema_texts().items():
        write_text(repository(root) / "workflow" / "schemas" / name, text)


def main() -> None:
    """Entry point: an IrepaError is one message on standard error and a non-zero exit, without a traceback.

    So is what the system refuses, such as a path that cannot be written to.
    """
    for name in ("stdout", "stderr"):  # None where the caller has closed it
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, for as long as the process lives
    code: object = 0
    try:
        try:
            app()
        except SystemExit as done:
            code = done.code
        sys.stdout.flush()
    except (IrepaError, OSError) as error:
        told = of_system(error) if isinstance(error, OSError) else error
        print(f"error: {told}", file=sys.stderr)
        code = told.exit_code
    # Leave at once: tearing the interpreter and its libraries down takes a second of every short job.
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else bool(code))


if __name__ == "__main__":
    main()
