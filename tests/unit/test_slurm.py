"""docs/slurm_train.sbatch: its syntax, and the commands it comes to on a cluster of stand-ins."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from module_graph import ROOT

SCRIPT = ROOT / "docs" / "slurm_train.sbatch"
JOB = {
    "SLURM_JOB_ID": "81234",
    "SLURM_JOB_NODELIST": "node[3-4]",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_GPUS_ON_NODE": "8",
}
STAND_INS = {
    "scontrol": '[ "$*" = "show hostnames node[3-4]" ] && printf "node3\\nnode4\\n"',
    # a task on each node, with the number of its node
    "srun": (
        '[ "$2" = "--cpus-per-task=${SLURM_CPUS_PER_TASK:-1}" ] || exit 9; shift 2; '
        'for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@" || exit 1; done'
    ),
    "torchrun": 'echo "torchrun $*" >> calls; exit "${TORCHRUN_CODE:-0}"',
    "dvc": 'echo "dvc $*" >> calls',
}


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """Return a folder in which a job may run: commands of its environment that note calls."""
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    for name, body in STAND_INS.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    return tmp_path


def run_script(
    cluster: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments],
        env={"PATH": "/usr/bin:/bin", "SLURM_SUBMIT_DIR": str(cluster), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_syntax() -> None:
    finished = subprocess.run(["bash", "-n", str(SCRIPT)], capture_output=True, check=False)
    assert finished.returncode == 0, finished.stderr


def test_every_variable_is_set_or_asked_for() -> None:
    """Nothing is taken from an environment that may lack it."""
    code = "\n".join(line for line in SCRIPT.read_text().splitlines() if not line.startswith("#"))
    used = set(re.findall(r"\$\{?([A-Z_]+)", code))
    assigned = set(re.findall(r"^(?:export )?([A-Z_]+)=", code, re.MULTILINE))
    guarded = set(re.findall(r"\$\{([A-Z_]+):[?-]", code))
    by_srun = {"SLURM_NODEID"}
    assert used - assigned - guarded - by_srun - {"PATH", "PWD"} == set()


def test_commands_of_a_job(cluster: Path) -> None:
    finished = run_script(cluster, "gans", "baseline", SLURM_CPUS_PER_TASK="16", **JOB)
    assert finished.returncode == 0, finished.stderr
    # the port is by the job's number, so that jobs on one node do not meet
    common = (
        "--nnodes 2 --nproc-per-node 8 --max-restarts 3 --master-addr node3 --master-port "
        f"{20000 + 81234 % 40000} -m knowledge_gaps gans baseline"
    )
    assert (cluster / "calls").read_text().splitlines() == [
        f"torchrun --node-rank 0 {common}",
        f"torchrun --node-rank 1 {common}",
        "dvc commit --force gans@baseline",
    ]


def test_failed_training_is_not_committed(cluster: Path) -> None:
    finished = run_script(cluster, "classifiers", "c", **JOB, TORCHRUN_CODE="1")
    assert finished.returncode == 1
    assert "dvc" not in (cluster / "calls").read_text()


@pytest.mark.parametrize("missing", [*JOB, "SLURM_SUBMIT_DIR"])
def test_outside_of_a_job(cluster: Path, missing: str) -> None:
    variables = {**JOB, "SLURM_SUBMIT_DIR": str(cluster)}
    del variables[missing]
    variables.setdefault("SLURM_SUBMIT_DIR", "")
    finished = run_script(cluster, "gans", "baseline", **variables)
    if missing == "SLURM_GPUS_ON_NODE":  # a node without GPUs: one rank
        assert "--nproc-per-node 1 " in (cluster / "calls").read_text()
    else:
        assert finished.returncode != 0
        assert f"{missing}: start this by sbatch" in finished.stderr
        assert not (cluster / "calls").exists()


@pytest.mark.parametrize("arguments", [(), ("gans",), ("pools", "baseline"), ("gans", "a", "b")])
def test_wrong_arguments(cluster: Path, arguments: tuple[str, ...]) -> None:
    finished = run_script(cluster, *arguments, **JOB)
    assert finished.returncode == 2
    assert finished.stderr.startswith("usage: sbatch [options]")
