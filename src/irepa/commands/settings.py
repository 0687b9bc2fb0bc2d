"""What can be set, told by the settings classes themselves: the reference in ``docs/settings.md``, and JSON schemas for editors.

Both are made from pydantic's JSON schema of each class, so that a description stands in one place: at its field.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from irepa.audit.claims import Claim, Discrepancy
from irepa.config import plugins
from irepa.config.tier import EncoderEntry, Extension, Method, Params, Tier
from irepa.errors import ConfigError

Schema = dict[str, Any]
DEFINITIONS, CHANGED = (
    "#/$defs/",
    "Changed",
)  # where a schema keeps its classes; what the name of a class for changes ends in


ONES = {"text": "texts", "integer": "integers", "number": "numbers"}  # in a list


@dataclass(frozen=True)
class Kind:
    """One kind of plug-in.

    Attributes:
        folder: below ``src/irepa``, with dots.
        one: what one of them is called.
        title: what they are.
        set_by: where the configuration names one.
        options: whether its modules have ``Options``.
    """

    folder: str
    one: str
    title: str
    set_by: str
    options: bool = True


BESIDE = "the options stand beside it."
UNDER = "the options stand under `scales.NAME.options.ARCHITECTURE`."
KINDS = (
    Kind("data", "Dataset", "Datasets", f"Chosen by `dataset.name` of a tier; {BESIDE}"),
    Kind("autoencoders", "Autoencoder", "Autoencoders", f"Chosen by `autoencoder.name` of a tier; {BESIDE}"),
    Kind("encoders", "Encoder", "Encoders", f"Chosen by `library` of a row of encoders.yaml; {BESIDE}"),
    Kind(
        "transforms",
        "Transform",
        "Transforms of an encoder's tokens",
        "Written after an encoder's name, most with a strength: `dinov2-b+clsmix0.3`.",
        options=False,
    ),
    Kind("objectives", "Objective", "Objectives of pre-training", f"Chosen by `pretraining.NAME.name`; {BESIDE}"),
    Kind("recipes", "Recipe", "Recipes", f"Chosen by `recipes.NAME.name` of a tier; {BESIDE}"),
    Kind("architectures", "Architecture", "Architectures", f"Chosen by `recipes.NAME.architecture`; {UNDER}"),
    Kind("samplers", "Sampler", "Samplers", f"Chosen by `recipes.NAME.sampler.name`; {BESIDE}"),
    Kind("figures", "Figure", "Figures", "Chosen by `figures.NAME.kind` of a tier.", options=False),
    Kind("audit.rules", "Decision rule", "Decision rules", f"Chosen by `decision.name` of a claim; {BESIDE}"),
)

INTRODUCTION = """\
# Settings

Everything that can be set: its type and range, its default, and what it means. `irepa settings` prints the same in a terminal,
and `irepa settings training` one part of it. `irepa settings --write` makes this page, from the settings classes in
`src/irepa/config/tier.py` and from the plug-ins.

`params.yaml` says which tier runs and may change any key of it. A tier file has everything that differs between tiers. Encoders
and methods are tables that all tiers share. `NAME` stands for a name of your choice. A key that does not exist is refused before
anything runs. Editors that know the YAML language server show the same descriptions, by the schemas in `workflow/schemas`.
"""


@dataclass(frozen=True)
class Section:
    """A heading, the text below it, and a table of keys, if there is one."""

    level: int
    title: str
    text: str
    table: str = ""

    def __str__(self) -> str:
        return "\n\n".join(part for part in (f"{'#' * self.level} {self.title}", self.text, self.table) if part)


def reference() -> str:
    """The page, in Markdown."""
    every = sections()
    contents = "\n".join(f"- [{one.title}](#{anchor(one.title)})" for one in every if one.level == 2)
    return "\n\n".join([INTRODUCTION.strip(), contents, *map(str, every)]) + "\n"


def show(part: str | None) -> None:
    """Print the page, or the sections whose titles have ``part`` in them. Raises ConfigError where none has.

    In a terminal as tables, elsewhere as Markdown.
    """
    text = reference()
    if part is not None:
        text = "\n\n".join(map(str, _part(part))) + "\n"
    if sys.stdout.isatty():
        from rich.markdown import Markdown

        from irepa.commands.screen import screen

        screen().print(Markdown(re.sub(r"\[([^]]*)\]\(#[^)]*\)", r"\1", text)))
    else:
        print(text, end="")


def _part(part: str) -> list[Section]:
    """The sections whose titles have these words in them, with all that stands below those."""
    chosen: list[Section] = []
    above: int | None = None  # level of the last section that was named
    for section in sections():
        named = part.lower() in section.title.replace("`", "").lower()
        if named and (above is None or section.level <= above):
            above = section.level
        elif above is not None and section.level <= above:
            above = None
        if above is not None:
            chosen.append(section)
    if not chosen:
        raise ConfigError.unknown("settings", part, [section.title.replace("`", "") for section in sections()])
    return chosen


def sections() -> list[Section]:
    """Every section of the page, in the order in which the files are read."""
    extension = _schema(Extension)["properties"]
    tier = _schema(Tier)
    tier["properties"] = {**extension, **tier["properties"]}
    return [
        *_file(2, "`params.yaml`", _schema(Params)),
        *_file(2, "A tier: `workflow/tiers/NAME.yaml`", tier),
        *_file(2, "An encoder: a row of `workflow/encoders.yaml`", _schema(EncoderEntry)),
        *_file(2, "A method: a row of `workflow/methods.yaml`", _schema(Method)),
        *_file(2, "A claim: a row of `workflow/claims.yaml`", _schema(Claim)),
        *_file(2, "A difference between text and code: a row of `workflow/discrepancies.yaml`", _schema(Discrepancy)),
        *(section for kind in KINDS for section in _kind(kind)),
    ]


def _kind(kind: Kind) -> Iterator[Section]:
    modules = {name: plugins.load(kind.folder, name, kind.folder) for name in plugins.names(kind.folder)}
    about = {name: _words(module.__doc__ or "") for name, module in modules.items()}
    if not kind.options:
        table = _table(("name", "what it is"), [(f"`{name}`", text) for name, text in about.items()])
        yield Section(2, kind.title, kind.set_by, table)
        return
    yield Section(2, kind.title, kind.set_by)
    for name, module in modules.items():
        schema = _schema(module.Options)
        schema["description"] = " ".join(filter(None, (about[name], _words(schema.get("description", "")))))
        yield from _file(3, f"{kind.one} `{name}`", schema, owner=f"{kind.one} {name}: ")


def _file(level: int, title: str, schema: Schema, owner: str = "") -> list[Section]:
    """The sections of a settings class and of the classes inside it: what a file, or a part of one, may say.

    ``owner``: what the titles of the classes inside begin with.
    """
    return list(_Page(schema, owner).sections(level, title, schema, ""))


class _Page:
    """Lays out one settings class: a class inside it has a section where it first stands, and links to it elsewhere."""

    def __init__(self, schema: Schema, owner: str) -> None:
        self.owner = owner
        self.definitions: Schema = schema.get("$defs", {})
        self.places: dict[str, str] = {}  # class -> the keys under which its section stands

    def sections(self, level: int, title: str, schema: Schema, prefix: str) -> Iterator[Section]:
        properties: Schema = schema.get("properties", {})
        # First the classes that this one names directly: where one stands deeper too, its section is here.
        inside = {key: self._inside(value) for key, value in properties.items()}
        new = {key: held for key, held in inside.items() if held and held[0] not in self.places}
        for key, (name, named) in new.items():
            self.places.setdefault(name, f"{prefix}{key}{named}")
        required = schema.get("required", [])
        rows = [
            (f"`{key}`", self._type(value), self._default(key, value, required), _words(value.get("description", "")))
            for key, value in properties.items()
        ]
        table = _table(("key", "type", "default", "meaning"), rows) if rows else "No options."
        yield Section(level, title, _words(schema.get("description", "")), table)
        for key, (name, named) in new.items():
            place = f"{prefix}{key}{named}"
            if self.places[name] == place:
                yield from self.sections(
                    level + (prefix == ""), f"{self.owner}`{place}`", self.definitions[name], f"{place}."
                )

    def _inside(self, value: Schema) -> tuple[str, str] | None:
        """The class that a key holds, one or a list of it, and ``.NAME`` where it holds one for each name."""
        if "$ref" in value:
            return value["$ref"].removeprefix(DEFINITIONS), ""
        for choice in value.get("anyOf", []):
            if self._inside(choice):
                return self._inside(choice)
        for holder, named in (("additionalProperties", ".NAME"), ("items", "")):
            held = value.get(holder)
            if isinstance(held, dict) and "$ref" in held:
                return held["$ref"].removeprefix(DEFINITIONS), named
        return None

    def _type(self, value: Schema) -> str:
        """What a key may hold, with its range."""
        if "$ref" in value:
            place = self.places.get(value["$ref"].removeprefix(DEFINITIONS), "")
            return f"group [`{place}`](#{anchor(self.owner + place)})"
        if "anyOf" in value:
            return ", or ".join(self._type(choice) for choice in value["anyOf"])
        if "const" in value or "enum" in value:
            return " or ".join(f"`{choice}`" for choice in value.get("enum", [value.get("const")]))
        kind = value.get("type")
        if kind == "array":
            return self._list(value)
        if kind == "object":
            values = value.get("additionalProperties")
            return f"by name: {self._type(values)}" if isinstance(values, dict) else "keys and values"
        if kind == "string":
            return "path" if value.get("format") == "path" else "text"
        words = {"integer": "integer", "number": "number", "boolean": "`true` or `false`", "null": "`null`"}
        return words.get(str(kind), "anything") + _range(value)

    def _list(self, value: Schema) -> str:
        if "prefixItems" in value:
            return f"[{', '.join(self._type(item) for item in value['prefixItems'])}]"
        items = self._type(value["items"])
        return f"list of {ONES.get(items, items)}"

    def _default(self, key: str, value: Schema, required: list[str]) -> str:
        if key in required:
            return "required"
        if "default" not in value:
            return "absent"
        if self._inside(value) and value.get("default"):
            return "its own defaults"
        return f"`{json.dumps(value.get('default'), ensure_ascii=False)}`"


def _range(value: Schema) -> str:
    """The range of a number: `` ≥ 1``, `` in [0, 1]``, `` > 0``; empty where every number is allowed."""
    low, above = value.get("minimum"), value.get("exclusiveMinimum")
    high, below = value.get("maximum"), value.get("exclusiveMaximum")
    bottom = f"[{low:g}" if low is not None else f"({above:g}" if above is not None else ""
    top = f"{high}]" if high is not None else f"{below})" if below is not None else ""
    if bottom and top:
        return f" in {bottom}, {top}"
    if bottom:
        return f" ≥ {low:g}" if low is not None else f" > {above:g}"
    if top:
        return f" ≤ {high}" if high is not None else f" < {below}"
    return ""


def _schema(model: type[BaseModel]) -> Schema:
    return model.model_json_schema()


def _words(text: str) -> str:
    """The first paragraph of a docstring or description, as one line of Markdown."""
    line = " ".join(text.strip().split("\n\n")[0].split())
    line = re.sub(r":[a-z]+:`~?([^`]*)`", r"`\1`", line)
    return line.replace("``", "`")


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def anchor(title: str) -> str:
    """The address of a heading within its page, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def schema_texts() -> dict[str, str]:
    """The schema files by name: what editors and other tools know the configuration by, each for a file as a whole."""
    schemas = {
        "params": _schema(Params),
        "tier": _tier_schema(),
        "encoders": _rows_schema(EncoderEntry, "encoders.yaml: every encoder that a tier may name."),
        "methods": _rows_schema(Method, "methods.yaml: how the alignment is done, one row per method."),
    }
    return {
        f"{name}.schema.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in schemas.items()
    }


def _rows_schema(model: type[BaseModel], description: str) -> Schema:
    """Of a file of named rows."""
    row = _schema(model)
    definitions = {**row.pop("$defs", {}), model.__name__: row}
    rows = {"$ref": f"{DEFINITIONS}{model.__name__}"}
    return {"$defs": definitions, "description": description, "type": "object", "additionalProperties": rows}


def _tier_schema() -> Schema:
    """Of a tier file: a whole one, or one that extends another and has some of the keys, at any depth."""
    tier, extension = _schema(Tier), _schema(Extension)
    definitions = {**tier.pop("$defs"), "Tier": tier}
    changed = {f"{name}{CHANGED}": _some_of(schema) for name, schema in definitions.items()}
    file = changed[f"Tier{CHANGED}"]
    file["properties"] = {**extension["properties"], **file["properties"]}
    for group in ("experiments", "figures"):
        rows = file["properties"][group]
        rows["additionalProperties"] = {"anyOf": [rows["additionalProperties"], {"type": "null"}]}
    return {
        "$defs": {**definitions, **changed},
        "type": "object",
        "if": {"required": ["extends"]},
        "then": {"$ref": f"{DEFINITIONS}Tier{CHANGED}"},
        "else": {"$ref": f"{DEFINITIONS}Tier"},
    }


def _some_of(schema: Any) -> Any:
    """A schema where no key is required and none has a default: for changes of what another file says."""
    if isinstance(schema, list):
        return [_some_of(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    changed: Schema = {}
    for key, value in schema.items():
        if key == "properties":  # names of settings, any of which may be called `default`
            changed[key] = {name: _some_of(of) for name, of in value.items()}
        elif key == "$ref":
            changed[key] = f"{value}{CHANGED}"
        elif key not in ("required", "default", "minProperties"):
            changed[key] = _some_of(value)
    return changed
