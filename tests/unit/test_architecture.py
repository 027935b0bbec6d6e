"""Imports run one way, and what only one module may do is done by that one alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator

import pytest
from knowledge_gaps.core.code_graph import PACKAGE, list_imports, list_modules, parse
from module_graph import find_closure, get_room, list_package_imports

from knowledge_gaps import cli

BOTTOM = {"runtime", "study"}
# what a room may import beside itself
ALLOWED = {
    "": set(),
    "__main__": {"cli"},
    "cli": {"", "stages", "orchestration", *BOTTOM},
    "orchestration": BOTTOM,
    "stages": {
        "planning",
        "training",
        "evaluation",
        "report",
        "manual",
        "models",
        "losses",
        "data",
        "statistics",
        *BOTTOM,
    },
    "planning": {"training", "models", "losses", "data", *BOTTOM},
    "training": {"models", "losses", "data", *BOTTOM},
    "evaluation": {"models", "losses", "data", "statistics", *BOTTOM},
    "report": {"models", "losses", "data", "statistics", *BOTTOM},
    "manual": {"models", *BOTTOM},
    "statistics": {"runtime"},
    "models": BOTTOM,
    "losses": BOTTOM,
    "data": BOTTOM,
    "study": {"runtime"},
    "runtime": {""},
}
# of runtime, the study may use what needs no torch and knows no layout
RUNTIME_OF_STUDY = {"knowledge_gaps.core.errors", "knowledge_gaps.core.files"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
TRACKING_LIBRARIES = {"mlflow"}
# run as a program, or preloaded into a server that does nothing but import
ACT_WHEN_IMPORTED = ("__main__", "runtime.quick_server")
# who may name params.yaml without reading it
NAMES_PARAMS = {
    "knowledge_gaps.study.load": "the one reader",
    "knowledge_gaps.study.unchanged": "compares it with what it was",
    "knowledge_gaps.study": "hands the name on",
    "knowledge_gaps.study.presets": "copies a study of settings/ over it",
    "knowledge_gaps.cli": "gives its path to load_study",
    "knowledge_gaps.tracking.sync": "uploads it as a file",
    "knowledge_gaps.sweeps.queue": "lets experiments begin with it as it is",
    "knowledge_gaps.sweeps.sweep": "gives its path to read_yaml",
    "knowledge_gaps.planning.standing": "finds it in what DVC says",
    "knowledge_gaps.report.page.deviations": "tells the reader where a choice is made",
}
PARSES_YAML = {
    "knowledge_gaps.study.load": "params.yaml",
    "knowledge_gaps.tracking.dvc_lock": "dvc.lock",
}

LOADS_WEIGHTS = {(f"{PACKAGE}.training.initial_weights", "True")}

each_module = pytest.mark.parametrize("module", list_modules())


def list_calls(module: str) -> Iterator[ast.Call]:
    return (node for node in ast.walk(parse(module)) if isinstance(node, ast.Call))


def list_strings(module: str) -> set[str]:
    nodes = ast.walk(parse(module))
    return {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def test_all_rooms_are_known() -> None:
    assert {get_room(module) for module in list_modules()} == set(ALLOWED)


@each_module
def test_imports_run_one_way(module: str) -> None:
    room = get_room(module)
    rooms = {get_room(target) for target in list_package_imports(module)}
    assert rooms - {room} <= ALLOWED[room]


def test_study_uses_the_plain_part_of_runtime() -> None:
    used = {
        target
        for module in list_modules()
        if get_room(module) == "study"
        for target in list_package_imports(module)
        if get_room(target) == "runtime"
    }
    assert used <= RUNTIME_OF_STUDY


def test_runtime_imports_no_room_by_a_detour() -> None:
    for module in list_modules():
        if get_room(module) == "runtime":
            rooms = {get_room(target) for target in find_closure(module)}
            assert rooms <= {"", "runtime"}, module


@each_module
def test_mlflow_is_imported_by_tracking_and_in_functions_only(module: str) -> None:
    for item in list_imports(module):
        if item.target.split(".")[0] in TRACKING_LIBRARIES:
            assert module.startswith(f"{PACKAGE}.runtime.tracking."), module
            assert item.is_lazy or item.is_typing, item


@each_module
def test_nothing_is_pickled(module: str) -> None:
    imported = {item.target.split(".")[0] for item in list_imports(module)}
    assert not imported & FORBIDDEN_MODULES
    for call in list_calls(module):
        name = ast.unparse(call.func)
        assert name not in {"torch.save", "pd.read_pickle"}, name
        keywords = {word.arg: ast.unparse(word.value) for word in call.keywords}
        if name == "torch.load":  # weights that others published, and no object but tensors
            assert (module, keywords.get("weights_only")) in LOADS_WEIGHTS, module
        assert keywords.get("allow_pickle", "False") == "False"
        if name in {"np.load", "np.save"}:
            assert "allow_pickle" in keywords, name


def test_params_are_read_in_one_place() -> None:
    for module in list_modules():
        imports_yaml = any(item.target.split(".")[0] == "yaml" for item in list_imports(module))
        assert not imports_yaml or module in PARSES_YAML, module
        names = {node.id for node in ast.walk(parse(module)) if isinstance(node, ast.Name)}
        uses_params = "params.yaml" in list_strings(module) or "PARAMS_FILE" in names
        assert not uses_params or module in NAMES_PARAMS, module
    parsers = {module for module in PARSES_YAML if module in NAMES_PARAMS}
    assert parsers == {"knowledge_gaps.study.load"}


def test_exceptions_are_needed() -> None:
    for module in (*NAMES_PARAMS, *PARSES_YAML):
        assert module in list_modules(), module


@each_module
def test_import_has_no_star_and_no_module_is_run_by_it(module: str) -> None:
    assert not any(
        alias.name == "*"
        for node in ast.walk(parse(module))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    )
    for node in parse(module).body:  # no print, no seed, no folder made by an import
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = ast.unparse(node.value.func)
            is_known = called.endswith((".register", ".add_typer", ".add_implicit_resolver"))
            assert is_known or module.endswith(ACT_WHEN_IMPORTED), called


def test_imports_that_no_statement_tells_are_known() -> None:
    # what a cohort depends on is read from import statements, and from names of modules in strings
    calling = {
        module
        for module in list_modules()
        for call in list_calls(module)
        if ast.unparse(call.func) in {"importlib.import_module", "import_module", "__import__"}
    }
    assert calling == {"knowledge_gaps.cli", "knowledge_gaps.models.registry"}


def test_server_imports_every_stage_that_has_workers() -> None:
    calling = {
        module.rpartition(".")[2]
        for module in list_modules()
        if get_room(module) == "stages"
        and any(
            isinstance(node, ast.Call) and ast.unparse(node.func) == "map_parallel"
            for node in ast.walk(parse(module))
        )
    }
    # samples starts the server by itself, once it knows that something is to be drawn
    assert calling == {*cli._IN_WORKERS, "samples"}


def test_parent_processes_stay_light_and_workers_import_no_tool() -> None:
    code = """
import sys
import knowledge_gaps.cli, knowledge_gaps.execution.cohort, knowledge_gaps.stages.samples
assert "torch" not in sys.modules, "torch in the parent"
import knowledge_gaps.training.instance
tools = {"mlflow", "dvc", "torch_fidelity", "sklearn", "pandas", "matplotlib"} & set(sys.modules)
assert not tools, tools
"""
    finished = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
