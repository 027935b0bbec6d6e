"""Files are whole or absent, and what is damaged is refused in one line."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from knowledge_gaps.core.checkpoint import read_metadata, read_tensors, write_tensors
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import (
    dump_json,
    hash_file,
    publish_directory,
    read_json,
    write_json,
    write_text,
)

DISK_FULL, STOP = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()
TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor(3)}


def list_names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return a directory of an older result."""
    target = tmp_path / "result"
    target.mkdir()
    (target / "old").write_text("old")
    return target


@pytest.mark.parametrize(
    "write", [lambda path: write_json(path, {"new": 1}), lambda path: write_tensors(path, TENSORS)]
)
@pytest.mark.parametrize("name", ["old", "new"])
def test_write_that_fails_leaves_what_was_there(
    target: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], str], name: str
) -> None:
    no_space = rf"{name}: cannot be written \(No space left"
    for error, raised, message in (
        (DISK_FULL, UserError, no_space),
        (STOP, KeyboardInterrupt, None),
    ):
        monkeypatch.setattr(os, "fsync", Mock(side_effect=error))
        with pytest.raises(raised, match=message):
            write(target / name)
        assert (list_names(target), (target / "old").read_text()) == (["old"], "old")


def test_file_is_durable_before_it_has_its_name_and_is_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "a" / "b" / "file", []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append(path.exists()))
    assert write_text(path, "größe\n") == hashlib.sha256("größe\n".encode()).hexdigest()
    assert (seen, path.read_bytes()) == ([False], "größe\n".encode())
    assert hash_file(path) == write_text(path, "größe\n")
    assert list_names(path.parent) == ["file"]
    # DVC links its cache into the workspace: writing into a file would alter the cache
    cached = path.with_name("cached")
    cached.hardlink_to(path)
    write_text(path, "new")
    assert (path.read_text(), cached.read_text()) == ("new", "größe\n")


def test_json_depends_on_the_value_alone(tmp_path: Path) -> None:
    assert dump_json({"b": 1, "a": "x"}) == '{\n  "a": "x",\n  "b": 1\n}\n'
    write_json(tmp_path / "a.json", {"a": 0.1})
    assert read_json(tmp_path / "a.json") == {"a": 0.1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", {"fid": float("nan")})
    assert list_names(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1', "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[1]", "holds a list, a JSON object is needed"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_damaged_json_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_json(path)
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        read_json(path)


def test_published_directory_replaces_the_old_one_whole(tmp_path: Path, target: Path) -> None:
    # of a killed process: in a container every run of a stage may well have the same process id
    killed = tmp_path / f".result.{os.getpid()}.tmp"
    killed.mkdir()
    (killed / "half").touch()

    def fill(directory: Path) -> None:
        assert (target / "old").exists()  # until the new one is whole
        (directory / "new").write_text("new")

    publish_directory(target, fill)
    assert (list_names(target), list_names(tmp_path)) == (["new"], ["result"])


@pytest.mark.parametrize("error", [DISK_FULL, STOP])
def test_failed_fill_keeps_the_old_directory(
    tmp_path: Path, target: Path, error: BaseException
) -> None:
    def fill(directory: Path) -> None:
        (directory / "new").write_text("half")
        raise error

    with pytest.raises(UserError if isinstance(error, OSError) else type(error)):
        publish_directory(target, fill)
    assert (list_names(target), list_names(tmp_path)) == (["old"], ["result"])


def test_tensors_come_back_with_their_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    sha256 = write_tensors(path, TENSORS, {"counters": "{}"})
    assert sha256 == hash_file(path)
    read = read_tensors(path, sha256)
    assert read.keys() == TENSORS.keys()
    for name, value in read.items():
        assert torch.equal(value, TENSORS[name])
        assert value.dtype == TENSORS[name].dtype
    assert read_metadata(path) == {"counters": "{}"}


def test_bytes_do_not_depend_on_order_or_memory_layout(tmp_path: Path) -> None:
    tensors, matrix = [TENSORS], TENSORS["b"]
    tensors.append({"a": TENSORS["a"], "b": matrix.T.contiguous().T})
    tensors.append({**TENSORS, "b": torch.nn.Parameter(matrix)})
    assert len({write_tensors(tmp_path / "file", entry) for entry in tensors}) == 1
    tensors.append({**TENSORS, "a": torch.tensor(4)})
    assert len({write_tensors(tmp_path / "file", entry) for entry in tensors}) == 2


def test_altered_and_truncated_tensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    sha256 = write_tensors(path, TENSORS, {"counters": "{}"})
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=f"{sha256} was recorded: truncated or altered"):
        read_tensors(path, sha256)
    read_tensors(path)  # without a hash only the format is checked
    for kept in (0, 4, 20, len(content) - 1):
        path.write_bytes(content[:kept])
        for read in (read_tensors, read_metadata):
            with pytest.raises(UserError, match="not a whole safetensors file"):
                read(path)
    path.unlink()
    for read in (read_tensors, read_metadata):
        with pytest.raises(UserError, match=r"a\.safetensors: "):
            read(path)
