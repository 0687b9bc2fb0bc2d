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
import json
import os
from pathlib import Path

import pandas as pd
from IPython.display import HTML, Image, Markdown, display

from irepa.config import load_settings
from irepa.files import read_json
from irepa.plan import Plan
from irepa.settings import Settings

root = Path(os.environ.get("IREPA_ROOT", ".."))
if "IREPA_SETTINGS" in os.environ:
    settings = Settings.model_validate_json(os.environ["IREPA_SETTINGS"])
else:  # opened by hand
    settings = load_settings(root / "params.yaml", root / "workflow")
plan, tier = Plan(settings, root), settings.tier
results = Path(os.environ.get("IREPA_RESULTS", plan.results))
table = pd.read_csv(results / "table.csv", keep_default_na=False, na_values={"value": [""], "seed": [""]})
frechet, kernel = (settings.catalogue[tier.evaluation.extractors[0]].metric_name(name) for name in ("FID", "KID"))


def show(frame, digits=3):
    """A table without index; text to the left, whole numbers without decimals."""
    frame = frame.rename_axis(columns=None)
    text = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    for name in text:
        frame[name] = [f"<span class='text'>{value}</span>" for value in frame[name]]
    frame = frame.rename(columns={name: f"<span class='text'>{name}</span>" for name in text})
    display(
        HTML(frame.to_html(index=False, float_format=lambda v: f"{v:.{digits}f}", na_rep="", border=0, escape=False))
    )


# %%
bullets = lambda lines: "\n".join(f"- {line}" for line in lines)
display(
    Markdown(f"""# {tier.title}

Replication of *What Matters for Representation Alignment?* (arXiv 2512.10794), tier `{settings.params.tier}`.

**What this tier shows**

{bullets(tier.shows)}

**What it cannot show**

{bullets(tier.cannot_show)}
""")
)

changed = settings.params.changes()
if changed:
    lines = bullets(f"`{key}`: `{json.dumps(value)}`" for key, value in changed.items())
    display(Markdown(f"**This run is not the tier as its file has it.** `params.yaml` changes:\n\n{lines}"))

# %% [markdown]
# ## Results

# %%
failures = table[table["metric"] == "failed"]
if len(failures):
    trained = failures[failures["stage"] == "train"]
    lines = bullets(f"`{row.record}`: {row.failed}" for row in trained.itertuples())
    display(Markdown(f"**{len(trained)} of the training runs failed and are left out below**\n\n{lines}"))

for name, figure in tier.figures.items():
    record = read_json(results / "figures" / f"{name}.json")
    question = tier.experiments[figure.experiment].question
    display(Markdown(f"### {name.replace('-', ' ').capitalize()}\n\n{question}"))
    if record["failed"]:
        display(Markdown(f"**No figure**: {record['failed']}"))
        continue
    display(Image(filename=str(results / "figures" / f"{name}.png"), alt=question))
    display(Markdown(f"{record['metrics']['caption']}  \n*Data: `figures/{name}.csv`, vector: `figures/{name}.svg`*"))

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
encoders["images_without_srss"] = encoders["images_without_srss"].astype(int)
show(encoders[list(columns)].rename(columns=columns).reset_index())

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
    "final_denoise": "velocity loss",
    "final_align": "alignment loss",
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
show(runs)

# %% [markdown]
# ## How it was made

# %%
records = [read_json(plan.record_path(job)) for job in plan.jobs() if plan.record_path(job).exists()]
made = pd.DataFrame(
    [
        {
            "stage": r["stage"],
            "jobs": 1,
            "cpu seconds": r["provenance"]["seconds"],
            "peak memory (MiB)": r["provenance"]["peak_memory_mib"],
        }
        for r in records
    ]
)
made = made.groupby("stage", sort=False).agg({"jobs": "sum", "cpu seconds": "sum", "peak memory (MiB)": "max"})
show(
    made.reset_index().rename(
        columns={"cpu seconds": "seconds, all jobs", "peak memory (MiB)": "largest peak memory (MiB)"}
    ),
    1,
)

# %%
data = read_json(results / "data" / "data.json")
last = records[-1]["provenance"]
used = {name: recipe.guidance for name, recipe in tier.recipes.items() if recipe.guidance is not None}
guidance = "; ".join(f"{name} with guidance {g.scale:g} for t in [{g.low:g}, {g.high:g}]" for name, g in used.items())
guidance = guidance or "no guidance"
given = tier.evaluation.references.get(tier.evaluation.extractors[0])
reference = "the training images" if given is None else f"the statistics in `{given}`"
versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items() if version)
display(
    Markdown(f"""
- Data: `{tier.dataset.name}`, {data["metrics"]["train_images"]} training and {data["metrics"]["test_images"]} held-out images of
  {tier.dataset.image_size}x{tier.dataset.image_size} px, {data["metrics"]["classes"]} classes, tokens on a {tier.grid[0]}x{tier.grid[1]} grid.
- Training: {tier.training.steps} steps of {tier.training.batch} images, AdamW, learning rate {tier.training.lr:g}, EMA {tier.training.ema}.
- Samples: {tier.sampling.samples} per run, EMA weights, {guidance}; {frechet} and {kernel} against {reference}.
- Git revision `{last["git_revision"]}`{" with uncommitted changes" if last["git_dirty"] else ""}, {last["started"]}.
- {versions}; Python {last["python"]}, {last["platform"]}.
- Every number above is in `table.csv` with the JSON record it comes from; each record names its settings, the fingerprints of its
  inputs, the checksums of its files, git revision, package versions, seconds and peak memory.
""")
)
