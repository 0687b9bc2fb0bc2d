"""What LDS would have said under other choices: its correlation with the distance and its ranking of the encoders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from irepa.audit import words
from irepa.audit.evidence import NotTestable
from irepa.audit.statistics import Array, complete, spearman
from irepa.config.cells import NO_ENCODER, network_of
from irepa.config.tier import Settings
from irepa.figures import cells_of, check_aligned
from irepa.pipeline.graph import Job
from irepa.pipeline.runner import Context
from irepa.table import read_csv

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from irepa.thresholds import Thresholds

DEFAULT = "default"
IMAGES = (10, 30, 100, 300, 1000, 3000)

Choice = tuple[str, str]  # group and variant
Values = dict[Choice, list[float]]  # of every encoder


def needs(settings: Settings, experiment: str) -> list[Job]:
    encoders = {cell.encoder for cell in cells_of(settings, experiment)} - {NO_ENCODER}
    return [Job("table"), *(Job("spatial", name) for name in sorted(encoders))]


check = check_aligned


def collect(context: Context, experiment: str) -> pd.DataFrame:
    """A row per choice: ``group``, ``variant``, what the audit says of it (``r``), ``rank``: Spearman with the default's ranking.

    Both are over networks, with the mean over their layers, which ``over`` says.
    """
    import pandas as pd

    from irepa.figures._units import correlated, source_of

    source = source_of(context, experiment)
    encoders = sorted({str(name) for name in source.runs["encoder"]} - {NO_ENCODER})
    if not encoders:
        return pd.DataFrame()
    variants = _by_encoder(context, encoders)
    variants |= _by_layer(context, encoders, np.asarray(next(iter(variants.values())), float))
    columns = pd.DataFrame({": ".join(choice): column for choice, column in variants.items()}, index=encoders)
    chosen = replace(source, evidence=replace(source.evidence, encoders=source.evidence.encoders.join(columns)))
    default, rows = None, []
    for group, variant in variants:
        name = f"{group}: {variant}"
        try:
            of = chosen.units([name])
        except NotTestable:  # not one encoder has a value
            continue
        x = of.units[name]
        default = x if default is None else default
        both = complete(x.to_numpy(float), default.reindex(x.index).to_numpy(float))
        agreement = float(spearman(both[0], both[1])) if len(both[0]) > 3 else np.nan
        told = {"distance": f"log {source.evidence.distance}", "over": "networks, behind the noise between seeds"}
        found = {"rank": agreement, **told, **correlated(of, name)}
        rows.append({"group": group, "variant": variant} | found)
    return pd.DataFrame(rows)


def _by_encoder(context: Context, encoders: list[str]) -> Values:
    """LDS of every encoder under every choice, the default first."""
    from irepa.thresholds import Thresholds

    values: Values = {}
    spatial = context.tier.spatial
    limits = Thresholds.for_grid(*context.tier.grid, near=spatial.near, far=spatial.far, slope=spatial.slope)
    for name in encoders:
        record = context.input("spatial", name)
        correlogram, images = read_csv(record, ".correlogram.csv"), read_csv(record, ".images.csv")
        for choice, value in _choices(correlogram, images["lds"], limits):
            values.setdefault(choice, []).append(value)
    return values


def _choices(table: pd.DataFrame, images: pd.Series, limits: Thresholds) -> Iterator[tuple[Choice, float]]:
    """LDS of one encoder under every choice, from its correlogram and from its values by image."""
    from irepa.correlogram import DISTANCES, NORMALISATIONS, lds

    near, far = limits.near, limits.far
    yield (DEFAULT, f"near d ≤ {near}, far d ≥ {far}"), lds(table, near, far)
    yield ("thresholds", f"near d < {far} (the text's)"), lds(table, far - 1, far)
    yield ("thresholds", f"near d ≤ {near + 1}"), lds(table, near + 1, far)
    for moved in dict.fromkeys((max(near + 1, far - 2), far - 1, far + 1, far + 2)):
        if moved > near:
            yield ("thresholds", f"far d ≥ {moved}"), lds(table, near, moved)
    for kind in DISTANCES[1:]:
        yield ("distance", kind), lds(table, near, far, kind)
    for norm in list(NORMALISATIONS)[1:]:
        variant = "mean removed" if norm == "centred" else "spatially normalised"
        yield ("tokens", variant), lds(table, near, far, normalisation=norm)
    for count in (n for n in IMAGES if n < len(images)):
        yield ("images", f"the first {count}"), float(images[:count].mean())


def _by_layer(context: Context, encoders: list[str], default: Array) -> Values:
    """LDS of another layer of the same network, for networks of which several layers are targets; nothing if there is none.

    default: (encoders,), LDS of each by the default choice.
    """
    networks: dict[str, list[int]] = {}
    for place, name in enumerate(encoders):
        networks.setdefault(network_of(name, context.settings.catalogue), []).append(place)
    members = {place: places for places in networks.values() for place in places}
    if max(map(len, networks.values())) == 1:
        return {}
    values: Values = {}
    for title, pick in (("lowest", min), ("highest", max)):
        of_each = [pick(default[k] for k in members[place]) for place in range(len(encoders))]
        values["layer", f"{title} of its network's layers"] = of_each
    return values


def draw(frame: pd.DataFrame) -> Figure:
    import seaborn as sns

    from irepa.figures._drawing import panels

    figure, (left, right) = panels(1, 2, 1, 0.3 * len(frame) + 1.5, sharey=True, width_ratios=[3, 2])
    labels = [f"{group}: {variant}" for group, variant in zip(frame["group"], frame["variant"], strict=True)]
    groups = list(dict.fromkeys(frame["group"]))
    colours = dict(zip(groups, sns.color_palette(n_colors=len(groups)), strict=True))
    for place, row in enumerate(frame.itertuples()):
        colour = colours[row.group]
        left.plot([row.r_low, row.r_high], [place, place], color=colour, linewidth=1.5)
        left.plot(row.r, place, "o", color=colour)
        right.plot(row.rank, place, "o", color=colour)
    left.set_yticks(range(len(frame)), labels)
    left.invert_yaxis()
    first = frame.iloc[0]
    left.set(
        xlim=(-1.05, 1.05),
        xlabel=f"Pearson r of LDS with {first['distance']}, 95% interval",
        title=_over(first, "\n"),
    )
    left.axvline(0, color="0.4", linewidth=0.8)
    low = min(-0.05, float(frame["rank"].min()) - 0.05) if frame["rank"].min() < 0 else 0
    right.set(xlim=(low, 1.05), xlabel="Spearman rho with the\ndefault's ranking")
    return figure


def _over(row: Any, joint: str = ", ") -> str:
    """What the correlations are over, with the distances' reliability where it is known."""
    from irepa.figures._units import reliability

    known = f"{joint}{reliability(row)}" if np.isfinite(row["reliability"]) else ""
    return f"{row['units']} {row['over']}{known}"


def caption(frame: pd.DataFrame) -> str:
    from irepa.figures._units import said

    default = frame[frame["group"] == DEFAULT].iloc[0]
    others = frame[frame["group"] != DEFAULT]
    start = f"LDS as the released code has it: {said(default)} with {default['distance']} over {_over(default)}."
    if not others["r"].notna().any():
        return start
    return (
        f"{start} Under {len(others)} other choices r is {words.span(others['r'].dropna())}, and the ranking agrees with the "
        f"default's with rho {others['rank'].min():.2f} or more."
    )
