# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %%
# Everything is shown as Markdown, so that the page (report.html) and its plain twin (report.md) are two exports of one thing.
import json
import os
from pathlib import Path

import pandas as pd
from IPython.display import Markdown, display

from irepa.audit import paper as published
from irepa.audit.changes import read_changes
from irepa.audit.summary import changes_table
from irepa.audit.summary import table as markdown
from irepa.audit.verdicts import shown
from irepa.config.load import load_settings
from irepa.config.tier import Settings
from irepa.engine.network import build_recipe
from irepa.pipeline.files import read_json
from irepa.pipeline.plan import Plan
from irepa.recipes import reported_metrics

root = Path(os.environ.get("IREPA_ROOT", ".."))
if "IREPA_SETTINGS" in os.environ:
    settings = Settings.model_validate_json(os.environ["IREPA_SETTINGS"])
else:  # opened by hand
    settings = load_settings(root / "params.yaml", root / "workflow")
plan, tier = Plan(settings, root), settings.tier
plan.results = results = Path(os.environ.get("IREPA_RESULTS", plan.results))
table = pd.read_csv(results / "table.csv", keep_default_na=False, na_values={"value": [""], "seed": [""]})
audit = read_json(results / "audit" / "verdicts.json")
frechet, kernel = (settings.catalogue[tier.evaluation.extractors[0]].metric_name(name) for name in ("FID", "KID"))


def show(text):
    display(Markdown(text))


def bullets(lines):
    return "\n".join(f"- {line}" for line in lines)


def grid(frame, digits=3):
    """A data frame as a Markdown table: text to the left, whole numbers without decimals, nothing for NaN."""
    numbers = {column for column, name in enumerate(frame) if pd.api.types.is_numeric_dtype(frame[name])}

    def cell(value):
        if pd.isna(value):
            return ""
        return f"{value:.{digits}f}" if isinstance(value, float) else str(value)

    rows = [[cell(value) for value in row] for row in frame.itertuples(index=False)]
    return markdown([str(name) for name in frame], rows, numbers)


def folded(title, text):
    return f"<details>\n<summary>{title}</summary>\n\n{text}\n\n</details>"


def link(path, text=None):
    return f"[{text or f'`{path}`'}]({path})"


# %%
own = settings.params.tier
names = [source["name"] for source in audit["sources"]]
of_paper, of_ours = ([claim for claim in audit["claims"] if claim["asked"] == who] for who in ("paper", "here"))
mine = [claim["sources"][own]["verdict"] for claim in of_paper]
tally = ", ".join(
    f"{mine.count(verdict)} {verdict}" for verdict in ("supported", "contradicted", "inconclusive", "not testable")
)
show(f"""# {tier.title}

Replication and audit of *What Matters for Representation Alignment?* (arXiv 2512.10794), tier `{own}`.
Of the paper's {len(mine)} claims, this tier's results leave {tally}.""")

changed = settings.params.changes()
if changed:
    lines = bullets(f"`{key}`: `{json.dumps(value)}`" for key, value in changed.items())
    show(f"**This run is not the tier as its file has it.** `params.yaml` changes:\n\n{lines}")

failures = table[table["metric"] == "failed"]
if len(failures):
    trained = failures[failures["stage"] == "train"]
    lines = bullets(f"`{row.record}`: {row.failed}" for row in trained.itertuples())
    show(f"**{len(trained)} of the training runs failed and are left out below**\n\n{lines}")

# %% [markdown]
# ## Verdicts


# %%
def verdicts(claims):
    rows = []
    for claim in claims:
        row = {"claim": f"[{claim['statement']}](#{claim['id']})"}
        row |= {name: claim["sources"][name]["verdict"] for name in names}
        row["reported"] = claim["reported"]
        rows.append(row)
    return grid(pd.DataFrame(rows))


show(verdicts(of_paper))
show(
    "What the paper leaves open, put to the same kind of test, by rules that were written after a first seed of the interventions:\n\n"
    + verdicts(of_ours)
)
show(
    "Sources: "
    + "; ".join(f"*{source['name']}*: {source['title']}, {source['distance']}" for source in audit["sources"])
    + "."
)
show(f"""Supported: the evidence is on the claim's side of the threshold, by the rule that was fixed for it beforehand (for
correlations one made stricter since: a weak one counts only as far as the noise between seeds would have let a strong one show).
Contradicted: on the other side. Inconclusive: there is evidence, and it does not decide. Not testable: the source has nothing to say.
All of it for machines: {link("audit/verdicts.json")}, {link("audit/verdicts.csv")}.

**What this tier shows**

{bullets(tier.shows)}

**What it cannot show**

{bullets(tier.cannot_show)}""")

# %% [markdown]
# ## Changes and their intervals

# %%
measured = read_changes(results / "audit" / "changes.csv")
show(f"""Every change of method or tokens that this tier measured: runs that differ in nothing else, the same images, times and noise in both.
{frechet}, mean over seeds with its 95% t interval, by the spread between seeds pooled over all changes, and read by that interval
alone: *lower*, *higher*, *small* (inside 5% either way) or *inconclusive*, as are fewer than three seeds. All changes, the published ones too: {link("audit/changes.csv")}.""")
show(changes_table(measured, own))

# %% [markdown]
# ## Evidence, claim by claim

# %%
serving = {}
for name, figure in tier.figures.items():
    for experiment in tier.experiments[figure.experiment].paper:
        serving.setdefault(experiment, []).append(name)


def provenance(records):
    """The records behind a verdict with their configuration hash and git revision, folded away."""
    if not records:
        return ""
    known = audit["records"]
    inside = [name for name in records if name in known]
    rows = [
        {
            "record": link(name),
            "configuration": f"`{known[name]['fingerprint'][:12]}`",
            "git revision": f"`{(known[name]['git_revision'] or 'none')[:12]}`"
            + (" (changed)" if known[name]["git_dirty"] else ""),
            "made": known[name]["started"][:16].replace("T", " "),
        }
        for name in inside
    ]
    outside = [f"`{name}`" for name in records if name not in known]
    text = grid(pd.DataFrame(rows)) if rows else "From " + ", ".join(outside) + "."
    return folded(f"{len(records)} file(s) behind it", text)


for claim in audit["claims"]:
    found_in = {name: claim["sources"][name] for name in names}
    show(f"""<a id="{claim["id"]}"></a>

### {claim["statement"]}

{claim["where"]}. Reported: {claim["reported"]}.

*Rule.* {claim["rule"]}""")
    rows = [
        {
            "source": name,
            "verdict": found["verdict"],
            "parameter": found.get("parameter", ""),
            "estimate, 95% interval": shown(found),
            "n": "" if found.get("n") is None else str(found["n"]),
            "why": found["reason"],
        }
        for name, found in found_in.items()
    ]
    show(grid(pd.DataFrame(rows)))
    for name, found in found_in.items():
        notes = [*found.get("notes", []), found.get("power", "")]
        lines = " ".join(note for note in notes if note)
        if lines:
            show(f"*{name}*: {lines}")
    checks = [
        {
            "source": name,
            "check": check["what"],
            "value": check["value"],
            "n": "" if check["n"] is None else str(check["n"]),
        }
        for name, found in found_in.items()
        for check in found.get("checks", [])
    ]
    if checks:
        show(folded("What else the evidence says", grid(pd.DataFrame(checks))))
    behind = claim["sources"][own]
    drawn = serving.get(claim["experiment"], []) if behind["verdict"] != "not testable" else []
    if drawn:
        show(
            "Figures: "
            + ", ".join(f"[{name}](#figure-{name}) ({link(f'figures/{name}.csv', 'CSV')})" for name in drawn)
            + "."
        )
    show(provenance(behind.get("records", [])))

# %% [markdown]
# ## Training recipes, beside Tables 2a and 2b

# %%
served = {name for name, experiment in tier.experiments.items() if "E6" in experiment.paper}
ours = table[
    (table["metric"] == frechet) & table["experiments"].map(lambda names: bool(served & set(str(names).split())))
]
ours = ours.assign(source="here", distance=frechet)
theirs = published.recipes()
named = (theirs["recipe"] + ", " + theirs["setting"]).str.removesuffix(", ")
theirs = theirs.assign(distance="FID", scale=theirs["model"], recipe=named)
aligned = ours[ours["method"] != "none"]
alone = ours[ours["method"] == "none"].groupby(["recipe", "scale"])["value"].mean()
rows = []
for source, frame in (("here", aligned), ("published", theirs)):
    mean = (
        frame.groupby(["recipe", "scale", "encoder", "method", "distance"], sort=False)["value"]
        .mean()
        .unstack("method")
    )
    for (recipe, scale, encoder, distance), row in mean.iterrows():
        if {"repa", "irepa"} <= set(row.dropna().index):
            rows.append(
                {
                    "source": source,
                    "recipe": recipe,
                    "scale": scale,
                    "encoder": encoder,
                    "distance": distance,
                    "none": alone.get((recipe, scale), float("nan")) if source == "here" else float("nan"),
                    "REPA": row["repa"],
                    "iREPA": row["irepa"],
                    "change": f"{row['irepa'] / row['repa'] - 1:+.1%}",
                }
            )
show(grid(pd.DataFrame(rows), 1) if rows else "No pair of REPA and iREPA has been run.")

# %% [markdown]
# ## Where text and released code differ

# %%
rows = [
    {
        "what differs": f"**{row['id']}** {row['about']}. {row['meaning']}",
        "paper's text": row["text"],
        "released code": row["code"],
    }
    for row in audit["discrepancies"]
]
show(grid(pd.DataFrame(rows)))
rows = [
    {
        "": row["id"],
        "source": effect["source"],
        "effect": effect["what"],
        "value": effect["value"],
        "n": str(effect["n"]),
        "reads as": effect.get("verdict", ""),
    }
    for row in audit["discrepancies"]
    for effect in row["effects"]
]
untold = ", ".join(row["id"] for row in audit["discrepancies"] if not row["effects"])
show(
    f"What they change, as far as a number can say so (n: runs, encoders or points; without an interval it is one run of each; read by the interval alone, as above). "
    f"No number here bears on {untold}."
)
show(grid(pd.DataFrame(rows)))

# %% [markdown]
# ## Figures

# %%
for name, figure in tier.figures.items():
    record = read_json(results / "figures" / f"{name}.json")
    question = tier.experiments[figure.experiment].question
    show(f'<a id="figure-{name}"></a>\n\n### {name.replace("-", " ").capitalize()}\n\n{question}')
    if record["failed"]:
        show(f"**No figure**: {record['failed']}")
        continue
    files = ", ".join(link(f"figures/{name}.{suffix}", suffix.upper()) for suffix in ("csv", "svg"))
    show(f"![{question}](figures/{name}.png)\n\n{record['metrics']['caption']}  \nWhat is drawn: {files}")

# %% [markdown]
# ## Encoders

# %%
encoders = table[table["stage"].isin(["spatial", "probe"])].pivot_table(
    index="encoder", columns="metric", values="value"
)
encoders["accuracy"] *= 100
columns = {
    "accuracy": "accuracy (%)",
    "lds": "LDS",
    "cds": "CDS",
    "srss": "SRSS",
    "rmsc": "RMSC",
    "lds_text": "LDS (text)",
    "images_without_srss": "images without SRSS",
}
encoders = encoders[list(columns)].rename(columns=columns).reset_index()
show(grid(encoders.astype({"images without SRSS": int})))

# %% [markdown]
# ## Training runs

# %%
cells = ["recipe", "scale", "encoder", "method", "seed"]
runs = table[table["stage"].isin(["train", "evaluate"]) & (table["metric"] != "failed")].pivot_table(
    index=cells, columns="metric", values="value"
)
wanted = {
    frechet: frechet,
    kernel: kernel,
    f"{kernel}-sd": f"{kernel} s.d.",
    **reported_metrics(build_recipe(tier, name) for name in tier.recipes),
    "parameters": "parameters",
    "images_seen": "images seen",
}
runs = (
    runs.reindex(columns=list(wanted))
    .dropna(axis="columns", how="all")
    .rename(columns=wanted)
    .reset_index()
    .sort_values([*cells[:2], "method", "encoder"])
)
for column in [name for name in ("seed", "parameters", "images seen") if name in runs]:
    runs[column] = runs[column].astype("Int64")  # a published checkpoint does not say how many images it has seen
show(grid(runs))

# %% [markdown]
# ## Methods and environment

# %%
records = [read_json(plan.record_path(job)) for job in plan.jobs() if plan.record_path(job).exists()]
made = pd.DataFrame(
    [
        {
            "stage": r["stage"],
            "jobs": 1,
            "seconds, all jobs": r["provenance"]["seconds"],
            "core-hours": r["provenance"]["seconds"] * (r["provenance"].get("threads") or 1) / 3600,
            "largest peak memory (MiB)": r["provenance"]["peak_memory_mib"],
        }
        for r in records
    ]
)
made = made.groupby("stage", sort=False).agg(
    {"jobs": "sum", "seconds, all jobs": "sum", "core-hours": "sum", "largest peak memory (MiB)": "max"}
)
trained = [r["metrics"] for r in records if r["stage"] == "train" and not r["failed"]]
seen = sum(metrics.get("images_seen") or 0 for metrics in trained)
data = read_json(results / "data" / "data.json")
last = records[-1]["provenance"]
used = {name: recipe.guidance for name, recipe in tier.recipes.items() if recipe.guidance is not None}
guidance = "; ".join(f"{name} with guidance {g.scale:g} for t in [{g.low:g}, {g.high:g}]" for name, g in used.items())
guidance = guidance or "no guidance"
given = tier.evaluation.references.get(tier.evaluation.extractors[0])
reference = "the training images" if given is None else f"the statistics in `{given}`"
versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items() if version)
show(f"""
- Cost: {len(trained)} trainings, {seen:,} training images in them, {made["core-hours"].sum():.1f} core-hours for everything.
- Data: `{tier.dataset.name}`, {data["metrics"]["train_images"]} training and {data["metrics"]["test_images"]} held-out images of
  {tier.dataset.image_size}x{tier.dataset.image_size} px, {data["metrics"]["classes"]} classes, tokens on a {tier.grid[0]}x{tier.grid[1]} grid.
- Training: {tier.training.steps} steps of {tier.training.batch} images, AdamW, learning rate {tier.training.lr:g}, EMA {tier.training.ema}.
- Samples: {tier.sampling.samples} per run, EMA weights, {guidance}; {frechet} and {kernel} against {reference}.
- Statistics: Pearson's r and Spearman's rho with BCa bootstrap intervals over encoders, permutation p; thresholds are tested by Fisher's z,
  differences of dependent correlations by paired bootstrap, pairs of runs by a t test of their log ratio; Holm's correction over the
  claims that a source tests.
- Git revision `{last["git_revision"]}`{" with uncommitted changes" if last["git_dirty"] else ""}, {last["started"]}.
- {versions}; Python {last["python"]}, {last["platform"]}.
- Every number above is in {link("table.csv")} with the JSON record it comes from; each record names its settings, the fingerprints of its
  inputs, the checksums of its files, git revision, package versions, seconds and peak memory.
""")
show(grid(made.reset_index(), 2))
