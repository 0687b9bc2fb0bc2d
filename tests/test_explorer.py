"""The explorer, worked in a browser as a reader would: what is chosen is what is shown, and r is the one that was computed."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from irepa import table
from irepa.audit import words
from irepa.audit.evidence import results
from irepa.audit.statistics import Estimate
from irepa.figures import judges, robustness
from irepa.figures._choices import origins
from irepa.figures.correlation import AXES
from irepa.report.explorer import explorer, page_of
from tests.conftest import BROWSER, browse
from tests.test_figures import CONTEXT, SAID

# Chooses, as a reader does, one option after another, and writes down what then stands on the page.
READER = """
<script type="module">
const settle = () => new Promise((done) => setTimeout(done, 250));
const seen = [];
const look = () => seen.push({
  texts: [...document.querySelectorAll("#explorer svg text")].map((text) => text.textContent),
  points: document.querySelectorAll("#explorer svg .mark-symbol.role-mark path").length,
  names: [...document.querySelectorAll("#explorer svg .mark-symbol.role-mark path")].map((p) => p.getAttribute("aria-label")),
});
while (document.querySelectorAll("#explorer-choices select").length < 4) await settle();
await settle();
look();
for (const [place, option] of CHOSEN) {
  const select = document.querySelectorAll("#explorer-choices select")[place];
  select.value = option;
  select.dispatchEvent(new Event("input", {bubbles: true}));
  select.dispatchEvent(new Event("change", {bubbles: true}));
  await settle();
  look();
}
document.body.dataset.seen = JSON.stringify(seen);
</script>
"""


@pytest.fixture(scope="module")
def frames() -> tuple[pd.DataFrame, pd.DataFrame]:
    return judges.collect(CONTEXT, "correlation"), robustness.collect(CONTEXT, "correlation")


def test_the_first_choice_is_the_audits(frames: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    rows = frames[1][frames[1]["like"] == 0].set_index("metric")
    assert set(rows.index) == set(AXES)
    for metric in ("accuracy", "lds", "cds", "srss", "rmsc"):
        said = SAID[f"{metric}-predicts" if metric != "accuracy" else "accuracy-does-not-predict"]
        found = rows.loc[metric]
        assert [found["r"], found["r_low"], found["units"]] == pytest.approx(
            [said["estimate"], said["low"], said["n"]], rel=1e-5, abs=1e-6
        )


def test_choices_differ_in_what_they_say_and_one_seed_is_pearsons_r_as_seen(
    frames: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    points, correlations = frames
    origin = origins(CONTEXT)
    assert {origin[name] for name in ("hog", "vit-mae", "random-cnn", "effnet-lite0-s16")} == {
        "hand-made", "trained here", "untrained", "pretrained"
    }  # fmt: skip
    without = correlations[correlations["networks"] == "without hand-made"]
    assert set(without["units"]) == {sum(points[points["distance"] == "FD-EffLite2"]["origin"] != "hand-made")}
    # By hand: one seed's distances, averaged over layers, against a property of the same encoders.
    runs = table.distances(CONTEXT, "correlation").query("seed == 1 and method == 'repa'")
    metrics = table.encoder_metrics(CONTEXT)
    network = results.read(CONTEXT, "correlation").network_of
    both = pd.DataFrame(
        {"unit": [network(e) for e in runs["encoder"]], "x": metrics.loc[runs["encoder"], "lds"].to_numpy(),
         "y": np.log(runs["fd"].to_numpy())}
    ).groupby("unit").mean()  # fmt: skip
    one = correlations.query("seeds == '1' and metric == 'lds' and distance == 'FD-EffLite2'").iloc[0]
    assert one["r"] == pytest.approx(np.corrcoef(both["x"], both["y"])[0, 1])
    assert np.isnan(one["reliability"])
    kernel = correlations.query("distance == 'KID-EffLite2' and networks == 'all' and seeds == 'all'")
    assert not np.allclose(kernel["r"], correlations[correlations["like"] == 0]["r"])


def test_a_second_distance_is_the_second_judges_where_there_is_one(frames: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    points = frames[0]
    assert judges.beside(points)[1] == ("FD-EffLite2", "KID-EffLite2")
    first = points[points["distance"] == "FD-EffLite2"]
    other = first.assign(distance="FD-SimCLR", fd=first["fd"] / 1000)
    both = pd.concat([first.assign(training="short"), points, other])
    assert judges.beside(both)[1] == ("FD-EffLite2", "FD-SimCLR")
    assert len(judges.beside(both)[0]) == len(first)
    assert "no second distance" in judges.caption(first)
    assert judges.draw(first).axes[0].get_xlabel().startswith("FD-EffLite2")


def test_where_the_audits_choice_has_no_r_it_is_said(frames: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    others = frames[1][frames[1]["like"] > 0]
    assert "The audit's own choice has no r." in robustness.caption(others)
    assert robustness.draw(others).axes
    alone = robustness.caption(frames[1][frames[1]["like"] == 0])
    assert "differ from it" not in alone


def test_captions_say_the_ranges_and_what_judges_share(frames: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    points, correlations = frames
    lds = correlations.query("metric == 'lds' and like > 0")["r"]
    assert f"LDS {lds.min():.2f} to {lds.max():.2f}" in robustness.caption(correlations)
    assert robustness.draw(correlations).axes[0].get_title() == "accuracy"
    wide = points.pivot(index="network", columns="distance", values="fd")
    r = np.corrcoef(np.log(wide["FD-EffLite2"]), np.log(wide["KID-EffLite2"]))[0, 1]
    assert f"r = {r:.2f}" in judges.caption(points)


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_what_a_reader_chooses_is_what_is_shown(frames: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path) -> None:
    points, correlations = frames
    chosen = [(0, AXES["lds"]), (1, "KID-EffLite2"), (3, "without hand-made"), (3, "hand-made alone"), (3, "all")]
    page = tmp_path / "page.html"
    body = page_of(explorer(points, correlations)) + READER.replace("CHOSEN", json.dumps(chosen))
    page.write_text(f'<!doctype html><meta charset="utf-8"><body>{body}</body>')
    done = browse(page, tmp_path, "--virtual-time-budget=20000")
    found = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert found is not None, done.stderr
    seen = json.loads(html.unescape(found[1]))
    now = {"metric": "accuracy", "distance": "FD-EffLite2", "networks": "all"}
    steps = [{}, {"metric": "lds"}, {"distance": "KID-EffLite2"}, *({"networks": name} for _, name in chosen[2:])]
    for step, what in zip(steps, seen, strict=True):
        now |= step
        told = correlations[(correlations["seeds"] == "all")]
        for name, value in now.items():
            told = told[told[name] == value]
        (row,) = told.to_dict("records")
        r = words.correlation(Estimate(row["r"], row["r_low"], row["r_high"], row["units"]))
        assert any(text.startswith(f"{r} over {row['units']} networks") for text in what["texts"]), (now, what["texts"])
        assert AXES[now["metric"]] in what["texts"]
        assert what["points"] == row["units"], now
    assert all("network: sift" in name for name in seen[0]["names"] if "sift" in name)
    assert any("network: sift" in name and "family: handcrafted" in name for name in seen[0]["names"])
