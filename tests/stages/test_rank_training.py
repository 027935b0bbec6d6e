"""`kgaps gans COHORT --num-processes 2`: trained, killed, stopped, resumed and refused."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pandas as pd
import psutil
import pytest

from conftest import Refuse
from interruption_tools import (
    STATES,
    TIMEOUT_SEC,
    finish,
    has_states,
    read_saved_steps,
    wait_for,
)
from knowledge_gaps.models.frozen import load_generator
from study_tools import change_params, copy_root, hash_tree, start_kgaps

pytestmark = pytest.mark.slow

BASELINE = Path("models") / "gans" / "baseline"
STEPS = 240  # long enough to be interrupted three times
COMMAND = ("gans", "baseline", "--num-processes", "2")


@pytest.fixture(scope="module")
def ranks_root(trained_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a study whose baseline, one instance, was trained by two processes undisturbed.

    They are started as on several hosts: by the user's torchrun, whose ranks are kgaps itself.
    """
    root = copy_root(trained_root, tmp_path_factory.mktemp("ranks") / "study", str(BASELINE))
    steps = {"gan_recipes.dcgan.steps": STEPS, "gan_recipes.dcgan.log_every": 16}
    change_params(root, {"gans.baseline.instances": 1, **steps})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KGAPS_TRACKING", "off")
        torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
        out, _ = finish(start_kgaps(root, "gans", "baseline", launcher=torchrun))
    assert f"steps {STEPS} of {STEPS}" in out
    return root


def wait_for_state(root: Path, process: subprocess.Popen[str], after: int = 0) -> int:
    """Wait until a state of more than some steps is saved; return its steps."""
    wait_for(lambda: read_saved_step(root) > after or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    return read_saved_step(root)


def read_saved_step(root: Path) -> int:
    return max(read_saved_steps(root), default=0)


def list_ranks(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """List the processes of ranks below a command."""
    below = psutil.Process(process.pid).children(recursive=True)
    return [child for child in below if "spawn_main" in " ".join(child.cmdline())]


def test_two_processes_train_like_one(ranks_root: Path, trained_root: Path) -> None:
    """Batch normalisation sees half a batch in each rank, so the numbers are near, not the same."""
    curves = pd.read_csv(ranks_root / BASELINE / "0/0/curves.csv")
    assert curves["step"].tolist() == list(range(16, STEPS + 1, 16))
    alone = pd.read_csv(trained_root / BASELINE / "0/0/curves.csv")
    start = curves["loss_discriminator"].iloc[0]
    assert start == pytest.approx(alone["loss_discriminator"].iloc[:2].mean(), rel=0.1)
    meta = json.loads((ranks_root / BASELINE / "0/0/meta.json").read_text())
    assert (meta["steps_done"], meta["images_seen"]) == (STEPS, STEPS * 16)
    assert load_generator(ranks_root / BASELINE / "0/0").latent_dim == 8


def test_killed_and_stopped_training_ends_in_the_same_bytes(
    ranks_root: Path, tmp_path: Path
) -> None:
    root = copy_root(ranks_root, tmp_path / "study", str(BASELINE))

    process = start_kgaps(root, *COMMAND)  # both ranks are killed
    step = wait_for_state(root, process)
    for rank in list_ranks(process):
        rank.kill()
    words = "a rank failed (killed, often by too little memory); the same command resumes"
    assert finish(process, 2)[1] == f"kgaps: {words}\n"

    process = start_kgaps(root, *COMMAND)  # it is told to stop
    step = wait_for_state(root, process, after=max(step, read_saved_step(root)))
    process.send_signal(signal.SIGTERM)
    words = "interrupted: state saved, the same command resumes"
    assert finish(process, 130)[1] == f"kgaps: {words}\n"
    assert step <= read_saved_step(root) < STEPS

    process = start_kgaps(root, *COMMAND)  # its launcher is killed: the ranks end by themselves
    step = wait_for_state(root, process, after=read_saved_step(root))
    ranks = list_ranks(process)
    process.kill()
    process.communicate(timeout=TIMEOUT_SEC)
    assert psutil.wait_procs(ranks, timeout=TIMEOUT_SEC)[1] == []
    assert step <= read_saved_step(root) < STEPS
    assert not (root / BASELINE).exists()

    finish(start_kgaps(root, *COMMAND))
    assert hash_tree(root / BASELINE) == hash_tree(ranks_root / BASELINE)
    assert not has_states(root)


def test_failure_of_the_ranks_is_one_line(ranks_root: Path, tmp_path: Path) -> None:
    root = copy_root(ranks_root, tmp_path / "study", str(BASELINE))
    key = "gan_recipes.dcgan.generator_optimizer.learning_rate"
    change_params(root, {key: 1e39, "gans.baseline.instances": 2})  # inf in float32
    _, err = finish(start_kgaps(root, *COMMAND), 2)
    assert re.match(r"kgaps: gans/baseline/0/0.*gans/baseline/0/1: .* before step 16: the tr", err)
    assert err.count("\n") == 1
    assert not (root / BASELINE).exists()


def test_one_instance_by_two_ranks(ranks_root: Path, tmp_path: Path) -> None:
    root = copy_root(ranks_root, tmp_path / "study", str(BASELINE))
    for _ in range(2):  # the second time nothing happens
        finish(start_kgaps(root, *COMMAND, "--instance", "0/0"))
        assert not (root / BASELINE).exists()
    [result] = (root / STATES).glob("0-0-*/result")
    assert hash_tree(result) == hash_tree(ranks_root / BASELINE / "0/0")


def test_batch_that_ranks_cannot_share_is_refused(trained_copy: Path, refuse: Refuse) -> None:
    shutil.rmtree(trained_copy / ".kgaps")
    words = ("batch_size: 16", "3 processes")
    refuse(trained_copy, "gans baseline --num-processes 3", words, STATES.as_posix())
