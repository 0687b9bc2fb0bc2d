"""Typed settings: ``params.yaml`` names a tier, the tier file holds everything that differs between tiers.

The descriptions of the fields are the documentation: ``docs/settings.md`` and the JSON schemas are made from them. Everything is
validated here, once, before any job starts; every refusal names the key, the value and what is allowed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from irepa.config.options import Fraction, Grid, Name, Plugged, Positive, Seed, Strict
from irepa.weights import PRETRAINED

ALL = "all"
Decay = Annotated[float, Field(ge=0, lt=1)]
NO_TIME = 1e-9  # shorter than any step of a sampler, longer than rounding
DEFAULT = "default"  # the key of the latents of the tier's own autoencoder
TRAINED_HERE = "trained"  # weights of an autoencoder: the pipeline trains it, as a stage
# The paper's experiments (section 5); D: the differences between its text and its released code (section 8). The paper does
# not have H, encoders that it did not look at, I, interventions, and L, other lengths of training.
PaperExperiment = Literal["E1", "E2", "E3", "E4", "E5", "E6", "E7", "D", "H", "I", "L"]


class Dataset(Plugged):
    """The images: a reader of `irepa/data`, by name, and its options."""

    name: str = Field(description="The reader: a module of irepa/data. Its options stand beside this key.")
    image_size: Positive = Field(description="Height and width to which every image is brought, in pixels.")
    judge_images: int = Field(
        0,
        ge=0,
        description="Number of the reader's training images, spread evenly over all, that are set aside to train judges of the "
        "samples: no generative model, no target and no reference sees them. The others are the training images.",
    )
    storage: Literal["raw", "webp"] = Field(
        "raw",
        description="How the decoded images are kept. raw: as pixels, 252 GB for ImageNet at 256 px. webp: each compressed "
        "without loss, photographs to about 45% of that; whoever reads one unpacks it, 1.5 ms of a core at 256 px, so that "
        "training needs `workers`.",
    )


class Expected(Strict):
    """Sizes of the dataset, with which `irepa plan` counts before the images are there."""

    train_images: Positive = Field(description="Number of training images, without those of `dataset.judge_images`.")
    test_images: Positive = Field(description="Number of held-out images.")
    classes: Positive = Field(description="Number of classes.")


class AutoencoderSettings(Plugged):
    """What turns images into what the diffusion model sees, and back: a module of `irepa/autoencoders`, and its options."""

    name: str = Field(description="The autoencoder: a module of irepa/autoencoders. Its options stand beside this key.")
    precompute: bool = Field(
        False,
        description="True: the latents' means and deviations are computed once for all training images, in a stage of their "
        "own, and latents are drawn from them in every step. Not for one that is trained here.",
    )
    normalisation: Literal["scalar", "per-channel", "file"] | None = Field(
        None,
        description="How latents z are brought to the size of the noise, (z - mean) / std, and back before decoding. scalar: "
        "by the model's own factors, 0.18215 and 0 for SD-VAE, as REPA and the original SiT; per-channel: by mean and standard "
        "deviation of each channel over the training latents, which the `latents` stage computes and records; file: by those in "
        "`statistics`, as REPA-E. null: scalar, but not named: a published checkpoint is not adopted with it.",
    )
    statistics: Path | None = Field(
        None,
        description="With `normalisation: file`, the statistics of the hub: a file of torch or safetensors with `latents_scale` "
        "(1 / std) and `latents_bias` (mean), or with `mean` and `std`, a number per channel. null: no file is read.",
    )

    grey: Literal["nearest", "below"] = Field(
        "nearest",
        description="The level, 0 to 255, that a decoded pixel becomes: the nearest one, or the next one below, as in the "
        "released code for latents (half a level darker).",
    )

    @model_validator(mode="after")
    def _statistics_are_there(self) -> AutoencoderSettings:
        if (self.normalisation == "file") != (self.statistics is not None):
            raise ValueError(
                f"normalisation ({self.normalisation}) and statistics ({self.statistics}) belong together: `statistics: PATH` is "
                "read with `normalisation: file`, and with nothing else"
            )
        if self.normalisation == "per-channel" and not self.precompute:
            raise ValueError("normalisation: per-channel needs `precompute: true`: the `latents` stage computes it")
        return self

    @property
    def trained_here(self) -> bool:
        """Whether the pipeline trains it itself."""
        return self.options().get("weights") == TRAINED_HERE


class Guidance(Strict):
    """Classifier-free guidance: v = v_null + scale * (v_class - v_null) for low <= t <= high, and v = v_class outside."""

    scale: float = Field(ge=1, description="Factor by which the class is followed; 1 is no guidance.")
    low: Fraction = Field(0.0, description="Smallest time t at which guidance applies (t = 0 is data); at most `high`.")
    high: Fraction = Field(1.0, description="Largest time t at which guidance applies (t = 1 is noise).")
    time: Literal["t", "1 - t"] = Field(
        "t",
        description="What `low` and `high` are times of. 1 - t: as in JiT's code, where 1 is data, and the ends are not in the "
        "interval, but for a `low` of 0.",
    )

    @model_validator(mode="after")
    def _times_are_in_order(self) -> Guidance:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) must not exceed high ({self.high}): guidance would apply at no time")
        return self

    def applies(self, t: float) -> bool:
        """Whether guidance applies at time t, 1 at noise."""
        if self.time == "t":
            return self.low <= t <= self.high
        # In the other direction the ends are rounded: what is closer to one than any step of a sampler is that end.
        return t > 1 - self.high + NO_TIME and (self.low == 0 or t < 1 - self.low - NO_TIME)


class SamplerChoice(Plugged):
    """How images are drawn from the network: a module of `irepa/samplers`, and its options."""

    name: str = Field(description="The sampler: a module of irepa/samplers. Its options stand beside this key.")


class RecipeSettings(Plugged):
    """How a model is trained and sampled: a module of `irepa/recipes` with its options, the network, and the sampler."""

    name: str = Field(description="The recipe: a module of irepa/recipes. Its options stand beside this key.")
    architecture: str = Field("sit", description="The network: a module of irepa/architectures.")
    autoencoder: str | None = Field(
        None, description="One of the tier's `autoencoders`; null: the tier's `autoencoder`."
    )
    sampler: SamplerChoice = Field(description="How images are drawn.")
    guidance: Guidance | None = Field(None, description="Guidance while sampling; null: none.")
    labels: Literal["random", "equal"] = Field(
        "random",
        description="Classes of the samples. random: uniform, each drawn for itself; equal: in turn, so that each class has the "
        "same number, as in JiT's code (the numbers differ by 1 where they cannot be the same).",
    )
    training: dict[str, Any] = Field(
        {},
        description="Keys of `training` that this recipe sets otherwise than the tier: `{betas: [0.9, 0.95]}`. An override of "
        "`training` in params.yaml is one of all recipes, and counts more.",
    )
    shared: tuple[Literal["initialisation", "order", "sampling"], ...] = Field(
        (),
        description="What all seeds share: it is drawn from the first of them. initialisation: weights at the start; order: of "
        "the images, with the times and noise of each step; sampling: noise and classes of the samples. What seeds still differ "
        "by is due to the others.",
    )
    trained_as: str | None = Field(
        None,
        description="Train nothing: draw from the networks that this other recipe of the tier trains, with another sampler, "
        "guidance or number of training steps. null: the recipe trains its own.",
    )
    at: Positive | None = Field(
        None,
        description="With `trained_as`: draw from the averaged weights that a training of this many steps ends with. Where the "
        "rate falls (`training.decay`), it falls in a branch that leaves the longer training and costs those steps. "
        "null: after the last step.",
    )

    @model_validator(mode="after")
    def _early_weights_are_of_another(self) -> RecipeSettings:
        if self.at is not None and self.trained_as is None:
            raise ValueError("`at` needs `trained_as`: the recipe whose training passes that step")
        return self


class EncoderEntry(BaseModel):
    """One row of `workflow/encoders.yaml`: an encoder, the library that builds it, and that library's options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    library: str = Field(description="What builds it: a module of irepa/encoders. Its options stand beside this key.")
    family: str = Field(description="Encoders of one family are left out together when the audit checks a correlation.")
    evaluation_only: bool = Field(False, description="True: it may judge samples and may never be an alignment target.")
    judge: str | None = Field(
        None,
        description="Its name in the metrics when it judges samples: EffLite2 gives FD-EffLite2. null: it judges none.",
    )
    base: str | None = Field(
        None,
        description="Another row, whose tokens this encoder is fitted to and changes. null: it looks at images itself.",
    )

    @model_validator(mode="after")
    def _judges_are_named(self) -> EncoderEntry:
        if self.evaluation_only and self.judge is None:
            raise ValueError("an encoder kept for evaluation needs a judge name")
        return self

    def metric_name(self, metric: str) -> str:
        """The name of a metric under this judge. FID, KID, precision and recall alone mean torch-fidelity's Inception."""
        if self.gives_inception_score:
            return metric
        return f"{'FD' if metric == 'FID' else metric}-{self.judge}"

    @property
    def gives_inception_score(self) -> bool:
        """Whether as a judge it gives the class logits of the Inception Score, beside what is called FID."""
        return self.library == "torch-fidelity"

    @property
    def trained_by(self) -> str | None:
        """The tier's pre-training that gives the weights: ``weights: trained:NAME``."""
        weights = str(self.options().get("weights", ""))
        return weights.removeprefix(PRETRAINED) if weights.startswith(PRETRAINED) else None

    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class SpatialNorm(Strict):
    """Normalisation of the target, y = (x - gamma * mean) / std over the positions of each image (paper section 4)."""

    gamma: Fraction = Field(1.0, description="Share of the mean that is taken out; 1 in the paper's formula.")
    normaliser: Literal["std", "var"] = Field(
        "std",
        description="Denominator. std: standard deviation + 1e-6 (released code); var: sqrt(variance + eps) (text).",
    )


class Method(Strict):
    """One row of `workflow/methods.yaml`: how hidden tokens of the network are aligned with the encoder's tokens."""

    projector: Literal["mlp", "linear", "conv"] | None = Field(
        None,
        description="What maps hidden tokens to the encoder's width. mlp: REPA's; conv: iREPA's, one convolution over the token "
        "grid; null: no alignment.",
    )
    kernel: Literal[1, 3, 5, 7] = Field(3, description="Kernel of the `conv` projector, in tokens.")
    spatial_norm: SpatialNorm | None = Field(None, description="Normalisation of the target; null: none.")
    weight: float = Field(0.5, ge=0, description="Weight of the alignment loss beside the diffusion loss.")

    @property
    def aligned(self) -> bool:
        return self.projector is not None


class Scale(Strict):
    """Sizes of one network and of its projector."""

    depth: Positive = Field(description="Number of blocks; of a U-Net, layers per level.")
    width: Positive = Field(description="Channels of a token; of a U-Net, channels at the bottleneck.")
    heads: Positive = Field(description="Attention heads; `width` must be a multiple of their number.")
    patch: Positive = Field(
        description="Side of a patch, in latent pixels (in pixels where the model sees images). Image or latents divided by it "
        "must give the tier's `grid`."
    )
    align_depth: Positive = Field(description="Number of blocks after which the hidden tokens are aligned.")
    projector_hidden: Positive = Field(2048, description="Channels inside the `mlp` projector.")
    options: dict[str, dict[str, Any]] = Field(
        {},
        description="By architecture, what it has beyond these sizes: `jit: {bottleneck: 128}`.",
    )

    @field_validator("options")
    @classmethod
    def _names_are_keys(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for architecture, options in value.items():
            if "name" in options:
                raise ValueError(f"{architecture} has no option `name`: the key above is the architecture's name")
        return value

    def transformer(self) -> dict[str, int]:
        """The sizes that every transformer takes."""
        return {name: getattr(self, name) for name in ("depth", "width", "heads", "patch", "align_depth")}

    def plugged(self, architecture: str) -> Plugged:
        """The options of one architecture at this scale."""
        return Plugged.model_validate({"name": architecture, **self.options.get(architecture, {})})


class Features(Strict):
    """How the encoders' tokens are computed and stored."""

    dtype: Literal["float16", "float32"] = Field("float16", description="Type of the stored tokens.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Arithmetic of the encoders.")
    batch: Positive = Field(64, description="Images that an encoder is given at a time.")
    disk_limit_gib: float = Field(
        100,
        ge=0,
        description="GiB. An encoder whose training tokens would take more is run anew in every training step.",
    )
    input_size: Positive | None = Field(
        None,
        description="Side, in pixels, of the images given to encoders whose row of encoders.yaml sets none; null: the default of "
        "each.",
    )


class Spatial(Strict):
    """Spatial metrics (paper section 2). Distances are Manhattan distances on the token grid, in grid steps."""

    images: Positive = Field(
        description="Number of held-out images, spread evenly over all, for the metrics, the probe and the maps."
    )
    near: Positive | None = Field(None, description="LDS and SRSS: near tokens are at most this far apart; null: 1.")
    far: Positive | None = Field(
        None,
        description="LDS and SRSS: distant tokens are at least this far apart; null: 6 on 16x16, in proportion elsewhere.",
    )
    slope: Positive | None = Field(
        None,
        description="CDS: its line is fitted over distances from 1 to this; null: 8 on 16x16, in proportion elsewhere.",
    )


class Probe(Strict):
    """Linear probes: logistic regression on mean-pooled tokens, which gives an encoder's accuracy, and on tokens by position."""

    train_images: int | None = Field(
        None,
        ge=2,
        description="Number of training images that it is fitted to, spread evenly over all, at least 2; null: all.",
    )
    c: float = Field(1.0, gt=0, description="Inverse strength of the L2 penalty, as scikit-learn's C.")
    max_iter: Positive = Field(300, description="Most iterations of the optimiser.")
    position_channels: Positive | None = Field(
        None,
        description="Principal components of each token that a second probe is given, position by position; null: no such probe.",
    )


class Training(Strict):
    """Optimisation by AdamW, with an average of the weights (EMA) that samples are drawn from (paper section 3)."""

    steps: Positive = Field(description="Number of optimiser steps.")
    batch: Positive = Field(description="Images per step, over all processes.")
    lr: float = Field(1e-4, gt=0, description="Learning rate: the highest, where it rises or falls.")
    warmup_epochs: float = Field(
        0.0, ge=0, description="Epochs at the start over which the learning rate rises linearly from 0; 0: none."
    )
    decay: Fraction = Field(
        0.0,
        description="Share of the steps, at the end, over which the learning rate falls linearly to 0; 0: it does not.",
    )
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="Decay of AdamW's two moments.")
    weight_decay: float = Field(0.0, ge=0, description="Weight decay of AdamW.")
    grad_clip: float | None = Field(
        1.0, gt=0, description="Largest norm of the gradient; a larger one is scaled down to it. null: none is."
    )
    ema: Fraction = Field(0.9999, description="Share of the averaged weights that stays in each step.")
    flips: bool = Field(
        False,
        description="True: half of the images, at random, are seen as a mirror shows them, by the network and by the encoder, "
        "which then runs in every step. Latents that are computed beforehand are computed of both views.",
    )
    label_dropout: Fraction = Field(
        0.1,
        description="Share of the labels replaced by 'no class', from which guidance learns what no class looks like.",
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="Arithmetic of forward and backward passes; weights stay in 32 bits. fp16 needs a CUDA device.",
    )
    accumulation: Positive = Field(
        1, description="Parts of its share of a batch that a process works on one after another, to save memory."
    )
    processes: Positive = Field(
        1,
        description="Processes that share a batch, one per GPU. `batch` must be a multiple of processes x accumulation.",
    )
    compile: bool = Field(
        False, description="torch.compile: a minute at the start for faster steps. Needs a C++ compiler."
    )
    checkpoint_every: Positive | None = Field(
        None, description="Steps from one checkpoint to the next; null: one only when the run is asked to stop."
    )
    keep_checkpoints: Positive = Field(
        1, description="How many checkpoints are kept, the newest; all are deleted when the run is done."
    )
    tensorboard: bool = Field(False, description="True: write losses and samples for TensorBoard.")
    log_every: Positive = Field(100, description="Steps from one point of the loss curve to the next.")

    @model_validator(mode="after")
    def _batch_can_be_shared(self) -> Training:
        if self.batch % (self.processes * self.accumulation):
            raise ValueError(
                f"batch ({self.batch}) must be a multiple of processes x accumulation ({self.processes} x {self.accumulation})"
            )
        return self

    def that_matter(self) -> dict[str, Any]:
        """The settings that change the result by more than the last bits of its sums.

        Not among them: how many processes share the work, and what is kept on the way.
        """
        aside = {"processes", "checkpoint_every", "keep_checkpoints", "tensorboard"}
        return {key: value for key, value in self.model_dump(mode="json").items() if key not in aside}


class Pretraining(Plugged):
    """How the pipeline trains one of its own encoders on the training images: a module of `irepa/objectives`, and its options."""

    name: str = Field(description="The objective: a module of irepa/objectives. Its options stand beside this key.")
    encoder: str = Field(description="The row of encoders.yaml whose network is trained, from random weights.")
    images: Literal["train", "judge"] = Field(
        "train",
        description="Which images it is trained on. judge: those of `dataset.judge_images`; the encoder may then judge samples, "
        "and be no target.",
    )
    training: Training = Field(description="Its optimisation.")


class Sampling(Strict):
    """How many images are drawn from each trained network, and what is kept of them."""

    samples: Positive = Field(description="Number of images that are drawn.")
    batch: Positive = Field(256, description="Images drawn at a time; it does not change them.")
    shard: Positive = Field(16, description="Batches written at a time; an interrupted run goes on at the next shard.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Arithmetic of the network while sampling.")
    compile: bool = Field(
        False, description="torch.compile of the network: worth its minute for many samples at many steps."
    )
    preview: Positive = Field(32, description="Number of samples kept for pictures when the rest is deleted.")
    keep: bool = Field(
        True,
        description="True: samples stay, compressed, so that a further judge needs no new ones; False: they are deleted once "
        "they are evaluated.",
    )


class Evaluation(Strict):
    """How samples are measured: against the training images, in the features of one or more judges."""

    extractors: list[str] = Field(min_length=1, description="The judges: rows of encoders.yaml.")
    batch: Positive = Field(64, description="Images that a judge is given at a time.")
    input_size: Positive | None = Field(
        None,
        description="Side, in pixels, of the images given to judges whose row of encoders.yaml sets none; null: the default of "
        "each.",
    )
    references: dict[str, Path] = Field(
        {},
        description="By judge, an .npz with `mu` and `sigma` (and images, `arr_0`) to compare with in place of the training "
        "images.",
    )
    reference_features: Positive = Field(
        50_000,
        description="Number of reference images whose features are kept, for KID, precision and recall; more than `neighbours`.",
    )
    neighbours: Positive = Field(
        3, description="k of precision and recall (Kynkaanniemi et al., 2019); smaller than `sampling.samples`."
    )
    parts: list[Positive] = Field(
        [],
        description="Numbers k, two at least, the largest at most half of `sampling.samples`: the Frechet distance is also "
        "measured at 1/k of the samples, as the mean over k parts, and extrapolated to endlessly many samples (FD-infinity); [] "
        "measures it at all samples alone.",
    )
    floor: bool = Field(
        False,
        description="True: held-out images, as many as there are samples, are measured as samples are: what the data gets.",
    )
    kid_subsets: Positive = Field(100, description="Number of subsets over which KID is averaged.")
    kid_subset_size: int = Field(
        1000, ge=2, description="Images per subset of KID, at least 2; at most `sampling.samples`."
    )

    @field_validator("parts")
    @classmethod
    def _a_line_needs_two_points(cls, value: list[int]) -> list[int]:
        if value and len(set(value)) < 2:
            raise ValueError(
                f"{value} is one number of samples, through which no line can be drawn; give two, as in [1, 2]"
            )
        return value


class Inspection(Strict):
    """Hidden tokens (E7): which images maps show, seen from which token, how many are measured, and how noisy the input is."""

    images: list[Annotated[int, Field(ge=0)]] = Field(
        [0],
        min_length=1,
        description="Numbers of the images, counted from 0 among the `spatial.images`, each once.",
    )
    anchor: tuple[Fraction, Fraction] = Field(
        (0.5, 0.5),
        description="The token that all others are compared with: row and column, as shares of the grid's sides.",
    )
    time: Fraction = Field(0.25, description="Noise level t of the network's input: 0 is the image, 1 is noise.")
    measured: Positive = Field(
        200,
        description="Number of the `spatial.images` over which tokens are measured inside a run: self-similarity against the "
        "target's, LDS and RMSC before and after the projector.",
    )
    probe_images: int | None = Field(
        None,
        ge=2,
        description="Number of training images to which a linear probe of hidden tokens is fitted; null: no such probe.",
    )
    compare: str | None = Field(
        None,
        description="Encoder with whose tokens the hidden tokens of runs without alignment are compared; null: with none.",
    )


class Experiment(Strict):
    """A question, and the training runs that answer it: every combination of its lists, a cell each.

    A cell that several experiments name is trained once.
    """

    question: str = Field(description="What it asks, in a sentence: the title of its figures.")
    paper: list[PaperExperiment] = Field(
        [],
        description="Which of the paper's experiments it stands for; claims about those are judged by it. D: where text and code "
        "differ; H: encoders that the paper did not look at; I: interventions on the encoder; L: other lengths of training, "
        "which are no further cases of E4. The paper has none of these.",
    )
    encoders: list[str] | Literal["all"] = Field(
        "all", description="Rows of encoders.yaml, with transforms if wanted (`dinov2-b+clsmix0.3`); all: the tier's."
    )
    methods: list[str] | Literal["all"] = Field("all", description="Rows of methods.yaml; all: the tier's.")
    scales: list[str] | Literal["all"] = Field("all", description="Names of the tier's scales.")
    recipes: list[str] | Literal["all"] | None = Field(
        None, description="Names of the tier's recipes; null: the first of them."
    )
    seeds: Positive | None = Field(
        None, description="Training runs of each combination, a seed each; null: the tier's `seeds`."
    )
    holdout: int = Field(
        0,
        ge=0,
        description="How many of those seeds, the last ones, were added after a look at the others: no test of the audit counts "
        "them, and what they say stands beside it.",
    )
    inspect: bool = Field(
        False,
        description="True: the hidden tokens of its runs are measured (`inspection`), and their numbers stand in the table.",
    )
    one_per_family: bool = Field(
        False, description="True: one encoder of each family would still answer it, with less power (for `irepa plan`)."
    )


class Figure(Strict):
    """One figure of the report."""

    kind: str = Field(description="What is drawn: a module of irepa/figures.")
    experiment: str = Field(description="The experiment whose cells it shows.")


class JobResources(Strict):
    """What a job of one stage may take of the machine. Results do not depend on it."""

    threads: Positive = Field(1, description="CPU cores.")
    mem_mb: Positive = Field(2000, description="Memory, in MB.")
    runtime: Positive = Field(60, description="Longest time, in minutes.")
    gpus: int = Field(0, ge=0, description="Number of GPUs.")
    processes: Positive = Field(
        1,
        description="Processes that share the work of `latents`, `features`, `reference`, `floor`, `sample` and `evaluate`, one "
        "per GPU, with `threads` each; the results are the same bytes. Several need room for them twice. Training has its own "
        "setting.",
    )
    workers: int = Field(
        0,
        ge=0,
        description="Processes that read and decode ahead, for each GPU, in the stages that go through images or tokens. They "
        "share the cores with the `threads`, which have little to do where a GPU computes. 0: the job reads by itself.",
    )


class Released(Strict):
    """Checkpoints that others have trained and published, in a folder for each run: they are evaluated, and nothing is trained.

    The tier's cells are those that have a run. `training.steps` says which of a run's checkpoints is taken.
    """

    collection: str = Field(description="Id of the hub's collection that `released` of params.yaml is a copy of.")
    folder: str = Field(description="Where in it the runs are: `RUN/checkpoints/<step, 7 digits>.pt`.")
    autoencoder: str = Field(
        description="Where in it the autoencoder and the statistics of its latents are. `autoencoder.statistics` is a path "
        "in the collection."
    )
    encoders: dict[str, str] = Field(
        description="By the word that stands for an encoder in names of runs: its row of encoders.yaml."
    )
    runs: dict[str, str | None] = Field(
        description="By pattern of a run's whole name, the cell that it is, `recipe/scale/encoder/method/seed0`; the first that "
        "fits counts. In both, `{scale}` stands for one of the tier's scales and `{encoder}` for one of `encoders`, a whole word "
        "of the name; `*` stands for anything. null: such a run is known and left out."
    )

    @field_validator("runs")
    @classmethod
    def _placeholders(cls, value: dict[str, str | None]) -> dict[str, str | None]:
        for run, cell in value.items():
            of_run, of_cell = (set(re.findall(r"\{(.*?)\}", text or "")) for text in (run, cell))
            if not of_cell <= of_run <= {"scale", "encoder"}:
                raise ValueError(
                    f"{run}: {cell}: allowed are {{scale}} and {{encoder}}, in a cell only those that the run has"
                )
        return value


class Taken(Strict):
    """What was found of released runs when the tier was read; what is of no use is told with its reason."""

    unknown: list[str] = Field(description="Runs whose name no row fits.")
    elsewhere: dict[str, str] = Field(description="By run, a cell that no experiment of the tier has.")
    without: list[str] = Field(description="Runs without a checkpoint after the tier's `training.steps`.")
    left_out: list[str] = Field(description="Runs whose row says so.")
    missing: list[str] = Field(description="Cells of the experiments that have no run.")

    def notes(self) -> list[str]:
        """What a reader must know, in sentences; none where every run is a cell and every cell has a run."""
        told = {
            "Runs that no row of `released.runs` knows": self.unknown,
            "Runs of a cell that no experiment has": [f"{run} ({cell})" for run, cell in self.elsewhere.items()],
            "Runs without a checkpoint of the last step": self.without,
            "Runs left out by their row": self.left_out,
            "Cells without a released run": self.missing,
        }
        return [f"{what} ({len(names)}): {', '.join(names)}." for what, names in told.items() if names]


class Tier(Strict):
    """One file of `workflow/tiers`: everything that differs between a run of minutes and the paper's own scale.

    Nothing in the code asks which tier it is.
    """

    title: str = Field(description="Title of the report.")
    shows: list[str] = Field(description="What results at this size can show, in sentences; the report prints them.")
    cannot_show: list[str] = Field(description="What they cannot show.")
    dataset: Dataset = Field(description="The images.")
    expected: Expected | None = Field(
        None, description="Sizes of the dataset, for `irepa plan`; null: it needs the finished `data` stage."
    )
    autoencoder: AutoencoderSettings = Field(
        description="What turns images into what the model sees, unless a recipe names another."
    )
    autoencoders: dict[Name, AutoencoderSettings] = Field(
        {}, description="By name, further ones, for recipes that name them."
    )
    pretraining: dict[Name, Pretraining] = Field(
        {}, description="By name, how encoders are trained whose weights are `trained:NAME` in encoders.yaml."
    )
    grid: Grid = Field(
        description="Rows and columns of the token grid: where the encoder's tokens and the network's lie on the image."
    )
    encoders: list[str] = Field(
        min_length=1,
        description="Rows of encoders.yaml, with transforms if wanted: the targets that experiments take as `all`.",
    )
    methods: list[str] = Field(min_length=1, description="Rows of methods.yaml that experiments take as `all`.")
    scales: dict[Name, Scale] = Field(min_length=1, description="By name, sizes of the network.")
    recipes: dict[Name, RecipeSettings] = Field(
        min_length=1,
        description="By name, how models are trained and sampled; experiments take the first if they name none.",
    )
    seeds: Positive = Field(
        1, description="Training runs of each combination, with seeds counted up from that of params.yaml."
    )
    features: Features = Field(Features(), description="How tokens are computed and stored.")
    spatial: Spatial = Field(description="Spatial metrics.")
    probe: Probe = Field(Probe(), description="The linear probe.")
    training: Training = Field(description="Optimisation of every cell, but for what its recipe sets otherwise.")
    sampling: Sampling = Field(description="How many images are drawn.")
    evaluation: Evaluation = Field(description="How they are measured.")
    inspection: Inspection = Field(Inspection(), description="The self-similarity maps.")
    checkpoints: dict[str, Path] = Field(
        {},
        description="By cell (`recipe/scale/encoder/method/seed0`), the path of a published SiT or REPA checkpoint that is "
        "sampled and evaluated without training. The cell is one of an experiment's, and its recipe trains a SiT.",
    )
    released: Released | None = Field(
        None, description="Released checkpoints that the tier evaluates in place of training; null: none."
    )
    experiments: dict[Name, Experiment] = Field(
        min_length=1,
        description="By name, the questions and their training runs.",
    )
    figures: dict[Name, Figure] = Field(description="By name, the figures of the report.")
    resources: dict[str, JobResources] = Field({}, description="By stage, what its jobs may take of the machine.")

    def adopts(self, key: str) -> bool:
        """Whether a cell's weights are published ones, so that nothing is trained for it."""
        return self.released is not None or key in self.checkpoints

    def training_of(self, recipe: str) -> Training:
        """The tier's `training` with what the recipe, or the one that it is trained as, sets otherwise."""
        own = self.recipes[self.recipes[recipe].trained_as or recipe].training
        return self.training if not own else Training.model_validate(self.training.model_dump() | own)

    @field_validator("encoders", "methods")
    @classmethod
    def _no_duplicates(cls, value: list[str]) -> list[str]:
        twice = sorted({name for name in value if value.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} stands more than once; every name must be there once")
        return value

    @model_validator(mode="after")
    def _samples_are_enough(self) -> Tier:
        k, kept = self.evaluation.neighbours, self.evaluation.reference_features
        if self.sampling.samples <= k:
            raise ValueError(
                f"sampling.samples ({self.sampling.samples}) must exceed evaluation.neighbours ({k}): precision and recall ask "
                f"for the {k} nearest of the other samples, and the Frechet distance for 2 samples; give more samples, or "
                "lower evaluation.neighbours"
            )
        if kept <= k:
            raise ValueError(f"evaluation.reference_features ({kept}) must exceed evaluation.neighbours ({k})")
        most = max(self.evaluation.parts, default=1)
        if 2 * most > self.sampling.samples:
            raise ValueError(
                f"evaluation.parts has {most}: each part of sampling.samples ({self.sampling.samples}) needs 2 samples at least"
            )
        if self.evaluation.kid_subset_size > self.sampling.samples:
            raise ValueError(
                f"evaluation.kid_subset_size ({self.evaluation.kid_subset_size}) must not exceed "
                f"sampling.samples ({self.sampling.samples})"
            )
        return self


class Extension(Strict):
    """What a tier file may say besides: that it has only what differs from another one."""

    extends: str = Field(
        description="Another tier: this file has only what differs from it. Groups of keys are merged, anything else is "
        "replaced, and an experiment or figure that is null is taken out."
    )
    keeps: dict[Literal["experiments", "figures"], list[str]] = Field(
        {},
        description="Which of the other tier's experiments, or figures, this one has too: `{figures: [samples]}`. Those that it "
        "does not speak of: all.",
    )


class Params(Strict):
    """`params.yaml`: which tier runs, and what is changed of it."""

    tier: str = Field("demo", description="Which tier runs: a file of workflow/tiers, without its ending.")
    seed: Seed = Field(0, description="The first seed; further training runs of a cell count up from it.")
    encoders: list[str] | None = Field(None, description="Replaces the tier's list of encoders; null: the tier's.")
    methods: list[str] | None = Field(None, description="Replaces the tier's list of methods; null: the tier's.")
    overrides: dict[str, Any] = Field(
        {}, description="Any key of the tier file, with dots between its parts: `{training.steps: 500}`."
    )
    released: Path | None = Field(
        None,
        description="Folder of the authors' released files, as `hf download REPA-E/iREPA-collections --local-dir` leaves it. The "
        "statistics in it (`spatial-metrics-data`, or this folder itself) are evidence for the audit, the checkpoints are what "
        "the tier `released` evaluates. null: without.",
    )
    results: str = Field("results", min_length=1, description="Folder of the results, relative to the repository.")

    def changes(self) -> dict[str, Any]:
        """What a user has changed of the tier file, by key, but for what jobs may take of the machine."""
        lists = {"encoders": self.encoders, "methods": self.methods}
        overrides = {key: value for key, value in self.overrides.items() if not key.startswith("resources")}
        return {key: value for key, value in lists.items() if value is not None} | overrides


class Settings(Strict):
    """The whole configuration of one tier, resolved and cross-checked.

    It never changes and is compared by identity, so that what follows from it can be worked out once and remembered.
    """

    params: Params = Field(description="What params.yaml says.")
    tier: Tier = Field(description="The tier file, with what it extends and what `params` changes of it.")
    catalogue: dict[str, EncoderEntry] = Field(description="The rows of workflow/encoders.yaml.")
    methods: dict[str, Method] = Field(description="The rows of workflow/methods.yaml.")
    taken: Taken | None = Field(None, description="What was found of the tier's released runs; null: it has none.")

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def autoencoder(self, recipe: str) -> AutoencoderSettings:
        """The recipe's own autoencoder, or the tier's."""
        name = self.tier.recipes[recipe].autoencoder
        return self.tier.autoencoder if name is None else self.tier.autoencoders[name]

    def trains_autoencoder(self, recipe: str) -> str | None:
        """The recipe's autoencoder if the pipeline trains it itself, as a stage of that key; else None."""
        name = self.tier.recipes[recipe].autoencoder
        return name if name is not None and self.tier.autoencoders[name].trained_here else None

    def latents_of(self, recipe: str) -> str | None:
        """The key of the `latents` job whose moments the recipe learns from; None where it learns from images."""
        return (self.tier.recipes[recipe].autoencoder or DEFAULT) if self.autoencoder(recipe).precompute else None

    def precomputed(self, key: str) -> AutoencoderSettings:
        """The autoencoder of a `latents` job."""
        return self.tier.autoencoder if key == DEFAULT else self.tier.autoencoders[key]
