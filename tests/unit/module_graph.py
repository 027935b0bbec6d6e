"""What the tests of the package's structure ask of its modules."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from knowledge_gaps.core.code_graph import (
    ARCHITECTURES,
    PACKAGE,
    list_architectures,
    list_imports,
)

from knowledge_gaps.core import code_graph

ROOT = Path(__file__).parents[2]


def get_room(module: str) -> str:
    """Return the first part of a module's name below the package; "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


@cache
def find_closure(module: str) -> frozenset[str]:
    """Find all modules that running a module can lead to, with the registry's architectures."""
    found = code_graph.find_closure(module)
    if f"{PACKAGE}.models.registry" in found:
        names = [f"{ARCHITECTURES}.{name}" for name in list_architectures()]
        found = found.union(*(code_graph.find_closure(name) for name in names))
    return found


def list_package_imports(module: str) -> list[str]:
    """List the modules of the package that a module imports, for typing or not."""
    targets = [item.target for item in list_imports(module)]
    return [target for target in targets if target.split(".")[0] == PACKAGE]
