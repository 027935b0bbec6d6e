"""Extractors: the registry, the untrained VGG, the packaged LeNet, and the Inception with a file.

No published weights are here: the Inception is tested with random ones, whose hash stands in for
the published file's.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch_fidelity
from quality_tools import COLOUR, Images, draw_images
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file, read_json
from knowledge_gaps.evaluation.extractors import inception, lenet, random_vgg
from knowledge_gaps.evaluation.extractors.inception import Inception
from knowledge_gaps.evaluation.extractors.lenet import LeNet
from knowledge_gaps.evaluation.extractors.random_vgg import RandomVgg
from knowledge_gaps.evaluation.quality.distances import compute_frechet
from knowledge_gaps.evaluation.quality.features import count_extracted, extract_features
from knowledge_gaps.evaluation.registry import (
    find_weights,
    get_extractor,
    list_extractors,
    register_extractor,
)
from knowledge_gaps.statistics.measures import FID, name_frechet
from knowledge_gaps.study import EvaluationSettings


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
    monkeypatch.setattr(inception, "WEIGHTS_SHA256", hash_file(weights_file))
    return weights_file


# ------------------------------------------------------------------------------ every extractor


@pytest.mark.parametrize("name", list_extractors())
def test_extractor_is_what_it_registers(name: str, published: Path) -> None:
    extractor = get_extractor(name)
    assert extractor.name == name
    assert extractor.title
    assert extractor.protocol.endswith(".")
    assert extractor.is_fid == (name_frechet(name) == FID)
    network = extractor.load(published)
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(module.training for module in network.modules() if module is not network)
    shape = tuple(n or any_size for n, any_size in zip(extractor.image_shape, COLOUR, strict=True))
    found, again = (extract_features(draw_images(3, shape), network) for _ in range(2))
    assert found.features.dtype == np.float32
    assert np.isfinite(found.features).all()
    assert len(np.unique(found.features, axis=0)) == 3
    assert np.array_equal(again.features, found.features)
    num_classes = None if found.logits is None else found.logits.shape[1]
    assert num_classes == (extractor.classes and extractor.classes.num)
    identity = extractor.identify(published)
    assert identity == extractor.identify(published)
    others = [get_extractor(other) for other in list_extractors() if other != name]
    assert identity not in {other.identify(published) for other in others}


def test_unknown_and_doubled_extractors_are_refused() -> None:
    known = "inception, lenet, random_vgg"
    with pytest.raises(UserError, match=rf"evaluation\.extractor: 'vgg' found, one of {known} is"):
        get_extractor("vgg")
    with pytest.raises(ValueError, match="'lenet' is registered twice"):
        register_extractor(LeNet)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batch_size_does_not_change_the_features(batch_size: int) -> None:
    images, network = draw_images(20, (1, 28, 28)), LeNet.load(None)
    whole, parts = (extract_features(images, network, size) for size in (20, batch_size))
    np.testing.assert_allclose(parts.features, whole.features, rtol=1e-4, atol=1e-5)
    first = extract_features(images, network, 20, num_images=5)
    np.testing.assert_allclose(first.features, whole.features[:5], rtol=1e-4, atol=1e-5)


# -------------------------------------------------------------------------------- untrained VGG


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 64, 48), (1, 16, 16), (3, 8, 8)])
def test_vgg_takes_images_of_any_size(shape: tuple[int, ...]) -> None:
    found = extract_features(draw_images(6, shape), RandomVgg())
    assert found.features.shape == (6, 64)
    assert found.features.std(axis=0).min() > 0


def test_vgg_takes_grey_for_a_colour() -> None:
    grey = draw_images(5, (1, 20, 24))
    found = [extract_features(each, RandomVgg()).features for each in (grey, grey.repeat(3, 1))]
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-6)


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


def test_vgg_weights_are_drawn_as_he_et_al_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variance 2 / fan-in, equation 10; biases 0; one draw for all, whatever was drawn before."""
    torch.manual_seed(5)
    expected_draw = torch.rand(1)
    torch.manual_seed(5)
    state = RandomVgg().state_dict()
    assert torch.equal(torch.rand(1), expected_draw)  # the global generator is left alone
    for name, tensor in state.items():
        if name.endswith("bias"):
            assert not tensor.any()
        else:
            expected = (2 / tensor[0].numel()) ** 0.5
            assert tensor.std().item() == pytest.approx(expected, rel=4 / tensor.numel() ** 0.5)
    assert all(torch.equal(value, state[name]) for name, value in RandomVgg().state_dict().items())
    known = RandomVgg.identify(None)
    for constant, value in (("_SEED", 65), ("_VERSION", "random_vgg_2")):
        with monkeypatch.context() as patch:
            patch.setattr(random_vgg, constant, value)
            assert RandomVgg.identify(None) != known


def test_distance_of_untrained_features_rises_with_noise() -> None:
    network = RandomVgg()
    real, same, noisy, noisier = (
        extract_features(draw_blobs(200, seed, noise), network)
        for seed, noise in ((0, 0.0), (1, 0.0), (1, 20.0), (1, 60.0))
    )
    distances = [compute_frechet(images, real) for images in (real, same, noisy, noisier)]
    assert distances[0] == pytest.approx(0.0, abs=1e-5)
    assert distances[0] < 2 * distances[1] < distances[2] < distances[3]


# ------------------------------------------------------------------------------ packaged LeNet


def test_lenet_takes_stored_images_as_minus_one_to_one() -> None:
    stored = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 28, 28)
    network = LeNet.load(None)
    features, logits = network(stored.float() / 127.5 - 1)
    assert features.shape == (2, 84)
    assert logits.shape == (2, 10)
    torch.testing.assert_close(network.extract(stored), (features, logits))


def test_altered_weights_of_the_lenet_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, copied = lenet.WEIGHTS_PATH.with_suffix(".json"), tmp_path / "lenet.safetensors"
    assert read_json(card)["sha256"] == hash_file(lenet.WEIGHTS_PATH)
    shutil.copyfile(card, copied.with_suffix(".json"))
    content = bytearray(lenet.WEIGHTS_PATH.read_bytes())
    content[-1] ^= 1
    copied.write_bytes(content)
    monkeypatch.setattr(lenet, "WEIGHTS_PATH", copied)
    with pytest.raises(UserError, match=r"lenet\.safetensors: sha256 is"):
        LeNet.load(None)


# ------------------------------------------------------------------------------------ Inception


class ImageDataset(Dataset[Tensor]):
    """Images as torch-fidelity takes them: one uint8 CHW tensor for an index."""

    def __init__(self, images: Images) -> None:
        self.images = torch.from_numpy(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


@pytest.mark.slow
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
    network = Inception.load(published)
    ours = [extract_features(images, network) for images in (first, second)]
    x, y = (images.features.astype(np.float64) for images in ours)
    assert x.shape == (4, 2048)
    k_xx, k_yy, k_xy = ((a @ b.T / 2048 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    mmd = sum((k.sum() - np.trace(k)) / 12 for k in (k_xx, k_yy)) - 2 * k_xy.mean()
    assert theirs["kernel_inception_distance_mean"] == pytest.approx(mmd, rel=1e-3)
    weight, bias = network.network.fc.weight.numpy(), network.network.fc.bias.numpy()
    assert ours[0].logits is not None
    np.testing.assert_allclose(ours[0].logits, x @ weight.T + bias, rtol=1e-3, atol=1e-3)


def test_extractor_that_enlarges_images_is_given_few_at_a_time() -> None:
    class Enlarging(RandomVgg):
        input_px = 299

    assert count_extracted(RandomVgg(), COLOUR) == 100
    assert count_extracted(Enlarging(), COLOUR) == (8 << 20) // (3 * 299 * 299) == 31
    assert count_extracted(Enlarging(), (3, 1024, 1024)) == 2


def test_weights_are_where_the_study_says_or_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = EvaluationSettings(num_images=64)
    assert find_weights(settings, tmp_path) is None
    weights = find_weights(settings.model_copy(update={"inception_weights": "a.pth"}), tmp_path)
    with pytest.raises(UserError) as caught:
        Inception.identify(weights)
    message = str(caught.value)
    assert message.startswith(f"evaluation.inception_weights: {tmp_path / 'a.pth'} is no file")
    for part in ("nothing is downloaded", "6726825d", "'random_vgg' needs no file"):
        assert part in message
    assert "\n" not in message
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    name = "weights-inception-2015-12-05-6726825d.pth"
    with pytest.raises(UserError, match=f"{tmp_path}/cache/hub/checkpoints/{name} is no file"):
        Inception.identify(
            find_weights(settings.model_copy(update={"inception_weights": None}), tmp_path)
        )


def test_other_weights_are_refused_before_they_are_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"something else")
    found = hashlib.sha256(b"something else").hexdigest()
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
    with pytest.raises(UserError, match=f"has sha256 {found}; .* needs .*with sha256 6726825d"):
        Inception.load(path)
