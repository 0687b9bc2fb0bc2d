"""A fingerprint follows what code means: words, layout and place are free; a constant, default, operator or call is not."""

from __future__ import annotations

import ast
import copy
import io
import json
import random
import tokenize
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from irepa.pipeline import sources
from irepa.pipeline.sources import HERE, UNHASHED, KeptDigests, Module, Sources
from tests.conftest import REPOSITORY

FILES = {
    ".".join(path.relative_to(HERE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((HERE / "irepa").rglob("*.py"))
}
HASHED = [name for name in FILES if not name.startswith(UNHASHED) and name not in ("irepa", "irepa.__main__")]
ORIGINAL = Sources()
DIGESTS = {name: ORIGINAL.digest([name]) for name in HASHED}


class Edited(Sources):
    """The package with other texts in some of its files, and perhaps files that it does not have."""

    def __init__(self, texts: dict[str, str]) -> None:
        super().__init__()
        self.texts = texts

    def path(self, name: str) -> Path | None:
        return Path(name) if name in self.texts else super().path(name)

    def _read(self, path: Path) -> Module:
        return super()._read(path) if str(path) not in self.texts else self._parse(path, self.texts[str(path)])


def module_text(name: str) -> str:
    return FILES[name].read_text(encoding="utf-8")


def edited(name: str, text: str) -> str:
    """The module's digest with another text; what was read of all other modules is not read again."""
    other = Edited({name: text})
    other._modules = {key: module for key, module in ORIGINAL._modules.items() if key != name}
    other._meanings = {target: known for target, known in ORIGINAL._meanings.items() if target.module != name}
    return other.digest([name])


def with_remarks(text: str) -> str:
    """Every comment reworded, and a comment and a blank line more at the end of each line that ends a statement."""
    lines = text.splitlines()
    for token in reversed(list(tokenize.generate_tokens(io.StringIO(text).readline))):
        row, column = token.start
        if token.type == tokenize.COMMENT:
            lines[row - 1] = lines[row - 1][:column] + "# in other words"
        elif token.type == tokenize.NEWLINE and "#" not in lines[row - 1]:
            lines[row - 1] += "  # a remark"
    return "\n\n".join([*lines, ""]) if '"""' not in text else "\n".join([*lines, "", "# the end"]) + "\n"


class Reword(ast.NodeTransformer):
    """Other docstrings, descriptions of settings and words of error messages."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return ast.Expr(ast.Constant("In other words."))
        self.generic_visit(node)
        return node

    def visit_keyword(self, node: ast.keyword) -> ast.keyword:
        if node.arg == "description":
            return ast.keyword("description", ast.Constant("In other words."))
        self.generic_visit(node)
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        if isinstance(node.exc, ast.Call):
            node.exc.args = [self.told(argument) for argument in node.exc.args]
        return node

    def told(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return ast.Constant("other words")
        if isinstance(node, ast.JoinedStr):
            shown = [part for part in node.values if isinstance(part, ast.FormattedValue)]
            return ast.JoinedStr([ast.Constant("other "), *shown])
        return node


def reworded(text: str) -> str:
    return ast.unparse(ast.fix_missing_locations(Reword().visit(ast.parse(text))))


def reformatted(text: str) -> str:
    """As another formatter would have it: no comments, other quotes, other line breaks."""
    return ast.unparse(ast.parse(text))


@pytest.mark.parametrize("change", [with_remarks, reformatted, reworded])
def test_words_and_layout_are_free_in_every_module(change: Callable[[str], str]) -> None:
    for name in HASHED:
        text = change(module_text(name))
        ast.parse(text)
        assert edited(name, text) == DIGESTS[name], name


def definitions(tree: ast.Module) -> list[ast.stmt]:
    return [node for node in tree.body if sources._defined(node)]


def moved(name: str, place: int) -> dict[str, str] | None:
    """The package with one definition of a module in a new file, imported from there; None where the module has none."""
    tree = ast.parse(module_text(name))
    movable = [node for node in definitions(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    if not movable:
        return None
    node = movable[place % len(movable)]
    assert isinstance(node, ast.FunctionDef | ast.ClassDef)
    imports = [item for item in tree.body if isinstance(item, ast.Import | ast.ImportFrom)]
    others = [own for item in definitions(tree) if item is not node for own in sources._defined(item)]
    back = [ast.ImportFrom(name, [ast.alias(other) for other in others], 0)] if others else []
    new = ast.Module([*imports, *back, node], [])
    index = tree.body.index(node)
    tree.body[index : index + 1] = [ast.ImportFrom("irepa.elsewhere", [ast.alias(node.name)], 0)]
    return {name: ast.unparse(tree), "irepa.elsewhere": ast.unparse(new)}


@pytest.mark.parametrize("place", [0, -1])
def test_a_definition_may_move_to_another_file_from_every_module(place: int) -> None:
    tried = 0
    for name in HASHED:
        texts = moved(name, place)
        if texts is None:
            continue
        ast.parse(texts["irepa.elsewhere"])
        assert Edited(texts).digest([name]) == DIGESTS[name], name
        tried += 1
    assert tried > 80


def test_a_module_that_others_use_may_be_split_without_a_change_to_any_job() -> None:
    texts = moved("irepa.spatial", 0)
    assert texts is not None
    assert {name: Edited(texts).digest([name]) for name in HASHED} == DIGESTS


def spoken(node: ast.AST) -> bool:
    """Whether what stands here is for people or type checkers."""
    if isinstance(node, ast.Raise | ast.Import | ast.ImportFrom | ast.keyword):
        return not isinstance(node, ast.keyword) or node.arg == "description"
    return sources._is_words(node) or sources._is_for_types(node)


def acting(node: ast.AST, in_class: bool = True) -> Iterator[ast.AST]:
    """Nodes that decide what the code does."""
    if spoken(node):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name == "returns" or (name == "annotation" and not in_class):
            continue
        inside = isinstance(node, ast.ClassDef) or (in_class and not isinstance(node, ast.FunctionDef | ast.arguments))
        message = isinstance(node, ast.Assert) and name == "msg"
        logged = isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log.")
        if not message and not logged:
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, ast.AST):
                    yield from acting(item, inside)


def constant(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str) and node.value != "":
        value = node.value
        return ast.Constant(
            not value if isinstance(value, bool) else value + (1 if not isinstance(value, str) else "x")
        )
    return None


def operator(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult):
        return ast.BinOp(node.left, ast.Sub(), node.right)
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Lt | ast.Gt | ast.Eq | ast.NotEq):
        return ast.Compare(node.left, [ast.GtE(), *node.ops[1:]], node.comparators)
    return None


def called(node: ast.AST) -> ast.AST | None:
    """Another function, or one argument less."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return ast.Call(ast.Attribute(node.func.value, node.func.attr + "_", ast.Load()), node.args, node.keywords)
    if isinstance(node, ast.Call) and len(node.args) > 1:
        return ast.Call(node.func, node.args[:-1], node.keywords)
    return None


def default(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.arguments) and node.defaults:
        return ast.arguments(
            node.posonlyargs, node.args, node.vararg, node.kwonlyargs, node.kw_defaults, node.kwarg,
            [*node.defaults[:-1], ast.Constant("another default")],
        )  # fmt: skip
    return None


class Put(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self.old:
            return self.new
        return self.generic_visit(node)


def variants(name: str, change: Callable[[ast.AST], ast.AST | None]) -> list[str]:
    """Texts of a module, each with one change, at up to four places drawn from all that can be changed so."""
    tree = ast.parse(module_text(name))
    places = [
        node
        for statement in tree.body
        if sources._defined(statement)
        for node in acting(statement)
        if change(node) is not None
    ]
    texts = []
    for number in random.Random(name).sample(range(len(places)), min(4, len(places))):
        fresh = ast.parse(module_text(name))
        again = [
            node
            for statement in fresh.body
            if sources._defined(statement)
            for node in acting(statement)
            if change(node) is not None
        ]
        replacement = change(copy.deepcopy(again[number]))
        assert replacement is not None
        texts.append(ast.unparse(ast.fix_missing_locations(Put(again[number], replacement).visit(fresh))))
    return texts


@pytest.mark.parametrize(("change", "least"), [(constant, 250), (operator, 100), (called, 250), (default, 30)])
def test_what_changes_a_number_changes_the_digest_in_every_module(
    change: Callable[[ast.AST], ast.AST | None], least: int
) -> None:
    tried = 0
    for name in HASHED:
        for text in variants(name, change):
            assert edited(name, text) != DIGESTS[name], (name, text)
            tried += 1
    assert tried > least


def digest_of(tmp_path: Path, **modules: str) -> str:
    """Digest of ``irepa.stages.it`` of a package with these modules, ``__`` for a dot."""
    for name, text in modules.items():
        path = tmp_path.joinpath("irepa", *name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Sources(tmp_path).digest(["irepa.stages.it"])


def test_only_what_is_used_counts(tmp_path: Path) -> None:
    stage = "from irepa import tools\nfrom irepa.other import Kind\n\ndef run(context):\n    return tools.one(Kind)\n"
    tools = "import math\n\nLIMIT = 3\n\ndef one(x):\n    return math.sqrt(x) * LIMIT\n\ndef two(x):\n    return x\n"
    other = "class Kind:\n    size = 1\n"
    first = digest_of(tmp_path, stages__it=stage, tools=tools, other=other)

    def then(**changes: str) -> str:
        return digest_of(tmp_path, **({"stages__it": stage, "tools": tools, "other": other} | changes))

    assert then() == first
    assert then(tools=tools.replace("return x\n", "return 2 * x\n")) == first  # nobody calls two()
    assert then(tools=tools.replace("LIMIT = 3", "LIMIT = 4")) != first
    assert then(other=other.replace("size = 1", "size = 2")) != first
    assert then(tools=tools + "\nREGISTRY = {}\nREGISTRY['a'] = two\n") != first  # it runs when the module is imported
    assert then(tools=tools.replace("import math", "from math import sqrt").replace("math.sqrt", "sqrt")) == first
    assert then(tools=tools.replace("import math", "from numpy import sqrt").replace("math.sqrt", "sqrt")) != first
    inside = tools.replace("import math\n\n", "").replace("    return math", "    import math\n\n    return math")
    assert then(tools=inside) == first
    by_name = stage.replace("from irepa import tools", "from irepa.tools import one as first").replace(
        "tools.one", "first"
    )
    assert then(stages__it=by_name) == first
    swapped = stage.replace("tools.one(", "tools.two(")
    assert then(stages__it=swapped) != first
    annotated = tools.replace("def one(x):", "def one(x: float) -> float:")
    assert then(tools=annotated) == first
    assert then(tools=tools.replace("return math", "y: float = 0\n    return math")) != first
    typed = "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from irepa.other import Kind\n\n" + tools
    assert then(tools=typed) == first


def test_a_local_variable_is_not_the_definition_of_its_name(tmp_path: Path) -> None:
    stage = "from irepa.tools import spread\n\ndef run(x):\n    return [lower for lower in spread(x)]\n"
    tools = "def spread(x):\n    lower = x\n    return lower\n\ndef lower(x):\n    return 1\n"
    first = digest_of(tmp_path, stages__it=stage, tools=tools)
    assert digest_of(tmp_path, stages__it=stage, tools=tools.replace("return 1", "return 2")) == first


def test_the_class_of_a_setting_counts_and_its_description_does_not(tmp_path: Path) -> None:
    stage = (
        'class Options:\n    """Words."""\n\n    steps: int = Field(3, description="How many.")\n\n\n'
        'def run(options):\n    if options.steps < 0:\n        raise ValueError(f"steps {options.steps} is too few")\n'
    )
    first = digest_of(tmp_path, stages__it=stage)
    for words in ("How many.", "Words.", "is too few"):
        assert digest_of(tmp_path, stages__it=stage.replace(words, "Other.")) == first
    for meaning, other in (("Field(3", "Field(4"), (": int", ": float"), ("< 0", "<= 0"), ("{options.steps}", "{0}")):
        assert digest_of(tmp_path, stages__it=stage.replace(meaning, other)) != first


def test_the_digest_does_not_depend_on_the_version_of_python(tmp_path: Path) -> None:
    """Written down once under Python 3.11: another version that parses differently would show."""
    stage = '''
import numpy as np
from dataclasses import dataclass, field

NAMES = {"a": 1, **{"b": -2}}
text = f"{1 + 1!r:>{10}} and {NAMES['a']} " "joined" f"{NAMES}"

@dataclass(frozen=True)
class Point:
    """Words."""

    x: "float | None" = None
    y: list[int] = field(default_factory=list)

    def move(self, /, by: float = 1e-3, *others, scale=2j, **rest) -> "Point":
        total = lambda z: z if z else ...
        with open("file") as one, open("other") as other:
            for i, (j, *k) in enumerate([*others, b"bytes"]):
                try:
                    assert i != j, "words"
                except* (ValueError, KeyError) as error:
                    raise RuntimeError("words") from error
                while not (total := i):
                    break
                else:
                    del k[1:2:3]
        match by:
            case {"a": [1, *_]} | Point(x=2):
                return np.array([x async for x in y] if rest else {n: m for n, m in NAMES.items() if n})
            case _:
                global text
                yield from others
'''
    assert digest_of(tmp_path, stages__it=stage) == "b2a91179cf3fda75d567f07e46cf824d7588ddedacf2a111a10bba453099ceb7"


def test_claims_count_by_what_they_say_and_published_numbers_by_their_bytes(tmp_path: Path) -> None:
    from irepa.pipeline.plan import content_digest

    claims = REPOSITORY / "workflow" / "claims.yaml"
    copy_, other = tmp_path / "claims.yaml", tmp_path / "other.yaml"
    copy_.write_text("# A remark.\n\n" + claims.read_text())
    other.write_text(claims.read_text().replace("alpha: 0.05", "alpha: 0.01") + "\nmore: {a: 1}\n")
    assert content_digest(copy_) == content_digest(claims)
    assert content_digest(other) != content_digest(claims)


def test_digests_are_kept_until_a_byte_of_the_package_changes(tmp_path: Path) -> None:
    folder, path = tmp_path / "source", tmp_path / "kept.json"
    module, script = folder / "irepa" / "one.py", tmp_path / "script.py"
    module.parent.mkdir(parents=True)
    module.write_text("A = 1\n")
    script.write_text("B = 2\n")

    def kept() -> dict[str, str]:
        digests = KeptDigests(Sources(folder), path)
        return {name: digests.digest([name]) for name in ("irepa.one", str(script))}

    first = kept()
    planted = json.loads(path.read_text())
    planted["digests"] = dict.fromkeys(planted["digests"], "from the file")
    path.write_text(json.dumps(planted))
    assert kept() == dict.fromkeys(first, "from the file")  # read, and not worked out again

    script.write_text("B = 3\n")
    assert kept()["irepa.one"] == "from the file" != kept()[str(script)]
    module.write_text("A = 4\n")
    assert "from the file" not in kept().values()
    assert kept()["irepa.one"] != first["irepa.one"]
    module.write_text("A = 1\n")
    script.write_text("B = 2\n")
    for damage in ("", "[]", "{}", '{"content": 1, "digests": 2}', path.read_text()[:-9]):
        path.write_text(damage)
        assert kept() == first
    path.unlink()

    class Edited(Sources):
        def digest(self, modules: Iterable[str]) -> str:
            module.write_text("A = 5\n")  # while it is read
            return super().digest(modules)

    assert KeptDigests(Edited(folder), path).digest(["irepa.one"]) != first["irepa.one"]
    module.write_text("A = 1\n")
    assert kept() == first
    path.unlink()
    path.mkdir()  # cannot be read, cannot be written
    assert kept() == first
