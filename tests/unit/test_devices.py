"""The machine: workers, GPUs, ranks, the Accelerator that is built of them, the environment."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from knowledge_gaps.core import devices
from knowledge_gaps.core.devices import (
    Rank,
    check_alone,
    clean_environment,
    count_processes,
    count_workers,
    find_gpu,
    read_rank,
)
from knowledge_gaps.core.errors import UserError
from study_tools import REPOSITORY, hash_tree, start_kgaps

TORCHRUN = {
    "RANK": "1",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "4",
    "MASTER_ADDR": "host-a",
    "MASTER_PORT": "29500",
}


FIXED = {
    "MPLBACKEND": "Agg",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
}
KEPT = {
    "KGAPS_WORKERS": "2",
    "CUDA_VISIBLE_DEVICES": "0",
    "HTTPS_PROXY": "http://proxy",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "TORCH_HOME": "/cache",
    "CUDNN_VERSION": "9",
    "TORCHELASTIC_RUN_ID": "none",
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
}
TAKEN = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "2",
    "ATEN_CPU_CAPABILITY": "default",
    "NVIDIA_TF32_OVERRIDE": "1",
    "OMPI_COMM_WORLD_SIZE": "4",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "TORCHDYNAMO_DISABLE": "1",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
}


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ("PROCESSES", "WORKERS", "WORKERS_PER_GPU", "DEVICE")
    for name in (*TORCHRUN, *(f"KGAPS_{name}" for name in settings)):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("has_driver", [False, True])
def test_gpu_that_is_asked_for_must_exist(
    monkeypatch: pytest.MonkeyPatch, has_driver: bool
) -> None:
    monkeypatch.setattr(devices, "has_gpu_driver", lambda: has_driver)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert devices.count_gpus() == 0
    monkeypatch.setenv("KGAPS_DEVICE", "cuda")
    with pytest.raises(UserError, match="KGAPS_DEVICE: 'cuda' found, there is no GPU"):
        devices.find_device()
    monkeypatch.setattr(devices, "has_gpu_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.count_gpus() == 2


@pytest.mark.parametrize(
    ("num_gpus", "variables", "expected"),
    [
        (0, {}, 5),  # one a core
        (2, {}, 2),
        (2, {"KGAPS_WORKERS_PER_GPU": "3"}, 6),
        (0, {"KGAPS_WORKERS_PER_GPU": "3"}, 5),
        (2, {"KGAPS_WORKERS_PER_GPU": "3", "KGAPS_WORKERS": "4"}, 4),
        (4, {"KGAPS_WORKERS": "90"}, 9),  # no more than tasks
    ],
)
def test_workers_are_one_a_gpu_or_one_a_core(
    monkeypatch: pytest.MonkeyPatch, num_gpus: int, variables: dict[str, str], expected: int
) -> None:
    monkeypatch.setattr(devices, "count_gpus", lambda: num_gpus)
    monkeypatch.setattr(devices, "count_cores", lambda: 5)
    set_variables(monkeypatch, variables)
    assert count_workers(9) == expected


def test_rank_is_read_where_torchrun_set_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    check_alone("samples")
    assert read_rank() is None
    set_variables(monkeypatch, TORCHRUN)
    assert read_rank() == Rank(index=1, local_index=0, size=4)
    with pytest.raises(UserError, match="WORLD_SIZE: 4 found, but 'samples' runs as one process"):
        check_alone("samples")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert read_rank() is None  # one process is on its own
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(UserError, match=r"WORLD_SIZE: .*'many'"):
        read_rank()
    monkeypatch.delenv("MASTER_ADDR")
    assert read_rank() is None


def test_rank_without_a_gpu_of_its_own_is_refused() -> None:
    assert find_gpu(Rank(5, 1, 8), num_gpus=2) == 1
    with pytest.raises(UserError, match="LOCAL_RANK: 2 found, this host has 2 GPUs"):
        find_gpu(Rank(2, 2, 4), num_gpus=2)


def test_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "count_gpus", lambda: 0)
    assert count_processes(None) == 1
    monkeypatch.setenv("KGAPS_PROCESSES", "2")
    assert (count_processes(None), count_processes(3)) == (2, 3)
    monkeypatch.setattr(devices, "count_gpus", lambda: 2)
    with pytest.raises(UserError, match="--num-processes: 3 found, this machine has 2 GPUs"):
        count_processes(3)
    monkeypatch.delenv("KGAPS_PROCESSES")
    set_variables(monkeypatch, TORCHRUN)  # several hosts: of all GPUs only some are here
    assert (count_processes(None), count_processes(4)) == (4, 4)
    with pytest.raises(UserError, match="--num-processes: 2 found, but torchrun started 4"):
        count_processes(2)


@pytest.mark.parametrize("text", ["0", "two", "-1", ""])
@pytest.mark.parametrize("name", ["KGAPS_PROCESSES", "KGAPS_WORKERS", "KGAPS_WORKERS_PER_GPU"])
def test_counts_are_counts(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(name, text)
    count = count_processes if name == "KGAPS_PROCESSES" else count_workers
    with pytest.raises(UserError, match=f"{name}: '{text}' found"):
        count(None if name == "KGAPS_PROCESSES" else 2)


# --- the inherited environment


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
    left = clean(monkeypatch, {**KEPT, **TAKEN, **TORCHRUN, **inherited})
    assert left == {**KEPT, **TORCHRUN, **FIXED}
    names = ", ".join(sorted(TAKEN))
    assert capsys.readouterr().err == f"kgaps: environment: not used: {names}\n"
    assert clean(monkeypatch, KEPT) == {**KEPT, **FIXED}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("missing", TORCHRUN)
def test_half_of_torchruns_variables_is_none(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    left = clean(monkeypatch, {name: TORCHRUN[name] for name in TORCHRUN if name != missing})
    assert not TORCHRUN.keys() & left.keys()


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
