"""Locks on outputs, orders of files, and where the state of an experiment lies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from knowledge_gaps.orchestration.dvc_calls import parse_json
from knowledge_gaps.orchestration.job import get_log_file, is_held
from knowledge_gaps.orchestration.order import sort_after
from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.runtime.layout import get_state_directory
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


def test_json_is_found_after_other_lines() -> None:
    assert parse_json('a line {of words}\n{"a": [1]}') == {"a": [1]}
    assert parse_json("{}") == {}
    with pytest.raises(UserError, match="JSON was expected"):
        parse_json("nothing")


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
