"""Which module of the package imports which, read from the source without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = "knowledge_gaps"
ARCHITECTURES = f"{PACKAGE}.models.architectures"
_FOR_TYPING = ("TYPE_CHECKING", "typing.TYPE_CHECKING")
SOURCE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Import:
    """One import statement.

    Attributes:
        target: the module that is imported, as precisely as the statement tells.
        is_lazy: it stands in a function.
        is_typing: it is there for annotations only.
    """

    target: str
    is_lazy: bool
    is_typing: bool


@cache
def list_modules() -> dict[str, Path]:
    """List the package's modules by dotted name; a package stands for its __init__."""
    modules = {}
    for path in sorted((SOURCE / PACKAGE).rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


@cache
def parse(module: str) -> ast.Module:
    """Parse a module's source; the tree is shared, so nobody may change it."""
    return ast.parse(list_modules()[module].read_text(encoding="utf-8"))


@cache
def list_imports(module: str) -> tuple[Import, ...]:
    """List all imports of a module, those in functions too."""
    is_package = list_modules()[module].name == "__init__.py"
    package = module if is_package else module.rpartition(".")[0]
    return tuple(_walk(parse(module), package, False, False))


@cache
def find_closure(module: str) -> frozenset[str]:
    """Find all modules of the package that running a module can lead to, itself included.

    Modules that a string names count as imported; the packages around a module are run with it.
    Architectures, which the registry finds by the names in a study, are left to the caller.
    """
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [target for target in _list_next(name) if target in list_modules()]
    return frozenset(found)


def list_architectures() -> list[str]:
    """List the architectures that have a file of their name."""
    found = (name.rpartition(".") for name in list_modules())
    return [name for package, _, name in found if package == ARCHITECTURES]


def is_docstring(node: ast.stmt) -> bool:
    """Tell whether a statement is a string that nobody uses."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _list_next(module: str) -> Iterator[str]:
    yield from (item.target for item in list_imports(module) if not item.is_typing)
    for node in ast.walk(parse(module)):
        if isinstance(node, ast.Constant) and node.value in list_modules():
            yield str(node.value)
    if "." in module:
        yield module.rpartition(".")[0]


def _walk(node: ast.AST, package: str, is_lazy: bool, is_typing: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, is_lazy, is_typing) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            source = _find_source(child, package)
            for alias in child.names:
                full = f"{source}.{alias.name}"
                yield Import(full if full in list_modules() else source, is_lazy, is_typing)
        elif isinstance(child, ast.If) and ast.unparse(child.test) in _FOR_TYPING:
            yield from _walk(ast.Module(child.body, []), package, is_lazy, True)
            yield from _walk(ast.Module(child.orelse, []), package, is_lazy, is_typing)
        else:
            in_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from _walk(child, package, is_lazy or in_function, is_typing)


def _find_source(statement: ast.ImportFrom, package: str) -> str:
    """Find what a `from` statement imports from, also where dots name it."""
    if statement.level == 0:
        return str(statement.module)
    parts = package.split(".")
    around = parts[: len(parts) - statement.level + 1]
    return ".".join([*around, statement.module] if statement.module else around)
