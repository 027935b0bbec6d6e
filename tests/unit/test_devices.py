"""The machine: workers, GPUs, ranks, the Accelerator that is built of them, the environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from knowledge_gaps.core import devices
from knowledge_gaps.core.devices import Rank, count_processes, count_workers, find_gpu, read_rank
from knowledge_gaps.core.errors import UserError

TORCHRUN = {"RANK": "1", "LOCAL_RANK": "0", "WORLD_SIZE": "4"}
TORCHRUN |= {"MASTER_ADDR": "host-a", "MASTER_PORT": "29500"}
KEPT = {"KGAPS_WORKERS": "2", "CUDA_VISIBLE_DEVICES": "0", "TORCH_HOME": "/cache"}
KEPT |= {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
KEPT |= {"TORCH_NCCL_ASYNC_ERROR_HANDLING": "1"}
TAKEN = {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "2", "OMPI_COMM_WORLD_SIZE": "4"}
TAKEN |= {"NVIDIA_TF32_OVERRIDE": "1", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}
TAKEN |= {"ONEDNN_DEFAULT_FPMATH_MODE": "BF16", "CUBLASLT_WORKSPACE_SIZE": "0"}


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ("PROCESSES", "WORKERS", "WORKERS_PER_GPU", "DEVICE")
    for name in (*TORCHRUN, *(f"KGAPS_{name}" for name in settings)):
        monkeypatch.delenv(name, raising=False)


def test_gpu_that_is_asked_for_must_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KGAPS_DEVICE", "cuda")
    for driver, num_gpus in ((tmp_path / "none", 2), (tmp_path, 0)):
        monkeypatch.setattr(devices, "_DRIVER", driver)
        monkeypatch.setattr(torch.cuda, "device_count", lambda found=num_gpus: found)
        with pytest.raises(UserError, match="KGAPS_DEVICE: 'cuda' found, there is no GPU"):
            devices.find_device()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.count_gpus() == 2
    monkeypatch.setenv("KGAPS_DEVICE", "tpu")
    with pytest.raises(UserError, match="KGAPS_DEVICE: 'tpu' found"):
        devices.count_gpus()


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
    devices.check_alone("samples")
    assert read_rank() is None
    set_variables(monkeypatch, TORCHRUN)
    assert read_rank() == Rank(index=1, local_index=0, size=4)
    with pytest.raises(UserError, match="WORLD_SIZE: 4 found, but 'samples' runs as one process"):
        devices.check_alone("samples")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert read_rank() is None  # one process is on its own
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(UserError, match=r"WORLD_SIZE: .*'many'"):
        read_rank()
    monkeypatch.delenv("MASTER_ADDR")
    assert read_rank() is None
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


@pytest.mark.parametrize("name", ["KGAPS_PROCESSES", "KGAPS_WORKERS", "KGAPS_WORKERS_PER_GPU"])
def test_counts_are_counts(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    count = count_processes if name == "KGAPS_PROCESSES" else count_workers
    for text in ("0", "two", "-1", ""):
        monkeypatch.setenv(name, text)
        with pytest.raises(UserError, match=f"{name}: '{text}' found"):
            count(None if name == "KGAPS_PROCESSES" else 2)


def clean(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> dict[str, str]:
    """Clean an environment of these variables alone; return what is left of it."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", dict(variables))
        devices.clean_environment()
        return dict(os.environ)


def test_what_changes_numbers_is_taken_out_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = clean(monkeypatch, {})
    assert (fixed["MPLBACKEND"], fixed["CUBLAS_WORKSPACE_CONFIG"]) == ("Agg", ":4096:8")
    assert fixed["OMP_NUM_THREADS"] == fixed["MKL_NUM_THREADS"] == "1"
    inherited = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "OMP_NUM_THREADS": "3"}
    capsys.readouterr()
    left = clean(monkeypatch, {**KEPT, **TAKEN, **TORCHRUN, **inherited})
    assert left == {**KEPT, **TORCHRUN, **fixed}
    names = ", ".join(sorted(TAKEN))
    assert capsys.readouterr().err == f"kgaps: environment: not used: {names}\n"
    for missing in TORCHRUN:  # half of torchrun's variables are none
        some = {name: value for name, value in TORCHRUN.items() if name != missing}
        assert clean(monkeypatch, some) == fixed
