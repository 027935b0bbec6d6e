"""dvc.yaml: every stage is a command, and lists the code that decides its results.

A stage that lacks a dependency keeps results of code that is no longer there. The same is asked of
the caches and of the key of resume states, which hash code by themselves.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from module_graph import PACKAGE, ROOT, SOURCE, find_closure, get_room, has_code, list_modules

from knowledge_gaps.cli import app
from knowledge_gaps.data import sample_notes
from knowledge_gaps.stages import agreement, audit, detections, quality
from knowledge_gaps.study import load_study
from knowledge_gaps.study.schema import WRITTEN
from knowledge_gaps.training import task

CONTENT: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
STAGES: dict[str, dict[str, Any]] = {
    name: {**stage.get("do", stage), "foreach": stage.get("foreach")}
    for name, stage in CONTENT["stages"].items()
}
ROOMS = {"data", "models", "losses", "training", "evaluation", "report"}

# modules of the other rooms that no stage needs to list, each with the reason
EXEMPT = {
    "runtime.cache": "returns rows under a hash of what decides them, code included",
    "runtime.checkpoint": "a file format; what is in the file is decided elsewhere",
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
    "study": "params of dvc.yaml say what of it a stage depends on",
    "stages.classifiers": "names the kind of cohort",
    "stages.cohort": "shows a training that the room training does",
    "stages.gans": "names the kind of cohort",
    "stages.report": "calls the room report",
    "stages.track": "a view of results",
    "stages.check": "its output is the same for every study that it lets through",
}
# stages/ modules that no stage of dvc.yaml is named after
NO_STAGE = {
    "cohort": "shared by gans and classifiers",
    "describe": "run by hand",
    "plan": "run by hand",
    "verdicts": "run by hand",
    "replays": "trains for audit",
    "sampling": "draws for samples",
    "track": "run by hand",
}

each_stage = pytest.mark.parametrize("stage", STAGES)


def list_code_deps(stage: str) -> list[Path]:
    return [ROOT / dep for dep in STAGES[stage]["deps"] if dep.startswith("src/")]


def is_exempt(module: str) -> bool:
    name = module.removeprefix(f"{PACKAGE}.")
    return any(name == entry or name.startswith(f"{entry}.") for entry in EXEMPT)


def list_deciding(module: str) -> list[str]:
    """List the modules below a stage's that must be dependencies of it."""
    return sorted(
        name
        for name in find_closure(module)
        if get_room(name) and has_code(name) and not is_exempt(name)
    )


def is_covered(module: str, entries: list[Path]) -> bool:
    path = list_modules()[module]
    return any(path == entry or entry in path.parents for entry in entries)


# --- commands


@each_stage
def test_command_is_the_stage_of_that_name(stage: str) -> None:
    arguments = "" if STAGES[stage]["foreach"] is None else " ${key}"
    assert STAGES[stage]["cmd"] == f"kgaps {stage}{arguments}"
    command = typer.main.get_command(app)
    assert stage in getattr(command, "commands", {})


def test_every_stage_module_is_a_stage() -> None:
    names = {name.rpartition(".")[2] for name in list_modules() if get_room(name) == "stages"}
    assert names - {"stages"} == {*STAGES, *NO_STAGE}


@each_stage
def test_no_command_names_the_machine(stage: str) -> None:
    assert not re.search(r"cuda|gpu|worker|cpu|accelerate", str(STAGES[stage]["cmd"]))


# --- code


@each_stage
def test_code_that_decides_the_results_is_listed(stage: str) -> None:
    entries = list_code_deps(stage)
    missing = [
        name for name in list_deciding(f"{PACKAGE}.stages.{stage}") if not is_covered(name, entries)
    ]
    assert missing == []


@each_stage
def test_listed_code_exists_and_is_used(stage: str) -> None:
    closure = find_closure(f"{PACKAGE}.stages.{stage}")
    for entry in list_code_deps(stage):
        assert entry.exists(), entry
        holds_code = any(is_covered(name, [entry]) for name in list_modules())
        assert not holds_code or any(is_covered(name, [entry]) for name in closure), entry


def test_packaged_weights_are_listed_where_they_are_used() -> None:
    assets = SOURCE / PACKAGE / "evaluation" / "assets"
    for stage in STAGES:
        uses_lenet = f"{PACKAGE}.evaluation.lenet" in find_closure(f"{PACKAGE}.stages.{stage}")
        assert (assets in list_code_deps(stage)) == uses_lenet, stage


def test_exceptions_are_needed() -> None:
    reached = {name for s in STAGES for name in find_closure(f"{PACKAGE}.stages.{s}")}
    for entry in EXEMPT:
        assert f"{PACKAGE}.{entry}" in reached, entry


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("training.instance", task._CODE),
        ("stages.samples", sample_notes._CODE),
        ("stages.detections", detections._CODE),
        ("stages.quality", quality._CODE),
        ("stages.audit", audit._CODE),
        ("stages.agreement", agreement._CODE),
    ],
)
def test_keys_hash_the_code_that_decides(module: str, code: tuple[str, ...]) -> None:
    entries = [SOURCE / PACKAGE / entry for entry in code]
    assert all(entry.exists() for entry in entries)
    deciding = [name for name in list_deciding(f"{PACKAGE}.{module}") if get_room(name) != "stages"]
    assert [name for name in deciding if not is_covered(name, entries)] == []


# --- inputs and outputs


def list_paths(stage: str, key: str) -> list[str]:
    return [
        path if isinstance(path, str) else next(iter(path)) for path in STAGES[stage].get(key, [])
    ]


def test_samples_that_are_there_are_left_to_their_stage() -> None:
    # DVC removes an output before its stage runs; what this one finds it would draw again
    assert STAGES["samples"]["outs"] == [{"data/samples": {"persist": True}}]


def test_every_input_is_an_output_a_source_or_the_data() -> None:
    outs = [
        re.sub(r"\$\{[^}]*\}.*", "", path)
        for stage in STAGES
        for key in ("outs", "metrics")
        for path in list_paths(stage, key)
    ]
    for stage in STAGES:
        for dep in list_paths(stage, "deps"):
            if dep.startswith(("src/", "${data.directory}", "findings.yaml")):
                continue
            fixed = re.sub(r"\$\{[^}]*\}.*", "", dep)
            assert any(fixed.startswith(out) or out.startswith(fixed) for out in outs), dep


def test_data_may_not_overlap_with_what_stages_write() -> None:
    outs = [
        path for stage in STAGES for key in ("outs", "metrics") for path in list_paths(stage, key)
    ]
    assert outs
    for out in outs:
        assert any(Path(out).is_relative_to(written) for written in WRITTEN), out


@each_stage
def test_params_exist(stage: str) -> None:
    sections = set(load_study(ROOT / "params.yaml").model_dump())
    for entry in STAGES[stage].get("params", []):
        assert entry.partition(".")[0] in sections, entry


def test_cohorts_depend_on_their_own_entries_alone() -> None:
    # so that a new cohort in params.yaml trains nothing else again
    for stage in ("gans", "classifiers", "pools"):
        params = STAGES[stage]["params"]
        assert not {"gans", "classifiers", "pools", "study", "report"} & set(params)
