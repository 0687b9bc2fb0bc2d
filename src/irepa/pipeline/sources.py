"""What code means: a hash of every statement that a job can reach, without its words, its layout and its place.

A job's fingerprint has to change when its result might, and at no other time. So not files are hashed but top-level statements:
those of the job's own modules and, from there, every definition of this package that one of them names. Of each statement the
syntax tree counts. Comments, blank lines and layout are not in it; docstrings, descriptions of settings, the words of error
messages and of the log, and the annotations of functions are left out, for none of them changes a number. Definitions are known
by what they say and not by the file that they stand in.

Left out as a whole is what carries settings and files about but computes nothing (``UNHASHED``): what it hands over, a job's
settings and inputs, is in the fingerprint by value.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from irepa.errors import IrepaError
from irepa.pipeline.files import sha256, write_json

PACKAGE = "irepa"
UNHASHED = tuple(f"{PACKAGE}.{name}" for name in ("cli", "commands", "config", "errors", "pipeline", "progress"))
HERE = Path(__file__).parents[2]  # the folder that holds the package


@dataclass(frozen=True)
class Target:
    """What a name stands for: a definition of a module of this package, or the module itself where ``name`` is empty."""

    module: str
    name: str = ""


@dataclass(frozen=True)
class Outside:
    """What a name stands for that another package defines, by its full dotted name."""

    path: str


Named = Target | Outside
Scope = Mapping[str, Named | None]  # None: something else, such as a local variable


@dataclass
class Module:
    """One file: its definitions by name, the names that it imports, and its remaining statements."""

    path: Path
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, Named] = field(default_factory=dict)
    effects: list[ast.stmt] = field(default_factory=list)

    def scope(self, name: str) -> dict[str, Named | None]:
        """What names mean at the top of the module, which is called ``name``."""
        return {**self.imports, **{own: Target(name, own) for own in self.definitions}}


@dataclass(frozen=True)
class Meaning:
    """A statement's digest, and the definitions that it names."""

    digest: str
    names: frozenset[Target]


class Sources:
    """The modules below a folder, which holds the package."""

    def __init__(self, folder: Path = HERE) -> None:
        self.folder = folder
        self._modules: dict[str, Module] = {}
        self._meanings: dict[Target, tuple[Meaning, ...]] = {}

    def path(self, name: str) -> Path | None:
        """The file of a module, or None; a script is named by its path. Nothing is imported."""
        if name.endswith(".py"):
            return Path(name)
        place = self.folder.joinpath(*name.split("."))
        files = (place.with_suffix(".py"), place / "__init__.py")
        return next((path for path in files if path.is_file()), None)

    def module(self, name: str) -> Module:
        """Raises KeyError where there is no such module."""
        if name not in self._modules:
            path = self.path(name)
            if path is None:
                raise KeyError(name)
            self._modules[name] = self._read(path)
        return self._modules[name]

    def _read(self, path: Path) -> Module:
        return self._parse(path, path.read_bytes())

    def _parse(self, path: Path, text: bytes | str) -> Module:
        module = Module(path)
        for statement in ast.parse(text).body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                module.imports |= self.imported(statement)
            elif names := _defined(statement):
                for name in names:
                    module.definitions.setdefault(name, []).append(statement)
            elif not _is_words(statement) and not _is_for_types(statement):
                module.effects.append(statement)
        return module

    def imported(self, node: ast.Import | ast.ImportFrom) -> dict[str, Named]:
        """What an import binds."""
        bound: dict[str, Named] = {}
        if isinstance(node, ast.Import):
            for alias in node.names:
                path = alias.name if alias.asname else alias.name.split(".")[0]
                bound[alias.asname or path] = Target(path) if _is_ours(path) else Outside(path)
        elif node.module != "__future__":
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                if node.module is None or not _is_ours(node.module):
                    named: Named = Outside(inside)
                elif self.path(inside) is not None:
                    named = Target(inside)
                else:
                    named = Target(node.module, alias.name)
                bound[alias.asname or alias.name] = named
        return bound

    def resolve(self, named: Named) -> Named:
        """What a name stands for in the end, where modules only pass it on."""
        seen = set()
        while isinstance(named, Target) and named.name and named not in seen:
            seen.add(named)
            if self.path(named.module) is None:
                break
            passed_on = self.module(named.module).imports.get(named.name)
            if passed_on is None:
                break
            named = passed_on
        return named

    def meanings(self, target: Target) -> tuple[Meaning, ...]:
        """Of a definition; of a module's remaining statements where the target is a module."""
        if target not in self._meanings:
            module = self.module(target.module)
            statements = module.definitions.get(target.name, []) if target.name else module.effects
            scope = module.scope(target.module)
            self._meanings[target] = tuple(self._meaning(statement, scope) for statement in statements)
        return self._meanings[target]

    def _meaning(self, statement: ast.stmt, scope: Scope) -> Meaning:
        names: set[Target] = set()
        text = _Text(self, scope, names).statement(statement)
        return Meaning(hashlib.sha256(text.encode()).hexdigest(), frozenset(names))

    def names(self, module: str) -> list[Target]:
        """Everything of this package that a module defines or imports."""
        known = self.module(module)
        passed_on = map(self.resolve, known.imports.values())
        own = [Target(module, name) for name in known.definitions]
        return own + [named for named in passed_on if isinstance(named, Target)]

    def reached(self, modules: Iterable[str]) -> list[Target]:
        """All definitions, and modules for their remaining statements, that these modules can come to use."""
        visited: dict[Target, None] = {}
        waiting: list[Target] = []
        for module in sorted(set(modules)):
            waiting += [Target(module), *self.names(module)]
        while waiting:
            target = waiting.pop()
            if target in visited or _is_unhashed(target.module):
                continue
            visited[target] = None
            if target.name:
                waiting.append(Target(target.module))
            for meaning in self.meanings(target):
                waiting += meaning.names
        return list(visited)

    def digest(self, modules: Iterable[str]) -> str:
        """Hash of what these modules mean, together with all that they can come to use."""
        lines: set[str] = set()
        for target in self.reached(modules):
            for meaning in self.meanings(target):
                lines.add(meaning.digest)
                for name in meaning.names:
                    if name.name and not _is_unhashed(name.module):
                        lines |= {f"{meaning.digest} {name.name} {used.digest}" for used in self.meanings(name)}
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()

    def files(self, modules: Iterable[str]) -> set[Path]:
        """The files that hold what these modules can come to use."""
        return {self.module(target.module).path for target in self.reached(modules)}


@functools.cache
def installed() -> Sources:
    """The sources of the package that runs."""
    return Sources()


@functools.cache
def code_digest(modules: frozenset[str]) -> str:
    """:meth:`Sources.digest` of the package that runs."""
    return kept_digests().digest(modules)


@functools.cache
def kept_digests() -> KeptDigests:
    """Those of the package that runs, beside Python's own compiled files: as local to an interpreter, and as safe to lose."""
    return KeptDigests(installed(), Path(importlib.util.cache_from_source(__file__)).with_suffix(".json"))


class KeptDigests:
    """Digests in a file that says which bytes of the package they are of: once a byte differs, none of them counts.

    Args:
        path: the file; it need not be there, and where it cannot be written nothing is kept.
    """

    def __init__(self, sources: Sources, path: Path) -> None:
        self.sources, self.path = sources, path
        self.content = self._content()
        self._known = self._read()

    def _content(self) -> str:
        """Hash of the names and bytes of the package's files as they are now."""
        folder = self.sources.folder
        files = sorted((folder / PACKAGE).rglob("*.py"))
        lines = "".join(f"{path.relative_to(folder)} {sha256(path)}\n" for path in files)
        return hashlib.sha256(lines.encode()).hexdigest()

    def digest(self, modules: Iterable[str]) -> str:
        """:meth:`Sources.digest`, whose scripts count by their own bytes."""
        named = sorted(modules)
        key = " ".join([*named, *(sha256(Path(name)) for name in named if name.endswith(".py"))])
        if key not in self._known:
            self._known[key] = self.sources.digest(named)
            with contextlib.suppress(OSError, IrepaError):  # a checkout that may only be read
                if self._content() == self.content:  # nobody has edited it while it was read
                    write_json(self.path, {"content": self.content, "digests": self._known})
        return self._known[key]

    def _read(self) -> dict[str, str]:
        try:
            kept = json.loads(self.path.read_bytes())
            return dict(kept["digests"]) if kept["content"] == self.content else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}


def _is_ours(name: str) -> bool:
    return name == PACKAGE or name.startswith(f"{PACKAGE}.")


def _is_unhashed(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in UNHASHED)


def _defined(statement: ast.stmt) -> list[str]:
    """The names that a top-level statement defines."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        leaves = [leaf for target in targets for leaf in _leaves(target)]
        return [leaf.id for leaf in leaves if isinstance(leaf, ast.Name)]
    return []


def _leaves(target: ast.expr) -> Iterator[ast.expr]:
    if isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from _leaves(element)
    elif isinstance(target, ast.Starred):
        yield from _leaves(target.value)
    else:
        yield target


def _is_words(node: ast.AST) -> bool:
    """Whether a statement is a docstring, or does nothing."""
    if isinstance(node, ast.Pass):
        return True
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_for_types(node: ast.AST) -> bool:
    """Whether a statement is only for type checkers: ``if TYPE_CHECKING:`` without an ``else``."""
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
        and not node.orelse
    )


Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
# Fields that say nothing of what a statement does; annotations of classes do (settings), those of functions do not.
SILENT = {"ctx", "kind", "type_comment", "lineno", "returns", "type_ignores"}


class _Text:
    """Writes a syntax tree as text that does not depend on the version of Python, and notes the names of this package."""

    def __init__(self, sources: Sources, scope: Scope, names: set[Target]) -> None:
        self.sources, self.scope, self.names = sources, scope, names

    def statement(self, node: ast.stmt) -> str:
        return self.node(node, self.scope, in_class=True)

    def node(self, node: object, scope: Scope, in_class: bool = False) -> str:
        if isinstance(node, list):
            kept = [item for item in node if not (isinstance(item, ast.AST) and self._is_silent(item))]
            return f"[{','.join(self.node(item, scope, in_class) for item in kept)}]"
        if not isinstance(node, ast.AST):
            return repr(node)
        if isinstance(node, ast.Constant):
            return f"{type(node.value).__name__}:{node.value!r}"
        if isinstance(node, ast.Name | ast.Attribute):
            named = self._named(node, scope)
            if named is not None:
                return self._use(named)
        if isinstance(node, ast.JoinedStr):
            return self._joined(node, scope)
        if isinstance(node, ast.Raise):
            return self._raised(node, scope)
        if isinstance(node, ast.Call):
            return self._called(node, scope)
        if isinstance(node, ast.Assert):
            return f"Assert({self.node(node.test, scope)})"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return self._function(node, scope)
        if isinstance(node, ast.ClassDef):
            return self._fields(node, scope, in_class=True)
        if isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
            bound = {
                leaf.id for part in node.generators for leaf in ast.walk(part.target) if isinstance(leaf, ast.Name)
            }
            return self._fields(node, {**scope, **dict.fromkeys(bound)})
        return self._fields(node, scope, in_class=in_class)

    def _is_silent(self, node: ast.AST) -> bool:
        # What an import brings is told where it is used.
        return _is_words(node) or _is_for_types(node) or isinstance(node, ast.Import | ast.ImportFrom)

    def _fields(self, node: ast.AST, scope: Scope, in_class: bool = False) -> str:
        parts = []
        for name, value in ast.iter_fields(node):
            if name in SILENT or value is None or value == []:
                continue
            if name == "annotation" and not in_class:
                continue
            parts.append(f"{name}={self.node(value, scope, in_class)}")
        return f"{type(node).__name__}({','.join(parts)})"

    def _named(self, node: ast.Name | ast.Attribute, scope: Scope) -> Named | None:
        """What a name, or a dotted name, stands for; None for a local variable, a built-in, or an attribute of one."""
        if isinstance(node, ast.Name):
            named = scope.get(node.id)
            return None if named is None else self.sources.resolve(named)
        if isinstance(node.value, ast.Name | ast.Attribute):
            outer = self._named(node.value, scope)
            if isinstance(outer, Outside):
                return Outside(f"{outer.path}.{node.attr}")
            if outer is not None and not outer.name:
                inside = f"{outer.module}.{node.attr}"
                is_module = self.sources.path(inside) is not None
                return Target(inside) if is_module else self.sources.resolve(Target(outer.module, node.attr))
        return None

    def _use(self, named: Named) -> str:
        if isinstance(named, Outside):
            return f"Outside({named.path})"
        if named.name:
            self.names.add(named)
            return f"Name({named.name})"
        # A module handed about as a whole can be asked for anything in it.
        if not _is_unhashed(named.module) and self.sources.path(named.module) is not None:
            self.names |= set(self.sources.names(named.module))
        return f"Module({named.module.rpartition('.')[2]})"

    def _joined(self, node: ast.JoinedStr, scope: Scope, words: bool = True) -> str:
        parts: list[str] = []
        text = ""
        for value in node.values:
            if isinstance(value, ast.Constant):
                text += str(value.value) if words else ""
                continue
            if text:
                parts.append(repr(text))
            parts.append(self.node(value, scope))
            text = ""
        return f"JoinedStr({','.join([*parts, repr(text)] if text else parts)})"

    def _wordless(self, node: ast.expr, scope: Scope) -> str:
        """An argument that people read: what it shows counts, its words do not."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return "words"
        if isinstance(node, ast.JoinedStr):
            return self._joined(node, scope, words=False)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return f"{self._wordless(node.left, scope)}+{self._wordless(node.right, scope)}"
        return self.node(node, scope)

    def _raised(self, node: ast.Raise, scope: Scope) -> str:
        cause = "" if node.cause is None else self.node(node.cause, scope)
        if not isinstance(node.exc, ast.Call):
            return f"Raise({'' if node.exc is None else self.node(node.exc, scope)},{cause})"
        return f"Raise({self._told(node.exc, scope)},{cause})"

    def _told(self, call: ast.Call, scope: Scope) -> str:
        arguments = [self._wordless(argument, scope) for argument in call.args]
        return f"Call({self.node(call.func, scope)},{arguments},{self.node(call.keywords, scope)})"

    def _called(self, call: ast.Call, scope: Scope) -> str:
        function = call.func
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "log":
            return self._told(call, scope)
        if isinstance(function, ast.Name) and function.id == "Field":
            described = [keyword for keyword in call.keywords if keyword.arg != "description"]
            call = ast.Call(func=function, args=call.args, keywords=described)
        return self._fields(call, scope)

    def _function(self, node: Function, scope: Scope) -> str:
        """A function: its parameters and the names that it assigns are its own; so are its imports, which stand for what they
        name."""
        shared = {name: scope.get(name) for name in self._declared_global(node)}
        inside: dict[str, Named | None] = dict.fromkeys(_own_names(node))
        for statement in _statements(node):
            if isinstance(statement, ast.Import | ast.ImportFrom):
                inside |= self.sources.imported(statement)
        within = {**scope, **inside, **shared}
        head = [] if isinstance(node, ast.Lambda) else [node.name, self.node(node.decorator_list, scope)]
        arguments = self._fields(node.args, scope)  # defaults are worked out outside
        return f"{type(node).__name__}({head},{arguments},{self.node(node.body, within)})"

    @staticmethod
    def _declared_global(node: Function) -> set[str]:
        return {name for inner in _statements(node) if isinstance(inner, ast.Global) for name in inner.names}


def _statements(node: Function) -> Iterator[ast.AST]:
    """The nodes of a function's body, without those inside functions and classes of its own."""
    waiting: list[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else list(node.body)
    while waiting:
        inner = waiting.pop()
        yield inner
        if not isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting += ast.iter_child_nodes(inner)


def _own_names(node: Function) -> set[str]:
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    own = {argument.arg for argument in every if argument is not None}
    for inner in _statements(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            own.add(inner.id)
        elif isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.ExceptHandler):
            own.add(inner.name or "")
    return own
