"""DVC as a child: an interruption reaches the stage's command and tears DVC out of nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from knowledge_gaps.orchestration import child
from study_tools import REPOSITORY

# something like DVC in a module of a name, which says when it is in the middle of writing a file,
# and then runs a command as DVC does
PROGRAM = '''
import os, sys, types
from knowledge_gaps.orchestration import child

DVC = """
import signal, subprocess, sys, time
def write(path):
    with open(path, "w+") as file:
        file.write("half\\\\n")
        file.flush()
        print("writing", flush=True)
        for _ in range(20):
            time.sleep(0.02)
        file.write("whole\\\\n")

def run(command):
    process = subprocess.Popen(command)
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = process.wait()
    signal.signal(signal.SIGINT, handler)
    return code
"""
module, path, *command = sys.argv[1:]
imitation = types.ModuleType(module)
exec(DVC, imitation.__dict__)

def run_dvc(arguments):
    try:
        imitation.write(path)
    except KeyboardInterrupt:
        return 130
    code = imitation.run(command) if command else 0
    print("command ended with", code, flush=True)
    return 0

sys.modules["dvc.cli"] = types.ModuleType("dvc.cli")
sys.modules["dvc.cli"].main = run_dvc
sys.argv[1:] = [str(os.getppid())]
sys.exit(child.main())
'''
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}


def interrupt_writer(module: str, path: Path, *command: str, times: int = 1) -> tuple[int, str]:
    """Interrupt it in the middle of writing; return its exit code and what it said after that."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, module, str(path), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=15)
    return process.returncode, said


@pytest.mark.parametrize("times", [1, 3])
def test_what_dvc_writes_is_whole(tmp_path: Path, times: int) -> None:
    path = tmp_path / "dvc.lock"
    assert interrupt_writer("dvc.utils.serialize", path, times=times)[0] == 0
    assert path.read_text() == "half\nwhole\n"


def test_command_that_begins_afterwards_is_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "dvc.lock"
    code, said = interrupt_writer("dvc.stage.run", path, "sleep", "20")
    assert code == 0
    assert path.read_text() == "half\nwhole\n"
    assert said.endswith(f"command ended with {-signal.SIGINT}\n")


@pytest.mark.parametrize(
    ("modules", "is_interrupted"),
    [
        (["dvc.cli", "dvc.lock"], True),
        (["dvc.cli", "dvc.stage.run", "dvc.lock"], False),  # takes its lock again after the command
        (["dvc.cli", "dvc.stage"], False),
    ],
)
def test_only_a_stage_that_has_not_run_is_given_up(
    monkeypatch: pytest.MonkeyPatch, modules: list[str], is_interrupted: bool
) -> None:
    timers: list[float] = []
    monkeypatch.setattr(signal, "setitimer", lambda _, seconds: timers.append(seconds))

    def interrupt() -> None:
        child._interrupt(signal.SIGINT, sys._getframe())

    call = interrupt
    for module in reversed(modules):
        space: dict[str, Any] = {"__name__": module, "inner": call}
        exec("def step(): inner()", space)
        call = space["step"]
    if is_interrupted:
        with pytest.raises(KeyboardInterrupt):
            call()
    else:
        call()
    assert len(timers) == (not is_interrupted)


@pytest.mark.parametrize("module", ["dvc.lock", "importlib"], ids=["waiting", "not yet DVC"])
def test_what_writes_nothing_is_interrupted_at_once(tmp_path: Path, module: str) -> None:
    path = tmp_path / "dvc.lock"
    assert interrupt_writer(module, path)[0] == 130
    assert path.read_text() == "half\n"


def test_dvc_still_does_what_is_imitated_here() -> None:
    code = """
        import inspect
        from dvc import lock
        from dvc.stage import decorators, run
        from knowledge_gaps.orchestration import child
        assert lock.Lock.lock.__module__ == child._WAITING
        assert run.__name__ == child._STAGE_RUN
        assert "signal.signal(signal.SIGINT, signal.SIG_IGN)" in inspect.getsource(run)
        assert "unlocked_repo" in dir(decorators)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=ENVIRONMENT)
