'''Figures: one module per kind, in this folder. A tier's figures name a kind (``my-kind`` is ``my_kind.py``) and an experiment.

A kind of figure has four functions:

- ``needs(settings, experiment)``: the jobs whose files it reads. :func:`table_only` says it for a figure of the table
  alone.
- ``collect(context, experiment)``: a data frame of exactly what is drawn; it is kept as CSV beside the picture.
  :mod:`irepa.table` has the rows of an experiment; :func:`irepa.figures._units.audited_runs` has the runs that the audit reads,
  with their noise, and :func:`irepa.figures._units.with_levels` the means and intervals of a figure of distances. An
  empty frame says that every run has failed, and there is nothing to draw.
- ``draw(frame)``: the picture, from that CSV alone.
- ``caption(frame)``: what to see in it, in a sentence or two with the numbers, from the CSV too.

It may have ``check(settings, experiment)``, which raises ConfigError where the experiment has not the runs that it draws, so
that this is said before they are trained; :func:`check_aligned` is one.

The graph asks every figure of a tier what it needs, also where nothing is drawn. So matplotlib, seaborn and pandas, and
:mod:`irepa.figures._drawing`, which has the look that figures share, are imported inside ``collect`` and ``draw``.

A complete figure, the spread of the distances between seeds::

    """Distance of every run, a dot each, by method."""

    from __future__ import annotations

    from typing import TYPE_CHECKING

    from irepa.figures import table_only
    from irepa.pipeline.runner import Context
    from irepa.table import distances

    if TYPE_CHECKING:
        import pandas as pd
        from matplotlib.figure import Figure

    needs = table_only


    def collect(context: Context, experiment: str) -> pd.DataFrame:
        return distances(context, experiment)[["method", "seed", "fd", "distance"]]


    def draw(frame: pd.DataFrame) -> Figure:
        from irepa.figures._drawing import distance_label, panel

        figure, axis = panel(width=0.75, height=3)
        axis.plot(frame["fd"], frame["method"], "o")
        axis.set(xlabel=distance_label(frame), ylabel="method")
        return figure


    def caption(frame: pd.DataFrame) -> str:
        best = frame.loc[frame["fd"].idxmin()]
        return f"Lowest {best['distance']}: {best['fd']:.1f}, {best['method']} with seed {best['seed']}."
'''

from __future__ import annotations

from irepa.config.cells import NO_ENCODER, Cell, experiment_cells
from irepa.config.tier import Settings
from irepa.errors import ConfigError
from irepa.pipeline.graph import Job


def table_only(settings: Settings, experiment: str) -> list[Job]:
    """``needs`` of a figure that reads the table and nothing else."""
    return [Job("table")]


def check_aligned(settings: Settings, experiment: str) -> None:
    """``check`` of a figure of encoders. Raises ConfigError where no run of the experiment has one."""
    if all(cell.encoder == NO_ENCODER for cell in cells_of(settings, experiment)):
        raise ConfigError(f"experiment {experiment} has no run that is aligned with an encoder; give it such a method")


def cells_of(settings: Settings, experiment: str) -> list[Cell]:
    """The cells of an experiment of the tier, by its name."""
    return experiment_cells(settings, settings.tier.experiments[experiment])


def first_seed(settings: Settings, experiment: str) -> list[Cell]:
    """Those with the tier's first seed: what a figure shows that has no room for every seed."""
    return [cell for cell in cells_of(settings, experiment) if cell.seed == settings.params.seed]
