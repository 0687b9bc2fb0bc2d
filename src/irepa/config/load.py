"""Read the configuration and refuse, before any job starts, whatever cannot work."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from irepa.config import plugins
from irepa.config.cells import split_encoder, targets
from irepa.config.consistency import plugins_that_do_not_fit, settings_that_do_not_fit
from irepa.config.options import Plugged, named
from irepa.config.plugins import encoder_options, plugin_options
from irepa.config.read import read_yaml, validated
from irepa.config.released import take_over
from irepa.config.tier import DEFAULT, EncoderEntry, Extension, Method, Params, Settings, Tier, Training
from irepa.errors import ConfigError, gather

_Model = TypeVar("_Model", bound=BaseModel)


def _override(tier: Mapping[str, Any], key: str, parts: list[str], value: Any) -> dict[str, Any]:
    """``tier`` with the key of these parts set. A key that the tier does not know is refused later, like any other."""
    first, *rest = parts
    if not rest:
        return {**tier, first: value}
    inside = tier.get(first, {})
    if not isinstance(inside, Mapping):
        raise ConfigError(f"params.overrides: {key}: {first} is not a group of keys")
    # A new group each time: in YAML, a group may stand in several places (`<<: *jit`), and only one of them is meant.
    return {**tier, first: _override(inside, key, rest, value)}


def _merge(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the keys of ``changes``: groups of keys are merged, everything else is replaced."""
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merge(base[key], value) if both else value
    return merged


def read_tier(name: str, workflow: Path) -> dict[str, Any]:
    """The content of a tier file, with that of the one that it ``extends``. Raises ConfigError."""
    chain: list[str] = []
    layers: list[tuple[Path, dict[str, Any], Extension | None]] = []
    following: str | None = name
    while following is not None:
        if following in chain:
            raise ConfigError(f"tiers extend each other in a circle: {' -> '.join([*chain, following])}")
        if following not in tier_names(workflow):
            where = f"{workflow / 'tiers' / chain[-1]}.yaml: extends" if chain else f"{workflow / 'tiers'}"
            raise ConfigError.unknown(where, str(following), tier_names(workflow))
        chain.append(following)
        path = workflow / "tiers" / f"{following}.yaml"
        layer, extension = read_yaml(path), None
        if "extends" in layer:
            said = {key: layer.pop(key) for key in Extension.model_fields.keys() & layer.keys()}
            extension = validated(Extension, said, str(path))
        layers.append((path, layer, extension))
        following = extension.extends if extension else None
    content: dict[str, Any] = {}
    for path, layer, extension in reversed(layers):
        if extension is not None:
            content = _keep(content, extension.keeps, f"{path}: keeps")
        content = _merge(content, layer)
    return content


def _keep(content: dict[str, Any], keeps: Mapping[str, Sequence[str]], where: str) -> dict[str, Any]:
    """A tier's content with these names alone in its groups. Raises ConfigError for one that is not there."""
    for group, names in keeps.items():
        rows = content.get(group, {})
        for name in names:
            if name not in rows:
                raise ConfigError.unknown(f"{where}.{group}", name, rows)
        content = {**content, group: {name: row for name, row in rows.items() if name in names}}
    return content


def tier_names(workflow: Path) -> list[str]:
    """The files of ``workflow/tiers``, without their ending."""
    return sorted(path.stem for path in (workflow / "tiers").glob("*.yaml"))


def load_settings(params: Mapping[str, Any] | Path, workflow: Path, check_options: bool = True) -> Settings:
    """Read and check everything.

    Args:
        params: the content of ``params.yaml`` or its path.
        workflow: the folder that holds ``tiers/``, ``encoders.yaml`` and ``methods.yaml``.
        check_options: also ask every implementation in use about its options, which imports them. A job leaves that to
            the command that started the run, and checks the options that it uses itself.

    Raises ConfigError naming the file, the key, the value and what is allowed.
    """
    where = str(params) if isinstance(params, Path) else "params"
    checked = validated(Params, read_yaml(params) if isinstance(params, Path) else dict(params), where)
    if checked.tier not in tier_names(workflow):
        raise ConfigError.unknown(f"{where}: tier", checked.tier, tier_names(workflow))
    tier_path = str(workflow / "tiers" / f"{checked.tier}.yaml")
    settings = Settings(
        params=checked,
        tier=validated(Tier, _changed(read_tier(checked.tier, workflow), checked), tier_path),
        catalogue=_table(EncoderEntry, workflow / "encoders.yaml"),
        methods=_table(Method, workflow / "methods.yaml"),
    )
    _refuse(_wrong_names(settings, tier_path))
    settings = take_over(settings, tier_path)
    _refuse(f"{tier_path}: {message}" for message in settings_that_do_not_fit(settings))
    if check_options:
        _check_plugins(settings, tier_path)
    return settings


def _changed(content: dict[str, Any], params: Params) -> dict[str, Any]:
    """A tier file's content with what ``params.yaml`` changes of it."""
    for key in params.overrides:
        first, *rest = key.split(".")
        if first == "training":
            content = _with_one_training(content, rest[:1])
    for key, value in params.overrides.items():
        content = _override(content, key, key.split("."), value)
    lists = {"encoders": params.encoders, "methods": params.methods}
    content |= {key: names for key, names in lists.items() if names is not None}
    for group in ("experiments", "figures"):  # null takes out what the tier, or one that it extends, has
        if isinstance(content.get(group), dict):
            content[group] = {name: row for name, row in content[group].items() if row is not None}
    return content


def _with_one_training(content: dict[str, Any], key: list[str]) -> dict[str, Any]:
    """A tier's content whose recipes set this key of ``training`` no more, or none of it: what a user overrides is for all."""

    def without(row: Any) -> Any:
        if not isinstance(row, Mapping) or not isinstance(row.get("training"), Mapping):
            return row
        return {**row, "training": {name: value for name, value in row["training"].items() if key and name not in key}}

    recipes = content.get("recipes")
    return (
        {**content, "recipes": {name: without(row) for name, row in recipes.items()}}
        if isinstance(recipes, Mapping)
        else content
    )


def _table(model: type[_Model], path: Path) -> dict[str, _Model]:
    def row(name: str, content: Any) -> _Model:
        try:
            named(name)
        except ValueError as error:
            raise ConfigError(f"{path}: {name!r}: {error}") from None
        return validated(model, content or {}, f"{path}: {name}")

    return {str(name): row(str(name), content) for name, content in read_yaml(path).items()}


def _unknown(where: str, names: Iterable[str | None], allowed: Iterable[str]) -> Iterator[str]:
    """A message for every name that is not allowed; None names nothing."""
    allowed = list(allowed)
    yield from (
        str(ConfigError.unknown(where, name, allowed)) for name in names if name is not None and name not in allowed
    )


def _listed(names: list[str] | str | None) -> list[str]:
    """The names that an experiment's list has; ``all`` and null have none."""
    return names if isinstance(names, list) else []


def _refuse(messages: Iterable[str]) -> None:
    """Raises ConfigError, a line for each thing that is wrong."""
    lines = list(dict.fromkeys(messages))
    if lines:
        raise ConfigError("\n".join(lines))


def _wrong_names(settings: Settings, where: str) -> Iterator[str]:
    """Every name that refers to something refers to something that exists."""
    tier = settings.tier
    yield from _unknown(f"{where}: methods", tier.methods, settings.methods)
    yield from _unknown(f"{where}: evaluation.extractors", tier.evaluation.extractors, settings.catalogue)
    yield from _unknown(f"{where}: evaluation.references", tier.evaluation.references, tier.evaluation.extractors)
    for name in tier.evaluation.extractors:
        key = f"{where}: evaluation.extractors: {name}: weights trained:"
        trained_by = settings.catalogue[name].trained_by if name in settings.catalogue else None
        yield from _unknown(key, [trained_by], tier.pretraining)
    for name, autoencoder in tier.autoencoders.items():
        if autoencoder.precompute and autoencoder.trained_here:
            yield f"{where}: autoencoders.{name}.precompute = true: not of one that the pipeline trains"
        if name == DEFAULT:
            yield f"{where}: autoencoders.{name}: this name stands for the tier's `autoencoder`; give it another"
    if tier.autoencoder.trained_here:
        yield f"{where}: autoencoder.weights = trained: only one of `autoencoders` can be, which a recipe then names"
    for name, pretraining in tier.pretraining.items():
        yield from _unknown(f"{where}: pretraining.{name}.encoder", [pretraining.encoder], settings.catalogue)
    for name in tier.recipes:
        yield from _wrong_recipe(tier, name, f"{where}: recipes.{name}")
    for name, experiment in tier.experiments.items():
        key = f"{where}: experiments.{name}"
        yield from _unknown(f"{key}.methods", _listed(experiment.methods), settings.methods)
        yield from _unknown(f"{key}.scales", _listed(experiment.scales), tier.scales)
        yield from _unknown(f"{key}.recipes", _listed(experiment.recipes), tier.recipes)
    for name, figure in tier.figures.items():
        yield from _unknown(f"{where}: figures.{name}.kind", [figure.kind], plugins.names("figures"))
        yield from _unknown(f"{where}: figures.{name}.experiment", [figure.experiment], tier.experiments)
    for base in sorted({split_encoder(target)[0] for target in targets(settings)}):
        yield from _wrong_target(settings, base, f"{where}: encoders")


def _wrong_recipe(tier: Tier, name: str, where: str) -> Iterator[str]:
    recipe = tier.recipes[name]
    yield from map(str, gather([functools.partial(_training_of, tier, name, where)]))
    yield from _unknown(f"{where}.architecture", [recipe.architecture], plugins.names("architectures"))
    yield from _unknown(f"{where}.autoencoder", [recipe.autoencoder], tier.autoencoders)
    if recipe.trained_as is None:
        return
    if recipe.trained_as not in tier.recipes or recipe.trained_as == name:
        yield from _unknown(f"{where}.trained_as", [recipe.trained_as], set(tier.recipes) - {name})
        return
    source = tier.recipes[recipe.trained_as]
    if source.trained_as is not None:
        yield f"{where}.trained_as = {recipe.trained_as} is not trained itself"
    steps = (tier.training.model_dump() | source.training)["steps"]
    if recipe.at is not None and recipe.at >= steps:
        yield f"{where}.at = {recipe.at} must be smaller than training.steps = {steps}; null is the last step"
    same = {"name", "architecture", "autoencoder", "training"}
    if recipe.model_dump(include=same) != source.model_dump(include=same):
        yield f"{where}.trained_as = {recipe.trained_as}: name, architecture, autoencoder and training must be the same"
    if set(recipe.shared) - {"sampling"} != set(source.shared) - {"sampling"}:
        yield f"{where}.trained_as = {recipe.trained_as}: of shared, only sampling may differ from that recipe's"


def _training_of(tier: Tier, recipe: str, where: str) -> None:
    """Raises ConfigError where what the recipe says of its training cannot be."""
    own = tier.recipes[recipe].training
    validated(Training, {**tier.training.model_dump(), **own}, f"{where}.training")


def _wrong_target(settings: Settings, name: str, where: str) -> Iterator[str]:
    """An alignment target is in the catalogue, and what it is made from exists, however many rows lie between."""
    chain: list[str] = []
    following: str | None = name
    while following is not None:
        if following in chain:
            yield f"encoders.yaml: {name}: base: rows name each other in a circle: {' -> '.join([*chain, following])}"
            return
        chain.append(following)
        if following not in settings.catalogue:
            key = where if following == name else f"encoders.yaml: {chain[-2]}: base"
            yield from _unknown(key, [following], settings.catalogue)
            return
        entry = settings.catalogue[following]
        yield from _unknown(f"{where}: {following}: weights trained:", [entry.trained_by], settings.tier.pretraining)
        if entry.evaluation_only:
            yield f"{where}: {following} is kept for evaluation and may not be an alignment target"
        following = entry.base


def _check_plugins(settings: Settings, where: str) -> None:
    """Every implementation that the tier names accepts its options. Raises ConfigError, a line for each that does not."""
    tier = settings.tier
    asked: list[tuple[str, Plugged, str]] = [
        ("autoencoders", tier.autoencoder, "autoencoder"),
        *(("autoencoders", row, f"autoencoders.{name}") for name, row in tier.autoencoders.items()),
        *(("recipes", row, f"recipes.{name}") for name, row in tier.recipes.items()),
        *(("samplers", row.sampler, f"recipes.{name}.sampler") for name, row in tier.recipes.items()),
        *(
            ("architectures", scale.plugged(architecture), f"scales.{name}.options.{architecture}")
            for name, scale in tier.scales.items()
            for architecture in scale.options
        ),
        *(("objectives", row, f"pretraining.{name}") for name, row in tier.pretraining.items()),
        ("data", tier.dataset, "dataset"),
    ]
    checks = [functools.partial(plugin_options, kind, row, f"{where}: {key}") for kind, row, key in asked]
    sizes = {split_encoder(name)[0]: tier.features.input_size for name in targets(settings)}
    sizes |= dict.fromkeys(tier.evaluation.extractors, tier.evaluation.input_size)
    checks += [
        functools.partial(encoder_options, settings.catalogue[name], size, f"encoders.yaml: {name}")
        for name, size in sorted(sizes.items())
    ]
    _refuse(map(str, gather(checks)))
    for key, row in {
        "autoencoder": tier.autoencoder,
        **{f"autoencoders.{k}": v for k, v in tier.autoencoders.items()},
    }.items():
        if not plugins.load("autoencoders", row.name, where).PRECOMPUTABLE:
            if row.precompute:
                raise ConfigError(f"{where}: {key}.precompute = true: {row.name} has no moments to compute")
            if row.normalisation is not None:
                raise ConfigError(
                    f"{where}: {key}.normalisation = {row.normalisation}: {row.name} has no latents to normalise"
                )
    _refuse(f"{where}: {message}" for message in plugins_that_do_not_fit(settings))
