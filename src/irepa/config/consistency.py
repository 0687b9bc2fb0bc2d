"""What settings ask of each other: combinations that are valid one by one and cannot work together.

Each function yields a message per thing that is wrong, without the file's name: key, value, what is allowed. The same numbers are
asked for twice, of what the settings say before a run starts, and of what the images are once they have been read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from irepa.config import plugins
from irepa.config.cells import NO_ENCODER, Cell, cells, early_steps, experiment_cells, split_encoder, targets
from irepa.config.options import Shape
from irepa.config.plugins import offered, plugin_options
from irepa.config.tier import Pretraining, Settings, Tier
from irepa.errors import ConfigError, IrepaError
from irepa.thresholds import Thresholds

SPLITS = 10  # parts of the samples whose Inception Scores are averaged


def settings_that_do_not_fit(settings: Settings) -> Iterator[str]:
    """What needs no implementation to be imported."""
    tier = settings.tier
    for name, experiment in tier.experiments.items():
        if not experiment_cells(settings, experiment):
            yield f"experiments.{name} names no training run: one of its lists is empty"
        seeds = experiment.seeds or tier.seeds
        if experiment.holdout >= seeds:
            yield f"experiments.{name}.holdout = {experiment.holdout}: of {seeds} seeds at least 1 must be tested"
    for key in tier.checkpoints:
        yield from _checkpoint_key(settings, key)
    yield from _grid(tier)
    yield from _judges(settings)
    for name, pretraining in tier.pretraining.items():
        if pretraining.images == "judge" and not tier.dataset.judge_images:
            yield f"pretraining.{name}.images = judge: dataset.judge_images = 0 sets none aside"
        if pretraining.training.label_dropout:
            value = pretraining.training.label_dropout
            yield f"pretraining.{name}.training.label_dropout = {value}: an encoder has no null class; it must be 0"
    images = tier.inspection.images
    if len(set(images)) < len(images):
        yield f"inspection.images = {images}: every image must be there once"
    yield from too_few_images(tier, None, None)


def most_images(tier: Tier) -> tuple[int | None, int | None]:
    """The most training and held-out images that the dataset's options allow; None where they set no limit."""
    train, test = offered("data", tier.dataset.name, "at_most", lambda options: (None, None))(
        plugin_options("data", tier.dataset, "dataset")
    )
    return None if train is None else max(0, train - tier.dataset.judge_images), test


def too_few_images(tier: Tier, train: int | None, test: int | None) -> Iterator[str]:
    """What the numbers of training and held-out images do not allow; None: not known, or more than enough."""
    evaluation, fitted = tier.evaluation, tier.probe.train_images
    if train is not None:
        if train < 2 and fitted is not None:
            yield f"dataset: {train} training images, the probe needs at least 2"
        of_data = [name for name in evaluation.extractors if name not in evaluation.references]
        if of_data and train <= evaluation.neighbours:
            yield (
                f"dataset: {train} training images, evaluation.neighbours = {evaluation.neighbours} needs at least "
                f"{evaluation.neighbours + 1} to compare samples with; give more, or lower it"
            )
    if test is not None and test < 1:
        yield "dataset: no held-out images"


def too_few_classes(tier: Tier, labels: Sequence[int]) -> Iterator[str]:
    """The probe tells classes apart: ``labels`` are those of the training images that it is fitted to."""
    seen = len(set(labels))
    if seen < 2:
        yield (
            f"dataset: {seen} class among the {len(labels)} training images that the probe is fitted to (probe.train_images = "
            f"{tier.probe.train_images}); it needs at least 2"
        )


def images_that_do_not_fit(settings: Settings, train: int, fitted: Sequence[int], test: int) -> Iterator[str]:
    """What a dataset that has been read does not allow.

    Args:
        train, test: numbers of its training and held-out images.
        fitted: labels of the training images that the probe is fitted to.
    """
    yield from too_few_images(settings.tier, train, test)
    yield from too_few_classes(settings.tier, fitted)
    yield from _figures(settings, test)


def _checkpoint_key(settings: Settings, key: str) -> Iterator[str]:
    """A key of ``checkpoints`` is a cell of an experiment whose weights nothing but its own training would give."""
    tier, where = settings.tier, f"checkpoints: {key}"
    try:
        cell = Cell.parse(key)
    except ConfigError as error:
        yield f"checkpoints: {error}"
        return
    wrong = [
        (name, value, allowed)
        for name, value, allowed in (
            ("recipe", cell.recipe, sorted(tier.recipes)),
            ("scale", cell.scale, sorted(tier.scales)),
            ("encoder", cell.encoder, [NO_ENCODER, *targets(settings)]),
            ("method", cell.method, sorted(settings.methods)),
        )
        if value not in allowed
    ]
    for name, value, allowed in wrong:
        yield str(ConfigError.unknown(f"{where}: {name}", value, allowed))
    if wrong:
        return
    known = {str(cell) for experiment in tier.experiments.values() for cell in experiment_cells(settings, experiment)}
    if key not in known:
        alike = sorted(known, key=lambda other: (-_in_common(other, key), other))[:3]
        yield f"{where} is no training run of the tier: no experiment names it; the nearest are {', '.join(alike)}"
        return
    other = tier.recipes[cell.recipe].trained_as
    if other is not None:
        yield f"{where}: {cell.recipe} is trained_as {other}: give the checkpoint to that recipe's run"


def _in_common(one: str, other: str) -> int:
    return sum(a == b for a, b in zip(one.split("/"), other.split("/"), strict=True))


def _grid(tier: Tier) -> Iterator[str]:
    """Tokens lie on whole pixels, and distances on the grid are those that the spatial metrics ask for."""
    (rows, columns), size = tier.grid, tier.dataset.image_size
    if size % rows or size % columns:
        yield f"grid = [{rows}, {columns}] does not divide dataset.image_size = {size}: each token covers whole pixels"
    spatial = tier.spatial
    limits = Thresholds.for_grid(rows, columns, near=spatial.near, far=spatial.far, slope=spatial.slope)
    longest = rows + columns - 2
    told = f"on a grid of {rows}x{columns}, whose longest distance is {longest}"
    if limits.far > longest:
        yield f"spatial.far = {limits.far} {told}; it must be at most that"
    if not 2 <= limits.slope <= longest:
        yield f"spatial.slope = {limits.slope} {told}; it must be in 2..{longest}"
    if limits.near >= limits.far:
        yield f"spatial.near = {limits.near} must be smaller than spatial.far = {limits.far}"


def _judges(settings: Settings) -> Iterator[str]:
    """Every judge has a name of its own and weights that are there before the tier runs."""
    tier = settings.tier
    called: dict[str, str] = {}
    for name in tier.evaluation.extractors:
        entry = settings.catalogue[name]
        where = f"evaluation.extractors: {name}"
        metric = entry.metric_name("FID")
        if metric in called:
            yield f"{where} and {called[metric]} would both give {metric}"
        called.setdefault(metric, name)
        trained = tier.pretraining.get(entry.trained_by or "")
        if trained is not None and trained.images != "judge":
            yield (
                f"{where}: weights = trained:{entry.trained_by}: pretraining.{entry.trained_by}.images = {trained.images}: a "
                "judge has not seen what generative models and targets are trained on; it must be judge"
            )
        if entry.gives_inception_score and tier.sampling.samples < SPLITS:
            yield (
                f"sampling.samples = {tier.sampling.samples}: the Inception Score of {name} is a mean over {SPLITS} parts of "
                f"the samples and needs at least {SPLITS}"
            )


def plugins_that_do_not_fit(settings: Settings) -> Iterator[str]:
    """What the tier's implementations ask of each other; their options have been validated."""
    tier = settings.tier
    train, test = most_images(tier)
    yield from too_few_images(tier, train, test)
    for recipe in dict.fromkeys(cell.recipe for cell in cells(settings)):
        yield from _recipe(settings, recipe)
    for recipe, scale in dict.fromkeys((cell.recipe, cell.scale) for cell in cells(settings)):
        yield from _network(settings, recipe, scale)
    for key in tier.checkpoints:
        yield from _adopts(settings, key)
    yield from _flips(settings)
    yield from _uses(settings)
    for name in tier.pretraining:
        yield from _pretrained_network(settings, name)
    for name in targets(settings):
        yield from _transforms(settings, name)
    yield from _figures(settings, test)


def _recipe(settings: Settings, name: str) -> Iterator[str]:
    """The network and the autoencoder can do what the recipe asks of them."""
    tier, chosen, where = settings.tier, settings.tier.recipes[name], f"recipes.{name}"
    recipe = plugins.contract("recipes").build_recipe(tier, name)
    if recipe.needs_span and not offered("architectures", chosen.architecture, "TAKES_SPAN", False):
        able = [one for one in plugins.names("architectures") if offered("architectures", one, "TAKES_SPAN", False)]
        yield (
            f"{where}.architecture = {chosen.architecture}: {chosen.name} needs a network that is told two times; allowed are "
            f"{', '.join(able)}"
        )
    autoencoder = settings.autoencoder(name)
    if recipe.tunes_autoencoder:
        if not plugins.load("autoencoders", autoencoder.name, where).PRECOMPUTABLE:
            yield f"{where}: {chosen.name} trains the autoencoder along, and {autoencoder.name} has no weights to train"
        elif autoencoder.precompute:
            key = "the tier's `autoencoder`" if chosen.autoencoder is None else f"autoencoders.{chosen.autoencoder}"
            yield (
                f"{where}: {chosen.name} trains the autoencoder along, and latents of {key} are computed "
                f"beforehand (precompute = true); name another of `autoencoders` under {where}.autoencoder"
            )
    dropout = tier.training_of(name).label_dropout
    own = any(cell.recipe == name and not tier.adopts(str(cell)) for cell in cells(settings))
    if recipe.uses_null_class and own and dropout == 0:
        yield (
            f"{where}: the guidance in the target of {chosen.name} needs training.label_dropout > 0: without it the network "
            "never learns what no class looks like"
        )
    if chosen.guidance is not None and chosen.guidance.scale > 1 and own and dropout == 0:
        yield (
            f"{where}.guidance.scale = {chosen.guidance.scale} needs training.label_dropout > 0: without it the network never "
            "learns what no class looks like"
        )


def _network(settings: Settings, recipe: str, scale: str) -> Iterator[str]:
    """The sizes of a scale fit the latents, the grid and each other."""
    tier, autoencoder = settings.tier, settings.autoencoder(recipe)
    architecture, sizes = tier.recipes[recipe].architecture, tier.scales[scale]
    try:
        shape: Shape | None = offered("autoencoders", autoencoder.name, "shape_of", lambda options, size: None)(
            plugin_options("autoencoders", autoencoder, "autoencoder"), tier.dataset.image_size
        )
        options = plugin_options("architectures", sizes.plugged(architecture), f"scales.{scale}.options.{architecture}")
        if shape is not None:
            offered("architectures", architecture, "check", lambda *arguments: None)(options, sizes, shape, tier.grid)
    except IrepaError as error:
        yield f"scales.{scale} with recipes.{recipe}: {error}"


def _adopts(settings: Settings, key: str) -> Iterator[str]:
    """Published checkpoints are of a SiT that predicts the velocity, after its last step."""
    name, where = Cell.parse(key).recipe, f"checkpoints: {key}"
    chosen, recipe = settings.tier.recipes[name], plugins.contract("recipes").build_recipe(settings.tier, name)
    if not recipe.adopts_published:
        yield f"{where}: published checkpoints are of the recipe sit; {chosen.name} cannot take one over"
    elif not offered("architectures", chosen.architecture, "ADOPTS_PUBLISHED", False):
        yield f"{where}: published checkpoints are of a sit, not of {chosen.architecture}"
    yield from _convention(settings, name, where)
    steps = early_steps(settings, key)
    if steps:
        yield f"{where}: other recipes draw from its weights after {steps} steps, which a published checkpoint does not have"


def _convention(settings: Settings, recipe: str, where: str) -> Iterator[str]:
    """How the latents of a published checkpoint were normalised is known to whoever adopts it, and to nobody else."""
    autoencoder, name = settings.autoencoder(recipe), settings.tier.recipes[recipe].autoencoder
    key = "autoencoder" if name is None else f"autoencoders.{name}"
    has_latents = plugins.load("autoencoders", autoencoder.name, key).PRECOMPUTABLE
    if has_latents and autoencoder.normalisation not in ("scalar", "file"):
        yield (
            f"{where}: {key}.normalisation = {autoencoder.normalisation or 'null'} does not say how the latents of its training "
            "were normalised; set `normalisation: scalar` for checkpoints of SiT and REPA (0.18215 and 0 for SD-VAE), or "
            "`normalisation: file` and `statistics: PATH` where a statistics file was published beside them (REPA-E, iREPA); a "
            "recipe may name an autoencoder of its own for it"
        )


def _flips(settings: Settings) -> Iterator[str]:
    """Who flips images needs an encoder that sees images."""
    for key in dict.fromkeys((cell.recipe, cell.encoder) for cell in cells(settings) if cell.encoder != NO_ENCODER):
        base = split_encoder(key[1])[0]
        if settings.tier.training_of(key[0]).flips and settings.catalogue[base].base is not None:
            yield (
                f"recipes.{key[0]}: training.flips = true: {base} is fitted to stored tokens of another encoder and cannot see "
                "an image in a mirror; set it to false, or leave the encoder out of the recipe's experiments"
            )
    for name, pretraining in settings.tier.pretraining.items():
        if pretraining.training.flips:
            yield f"pretraining.{name}.training.flips = true: an objective changes images by itself; it must be false"


def _uses(settings: Settings) -> Iterator[str]:
    """Every row of encoders.yaml can be put to what the tier wants of it."""
    tier = settings.tier
    uses: dict[str, str] = {}
    for base in {split_encoder(target)[0] for target in targets(settings)}:
        uses[base] = "encoder" if settings.catalogue[base].base is None else "fit"
    uses |= dict.fromkeys(tier.evaluation.extractors, "judge")
    for name, use in sorted(uses.items()):
        entry = settings.catalogue[name]
        try:
            declared = plugins.contract("encoders").Declared.of(name, entry, None)
            declared.check_use(use)
        except ConfigError as error:
            yield str(error)
            continue
        try:
            declared.library.check_grid(declared.options, tier.grid, tier.dataset.image_size)
        except ConfigError as error:
            yield f"encoders.yaml: {name}: {error}"
        if use == "judge" and entry.judge is None:
            yield f"evaluation.extractors: {name}: its row of encoders.yaml has no `judge`, the name that its metrics get"


def check_classes(pretraining: Pretraining, classes: int, where: str) -> None:
    """Raises ConfigError where an objective's options do not fit so many classes: its module's ``check``, where it has one."""
    try:
        offered("objectives", pretraining.name, "check", lambda options, classes: None)(
            plugin_options("objectives", pretraining, where), classes
        )
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}") from error


def _pretrained_network(settings: Settings, name: str) -> Iterator[str]:
    """What the pipeline trains is a network that can be trained for the objective."""
    chosen, where = settings.tier.pretraining[name], f"pretraining.{name}"
    library = settings.catalogue[chosen.encoder].library
    trains = plugins.load("encoders", library, f"encoders.yaml: {chosen.encoder}").LIBRARY.trains
    if trains is None:
        yield (
            f"{where}.encoder = {chosen.encoder}: the pipeline trains no network of library {library}; allowed is a row of "
            "library timm-vit or timm"
        )
    elif trains != "patches" and offered("objectives", chosen.name, "HIDES_PATCHES", False):
        others = [one for one in plugins.names("objectives") if not offered("objectives", one, "HIDES_PATCHES", False)]
        yield (
            f"{where}.encoder = {chosen.encoder}: {chosen.name} leaves patches out, which a network of library {library} needs; "
            f"allowed is a row of library timm-vit; such a network is trained by one of {', '.join(others)}"
        )
    if settings.tier.expected is not None:
        try:
            check_classes(chosen, settings.tier.expected.classes, where)
        except ConfigError as error:
            yield str(error)
    for target in targets(settings):
        entry = settings.catalogue[split_encoder(target)[0]]
        if entry.trained_by == name and chosen.images == "judge":
            yield f"encoder {target}: pretraining.{name}.images = judge: what such images train judges, and is no target"


def _transforms(settings: Settings, name: str) -> Iterator[str]:
    """A transform that needs a global token follows an encoder that gives one."""
    base, transforms = split_encoder(name)
    needing = [one for one, _ in transforms if offered("transforms", one, "NEEDS_GLOBAL_TOKEN", False)]
    entry = settings.catalogue[base]
    if not needing or entry.base is not None:  # tokens that are fitted have their mean for one
        return
    encoder = plugins.load("encoders", entry.library, base).LIBRARY.encoder
    if encoder is not None and not encoder.has_global_token:
        yield f"encoder {name}: {', '.join(needing)} needs a global token, and {base} (library {entry.library}) gives none"


def _figures(settings: Settings, test: int | None) -> Iterator[str]:
    """Every figure has the runs that it draws, and whatever looks into networks the images that it shows."""
    tier, maps = settings.tier, []
    for name, figure in tier.figures.items():
        where = f"figures.{name}"
        module = plugins.load("figures", figure.kind, where)
        try:
            offered("figures", figure.kind, "check", lambda settings, experiment: None)(settings, figure.experiment)
        except ConfigError as error:
            yield f"{where}: {error}"
            continue
        if any(job.stage == "inspect" for job in module.needs(settings, figure.experiment)):
            maps.append(where)
    maps += [f"experiments.{name}" for name, experiment in tier.experiments.items() if experiment.inspect]
    shown = min(tier.spatial.images, math.inf if test is None else test)
    beyond = [image for image in tier.inspection.images if image >= shown]
    if maps and beyond:
        yield (
            f"inspection.images = {tier.inspection.images}: {beyond} lie beyond the {shown} images of spatial.images (or of the "
            f"dataset); allowed are 0 to {shown - 1} ({', '.join(maps)})"
        )
