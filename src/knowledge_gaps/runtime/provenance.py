"""Which code and which versions made a result.

The code is all modules that running one can lead to, less those that decide no number. A module's
comments, docstrings and line breaks are no part of it: who mends a sentence trains nothing again.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Collection, Iterable
from functools import cache
from importlib import metadata

from knowledge_gaps.runtime.code_graph import (
    ARCHITECTURES,
    PACKAGE,
    SOURCE,
    find_closure,
    is_docstring,
    list_architectures,
    list_modules,
    parse,
)
from knowledge_gaps.runtime.files import dump_json

# modules, or packages with all that is in them, that decide no number of a result; with the reason
UNDECIDING = {
    "runtime.cache": "returns rows under a hash of what decides them, code included",
    "runtime.checkpoint": "a file format, which decides for trainings alone what is in the file",
    "runtime.code_graph": "reads code, and runs none",
    "runtime.devices": "the machine, which is no parameter of a study",
    "runtime.dvc_lock": "tells the records which data they stand on",
    "runtime.errors": "failures, which leave no result",
    "runtime.files": "writes and hashes what it is given",
    "runtime.launch": "how many processes train, which is the machine's",
    "runtime.layout": "where files lie, which dvc.yaml says too",
    "runtime.parallel": "where a function runs, not what it returns",
    "runtime.printing": "what the terminal shows",
    "runtime.progress": "what the terminal shows",
    "runtime.provenance": "hashes code for keys of caches",
    "runtime.quick_server": "when the server of workers collects garbage",
    "runtime.quick_start": "when a process collects garbage",
    "runtime.signals": "when a training stops, which leaves no result",
    "runtime.tables": "writes what it is given",
    "runtime.tracking": "a view of results",
    "stages.check": "lets a study through or not, and notes the code of its cohorts",
    "stages.classifiers": "names the kind of cohort",
    "stages.cohort": "shows a training that the room training does",
    "stages.gans": "names the kind of cohort",
    "stages.report": "calls the room report",
    "stages.track": "a view of results",
    "study": "params of dvc.yaml say what of it a stage depends on",
    "training.code": "notes code and compares it",
}


def list_deciding(
    module: str, architectures: Iterable[str] = (), besides: Iterable[str] = ()
) -> list[str]:
    """List the modules that decide what a module computes.

    Args:
        module: of this package, without the package's name, such as "stages.gans".
        architectures: those in play, by name, for the registry finds them by what is in a study;
            it also refuses those that have no file.
        besides: modules that count although they are among those that decide nothing otherwise.

    Returns:
        Full names, sorted, of modules that hold code.
    """
    found = set(find_closure(f"{PACKAGE}.{module}"))
    for name in set(architectures) & set(list_architectures()):
        found |= find_closure(f"{ARCHITECTURES}.{name}")
    deciding = {name for name in found if not _is_undeciding(name)}
    return sorted(
        name for name in deciding | {f"{PACKAGE}.{name}" for name in besides} if has_code(name)
    )


def describe_code(modules: Iterable[str]) -> dict[str, str]:
    """Hash modules, given with their full names, each by its path below src/."""
    return {
        list_modules()[name].relative_to(SOURCE).as_posix(): _hash_module(name) for name in modules
    }


def name_modules(described: Iterable[str]) -> list[str]:
    """Name the modules that `describe_code` hashed, by what it called them."""
    names = {path.relative_to(SOURCE).as_posix(): name for name, path in list_modules().items()}
    return [names[path] for path in described]


def hash_code(
    module: str, architectures: Collection[str] = (), besides: Collection[str] = ()
) -> str:
    """Hash all that `list_deciding` lists, which has the arguments."""
    described = describe_code(list_deciding(module, architectures, besides))
    return hashlib.sha256(dump_json(described).encode()).hexdigest()


def hash_source(text: str) -> str:
    """Hash Python code without its comments, docstrings and line breaks.

    What is hashed is its syntax, told in a way that is the same for all versions of Python: models
    that one of them made are not trained again by another.
    """
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [entry for entry in node.body if not is_docstring(entry)] or [ast.Pass()]
        elif isinstance(node, ast.JoinedStr):  # some versions find empty text between values
            node.values = [part for part in node.values if not _is_empty_text(part)]
    return hashlib.sha256(dump_json(_tell(tree)).encode()).hexdigest()


@cache
def has_code(module: str) -> bool:
    """Tell whether a module holds more than a docstring and imports from __future__."""
    return not all(
        is_docstring(node) or (isinstance(node, ast.ImportFrom) and node.module == "__future__")
        for node in parse(module).body
    )


def get_versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of distributions, without those that are not installed."""
    versions = {}
    for name in distributions:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # run from a source tree on a machine's own Python
            continue
    return versions


def _is_undeciding(module: str) -> bool:
    names = (f"{PACKAGE}.{entry}" for entry in UNDECIDING)
    return module == PACKAGE or any(module == n or module.startswith(f"{n}.") for n in names)


@cache
def _hash_module(module: str) -> str:
    return hash_source(list_modules()[module].read_text(encoding="utf-8"))


def _tell(syntax: object) -> object:
    """Tell syntax in lists, without fields that are empty: later versions of Python have more."""
    if isinstance(syntax, list):
        return [_tell(entry) for entry in syntax]
    if isinstance(syntax, ast.AST):
        fields = [(name, value) for name, value in ast.iter_fields(syntax)]
        told = [[name, _tell(value)] for name, value in fields if value is not None and value != []]
        return [type(syntax).__name__, *told]
    return repr(syntax)


def _is_empty_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == ""
