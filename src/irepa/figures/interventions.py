"""One encoder with its tokens changed, everything else held: does the distance follow LDS where LDS is moved, or accuracy?

Changes, r and intervals are those of the audit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from irepa.audit import words
from irepa.audit.changes import estimate_of
from irepa.audit.noise import effects_of
from irepa.audit.pairs import pair_encoders, to_percent
from irepa.audit.statistics import Estimate
from irepa.config.cells import NO_ENCODER, split_encoder
from irepa.config.tier import Settings
from irepa.errors import ConfigError
from irepa.figures import cells_of, check_aligned, table_only
from irepa.pipeline.runner import Context

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

needs = table_only

AXES = {"lds": "LDS (cosine)", "accuracy": "linear-probe accuracy (%)"}
UNCHANGED = "unchanged"


def check(settings: Settings, experiment: str) -> None:
    """Raises ConfigError where the experiment is not of one encoder, unchanged and changed."""
    check_aligned(settings, experiment)
    names = {cell.encoder for cell in cells_of(settings, experiment)} - {NO_ENCODER}
    bases = {base_of(settings, name) for name in names}
    if len(bases) != 1 or not bases < names:
        raise ConfigError(f"experiment {experiment} is not of one encoder, unchanged and with its tokens changed")


def base_of(settings: Settings, encoder: str) -> str:
    """The encoder whose tokens this one changes; its own name where it stands for itself."""
    plain, transforms = split_encoder(encoder)
    return plain if transforms else settings.catalogue[plain].base or plain


def collect(context: Context, experiment: str) -> pd.DataFrame:
    """A row per encoder and metric: its ``value``, the ``change`` of the distance against the unchanged tokens in percent at
    the same seeds with its 95% interval ``low`` and ``high``, and what the audit says of the metric.

    ``tokens`` is what stands after the base encoder's name, or ``unchanged``.
    """
    import pandas as pd

    from irepa.figures._units import correlated, source_of

    source = source_of(context, experiment)
    names = list(dict.fromkeys(source.runs["encoder"]))
    base = base_of(context.settings, names[0]) if names else ""
    pairs = [pair_encoders(source.runs, name, base).assign(unit=name) for name in names if name != base]
    pairs = [seeds for seeds in pairs if len(seeds)]
    if not pairs:
        return pd.DataFrame()
    effects = effects_of(pd.concat(pairs, ignore_index=True), source.evidence.noise)
    changes = {name: mean.map(to_percent) for name, (mean, _) in zip(effects.units, effects.each(), strict=True)}
    changes[base] = Estimate(0.0, 0.0, 0.0, int(effects.seeds.max()))
    frames = []
    for metric in AXES:
        of = source.units([metric], "encoder")
        rows = [
            {
                "encoder": name,
                "tokens": name.removeprefix(base).lstrip("+-") or UNCHANGED,
                "metric": metric,
                "value": value,
            }
            | {
                "change": changes[name].value,
                "low": changes[name].low,
                "high": changes[name].high,
                "n": changes[name].n,
            }
            for name, value in of.units[metric].items()
            if name in changes
        ]
        frames.append(pd.DataFrame(rows).assign(distance=source.evidence.distance, **correlated(of, metric)))
    return pd.concat(frames, ignore_index=True)


def draw(frame: pd.DataFrame) -> Figure:
    import seaborn as sns

    from irepa.figures._drawing import MARKERS, panels
    from irepa.figures._units import reliability, said

    figure, axes = panels(1, 2, 1, 5, sharey=True)
    names = [UNCHANGED, *sorted(set(frame["tokens"]) - {UNCHANGED})]
    colours = ["black", *sns.color_palette("husl", len(names) - 1)]
    for axis, (metric, label) in zip(axes, AXES.items(), strict=True):
        axis.axhline(0, color="0.7", linewidth=0.8, zorder=0)
        points = frame[frame["metric"] == metric].set_index("tokens")
        centre = points.loc[UNCHANGED, "value"]
        for name, colour, marker in zip(names, colours, ("*", *MARKERS * len(names)), strict=False):
            row = points.loc[name]
            axis.plot([centre, row["value"]], [0, row["change"]], color=colour, linewidth=0.7, alpha=0.6)
            ends = [[row["change"] - row["low"]], [row["high"] - row["change"]]]
            axis.errorbar(row["value"], row["change"], yerr=ends, color=colour, marker=marker, linestyle="",
                          markersize=12 if name == UNCHANGED else 6, capsize=2, linewidth=1, label=name)  # fmt: skip
        axis.set(xlabel=label, title=f"{said(points.iloc[0])}\n{reliability(points.iloc[0])}")
    axes[0].set_ylabel(f"change of {frame['distance'].iloc[0]}\nagainst the unchanged tokens (%, lower is better)")
    handles, labels = axes[1].get_legend_handles_labels()
    lines = [handle[0] for handle in handles]
    figure.legend(
        lines, labels, loc="outside right center", frameon=False, title="tokens", title_fontsize=9, fontsize=8
    )
    return figure


def caption(frame: pd.DataFrame) -> str:
    from irepa.figures._units import reliability, said

    first = frame.drop_duplicates("metric").set_index("metric")
    parts = [f"{AXES[str(name)].split(' (')[0]} {said(row)}" for name, row in first.to_dict("index").items()]
    lds = frame[frame["metric"] == "lds"].set_index("tokens")
    moved = lds["value"] - float(lds["value"][UNCHANGED])
    changes = [
        f"{name}: LDS {moved[str(name)]:+.2f}, distance {words.percentages(estimate_of(row))}"
        for name, row in lds.drop(UNCHANGED).to_dict("index").items()
    ]
    seeds = int(frame["n"].max())
    bars = (
        " Bars: 95% interval of the change at the same seed, by the noise of the recipe."
        if lds["low"].notna().all()
        else ""
    )
    return (
        f"Correlation with log {frame['distance'].iloc[0]} behind the noise between seeds over {len(lds)} versions of one "
        f"encoder: {'; '.join(parts)}. Distances: {reliability(first.iloc[0])}. Against the unchanged tokens over {seeds} "
        f"{words.plural('seed', seeds)}: {'; '.join(changes)}.{bars}"
    )
