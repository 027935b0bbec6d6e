"""Files are whole or absent, and what is damaged is refused in one line."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from knowledge_gaps.core.checkpoint import read_metadata, read_tensors, write_tensors
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import (
    dump_json,
    hash_file,
    publish_directory,
    read_json,
    replace_atomically,
    write_bytes,
    write_json,
    write_text,
)

TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor(3)}


def fill_disk(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def list_names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return a directory of an older result."""
    target = tmp_path / "result"
    target.mkdir()
    (target / "old").write_text("old")
    return target


# --- single files


@pytest.mark.parametrize(
    "write",
    [lambda path: write_json(path, {"new": 1}), lambda path: write_tensors(path, TENSORS)],
)
@pytest.mark.parametrize("before", [None, b"old"])
def test_full_disk_leaves_what_was_there(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[Path], str],
    before: bytes | None,
) -> None:
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fill_disk)
        with pytest.raises(UserError, match=r"file: cannot be written \(No space left"):
            write(path)
    assert list_names(tmp_path) == ([] if before is None else ["file"])
    assert before is None or path.read_bytes() == before


def test_writing_makes_folders_and_returns_the_hash(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    assert write_text(path, "größe\n") == hashlib.sha256("größe\n".encode()).hexdigest()
    assert path.read_bytes() == "größe\n".encode()
    assert hash_file(path) == write_text(path, "größe\n")
    assert list_names(path.parent) == ["file"]


def test_file_is_durable_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "file", []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append(path.exists()))
    write_bytes(path, b"new")
    assert seen == [False]


def test_other_link_to_the_old_file_keeps_its_content(tmp_path: Path) -> None:
    # DVC links its cache into the workspace: writing into a file would alter the cache
    path, cached = tmp_path / "file", tmp_path / "cached"
    path.write_text("old")
    cached.hardlink_to(path)
    write_text(path, "new")
    assert (path.read_text(), cached.read_text()) == ("new", "old")


def test_block_that_fails_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write_half() -> None:
        with replace_atomically(path) as temporary:
            temporary.write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert path.read_text() == "old"
    assert list_names(tmp_path) == ["file"]


# --- JSON


def test_json_depends_on_the_value_alone(tmp_path: Path) -> None:
    assert dump_json({"b": [1, 2.5], "a": None}) == dump_json({"a": None, "b": [1, 2.5]})
    assert dump_json({"b": 1, "a": "x"}) == '{\n  "a": "x",\n  "b": 1\n}\n'
    write_json(tmp_path / "a.json", {"a": 0.1})
    assert read_json(tmp_path / "a.json") == {"a": 0.1}


def test_json_without_a_number_for_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"fid": float("nan")})
    assert list_names(tmp_path) == []


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


# --- directories


def test_published_directory_replaces_the_old_one_whole(tmp_path: Path, target: Path) -> None:
    def fill(directory: Path) -> None:
        assert (target / "old").exists()  # until the new one is whole
        (directory / "new").write_text("new")

    publish_directory(target, fill)
    assert list_names(target) == ["new"]
    assert list_names(tmp_path) == ["result"]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), UserError),
        (UserError("a loss is nan"), UserError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_failed_fill_keeps_the_old_directory(
    tmp_path: Path, target: Path, error: BaseException, raised: type[BaseException]
) -> None:
    def fill(directory: Path) -> None:
        (directory / "new").write_text("half")
        raise error

    with pytest.raises(raised):
        publish_directory(target, fill)
    assert list_names(target) == ["old"]
    assert list_names(tmp_path) == ["result"]


def test_rest_of_a_killed_process_with_the_same_id_is_no_obstacle(tmp_path: Path) -> None:
    # in a container every run of a stage may well have the same process id
    killed = tmp_path / "models" / f".result.{os.getpid()}.tmp"
    killed.mkdir(parents=True)
    (killed / "half").touch()
    target = tmp_path / "models" / "result"
    publish_directory(target, lambda directory: (directory / "new").touch())
    assert (list_names(target.parent), list_names(target)) == (["result"], ["new"])


# --- tensors


def test_tensors_come_back_with_their_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    sha256 = write_tensors(path, TENSORS, {"counters": "{}"})
    assert sha256 == hash_file(path)
    read = read_tensors(path, sha256)
    assert {name: value.dtype for name, value in read.items()} == {
        "a": torch.int64,
        "b": torch.float32,
    }
    assert all(torch.equal(read[name], TENSORS[name]) for name in TENSORS)
    assert read_metadata(path) == {"counters": "{}"}


def test_bytes_do_not_depend_on_order_or_memory_layout(tmp_path: Path) -> None:
    reordered = {"a": TENSORS["a"], "b": TENSORS["b"].T.contiguous().T}
    first = write_tensors(tmp_path / "first", TENSORS)
    assert write_tensors(tmp_path / "second", reordered) == first
    trained = {**TENSORS, "b": torch.nn.Parameter(TENSORS["b"])}
    assert write_tensors(tmp_path / "third", trained) == first
    altered = {**TENSORS, "a": torch.tensor(4)}
    assert write_tensors(tmp_path / "fourth", altered) != first


def test_other_hash_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    sha256 = write_tensors(path, TENSORS)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{sha256} was recorded: truncated or altered"):
        read_tensors(path, sha256)
    read_tensors(path)  # without a hash only the format is checked


def test_truncated_tensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, TENSORS, {"counters": "{}"})
    content = path.read_bytes()
    for kept in (0, 4, 20, len(content) - 1):
        path.write_bytes(content[:kept])
        for read in (read_tensors, read_metadata):
            with pytest.raises(UserError, match="not a whole safetensors file"):
                read(path)
    path.unlink()
    for read in (read_tensors, read_metadata):
        with pytest.raises(UserError, match=r"a\.safetensors: "):
            read(path)
