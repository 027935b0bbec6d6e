"""How many processes train an instance, what the machine allows, and how their end is judged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from knowledge_gaps.runtime import accelerator, devices, launch

from knowledge_gaps.core.devices import Rank, find_gpu, read_rank
from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.files import read_json, write_json
from knowledge_gaps.stages import cohort
from knowledge_gaps.study import GanRecipe, OptimizerSettings
from knowledge_gaps.training import memory
from knowledge_gaps.training.memory import explain_shortage, halve_until, parse_request
from knowledge_gaps.training.ranks import Ranks
from knowledge_gaps.training.sizes import check_shares, find_largest_sharing

TORCHRUN = {
    "RANK": "1",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "4",
    "MASTER_ADDR": "host-a",
    "MASTER_PORT": "29500",
}
ADAM = OptimizerSettings(learning_rate=1e-3)


def make_recipe(**recipe: object) -> GanRecipe:
    settings = {"architecture": "stylegan2", "steps": 4, "batch_size": 32, **recipe}
    return GanRecipe.model_validate(
        {"generator_optimizer": ADAM, "discriminator_optimizer": ADAM, **settings}
    )


def set_gpus(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(launch, "count_gpus", lambda: number)


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*TORCHRUN, "KGAPS_PROCESSES", "KGAPS_WORKERS", "KGAPS_LAUNCH_FOLDER"):
        monkeypatch.delenv(name, raising=False)


# ------------------------------------------------------------------------------------------ devices


@pytest.mark.parametrize("has_driver", [False, True])
def test_a_gpu_that_is_asked_for_must_be_there(
    monkeypatch: pytest.MonkeyPatch, has_driver: bool
) -> None:
    monkeypatch.setattr(devices, "has_gpu_driver", lambda: has_driver)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.delenv("KGAPS_DEVICE", raising=False)
    assert devices.count_gpus() == 0
    monkeypatch.setenv("KGAPS_DEVICE", "cuda")
    with pytest.raises(UserError, match="KGAPS_DEVICE: 'cuda' found, there is no GPU"):
        devices.find_device()
    monkeypatch.setattr(devices, "has_gpu_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.count_gpus() == 2


# -------------------------------------------------------------------------------------------- ranks


def test_rank_is_read_where_torchrun_set_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_rank() is None
    set_variables(monkeypatch, TORCHRUN)
    assert read_rank() == Rank(index=1, local_index=0, size=4)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert read_rank() is None  # one process is on its own
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(UserError, match=r"WORLD_SIZE: .*'many'"):
        read_rank()


@pytest.mark.parametrize("missing", ["RANK", "LOCAL_RANK", "MASTER_ADDR"])
def test_half_of_torchruns_variables_make_no_rank(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    set_variables(monkeypatch, {k: v for k, v in TORCHRUN.items() if k != missing})
    assert read_rank() is None


def test_other_stages_refuse_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    launch.check_alone("samples")
    set_variables(monkeypatch, TORCHRUN)
    with pytest.raises(UserError, match="WORLD_SIZE: 4 found, but 'samples' runs as one process"):
        launch.check_alone("samples")


def test_rank_without_a_gpu_of_its_own_is_refused() -> None:
    assert find_gpu(Rank(5, 1, 8), num_gpus=2) == 1
    with pytest.raises(UserError, match="LOCAL_RANK: 2 found, this host has 2 GPUs"):
        find_gpu(Rank(2, 2, 4), num_gpus=2)


def test_accelerate_must_find_the_ranks_that_were_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Alone:
        num_processes = 1

        def __init__(self, **_: object) -> None: ...

    monkeypatch.setattr("accelerate.Accelerator", Alone)
    monkeypatch.setattr(accelerator, "count_gpus", lambda: 0)
    set_variables(monkeypatch, TORCHRUN)
    with pytest.raises(UserError, match="WORLD_SIZE: 4 processes were asked for, Accelerate has 1"):
        accelerator.build_accelerator(0)


# --------------------------------------------------------------------------------- how many of them


@pytest.mark.parametrize(
    ("num_gpus", "num_waiting", "is_due"),
    [(0, 1, False), (1, 1, False), (4, 4, False), (4, 9, False), (4, 3, True), (4, 0, False)],
)
def test_ranks_are_started_where_gpus_would_be_idle(
    monkeypatch: pytest.MonkeyPatch, num_gpus: int, num_waiting: int, is_due: bool
) -> None:
    set_gpus(monkeypatch, num_gpus)
    assert launch.is_launch_due(num_waiting) == is_due
    monkeypatch.setenv("KGAPS_WORKERS", "2")  # the user has decided: side by side
    assert not launch.is_launch_due(num_waiting)


def test_option_stands_above_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpus(monkeypatch, 0)
    assert launch.read_num_processes(None) is None
    monkeypatch.setenv("KGAPS_PROCESSES", "2")
    assert launch.read_num_processes(None) == 2
    assert launch.read_num_processes(3) == 3


@pytest.mark.parametrize("text", ["0", "two", "-1", ""])
def test_number_of_processes_is_a_count(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("KGAPS_PROCESSES", text)
    with pytest.raises(UserError, match=f"KGAPS_PROCESSES: '{text}' found"):
        launch.read_num_processes(None)


def test_number_of_processes_fits_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpus(monkeypatch, 2)
    assert launch.read_num_processes(2) == 2
    with pytest.raises(UserError, match="--num-processes: 3 found, this machine has 2 GPUs"):
        launch.read_num_processes(3)
    set_variables(monkeypatch, TORCHRUN)  # several hosts: of all GPUs only some are here
    assert launch.read_num_processes(4) == 4
    assert launch.read_num_processes(1) == 1  # an instance each
    with pytest.raises(UserError, match="--num-processes: 2 found, but torchrun started 4"):
        launch.read_num_processes(2)


def test_ranks_share_every_batch_evenly() -> None:
    recipe = make_recipe(path_length_weight=2.0, path_length_shrink=8)  # batches of 32 and 4
    check_shares(recipe, 4)
    with pytest.raises(UserError, match=r"batch_size // path_length_shrink: 4 images .* 8 proc"):
        check_shares(recipe, 8)
    with pytest.raises(UserError, match="batch_size: 32 images found, a multiple of the 3"):
        check_shares(make_recipe(), 3)


@pytest.mark.parametrize(
    ("recipe", "most", "expected"),
    [
        ({}, 8, 8),
        ({}, 7, 4),
        ({}, 64, 8),  # at least 4 images a rank
        ({"path_length_weight": 2.0}, 8, 4),  # 16 images
        ({"batch_size": 6}, 8, 1),
        ({"batch_size": 6}, 1, 1),
    ],
)
def test_as_many_ranks_as_share_evenly(recipe: dict[str, object], most: int, expected: int) -> None:
    assert find_largest_sharing(make_recipe(**recipe), most, least_images=4) == expected


@pytest.mark.parametrize(
    ("recipe", "num_instances", "asked", "expected"),
    [
        ({}, 4, None, 1),  # as many instances as ranks
        ({}, 9, None, 1),
        ({}, 3, None, 4),
        ({"batch_size": 8}, 3, None, 1),  # 2 images a rank
        ({"batch_size": 30}, 3, None, 1),  # not shared evenly
        ({}, 9, 4, 4),
        ({}, 3, 1, 1),
    ],
)
def test_ranks_choose_by_the_size_of_the_cohort(
    recipe: dict[str, object], num_instances: int, asked: int | None, expected: int
) -> None:
    class Task:
        def __init__(self) -> None:
            self.recipe = make_recipe(**recipe)

    rank = Rank(index=1, local_index=1, size=4)
    tasks: Any = [Task() for _ in range(num_instances)]
    assert cohort._choose_num_processes(tasks, rank, asked) == expected


def test_rank_is_forgotten_for_what_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, TORCHRUN)
    devices.forget_rank()
    assert not set(TORCHRUN) & set(os.environ)
    assert read_rank() is None


def test_restarts_are_told_by_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    assert not devices.is_restart()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert not devices.is_restart()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    assert devices.is_restart()


# ----------------------------------------------------------------------------------- how they ended


def make_folder(folder: Path, stderr: str = "", **notes: tuple[int, str]) -> Path:
    (folder / "stderr").write_text(stderr)
    for name, (code, text) in notes.items():
        write_json(folder / f"rank-{name[1:]}.json", {"code": code, "text": text})
    return folder


def test_good_end_passes_on_what_tracking_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path, "W0101 torch noise\ntracking: no server; training goes on\n")
    launch._judge(tmp_path, 0, is_stopped=False)
    assert capsys.readouterr().err == "tracking: no server; training goes on\n"


def test_error_of_one_rank_is_the_error(tmp_path: Path) -> None:
    make_folder(tmp_path, "Traceback\n", r0=(130, "saved"), r1=(2, "c0.json: missing"))
    with pytest.raises(UserError, match=r"^c0\.json: missing$"):
        launch._judge(tmp_path, 1, is_stopped=False)


def test_stop_of_the_ranks_is_a_stop(tmp_path: Path) -> None:
    make_folder(tmp_path, "SignalException\n", r0=(130, "gans/a: state saved"))
    with pytest.raises(StoppedError, match=r"^gans/a: state saved$"):
        launch._judge(tmp_path, 1, is_stopped=True)


def test_stop_before_the_ranks_had_begun(tmp_path: Path) -> None:
    with pytest.raises(StoppedError, match="the training had not begun"):
        launch._judge(make_folder(tmp_path), -15, is_stopped=True)


def test_end_without_a_word_shows_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(tmp_path, "RuntimeError: peer\nexitcode: -9\n")
    with pytest.raises(UserError, match=r"ended by itself \(exit code 1"):
        launch._judge(tmp_path, 1, is_stopped=False)
    assert capsys.readouterr().err == "RuntimeError: peer\nexitcode: -9\n"


def test_notes_are_left_by_launched_ranks_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch.note_outcome(2, "alone")
    monkeypatch.setenv("KGAPS_LAUNCH_FOLDER", str(tmp_path))
    launch.note_outcome(2, "no rank")
    assert list(tmp_path.iterdir()) == []
    set_variables(monkeypatch, TORCHRUN)
    launch.note_outcome(2, "text")
    assert read_json(tmp_path / "rank-1.json") == {"code": 2, "text": "text"}


def test_rank_notices_that_its_launcher_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not launch.Launcher().is_gone()  # a user's torchrun
    monkeypatch.setenv("KGAPS_LAUNCH_FOLDER", str(tmp_path))
    code = f"""
import sys
from filelock import FileLock
with FileLock({str(tmp_path / "launcher.lock")!r}):
    print("held", flush=True)
    sys.stdin.read()
"""
    launcher = launch.Launcher()
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert not launcher.is_gone()
        process.kill()
        process.wait()
        assert launcher.is_gone()
    monkeypatch.setattr(os, "getppid", lambda: 1)
    monkeypatch.delenv("KGAPS_LAUNCH_FOLDER")
    assert not launch.Launcher().is_gone()


# -------------------------------------------------------------------------------- too little memory

CPU_ERROR = (
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 400 bytes. Error code 12 (Cannot allocate memory)"
)


def test_shortage_names_a_batch_that_fits() -> None:
    recipe = make_recipe(gradient_accumulation_steps=3)
    with (
        pytest.raises(UserError) as caught,
        explain_shortage(recipe, Ranks(), torch.device("cpu")),
    ):
        raise RuntimeError(CPU_ERROR)
    assert str(caught.value) == (
        "batch_size: 32 images do not fit into the memory of this machine; 16 may by estimation, "
        "with gradient_accumulation_steps: 6 for as many images an update"
    )


def test_shortage_on_a_gpu_is_estimated_by_its_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    gib = 2**30
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 2 * gib)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 15 * gib)

    class Properties:
        total_memory = 16 * gib

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties())
    # 15 + 3 - 2 GiB for 16 images of this rank: 1 GiB each; 0.9 x 16 - 2 = 12.4 of them fit
    message = "CUDA out of memory. Tried to allocate 3.00 GiB. GPU 0 has a total capacity"
    with (
        pytest.raises(UserError, match=r"32 images on 2 processes .* of a GPU; 16 may by est"),
        explain_shortage(make_recipe(), Ranks(2, 0), torch.device("cuda")),
    ):
        raise torch.OutOfMemoryError(message)


def test_no_batch_fits_where_the_model_is_too_large() -> None:
    text = memory.describe_shortage(make_recipe(), 1, None, torch.device("cpu"))
    assert text.endswith("no smaller batch would by estimation: a smaller model is needed")


def test_other_errors_pass() -> None:
    with (
        pytest.raises(RuntimeError, match="shapes"),
        explain_shortage(make_recipe(), Ranks(), torch.device("cpu")),
    ):
        raise RuntimeError("shapes do not fit")


def test_halves_and_requests() -> None:
    assert [halve_until(24, limit) for limit in (30, 12, 11, 3, 2)] == [12, 12, 6, 3, None]
    assert parse_request("Tried to allocate 1.50 MiB.") == 1.5 * 2**20
    assert parse_request("out of memory") == 0
