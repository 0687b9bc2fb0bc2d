"""Evidence: runs with their distances and encoders with their metrics, in one shape whatever the source.

One module per source: ``published`` numbers, the authors' ``released`` statistics, their ``checkpoints`` evaluated here, and
the pipeline's own ``results``.
Each has ``read(...)``, which returns an :class:`Evidence`. A further source is another module, and a line in
:func:`irepa.stages.audit.others`; no rule has to know it.

Two encoders under two methods, as evidence::

    import pandas as pd

    from irepa.audit.evidence import RUNS, Evidence

    fd = {("a", "repa"): 30.0, ("a", "irepa"): 27.0, ("b", "repa"): 40.0, ("b", "irepa"): 33.0}
    same = {"experiments": "E4 E6", "recipe": "sit", "scale": "xl", "setting": "", "seed": 0, "steps": 100_000, "final": True,
            "record": "notebook page 12"}
    evidence = Evidence(
        name="notebook",
        title="Numbers of our own",
        distance="FID",
        runs=pd.DataFrame([same | {"encoder": e, "method": m, "fd": v} for (e, m), v in fd.items()], columns=list(RUNS)),
        encoders=pd.DataFrame({"family": ["vit", "vit"], "lds": [0.3, 0.1], "records": ""}, index=["a", "b"]),
        scales=["xl"],
    )
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

from irepa.audit.noise import Noise, names_of, noise_of, without_seeds

if TYPE_CHECKING:
    import pandas as pd

RUNS = (
    "experiments",
    "recipe",
    "scale",
    "encoder",
    "method",
    "setting",
    "seed",
    "steps",
    "final",
    "fd",
    "record",
    "held",
)
# What else may be known of a run, each in a column of its own. Of its samples, by its name in the paper:
QUANTITIES = {"is": "IS", "sfid": "sFID", "precision": "precision", "recall": "recall"}
# and of what its network makes of images inside, as stage `inspect` names it (docs/numbers.md).
Inside = Literal["agreement_hidden_target", "agreement_hidden_other", "lds_hidden", "lds_projected", "accuracy_hidden"]
INSIDE: tuple[str, ...] = get_args(Inside)


class NotTestable(Exception):  # noqa: N818 (nothing is wrong: the source is silent)
    """The source holds nothing that bears on the claim; the message says what is missing."""


@dataclass(frozen=True)
class Evidence:
    """One source.

    Attributes:
        name: ``published``, ``released-statistics`` or a tier.
        title: what it is, for a reader.
        distance: name of the Frechet distance in ``fd``.
        runs: a row per run and number of steps, columns ``RUNS``. ``experiments``: the paper's, E1 to E7, joined by
            blanks; ``setting``: what else was varied, such as the number of function evaluations (NFE); ``final``:
            whether this is the number of steps at which runs are compared; ``record``: the file that the number comes
            from; ``held``: whether its seed was added after a look at the others, so that no rule reads it. Further
            columns where they are known: ``QUANTITIES``; ``INSIDE``, with ``compared``, the encoder that hidden tokens
            are compared with, and ``record_inside``.
        encoders: a row per encoder, indexed by its name. ``family``; ``network``, where encoders are layers of one;
            what is known of ``accuracy`` (percent) and the spatial metrics, those after spatial normalisation as
            ``lds_normalised`` and so on; ``records``: the files they come from; ``base``, where tokens are fitted to
            another encoder's, its name.
        scales: of the network, smallest first.
        notes: what a reader of any of its numbers must know.
        printed: whether they are single runs printed by others, which nobody here can repeat.
        stated: what the source states itself, by property of the encoder: its r with the distance, and over how many.
        quantities: how the source names those of ``QUANTITIES`` that it has.
    """

    name: str
    title: str
    distance: str
    runs: pd.DataFrame
    encoders: pd.DataFrame
    scales: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    printed: bool = False
    stated: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    quantities: Mapping[str, str] = field(default_factory=dict)

    @functools.cached_property
    def final(self) -> pd.DataFrame:
        """Runs at the number of steps at which they are compared, with ``run``, a name, and ``level``.

        ``level``: the log distance without what the seed gives to every run of a network.
        """
        runs = self.fixed[self.fixed["final"].astype(bool)].reset_index(drop=True)
        return runs.assign(run=names_of(runs), level=without_seeds(runs))

    @functools.cached_property
    def fixed(self) -> pd.DataFrame:
        """Runs of the seeds that were fixed in advance."""
        return self.runs[~self._held]

    @functools.cached_property
    def noise(self) -> Noise:
        """The noise of each recipe between seeds; none in what others printed, which has no seeds."""
        return {} if self.printed else noise_of(self.final)

    @property
    def _held(self) -> pd.Series:
        return self.runs.reindex(columns=["held"])["held"].eq(True)

    def held_out(self) -> Evidence:
        """The same source as far as seeds are concerned that were added after a look at the others."""
        return replace(self, runs=self.runs[self._held].assign(held=False))

    def measuring(self, quantity: str) -> Evidence:
        """The same source with another of its quantities in the place of the distance; runs without it are left out.

        Raises NotTestable where no run has it, or one has a value that has no logarithm.
        """
        if quantity not in self.quantities:
            raise NotTestable(f"no run has {QUANTITIES[quantity]}")
        name, runs = self.quantities[quantity], self.runs.dropna(subset=[quantity])
        if not (runs[quantity] > 0).all():
            raise NotTestable(f"{name} of a run is 0: its changes are not ratios")
        return replace(self, runs=runs.assign(fd=runs[quantity]), distance=name)

    def of(self, experiment: str) -> pd.DataFrame:
        """Final runs of the paper's experiments, one or several with blanks between. Raises NotTestable where there is none."""
        runs = self.final[_serves(self.final, experiment)]
        if runs.empty:
            raise NotTestable(f"no run of experiment {experiment}")
        return runs

    def over_steps(self, experiment: str) -> pd.DataFrame:
        """Runs of an experiment at every number of steps at which they were measured."""
        return self.fixed[_serves(self.fixed, experiment)]

    def base_of(self, encoder: str) -> str:
        """The encoder whose tokens this one changes: ``dinov2-b`` of ``dinov2-b+clsmix0.5``; empty if it stands for itself."""
        plain, _, transforms = encoder.partition("+")
        if transforms:
            return plain
        return self._about(encoder, "base")

    def network_of(self, encoder: str) -> str:
        """The network that an encoder is a layer of, whatever is done to its tokens; its own name where nothing is known."""
        plain = encoder.partition("+")[0]
        return self._about(plain, "network") or plain

    def family_of(self, encoder: str) -> str:
        """The family of an encoder's network; the network where nothing is known."""
        return self._about(encoder.partition("+")[0], "family") or self.network_of(encoder)

    def _about(self, encoder: str, what: str) -> str:
        return self._words.get(what, {}).get(encoder, "")

    @functools.cached_property
    def _words(self) -> dict[str, dict[str, str]]:
        """What is known of encoders in words, by what it is and by encoder."""
        told = [name for name in ("family", "network", "base") if name in self.encoders]
        return {name: {str(e): str(v) for e, v in self.encoders[name].dropna().items()} for name in told}

    def _with(self, experiment: str, scale: str, method: str) -> pd.DataFrame:
        runs = self.of(experiment)
        return runs[(runs["method"] == method) & (runs["scale"] == scale)]

    def points(self, experiment: str, scale: str, method: str = "repa") -> pd.DataFrame:
        """An encoder per row: means over seeds of ``fd``, ``level`` and ``INSIDE``, ``seeds``, ``records``, and its metrics."""
        import pandas as pd

        runs = self._with(experiment, scale, method)
        grouped = runs.groupby("encoder", sort=True)
        mean = grouped[[name for name in ("fd", "level", *INSIDE) if name in runs]].mean()
        mean["seeds"] = grouped["seed"].nunique()
        mean["records"] = pd.Series({name: " ".join(records_of(part)) for name, part in grouped}, dtype=object)
        metrics = self.encoders.rename(columns={"records": "encoder_records"})
        return mean.join(metrics, how="left")

    def scales_of(self, experiment: str, method: str = "repa") -> list[str]:
        """Scales at which the experiment has runs with this method, smallest first."""
        runs = self.of(experiment)
        present = set(runs.loc[runs["method"] == method, "scale"])
        return [scale for scale in self.scales if scale in present]


def _serves(runs: pd.DataFrame, experiments: str) -> pd.Series:
    asked = set(experiments.split())
    return runs["experiments"].map(lambda names: bool(asked & set(str(names).split()))).astype(bool)


def records_of(*frames: pd.DataFrame) -> list[str]:
    """Every result file that the rows name, once, in order of name."""
    named = ("record", "record_inside", "records", "encoder_records")
    columns = [frame[name] for frame in frames for name in named if name in frame]
    return sorted({name for column in columns for names in column.dropna() for name in str(names).split()})


def records_of_pairs(pairs: pd.DataFrame) -> list[str]:
    """The same for pairs of runs (:func:`irepa.audit.pairs.pair_methods`): the files of both."""
    return records_of(pairs, pairs[["record_than"]].rename(columns={"record_than": "record"}))


def empty_runs() -> pd.DataFrame:
    """No run, in the columns ``RUNS``."""
    import pandas as pd

    return pd.DataFrame({name: [] for name in RUNS})
