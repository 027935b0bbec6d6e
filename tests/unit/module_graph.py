"""Which module of the package imports which, read from the source without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
PACKAGE = "knowledge_gaps"


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
    return ast.parse(list_modules()[module].read_text(encoding="utf-8"))


@cache
def list_imports(module: str) -> tuple[Import, ...]:
    """List all imports of a module, those in functions too."""
    return tuple(_walk(parse(module), False, False))


def get_room(module: str) -> str:
    """Return the first part of a module's name below the package; "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def has_code(module: str) -> bool:
    """Tell whether a module holds more than a docstring and imports from __future__."""
    return not all(
        (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.ImportFrom) and node.module == "__future__")
        for node in parse(module).body
    )


@cache
def find_closure(module: str) -> frozenset[str]:
    """Find all modules of the package that running a module can lead to, itself included.

    Modules that a string names count as imported; the packages around a module are run with it.
    The registry imports all of its folder.
    """
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting += [target for target in _list_next(name) if target in list_modules()]
    return frozenset(found)


def _list_next(module: str) -> Iterator[str]:
    yield from (item.target for item in list_imports(module) if not item.is_typing)
    for node in ast.walk(parse(module)):
        if isinstance(node, ast.Constant) and node.value in list_modules():
            yield str(node.value)
    if module == f"{PACKAGE}.models.registry":
        yield from (name for name in list_modules() if get_room(name) == "models")
    if "." in module:
        yield module.rpartition(".")[0]


def _walk(node: ast.AST, is_lazy: bool, is_typing: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, is_lazy, is_typing) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            for alias in child.names:
                full = f"{child.module}.{alias.name}"
                target = full if full in list_modules() else str(child.module)
                yield Import(target, is_lazy, is_typing)
        else:
            in_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            for_typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            yield from _walk(child, is_lazy or in_function, is_typing or for_typing)


def list_package_imports(module: str) -> list[str]:
    """List the modules of the package that a module imports, for typing or not."""
    targets = [item.target for item in list_imports(module)]
    return [target for target in targets if target.split(".")[0] == PACKAGE]
