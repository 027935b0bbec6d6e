"""dvc.lock is read whole while it is rewritten in place, and never in an exception of a parser."""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from knowledge_gaps.sweeps.guard import hold_dvc, run_alone
from knowledge_gaps.sweeps.order import note_order, read_outputs, restore_order

from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.execution.signals import StopFlag
from knowledge_gaps.tracking import dvc_lock, records
from knowledge_gaps.tracking.dvc_lock import parse_stages, read_stages

NAMES = [f"gans@c{index}" for index in range(6)]
WHOLE = "schema: '2.0'\nstages:\n" + "".join(
    f"  {name}:\n    outs:\n    - path: models/gans/{name[5:]}\n      md5: '{index:032}'\n"
    for index, name in enumerate(NAMES)
)
IN_A_KEY = WHOLE.index("outs", WHOLE.index("gans@c3")) + 2  # no valid YAML up to here
BETWEEN = WHOLE.index("  gans@c3")  # valid, with half of the stages


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    (tmp_path / ".dvc" / "tmp" / "lock").touch()
    (tmp_path / "dvc.lock").write_text(WHOLE, encoding="utf-8")
    return tmp_path


@contextmanager
def rewriting(root: Path) -> Iterator[None]:
    """Rewrite the file in place again and again, in pieces and under DVC's lock, as DVC does."""
    end = threading.Event()

    def write() -> None:
        while not end.is_set():
            with (root / ".dvc" / "tmp" / "lock").open("r+") as guard:
                fcntl.flock(guard, fcntl.LOCK_EX)
                write_slowly(root / "dvc.lock")
            time.sleep(0.02)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def write_slowly(path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for piece in (WHOLE[:BETWEEN], WHOLE[BETWEEN:IN_A_KEY], WHOLE[IN_A_KEY:]):
            time.sleep(0.01)
            file.write(piece)
            file.flush()


READERS: dict[str, Callable[[Path], list[str]]] = {
    "a stage": lambda root: list(read_stages(root)),
    "tracking": lambda root: [f"{kind}@{name}" for kind, name in records.read_dvc_hashes(root)],
    "kgaps repro": lambda root: list(read_outputs(root, StopFlag())),
}


@pytest.mark.parametrize("reader", READERS)
def test_file_that_is_being_rewritten_is_read_whole(
    root: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    monkeypatch.setattr(dvc_lock, "_POLL_SEC", 0.001)  # so that every moment of it is met
    until = time.monotonic() + 1.0
    with rewriting(root):
        while time.monotonic() < until:
            assert READERS[reader](root) == NAMES


def test_without_a_lock_the_reader_waits_until_the_file_is_whole(root: Path) -> None:
    (root / ".dvc" / "tmp" / "lock").unlink()
    for start in ("", WHOLE[:IN_A_KEY]):
        (root / "dvc.lock").write_text(start, encoding="utf-8")
        writer = threading.Timer(0.2, (root / "dvc.lock").write_text, [WHOLE])
        writer.start()
        assert list(read_stages(root)) == NAMES
        writer.join()


def test_a_dvc_that_holds_its_lock_for_long_is_not_waited_for(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvc_lock, "_PATIENCE_SEC", 0.1)
    with (root / ".dvc" / "tmp" / "lock").open("r+") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        assert list(read_stages(root)) == NAMES


@pytest.mark.parametrize("text", ["", WHOLE[:IN_A_KEY], WHOLE[:-1], "- a\n", "stages: [a]\n", ">"])
def test_damaged_file_is_one_line_for_the_user(
    root: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(dvc_lock, "_PATIENCE_SEC", 0.0)
    (root / "dvc.lock").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"^dvc\.lock: .*$"):
        read_stages(root)


def test_no_file_has_no_stages(tmp_path: Path) -> None:
    assert read_stages(tmp_path) == {}
    assert parse_stages("schema: '2.0'\n") == {}


def test_nobody_waits_for_another_dvc_after_the_stop(root: Path) -> None:
    stop = StopFlag()
    stop.set()
    with hold_dvc(root, StopFlag()), pytest.raises(StoppedError):
        read_outputs(root, stop)
    assert list(read_outputs(root, stop)) == NAMES  # where DVC is not busy, it is read all the same


def test_who_waits_for_another_dvc_says_so_once_and_goes_on(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dvc.lock.DEFAULT_TIMEOUT", 0.05)
    other, said = threading.Thread(target=lambda: read_outputs(root, StopFlag())), ""
    with hold_dvc(root, StopFlag()):
        other.start()
        until = time.monotonic() + 30
        while not said and time.monotonic() < until:
            time.sleep(0.1)
            said = capsys.readouterr().err
        time.sleep(0.5)  # some more tries
        assert other.is_alive()
    other.join(timeout=30)
    assert not other.is_alive()
    assert said + capsys.readouterr().err == "kgaps: waits for another command of DVC to end\n"


def test_only_one_command_at_a_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knowledge_gaps.sweeps.guard._LOCK_SEC", 0.0)
    said = "another kgaps repro or sweep"
    with run_alone(root), pytest.raises(UserError, match=said), run_alone(root):
        pass
    with run_alone(root):
        pass


def test_ignore_files_keep_every_line_that_is_not_of_dvc(root: Path) -> None:
    """DVC's lines change places among themselves; files without an output are left alone."""
    mine = root / "docs" / ".gitignore"
    mine.parent.mkdir()
    mine.write_bytes(b"# a\n\nx\n\ny\r\nx")
    managed = root / "models" / "gans" / ".gitignore"
    managed.parent.mkdir(parents=True)
    managed.write_bytes(b"# a\n\nx\n\n/c4\ny\n")
    note_file = root / ".kgaps" / "repro" / "order.json"
    note_file.parent.mkdir(parents=True)
    note_order(root, StopFlag())
    managed.write_bytes(managed.read_bytes() + b"/c3\n/c0\n\n/c0\n")  # as they ended
    restore_order(root, NAMES, is_finished=True, stop=StopFlag())
    assert managed.read_bytes() == b"# a\n\nx\n\n/c4\ny\n/c0\n/c0\n\n/c3\n"
    assert mine.read_bytes() == b"# a\n\nx\n\ny\r\nx"
    assert (root / "dvc.lock").read_text(encoding="utf-8") == WHOLE
    assert not note_file.exists()
