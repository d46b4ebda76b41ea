"""`alexnet.Dataset` as a PyTorch user meets it: items, transforms, loaders, torch's wrappers."""

import pickle
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Subset, WeightedRandomSampler, random_split

import alexnet
from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data.images import DecodeConfig
from alexnet.data.prepared import PreparedDataset, open_dataset
from alexnet.data.transforms import Preprocessor
from alexnet.models.model_file import make_preprocessor
from alexnet.recipes.presets import MODERN, ORIGINAL
from tests.conftest import CLASSES, INPUT, SIDE, tiny
from tests.data.test_prepared import write


@pytest.fixture(scope="module")
def preprocess(dataset: PreparedDataset) -> Preprocessor:
    return make_preprocessor(dataset, tiny(ORIGINAL))


def brightness(image: Image.Image) -> float:
    """A transform of the user's own."""
    return float(np.asarray(image).mean())


def test_an_item_is_a_pil_image_and_its_label(dataset: PreparedDataset) -> None:
    train = alexnet.Dataset(str(dataset.path))
    split = dataset.splits["train"]
    image, label = train[3]
    assert isinstance(image, Image.Image)
    assert image.mode == "RGB"
    assert image.size == (SIDE, SIDE)
    assert np.array_equal(np.asarray(image), split.pixels(3))
    assert type(label) is int
    assert label == split.labels[3]
    assert len(train) == len(split)


def test_it_has_the_attributes_of_an_image_folder(dataset: PreparedDataset) -> None:
    val = alexnet.Dataset(dataset.path, split="val")
    assert val.split == "val"
    assert val.classes == sorted(CLASSES)
    assert val.class_to_idx == {name: i for i, name in enumerate(val.classes)}
    assert val.targets == [val[i][1] for i in range(len(val))]
    assert val.names == dataset.splits["val"].names
    assert [val.classes[i] for i in val.targets] == [name.split("/")[0] for name in val.names]
    expected = f"Dataset({str(dataset.path)!r}, split='val'): {len(val)} images, 7 classes"
    assert repr(val) == expected


def test_an_opened_dataset_is_used_as_it_is(dataset: PreparedDataset) -> None:
    assert alexnet.Dataset(dataset, "test").targets == dataset.splits["test"].labels.tolist()


def test_indices_are_those_of_a_list(dataset: PreparedDataset) -> None:
    val = alexnet.Dataset(dataset.path, "val")
    for i in (-1, np.int64(len(val) - 1), torch.tensor(len(val) - 1)):
        image, label = val[i]
        assert (image, label) == val[len(val) - 1]
    for i in (len(val), -len(val) - 1):
        with pytest.raises(IndexError, match=f"index {i} is out of range for {len(val)} images"):
            val[i]
    with pytest.raises(TypeError, match="Subset"):
        val[:3]  # type: ignore[index]
    with pytest.raises(TypeError):
        val["dots"]  # type: ignore[index]


def test_an_unknown_split_or_path_is_named(dataset: PreparedDataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no split 'valid', expected one of train, val, test"):
        alexnet.Dataset(dataset.path, split="valid")
    with pytest.raises(AlexNetError, match="found nothing, expected a prepared dataset"):
        alexnet.Dataset(tmp_path / "nowhere")


def test_any_transform_gets_the_pil_image(dataset: PreparedDataset) -> None:
    train = alexnet.Dataset(dataset.path, transform=brightness)
    expected = float(dataset.splits["train"].pixels(5).mean())
    assert train[5] == (expected, dataset.splits["train"].labels[5])
    train.transform = None
    assert isinstance(train[5][0], Image.Image)


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_preprocess_gives_what_evaluation_uses(encoding: str, tmp_path: Path) -> None:
    write(tmp_path / "s", DecodeConfig(size=110, encoding=encoding))
    dataset = open_dataset(tmp_path / "s")
    preprocess = make_preprocessor(dataset, tiny(ORIGINAL))
    val = alexnet.Dataset(dataset.path, "val", transform=preprocess)
    records = np.stack([dataset.splits["val"].pixels(i) for i in range(4)])
    expected = preprocess.normalize(preprocess.center_crop(records))
    assert torch.equal(torch.stack([val[i][0] for i in range(4)]), expected)
    assert val[0][0].shape == (3, INPUT, INPUT)
    assert val[0][0].dtype == torch.float32


def test_grayscale_images_are_of_mode_l(tmp_path: Path) -> None:
    write(tmp_path / "s", DecodeConfig(size=16, channels=1, encoding="raw"))
    image, _ = alexnet.Dataset(tmp_path / "s")[0]
    assert (image.mode, image.size) == ("L", (16, 16))


def test_a_record_as_large_as_the_input_can_be_used(tmp_path: Path) -> None:
    write(tmp_path / "s", DecodeConfig(size=INPUT, encoding="raw"))
    preprocess = make_preprocessor(open_dataset(tmp_path / "s"), tiny(MODERN))
    for transform in (preprocess, preprocess.train):
        sample, _ = alexnet.Dataset(tmp_path / "s", transform=transform)[0]
        assert sample.shape == (3, INPUT, INPUT)


def test_a_dataset_of_another_size_is_refused(
    dataset: PreparedDataset, preprocess: Preprocessor, tmp_path: Path
) -> None:
    write(tmp_path / "s", DecodeConfig(size=INPUT, encoding="raw"))
    for transform in (preprocess, preprocess.train):
        other = alexnet.Dataset(tmp_path / "s", transform=transform)
        with pytest.raises(UsageError, match="99 x 99 x 3 pixels, .* 104 x 104 x 3: .*--size 104"):
            other[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_gives_float_batches(
    workers: int, dataset: PreparedDataset, preprocess: Preprocessor
) -> None:
    train = alexnet.Dataset(dataset.path, transform=preprocess)
    loader = DataLoader(
        train,
        batch_size=16,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
    )
    batches = list(loader)
    images = torch.cat([batch for batch, _ in batches])
    labels = torch.cat([batch for _, batch in batches])
    assert images.shape == (len(train), 3, INPUT, INPUT)
    assert labels.tolist() == train.targets
    assert torch.equal(images[7], train[7][0])


def test_training_samples_follow_the_manual_seed(
    dataset: PreparedDataset, preprocess: Preprocessor
) -> None:
    train = alexnet.Dataset(dataset.path, transform=preprocess.train)

    def epoch(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([images for images, _ in DataLoader(train, 16, shuffle=True)])

    assert epoch(0).shape == (len(train), 3, INPUT, INPUT)
    assert torch.equal(epoch(0), epoch(0))
    assert not torch.equal(epoch(0), epoch(1))


def test_torch_wraps_it(dataset: PreparedDataset, preprocess: Preprocessor) -> None:
    train = alexnet.Dataset(dataset.path, transform=preprocess)
    val = alexnet.Dataset(dataset.path, "val", transform=preprocess)
    first, second = random_split(train, [10, len(train) - 10])
    assert sorted([*first.indices, *second.indices]) == list(range(len(train)))
    both: ConcatDataset[tuple[torch.Tensor, int]] = ConcatDataset([train, val])
    assert len(both) == len(train) + len(val)
    assert torch.equal(both[len(train)][0], val[0][0])
    assert Subset(train, [4, 2])[1][1] == train[2][1]
    weights = [1.0 / Counter(train.targets)[label] for label in train.targets]
    sampler = WeightedRandomSampler(weights, len(train))
    images, labels = next(iter(DataLoader(train, batch_size=4, sampler=sampler)))
    assert images.shape == (4, 3, INPUT, INPUT)
    assert labels.dtype == torch.int64


def test_it_pickles_by_its_location(dataset: PreparedDataset, preprocess: Preprocessor) -> None:
    val = alexnet.Dataset(dataset.path, "val", transform=preprocess)
    data = pickle.dumps(alexnet.Dataset(dataset.path, "val"))
    assert len(data) < 2000, "no image is in it"
    copy = pickle.loads(pickle.dumps(val))
    assert copy.targets == val.targets
    assert torch.equal(copy[-1][0], val[-1][0])


def test_a_model_is_trained_by_the_users_own_loop(
    dataset: PreparedDataset, preprocess: Preprocessor
) -> None:
    train = alexnet.Dataset(dataset.path, transform=preprocess.train)
    torch.manual_seed(0)
    head = torch.nn.Linear(3, len(train.classes))
    optimizer = torch.optim.SGD(head.parameters(), lr=1e-4)
    losses = []
    for images, labels in DataLoader(train, batch_size=16, shuffle=True):
        loss = torch.nn.functional.cross_entropy(head(images.mean((2, 3))), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.isfinite(losses).all()


def test_a_path_that_cannot_be_read_is_named(preprocess: Preprocessor, tmp_path: Path) -> None:
    for transform in (preprocess, preprocess.train):
        for path in (tmp_path / "nowhere.jpg", tmp_path):
            with pytest.raises(AlexNetError, match=f"{re.escape(str(path))}: cannot be read: "):
                transform(path)


def test_a_preprocessor_is_shown_in_a_line(preprocess: Preprocessor) -> None:
    expected = "Preprocessor(input 3 x 99 x 99, records 104 x 104 x 3, 7 classes)"
    assert repr(preprocess) == expected
    assert "\n" not in repr(preprocess.train)


def test_classes_can_be_renamed(preprocess: Preprocessor) -> None:
    renamed = preprocess.with_classes(["cat", "dog"])
    assert renamed.classes == ("cat", "dog")
    assert renamed.mean is preprocess.mean
    for wrong in ([], "cat", [1, 2]):
        with pytest.raises(UsageError, match="classes: expected a list of names"):
            preprocess.with_classes(wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="2 names, 1 of them different"):
        preprocess.with_classes(["cat", "cat"])
