"""How often the audit's rules are wrong, and how often they see what is there: simulated sources with a known truth.

    python benchmarks/audit_simulation.py --repeats 1000

Sources are drawn as evidence (benchmarks/audit_sources.py) and put to the audit's own rules, gate and correction, with the
options of the claims. Tables are Markdown: coverage of the intervals of correlations; the share of false verdicts at
the edge of what a claim says, by rule, by gate and over whole audits; and power at the paper's effects. A two-sided 5% is
2.5% for each verdict, each where it is easiest to be wrong; the sum of both should be 3 to 7%. The rules `lines` and
`normalised` make no test: nothing is drawn of what they compare.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from audit_sources import GAIN, curves, effects, everything, families, inside, line, mixed, networks

from irepa.audit import gate, statistics
from irepa.audit.claims import options_of, read_claims
from irepa.audit.evidence import Evidence
from irepa.audit.rules.inside import Contrast, Reading
from irepa.audit.statistics import Correlations, correlations
from irepa.audit.targets import targets
from irepa.audit.verdicts import judge
from irepa.config import plugins

READINGS = (
    {"method": "repa", "quantity": "agreement_hidden_target"},
    {"method": "repa", "quantity": "agreement_hidden_other"},
)
# Pairs that the claim names, no network of which is in two.
PAIRS = [
    ("dinov2-l", "dinov2-b"),
    ("dinov3-l", "dinov3-b"),
    ("webssl-1b", "webssl-300m"),
    ("pe-core-l", "pe-core-b"),
    ("pe-lang-g", "pe-lang-l"),
    ("pe-spatial-l", "pe-spatial-b"),
    ("c-radio-v3-l", "c-radio-v3-b"),
    ("mocov3-l", "mocov3-b"),
]


def table(head: list[str], rows: Iterator[list[str]]) -> None:
    print("\n| " + " | ".join(head) + " |")
    print("| " + " | ".join("--:" for _ in head) + " |")
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def moments(rng: np.random.Generator, rho: list[float], n: int, share: float, seeds: int) -> Correlations:
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
                found = moments(rng, [rho], n, share, seeds).estimate([1.0], n)
                inside += found.low <= rho <= found.high
            row.append(f"{inside / repeats:.1%}")
        yield row


def families_covered(rng: np.random.Generator, repeats: int) -> Iterator[list[str]]:
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


CLAIMS = read_claims(Path(__file__).parents[1] / "workflow")
Draw = Callable[[], Evidence]


def verdict(claim: str, evidence: Evidence, changed: Mapping[str, object]) -> bool | None:
    """What the rule of a claim says of a source by itself, at 5%: whether it holds; None where that is not decided."""
    of = CLAIMS[claim]
    options = options_of(of, claim).model_copy(update=dict(changed))
    finding = plugins.load("audit.rules", of.decision.name, claim).decide(evidence, of.experiment, options)
    if evidence.printed and finding.decided is None:
        return None
    if finding.lacking:
        raise ValueError(f"{claim}: {finding.lacking}")
    if finding.p is None:
        return bool(finding.decided)
    return options.holds(finding.estimate.value) if finding.p < options.alpha else None


def rates(claim: str, draw: Draw, repeats: int, **changed: object) -> tuple[float, float]:
    """Shares of drawn sources in which the rule supports a claim, and in which it contradicts it."""
    said = [verdict(claim, draw(), changed) for _ in range(repeats)]
    return said.count(True) / repeats, said.count(False) / repeats


def size(rng: np.random.Generator, repeats: int) -> Iterator[list[str]]:
    """Of every rule: false support and false contradiction, where each is likeliest."""

    def row(name: str, claim: str, support: Draw, contradict: Draw | None = None, **changed: object) -> list[str]:
        one, other = rates(claim, support, repeats, **changed)
        if contradict is not None:
            other = rates(claim, contradict, repeats, **changed)[1]
        return [name, f"{one:.1%}", f"{other:.1%}", f"{one + other:.1%}"]

    for n, share in ((12, 0.9), (20, 0.8), (36, 0.8)):
        yield row(
            f"`correlation`, {n} networks, reliability {share}: at -0.5, at -0.35",
            "lds-predicts",
            lambda n=n, share=share: networks(rng, {"lds": -0.5}, n, share),  # type: ignore[misc]
            lambda n=n, share=share: networks(rng, {"lds": -0.35}, n, share),  # type: ignore[misc]
        )
    both = {"lds": -0.5, "accuracy": -0.5}
    yield row("`stronger`, both -0.5, 20 networks", "lds-beats-accuracy", lambda: networks(rng, both, 20, 0.8))
    two, edge = ["lds", "rmsc"], {"threshold": -0.5}
    for far, alike in ((-0.85, 0.42), (-0.98, None)):
        yield row(
            f"`weakest`, one of two at -0.5 and one at {far}, both at -0.5 and independent",
            "all-metrics-above-0.85",
            lambda far=far, alike=alike: networks(rng, {"lds": -0.5, "rmsc": far}, 36, 0.9, alike=alike),  # type: ignore[misc]
            lambda: networks(rng, {"lds": -0.5, "rmsc": -0.5}, 36, 0.9, alike=0.0),
            metrics=two,
            **edge,
        )
    for k, effects_ in ((1, [0.0]), (2, [0.0, 0.0])):
        yield row(
            f"`paired`, mean over 3 seeds of {k} encoder{'s' * (k > 1)}",
            "irepa-overall",
            lambda effects_=effects_: effects(rng, effects_),  # type: ignore[misc]
        )
    kind = lambda: list(rng.normal(0, 0.03, 5))  # noqa: E731
    yield row("`paired`, mean over five encoders that differ", "irepa-overall", lambda: effects(rng, kind()))
    classical = ["sift", "hog", "hog-fine", "daisy", "vgg16-pool4"]
    yield row(
        "`paired`, the same against runs that they share",
        "classical-features-help",
        lambda: effects(rng, kind(), "repa", "none", names=classical),
    )
    yield row(
        "`paired`, every one of four encoders: one at 0, all at 0",
        "irepa-per-encoder",
        lambda: effects(rng, [0.0, -0.2, -0.2, -0.2]),
        lambda: effects(rng, [0.0] * 4),
    )
    pair = ["effnet-lite0-s16+shuffle", "effnet-lite0-s16"]
    yield row(
        "`ordering`, one pair, 3 seeds",
        "structure-is-needed",
        lambda: effects(rng, [0.0, 0.0], "repa", "repa", names=pair),
    )
    for k, differ in ((3, 0.03), (8, 0.0), (8, 0.03)):
        yield row(
            f"`ordering` by half of REPA's own, {k} families that differ by {differ:g}",
            "trend-larger-is-no-better",
            lambda k=k, differ=differ: families(rng, -0.5, PAIRS[:k], differ=differ),  # type: ignore[misc]
        )
    alphas = (0, 0.2, 0.4, 0.6)
    flat = lambda: mixed(rng, 0.0, 0.0, alphas)  # noqa: E731
    yield row("`trend` of accuracy over four alphas", "mixing-raises-accuracy", flat)
    yield row("`trend` of the distance over four alphas", "mixing-worsens-fid", flat)
    yield row("`convergence`, one encoder, 3 seeds", "converges-faster", lambda: curves(rng, [0.0]))
    yield row(
        "`convergence`, five encoders that differ", "converges-faster", lambda: curves(rng, list(rng.normal(0, 0.1, 5)))
    )
    yield row(
        "`convergence`, every one of four encoders: one at 0, all at 0",
        "converges-faster-per-encoder",
        lambda: curves(rng, [0.0, -0.5, -0.5, -0.5]),
        lambda: curves(rng, [0.0] * 4),
    )
    yield row(
        "`inside`, every one of three differences: one at 0, all at 0",
        "hidden-structure-follows-target",
        lambda: inside(rng, [0.0, 9.0, 9.0], *READINGS),
        lambda: inside(rng, [0.0] * 3, *READINGS),
        contrasts={"one": Contrast(higher=Reading(**READINGS[0]), lower=Reading(**READINGS[1]))},
    )
    for old, new in ((12, 6), (27, 10)):
        yield row(
            f"`line`, {old} old and {new} new networks",
            "line-holds-for-new-encoders",
            lambda old=old, new=new: line(rng, -0.5, old, new),  # type: ignore[misc]
        )
    # What D10 says of the spread of two printed runs: 0.7%, with two degrees of freedom.
    yield row(
        "`paired`, a single printed run each, by the margin of 5%",
        "irepa-per-encoder",
        lambda: effects(rng, [0.0], seeds=1, spread=0.007 * math.sqrt(2 / rng.chisquare(2)), printed=True),
        minimum=1,
    )


def power(rng: np.random.Generator, repeats: int) -> Iterator[list[str]]:
    def row(name: str, claim: str, draw: Draw, told: bool = True, **changed: object) -> list[str]:
        return [name, f"{rates(claim, draw, repeats, **changed)[0 if told else 1]:.0%}"]

    for n, share in itertools.product((12, 20, 27), (0.6, 0.9)):
        for r, told in ((-0.85, True), (0.0, False)):
            yield row(
                f"r = {r:g} told {'to predict' if told else 'not to predict'}, {n} networks, reliability {share}",
                "lds-predicts",
                lambda r=r, n=n, share=share: networks(rng, {"lds": r}, n, share),  # type: ignore[misc]
                told,
            )
    both = {"lds": -0.85, "accuracy": -0.26}
    yield row(
        "r = -0.85 told from -0.26, 27 networks, reliability 0.9",
        "lds-beats-accuracy",
        lambda: networks(rng, both, 27, 0.9),
    )
    for least in (0.03, 0.05, 0.116):
        yield row(
            f"every one of four encoders lower, the weakest by {-math.expm1(-least):.0%}, 3 seeds",
            "irepa-per-encoder",
            lambda least=least: effects(rng, [-least, -0.278, -0.449, -0.576]),  # type: ignore[misc]
        )
    for k in (3, 8):
        yield row(
            f"larger no better at all told from better by half of REPA's 33%, {k} families that differ by 3%",
            "trend-larger-is-no-better",
            lambda k=k: families(rng, 0.0, PAIRS[:k], differ=0.03),  # type: ignore[misc]
        )
    printed = lambda: mixed(rng, 15.6, 0.56, (0, 0.2, 0.4, 0.6))  # noqa: E731
    yield row("accuracy rising by 7.8 points from alpha 0 to 0.5, four alphas", "mixing-raises-accuracy", printed)
    yield row("the distance rising by 32% from alpha 0 to 0.5, four alphas", "mixing-worsens-fid", printed)
    for share in (0.1, 0.3):
        yield row(
            f"one encoder that needs {share:.0%} fewer steps, 3 seeds",
            "converges-faster",
            lambda share=share: curves(rng, [math.log1p(-share)]),  # type: ignore[misc]
        )
    for new in (6, 10):
        yield row(
            f"r = -0.89 among 27 old networks, which holds for {new} new ones",
            "line-holds-for-new-encoders",
            lambda new=new: line(rng, -1.0, 27, new),  # type: ignore[misc]
        )


def gates(rng: np.random.Generator, repeats: int) -> Iterator[list[str]]:
    def opens(draw: Draw) -> str:
        shut = 0
        for _ in range(repeats):
            evidence = draw()
            of = targets(evidence, "E1", "xl", "repa", ["lds"])
            shut += bool(gate.closed(evidence, "E1", of.reliability(of.correlate(["lds"]))))
        return f"{1 - shut / repeats:.1%}"

    for n in (12, 27):
        for gain, share in ((0.0, 0.9), (GAIN, 0.5), (0.05, 0.9), (0.1, 0.9), (GAIN, 0.7), (GAIN, 0.8), (GAIN, 0.9)):
            yield [
                f"{n}",
                f"{-math.expm1(-gain):.0%}",
                f"{share:g}",
                opens(lambda n=n, gain=gain, share=share: networks(rng, {"lds": 0.0}, n, share, gain=gain)),  # type: ignore[misc]
            ]


def audits(rng: np.random.Generator, repeats: int) -> Iterator[list[str]]:
    """Whole audits, every claim at the edge of what it says: how often any verdict is false."""
    for name, gain in (("REPA helps", 0.6), ("REPA does nothing", 0.0)):
        false = {"paper": 0, "here": 0}
        tests: list[int] = []
        for _ in range(repeats):
            found = [item for item in judge(CLAIMS, everything(rng, gain)) if item.adjusted is not None]
            found = [item for item in found if not (gain and item.claim == "repa-helps")]  # true, and no error
            tests.append(len(found))
            wrong = {CLAIMS[item.claim].asked for item in found if item.verdict in ("supported", "contradicted")}
            for asked in wrong:
                false[asked] += 1
        said = [f"{false[asked] / repeats:.1%}" for asked in ("paper", "here")]
        yield [name, f"{np.mean(tests):.0f}", *said]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000, help="simulated sources for each number")
    parser.add_argument("--draws", type=int, default=2000, help="draws behind each interval; the audit takes 20,000")
    parser.add_argument(
        "--only", nargs="*", help="tables to print: coverage, families, size, power, gates, audits; all"
    )
    options = parser.parse_args()
    statistics.DRAWS, statistics.PERMUTATIONS = options.draws, 9  # no permutation takes part in a verdict
    print(f"{options.repeats} sources for each number, each interval from {options.draws} draws.")
    rhos = [f"r = {rho:g}" for rho in (0.0, -0.3, -0.5, -0.8)]
    ignored = [f"r = {rho:g}{what}" for rho in (0.0, -0.5, -0.8) for what in ("", ", families ignored")]
    tables: list[tuple[Callable[[np.random.Generator, int], Iterator[list[str]]], list[str]]] = [
        (coverage, ["networks", "reliability", "seeds", *rhos]),
        (families_covered, ["shared in a family", *ignored]),
        (size, ["test", "false support", "false contradiction", "both"]),
        (gates, ["networks", "REPA lowers the distance by", "reliability", "the gate opens"]),
        (audits, ["premise", "tests", "any false verdict, the paper's claims", "the project's questions"]),
        (power, ["verdict", "power"]),
    ]
    for rows, head in tables:
        if not options.only or rows.__name__.split("_")[0] in options.only:
            table(head, rows(np.random.default_rng(0), options.repeats))


if __name__ == "__main__":
    main()
