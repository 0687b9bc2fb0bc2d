"""Figures say what the audit says: the archive's r, intervals and changes are the verdicts', and a planted r is found."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection

from irepa import table
from irepa.audit import words
from irepa.audit.changes import read_changes
from irepa.audit.evidence import results
from irepa.audit.rules import correlation as rule
from irepa.audit.statistics import Estimate
from irepa.commands.archive import Archive
from irepa.config.cells import network_of
from irepa.config.tier import Settings
from irepa.figures import (
    ablation,
    cells_of,
    cls_mixing,
    convergence,
    correlation,
    interventions,
    noise,
    parts,
    recipes,
    scales,
    sensitivity,
    spread,
)
from irepa.figures._choices import origin_of
from irepa.figures._drawing import save
from irepa.pipeline.graph import Job
from irepa.pipeline.runner import Context
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "reports" / "cifar10"
ARCHIVE = Archive(FOLDER, REPOSITORY)
CONTEXT = Context(ARCHIVE, Job("figure", "correlation"))
SAID: dict[str, Any] = {
    claim["id"]: claim["sources"]["cifar10"]
    for claim in json.loads((FOLDER / "audit" / "verdicts.json").read_text())["claims"]
}
CHANGES = read_changes(FOLDER / "audit" / "changes.csv").query("source == 'cifar10'")
LDS = table.encoder_metrics(CONTEXT)["lds"].to_dict()
OPTIONS = rule.Options(metric="lds", relation="below", threshold=-0.5, otherwise=-0.35, expected=-0.85)


def shown(kind: str) -> tuple[pd.DataFrame, str]:
    """What an archived figure was drawn from, and its caption."""
    path = FOLDER / "figures" / f"{kind}.csv"
    return pd.read_csv(path), json.loads(path.with_suffix(".json").read_text())["metrics"]["caption"]


def r_of(frame: pd.DataFrame, **where: str) -> Estimate:
    row = frame.loc[np.logical_and.reduce([frame[name] == value for name, value in where.items()])].iloc[0]
    return Estimate(row["r"], row["r_low"], row["r_high"], row["units"])


def same(one: Estimate, claim: str) -> bool:
    told = SAID[claim]
    numbers = [told[name] for name in ("estimate", "low", "high", "n")]
    return [one.value, one.low, one.high, one.n] == pytest.approx(numbers, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("metric", correlation.AXES)
def test_the_archived_scatters_r_is_the_verdicts(metric: str) -> None:
    claim = "accuracy-does-not-predict" if metric == "accuracy" else f"{metric}-predicts"
    frame, caption = shown("correlation")
    r = r_of(frame, metric=metric)
    assert same(r, claim)
    assert f"{table.SPATIAL_NAMES.get(metric, metric)} {words.correlation(r)}" in caption
    row = frame[frame["metric"] == metric].iloc[0]
    told = f"reliability of the distances: {row['reliability']:.2f} [{row['reliability_low']:.2f}, {row['reliability_high']:.2f}]"
    assert told in SAID[claim]["reason"]
    assert f"{row['units']} units of {frame['family'].nunique()} families" in " ".join(SAID[claim]["notes"])


def test_the_archived_interventions_are_the_audits() -> None:
    frame, caption = shown("interventions")
    r = r_of(frame, metric="lds")
    assert same(r, "distance-follows-lds")
    assert f"LDS {words.correlation(r)}" in caption
    rows = CHANGES[(CHANGES["kind"] == "tokens") & (CHANGES["second"] == "effnet-lite0-s16")].set_index("first")
    lds = frame[(frame["metric"] == "lds") & (frame["tokens"] != interventions.UNCHANGED)].set_index("encoder")
    compared = [name for name in lds.index if name in rows.index]
    assert len(compared) >= 8
    ends = ["change", "low", "high", "n"]
    np.testing.assert_allclose(lds.loc[compared, ends], rows.loc[compared, ends].to_numpy(float), rtol=1e-4)


def test_the_archived_noise_is_the_audits() -> None:
    frame, _ = shown("noise")
    effects = noise.effects(frame)
    rows = CHANGES[
        (CHANGES[["kind", "second", "recipe", "scale", "encoder"]] == ["method", "repa", "jit", "medium", "effnet-lite0-s16"])
        .all(axis=1)
    ].set_index("first")  # fmt: skip
    assert {"irepa", "conv-only", "norm-only"} <= set(rows.index)
    found = effects.loc[rows.index, ["mean", "low", "high"]]
    np.testing.assert_allclose(found, rows[["change", "low", "high"]].to_numpy(float), rtol=1e-4)


@pytest.mark.parametrize("kind", ["parts-by-scale", "parts-by-images", "parts-by-recipe"])
def test_the_archived_parts_are_the_audits(kind: str) -> None:
    frame, caption = shown(kind)
    where = {"parts-by-scale": "scale", "parts-by-images": "images", "parts-by-recipe": "recipe"}[kind]
    assert (frame["axis"] == where).all()
    compared = 0
    for row in frame.to_dict("records"):
        case = {"recipe": "jit", "scale": "medium", "encoder": "effnet-lite0-s16"}
        if where == "images" and row["place"] != 32_000:  # the audit compares at the end alone
            continue
        if where != "images":
            case[where] = row["place"]
        first, second = parts.PARTS[row["part"]]
        case |= {"first": first, "second": second}
        found = CHANGES.loc[np.logical_and.reduce([CHANGES[name] == value for name, value in case.items()])]
        if len(found):  # not each part is a change of its own
            told = ["change", "low", "high", "n"]
            assert [row[name] for name in told] == pytest.approx(found.iloc[0][told].tolist(), rel=1e-4)
            compared += 1
        assert words.percentages(Estimate(row["change"], row["low"], row["high"], row["n"])) in caption
    assert compared == {"scale": 6, "images": 4, "recipe": 6}[where]


def test_the_archived_recipes_are_the_audits_and_one_seed_has_no_interval() -> None:
    frame, caption = shown("recipes")
    ours = frame[frame["source"] == recipes.OURS]
    one = {"meanflow", "meanflow-1", "repa-e", "unet"}
    assert set(ours.loc[ours["low"].isna(), "recipe"]) == set(ours.loc[ours["change_low"].isna(), "recipe"]) == one
    assert ours.groupby("recipe")["seed"].nunique().to_dict() == dict.fromkeys(one, 1) | dict.fromkeys(
        ("jit", "sit", "sit-x"), 3
    )
    assert "a recipe whose cells all have one seed has none" in caption
    rows = CHANGES[CHANGES[["first", "second", "encoder"]].eq(["irepa", "repa", "effnet-lite0-s16"]).all(axis=1)]
    rows = rows.assign(name=rows["setting"].where(rows["setting"] != "", rows["recipe"]))
    rows = rows[(rows["recipe"] != "jit") | (rows["scale"] == "medium")].set_index("name")
    found = ours.drop_duplicates("recipe").set_index("recipe")[["change", "change_low", "change_high"]]
    assert set(found.index) == set(rows.index)
    np.testing.assert_allclose(found, rows.loc[found.index, ["change", "low", "high"]].to_numpy(float), rtol=1e-4)
    lines = [line for line in recipes.draw(frame).axes[0].collections if isinstance(line, LineCollection)]
    drawn = sum(
        len(segment) > 0 and bool(np.isfinite(segment).all()) for line in lines for segment in line.get_segments()
    )
    assert drawn == ours.dropna(subset="low").groupby(["recipe", "method"]).ngroups == 9


def test_the_archives_discrepancy_of_lds_has_the_verdicts_r() -> None:
    audit = json.loads((FOLDER / "audit" / "verdicts.json").read_text())
    (rows,) = (row["effects"] for row in audit["discrepancies"] if row["id"] == "D5")
    told = {(row["source"], row["what"].split("'s")[0]): (row["value"], row["n"]) for row in rows}
    said = SAID["lds-predicts"]
    r = Estimate(said["estimate"], said["low"], said["high"], said["n"])
    assert told["cifar10", "r of LDS by the code"] == (words.estimate(r, ".2f"), 12)
    assert told["cifar10", "r of LDS by the text"][1] == 12


MEDIUM = ("repa", "jit", "medium")
Plant = Callable[..., None]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Put other distances in the place of the archive's: a function of encoder, seed, method, recipe and scale.

    Of the seeds the first ones are kept.
    """
    original = table.read_table(CONTEXT)

    def planted(distance: Callable[..., float], seeds: int = 5) -> None:
        frame = original[original["seed"].isna() | (original["seed"] < seeds)].copy()
        rows = (frame["stage"] == "evaluate") & (frame["metric"] == table.distance_name(CONTEXT))
        cells = frame.loc[rows, ["encoder", "seed", "method", "recipe", "scale"]]
        frame.loc[rows, "value"] = [distance(name, int(seed), *rest) for name, seed, *rest in cells.to_numpy().tolist()]
        for module in (table, results):
            monkeypatch.setattr(module, "read_table", lambda context: frame)

    return planted


def follows_lds(encoder: str, seed: int, *cell: str) -> float:
    """Lower by its LDS, with noise of a run and more of a seed that all runs share."""
    own = np.random.default_rng([seed, *"".join([encoder, *(cell or MEDIUM)]).encode()])
    return 900 * math.exp(-0.2 * LDS.get(encoder, 0.2) + 0.01 * own.standard_normal() + 0.1 * seed)


def test_a_planted_r_is_the_rules_and_stronger_than_seen_by_what_noise_takes(plant: Plant, tmp_path: Path) -> None:
    plant(follows_lds)
    frame = correlation.collect(CONTEXT, "correlation")
    found = r_of(frame, metric="lds")
    assert found == rule.decide(results.read(CONTEXT), "E1", OPTIONS).estimate
    encoders = {cell.encoder for cell in cells_of(ARCHIVE.settings, "correlation")}
    # By hand: means over seeds, then over the layers of a network.
    points = pd.DataFrame(
        {"network": {name: network_of(name, ARCHIVE.settings.catalogue) for name in sorted(encoders)}}
    )
    points["level"] = [np.mean([math.log(follows_lds(name, seed)) for seed in range(3)]) for name in points.index]
    points["lds"] = pd.Series(LDS)
    units = points.groupby("network").mean()
    seen = float(np.corrcoef(units["lds"], units["level"])[0, 1])
    row = frame[frame["metric"] == "lds"].iloc[0]
    assert row["units"] == len(units) == 12
    assert found.value == pytest.approx(max(-1, seen / math.sqrt(row["reliability"])))
    assert found.value < -0.9
    lds = frame[frame["metric"] == "lds"]
    np.testing.assert_allclose(np.sort(np.log(lds["fd"])), np.sort(units["level"]), rtol=1e-6)
    # The half width of an interval is that of the noise that was put in: three seeds, one to three layers.
    half = np.log(lds["high"] / lds["fd"]).to_numpy() * np.sqrt(3 * lds["encoders"].to_numpy())
    np.testing.assert_allclose(half, half[0], rtol=1e-6)
    assert half[0] == pytest.approx(1.98 * 0.01, rel=0.2)
    assert f"LDS {words.correlation(found)}" in correlation.caption(frame)
    save(correlation.draw(frame), tmp_path / "figure.svg")
    assert words.correlation(found) in (tmp_path / "figure.svg").read_text()


def noisy(encoder: str, seed: int, method: str, recipe: str, scale: str) -> float:
    """Noise of a run, five times as much on the way; seeds that were added after a look are far off."""
    own = np.random.default_rng([1, seed, *"/".join([encoder, method, recipe, scale]).encode()])
    noise = 0.05 if recipe in ("jit-early", "jit-late") else 0.01
    return (1000 if seed < 3 else 9000) * math.exp(noise * own.standard_normal() + 0.1 * seed)


@pytest.mark.parametrize(
    ("module", "experiment", "by"),
    [
        (ablation, "ablation", ["method"]),
        (scales, "scales", ["scale", "method"]),
        (convergence, "convergence", ["recipe", "method"]),
    ],
)
def test_bars_are_of_the_tests_seeds_with_the_recipes_noise(
    module: ModuleType, experiment: str, by: list[str], plant: Plant, tmp_path: Path
) -> None:
    plant(noisy)
    frame = module.collect(CONTEXT, experiment)
    assert set(frame["seed"]) == {0, 1, 2}
    # By hand: three seeds, and the noise that was put in.
    by_hand = frame.groupby(by)["fd"].agg(lambda fd: math.exp(np.log(fd).mean()))
    shown = frame.drop_duplicates(by).set_index(by)
    pd.testing.assert_series_equal(shown["mean"].sort_index(), by_hand, check_names=False)
    for recipe, runs in frame.groupby("recipe"):
        half = np.log(runs["high"] / runs["mean"]).to_numpy() * math.sqrt(3)
        np.testing.assert_allclose(half, half[0], rtol=1e-6)
        early = recipe in ("jit-early", "jit-late")  # from 15 runs alone, with 8 degrees of freedom
        assert half[0] == pytest.approx(2.31 * 0.05 if early else 1.98 * 0.01, rel=0.5 if early else 0.2)
    assert "95% interval by the noise of the recipe." in module.caption(frame)
    save(module.draw(frame), tmp_path / "figure.png")


def test_parts_and_mixing_leave_held_out_seeds_alone(plant: Plant, tmp_path: Path) -> None:
    plant(noisy)
    found = {name: parts.collect(CONTEXT, name) for name in ("convergence", "scales", "prediction")}
    mixed = cls_mixing.collect(CONTEXT, "cls-mixing")
    plant(noisy, seeds=3)
    for name, frame in found.items():
        pd.testing.assert_frame_equal(frame, parts.collect(CONTEXT, name))
        assert (frame["n"] == 3).all()
        save(parts.draw(frame), tmp_path / f"{name}.png")
    pd.testing.assert_frame_equal(mixed, cls_mixing.collect(CONTEXT, "cls-mixing"))
    assert mixed["low"].isna().eq(mixed["quantity"] != "fd").all()
    save(cls_mixing.draw(mixed), tmp_path / "mixed.png")


def test_without_further_seeds_no_figure_has_an_interval(plant: Plant, tmp_path: Path) -> None:
    plant(noisy, seeds=1)
    for module, experiment in (
        (ablation, "ablation"),
        (convergence, "convergence"),
        (parts, "scales"),
        (recipes, "recipes"),
    ):
        frame = module.collect(CONTEXT, experiment)
        assert frame[["low", "high"]].isna().all(axis=None)
        assert "without an interval" in module.caption(frame)
        save(module.draw(frame), tmp_path / f"{experiment}.png")


def test_without_further_seeds_there_is_an_r_and_no_reliability(plant: Plant, tmp_path: Path) -> None:
    plant(follows_lds, seeds=1)
    frame = correlation.collect(CONTEXT, "correlation")
    assert frame[["low", "high", "reliability"]].isna().all().all()
    assert r_of(frame, metric="lds") == rule.decide(results.read(CONTEXT), "E1", OPTIONS).estimate
    assert "reliability unknown" in correlation.caption(frame)
    moved = interventions.collect(CONTEXT, "interventions")
    assert moved.loc[moved["tokens"] != interventions.UNCHANGED, ["low", "high"]].isna().all().all()
    for name, figure in (("one", correlation.draw(frame)), ("other", interventions.draw(moved))):
        save(figure, tmp_path / f"{name}.png")


EXPERIMENTS = {interventions: "interventions", recipes: "recipes", parts: "scales", cls_mixing: "cls-mixing"}


@pytest.mark.parametrize(
    "module",
    [correlation, sensitivity, ablation, scales, convergence, *EXPERIMENTS],
    ids=lambda module: module.__name__,
)
def test_where_every_run_has_failed_there_is_nothing_to_draw(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = table.read_table(CONTEXT)
    for reader in (table, results):
        monkeypatch.setattr(reader, "read_table", lambda context: original[original["stage"] != "evaluate"])
    assert module.collect(CONTEXT, EXPERIMENTS.get(module, "correlation")).empty


def test_a_choice_of_lds_is_correlated_as_the_audit_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def by_encoder(context: Context, encoders: list[str]) -> sensitivity.Values:
        asked.append(encoders)
        return {
            (sensitivity.DEFAULT, "as it is"): [LDS[name] for name in encoders],
            ("images", "turned"): [-LDS[name] for name in encoders],
            ("images", "none"): [math.nan for _ in encoders],
        }

    monkeypatch.setattr(sensitivity, "_by_encoder", by_encoder)
    frame = sensitivity.collect(CONTEXT, "correlation")
    assert len(asked[0]) == 20
    default = r_of(frame, group=sensitivity.DEFAULT)
    assert same(default, "lds-predicts")
    turned = r_of(frame, variant="turned")
    assert turned.value == pytest.approx(-default.value)
    assert frame.set_index("variant")["rank"].loc[["as it is", "turned"]].tolist() == pytest.approx([1, -1])
    assert set(frame["variant"]) >= {"lowest of its network's layers", "highest of its network's layers"}
    assert "none" not in set(frame["variant"])
    save(sensitivity.draw(frame), tmp_path / "figure.png")
    assert f"{words.correlation(default)} with log FD-EffLite2 over 12 networks" in sensitivity.caption(frame)


def test_the_spread_of_planted_differences_is_found_and_the_seeds_part_is_not_in_it(plant: Plant) -> None:
    """REPA 10% below none, with differences of 1, -2, 3, 0, -2 percent, and seeds that move all methods by 20%."""
    wobble = [0.01, -0.02, 0.03, 0.0, -0.02]

    def planted(encoder: str, seed: int, method: str, *rest: str) -> float:
        return 900 * math.exp(0.2 * seed - (0.1 + wobble[seed] if method == "repa" else 0.0))

    plant(planted)
    frame = spread.collect(CONTEXT, "ablation")
    rows = frame[frame["distance"] == frame["distance"].iloc[0]].set_index("what")
    found = rows.loc["repa against none"]
    deviation = float(np.std(wobble, ddof=1))
    assert found["sd"] == pytest.approx(100 * deviation)
    # The chi-square distribution of 4 degrees of freedom has 0.4844 below it in 2.5% and 11.143 in 97.5%, by any table.
    ends = [100 * deviation * math.sqrt(4 / quantile) for quantile in (11.1433, 0.484419)]
    assert [found["sd_low"], found["sd_high"]] == pytest.approx(ends, rel=1e-4)
    assert found["change"] == pytest.approx(100 * math.expm1(-0.1 - np.mean(wobble)))
    half = 2.776445 * deviation / math.sqrt(5)
    assert found["change_high"] == pytest.approx(100 * math.expm1(-0.1 - np.mean(wobble) + half), rel=1e-5)
    assert found["level"] == pytest.approx(900 * math.exp(0.4))
    assert set(frame["distance"]) == {"FD-EffLite2"}
    assert "repa against none -9.5%, s.d. 2.1%" in spread.caption(frame)


def test_a_spread_that_seeds_cannot_tell_is_left_open_and_encoders_are_compared_with_themselves(plant: Plant) -> None:
    plant(lambda encoder, seed, method, *rest: {"none": 1000.0, "repa": 900.0}.get(method, 800.0), seeds=1)
    frame = spread.collect(CONTEXT, "ablation")
    assert frame["sd"].isna().all()
    assert "repa against none -10.0%;" in spread.caption(frame)
    assert spread.draw(frame).axes
    # One encoder has no run of iREPA with the first seed: its REPA is in no difference of that seed.
    table_of = {"hog": 500.0}
    plant(lambda encoder, seed, method, *rest: table_of.get(encoder, 900.0) * (0.9 if method == "irepa" else 1.0))
    frame = spread.collect(CONTEXT, "encoders").set_index("what")
    assert frame.loc["irepa against repa", "change"] == pytest.approx(-10.0)
    assert frame.loc["irepa against repa", "sd"] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("families", "group"), [(3, "family"), (30, "origin")])
def test_as_many_networks_as_a_campaign_has_can_be_read(families: int, group: str) -> None:
    one = correlation.collect(CONTEXT, "correlation").query("network == 'hog'")
    of = ["hand-made", "trained here", "untrained", "pretrained"]
    frame = pd.concat(
        one.assign(network=f"a-rather-long-name-{k}", family=f"family-{k % families}", origin=of[k % 4], fd=700 + 3 * k)
        for k in range(41)
    )
    assert correlation.group_of(frame) == group
    figure = correlation.draw(frame)
    figure.draw_without_rendering()
    [legend] = figure.legends
    assert len({text.get_text() for text in legend.get_texts()}) == 41
    below = legend.get_window_extent()
    for axis in figure.axes:
        box, extent = axis.get_window_extent(), axis.get_tightbbox()
        assert box.height > 1.5 * figure.dpi
        assert extent is not None
        assert not extent.overlaps(below)
    looks = {
        (line.get_marker(), line.get_markerfacecolor(), line.get_markeredgecolor())
        for line in figure.axes[0].lines
        if line.get_marker() != "None"
    }
    assert len(looks) == 41
    assert figure.axes[-1].get_xlabel() == f"{group} of the network"
    assert "Last panel" in correlation.caption(frame)


def test_what_a_network_is_follows_its_weights_whoever_says_what_these_are(
    settings: Callable[..., Settings],
) -> None:
    catalogue = settings().catalogue
    origin = {
        "hed-s8": "pretrained",  # its library says where its weights are, not its row
        "effnet-lite0-s16": "pretrained",
        "dinov2-b": "pretrained",
        "effnet-lite0-s16-lds": "pretrained",
        "vit-supervised": "trained here",
        "random-cnn": "untrained",
        "mixer-random": "untrained",
        "scattering-standardised": "hand-made",
        "k-means": "hand-made",
    }
    assert {name: origin_of(name, catalogue) for name in origin} == origin


def test_networks_have_the_name_that_their_layers_share() -> None:
    layers = {
        "n1": ["net-a-s8", "net-a-s16"],
        "n2": ["vit", "vit-mid"],
        "n3": ["b-x"],
        "n4": ["b-y", "b-z"],
        "n5": ["b"],
    }
    names = correlation.short_names(layers)
    assert names == {"n1": "net-a", "n2": "vit", "n3": "b-x", "n4": "b-y", "n5": "b"}
    assert len(set(names.values())) == len(layers)
