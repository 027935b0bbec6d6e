"""The inherited environment changes no number and stops no stage."""

from __future__ import annotations

import ast
import os
import shutil
from pathlib import Path

import pytest

from knowledge_gaps.core.environment import clean_environment
from study_tools import REPOSITORY, hash_tree, start_kgaps

RANKS = {
    "WORLD_SIZE": "2",
    "RANK": "0",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}
FIXED = {
    "MPLBACKEND": "Agg",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
KEPT = {
    "KGAPS_WORKERS": "2",
    "MLFLOW_TRACKING_URI": "http://host",
    "MLFLOW_TRACKING_PASSWORD": "secret",
    "CUDA_VISIBLE_DEVICES": "0",
    "DVC_ROOT": "/repository",
    "HTTPS_PROXY": "http://proxy",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "TORCH_HOME": "/cache",
    "CUDNN_VERSION": "9",
    "TORCHELASTIC_RUN_ID": "none",
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
}
TAKEN = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "2",
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ATEN_CPU_CAPABILITY": "default",
    "FSDP_OFFLOAD_PARAMS": "true",
    "NVIDIA_TF32_OVERRIDE": "1",
    "OMPI_COMM_WORLD_SIZE": "4",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "TORCHDYNAMO_DISABLE": "1",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
}


def clean(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> dict[str, str]:
    """Clean an environment of these variables alone; return what is left of it."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", dict(variables))
        clean_environment()
        return dict(os.environ)


def test_what_changes_numbers_is_taken_out_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inherited = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "OMP_NUM_THREADS": "3"}
    left = clean(monkeypatch, {**KEPT, **TAKEN, **RANKS, **inherited})
    assert left == {**KEPT, **RANKS, **FIXED}
    names = ", ".join(sorted(TAKEN))
    assert capsys.readouterr().err == f"kgaps: environment: not used: {names}\n"
    assert clean(monkeypatch, KEPT) == {**KEPT, **FIXED}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("missing", RANKS)
def test_half_of_torchruns_variables_is_none(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    half = {name: RANKS[name] for name in RANKS if name != missing}
    assert not half.keys() & clean(monkeypatch, half).keys()


@pytest.mark.slow
def test_training_and_report_ignore_the_environment(
    trained_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accelerate would skip updates; matplotlib would look for the notebook's module."""
    expected = hash_tree(trained_copy / "models")
    (trained_copy / "models/gans/baseline/cohort.json").unlink()
    for file in (trained_copy / "models/gans/baseline").rglob("*.*"):
        file.unlink()
    shutil.copy(REPOSITORY / "findings.yaml", trained_copy)
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "2")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    for command in (["gans", "baseline"], ["report"]):
        process = start_kgaps(trained_copy, *command)
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
        assert "not used: ACCELERATE_GRADIENT_ACCUMULATION_STEPS" in said
    assert hash_tree(trained_copy / "models") == expected
    assert (trained_copy / "reports" / "index.html").is_file()


def test_no_assert_has_an_effect() -> None:
    """`python -O` drops asserts: what they say may be true or false, but must do nothing.

    Calls are allowed for the plain questions below.
    """
    questions = {"isinstance", "len", "all", "any", "set", "sorted", "issubset", "dim", "is_file"}
    for path in sorted((REPOSITORY / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assert):
                inner = list(ast.walk(node.test))
                calls = {_get_name(call.func) for call in inner if isinstance(call, ast.Call)}
                assert calls <= questions, f"{path}:{node.lineno}"
                assert not any(isinstance(part, ast.NamedExpr) for part in inner), path


def _get_name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)
