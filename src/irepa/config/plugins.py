"""Find the implementation of a named thing: one module per name, in one folder per kind.

``load("encoders", "hog")`` is the module ``irepa.encoders.hog``. A new implementation is a new file in the folder; nothing
else has to list it.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from irepa.config.options import Plugged
from irepa.config.read import validated
from irepa.errors import ConfigError

if TYPE_CHECKING:
    from irepa.config.tier import EncoderEntry

FOLDER = Path(__file__).parents[1]


def module_name(kind: str, name: str) -> str:
    """``("samplers", "ode-heun")`` -> ``irepa.samplers.ode_heun``."""
    return f"irepa.{kind}.{name.replace('-', '_')}"


def names(kind: str) -> list[str]:
    """The implementations of a kind, as written in configuration (with hyphens)."""
    # By file name: importing the package of the figures, for one, takes seconds that most jobs have no use for.
    found = (info.name for info in pkgutil.iter_modules([str(FOLDER.joinpath(*kind.split(".")))]))
    return sorted(name.replace("_", "-") for name in found if not name.startswith("_"))


def contract(kind: str) -> ModuleType:
    """The package of a kind, which says what its modules must have. By name: the configuration imports no implementation."""
    return importlib.import_module(f"irepa.{kind}")


def load(kind: str, name: str, where: str) -> ModuleType:
    """Import the implementation. Raises ConfigError, naming ``where`` it was asked for, where there is none."""
    if name not in names(kind):
        raise ConfigError.unknown(where, name, names(kind))
    return importlib.import_module(module_name(kind, name))


def offered(kind: str, name: str, what: str, default: Any) -> Any:
    """What a module of a kind says under a name that its contract leaves open; ``default`` where it says nothing."""
    return vars(load(kind, name, kind)).get(what, default)


def plugin_options(kind: str, plugged: Plugged, where: str) -> Any:
    """The validated ``Options`` of a named implementation. Raises ConfigError."""
    return validated(load(kind, plugged.name, where).Options, plugged.options(), where)


def paths(kind: str, plugged: Plugged, where: str) -> list[Path]:
    """The files and folders of this machine that a named implementation reads: its ``paths(options)``, where it has one.

    Raises ConfigError.
    """
    read = vars(load(kind, plugged.name, where)).get("paths")
    return [] if read is None else list(read(plugin_options(kind, plugged, where)))


def encoder_options(entry: EncoderEntry, input_size: int | None, where: str) -> Any:
    """The validated ``Options`` of an encoder; ``input_size`` is the tier's, for a row that sets none.

    Raises ConfigError.
    """
    model = load("encoders", entry.library, where).Options
    options = entry.options()
    if input_size is not None and "input_size" in model.model_fields:
        options.setdefault("input_size", input_size)
    return validated(model, options, where)


def encoder_paths(entry: EncoderEntry, where: str) -> list[Path]:
    """The files and folders of this machine that an encoder reads: its library's ``paths(options)``. Raises ConfigError."""
    library = vars(load("encoders", entry.library, where)).get("LIBRARY")  # its lack is refused where it is built
    return [] if library is None else list(library.paths(encoder_options(entry, None, where)))
