"""Read the configuration and refuse, before any job starts, whatever cannot work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from irepa.config import plugins
from irepa.config.cells import cells, split_encoder, targets
from irepa.config.plugins import encoder_options, plugin_options
from irepa.config.read import read_yaml, validated
from irepa.config.tier import EncoderEntry, Method, Params, Settings, Tier
from irepa.errors import ConfigError

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
    layers: list[dict[str, Any]] = []
    following: str | None = name
    while following is not None:
        if following in chain:
            raise ConfigError(f"tiers extend each other in a circle: {' -> '.join([*chain, following])}")
        if following not in tier_names(workflow):
            where = f"{workflow / 'tiers' / chain[-1]}.yaml: extends" if chain else f"{workflow / 'tiers'}"
            raise ConfigError.unknown(where, str(following), tier_names(workflow))
        chain.append(following)
        layers.append(read_yaml(workflow / "tiers" / f"{following}.yaml"))
        following = layers[-1].pop("extends", None)
    content: dict[str, Any] = {}
    for layer in reversed(layers):
        content = _merge(content, layer)
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
    _check_names(settings, tier_path)
    if check_options:
        _check_plugins(settings, tier_path)
    return settings


def _changed(content: dict[str, Any], params: Params) -> dict[str, Any]:
    """A tier file's content with what ``params.yaml`` changes of it."""
    for key, value in params.overrides.items():
        content = _override(content, key, key.split("."), value)
    lists = {"encoders": params.encoders, "methods": params.methods}
    content |= {key: names for key, names in lists.items() if names is not None}
    for group in ("experiments", "figures"):  # null takes out what the tier, or one that it extends, has
        if isinstance(content.get(group), dict):
            content[group] = {name: row for name, row in content[group].items() if row is not None}
    return content


def _table(model: type[_Model], path: Path) -> dict[str, _Model]:
    return {name: validated(model, row or {}, f"{path}: {name}") for name, row in read_yaml(path).items()}


def _refuse_unknown(where: str, names: Iterable[str | None], allowed: Iterable[str]) -> None:
    """Raises ConfigError at the first name that is not allowed; None names nothing."""
    allowed = list(allowed)
    for name in names:
        if name is not None and name not in allowed:
            raise ConfigError.unknown(where, name, allowed)


def _listed(names: list[str] | str | None) -> list[str]:
    """The names that an experiment's list has; ``all`` and null have none."""
    return names if isinstance(names, list) else []


def _check_names(settings: Settings, where: str) -> None:
    """Every name that refers to something refers to something that exists."""
    tier = settings.tier
    _refuse_unknown(f"{where}: methods", tier.methods, settings.methods)
    _refuse_unknown(f"{where}: evaluation.extractors", tier.evaluation.extractors, settings.catalogue)
    for name, autoencoder in tier.autoencoders.items():
        if autoencoder.precompute:
            raise ConfigError(f"{where}: autoencoders.{name}.precompute = true: only the tier's `autoencoder` can be")
    for name, pretraining in tier.pretraining.items():
        _refuse_unknown(f"{where}: pretraining.{name}.encoder", [pretraining.encoder], settings.catalogue)
    for name in tier.recipes:
        _check_recipe(tier, name, f"{where}: recipes.{name}")
    for name, experiment in tier.experiments.items():
        key = f"{where}: experiments.{name}"
        _refuse_unknown(f"{key}.methods", _listed(experiment.methods), settings.methods)
        _refuse_unknown(f"{key}.scales", _listed(experiment.scales), tier.scales)
        _refuse_unknown(f"{key}.recipes", _listed(experiment.recipes), tier.recipes)
    for name, figure in tier.figures.items():
        _refuse_unknown(f"{where}: figures.{name}.kind", [figure.kind], plugins.names("figures"))
        _refuse_unknown(f"{where}: figures.{name}.experiment", [figure.experiment], tier.experiments)
    for target in targets(settings):
        _check_target(settings, split_encoder(target)[0], f"{where}: encoders")
    if not cells(settings):
        raise ConfigError(f"{where}: the experiments name no training run")


def _check_recipe(tier: Tier, name: str, where: str) -> None:
    recipe = tier.recipes[name]
    _refuse_unknown(f"{where}.architecture", [recipe.architecture], plugins.names("architectures"))
    _refuse_unknown(f"{where}.autoencoder", [recipe.autoencoder], tier.autoencoders)
    if recipe.trained_as is None:
        return
    _refuse_unknown(f"{where}.trained_as", [recipe.trained_as], set(tier.recipes) - {name})
    source = tier.recipes[recipe.trained_as]
    if source.trained_as is not None:
        raise ConfigError(f"{where}.trained_as = {recipe.trained_as} is not trained itself")
    if recipe.at is not None and recipe.at >= tier.training.steps:
        raise ConfigError(
            f"{where}.at = {recipe.at} must be smaller than training.steps = {tier.training.steps}; null is the last step"
        )
    same = ("name", "architecture", "autoencoder")
    if recipe.model_dump(include=set(same)) != source.model_dump(include=set(same)):
        raise ConfigError(
            f"{where}.trained_as = {recipe.trained_as}: name, architecture and autoencoder must be the same"
        )


def _check_target(settings: Settings, name: str, where: str) -> None:
    """An alignment target is in the catalogue, and what it is made from exists."""
    _refuse_unknown(where, [name], settings.catalogue)
    entry = settings.catalogue[name]
    _refuse_unknown(f"{where}: {name}: weights trained:", [entry.trained_by], settings.tier.pretraining)
    _refuse_unknown(f"encoders.yaml: {name}: base", [entry.base], settings.catalogue)
    if entry.evaluation_only:
        raise ConfigError(f"{where}: {name} is kept for evaluation and may not be an alignment target")


def _check_plugins(settings: Settings, where: str) -> None:
    """Every implementation that the tier names accepts its options."""
    tier = settings.tier
    plugin_options("autoencoders", tier.autoencoder, f"{where}: autoencoder")
    for name, autoencoder in tier.autoencoders.items():
        plugin_options("autoencoders", autoencoder, f"{where}: autoencoders.{name}")
    module = plugins.load("autoencoders", tier.autoencoder.name, where)
    if tier.autoencoder.precompute and not module.PRECOMPUTABLE:
        raise ConfigError(f"{where}: autoencoder.precompute = true: {tier.autoencoder.name} has no moments to compute")
    for name, recipe in tier.recipes.items():
        plugin_options("recipes", recipe, f"{where}: recipes.{name}")
        plugin_options("samplers", recipe.sampler, f"{where}: recipes.{name}.sampler")
    for name, scale in tier.scales.items():
        for architecture in scale.options:
            key = f"scales.{name}.options.{architecture}"
            plugin_options("architectures", scale.plugged(architecture), f"{where}: {key}")
    for name, pretraining in tier.pretraining.items():
        plugin_options("objectives", pretraining, f"{where}: pretraining.{name}")
    encoders_in_use(settings)
    plugin_options("data", tier.dataset, f"{where}: dataset")


def encoders_in_use(settings: Settings) -> list[tuple[str, Any]]:
    """Every encoder and judge of the tier with its validated options, by name. Raises ConfigError."""
    tier = settings.tier
    sizes = {split_encoder(name)[0]: tier.features.input_size for name in targets(settings)}
    sizes |= dict.fromkeys(tier.evaluation.extractors, tier.evaluation.input_size)
    return [
        (name, encoder_options(settings.catalogue[name], size, f"encoders.yaml: {name}"))
        for name, size in sorted(sizes.items())
    ]
