"""Readings and figures of spectra, residuals and attributions, from fabricated files."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from fabrication import ATTRIBUTIONS, write, write_attributions, write_residuals
from knowledge_gaps.analyses.attributions import reading as attributions
from knowledge_gaps.analyses.attributions.reading import draw_agreement, draw_attributions
from knowledge_gaps.analyses.spectra import reading as spectra
from knowledge_gaps.analyses.spectra.reading import (
    ResidualMap,
    divide,
    draw_residuals,
    draw_spectra,
)
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.readings.figures import render_figure

SPECTRA = """generator_cohort,generator_chain,generator_instance,frequency,power
real,0,0,1,4
real,0,0,2,1e-05
real_train,0,0,1,8
real_train,0,0,2,1e-05
base,0,0,1,40
base,0,0,2,1e-06
base,1,0,1,4
base,1,0,2,0
fool,0,0,1,0.4
fool,0,0,2,0.1
"""
AGREEMENT = f"""{ATTRIBUTIONS}fool,c,2,0,True,False,5,0.25,0.125
fool,c,2,1,True,False,5,0.5,
fool,c,0,1,False,False,5,0.75,0.125
real,c,2,0,True,False,4,,
real,c,2,1,True,False,4,0.5,0.125
real,c,0,1,False,False,4,1,0
"""
SHAPE = (1, 6, 6)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with the files that the stages would write, of images of 6 x 6 pixels."""
    write_attributions(tmp_path, tmp_path / "reports", "fool", "c", (2, 0, 1), SHAPE)
    write(tmp_path / "reports" / "attributions.csv", AGREEMENT)
    write(tmp_path / "reports" / "spectra.csv", SPECTRA)
    for cohort, instances in (("real", 1), ("real_train", 1), ("base", 2), ("fool", 1)):
        write_residuals(tmp_path, cohort, instances, SHAPE)
    return tmp_path


def test_ratio_to_nothing_is_missing() -> None:
    values, reals = np.array([[2.0, 0.0, 3.0], [20.0, 5.0, 0.0]]), np.array([2.0, 1.0, 0.0])
    found = divide(values, reals)
    np.testing.assert_allclose(found, [[1, np.nan, np.nan], [10, 5, np.nan]])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("fool,0,0,2,0.1\n", "", "'fool' is missing or not whole"),
        ("real_train,0,0,1,8", "real_train,0,0,1,", "'real_train' is missing or not whole"),
        ("base,1,0", "base,0,0", "generator_cohort base, .*: the row is there twice"),
    ],
)
def test_spectra_that_are_not_whole_are_refused(
    root: Path, old: str, new: str, message: str
) -> None:
    write(root / "reports" / "spectra.csv", SPECTRA.replace(old, new))
    with pytest.raises(UserError, match=message):
        spectra.read(root, root / "reports", ["base", "fool"])


def test_residuals_are_means_over_instances(root: Path) -> None:
    found = spectra.read(root, root / "reports", ["base"]).residuals["base"]
    files = ("residual_spectra", "fingerprints")
    for values, name in zip(found, files, strict=True):
        first, second = np.load(root / f"data/spectra/base/{name}.npy").astype(float)
        np.testing.assert_allclose(values, (first + second) / 2, rtol=1e-12)


@pytest.mark.parametrize("key", ["gans", "classifiers", "num_images"])
def test_index_without_a_key_is_refused(root: Path, key: str) -> None:
    path = root / "data" / "attributions" / "index.json"
    index = json.loads(path.read_text())
    del index[key]
    write(path, json.dumps(index))
    with pytest.raises(UserError, match=rf"attributions/index\.json: key '{key}' is missing"):
        attributions.read(root, root / "reports")


def list_images(figure: Figure) -> list[AxesImage]:
    return [image for axes in figure.axes for image in axes.images]


def test_spectra_show_ratios_to_the_reals(root: Path) -> None:
    found = spectra.read(root, root / "reports", ["base", "fool"]).spectra
    assert found["base"].tolist() == [[40, 1e-6], [4, 0]]
    axes_power, axes_ratio = draw_spectra(found).axes
    lines = {line.get_label(): line.get_ydata() for line in axes_power.lines}
    assert list(lines) == ["reals", "train split", "base", "fool"]
    np.testing.assert_allclose(lines["base"], [22, 5e-7])
    floor, base, fool = (line.get_ydata() for line in axes_ratio.lines[1:])
    np.testing.assert_allclose(floor, [10 * math.log10(2), 0], atol=1e-12)
    # the instance without power is left out, not taken for the whole
    np.testing.assert_allclose(base, [(10 + 0) / 2, -10], atol=1e-12)
    np.testing.assert_allclose(fool, [-10, 40], atol=1e-12)


def test_residuals_are_on_one_scale_around_0(root: Path) -> None:
    residuals = spectra.read(root, root / "reports", ["base", "fool"]).residuals
    images = list_images(draw_residuals(residuals))[:6]
    for row in (images[:3], images[3:]):
        assert len({image.get_clim() for image in row}) == 1
        low, high = row[0].get_clim()
        assert low == -high < 0
    expected = np.log2(residuals["fool"].spectrum / residuals["real"].spectrum)
    np.testing.assert_allclose(images[2].get_array(), expected)
    difference = residuals["fool"].fingerprint - residuals["real"].fingerprint
    np.testing.assert_allclose(images[5].get_array(), difference[0])


def test_residuals_of_empty_images_leave_a_blank() -> None:
    one = ResidualMap(np.ones((4, 4)), np.zeros((3, 4, 4)))
    empty = ResidualMap(np.zeros((4, 4)), np.zeros((3, 4, 4)))
    double = ResidualMap(np.full((4, 4), 2.0), np.ones((3, 4, 4)))
    maps = {"real": one, "real_train": one, "empty": empty, "double": double}
    figure = draw_residuals(maps)
    images = list_images(figure)
    assert np.ma.getmaskarray(images[1].get_array()).all()
    assert (images[2].get_array() == 1).all()
    assert images[2].get_clim() == (-1, 1)
    render_figure(figure, "png")


def test_attributions_stand_beside_their_image(root: Path) -> None:
    """Rows of one image, columns of one classifier, with a gap of one pixel."""
    reading = attributions.read(root, root / "reports")
    assert reading is not None
    shown = defaultdict(list)
    for image in list_images(draw_attributions(reading)):
        shown[image.get_array().shape].append(image)
    pictures, maps, means = shown[21, 7], shown[21, 21], shown[7, 21]
    for place, one in enumerate(reading.sets.values()):
        for row, column in np.ndindex(3, 3):
            area = (slice(7 * row, 7 * row + 6), slice(7 * column, 7 * column + 6))
            found = maps[place].get_array()[area]
            np.testing.assert_allclose(found, one.attributions[column, row, 0])
            found = means[place].get_array()[0:6, area[1]]
            np.testing.assert_allclose(found, one.means[column, 0])
            assert np.array_equal(pictures[place].get_array()[area[0], :6], one.images[row, 0])
    assert maps[0].get_clim() == maps[1].get_clim()
    assert means[0].get_clim()[0] == 0


def test_agreement_tells_the_two_kinds_of_pairs_apart(root: Path) -> None:
    reading = attributions.read(root, root / "reports")
    assert reading is not None
    [axes] = draw_agreement(reading).axes
    in_loss, held_out = axes.containers[0], axes.containers[2]
    assert in_loss.get_label() == "the classifier in the loss and a held-out one"
    assert held_out.get_label() == "two held-out classifiers"
    assert list(in_loss.lines[0].get_ydata()) == [0.25, 0.5]
    assert list(held_out.lines[0].get_ydata()) == [0.75]
