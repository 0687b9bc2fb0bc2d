"""How often the audit's tests are wrong, and how often they see what is there: simulated sources with a known truth.

    python benchmarks/audit_simulation.py --repeats 1000

Each test is the audit's own code. Tables are Markdown: coverage of the intervals of correlations, the share of false
verdicts at the edge of what a claim says, and power at the paper's effects. A two-sided 5% is 2.5% for each verdict, each
where it is easiest to be wrong; the sum of both should be 3 to 7%.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from irepa.audit import statistics
from irepa.audit.changes import pair_methods
from irepa.audit.noise import Effects, effects_of, names_of, noise_of
from irepa.audit.statistics import Correlations, Estimate, correlations, weakest

Array = NDArray[np.float64]
SPREAD = 0.02  # of one run's log distance, about that of the CIFAR-10 tier
Test = tuple[Estimate, float]


def table(head: list[str], rows: Iterator[list[str]]) -> None:
    print("\n| " + " | ".join(head) + " |")
    print("| " + " | ".join("--:" for _ in head) + " |")
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def networks(rng: np.random.Generator, rho: list[float], n: int, share: float, seeds: int) -> Correlations:
    """n networks with independent properties of these correlations with the truth behind distances of this reliability."""
    x = rng.normal(size=(len(rho), n))
    rest = math.sqrt(1 - sum(r**2 for r in rho))
    truth = np.asarray(rho) @ x + rest * rng.normal(size=n)
    noise, freedom = (1 - share) / share, (n - 1) * (seeds - 1)
    seen = truth + rng.normal(scale=math.sqrt(noise), size=n)
    return correlations(x, seen, noise * rng.chisquare(freedom) / freedom, freedom)


def coverage(rng: np.random.Generator, repeats: int) -> Iterator[list[str]]:
    for n, share, seeds in itertools.product((12, 20, 36), (0.3, 0.6, 0.9), (2, 4)):
        row = [f"{n}", f"{share}", f"{seeds}"]
        for rho in (0.0, -0.3, -0.5, -0.8):
            inside = 0
            for _ in range(repeats):
                found = networks(rng, [rho], n, share, seeds).estimate([1.0], n)
                inside += found.low <= rho <= found.high
            row.append(f"{inside / repeats:.1%}")
        yield row


def families(rng: np.random.Generator, repeats: int) -> Iterator[list[str]]:
    """20 networks in 10 families, the largest of 5; half of the variance of both columns is the family's."""
    sizes = [5, 3, 3, 2, 2, 1, 1, 1, 1, 1]
    labels = np.repeat([f"f{k}" for k in range(len(sizes))], sizes)
    place = np.repeat(np.arange(len(sizes)), sizes)
    for shared in (0.0, 0.5, 0.8):
        row = [f"{shared}"]
        for rho in (0.0, -0.5, -0.8):
            inside = np.zeros(2)
            for _ in range(repeats):
                columns = [
                    math.sqrt(shared) * rng.normal(size=len(sizes))[place] + math.sqrt(1 - shared) * rng.normal(size=20)
                    for _ in range(2)
                ]
                x = columns[0]
                y = rho * x + math.sqrt(1 - rho**2) * columns[1]
                units = statistics.effective_units(x, y, list(labels))
                for k, effective in enumerate((units, None)):
                    found = correlations(x[None], y, effective=effective).estimate([1.0], 20)
                    inside[k] += found.low <= rho <= found.high
            row += [f"{inside[0] / repeats:.1%}", f"{inside[1] / repeats:.1%}"]
        yield row


def rate(draw: Callable[[], Test], wrong: Callable[[float], bool], repeats: int) -> float:
    """Share of tests that decide, p below 0.05, on the side that is wrong."""
    found = [draw() for _ in range(repeats)]
    return sum(p < 0.05 and wrong(estimate.value) for estimate, p in found) / repeats


def predicts(found: Correlations, n: int) -> Test:
    """The rule `correlation` for a property that is claimed to predict."""
    r = found.estimate([1.0], n)
    p = found.p([1.0], -0.5) if r.value < -0.5 else found.p([1.0], -0.35) if r.value > -0.35 else 1.0
    return r, p


def all_reach(found: Correlations, n: int) -> Test:
    """The rule `weakest`, for two properties and -0.5."""
    weights = ([1.0, 0.0], [0.0, 1.0])
    return weakest([(found.estimate(w, n), found.p(w, -0.5)) for w in weights], lambda r: r < -0.5)


def runs(rng: np.random.Generator, effects: list[float], seeds: int, spread: float, than: str) -> Effects:
    """Encoders whose distance differs by these log ratios from REPA's, or from runs without alignment that all share."""
    rows = []
    for seed in range(seeds):
        part = rng.normal(0, 0.05)
        for k, effect in enumerate(effects):
            rows.append(
                {"encoder": f"e{k}", "method": "repa" if than == "none" else "irepa", "seed": seed, "at": part + effect}
            )
            if than == "repa":
                rows.append({"encoder": f"e{k}", "method": "repa", "seed": seed, "at": part})
        if than == "none":
            rows.append({"encoder": "none", "method": "none", "seed": seed, "at": part})
    frame = pd.DataFrame(rows).assign(recipe="sit", scale="b", setting="", steps=1, record="")
    frame["fd"] = np.exp(frame["at"] + rng.normal(0, spread, len(frame)))
    frame = frame.assign(run=names_of(frame))
    pairs = pair_methods(frame, "repa" if than == "none" else "irepa", than)
    return effects_of(pairs.assign(unit=pairs["encoder"]), noise_of(frame))


def below(value: float) -> bool:
    return value < 0


def above(value: float) -> bool:
    return value >= 0


def size(rng: np.random.Generator, repeats: int) -> Iterator[list[str]]:
    """Of every kind of test: false support and false contradiction, where each is likeliest."""

    def row(
        name: str, support: Callable[[], Test], contradict: Callable[[], Test], right: Callable[[float], bool]
    ) -> list[str]:
        one = rate(support, right, repeats)
        other = rate(contradict, lambda value: not right(value), repeats)
        return [name, f"{one:.1%}", f"{other:.1%}", f"{one + other:.1%}"]

    for n, share in ((12, 0.9), (20, 0.8), (36, 0.8)):
        yield row(
            f"correlation, {n} networks, reliability {share}: at -0.5, at -0.35",
            lambda n=n, share=share: predicts(networks(rng, [-0.5], n, share, 3), n),  # type: ignore[misc]
            lambda n=n, share=share: predicts(networks(rng, [-0.35], n, share, 3), n),  # type: ignore[misc]
            lambda r: r < -0.4,
        )

    def stronger(r: float = -0.5) -> Test:
        found = networks(rng, [r, r], 20, 0.8, 3)
        return found.estimate([-1.0, 1.0], 20), found.p([-1.0, 1.0], 0.0)

    yield row("one correlation against another, both -0.5, 20 networks", stronger, stronger, lambda d: d > 0)
    # False support is likeliest with one at the edge, false contradiction with all there.
    yield row(
        "each of two correlations: one at -0.5 and one at -0.85, both at -0.5",
        lambda: all_reach(networks(rng, [-0.5, -0.85], 20, 0.8, 3), 20),
        lambda: all_reach(networks(rng, [-0.5, -0.5], 20, 0.8, 3), 20),
        lambda r: r < -0.5,
    )
    none = [0.0] * 4
    for name, effects, than in (
        ("mean over 3 seeds of one encoder", [0.0], "repa"),
        ("mean over 3 seeds of two encoders", [0.0, 0.0], "repa"),
    ):
        test = lambda effects=effects, than=than: runs(rng, effects, 3, SPREAD, than).mean_of_these()  # noqa: E731
        yield row(name, test, test, below)

    def sample(than: str) -> Test:
        return runs(rng, list(rng.normal(0, 0.03, 5)), 3, SPREAD, than).mean_of_their_kind()

    yield row("mean over five encoders that differ", lambda: sample("repa"), lambda: sample("repa"), below)
    yield row("the same against runs that they share", lambda: sample("none"), lambda: sample("none"), below)
    yield row(
        "every one of four encoders: one at 0, all at 0",
        lambda: weakest(runs(rng, [0.0, -0.2, -0.2, -0.2], 3, SPREAD, "repa").each(), below),
        lambda: weakest(runs(rng, none, 3, SPREAD, "repa").each(), below),
        below,
    )


def power(rng: np.random.Generator, repeats: int) -> Iterator[list[str]]:
    for n, share in itertools.product((12, 20, 27), (0.6, 0.9)):
        seen = rate(
            lambda n=n, share=share: predicts(networks(rng, [-0.85], n, share, 3), n), lambda r: r < -0.5, repeats
        )  # type: ignore[misc]
        yield [f"r = -0.85 told to predict, {n} networks, reliability {share}", f"{seen:.0%}"]
        seen = rate(
            lambda n=n, share=share: predicts(networks(rng, [0.0], n, share, 3), n), lambda r: r > -0.35, repeats
        )  # type: ignore[misc]
        yield [f"r = 0 told not to predict, {n} networks, reliability {share}", f"{seen:.0%}"]

    def stronger() -> Test:
        found = networks(rng, [-0.85, -0.26], 27, 0.9, 3)
        return found.estimate([-1.0, 1.0], 27), found.p([-1.0, 1.0], 0.0)

    yield ["r = -0.85 told from -0.26, 27 networks, reliability 0.9", f"{rate(stronger, lambda d: d > 0, repeats):.0%}"]
    for least in (0.03, 0.05, 0.116):
        effects = [-least, -0.278, -0.449, -0.576]
        seen = rate(lambda e=effects: weakest(runs(rng, e, 3, SPREAD, "repa").each(), below), below, repeats)  # type: ignore[misc]
        name = f"every one of four encoders lower, the weakest by {-math.expm1(-least):.0%}, 3 seeds"
        yield [name, f"{seen:.0%}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000, help="simulated sources for each number")
    parser.add_argument("--draws", type=int, default=2000, help="draws behind each interval; the audit takes 20,000")
    options = parser.parse_args()
    statistics.DRAWS = options.draws
    rng = np.random.default_rng(0)
    print(f"{options.repeats} sources for each number, each interval from {options.draws} draws.")
    head = ["networks", "reliability", "seeds", *(f"r = {rho:g}" for rho in (0.0, -0.3, -0.5, -0.8))]
    table(head, coverage(rng, options.repeats))
    head = [
        "shared in a family",
        *(f"r = {rho:g}{what}" for rho in (0.0, -0.5, -0.8) for what in ("", ", families ignored")),
    ]
    table(head, families(rng, options.repeats))
    table(["test", "false support", "false contradiction", "both"], size(rng, options.repeats))
    table(["verdict", "power"], power(rng, options.repeats))


if __name__ == "__main__":
    main()
