"""Typed settings: ``params.yaml`` names a tier, the tier file holds everything that differs between tiers.

Everything is validated here, once, before any job starts; every refusal names the key, the value and what is allowed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from irepa.config.options import Fraction, Grid, Plugged, Positive, Strict
from irepa.weights import PRETRAINED

ALL = "all"
# The paper's experiments (section 5); D: the differences between its text and its released code (section 8); I: interventions,
# which the paper does not have.
PaperExperiment = Literal["E1", "E2", "E3", "E4", "E5", "E6", "E7", "D", "I"]


class Dataset(Plugged):
    image_size: Positive = Field(description="Height and width of the images, pixels.")


class Expected(Strict):
    """Sizes of the dataset, for planning before it is there."""

    train_images: Positive
    test_images: Positive
    classes: Positive


class Autoencoder(Plugged):
    precompute: bool = Field(False, description="True: its moments of the training images are a stage of their own.")


class Guidance(Strict):
    """Classifier-free guidance: v = v_null + scale * (v_class - v_null) for low <= t <= high, v_class outside."""

    scale: Annotated[float, Field(ge=1)]
    low: Fraction = 0.0
    high: Fraction = 1.0


class Recipe(Plugged):
    """How a model is trained and sampled: the implementation in ``irepa/recipes``, the network, and the sampler."""

    architecture: str = "sit"
    autoencoder: str | None = Field(None, description="One of the tier's `autoencoders`; null: its `autoencoder`.")
    sampler: Plugged
    guidance: Guidance | None = None
    trained_as: str | None = Field(
        None, description="Draw from the networks that this recipe has trained, with another sampler or guidance."
    )
    at: Positive | None = Field(None, description="With trained_as: from its EMA weights after so many training steps.")

    @model_validator(mode="after")
    def _early_weights_are_of_another(self) -> Recipe:
        if self.at is not None and self.trained_as is None:
            raise ValueError("`at` needs `trained_as`: the recipe whose training passes that step")
        return self


class EncoderEntry(BaseModel):
    """One row of ``workflow/encoders.yaml``: the library that builds it and that library's options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    library: str
    family: str = Field(description="Members of one family are left out together in the audit.")
    evaluation_only: bool = Field(False, description="True: may judge samples, may never be an alignment target.")
    judge: str | None = Field(None, description="Name in the metrics of a judge: EffLite2 gives FD-EffLite2.")
    base: str | None = Field(None, description="Another row: this one is fitted to its tokens, and changes them.")

    @model_validator(mode="after")
    def _judges_are_named(self) -> EncoderEntry:
        if self.evaluation_only and self.judge is None:
            raise ValueError("an encoder kept for evaluation needs a judge name")
        return self

    def metric_name(self, metric: str) -> str:
        """The name of a metric under this judge. FID, KID, precision and recall alone mean torch-fidelity's Inception."""
        if self.library == "torch-fidelity":
            return metric
        return f"{'FD' if metric == 'FID' else metric}-{self.judge}"

    @property
    def trained_by(self) -> str | None:
        """The tier's pre-training that gives the weights: ``weights: trained:NAME``."""
        weights = str(self.options().get("weights", ""))
        return weights.removeprefix(PRETRAINED) if weights.startswith(PRETRAINED) else None

    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class SpatialNorm(Strict):
    """Target normalisation y = (x - gamma * mean) / std over the positions of each image (paper section 4)."""

    gamma: Fraction = 1.0
    normaliser: Literal["std", "var"] = Field("std", description="std: std + 1e-6 (code); var: sqrt(var + eps) (text).")


class Method(Strict):
    """How the alignment is done: one row of ``workflow/methods.yaml``. ``projector: null`` is no alignment."""

    projector: Literal["mlp", "linear", "conv"] | None = None
    kernel: Literal[1, 3, 5, 7] = 3
    spatial_norm: SpatialNorm | None = None
    weight: Annotated[float, Field(ge=0)] = 0.5

    @property
    def aligned(self) -> bool:
        return self.projector is not None


class Scale(Strict):
    """Sizes of one network and of its projector."""

    depth: Positive
    width: Positive
    heads: Positive
    patch: Positive
    align_depth: Positive
    projector_hidden: Positive = 2048
    options: dict[str, dict[str, Any]] = Field(
        {}, description="By architecture: what it has beyond these sizes, for example `jit: {bottleneck: 128}`."
    )

    def transformer(self) -> dict[str, int]:
        """The sizes that every transformer takes."""
        return {name: getattr(self, name) for name in ("depth", "width", "heads", "patch", "align_depth")}

    def plugged(self, architecture: str) -> Plugged:
        """The options of one architecture at this scale."""
        return Plugged.model_validate({"name": architecture, **self.options.get(architecture, {})})


class Features(Strict):
    dtype: Literal["float16", "float32"] = "float16"
    precision: Annotated[Literal["fp32", "bf16"], Field(description="Arithmetic of the encoders.")] = "fp32"
    batch: Positive = 64
    disk_limit_gib: Annotated[
        float, Field(ge=0, description="An encoder whose training tokens would take more runs online during training.")
    ] = 100
    input_size: Positive | None = None  # pixels, for encoders that do not fix their own


class Spatial(Strict):
    """Spatial metrics: how many held-out images, and thresholds in grid steps (null: the documented rule)."""

    images: Positive
    near: Positive | None = None
    far: Positive | None = None
    slope: Positive | None = None


class Probe(Strict):
    train_images: Annotated[Positive | None, Field(description="Spread over the training images; null: all.")] = None
    c: Annotated[float, Field(gt=0)] = 1.0
    max_iter: Positive = 300


class Training(Strict):
    """Optimisation (paper section 3 has the values of the paper)."""

    steps: Positive
    batch: Positive
    lr: Annotated[float, Field(gt=0)] = 1e-4
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    grad_clip: Annotated[float, Field(gt=0)] = 1.0
    ema: Fraction = 0.9999
    label_dropout: Fraction = 0.1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    accumulation: Annotated[
        Positive, Field(description="Parts of a batch that a process works on one after another.")
    ] = 1
    processes: Annotated[Positive, Field(description="Processes that share a batch, one per GPU.")] = 1
    compile: Annotated[bool, Field(description="torch.compile: a minute at the start for faster steps.")] = False
    checkpoint_every: Annotated[Positive | None, Field(description="Steps; null: only when asked to stop.")] = None
    keep_checkpoints: Annotated[Positive, Field(description="How many, the newest; all go when the run is done.")] = 1
    tensorboard: Annotated[bool, Field(description="Write losses and samples for TensorBoard.")] = False
    log_every: Positive = 100

    @model_validator(mode="after")
    def _batch_can_be_shared(self) -> Training:
        if self.batch % (self.processes * self.accumulation):
            raise ValueError(
                f"batch ({self.batch}) must be a multiple of processes x accumulation ({self.processes} x {self.accumulation})"
            )
        return self

    def that_matter(self) -> dict[str, Any]:
        """What the result depends on, beyond the last bits of its sums: who computes it and what is kept on the way does not."""
        aside = {"processes", "checkpoint_every", "keep_checkpoints", "tensorboard"}
        return {key: value for key, value in self.model_dump(mode="json").items() if key not in aside}


class Pretraining(Plugged):
    """How the pipeline trains one of its encoders on the training images: the objective in ``irepa/objectives``."""

    encoder: str = Field(description="The row of workflow/encoders.yaml whose network is trained, and is kept whole.")
    training: Training


class Sampling(Strict):
    samples: Positive
    batch: Positive = 256
    shard: Positive = Field(16, description="Batches written at a time: an interrupted run goes on at the next shard.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Arithmetic of the network while sampling.")
    compile: Annotated[bool, Field(description="torch.compile of the network: for many samples at many steps.")] = False
    preview: Positive = Field(32, description="Samples kept for pictures when the rest is deleted.")
    keep: bool = Field(True, description="False: samples are deleted once they are evaluated.")


class Evaluation(Strict):
    extractors: Annotated[list[str], Field(min_length=1)]
    batch: Positive = 64
    input_size: Positive | None = None  # pixels, for judges that do not fix their own
    references: dict[str, Path] = Field(
        {}, description="By judge: an .npz with mu and sigma (and images, arr_0) used instead of the training images."
    )
    reference_features: Positive = Field(50_000, description="Images whose features are kept, for kernel distance etc.")
    neighbours: Positive = Field(3, description="k of precision and recall (Kynkaanniemi et al., 2019).")
    kid_subsets: Positive = 100
    kid_subset_size: Positive = 1000


class Inspection(Strict):
    """Which held-out image and anchor the self-similarity maps show, and at which noise level."""

    images: list[int] = [0]
    anchor: tuple[Fraction, Fraction] = (0.5, 0.5)
    time: Fraction = 0.25


class Experiment(Strict):
    """A named product of lists: its cells are trained once, however many experiments share them."""

    question: str
    paper: list[PaperExperiment] = Field(
        [], description="Which of the paper's experiments it stands for: the claims about those read it."
    )
    encoders: list[str] | Literal["all"] = "all"
    methods: list[str] | Literal["all"] = "all"
    scales: list[str] | Literal["all"] = "all"
    recipes: Annotated[list[str] | Literal["all"] | None, Field(description="null: the tier's first.")] = None
    seeds: Positive | None = Field(None, description="Replicates; null: the tier's number.")
    one_per_family: bool = Field(
        False, description="One encoder of each family would still answer it, with less power."
    )


class Figure(Strict):
    kind: str
    experiment: str


class JobResources(Strict):
    threads: Positive = 1
    mem_mb: Positive = 2000
    runtime: Positive = 60  # minutes
    gpus: Annotated[int, Field(ge=0)] = 0


class Tier(Strict):
    """One tier file. Nothing in the code asks which tier it is."""

    title: str
    shows: list[str]
    cannot_show: list[str]
    dataset: Dataset
    expected: Expected | None = None
    autoencoder: Autoencoder
    autoencoders: dict[str, Autoencoder] = Field({}, description="Further ones, for recipes that name them.")
    pretraining: dict[str, Pretraining] = Field({}, description="Encoders that the pipeline trains itself.")
    grid: Grid
    encoders: Annotated[list[str], Field(min_length=1)]
    methods: Annotated[list[str], Field(min_length=1)]
    scales: Annotated[dict[str, Scale], Field(min_length=1)]
    recipes: Annotated[dict[str, Recipe], Field(min_length=1)]
    seeds: Positive = 1
    features: Features = Features()
    spatial: Spatial
    probe: Probe = Probe()
    training: Training
    sampling: Sampling
    evaluation: Evaluation
    inspection: Inspection = Inspection()
    checkpoints: dict[str, Path] = Field(
        {}, description="By cell: a published SiT or REPA checkpoint that is sampled and evaluated without training."
    )
    experiments: Annotated[dict[str, Experiment], Field(min_length=1)]
    figures: dict[str, Figure]
    resources: dict[str, JobResources] = {}

    @field_validator("encoders", "methods")
    @classmethod
    def _no_duplicates(cls, value: list[str]) -> list[str]:
        twice = sorted({name for name in value if value.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} stands more than once; every name must be there once")
        return value

    @model_validator(mode="after")
    def _samples_cover_kid(self) -> Tier:
        if self.evaluation.kid_subset_size > self.sampling.samples:
            raise ValueError(
                f"evaluation.kid_subset_size ({self.evaluation.kid_subset_size}) must not exceed "
                f"sampling.samples ({self.sampling.samples})"
            )
        return self


class Params(Strict):
    """``params.yaml``: what a user changes."""

    tier: str = "demo"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    encoders: list[str] | None = Field(None, description="Replaces the tier's encoder list.")
    methods: list[str] | None = Field(None, description="Replaces the tier's method list.")
    overrides: dict[str, Any] = Field({}, description="Any key of the tier file, dotted: training.steps: 500.")
    released: Path | None = Field(
        None, description="Folder spatial-metrics-data of the authors' released statistics, as evidence for the audit."
    )
    results: str = Field("results", description="Folder of the results, relative to the repository.")

    def changes(self) -> dict[str, Any]:
        """What a user has changed of the tier file, by key, but for what jobs may take of the machine."""
        lists = {"encoders": self.encoders, "methods": self.methods}
        overrides = {key: value for key, value in self.overrides.items() if not key.startswith("resources")}
        return {key: value for key, value in lists.items() if value is not None} | overrides


class Settings(Strict):
    """The whole configuration of one tier, resolved and cross-checked."""

    params: Params
    tier: Tier
    catalogue: dict[str, EncoderEntry]
    methods: dict[str, Method]

    def autoencoder(self, recipe: str) -> Autoencoder:
        """The recipe's own autoencoder, or the tier's."""
        name = self.tier.recipes[recipe].autoencoder
        return self.tier.autoencoder if name is None else self.tier.autoencoders[name]

    def trains_autoencoder(self, recipe: str) -> str | None:
        """The recipe's autoencoder if the pipeline trains it itself, as a stage of that key; else None."""
        name = self.tier.recipes[recipe].autoencoder
        return name if name is not None and self.tier.autoencoders[name].options().get("weights") == "trained" else None

    def reads_latents(self, recipe: str) -> bool:
        """Whether the recipe learns from moments of the training images that were computed beforehand."""
        return self.tier.recipes[recipe].autoencoder is None and self.tier.autoencoder.precompute
