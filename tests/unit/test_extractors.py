"""Extractors: the registry, the untrained VGG, the packaged LeNet, and the Inception with a file.

The Inception is tested with random weights, whose hash stands in for the published file's.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch_fidelity
from quality_tools import COLOUR, draw_images
from torch.utils.data import Subset
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file
from knowledge_gaps.data.images import save_array
from knowledge_gaps.evaluation import registry
from knowledge_gaps.evaluation.extractors import inception, lenet, lenet_on_reals
from knowledge_gaps.evaluation.extractors.inception import Inception
from knowledge_gaps.evaluation.extractors.lenet import LeNet
from knowledge_gaps.evaluation.extractors.lenet_on_reals import LeNetOnReals
from knowledge_gaps.evaluation.extractors.random_vgg import RandomVgg
from knowledge_gaps.evaluation.lenet import LeNetSettings
from knowledge_gaps.evaluation.quality import compute_kid
from knowledge_gaps.evaluation.registry import extract_features
from knowledge_gaps.study import EvaluationSettings


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


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of a LeNet that was trained for a few steps on noise with three labels."""
    for split, seed in (("train", 0), ("test", 1)):
        save_array(tmp_path / f"{split}.npy", draw_images(12, COLOUR, seed))
        save_array(tmp_path / f"{split}_labels.npy", np.arange(12) % 3 + 4)
    monkeypatch.setattr(lenet_on_reals, "SETTINGS", LeNetSettings(steps=2, batch_size=4))
    LeNetOnReals.train_on(tmp_path)
    return tmp_path / "lenet.safetensors"


@pytest.mark.parametrize("name", registry.list_extractors())
def test_extractor_is_what_its_class_says(name: str, published: Path, trained: Path) -> None:
    extractor = registry.get_extractor(name)
    weights = published if extractor.trained_file is None else trained
    network = extractor.load(weights)
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(module.training for module in network.modules() if module is not network)
    shape = tuple(n or any_size for n, any_size in zip(extractor.image_shape, COLOUR, strict=True))
    found, again = (extract_features(draw_images(3, shape), network) for _ in range(2))
    assert found.features.dtype == np.float32
    assert np.isfinite(found.features).all()
    assert len(np.unique(found.features, axis=0)) == 3
    assert np.array_equal(again.features, found.features)
    num_classes = None if found.logits is None else found.logits.shape[1]
    assert num_classes == network.num_classes
    assert extractor.num_classes in (None, num_classes)
    assert extractor.is_fid == (name != "random_vgg")
    identity = network.hash_weights()
    assert identity == extractor.load(weights).hash_weights()
    with torch.no_grad():
        next(network.parameters())[0] += 1
    assert identity != network.hash_weights()


def test_batches_do_not_change_the_features(monkeypatch: pytest.MonkeyPatch) -> None:
    images, network = draw_images(20, (1, 28, 28)), LeNet.load(None)
    whole = extract_features(images, network).features
    monkeypatch.setattr(registry, "_BATCH_SIZE", 7)
    for num_images in (None, 5):
        found = extract_features(images, network, num_images).features
        np.testing.assert_allclose(found, whole[:num_images], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 48), (3, 8, 8)])
def test_vgg_takes_images_of_any_size_and_grey_for_a_colour(shape: tuple[int, ...]) -> None:
    images = draw_images(6, shape)
    found = extract_features(images, RandomVgg()).features
    assert found.shape == (6, 64)
    assert found.std(axis=0).min() > 0
    if shape[0] == 1:
        coloured = extract_features(images.repeat(3, 1), RandomVgg()).features
        np.testing.assert_allclose(coloured, found, rtol=1e-5, atol=1e-6)


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
    copied = tmp_path / "lenet.safetensors"
    shutil.copyfile(lenet.WEIGHTS_PATH.with_suffix(".json"), copied.with_suffix(".json"))
    content = bytearray(lenet.WEIGHTS_PATH.read_bytes())
    content[-1] ^= 1
    copied.write_bytes(content)
    monkeypatch.setattr(lenet, "WEIGHTS_PATH", copied)
    with pytest.raises(UserError, match=r"lenet\.safetensors: sha256 is"):
        LeNet.load(None)


@pytest.mark.slow
def test_inception_gives_what_torch_fidelity_gives(published: Path) -> None:
    """The whole way from images to a distance, by torch-fidelity's own function."""
    sets = [draw_images(4, seed=seed) for seed in (0, 1)]
    theirs = torch_fidelity.calculate_metrics(
        **{
            f"input{number}": Subset(torch.from_numpy(images), range(4))  # type: ignore[arg-type]
            for number, images in enumerate(sets, start=1)
        },
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
    ours = [extract_features(images, network) for images in sets]
    expected, _ = compute_kid(*ours)
    kid = theirs["kernel_inception_distance_mean"]  # of means near 1, in float32
    assert kid == pytest.approx(expected, rel=1e-3, abs=2e-6)
    weight, bias = network.network.fc.weight.numpy(), network.network.fc.bias.numpy()
    logits = ours[0].features @ weight.T + bias
    np.testing.assert_allclose(ours[0].logits, logits, rtol=1e-3, atol=1e-3)


def test_extractor_that_enlarges_images_is_given_few_at_a_time() -> None:
    class Enlarging(RandomVgg):
        input_px = 299

    assert registry.count_extracted(RandomVgg(), COLOUR) == 100
    assert registry.count_extracted(Enlarging(), COLOUR) == (8 << 20) // (3 * 299 * 299) == 31
    assert registry.count_extracted(Enlarging(), (3, 1024, 1024)) == 2


def test_weights_are_where_the_study_says_or_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = EvaluationSettings(num_images=64, extractor="inception", extractor_weights="a.pth")
    for part in ("nothing is downloaded", "6726825d", "'random_vgg' needs no file"):
        with pytest.raises(UserError, match=rf"^evaluation\.extractor_weights: .*/a\.pth .*{part}"):
            registry.load_extractor(settings, tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    name = "weights-inception-2015-12-05-6726825d.pth"
    with pytest.raises(UserError, match=f"{tmp_path}/cache/hub/checkpoints/{name} is no file"):
        registry.load_extractor(settings.model_copy(update={"extractor_weights": None}), tmp_path)


def test_other_weights_are_refused_before_they_are_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"something else")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
    with pytest.raises(UserError, match=r"has sha256 .{64}; .* needs .*with sha256 6726825d"):
        Inception.load(path)
