"""What judges say of the same networks: the distance under the second judge against that under the first, a point each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from irepa.audit.evidence import NotTestable
from irepa.figures import check_aligned, table_only
from irepa.pipeline.runner import Context
from irepa.table import PROPERTIES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

needs = table_only
check = check_aligned


def collect(context: Context, experiment: str) -> pd.DataFrame:
    """A row per network, ``distance`` and ``training``: ``fd`` with its 95% interval, ``origin``, its properties.

    A network's distance is the geometric mean over its layers and seeds, and its properties the mean over layers.
    """
    import pandas as pd

    from irepa.figures._choices import choices, origins
    from irepa.figures._units import levels_of
    from irepa.figures.correlation import short_names

    frames, origin = [], origins(context)
    for choice in choices(context, experiment):
        try:
            of = choice.source.units(["accuracy"])
        except NotTestable:
            continue
        layers = {str(name): part.index.tolist() for name, part in of.points.groupby("unit")}
        known = [name for name in PROPERTIES if name in of.points]
        frames.append(
            of.points.groupby("unit")[known]
            .mean()
            .rename(index=short_names(layers))
            .rename_axis("network")
            .reset_index()
            .assign(
                family=of.units["family"].to_numpy(),
                origin=[origin[names[0]] for names in layers.values()],
                distance=choice.distance,
                training=choice.training,
                **levels_of(of),
            )
        )
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def draw(frame: pd.DataFrame) -> Figure:
    import seaborn as sns

    from irepa.figures._drawing import MARKERS, log_distances, panel

    both, (first, second) = beside(frame)
    figure, axis = panel(0.75, 4.2)
    origins = sorted(set(both["origin"]))
    colours = dict(zip(origins, sns.color_palette(), strict=False))
    for marker, origin in zip(MARKERS, origins, strict=False):
        rows = both[both["origin"] == origin]
        ends = [np.stack([rows[of] - rows[f"low {of}"], rows[f"high {of}"] - rows[of]]) for of in (first, second)]
        look = {"ecolor": colours[origin], "elinewidth": 0.8, "alpha": 0.5}
        axis.errorbar(rows[first], rows[second], xerr=ends[0], yerr=ends[1], fmt="none", **look)
        axis.plot(rows[first], rows[second], marker, color=colours[origin], markeredgecolor="white", label=origin)
    log_distances(axis, "x", "y")
    axis.set(xlabel=f"{first} (lower is better)", ylabel=f"{second} (lower is better)")
    axis.legend(title="networks", loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def beside(frame: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, str]]:
    """A row per network with two distances under one training; and what the distances are called.

    The Frechet distances of the first two judges under the first training that has both; of one judge, its first two distances.
    """
    by_training = frame.groupby("training", sort=False)["distance"].agg(lambda names: list(dict.fromkeys(names)))
    several = by_training[by_training.map(len) > 1]
    training, names = next(iter((several if len(several) else by_training).items()))
    plain = [name for name in names if name.startswith(("FD-", "FID")) and not name.endswith("-infinity")]
    first, second = (plain if len(plain) > 1 else [*names, *names])[:2]
    here = frame[frame["training"] == training]
    both = here[here["distance"] == first].set_index("network")[["origin"]]
    for name in (first, second):
        of = here[here["distance"] == name].set_index("network")
        both = both.assign(**{name: of["fd"], f"low {name}": of["low"], f"high {name}": of["high"]})
    return both.dropna(subset=[first, second]), (first, second)


def caption(frame: pd.DataFrame) -> str:
    both, (first, second) = beside(frame)
    if first == second:
        return f"{first} of {len(both)} networks: there is no second distance to hold beside it."
    if len(both) < 3:
        return f"{second} against {first} of {len(both)} networks: too few for a correlation."
    r = float(np.corrcoef(np.log(both[first]), np.log(both[second]))[0, 1])
    return (
        f"{second} against {first}, means over layers and seeds with 95% intervals by the noise of the recipe, over {len(both)} "
        f"networks. Their logarithms correlate with r = {r:.2f}, as it is seen through the noise."
    )
