"""Released checkpoints: which run of the downloaded folder is which cell of the tier (`released` of a tier file).

A run is known by the name of its folder. Those that no row knows, and cells without a run, are kept in `Settings.taken`, from
where `irepa check`, `irepa plan` and the audit tell them. Which files are whole shows when their job reads them.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

from irepa.config.cells import cells, combinations, split_encoder
from irepa.config.tier import Released, Settings, Taken, Tier
from irepa.errors import ConfigError, translated

STATISTICS = "spatial-metrics-data"


def statistics_folder(settings: Settings) -> Path | None:
    """Where the authors' released statistics are; None without `released`, or where a tier of checkpoints has only those."""
    folder = settings.params.released
    if folder is None:
        return None
    inside = folder / STATISTICS if (folder / STATISTICS).is_dir() else folder
    return None if settings.tier.released is not None and not (inside / "stats").is_dir() else inside


def checkpoint_name(tier: Tier) -> str:
    """The file of a run's last step, below the run's folder."""
    return f"checkpoints/{tier.training.steps:07d}.pt"


def download_command(tier: Tier, folder: Path | str = "DIR") -> str:
    """The command that fetches everything the tier takes of the collection."""
    assert tier.released is not None
    chosen = f"{tier.released.folder}/*/{checkpoint_name(tier)}", f"{tier.released.autoencoder}/*"
    included = " ".join(f'--include "{one}"' for one in chosen)
    return f"hf download {tier.released.collection} {included} --local-dir {folder}"


def no_folder(tier: Tier) -> str:
    """What to say where a tier of released checkpoints is to run without them."""
    return (
        "released = null: the tier evaluates released checkpoints, and no folder of them is named; fetch them with: "
        f"{download_command(tier)}, then set `released: DIR`"
    )


def take_over(settings: Settings, where: str) -> Settings:
    """The settings of a tier of released checkpoints with those that are there; others as they are.

    Cells, experiments, figures and encoders without a run are left out of the tier. Where no folder is named all of them stay, to
    be planned with. Raises ConfigError where the folder is not of the layout, two runs are one cell, or no run is any cell.
    """
    tier, folder = settings.tier, settings.params.released
    if tier.released is None or folder is None:
        return settings
    key = f"{where}: released"
    _check_rows(settings, tier.released, key)
    wanted = {str(cell) for experiment in tier.experiments.values() for cell in combinations(settings, experiment)}
    found: dict[str, str] = {}
    lists: dict[str, list[str]] = {"unknown": [], "without": [], "left_out": []}
    elsewhere: dict[str, str] = {}
    for run in _runs(folder, tier):
        row = match(run, tier)
        if row is None:
            lists["unknown"].append(run)
        elif row[1] is None:
            lists["left_out"].append(run)
        elif row[1] not in wanted:
            elsewhere[run] = row[1]
        elif not (folder / tier.released.folder / run / checkpoint_name(tier)).is_file():
            lists["without"].append(run)
        elif row[1] in found:
            raise ConfigError(
                f"{key}.runs: {found[row[1]]} and {run} are both {row[1]}; put the whole name of the one to leave out, with "
                "null, before the others"
            )
        else:
            found[row[1]] = run
    taken = Taken(**lists, elsewhere=elsewhere, missing=sorted(wanted - found.keys()))
    if not found:
        raise ConfigError(
            f"released = {folder}: no run in {tier.released.folder} is a cell of the tier. {' '.join(taken.notes())} Correct "
            f"{key}.runs, or fetch the runs with: {download_command(tier, folder)}"
        )
    paths = {cell: folder / tier.released.folder / run / checkpoint_name(tier) for cell, run in sorted(found.items())}
    return _of_these(settings.model_copy(update={"taken": taken}), paths, folder)


def _of_these(settings: Settings, paths: dict[str, Path], folder: Path) -> Settings:
    """The settings with these checkpoints, by cell, and what of the tier has any of them."""
    tier = settings.tier
    experiments = {
        name: row for name, row in tier.experiments.items() if any(str(c) in paths for c in combinations(settings, row))
    }
    figures = {name: row for name, row in tier.figures.items() if row.experiment in experiments}
    autoencoder = tier.autoencoder
    if autoencoder.statistics is not None:  # an absolute path stays
        autoencoder = autoencoder.model_copy(update={"statistics": folder / autoencoder.statistics})
    kept = {"checkpoints": paths, "experiments": experiments, "figures": figures, "autoencoder": autoencoder}
    chosen = settings.model_copy(update={"tier": tier.model_copy(update=kept)})
    used = {split_encoder(cell.encoder)[0] for cell in cells(chosen)}
    encoders = [name for name in tier.encoders if split_encoder(name)[0] in used]
    return settings.model_copy(update={"tier": tier.model_copy(update=kept | {"encoders": encoders or tier.encoders})})


def damaged(tier: Tier) -> list[str]:
    """A sentence for each checkpoint that is no file as torch saves it, as after a download that was cut short.

    Only the end of each file is read: whether all of it can be, and fits its cell, its job finds out.
    """
    broken = [path for path in tier.checkpoints.values() if not zipfile.is_zipfile(path)]
    return [f"{path} is damaged or cut short: its run will fail; fetch it again." for path in broken]


def notes(settings: Settings) -> list[str]:
    """What a user of a tier of released checkpoints must know of the folder before anything runs, in sentences."""
    return [] if settings.taken is None else [*settings.taken.notes(), *damaged(settings.tier)]


def match(run: str, tier: Tier) -> tuple[str, str | None] | None:
    """The first pattern that fits a run's whole name, and its cell; None where none fits."""
    assert tier.released is not None
    for pattern, cell in tier.released.runs.items():
        fits = re.fullmatch(_expression(pattern, tier.scales, tier.released.encoders), run)
        if fits is not None:
            named = fits.groupdict()
            if "encoder" in named:
                named["encoder"] = tier.released.encoders[named["encoder"]]
            return pattern, None if cell is None else cell.format(**named)
    return None


def _expression(pattern: str, scales: Iterable[str], encoders: Iterable[str]) -> str:
    def one_of(name: str, values: Iterable[str]) -> str:
        return (
            rf"(?<!\w)(?P<{name}>{'|'.join(re.escape(value) for value in sorted(values, key=len, reverse=True))})(?!\w)"
        )

    said = {"{scale}": one_of("scale", scales), "{encoder}": one_of("encoder", encoders), "*": ".*"}
    return "".join(said.get(part, re.escape(part)) for part in re.split(r"(\{scale\}|\{encoder\}|\*)", pattern))


def _check_rows(settings: Settings, released: Released, key: str) -> None:
    wrong = sorted(set(released.encoders.values()) - settings.catalogue.keys())
    if wrong:
        raise ConfigError(f"{key}.encoders: {', '.join(wrong)}: no such row of encoders.yaml")


def _runs(folder: Path, tier: Tier) -> list[str]:
    """Names of the runs' folders, in order. Raises ConfigError where there is no folder of runs."""
    assert tier.released is not None
    place = folder / tier.released.folder
    if not place.is_dir():
        raise ConfigError(
            f"released = {folder}: there is no folder {tier.released.folder} in it; fetch the runs with: "
            f"{download_command(tier, folder)}"
        )
    with translated(ConfigError, f"released = {folder}: {place} cannot be read"):
        return sorted(path.name for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))
