"""Cohorts trained as tasks of a job: by submitit's own processes, and by stand-ins of SLURM."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Refuse
from interruption_tools import STATES, TIMEOUT_SEC
from knowledge_gaps.execution import cluster
from knowledge_gaps.execution.parallel import run_local
from slurm_tools import make_slurm
from study_tools import (
    change_params,
    copy_root,
    hash_tree,
    make_smoke_root,
    run_stage,
    start_kgaps,
)

BASELINE = Path("models") / "gans" / "baseline"


@pytest.fixture(scope="module")
def prepared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a study whose cohort of two GANs is not trained."""
    root = make_smoke_root(tmp_path_factory.mktemp("cluster") / "study")
    run_stage(root, "check")
    run_stage(root, "prepare")
    return root


@pytest.fixture(scope="module")
def expected(prepared_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the hashes of the cohort's files, trained by workers of this machine."""
    root = copy_root(prepared_root, tmp_path_factory.mktemp("expected") / "study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KGAPS_TRACKING", "off")
        patch.delenv("KGAPS_EXECUTOR", raising=False)
        run_stage(root, "gans", "baseline")
    return hash_tree(root / BASELINE)


@pytest.fixture
def root(prepared_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of `prepared_root` that is trained by submitit's own processes."""
    monkeypatch.setenv("KGAPS_EXECUTOR", "local,timeout_min=10")
    monkeypatch.setenv("KGAPS_SAVE_EVERY_SEC", "0.05")
    return copy_root(prepared_root, tmp_path / "study")


def finish(process: subprocess.Popen[str], code: int) -> tuple[str, str]:
    out, err = process.communicate(timeout=TIMEOUT_SEC)
    assert process.returncode == code, err
    return out, err


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + TIMEOUT_SEC
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_killed_task_is_named_with_its_log_and_resumes(
    root: Path, expected: dict[str, str]
) -> None:
    process = start_kgaps(root, "gans", "baseline")
    wait_for(lambda: list((root / STATES).glob("*/state.safetensors")))
    tasks = subprocess.run(
        ["pgrep", "-f", f"submitit.core._submit {root}"], capture_output=True, text=True, check=True
    )
    os.kill(int(tasks.stdout.split()[0]), signal.SIGKILL)
    _, err = finish(process, 2)
    [line] = [line for line in err.splitlines() if line.startswith("kgaps: ")]
    assert "gans/baseline/" in line
    assert "ended without a result" in line
    assert Path(line.rpartition("(log: ")[2].rstrip(")")).exists()
    out, _ = finish(start_kgaps(root, "gans", "baseline"), 0)
    assert "tasks to local" in out
    assert hash_tree(root / BASELINE) == expected


@pytest.mark.slow
def test_slurm_array_requeues_a_preempted_task(
    root: Path, expected: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = tmp_path / "slurm"
    monkeypatch.setenv("PATH", make_slurm(play))
    monkeypatch.setenv("KGAPS_EXECUTOR", "slurm,partition=gpu,timeout_min=60,mem_gb=8")
    process = start_kgaps(root, "gans", "baseline")
    states = root / STATES
    wait_for(lambda: list(states.glob("*/state.safetensors")) and (play / "task-0").exists())
    os.kill(int((play / "task-0").read_text()), signal.SIGUSR2)
    finish(process, 0)
    assert (play / "requeued").read_text() == "0\n"
    script = (play / "script").read_text()
    for flag in ("--array=0-1%2", "--partition=gpu", "--mem=8GB", "--time=60"):
        assert flag in script
    assert hash_tree(root / BASELINE) == expected


@pytest.mark.slow
def test_interrupted_tasks_save_their_states(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGAPS_SAVE_EVERY_SEC", "1000")
    change_params(root, {"gan_recipes.dcgan.steps": 4000})
    process = start_kgaps(root, "gans", "baseline")
    wait_for(lambda: list((root / STATES).glob("*/progress.jsonl")))
    process.send_signal(signal.SIGINT)
    finish(process, 130)
    assert list((root / STATES).glob("*/state.safetensors"))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("pbs", "'pbs' found"),
        ("slurm,partition", "'partition' found, KEY=VALUE"),
        ("slurm", "slurm refuses the job"),  # no srun here
    ],
)
def test_bad_executor_is_refused(
    root: Path, refuse: Refuse, monkeypatch: pytest.MonkeyPatch, value: str, words: str
) -> None:
    monkeypatch.setenv("KGAPS_EXECUTOR", value)
    refuse(root, "gans baseline", ("kgaps: KGAPS_EXECUTOR: ", words), str(BASELINE))


def test_settings_become_the_parameters_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KGAPS_EXECUTOR", raising=False)
    assert cluster.find_executor() is run_local
    monkeypatch.setenv("KGAPS_EXECUTOR", "slurm,partition=gpu,gpus_per_node=1,timeout_min=90")
    name, parameters = cluster.find_executor().args  # type: ignore[attr-defined]
    assert name == "slurm"
    assert parameters == {"timeout_min": 90, "slurm_partition": "gpu", "gpus_per_node": 1}
