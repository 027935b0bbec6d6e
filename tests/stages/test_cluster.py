"""Cohorts trained as tasks of a job: by submitit's own processes, and by stand-ins of SLURM."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from conftest import Refuse
from interruption_tools import STATES, finish, has_states, wait_for
from knowledge_gaps.execution import cluster
from knowledge_gaps.execution.parallel import run_local
from slurm_tools import make_slurm
from study_tools import change_params, copy_root, hash_tree, start_kgaps

BASELINE = Path("models") / "gans" / "baseline"


@pytest.fixture
def root(trained_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a study whose first cohort is not trained, and will be by submitit's processes."""
    monkeypatch.setenv("KGAPS_EXECUTOR", "local,timeout_min=10")
    monkeypatch.setenv("KGAPS_SAVE_EVERY_SEC", "0.05")
    return copy_root(trained_root, tmp_path / "study", str(BASELINE))


@pytest.mark.slow
def test_killed_task_is_named_with_its_log_and_resumes(root: Path, trained_root: Path) -> None:
    process = start_kgaps(root, "gans", "baseline")
    wait_for(lambda: has_states(root))
    tasks = subprocess.run(
        ["pgrep", "-f", f"submitit.core._submit {root}"], capture_output=True, text=True, check=True
    )
    os.kill(int(tasks.stdout.split()[0]), signal.SIGKILL)
    _, err = finish(process, 2)
    [line] = [line for line in err.splitlines() if line.startswith("kgaps: ")]
    assert re.search("gans/baseline/.*ended without a result", line)
    assert Path(line.rpartition("(log: ")[2].rstrip(")")).exists()
    out, _ = finish(start_kgaps(root, "gans", "baseline"), 0)
    assert "tasks to local" in out
    assert hash_tree(root / BASELINE) == hash_tree(trained_root / BASELINE)


@pytest.mark.slow
def test_slurm_array_requeues_a_preempted_task(
    root: Path, trained_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = tmp_path / "slurm"
    monkeypatch.setenv("PATH", make_slurm(play))
    monkeypatch.setenv("KGAPS_EXECUTOR", "slurm,partition=gpu,timeout_min=60,mem_gb=8")
    process = start_kgaps(root, "gans", "baseline")
    wait_for(lambda: list((root / STATES).glob("0-0-*/state.safetensors")))  # it handles signals
    os.kill(int((play / "task-0").read_text()), signal.SIGUSR2)
    finish(process, 0)
    assert (play / "requeued").read_text() == "0\n"
    script = (play / "script").read_text()
    for flag in ("--array=0-1%2", "--partition=gpu", "--mem=8GB", "--time=60"):
        assert flag in script
    assert hash_tree(root / BASELINE) == hash_tree(trained_root / BASELINE)


@pytest.mark.slow
def test_interrupted_tasks_save_their_states(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGAPS_SAVE_EVERY_SEC", "1000")
    change_params(root, {"gan_recipes.dcgan.steps": 4000})
    process = start_kgaps(root, "gans", "baseline")
    wait_for(lambda: list((root / STATES).glob("*/progress.jsonl")))
    process.send_signal(signal.SIGINT)
    finish(process, 130)
    assert has_states(root)


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
