"""Extractors: what a study can name, the untrained VGG, and the Inception with a file of weights.

No published weights are here: the Inception is tested with random ones, whose hash stands in for
the published file's.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
import torch_fidelity
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.evaluation import inception, random_vgg
from knowledge_gaps.evaluation.extractors.choose import EXTRACTORS, Extractor, choose_extractor
from knowledge_gaps.evaluation.extractors.inception import Inception, check_extractor, find_weights
from knowledge_gaps.evaluation.extractors.random_vgg import RandomVgg, identify_random_vgg
from knowledge_gaps.evaluation.quality.features import (
    FeatureSet,
    count_extracted,
    extract_features,
)
from knowledge_gaps.evaluation.quality.frechet import compute_frechet
from knowledge_gaps.evaluation.quality.table import Reals, compute_floor, compute_quality
from knowledge_gaps.statistics.measures import list_metrics
from knowledge_gaps.study import EXTRACTOR_IMAGE_SHAPES, EvaluationSettings

CPU = torch.device("cpu")
COLOUR = (3, 32, 32)

Images = npt.NDArray[np.uint8]


class ImageDataset(Dataset[Tensor]):
    """Images as torch-fidelity takes them: one uint8 CHW tensor for an index."""

    def __init__(self, images: Images) -> None:
        self.images = torch.from_numpy(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def draw_images(num_images: int, seed: int = 0, shape: tuple[int, ...] = COLOUR) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (num_images, *shape), dtype=np.uint8)


def draw_blobs(num_images: int, seed: int, noise: float = 0.0) -> Images:
    """Draw coloured soft discs [N, 3, 32, 32] at random places, with noise of so many levels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :32]
    place = rng.uniform(8, 24, (num_images, 2, 1, 1))
    width = rng.uniform(3, 8, (num_images, 1, 1))
    squares = (rows - place[:, 0]) ** 2 + (columns - place[:, 1]) ** 2
    brightness = np.exp(-squares / (2 * width**2))[:, None]
    colours = rng.uniform(60, 255, (num_images, 3, 1, 1))
    noisy = colours * brightness + noise * rng.normal(size=(num_images, *COLOUR))
    images: Images = noisy.clip(0, 255).astype(np.uint8)
    return images


def make_settings(extractor: str, weights: str | None = None) -> EvaluationSettings:
    return EvaluationSettings.model_validate(
        {"num_images": 64, "extractor": extractor, "inception_weights": weights}
    )


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write random weights of the Inception's names and shapes, small enough not to overflow."""
    with torch.device("meta"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        patch.setattr("torch_fidelity.feature_extractor_inceptionv3.torch.load", lambda *_, **__: 0)
        layout = FeatureExtractorInceptionV3("layout", ["2048"], "none").state_dict()
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, tensor in layout.items():
        if name.endswith(("running_var", "bn.weight")):
            state[name] = torch.ones(tensor.shape)
        elif tensor.dtype == torch.float32:
            scale = (2 / tensor[0].numel()) ** 0.5 if tensor.ndim > 1 else 0.1
            state[name] = scale * torch.randn(tensor.shape, generator=generator)
        else:
            state[name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(state, path)
    return path


@pytest.fixture
def published(weights_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of random weights, taken for the published one."""
    found = hashlib.sha256(weights_file.read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "WEIGHTS_SHA256", found)
    return weights_file


@pytest.fixture(params=sorted(EXTRACTORS))
def extractor(request: pytest.FixtureRequest, published: Path) -> Extractor:
    return choose_extractor(make_settings(request.param, str(published)), Path())


# ------------------------------------------------------------------------------ every extractor


def fill_shape(name: str) -> tuple[int, ...]:
    """Return an image shape that an extractor takes, in colour where it may."""
    needed = EXTRACTOR_IMAGE_SHAPES[name]
    return tuple(size or any_size for size, any_size in zip(needed, COLOUR, strict=True))


def test_extractor_is_what_the_study_says(extractor: Extractor) -> None:
    network = extractor.load(CPU)
    assert network.name == extractor.name
    assert network.image_shape == EXTRACTOR_IMAGE_SHAPES[extractor.name]
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(module.training for module in network.modules() if module is not network)


def test_every_extractor_of_the_study_is_registered() -> None:
    assert set(EXTRACTORS) == set(EXTRACTOR_IMAGE_SHAPES)


def test_unknown_extractor_is_refused() -> None:
    settings = make_settings("lenet").model_copy(update={"extractor": "vgg"})
    known = "inception, lenet, random_vgg"
    with pytest.raises(UserError, match=rf"evaluation\.extractor: 'vgg' found, one of {known} is"):
        choose_extractor(settings, Path())


def test_features_are_finite_and_tell_images_apart(extractor: Extractor) -> None:
    images = draw_images(3, shape=fill_shape(extractor.name))
    found = extract_features(images, extractor.load(CPU))
    assert found.features.dtype == np.float32
    assert np.isfinite(found.features).all()
    assert len(np.unique(found.features, axis=0)) == 3
    assert (found.logits is None) is (extractor.name == "random_vgg")
    again = extract_features(images, extractor.load(CPU))
    assert np.array_equal(again.features, found.features)


def test_identities_differ_and_stay(extractor: Extractor, published: Path) -> None:
    assert extractor.identify() == extractor.identify()
    others = [Extractor(name, published) for name in EXTRACTORS if name != extractor.name]
    assert extractor.identify() not in {other.identify() for other in others}


def test_images_of_another_shape_are_refused(published: Path) -> None:
    grey, colour = draw_images(2, shape=(1, 32, 32)), draw_images(2)
    with pytest.raises(UserError, match=r"lenet needs uint8 \[N, 1, 28, 28\] with N"):
        extract_features(colour, Extractor("lenet", published).load(CPU))
    with pytest.raises(UserError, match=r"inception needs uint8 \[N, 3, any, any\] with N"):
        extract_features(grey, Extractor("inception", published).load(CPU))
    with pytest.raises(UserError, match=r"found float32 .* random_vgg needs uint8 \[N, any, any"):
        extract_features(colour.astype(np.float32), RandomVgg())


def test_first_images_are_those_of_the_whole() -> None:
    images, network = draw_images(9), RandomVgg()
    first = extract_features(images, network, num_images=5)
    assert np.array_equal(first.features, extract_features(images[:5], network).features)
    assert len(extract_features(images, network, num_images=99)) == 9


# -------------------------------------------------------------------------------- untrained VGG


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 64, 48), (1, 16, 16), (3, 8, 8)])
def test_vgg_takes_images_of_any_size(shape: tuple[int, ...]) -> None:
    found = extract_features(draw_images(6, shape=shape), RandomVgg())
    assert found.features.shape == (6, 64)
    assert found.features.std(axis=0).min() > 0


def test_vgg_sees_grey_as_colour() -> None:
    grey = draw_images(5, shape=(1, 20, 24))
    as_grey, as_colour = (
        extract_features(images, RandomVgg()).features for images in (grey, grey.repeat(3, axis=1))
    )
    np.testing.assert_allclose(as_grey, as_colour, rtol=1e-5, atol=1e-6)


def test_vgg_is_its_layers_one_after_the_other() -> None:
    """Thirteen convolutions in five blocks, maxima of 2 x 2 between these, two linear layers."""
    network, images = RandomVgg(), draw_images(3)
    state = list(network.state_dict().values())
    maps = torch.from_numpy(images).float() / 127.5 - 1
    parameters = [(state[index], state[index + 1]) for index in range(0, len(state), 2)]
    for index, (weight, bias) in enumerate(parameters[:13]):
        if index in (2, 4, 7, 10):
            maps = F.max_pool2d(maps, 2)
        maps = F.conv2d(maps, weight, bias, padding=1).relu()
    assert maps.shape == (3, 128, 2, 2)  # of 32 px, so that the last average changes nothing
    hidden = F.linear(maps.flatten(1), *parameters[13]).relu()
    expected = F.linear(hidden, *parameters[14])
    found = extract_features(images, network).features
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_vgg_weights_are_drawn_as_he_et_al_say() -> None:
    """Variance 2 / fan-in, equation 10; biases 0; one draw for all, whatever was drawn before."""
    torch.manual_seed(5)
    state = RandomVgg().state_dict()
    for name, tensor in state.items():
        if name.endswith("bias"):
            assert not tensor.any()
        else:
            expected = (2 / tensor[0].numel()) ** 0.5
            assert tensor.std().item() == pytest.approx(expected, rel=4 / tensor.numel() ** 0.5)
    torch.manual_seed(6)
    assert all(torch.equal(value, state[name]) for name, value in RandomVgg().state_dict().items())


def test_vgg_identity_hangs_on_weights_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    known = identify_random_vgg()
    with monkeypatch.context() as patch:
        patch.setattr(random_vgg, "_SEED", 65)
        assert identify_random_vgg() != known
    with monkeypatch.context() as patch:
        patch.setattr(random_vgg, "_VERSION", "random_vgg_2")
        assert identify_random_vgg().split()[1] == known.split()[1]
        assert identify_random_vgg() != known


def test_vgg_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    RandomVgg()
    assert torch.equal(torch.rand(4), expected)


def test_distance_of_untrained_features_rises_with_noise() -> None:
    network = RandomVgg()
    real, same, noisy, noisier = (
        extract_features(draw_blobs(200, seed, noise), network)
        for seed, noise in ((0, 0.0), (1, 0.0), (1, 20.0), (1, 60.0))
    )
    distances = [compute_frechet(images, real) for images in (real, same, noisy, noisier)]
    assert distances[0] == pytest.approx(0.0, abs=1e-5)
    assert distances[0] < 2 * distances[1] < distances[2] < distances[3]


def test_distance_of_shifted_features_is_the_squared_shift() -> None:
    features = extract_features(draw_blobs(200, seed=0), RandomVgg())
    shift = np.linspace(-1, 1, 64, dtype=np.float32)
    shifted = FeatureSet(features.features + shift, None, "random_vgg")
    expected = float(np.sum(shift.astype(np.float64) ** 2))
    assert compute_frechet(shifted, features) == pytest.approx(expected, rel=1e-4)


def test_without_classes_there_are_no_numbers_about_classes() -> None:
    network = RandomVgg()
    test, training, generated = (
        extract_features(draw_blobs(60, seed, noise), network)
        for seed, noise in ((0, 0.0), (1, 0.0), (2, 30.0))
    )
    reals = Reals(test, training)
    nearest = np.full(60, 1.0, np.float32)
    for found in (compute_quality(generated, reals, nearest), compute_floor(reals, 50)):
        assert tuple(found) == list_metrics("random_vgg")
        assert "fid" not in found
        missing = {name for name, value in found.items() if value is None}
        assert missing == {"class_entropy", "missing_classes"}
    assert training.take_first(7).logits is None


# ------------------------------------------------------------------------------------ Inception


def test_inception_gives_what_torch_fidelity_gives(published: Path) -> None:
    """The whole way from images to a distance, by torch-fidelity's own function."""
    first, second = draw_blobs(4, seed=0), draw_blobs(4, seed=1)
    theirs = torch_fidelity.calculate_metrics(
        input1=ImageDataset(first),
        input2=ImageDataset(second),
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(published),
        kid=True,
        kid_subset_size=4,
        kid_subsets=1,
        save_cpu_ram=True,
        cuda=False,
        cache=False,
        verbose=False,
    )
    network = Inception(published)
    ours = [extract_features(images, network) for images in (first, second)]
    x, y = (images.features.astype(np.float64) for images in ours)
    assert x.shape == (4, 2048)
    k_xx, k_yy, k_xy = ((a @ b.T / 2048 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    mmd = sum((k.sum() - np.trace(k)) / 12 for k in (k_xx, k_yy)) - 2 * k_xy.mean()
    assert theirs["kernel_inception_distance_mean"] == pytest.approx(mmd, rel=1e-3)
    logits = ours[0].logits
    assert logits is not None
    assert logits.shape == (4, 1008)
    weight, bias = network.network.fc.weight.numpy(), network.network.fc.bias.numpy()
    np.testing.assert_allclose(logits, x @ weight.T + bias, rtol=1e-3, atol=1e-3)


def test_inception_is_given_few_images_at_a_time() -> None:
    # images of 32 px become 299 px in it
    class Enlarging(RandomVgg):
        input_px = 299  # type: ignore[assignment]

    assert count_extracted(RandomVgg(), COLOUR) == 100
    assert count_extracted(Enlarging(), COLOUR) == (8 << 20) // (3 * 299 * 299) == 31
    assert count_extracted(Enlarging(), (3, 1024, 1024)) == 2


def test_weights_are_where_the_study_says_or_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    name = "weights-inception-2015-12-05-6726825d.pth"
    assert find_weights(tmp_path, None) == tmp_path / "cache" / "hub" / "checkpoints" / name
    assert find_weights(tmp_path, "weights/mine.pth") == tmp_path / "weights" / "mine.pth"
    assert find_weights(tmp_path, "/elsewhere/mine.pth") == Path("/elsewhere/mine.pth")


def test_missing_weights_are_named_with_the_way_out(tmp_path: Path) -> None:
    settings = make_settings("inception", "weights.pth")
    with pytest.raises(UserError) as caught:
        check_extractor(settings, tmp_path)
    message = str(caught.value)
    assert message.startswith(
        f"evaluation.inception_weights: {tmp_path / 'weights.pth'} is no file"
    )
    for part in ("nothing is downloaded", "6726825d", "'random_vgg' needs no file"):
        assert part in message
    assert "\n" not in message


def test_other_weights_are_refused_before_they_are_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"something else")
    found = hashlib.sha256(b"something else").hexdigest()
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
    with pytest.raises(UserError, match=f"has sha256 {found}; .* needs .*with sha256 6726825d"):
        check_extractor(make_settings("inception", str(path)), tmp_path)
    with pytest.raises(UserError, match="has sha256"):
        Inception(path)


def test_only_the_inception_needs_a_file(tmp_path: Path, published: Path) -> None:
    check_extractor(make_settings("lenet"), tmp_path)
    check_extractor(make_settings("random_vgg"), tmp_path)
    check_extractor(make_settings("inception", str(published)), tmp_path)


def test_sha256_begins_as_the_file_is_called() -> None:
    start = inception.WEIGHTS_FILE.removesuffix(".pth").rpartition("-")[2]
    assert len(inception.WEIGHTS_SHA256) == 64
    assert inception.WEIGHTS_SHA256.startswith(start)
