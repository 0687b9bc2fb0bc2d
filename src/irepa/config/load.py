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
from irepa.config.tier import ALL, EncoderEntry, Method, Params, Settings, Tier
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
    """A tier file; one that ``extends`` another has only what differs. Raises ConfigError."""
    seen: list[str] = []
    layers: list[dict[str, Any]] = []
    following: str | None = name
    while following is not None:
        if following in seen:
            raise ConfigError(f"tiers extend each other in a circle: {' -> '.join([*seen, following])}")
        if following not in tier_names(workflow):
            raise ConfigError.unknown(f"{workflow / 'tiers' / seen[-1]}.yaml: extends", following, tier_names(workflow))
        seen.append(following)
        layers.append(read_yaml(workflow / "tiers" / f"{following}.yaml"))
        following = layers[-1].pop("extends", None)
    raw: dict[str, Any] = {}
    for layer in reversed(layers):
        raw = _merge(raw, layer)
    return raw


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
    chosen = validated(Params, read_yaml(params) if isinstance(params, Path) else dict(params), where)
    if chosen.tier not in tier_names(workflow):
        raise ConfigError.unknown(f"{where}: tier", chosen.tier, tier_names(workflow))
    tier_path = workflow / "tiers" / f"{chosen.tier}.yaml"
    raw = read_tier(chosen.tier, workflow)
    for key, value in chosen.overrides.items():
        raw = _override(raw, key, key.split("."), value)
    for name in ("encoders", "methods"):
        if getattr(chosen, name) is not None:
            raw[name] = getattr(chosen, name)
    for group in ("experiments", "figures"):  # null takes out what the tier, or one that it extends, has
        if isinstance(raw.get(group), dict):
            raw[group] = {name: row for name, row in raw[group].items() if row is not None}
    settings = Settings(
        params=chosen,
        tier=validated(Tier, raw, str(tier_path)),
        catalogue=_table(EncoderEntry, workflow / "encoders.yaml"),
        methods=_table(Method, workflow / "methods.yaml"),
    )
    _check_names(settings, str(tier_path))
    if check_options:
        _check_plugins(settings, str(tier_path))
    return settings


def _table(model: type[_Model], path: Path) -> dict[str, _Model]:
    return {name: validated(model, row or {}, f"{path}: {name}") for name, row in read_yaml(path).items()}


def _present(value: str | None) -> list[str]:
    return [] if value is None else [value]


def _known(where: str, values: Iterable[str], allowed: Iterable[str]) -> None:
    allowed = list(allowed)
    for value in values:
        if value not in allowed:
            raise ConfigError.unknown(where, value, allowed)


def _check_names(settings: Settings, where: str) -> None:
    """Every name that refers to something refers to something that exists."""
    tier = settings.tier
    _known(f"{where}: methods", tier.methods, settings.methods)
    _known(f"{where}: evaluation.extractors", tier.evaluation.extractors, settings.catalogue)
    for name, other in tier.autoencoders.items():
        if other.precompute:
            raise ConfigError(f"{where}: autoencoders.{name}.precompute = true: only the tier's `autoencoder` can be")
    for name, chosen in tier.pretraining.items():
        _known(f"{where}: pretraining.{name}.encoder", [chosen.encoder], settings.catalogue)
    for name, recipe in tier.recipes.items():
        _known(f"{where}: recipes.{name}.architecture", [recipe.architecture], plugins.names("architectures"))
        if recipe.autoencoder is not None:
            _known(f"{where}: recipes.{name}.autoencoder", [recipe.autoencoder], tier.autoencoders)
        if recipe.trained_as is not None:
            _known(f"{where}: recipes.{name}.trained_as", [recipe.trained_as], set(tier.recipes) - {name})
            if tier.recipes[recipe.trained_as].trained_as is not None:
                raise ConfigError(f"{where}: recipes.{name}.trained_as = {recipe.trained_as} is not trained itself")
            if recipe.at is not None and recipe.at >= tier.training.steps:
                raise ConfigError(
                    f"{where}: recipes.{name}.at = {recipe.at} must be smaller than training.steps = {tier.training.steps}"
                )
            source = tier.recipes[recipe.trained_as]
            if (recipe.name, recipe.architecture, recipe.autoencoder) != (
                source.name,
                source.architecture,
                source.autoencoder,
            ):
                raise ConfigError(
                    f"{where}: recipes.{name}.trained_as = {recipe.trained_as}: name, architecture and "
                    f"autoencoder must be the same"
                )
    for name, experiment in tier.experiments.items():
        for kind, known in (("methods", settings.methods), ("scales", tier.scales), ("recipes", tier.recipes)):
            chosen = getattr(experiment, kind)
            _known(f"{where}: experiments.{name}.{kind}", [] if chosen in (ALL, None) else chosen, known)
    for name, figure in tier.figures.items():
        _known(f"{where}: figures.{name}.kind", [figure.kind], plugins.names("figures"))
        _known(f"{where}: figures.{name}.experiment", [figure.experiment], tier.experiments)
    for target in targets(settings):
        base, _ = split_encoder(target)
        _known(f"{where}: encoders", [base], settings.catalogue)
        _known(
            f"{where}: encoders: {base}: weights trained:",
            _present(settings.catalogue[base].trained_by),
            tier.pretraining,
        )
        _known(f"encoders.yaml: {base}: base", _present(settings.catalogue[base].base), settings.catalogue)
        if settings.catalogue[base].evaluation_only:
            raise ConfigError(f"{where}: encoders: {base} is kept for evaluation and may not be an alignment target")
    if not cells(settings):
        raise ConfigError(f"{where}: the experiments name no training run")


def _check_plugins(settings: Settings, where: str) -> None:
    """Every implementation accepts its options and finds what it needs on this machine."""
    tier = settings.tier
    plugin_options("autoencoders", tier.autoencoder, f"{where}: autoencoder")
    for name, other in tier.autoencoders.items():
        plugin_options("autoencoders", other, f"{where}: autoencoders.{name}")
    module = plugins.load("autoencoders", tier.autoencoder.name, where)
    if tier.autoencoder.precompute and not module.PRECOMPUTABLE:
        raise ConfigError(f"{where}: autoencoder.precompute = true: {tier.autoencoder.name} has no moments to compute")
    for name, recipe in tier.recipes.items():
        plugin_options("recipes", recipe, f"{where}: recipes.{name}")
        plugin_options("samplers", recipe.sampler, f"{where}: recipes.{name}.sampler")
    for name, scale in tier.scales.items():
        for architecture in scale.options:
            plugin_options(
                "architectures", scale.plugged(architecture), f"{where}: scales.{name}.options.{architecture}"
            )
    for name, chosen in tier.pretraining.items():
        plugin_options("objectives", chosen, f"{where}: pretraining.{name}")
    encoders_in_use(settings)
    plugin_options("data", tier.dataset, f"{where}: dataset")


def encoders_in_use(settings: Settings) -> list[tuple[str, Any]]:
    """Every encoder and judge of the tier with its validated options."""
    tier = settings.tier
    used = {split_encoder(name)[0]: tier.features.input_size for name in targets(settings)}
    used |= dict.fromkeys(tier.evaluation.extractors, tier.evaluation.input_size)
    return [
        (name, encoder_options(settings.catalogue[name], size, f"encoders.yaml: {name}"))
        for name, size in sorted(used.items())
    ]
