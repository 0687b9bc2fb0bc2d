"""Drawn sources whose truth is known, as evidence in the audit's own shape: what benchmarks/audit_simulation.py judges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from irepa.audit.evidence import Evidence

Array = NDArray[np.float64]
Row = dict[str, Any]
SPREAD = 0.02  # of one run's log distance, about that of the CIFAR-10 tier
BETWEEN = 0.2  # of the log distances of networks as targets
GAIN = 1.0  # of REPA on no alignment, where the premise is not what is asked


def source(
    rng: np.random.Generator,
    rows: Sequence[Row],
    encoders: pd.DataFrame | None = None,
    spread: float = SPREAD,
    printed: bool = False,
) -> Evidence:
    """Evidence of runs, rows of ``encoder``, ``method``, ``seed``, ``at`` (the log distance) and whatever differs.

    Adds what a seed gives to every run of a network, and noise of this spread. Where a row says ``trained``, the rows that
    share it are one training at several steps, of one noise.
    """
    runs = pd.DataFrame(list(rows))
    same = {"experiments": "E1 E2 E3 E4 E5 E6 E7 H I", "recipe": "jit", "scale": "xl", "setting": "", "steps": 400, "final": True,
            "record": "", "held": False}  # fmt: skip
    for name, value in same.items():
        runs[name] = runs[name].fillna(value) if name in runs else value
    runs = runs.infer_objects()
    network = runs.groupby(["recipe", "scale", "seed"]).ngroup().to_numpy()
    part = rng.normal(0, 0.05, network.max() + 1)
    runs["fd"] = np.exp(runs["at"].to_numpy(float) + part[network] + rng.normal(0, spread, len(runs)))
    if encoders is None:
        encoders = pd.DataFrame({"family": [], "records": []})
    scales = list(dict.fromkeys(runs["scale"]))
    return Evidence("cifar10", "drawn", "FD", runs, encoders.assign(records=""), scales=scales, printed=printed)


def properties(rng: np.random.Generator, rho: Sequence[float], alike: float | None, truth: Array) -> Array:
    """Properties (properties, n) with these correlations with the truth (n,), of unit variance.

    alike: their correlation with one another; None: what the truth alone makes of it.
    """
    r = np.asarray(rho, float)
    rest = np.diag(1 - r**2)
    if alike is not None:
        rest = np.full((len(r), len(r)), alike) + (1 - alike) * np.eye(len(r)) - np.outer(r, r)
    found: Array = np.outer(r, truth) + np.linalg.cholesky(rest) @ rng.normal(size=(len(r), len(truth)))
    return found


def networks(
    rng: np.random.Generator,
    rho: Mapping[str, float],
    n: int,
    reliability: float,
    seeds: int = 3,
    alike: float | None = None,
    gain: float = GAIN,
) -> Evidence:
    """n networks whose properties have these correlations with the truth behind distances of this reliability."""
    truth = rng.normal(size=n)
    x = properties(rng, list(rho.values()), alike, truth)
    names = [f"n{k}" for k in range(n)]
    rows = [
        {"encoder": name, "method": "repa", "seed": seed, "at": 3 + BETWEEN * truth[k]}
        for k, name in enumerate(names)
        for seed in range(seeds)
    ]
    rows += unaligned(3 + gain, seeds)
    spread = BETWEEN * math.sqrt(seeds * (1 - reliability) / reliability)
    return source(rng, rows, pd.DataFrame(dict(zip(rho, x, strict=True)), index=names).assign(family=names), spread)


def unaligned(at: float, seeds: int = 3) -> list[Row]:
    return [{"encoder": "none", "method": "none", "seed": seed, "at": at} for seed in range(seeds)]


def effects(
    rng: np.random.Generator,
    of: Sequence[float],
    method: str = "irepa",
    than: str = "repa",
    seeds: int = 3,
    spread: float = SPREAD,
    names: Sequence[str] | None = None,
    printed: bool = False,
) -> Evidence:
    """Encoders whose distance under a method differs by these log ratios from another's: one run for all, if that is none."""
    names = [f"e{k}" for k in range(len(of))] if names is None else list(names)
    rows: list[Row] = []
    for seed in range(seeds):
        for name, effect in zip(names, of, strict=True):
            rows.append({"encoder": name, "method": method, "seed": seed, "at": 3 + effect})
            if than != "none":
                rows.append({"encoder": name, "method": than, "seed": seed, "at": 3.0})
    if than == "none":
        rows += unaligned(3.0, seeds)
    return source(rng, rows, spread=spread, printed=printed)


def curves(
    rng: np.random.Generator, sooner: Sequence[float], spread: float = SPREAD, steps: Sequence[int] = (1000, 1500, 2000)
) -> Evidence:
    """Encoders whose iREPA needs exp(this) times REPA's steps: the log distance falls by half where steps double."""
    rows = [
        {
            "encoder": f"e{k}",
            "method": method,
            "seed": seed,
            "steps": step,
            "final": step == steps[-1],
            "at": 3 - math.log(step / steps[-1]) + (log if method == "irepa" else 0.0),
        }
        for k, log in enumerate(sooner)
        for method in ("repa", "irepa")
        for seed in range(3)
        for step in steps
    ]
    return source(rng, rows, spread=spread)


def mixed(rng: np.random.Generator, accuracy: float, distance: float, alphas: Sequence[float]) -> Evidence:
    """One encoder with its global token mixed in, with these slopes over alpha; a probe is off by 0.3 points."""
    names = ["v" if alpha == 0 else f"v+clsmix{alpha:g}" for alpha in alphas]
    rows = [
        {"encoder": name, "method": "repa", "seed": seed, "at": 3 + distance * alpha}
        for name, alpha in zip(names, alphas, strict=True)
        for seed in range(3)
    ]
    seen = 70 + accuracy * np.asarray(alphas) + rng.normal(0, 0.3, len(alphas))
    return source(rng, rows + unaligned(3 + GAIN), pd.DataFrame({"accuracy": seen, "family": "v"}, index=names))


def families(
    rng: np.random.Generator,
    larger: float,
    pairs: Sequence[tuple[str, str]],
    spread: float = SPREAD,
    differ: float = 0.0,
    gain: float = 0.4,
    between: float = 0.1,
) -> Evidence:
    """Families of two, the larger of which differs by this times REPA's gain.

    differ: the spread of that difference between families; between: of families' levels, so that gain and margin are drawn.
    """
    rows, family = [], {}
    for k, pair in enumerate(pairs):
        effect, level = rng.normal(larger * gain, differ), rng.normal(3, between)
        for name, at in zip(pair, (level + effect / 2, level - effect / 2), strict=True):
            family[name] = f"f{k}"
            rows += [{"encoder": name, "method": "repa", "seed": seed, "at": at} for seed in range(3)]
    names = list(family)
    return source(rng, rows + unaligned(3 + gain), pd.DataFrame({"family": list(family.values())}, index=names), spread)


def inside(rng: np.random.Generator, differences: Sequence[float], first: Row, second: Row, seeds: int = 3) -> Evidence:
    """Encoders in whose networks one number exceeds another by these, in units of the noise of one.

    first, second: ``method`` and ``quantity`` of either number.
    """
    rows: list[Row] = []
    for k, difference in enumerate(differences):
        for seed in range(seeds):
            for reading, value in ((first, difference), (second, 0.0)):
                rows.append(
                    {"encoder": f"e{k}", "method": reading["method"], "seed": seed, "at": 3.0, "compared": f"e{k}",
                     "record_inside": "", reading["quantity"]: value + rng.normal()}
                )  # fmt: skip
    return source(rng, rows)


def line(rng: np.random.Generator, slope: float, old: int, new: int, rest: float = 0.5) -> Evidence:
    """Old networks on a line of slope -1 in the log distance's own spread, and new ones on this one; rest: off the line."""
    rows, lds = [], {}
    for kind, count, steep in (("E1", old, -1.0), ("H", new, slope)):
        for k in range(count):
            name = f"{kind}-{k}"
            lds[name] = float(rng.normal())
            at = 3 + BETWEEN * (steep * lds[name] + rest * rng.normal())
            rows += [
                {"encoder": name, "method": "repa", "seed": seed, "at": at, "experiments": kind} for seed in range(3)
            ]
    rows += [row | {"experiments": "E1"} for row in unaligned(3 + GAIN)]
    return source(rng, rows, pd.DataFrame({"lds": lds}).assign(family=list(lds)))


def everything(rng: np.random.Generator, gain: float, n: int = 20) -> Evidence:
    """A source in which every claim lies at the edge of what it says, so that each verdict but that on the premise is false.

    Properties correlate with the distance by -0.5. Larger members of families are better by half of what REPA gains. Nothing
    else differs in the distance, in the steps or inside of networks. Where REPA gains nothing, its claim is at its edge too.
    """
    larger = [("effnet-lite1-s8", "effnet-lite0-s8"), ("mocov3-l", "mocov3-b"), ("pe-lang-g", "pe-lang-l")]
    pairs = [name for pair in larger for name in pair]
    names = [*pairs, *(f"n{k}" for k in range(n - len(pairs)))]
    half = np.array([-1.0, 1.0] * len(larger) + [0.0] * (n - len(pairs))) * gain / 4
    level = half + BETWEEN * rng.normal(size=n)
    spread = math.sqrt(BETWEEN**2 + float((half**2).mean()))
    spatial = properties(rng, [-0.5] * 4, 0.7, level / spread)
    known = ["lds", "cds", "srss", "rmsc", "accuracy", "agreement_hidden_target"]
    single = [properties(rng, [-0.5], None, level / spread)[0] for _ in range(2)]
    table = pd.DataFrame(dict(zip(known, [*spatial, *single], strict=True)), index=names).assign(family=names)
    table.loc[pairs, "family"] = [f"f{k // 2}" for k in range(len(pairs))]
    agreement = table.pop("agreement_hidden_target")
    rows: list[Row] = [
        {"encoder": name, "method": "repa", "seed": seed, "at": 3 + level[k], "experiments": "E1",
         "agreement_hidden_target": agreement[name]}
        for k, name in enumerate(names) for seed in range(3)
    ]  # fmt: skip
    rows += [row | {"experiments": "E1 E2 E4"} for row in unaligned(3 + gain)]
    # E2: mixing moves nothing. E3: classical features are as good as none, but for what they differ by.
    mix = ["v", *(f"v+clsmix{alpha:g}" for alpha in (0.2, 0.4, 0.6))]
    rows += [_run(name, "repa", seed, 3.0, "E2") for name in mix for seed in range(3)]
    extra = pd.DataFrame({"accuracy": 70 + rng.normal(0, 0.3, len(mix)), "family": "v"}, index=mix)
    for name in ("sift", "hog", "hog-fine", "daisy"):
        at = 3 + gain + rng.normal(0, 0.03)
        rows += [_run(name, "repa", seed, at, "E3") for seed in range(3)]
    # E4 and E5: no method differs from REPA, in the end or on the way there.
    for k in range(4):
        for method in ("repa", "irepa", "conv-only", "norm-only"):
            for seed, step in ((seed, step) for seed in range(3) for step in (1000, 1500, 2000)):
                at = 3 - math.log(step / 2000)
                row = _run(f"m{k}", method, seed, at, "E4 E5") | {"steps": step, "final": step == 2000}
                rows.append(row | {"compared": f"m{k}", "lds_hidden": rng.normal(), "lds_projected": rng.normal()})
    # The project's own questions: nothing that is done to tokens moves anything, but for the line.
    rows += [_run("v0", "repa", seed, 3.0, "I") for seed in range(3)]
    moved = ["effnet-lite0-s16", "effnet-lite0-s16+shuffle", "effnet-lite0-s16-lds"]
    rows += [_run(name, "repa", seed, 3.0, "I") for name in moved for seed in range(3)]
    fresh = rng.normal(size=10)
    slope = -0.5 * spread / 2  # half of the old line's: the mean and the line are as near
    rows += [
        _run(f"h{k}", "repa", seed, 3 + slope * x + at, "H")
        for k, (x, at) in enumerate(zip(fresh, BETWEEN * rng.normal(size=10), strict=True))
        for seed in range(3)
    ]
    new = pd.DataFrame({"lds": fresh}, index=[f"h{k}" for k in range(10)])
    new = new.assign(family=new.index)
    return source(rng, rows, pd.concat([table, extra, new]))


def _run(encoder: str, method: str, seed: int, at: float, experiments: str) -> Row:
    return {"encoder": encoder, "method": method, "seed": seed, "at": at, "experiments": experiments}
