"""Cohorts trained as tasks of a job: by submitit's own processes, and by stand-ins of SLURM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from conftest import RunKgaps
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.execution import cluster
from knowledge_gaps.execution.local import run_local
from slurm_tools import make_slurm
from study_tools import REPOSITORY, change_params, copy_root, hash_tree, run_stage

INSTANCES = 2


@pytest.fixture(scope="module")
def prepared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a study of one cohort of two GANs, prepared and not trained."""
    from study_tools import make_smoke_root

    root = make_smoke_root(tmp_path_factory.mktemp("cluster") / "study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KGAPS_TRACKING", "off")
        run_stage(root, "check")
        run_stage(root, "prepare")
    return root


@pytest.fixture(scope="module")
def expected(prepared_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the hashes of the cohort's files, trained by workers of this machine."""
    root = copy_root(prepared_root, tmp_path_factory.mktemp("expected") / "study")
    run(root, {})
    return hash_tree(root / "models" / "gans" / "baseline")


def start(root: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    change_params(root, {"gans.baseline.instances": INSTANCES})
    run_kgaps = [sys.executable, "-m", "knowledge_gaps"]
    base = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "KGAPS_TRACKING": "off"}
    done = subprocess.run([*run_kgaps, "check"], cwd=root, env=base, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return subprocess.Popen(
        [*run_kgaps, "gans", "baseline"],
        cwd=root,
        env={**base, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(root: Path, environment: Mapping[str, str]) -> tuple[int, str, str]:
    process = start(root, environment)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def find_states(root: Path) -> list[Path]:
    return list((root / ".kgaps" / "resume" / "gans-baseline").glob("*/state.safetensors"))


@pytest.mark.slow
def test_local_tasks_give_the_bytes_of_workers(
    prepared_root: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    root = copy_root(prepared_root, tmp_path / "study")
    code, out, err = run(root, {"KGAPS_EXECUTOR": "local,timeout_min=10"})
    assert code == 0, err
    assert "submitted 2 tasks to local" in out
    assert hash_tree(root / "models" / "gans" / "baseline") == expected


@pytest.mark.slow
def test_killed_task_is_named_with_its_log_and_resumes(
    prepared_root: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    root = copy_root(prepared_root, tmp_path / "study")
    environment = {"KGAPS_EXECUTOR": "local", "KGAPS_SAVE_EVERY_SEC": "0.05"}
    process = start(root, environment)
    wait_for(lambda: find_states(root))
    tasks = subprocess.run(
        ["pgrep", "-f", f"submitit.core._submit {root}"], capture_output=True, text=True, check=True
    )
    os.kill(int(tasks.stdout.split()[0]), signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    [line] = [line for line in err.splitlines() if line.startswith("kgaps: ")]
    assert "gans/baseline/" in line
    assert "ended without a result" in line
    log = line.rpartition("(log: ")[2].rstrip(")")
    assert Path(log).exists()
    code, _, err = run(root, environment)
    assert code == 0, err
    assert hash_tree(root / "models" / "gans" / "baseline") == expected


@pytest.mark.slow
def test_slurm_array_requeues_a_preempted_task(
    prepared_root: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    root = copy_root(prepared_root, tmp_path / "study")
    play = tmp_path / "slurm"
    settings = "slurm,partition=gpu,timeout_min=60,mem_gb=8"
    environment = {**make_slurm(play), "KGAPS_EXECUTOR": settings, "KGAPS_SAVE_EVERY_SEC": "0.05"}
    process = start(root, environment)
    wait_for(lambda: find_states(root) and (play / "task-0").exists())
    os.kill(int((play / "task-0").read_text()), signal.SIGUSR2)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert (play / "requeued").read_text() == "0\n"
    script = (play / "script").read_text()
    for flag in ("--array=0-1%2", "--partition=gpu", "--mem=8GB", "--time=60"):
        assert flag in script
    assert hash_tree(root / "models" / "gans" / "baseline") == expected


@pytest.mark.slow
def test_interrupted_tasks_save_and_resume(
    prepared_root: Path, expected: dict[str, str], tmp_path: Path
) -> None:
    root = copy_root(prepared_root, tmp_path / "study")
    environment = {"KGAPS_EXECUTOR": "local", "KGAPS_SAVE_EVERY_SEC": "1000"}
    change_params(root, {"gan_recipes.dcgan.steps": 4000})
    process = start(root, environment)
    wait_for(lambda: list((root / ".kgaps" / "resume" / "gans-baseline").glob("*/progress.jsonl")))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert find_states(root)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("pbs", "'pbs' found"),
        ("slurm,partition", "'partition' found, KEY=VALUE"),
        ("slurm", "slurm refuses the job"),  # no srun here,
    ],
)
def test_bad_executor_is_refused(
    prepared_root: Path,
    run_kgaps: RunKgaps,
    monkeypatch: pytest.MonkeyPatch,
    value: str,
    words: str,
    tmp_path: Path,
) -> None:
    root = copy_root(prepared_root, tmp_path / "study")
    monkeypatch.setenv("KGAPS_EXECUTOR", value)
    outcome = run_kgaps(root, "gans", "baseline")
    assert outcome.code == 2
    [line] = outcome.err.splitlines()
    assert line.startswith("kgaps: KGAPS_EXECUTOR: ")
    assert words in line


def test_settings_become_the_parameters_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KGAPS_EXECUTOR", raising=False)
    assert cluster.find_executor() is run_local
    monkeypatch.setenv("KGAPS_EXECUTOR", "slurm,partition=gpu,gpus_per_node=1,timeout_min=90")
    name, parameters = cluster.find_executor().args  # type: ignore[attr-defined]
    assert name == "slurm"
    assert parameters == {"timeout_min": 90, "slurm_partition": "gpu", "gpus_per_node": 1}
    monkeypatch.setenv("KGAPS_EXECUTOR", "nothing")
    with pytest.raises(UserError, match="one of"):
        cluster.find_executor()
