"""Read YAML and validate it: every refusal names the file, the key, the value and what is allowed."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from irepa.errors import ConfigError, translated

try:
    from yaml import CSafeLoader as SafeLoader  # ten times as fast
except ImportError:  # a PyYAML that was built without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]

_Model = TypeVar("_Model", bound=BaseModel)


def validated(model: type[_Model], value: Any, where: str) -> _Model:
    """``model.model_validate`` with refusals in the project's words.

    Args:
        where: the file, or the file and the key, that the value is from: what a refusal begins with.

    Raises ConfigError, with a line for each thing that is wrong.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(model, item, where) for item in error.errors())) from None


def _explain(model: type[BaseModel], error: Any, where: str) -> str:
    path = [str(part) for part in error["loc"]]
    key = ".".join(path) or "(whole)"
    if error["type"] == "extra_forbidden":
        allowed = _fields_at(model, path[:-1])
        close = difflib.get_close_matches(path[-1], allowed, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return f"{where}: unknown key {key}{hint}; allowed are {', '.join(sorted(allowed))}"
    if error["type"] == "literal_error" and path[-1:] == ["[key]"]:  # a mapping whose keys are given
        return f"{where}: unknown key {'.'.join(path[:-1])}; allowed are {error['ctx']['expected']}"
    if error["type"] == "missing":
        return f"{where}: key {key} is missing"
    message = error["msg"].removeprefix("Value error, ")
    if not path and error["type"] == "value_error":  # of several keys together, which the message names
        return f"{where}: {message}"
    return f"{where}: {key} = {json.dumps(error['input'], default=str)[:120]}: {message}"


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """Names of the keys allowed at a place of the model, for an error message."""
    current: Any = model
    for part in path:
        field = getattr(current, "model_fields", {}).get(part)
        if field is not None:
            current = _model_inside(field.annotation)
    return list(getattr(current, "model_fields", {}))


def _model_inside(annotation: Any) -> Any:
    """The settings class inside ``X | None``, ``dict[str, X]`` or ``Annotated[X, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        inside = _model_inside(argument)
        if inside is not None:
            return inside
    return None


# A number as text: before its exponent, and the exponent.
POINT, EXPONENT = r"[-+]?(\d+\.?\d*|\.\d+)", r"[eE][-+]?\d+"


class _UniqueKeyLoader(SafeLoader):
    """YAML where a key may stand once: PyYAML alone would keep the last one and say nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                mark = key_node.start_mark
                raise ConfigError(f"{mark.name}: {key} stands twice (line {mark.line + 1})")
            seen.add(key)
        return super().construct_mapping(node, deep)


# PyYAML takes 1e-4 for text, because YAML 1.1 wants a point in a number. JSON, in which jobs are handed their parameters,
# writes it without.
_UniqueKeyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(rf"{POINT}{EXPONENT}$"), list("-+.0123456789")
)


def read_yaml(path: Path) -> dict[str, Any]:
    """A file that holds a mapping of keys. Raises ConfigError where it is missing, is no YAML, or holds something else."""
    try:
        # PyYAML's own errors are of many kinds: a date that does not exist is a ValueError, a list as a key a TypeError.
        with translated(ConfigError, f"{path} is not valid YAML"), path.open(encoding="utf-8") as stream:
            try:
                value = yaml.load(stream, Loader=_UniqueKeyLoader)  # a SafeLoader
            except yaml.YAMLError as error:  # in several lines, which say where
                raise ConfigError(f"{path} is not valid YAML: {error}") from None
    except ConfigError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise ConfigError(f"{path} does not exist") from None
        raise
    if not isinstance(value, dict):
        raise ConfigError(f"{path} must hold a mapping of keys, not {type(value).__name__}")
    return value


WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
WHOLE, DECIMAL = re.compile(r"[-+]?\d+"), re.compile(rf"{POINT}({EXPONENT})?")


def from_command_line(key: str, value: Any) -> Any:
    """A value of Snakemake's ``--config key=value`` with its types: Snakemake reads it as YAML whose values are all text.

    ``null``, ``true``, ``false`` and numbers are what they are in a file. Raises ConfigError for what is no YAML.
    """
    if isinstance(value, dict):
        for inside, content in value.items():
            if content == "" and ":" in inside:
                name, _, rest = inside.partition(":")
                raise ConfigError(
                    f"--config {key}: {{{inside}}} has no value: write a space after the colon, {name}: {rest}"
                )
        return {inside: from_command_line(f"{key}.{inside}", content) for inside, content in value.items()}
    if isinstance(value, list):
        return [from_command_line(key, item) for item in value]
    if not isinstance(value, str):
        return value
    if value[:1] in ("{", "["):  # else Snakemake would have read it
        raise ConfigError(
            f"--config {key}={value}: brackets do not match; quote it as in 'overrides={{training.steps: 500}}'"
        )
    if value.lower() in WORDS:
        return WORDS[value.lower()]
    if WHOLE.fullmatch(value):
        return int(value)
    return float(value) if DECIMAL.fullmatch(value) else value
