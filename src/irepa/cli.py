"""Command line: one command per stage, and a few that answer questions about a tier.

Snakemake calls these commands; so may you. Results go to results/<tier>, as configured by params.yaml.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from irepa.config import check_machine, load_settings, tier_names
from irepa.errors import ConfigError, IrepaError
from irepa.plan import STAGES, Job, Plan
from irepa.settings import read_yaml

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)

ParamsOption = Annotated[Path, typer.Option("--params", help="File of parameters.")]
RootOption = Annotated[Path, typer.Option("--root", help="The repository: where workflow/ and results/ are.")]
TierOption = Annotated[str | None, typer.Option("--tier", help="Use this tier instead of the one in the parameters.")]
LogOption = Annotated[Path | None, typer.Option("--log", help="Also write messages to this file.")]

HELP = {
    "data": "Decode the dataset into arrays, with foreground masks.",
    "latents": "Compute the autoencoder's moments of the training images.",
    "features": "Compute one encoder's tokens. KEY is an encoder's name.",
    "spatial": "Compute LDS, CDS, SRSS and RMSC. KEY is an encoder's name, wrapped or not.",
    "probe": "Fit a linear probe. KEY is an encoder's name, wrapped or not.",
    "reference": "Compute the reference statistics of one judge. KEY is its name.",
    "train": "Train one cell. KEY is recipe/scale/encoder/method/seed<k>.",
    "sample": "Draw samples from a trained cell. KEY is the cell.",
    "evaluate": "Measure a cell's samples. KEY is the cell.",
    "inspect": "Compute self-similarity maps of a cell. KEY is the cell.",
    "table": "Collect every number into results/<tier>/table.csv.",
    "figure": "Draw one figure. KEY is its name in the tier file.",
    "report": "Write results/<tier>/report.html.",
}


def make_plan(params: Path, root: Path, tier: str | None, check_options: bool = True) -> Plan:
    values = read_yaml(root / params)
    if tier is not None:
        values["tier"] = tier
    return Plan(load_settings(values, root / "workflow", check_options), root)


def start_log(path: Path | None) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers = [logging.FileHandler(path, mode="w", encoding="utf-8")]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers, force=True)


def _stage_command(stage: str) -> Callable[..., None]:
    fans_out = "{key}" in STAGES[stage].outputs[0]

    def run(plan: Plan, key: str, log: Path | None) -> None:
        from irepa.runner import execute

        start_log(log)
        try:
            if fans_out and not plan.knows(Job(stage, key)):
                raise ConfigError.unknown(f"{stage} key", key, plan.keys(stage))
            print(execute(plan, Job(stage, key)).path)
        except IrepaError as error:
            if log is not None:  # the screen is told by main()
                logging.getLogger("irepa").error("error: %s", error)
            raise
        except Exception:
            logging.getLogger("irepa").exception("%s failed", Job(stage, key))
            raise

    if fans_out:

        def command(
            key: Annotated[str, typer.Argument(help="What to work on.")],
            params: ParamsOption = Path("params.yaml"),
            root: RootOption = Path("."),
            tier: TierOption = None,
            log: LogOption = None,
        ) -> None:
            run(make_plan(params, root, tier, check_options=False), key, log)

        return command

    def single(
        params: ParamsOption = Path("params.yaml"),
        root: RootOption = Path("."),
        tier: TierOption = None,
        log: LogOption = None,
    ) -> None:
        run(make_plan(params, root, tier, check_options=False), "", log)

    return single


for _stage in STAGES:
    app.command(name=_stage, help=HELP[_stage])(_stage_command(_stage))


@app.command()
def check(params: ParamsOption = Path("params.yaml"), root: RootOption = Path("."), tier: TierOption = None) -> None:
    """Check the configuration and what it needs on this machine, and run nothing."""
    plan = make_plan(params, root, tier)
    check_machine(plan.settings)
    jobs = plan.jobs()
    stale = [job for job in jobs if not plan.is_current(job)]
    print(f"tier {plan.settings.params.tier}: configuration is valid; {len(jobs)} jobs, {len(stale)} to run")


@app.command()
def status(params: ParamsOption = Path("params.yaml"), root: RootOption = Path("."), tier: TierOption = None) -> None:
    """List the stages with their number of jobs and how many are up to date."""
    plan = make_plan(params, root, tier)
    total, current = Counter[str](), Counter[str]()
    for job in plan.jobs():
        total[job.stage] += 1
        current[job.stage] += plan.is_current(job)
    for stage in STAGES:
        print(f"{stage:<10} {current[stage]:>4} of {total[stage]:>4} up to date")


@app.command()
def tiers(root: RootOption = Path(".")) -> None:
    """List the tiers."""
    for name in tier_names(root / "workflow"):
        print(f"{name:<12} {read_yaml(root / 'workflow' / 'tiers' / f'{name}.yaml').get('title', '')}")


@app.command()
def where(params: ParamsOption = Path("params.yaml"), root: RootOption = Path("."), tier: TierOption = None) -> None:
    """Print where the report is."""
    plan = make_plan(params, root, tier, check_options=False)
    print(f"Report: {plan.outputs(Job('report'))[1]}")


@app.command()
def dvc(root: RootOption = Path(".")) -> None:
    """Write dvc.yaml from the plan."""
    from irepa.files import write_text
    from irepa.phases import dvc_yaml

    write_text(root / "dvc.yaml", dvc_yaml(root))


@app.command()
def schemas(root: RootOption = Path(".")) -> None:
    """Write the JSON schemas of params.yaml and of the tier files into workflow/schemas."""
    from irepa.files import write_text

    for name, text in schema_texts().items():
        write_text(root / "workflow" / "schemas" / name, text)


def schema_texts() -> dict[str, str]:
    """The schema files by name: what editors and other tools know the configuration by."""
    from irepa.settings import EncoderEntry, Method, Params, Tier

    models: dict[str, Any] = {"params": Params, "tier": Tier, "encoder": EncoderEntry, "method": Method}
    return {f"{name}.schema.json": json.dumps(m.model_json_schema(), indent=2) + "\n" for name, m in models.items()}


def main() -> None:
    """Entry point: an IrepaError is one message on standard error and a non-zero exit, without a traceback."""
    code: object = 0
    try:
        app()
    except SystemExit as done:
        code = done.code
    except IrepaError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    # Leave at once: tearing the interpreter and its libraries down takes a second of every short job.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else bool(code))


if __name__ == "__main__":
    main()
