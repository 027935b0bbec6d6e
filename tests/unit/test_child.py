"""DVC as a child: an interruption does not tear it out of writing dvc.lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from study_tools import REPOSITORY

# a writer like DVC's, which says when it is in the middle; then what DVC does between two stages
PROGRAM = '''
import os, sys, time, types
from knowledge_gaps.orchestration import child

WRITER = """
import time
def dump(path):
    with open(path, "w+") as file:
        file.write("half\\\\n")
        file.flush()
        print("writing", flush=True)
        for _ in range(20):
            time.sleep(0.02)
        file.write("whole\\\\n")
"""
writer = types.ModuleType(sys.argv[2])
exec(WRITER, writer.__dict__)

def run_dvc(arguments):
    try:
        writer.dump(arguments[0])
        time.sleep(20)
    except KeyboardInterrupt:
        return 130
    return 0

sys.modules["dvc.cli"] = types.ModuleType("dvc.cli")
sys.modules["dvc.cli"].main = run_dvc
sys.argv[1:] = [str(os.getppid()), sys.argv[1]]
sys.exit(child.main())
'''
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}


def interrupt_writer(path: Path, module: str, times: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path), module],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
    return process


@pytest.mark.parametrize("times", [1, 3])
def test_lock_is_whole_after_an_interruption(tmp_path: Path, times: int) -> None:
    path = tmp_path / "dvc.lock"
    process = interrupt_writer(path, "dvc.utils.serialize._common", times)
    assert process.wait(timeout=10) == 130
    assert path.read_text() == "half\nwhole\n"


def test_whoever_does_not_write_is_interrupted_at_once(tmp_path: Path) -> None:
    path = tmp_path / "dvc.lock"
    process = interrupt_writer(path, "dvc.repo.reproduce", 1)
    assert process.wait(timeout=10) == 130
    assert path.read_text() == "half\n"


def test_dvc_still_writes_by_that_package() -> None:
    code = """
        import inspect
        from dvc import dvcfile
        from dvc.utils import serialize
        from knowledge_gaps.orchestration import child
        assert "modify_yaml(" in inspect.getsource(dvcfile.Lockfile)
        assert serialize.modify_yaml.__module__.startswith(child._WRITER)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=ENVIRONMENT)
