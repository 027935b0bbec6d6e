"""Progress: from a training through its file to callbacks, and to lines where no terminal is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from knowledge_gaps.core.printing import track_instances
from knowledge_gaps.execution.assignment import ProgressReader, Reporter


def test_terminal_gets_bars_others_a_line_unless_the_block_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with track_instances("gans/a", [0, 3], 9) as report:
        report(3, 7, None)
    assert capsys.readouterr().out == "gans/a: steps 0 7 of 9, 0 s\n"
    with pytest.raises(ValueError, match="x"), track_instances("gans/a", [0], 9):
        raise ValueError("x")
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with track_instances("gans/a", [4], 9) as report:
        report(4, 9, None)
    assert "gans/a/4" in capsys.readouterr().out


def test_reader_calls_back_with_what_is_new(tmp_path: Path) -> None:
    entries: list[Any] = [
        SimpleNamespace(instance=index, progress_file=tmp_path / "state" / f"{index}.jsonl")
        for index in (0, 1)
    ]
    heard: list[tuple[object, ...]] = []
    Reporter(entries[0], lambda: False).report(1, None)  # of an earlier command
    reader = ProgressReader(entries, lambda *news: heard.append(news))
    reader.poll()
    assert heard == []
    row = {"step": 8.0, "loss": 0.1}
    reporters = [Reporter(entry, lambda: False) for entry in entries]
    for step in (6, 7):  # too soon after one another for two reports
        reporters[0].report(step, None)
    reporters[0].report(8, row)
    reporters[1].report(2, None)
    with entries[1].progress_file.open("a") as file:
        file.write('[9, {"lo')
    reader.poll()
    assert heard == [(0, 6, None), (0, 8, row), (1, 2, None)]
    with entries[1].progress_file.open("a") as file:
        file.write('ss": 1.0}]\n')
    reader.poll()
    assert heard[3:] == [(1, 9, {"loss": 1.0})]
