"""dvc.yaml: every stage is a command, and lists the code that decides its results.

A stage that lacks a dependency keeps results of code that is no longer there. Trainings depend on
what check notes of their code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from knowledge_gaps.core.code_graph import PACKAGE, SOURCE, list_architectures, list_modules
from knowledge_gaps.core.provenance import UNDECIDING, has_code, list_deciding
from knowledge_gaps.execution.code import describe_training_code
from module_graph import ROOT, find_closure, get_room

from knowledge_gaps.cli import app
from knowledge_gaps.study import Kind, load_study
from knowledge_gaps.study.graph import get_cohorts
from knowledge_gaps.study.schema import WRITTEN
from study_tools import SMOKE_FILE

CONTENT: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
STAGES: dict[str, dict[str, Any]] = {
    name: {**stage.get("do", stage), "foreach": stage.get("foreach")}
    for name, stage in CONTENT["stages"].items()
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


def list_missing(stage: str, modules: Iterable[str]) -> list[str]:
    entries = list_code_deps(stage)
    return [name for name in modules if not is_covered(name, entries)]


@pytest.mark.parametrize("stage", [name for name in STAGES if name not in set(Kind)])
def test_code_that_decides_the_results_is_listed(stage: str) -> None:
    uses_registry = f"{PACKAGE}.models.registry" in find_closure(f"{PACKAGE}.stages.{stage}")
    architectures = list_architectures() if uses_registry else ()
    assert list_missing(stage, list_deciding(f"stages.{stage}", architectures)) == []


@pytest.mark.parametrize("kind", Kind)
def test_cohorts_depend_on_the_note_of_their_code(kind: Kind) -> None:
    assert f"models/code/{kind}/${{key}}.json" in STAGES[kind]["deps"]
    assert list_code_deps(kind) == []


def test_check_depends_on_all_code_that_it_notes() -> None:
    # else a note would stay what it was when the code changes; what decides nothing imports it
    for kind in Kind:
        closure = find_closure(f"{PACKAGE}.stages.{kind}")
        assert list_missing("check", filter(has_code, closure - {PACKAGE})) == []


@pytest.mark.parametrize("kind", Kind)
def test_note_has_all_code_that_a_cohort_runs(kind: Kind) -> None:
    study = load_study(SMOKE_FILE)
    architectures = {"dcgan", "cnn"}
    noted = list_deciding(f"stages.{kind}", architectures, ["runtime.checkpoint", "study.recipes"])
    paths = {list_modules()[name].relative_to(SOURCE).as_posix() for name in noted}
    notes = [describe_training_code(study, kind, name) for name in get_cohorts(study, kind)]
    assert paths == {path for note in notes for path in note}


@each_stage
def test_listed_code_exists_and_is_used(stage: str) -> None:
    closure = find_closure(f"{PACKAGE}.stages.{stage}")
    if stage == "check":  # it reads the code of trainings, and runs little of it
        closure |= {name for kind in Kind for name in find_closure(f"{PACKAGE}.stages.{kind}")}
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
    for entry in UNDECIDING:
        assert f"{PACKAGE}.{entry}" in reached, entry


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
