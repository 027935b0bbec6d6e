"""Fingerprints of code and versions: what a result was made by.

Hashes of syntax trees without comments and docstrings, the same for every supported Python.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Collection, Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

from knowledge_gaps.core.files import dump_json

SOURCE = Path(__file__).parents[1]
ARCHITECTURES = Path("models", "architectures")


def hash_code(places: Iterable[str], architectures: Collection[str] = ()) -> str:
    """Hash names and syntax trees of modules: files or folders below the package, as "training".

    Of models/architectures, only the files of the given architectures count, so adding or editing
    another one changes nothing.
    """
    hashes = {}
    for place in (SOURCE / place for place in places):
        for path in place.rglob("*.py") if place.is_dir() else [place]:
            name = path.relative_to(SOURCE)
            is_shared = ARCHITECTURES not in name.parents
            if is_shared or name.parts[2].removesuffix(".py") in architectures:
                hashes[name.as_posix()] = hash_module(path)
    return hashlib.sha256(dump_json(hashes).encode()).hexdigest()


@cache
def hash_module(path: Path) -> str:
    """Hash the syntax tree of a Python file without comments, docstrings and line breaks."""
    tree = _simplify(ast.parse(path.read_text(encoding="utf-8")))
    return hashlib.sha256(dump_json(tree).encode()).hexdigest()


def get_versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return the versions of installed distributions."""
    return {name: metadata.version(name) for name in distributions}


def _simplify(syntax: object) -> object:
    """Turn syntax into lists without docstrings, empty fields and empty text in f-strings."""
    if isinstance(syntax, list):
        return [_simplify(entry) for entry in syntax if not _is_docstring(entry)]
    if not isinstance(syntax, ast.AST):
        return repr(syntax)
    fields = dict(ast.iter_fields(syntax))
    if isinstance(syntax, ast.JoinedStr):
        fields["values"] = [part for part in syntax.values if ast.unparse(part) != "''"]
    kept = {name: value for name, value in fields.items() if value is not None and value != []}
    return [type(syntax).__name__, *([name, _simplify(value)] for name, value in kept.items())]


def _is_docstring(node: object) -> bool:
    constant = node.value if isinstance(node, ast.Expr) else None
    return isinstance(constant, ast.Constant) and isinstance(constant.value, str)
