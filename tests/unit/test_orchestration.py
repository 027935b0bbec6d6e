"""Locks on outputs, orders of files, and where the state of an experiment lies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from knowledge_gaps.orchestration import dvc_calls, repro
from knowledge_gaps.orchestration.dvc_calls import finish_dvc, parse_json
from knowledge_gaps.orchestration.job import get_log_file, is_held
from knowledge_gaps.orchestration.order import sort_after
from knowledge_gaps.orchestration.plan import Plan
from knowledge_gaps.orchestration.schedule import Ledger
from knowledge_gaps.runtime.errors import StoppedError, UserError
from knowledge_gaps.runtime.layout import get_state_directory
from knowledge_gaps.runtime.signals import StopFlag
from knowledge_gaps.runtime.tracking import tracking_uri


def test_what_was_there_stays_and_what_is_new_follows_in_order() -> None:
    assert sort_after(["z", "gone", "b"], ["a", "b", "c"], ["c", "b", "x", "a", "z"]) == [
        "z",
        "b",
        "a",
        "c",
        "x",
    ]


def test_log_is_held_until_the_last_process_has_ended(tmp_path: Path) -> None:
    log = get_log_file(tmp_path, "gans@a")
    log.parent.mkdir(parents=True)
    assert not is_held(log)
    code = """
import fcntl, subprocess, sys
log = open(sys.argv[1], "wb")
fcntl.flock(log, fcntl.LOCK_EX)
child = subprocess.Popen(["cat"], stdin=0, stdout=log)
print(child.pid, flush=True)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    assert int(parent.stdout.readline()) > 0
    parent.wait()
    assert is_held(log)  # by the child alone
    parent.stdin.close()
    for _ in range(100):
        if not is_held(log):
            break
        os.sched_yield()
        subprocess.run(["sleep", "0.05"], check=True)
    assert not is_held(log)
    parent.stdout.close()


def test_a_command_that_does_not_answer_is_ended() -> None:
    pipe = subprocess.PIPE
    command = ["sleep", "60"]
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    with pytest.raises(UserError, match="no answer within"):
        finish_dvc(process, timeout_sec=0.1)
    assert process.returncode == -signal.SIGINT


def test_json_is_found_after_other_lines() -> None:
    assert parse_json('a line {of words}\n{"a": [1]}') == {"a": [1]}
    assert parse_json("{}") == {}
    with pytest.raises(UserError, match="JSON was expected"):
        parse_json("nothing")


def test_ctrl_c_while_dvc_is_asked_is_an_interrupt(smoke_root: Path) -> None:
    """The whole terminal gets the signal: `kgaps` ends with 130, not with an error of DVC's."""
    code = """
import sys
from knowledge_gaps import cli
from knowledge_gaps.orchestration import dvc_calls
slow = "import os, time; open(str(os.getpid()) + '.asked', 'w'); time.sleep(60)"
dvc_calls.DVC = (sys.executable, "-c", slow)
sys.argv = ["kgaps", "repro"]
cli.main()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=smoke_root,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: len(list(smoke_root.glob("*.asked"))) == 2)  # edges and status
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert errors.startswith("kgaps: interrupted: DVC had not answered yet; ")
    asked = [int(path.stem) for path in smoke_root.glob("*.asked")]
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in asked))


def test_failure_of_dvc_is_told_in_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import sys; print('ERROR: no such stage', file=sys.stderr); sys.exit(255)"
    monkeypatch.setattr(dvc_calls, "DVC", (sys.executable, "-c", code))
    with pytest.raises(UserError, match=r"^dvc status x: no such stage$"):
        dvc_calls.ask_dvc(tmp_path, "status", "x", stop=StopFlag())
    assert dvc_calls.run_dvc(tmp_path, "status") == 255


def test_outcome_of_stages_is_told_in_words() -> None:
    plan = Plan((), {}, ())
    stop = StopFlag()
    ledger = Ledger(plan, {"a", "b", "c"}, done=["a"], failed={"b": "why"}, left_out={"c"})
    with pytest.raises(UserError) as failure:
        repro._judge(ledger, stop)
    assert str(failure.value) == "1 stage failed, 1 done, 1 left out because of that\nb: why"
    stop.set()
    with pytest.raises(StoppedError, match=r"^1 stage done, states saved; "):
        repro._judge(ledger, stop)


def test_stage_whose_command_is_gone_before_it_began_ends(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    for parent, is_good in ((os.getpid(), True), (gone.pid, False)):
        done = subprocess.run(
            [sys.executable, "-m", "knowledge_gaps.orchestration.child", str(parent), "--version"],
            cwd=tmp_path,
            capture_output=True,
            check=False,
            start_new_session=True,
            timeout=60,
        )
        assert (done.returncode == 0) == is_good


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_state_of_an_experiment_lies_in_its_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, folder = tmp_path / "home", tmp_path / "home" / ".dvc" / "tmp" / "exps" / "x"
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("KGAPS_TRACKING", "on")
    monkeypatch.setenv("DVC_ROOT", str(folder))  # as in any stage
    assert get_state_directory(folder) == folder / ".kgaps"
    monkeypatch.setenv("DVC_ROOT", str(home))
    assert get_state_directory(folder) == folder / ".kgaps"
    monkeypatch.setenv("DVC_EXP_NAME", "smoke-phi-1")
    assert get_state_directory(folder) == home / ".kgaps" / "experiments" / "smoke-phi-1"
    assert get_state_directory(home) == home / ".kgaps"
    assert tracking_uri(folder) == f"sqlite:///{home / 'mlflow.db'}"
