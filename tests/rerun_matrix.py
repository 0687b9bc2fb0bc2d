"""The rerun matrix: what changes, times what the modification times of the results say, against what has to run again.

    python -m tests.rerun_matrix             # every cell, about ten minutes on two cores
    python -m tests.rerun_matrix settings    # the rows whose name has this word

Each row changes one thing of a small tier, of photographs in folders and of a checkpoint that is not in the repository. Each
column is when the results were written, as their modification times have it. A cell counts the jobs that ran, by the logs that
they left, and beside it which were expected; those marked (n) were planned by ``snakemake -n`` and not run, because a later
column runs the same jobs. What has to run is written down here by hand. The exit code is 1 if a cell is wrong.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import torch
import yaml
from PIL import Image

from irepa.data.photos import photographs
from irepa.models.sit import SiT
from irepa.pipeline.outside import HASHED_BYTES
from tests.conftest import REPOSITORY, copy_project, snakemake, succeed

ADOPTED, TRAINED = "sit/nano-32/none/none/seed0", "sit/nano-32/rgb/repa/seed0"
TIMES = {"past": -3e7, "present": 0.0, "future": 3e7}  # seconds from now
LAST = {"table", "audit", "report", "figure ablation"}
OF_CELLS = {f"{stage} {cell}" for stage in ("sample", "evaluate") for cell in (ADOPTED, TRAINED)}
NOTHING: set[str] = set()
DATASET = {
    "data", "features rgb", "reference effnet-lite2", "spatial rgb", "probe rgb", f"train {TRAINED}", f"sample {TRAINED}",
    f"inspect {TRAINED}", f"evaluate {ADOPTED}", f"evaluate {TRAINED}", "figure self-similarity", *LAST,
}  # fmt: skip
CHECKPOINT = {*(f"{stage} {ADOPTED}" for stage in ("train", "sample", "evaluate")), *LAST}
EVERYTHING = DATASET | CHECKPOINT


@dataclass
class Project:
    """A copy of the repository with its results, and the files outside that they are made from."""

    folder: Path
    outside: Path

    @property
    def results(self) -> Path:
        return self.folder / "results" / "smoke"

    @property
    def image(self) -> Path:
        return self.outside / "train" / "cat" / "3.png"

    def set_times(self, seconds: float) -> None:
        """Let all results be written so many seconds from now."""
        moment = time.time() + seconds
        for path in self.results.rglob("*"):
            if path.is_file():
                os.utime(path, (moment, moment))

    def configure(self, **overrides: object) -> None:
        """Set keys of the tier beyond those that make it small."""
        methods = {"question": "Does it run again?", "encoders": ["rgb"], "methods": ["none", "repa"]}
        small = {
            "dataset": {
                "name": "image-folder", "image_size": 32, "train": str(self.outside / "train"),
                "test": str(self.outside / "test"),
            },
            "checkpoints": {ADOPTED: str(self.outside / "public.pt")},
            "spatial.images": 16,
            "sampling.keep": True,
            "experiments": {"methods": methods},
            "figures": {
                name: {"kind": name, "experiment": "methods"} for name in ("ablation", "self-similarity")
            },
        }  # fmt: skip
        values = {
            "tier": "smoke", "seed": 0, "encoders": ["rgb"], "methods": None, "overrides": small | overrides,
            "results": "results",
        }  # fmt: skip
        (self.folder / "params.yaml").write_text(yaml.safe_dump(values))

    def run(self) -> set[str]:
        """Run Snakemake; the jobs that ran."""
        logs = self.results / "logs"
        shutil.rmtree(logs, ignore_errors=True)
        snakemake(self.folder)
        return {str(path.relative_to(logs)).removesuffix(".log").replace("/", " ", 1) for path in logs.rglob("*.log")}

    def plan(self) -> Counter[str]:
        """The stages that Snakemake would run, with how many jobs of each."""
        from tests.test_pipeline import jobs

        said = snakemake(self.folder, "--dry-run")
        if "provenance/metadata" in said:
            raise AssertionError("a dry run speaks of missing metadata")
        return Counter(jobs(said))


def photograph_folders(folder: Path) -> None:
    """Four classes of crops of the bundled photographs, 12 for training and 6 held out."""
    for name, picture in sorted(photographs().items())[1:5]:
        for split, count, left in (("train", 12, 0), ("test", 6, 200)):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                row = 15 * number
                crop = picture[row : row + 48, left + row : left + row + 48]
                Image.fromarray(crop).save(folder / split / name / f"{number}.png")


def save_checkpoint(path: Path, seed: int) -> None:
    """A checkpoint as it is published, of the tier's network, with random weights."""
    torch.manual_seed(seed)
    model = SiT((32, 32), 3, 4, depth=2, width=32, heads=2, patch=8, align_depth=1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    torch.save({"ema": model.state_dict()}, path)


def build(folder: Path) -> Project:
    """A project whose results are up to date."""
    project = Project(copy_project(folder / "project"), folder / "outside")
    photograph_folders(project.outside)
    save_checkpoint(project.outside / "public.pt", 0)
    project.configure()
    ran = project.run()
    if ran != EVERYTHING:
        raise AssertionError(f"the first run made {sorted(ran)}")
    return project


# --- What changes. `number` counts, so that every change is another one.


def nothing(project: Project, number: int) -> None:
    pass


def image_replaced(project: Project, number: int) -> None:
    """By another one of the same size: its last bytes are behind the end that decoders look at."""
    size = project.image.stat().st_size
    Image.new("RGB", (48, 48), (number, 90, 30)).save(project.image, compress_level=9)
    with project.image.open("ab") as stream:
        stream.write(bytes(size - stream.tell()))
    if project.image.stat().st_size != size:
        raise AssertionError("the image has another size")


def image_added(project: Project, number: int) -> None:
    shutil.copy(project.image, project.image.with_name(f"added-{number}.png"))


def image_touched(project: Project, number: int) -> None:
    moment = time.time() + 1000 * number
    os.utime(project.image, (moment, moment))
    os.utime(project.outside / "public.pt", (moment, moment))


def grown_large(project: Project, number: int) -> None:
    """Beyond what is hashed, by a file that is no image: from here on the images are known by a listing."""
    with (project.outside / "train" / "notes.txt").open("wb") as stream:
        stream.truncate(HASHED_BYTES + number)


def large_touched(project: Project, number: int) -> None:
    moment = time.time() + 1000 * number
    os.utime(project.image, (moment, moment))


def checkpoint_replaced(project: Project, number: int) -> None:
    path = project.outside / "public.pt"
    size = path.stat().st_size
    save_checkpoint(path, 1 + number)
    if path.stat().st_size != size:
        raise AssertionError("the checkpoint has another size")


def settings_changed(project: Project, number: int) -> None:
    project.configure(**{"sampling.samples": 40 + number})


def settings_reworded(project: Project, number: int) -> None:
    """A comment, and another layout."""
    path = project.folder / "params.yaml"
    values = yaml.safe_load(path.read_text())
    path.write_text(f"# reworded {number}\n" + yaml.safe_dump(values, sort_keys=False, default_flow_style=True))


def code_reworded(project: Project, number: int) -> None:
    """Comments and docstrings of what computes, and the command of the rules."""
    for name in ("figures/ablation.py", "spatial.py", "engine/sampling.py"):
        path = project.folder / "src" / "irepa" / name
        path.write_text(path.read_text().replace('"""', f'"""Reworded {number}. ', 1) + f"\n# reworded {number}\n")
    rules = project.folder / "workflow" / "rules" / "stages.smk"
    rules.write_text(rules.read_text().replace(": > {log:q};", ": > {log:q}; true;"))


def code_changed(project: Project, number: int) -> None:
    path = project.folder / "src" / "irepa" / "figures" / "ablation.py"
    path.write_text(path.read_text() + f"\n[].append({number})\n")


def copied(project: Project, number: int) -> Project:
    """To another folder, without Snakemake's notes, files in no order of time."""
    target = project.folder.with_name(f"copy-{number}")
    shutil.copytree(project.folder, target, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns(".snakemake"))
    return Project(target, project.outside)


def pulled(project: Project, number: int) -> Project:
    """Into another clone, by DVC."""
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")
    if not (project.folder / ".git").exists():
        shutil.copy(REPOSITORY / ".gitignore", project.folder)
        succeed(project.folder, *git, "init", "--quiet")
    succeed(project.folder, "python", "-m", "irepa", "outside")
    succeed(project.folder, "dvc", "commit", "--force")
    succeed(project.folder, *git, "add", ".")
    succeed(project.folder, *git, "commit", "--quiet", "--allow-empty", "-m", "results")
    succeed(project.folder, "dvc", "push", "--quiet")
    target = project.folder.with_name(f"clone-{number}")
    succeed(project.folder.parent, *git, "clone", "--quiet", str(project.folder), str(target))
    succeed(target, "dvc", "pull", "--quiet")
    return Project(target, project.outside)


@dataclass(frozen=True)
class Row:
    """One thing that changes.

    Attributes:
        name: what it is.
        change: makes it.
        expected: the jobs that have to run then.
        real: the columns whose jobs are run and not only planned.
        moved: puts the results elsewhere first; they are as they came there, so there is one column.
    """

    name: str
    change: Callable[[Project, int], None]
    expected: Collection[str]
    real: tuple[str, ...] = ("future",)
    moved: Callable[[Project, int], Project] | None = None
    columns: tuple[str, ...] = field(default=tuple(TIMES))


ALWAYS = tuple(TIMES)
ROWS = (
    Row("nothing", nothing, NOTHING, real=ALWAYS),
    Row("outside: an image replaced, same size", image_replaced, DATASET),
    Row("outside: an image added", image_added, DATASET),
    Row("outside: image and checkpoint touched", image_touched, NOTHING, real=ALWAYS),
    Row("outside: the checkpoint replaced, same size", checkpoint_replaced, CHECKPOINT, real=("past", "future")),
    Row("outside: grown beyond what is hashed", grown_large, DATASET, real=("present",), columns=("present",)),
    Row("outside, large: nothing", nothing, NOTHING, real=ALWAYS),
    Row("outside, large: an image replaced, same size", image_replaced, DATASET),
    Row("outside, large: an image touched", large_touched, DATASET),
    Row("settings changed", settings_changed, {*OF_CELLS, *LAST}, real=("past", "future")),
    Row("settings reworded", settings_reworded, NOTHING, real=ALWAYS),
    Row("code reworded", code_reworded, NOTHING, real=ALWAYS),
    Row("code changed", code_changed, {"figure ablation", "report"}, real=ALWAYS),
    Row("copied to another folder", nothing, NOTHING, ("as it came",), copied, ("as it came",)),
    Row("copied, code changed", code_changed, {"figure ablation", "report"}, ("as it came",), copied, ("as it came",)),
    Row("pulled with dvc", nothing, NOTHING, ("as it came",), pulled, ("as it came",)),
    Row("pulled, settings changed", settings_changed, {*OF_CELLS, *LAST}, ("as it came",), pulled, ("as it came",)),
    Row("copied, an image replaced", image_replaced, DATASET, ("as it came",), copied, ("as it came",)),
)


def try_row(project: Project, row: Row, first: int) -> list[tuple[str, bool, str]]:
    """(column, whether it is right, what ran) of each cell; ``first`` is the number of the first change."""
    cells, pending = [], False
    for number, column in enumerate(row.columns, first):
        place = project if row.moved is None else row.moved(project, number)
        if not pending:
            row.change(place, number)
            pending = True
        if column in TIMES:
            place.set_times(TIMES[column])
        wanted = Counter(job.split()[0] for job in row.expected)
        planned = place.plan()
        right, said = planned == wanted, f"{planned.total()} jobs (n)"
        if column in row.real:
            ran = place.run()
            right, said, pending = right and ran == set(row.expected), f"{len(ran)} jobs", False
            if ran != set(row.expected):
                said += f", wrong: {', '.join(sorted(ran ^ set(row.expected)))}"
        elif not right:
            said += f": {dict(planned - wanted)} too many, {dict(wanted - planned)} missing"
        cells.append((column, right, said))
    return cells


def matrix(project: Project, rows: Collection[Row]) -> bool:
    """Try every cell and print the table; whether all are right."""
    good = True
    print(f"{'what changed':<46} {'results from':<12} {'expected':>8}  what ran; (n): planned, not run")
    for number, row in enumerate(rows):
        for column, right, said in try_row(project, row, 1 + 10 * number):
            good &= right
            print(
                f"{row.name:<46} {column:<12} {len(row.expected):>8}  {said:<14} {'OK' if right else 'WRONG'}",
                flush=True,
            )
    return good


def main(words: list[str]) -> int:
    chosen = [row for row in ROWS if not words or any(word in row.name for word in words)]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        good = matrix(build(Path(folder)), chosen)
    print(f"{time.monotonic() - started:.0f} s; {'every cell is right' if good else 'some cells are WRONG'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
