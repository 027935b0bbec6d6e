"""Samples of a trained smoke study: what they are, and which of them are drawn again."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from knowledge_gaps.core.checkpoint import read_tensors, write_tensors
from knowledge_gaps.core.files import read_json, write_json
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.data.images import save_array, to_uint8
from knowledge_gaps.data.store import open_images
from knowledge_gaps.execution import parallel
from knowledge_gaps.models.frozen import load_generator
from knowledge_gaps.stages import samples as samples_stage
from knowledge_gaps.training.batches import Stream, draw_latents
from study_tools import change_params, get_samples, hash_tree, run_stage

GANS = ("baseline", "fool_all_1")
ALL = list(itertools.product(GANS, [0], range(2)))  # cohort, chain, number
Name = tuple[str, int, int]

pytestmark = pytest.mark.usefixtures("one_worker")


def run_and_list_new(root: Path, damage: Callable[[], Any] = lambda: None) -> list[Name]:
    """List what is written anew: it is another file then, whatever is in it."""

    def identify() -> dict[Name, tuple[int, int]]:
        found = {key: get_samples(root, *key).stat() for key in ALL}
        return {key: (status.st_ino, status.st_mtime_ns) for key, status in found.items()}

    before = identify()
    damage()
    run_stage(root, "samples")
    after = identify()
    return [key for key in ALL if after[key] != before[key]]


def test_samples_are_those_of_the_latents_in_order(trained_root: Path) -> None:
    """Against a direct computation, without the stage."""
    for cohort, chain, number in ALL:
        directory = trained_root / "models" / "gans" / cohort / f"{chain}/{number}"
        generator = load_generator(directory)
        stream = Stream(0, f"gans/{cohort}", Instance(chain, number))
        with torch.no_grad():
            evaluation, grid = (
                to_uint8(generator(draw_latents(stream, 64, generator.latent_dim, name))).numpy()
                for name in ("evaluation", "grid")
            )
        found = open_images(get_samples(trained_root, cohort, chain, number))
        assert found.shape == (64, 1, 28, 28)
        assert found.dtype == np.uint8
        assert np.array_equal(found, evaluation)
        # the grid was drawn at the end of the training, by the generator in memory
        pixels = np.asarray(Image.open(directory / "samples.png"))[::2, ::2]
        tiles = pixels.reshape(8, 28, 8, 28).transpose(0, 2, 1, 3).reshape(64, 28, 28)
        assert np.array_equal(tiles, grid[:, 0])


def test_samples_depend_on_instance_and_seed_alone(trained_root: Path, trained_copy: Path) -> None:
    """Two workers drew those of `trained_root`."""
    shutil.rmtree(trained_copy / "data" / "samples")
    run_stage(trained_copy, "samples")
    assert hash_tree(trained_copy / "data") == hash_tree(trained_root / "data")
    change_params(trained_copy, {"study.seed": 7})
    run_stage(trained_copy, "samples")
    contents = [
        get_samples(root, *key).read_bytes() for root in (trained_root, trained_copy) for key in ALL
    ]
    assert len(set(contents)) == 8


def test_more_samples_of_a_smaller_cohort(trained_copy: Path) -> None:
    changes = {"gans.fool_all_1.instances": 1, "evaluation.num_images": 300}
    change_params(trained_copy, changes)
    run_stage(trained_copy, "samples")
    directory = get_samples(trained_copy, "fool_all_1", 0, 0).parent
    assert sorted(path.name for path in directory.iterdir()) == ["0.npy"]
    sizes = {len(open_images(path)) for path in (trained_copy / "data/samples").rglob("*.npy")}
    assert sizes == {300}  # more than one batch of latents


def test_nothing_is_drawn_twice(
    trained_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(parallel, "ProcessPoolExecutor", None)  # no worker is started
    assert run_and_list_new(trained_copy) == []
    assert capsys.readouterr().out == "samples: computed 0 rows, 4 cached\n"


def test_other_code_draws_all_samples_anew(
    trained_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples_stage, "hash_code", lambda *asked: "of other code")
    assert run_and_list_new(trained_copy) == ALL


def test_samples_of_a_generator_that_was_trained_anew_are_drawn(trained_copy: Path) -> None:
    directory, name = trained_copy / "models/gans/baseline/0/1", "generator.safetensors"
    meta = read_json(directory / "meta.json")
    altered = {key: value.flip(0) for key, value in read_tensors(directory / name).items()}
    meta["files"][name] = write_tensors(directory / name, altered)
    write_json(directory / "meta.json", meta)
    assert run_and_list_new(trained_copy) == [("baseline", 0, 1)]


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "altered": lambda path: save_array(path, 255 - open_images(path)),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_samples_are_drawn_anew(
    trained_root: Path, trained_copy: Path, damage: str
) -> None:
    path = get_samples(trained_copy, "baseline", 0, 1)
    assert run_and_list_new(trained_copy, lambda: DAMAGES[damage](path)) == [("baseline", 0, 1)]
    assert hash_tree(trained_copy / "data") == hash_tree(trained_root / "data")


def test_samples_that_left_the_study_and_temporary_files_are_removed(
    trained_root: Path, trained_copy: Path
) -> None:
    samples = trained_copy / "data" / "samples"
    shutil.copytree(samples / "baseline", samples / "earlier")
    shutil.copytree(samples / "baseline/0", samples / "baseline/1")  # of another chain
    (samples / "baseline/0/.1.npy.9.tmp").write_bytes(b"half")
    (samples / ".baseline.9.tmp").mkdir()
    (samples / "linked").symlink_to(trained_root / "data" / "samples" / "baseline")
    shutil.copyfile(samples / "baseline/0/1.npy", samples / "baseline/0/2.npy")
    assert run_and_list_new(trained_copy) == []
    assert sorted(path.name for path in samples.iterdir()) == list(GANS)
    assert hash_tree(samples) == hash_tree(trained_root / "data" / "samples")


def test_files_that_are_links_to_a_cache_are_replaced(trained_copy: Path, tmp_path: Path) -> None:
    """DVC may link a folder's files to its cache, where nobody may write."""
    cached = {}
    for number, link in enumerate((Path.symlink_to, Path.hardlink_to)):
        file, target = get_samples(trained_copy, "baseline", 0, number), tmp_path / f"{number}.npy"
        shutil.move(file, target)
        target.chmod(0o444)
        link(file, target)
        cached[target] = target.read_bytes()
    assert run_and_list_new(trained_copy) == []  # a link is as good as a file
    change_params(trained_copy, {"evaluation.num_images": 48})
    run_stage(trained_copy, "samples")
    assert {target: target.read_bytes() for target in cached} == cached
    assert len(open_images(get_samples(trained_copy, "baseline", 0, 0))) == 48
    assert not get_samples(trained_copy, "baseline", 0, 0).is_symlink()
