"""What a run needs beyond a valid configuration, asked for before it starts: claims that can be read, data, weights."""

from __future__ import annotations

from pathlib import Path

from irepa.audit.claims import read_claims, read_discrepancies
from irepa.config import plugins
from irepa.config.cells import split_encoder, targets
from irepa.config.plugins import plugin_options
from irepa.config.tier import Settings
from irepa.encoders import Declared
from irepa.errors import ConfigError


def check_claims(workflow: Path) -> None:
    """Refuse claims and discrepancies that cannot be read, before a run that ends with them."""
    read_claims(workflow)
    read_discrepancies(workflow)


def check_encoders(settings: Settings) -> None:
    """Refuse an encoder or judge of the tier that its library does not give, or whose weights this machine lacks."""
    tier = settings.tier
    for name in sorted({split_encoder(target)[0] for target in targets(settings)}):
        entry = settings.catalogue[name]
        Declared.of(name, entry, tier.features.input_size).check("encoder" if entry.base is None else "fit")
    for name in tier.evaluation.extractors:
        Declared.of(name, settings.catalogue[name], tier.evaluation.input_size).check("judge")


def check_machine(settings: Settings, weights: bool = True) -> None:
    """Refuse what is missing on this machine: a dataset, weights. Not asked for a dry run.

    ``weights``: False where jobs run in another environment than this one, and look for them there.
    """
    tier = settings.tier
    if weights:
        check_encoders(settings)
    options = plugin_options("data", tier.dataset, "dataset")
    plugins.load("data", tier.dataset.name, "dataset").check(options)
    if tier.training.precision == "fp16":
        import torch  # takes seconds, and nothing else here needs it

        if not torch.cuda.is_available():
            raise ConfigError("training.precision = fp16 needs a CUDA device; allowed here are fp32, bf16")
