"""A sweep is the product of its lists, and every point of it a valid study."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from conftest import RunKgaps
from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.planning import sweep
from knowledge_gaps.planning.sweep import Experiment, make_grid, parse_axis
from knowledge_gaps.study import Study, load_study, read_yaml
from study_tools import SMOKE_FILE, change_params

PHI = "gans.fool_all_1.phi"


def accept(_: Study) -> None:
    """Check nothing more."""


def make(*axes: str, file: Path = SMOKE_FILE) -> list[Experiment]:
    return make_grid(read_yaml(file), axes, accept)


def test_grid_is_the_product_of_the_lists() -> None:
    grid = make(f"{PHI}=0.1,1e2", "study.seed=0,1")
    values = [tuple(point.values.values()) for point in grid]
    assert values == [(0.1, 0), (0.1, 1), (100.0, 0), (100.0, 1)]
    assert len({point.name for point in grid}) == 4
    assert all(point.name.startswith("smoke-phi-") for point in grid)


def test_overrides_name_every_value_and_the_study() -> None:
    [point, _] = make(f"{PHI}=0.1,1", "gans.fool_all_1.fooling=weighted")
    assert point.overrides == [
        f"{PHI}=0.1",
        '+gans.fool_all_1.fooling="weighted"',  # smoke leaves it to its default
        f'study.name="{point.name}"',
    ]


def test_name_tells_the_study_and_not_the_way_it_is_written(smoke_root: Path) -> None:
    file = smoke_root / "params.yaml"
    [first] = make(f"{PHI}=0.5", file=file)
    assert make(f"{PHI}=0.50", file=file) == [first]
    change_params(smoke_root, {"gans.fool_all_1.fooling": "sum"})  # its default
    assert make(f"{PHI}=0.5", file=file)[0].name == first.name
    change_params(smoke_root, {"gan_recipes.dcgan.steps": 25})
    assert make(f"{PHI}=0.5", file=file)[0].name != first.name
    [point] = make(f"{PHI}=0.123456789012345678", "report.phi_sweep=[baseline]")
    assert len(point.name) <= 64


def test_values_are_read_as_yaml() -> None:
    values = [1, 0.5, "x", None, [1, 2], True]
    assert parse_axis("a.b=1,0.5,x,null,[1, 2],true") == ("a.b", values)


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        (["gans.fool_al_1.phi=1"], "gans.fool_al_1.recipe: missing"),
        (["gans.fool_all_1.fi=1"], "fi: unknown key (allowed: recipe, instances"),
        (["study.seed.x=1"], "study.seed.x: 'seed' is no section, it is 0"),
        (["gans.fool_all_1=1"], "gans.fool_all_1: Input should be a valid dictionary"),
        ([f"{PHI}=0.1,-1"], f"{PHI}=-1: params.yaml: {PHI}: Input should be greater than or equal"),
        (["gans.fool_all_1.fools=nobody"], "'nobody' is not in pools"),
        (["gan_recipes.dcgan.model.latent_dim=4,0"], "latent_dim=0: params.yaml: gan_recipes"),
        (["study.name=a,b"], "study.name: cannot be swept"),
        ([f"{PHI}=1", f"{PHI}=2"], "given twice in the sweep"),
        ([f"{PHI}=10,10.0"], "given twice in the sweep"),
        ([PHI], "KEY=VALUE,VALUE,... is needed"),
        ([f"{PHI}="], "KEY=VALUE,VALUE,... is needed"),
        ([f"{PHI}=[1,"], "not valid YAML"),
    ],
)
def test_what_the_study_cannot_take_is_refused(
    smoke_root: Path, run_kgaps: RunKgaps, axes: list[str], said: str
) -> None:
    outcome = run_kgaps(smoke_root, "sweep", *axes)
    assert outcome.code == 2
    assert said in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_dry_run_prints_the_grid_and_does_nothing(smoke_root: Path, run_kgaps: RunKgaps) -> None:
    outcome = run_kgaps(smoke_root, "sweep", f"{PHI}=0.25,4", "--dry-run")
    assert outcome.code == 0
    assert outcome.out.count("not run") == 2
    assert not (smoke_root / ".kgaps").exists()


# stands in for DVC: an experiment of phi 3 fails, one of phi 4 runs until it is interrupted
DVC = """
import sys, time
from pathlib import Path

done, calls = Path("done.txt"), Path("calls.txt")
with calls.open("a") as file:
    print(*sys.argv[1:], file=file)
if sys.argv[2] == "list":
    print(done.read_text() if done.exists() else "", end="")
elif "=3.0" in sys.argv[7]:
    sys.exit(255)
elif "=4.0" in sys.argv[7]:
    Path("running").touch()
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        Path("interrupted").touch()
        raise
else:
    with done.open("a") as file:
        print(sys.argv[5], file=file)
"""


@pytest.fixture
def swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a repository with a committed study, where a script stands in for DVC."""
    (tmp_path / "dvc.py").write_text(DVC)
    (tmp_path / ".gitignore").write_text("*.txt\nrunning\ninterrupted\n.kgaps\ndata\n")
    shutil.copy(SMOKE_FILE, tmp_path / "params.yaml")
    for command in ("init -q", "add .", "-c user.name=x -c user.email=x commit -qm study"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    monkeypatch.setattr(sweep, "_DVC", (sys.executable, "dvc.py"))
    return tmp_path


def run(root: Path, axis: str) -> None:
    sweep.run(root, load_study(root / "params.yaml"), [axis], accept, is_dry=False)


def test_what_is_done_is_not_run_again_and_failures_are_named(
    swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = make(f"{PHI}=1.0,3.0,2.0")
    state = swept / ".kgaps" / "experiments"
    for point in grid:
        (state / point.name).mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(UserError, match=f"^1 of 3 experiments failed: {grid[1].name}$"):
            run(swept, f"{PHI}=1.0,3.0,2.0")
    calls = (swept / "calls.txt").read_text().splitlines()
    ran = [call.split()[4] for call in calls if call.startswith("exp run --temp --name")]
    assert ran == [grid[0].name, grid[1].name, grid[2].name, grid[1].name]
    assert f"--set-param {grid[0].overrides[0]} " in calls[1]
    assert calls[1].endswith("--copy-paths data/mnist_reduced")
    assert [path.name for path in state.iterdir()] == [grid[1].name]  # to be resumed
    assert capsys.readouterr().out.count("done") == 4


def test_stop_interrupts_what_runs(swept: Path) -> None:
    def interrupt() -> None:
        while not (swept / "running").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(StoppedError, match="not all experiments are done; the same command goes"):
        run(swept, f"{PHI}=4.0,1.0")
    thread.join()
    assert (swept / "interrupted").exists()
    assert not (swept / "done.txt").exists()


def test_what_is_not_committed_and_a_second_sweep_are_refused(swept: Path) -> None:
    (swept / "code.py").touch()
    with pytest.raises(UserError, match=r"code\.py: not committed"):
        run(swept, f"{PHI}=1.0")
    (swept / "code.py").unlink()
    with sweep._hold_lock(swept), pytest.raises(UserError, match="another kgaps sweep is running"):
        run(swept, f"{PHI}=1.0")
    assert not (swept / "calls.txt").exists()
