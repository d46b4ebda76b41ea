"""The synthetic set: reproducible, complete, varied, its classes distinguished by shape alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet.core.errors import AlexNetError, UsageError
from alexnet.data import synthetic
from alexnet.data.synthetic import IMAGES_PER_CLASS, draw_image, write_images
from alexnet.data.synthetic_figures import CLASSES, FIGURES


def pixels(label: str, number: int, seed: int = 0) -> np.ndarray:
    return np.asarray(draw_image(label, number, seed))


def generator(number: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(number))


def test_the_set_has_2400_images_of_10_to_12_classes() -> None:
    assert 10 <= len(CLASSES) <= 12
    assert len(CLASSES) * IMAGES_PER_CLASS == 2400


def test_an_image_is_a_function_of_seed_label_and_number() -> None:
    first = pixels("fish", 3)
    pixels("boat", 1)
    assert np.array_equal(first, pixels("fish", 3))
    for other in (pixels("fish", 4), pixels("fish", 3, seed=1), pixels("cat", 3)):
        assert first.shape != other.shape or np.abs(first.astype(int) - other).mean() > 5


def test_sides_are_256_to_380_and_both_orientations_occur() -> None:
    sizes = [draw_image("key", number).size for number in range(12)]
    assert all(256 <= min(size) and max(size) <= 381 for size in sizes)
    assert len(set(sizes)) > 8
    assert any(w > h for w, h in sizes) and any(w < h for w, h in sizes)


@pytest.mark.parametrize("label", CLASSES)
def test_the_posed_figure_fills_its_share_of_the_central_square(label: str) -> None:
    width = 360
    height = 270
    for number in range(20):
        rng = generator(number)
        figure = synthetic._pose(rng, FIGURES[label](rng), width, height)
        points = np.concatenate([part.points for part in figure])
        low = points.min(0)
        high = points.max(0)
        share = (high - low).max() / height
        assert synthetic.FIGURE_SIZE[0] - 1e-9 <= share <= synthetic.FIGURE_SIZE[1] + 1e-9
        assert (low >= (45, 0)).all() and (high <= (315, 270)).all()


def test_a_color_has_the_requested_luminance() -> None:
    rng = generator(0)
    for luminance in np.linspace(0.04, 0.97, 30):
        color = synthetic._random_color(rng, float(luminance))
        assert color.min() >= -1e-6 and color.max() <= 1 + 1e-6
        assert color @ np.array([0.299, 0.587, 0.114]) == pytest.approx(luminance, abs=1e-5)


def test_the_mean_color_says_nothing_about_the_class() -> None:
    means = np.array(
        [[pixels(label, number).mean((0, 1)) for number in range(5)] for label in CLASSES]
    )
    between = means.mean(1).std(0)
    within_class = means.std(1).mean(0)
    assert (between < within_class).all()


def test_writing_makes_class_folders_of_readable_jpegs_and_reports_progress(tmp_path: Path) -> None:
    counts: list[tuple[int, int]] = []
    write_images(
        tmp_path / "set",
        per_class=2,
        seed=5,
        progress=lambda done, total: counts.append((done, total)),
    )
    files = sorted((tmp_path / "set").glob("*/*"))
    assert [str(file.relative_to(tmp_path / "set")) for file in files[:2]] == [
        "balloon/00000.jpg",
        "balloon/00001.jpg",
    ]
    assert sorted(folder.name for folder in (tmp_path / "set").iterdir()) == sorted(CLASSES)
    assert counts == [(done, 24) for done in range(1, 25)]
    with Image.open(tmp_path / "set/cup/00001.jpg") as image:
        assert image.format == "JPEG" and image.mode == "RGB"
        assert np.abs(np.asarray(image, int) - pixels("cup", 1, seed=5)).mean() < 12


def test_two_processes_draw_the_same_bytes_as_one(tmp_path: Path) -> None:
    write_images(tmp_path / "one", per_class=1)
    write_images(tmp_path / "two", per_class=1, workers=2)
    for file in (tmp_path / "one").glob("*/*.jpg"):
        assert file.read_bytes() == (tmp_path / "two" / file.parent.name / file.name).read_bytes()


def test_an_interrupted_run_leaves_no_folder(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_images(tmp_path / "set", per_class=2, progress=stop)
    assert not (tmp_path / "set").exists()
    write_images(tmp_path / "set", per_class=1)
    assert len(list((tmp_path / "set").glob("*/*.jpg"))) == len(CLASSES)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_wrong_arguments_are_errors(tmp_path: Path) -> None:
    with pytest.raises(AlexNetError, match="exists"):
        write_images(tmp_path)
    with pytest.raises(UsageError, match="0 images per class"):
        write_images(tmp_path / "set", per_class=0)
    with pytest.raises(UsageError, match="'dog'.*balloon"):
        draw_image("dog", 0)


def test_drawing_needs_no_torch() -> None:
    check = "import sys, alexnet.data.synthetic; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", check], cwd=Path(synthetic.__file__).parents[2]
        ).returncode
        == 0
    )
