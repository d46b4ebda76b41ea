"""Golden trajectories: fifty recorded losses of a tiny `original` and a tiny `modern`.

They keep a change from altering the mathematics unnoticed. On the build, kernels and kind of
processor they were recorded on, the losses must be equal to the last bit; elsewhere, where sums
are taken in another order, within 1e-4 of each. To record them again after a deliberate change:
python -m tests.training.test_golden
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from alexnet.core.kernels import library
from alexnet.data.prepared import PreparedDataset
from alexnet.recipes.presets import MODERN, ORIGINAL
from alexnet.recipes.recipe import Recipe, with_lr
from alexnet.training import trainer
from tests.conftest import make_dataset, tiny, tiny_config, write_images

RECORDED = Path(__file__).parent / "golden" / "losses.json"
STEPS = 50
# a low learning rate, so that rounding errors do not grow
RECIPES = tuple(with_lr(tiny(recipe, epochs=8), 0.001) for recipe in (ORIGINAL, MODERN))


def build() -> dict[str, Any]:
    """Return what the last bits of a float32 sum depend on.

    The kernels' form is enough: the hash of their library would change with every word of their
    source.
    """
    capabilities = torch.cpu.get_capabilities()
    return {
        "torch": torch.__version__,
        "able": sorted(name for name, has in capabilities.items() if has is True),
        "threads": 1,
        "kernels": "plain" if library.load_library() is None else "native",
    }


def losses(recipe: Recipe, dataset: PreparedDataset) -> list[float]:
    """Return the first fifty losses of a run, on one thread."""
    trajectory: list[float] = []

    def collect(record: dict[str, Any]) -> None:
        if record["kind"] == "step":
            trajectory.append(record["loss"])

    def stop() -> int:
        return 2 if len(trajectory) >= STEPS - 1 else 0

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        try:
            trainer.train(tiny_config(dataset, recipe), Path(folder) / "run", collect, stop)
        except trainer.RunStopped:
            pass  # as `stop` asks
        finally:
            torch.set_num_threads(threads)
    return trajectory


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_losses_are_the_recorded_ones(recipe: Recipe, dataset: PreparedDataset) -> None:
    recorded = json.loads(RECORDED.read_text())
    trajectory = losses(recipe, dataset)
    assert len(trajectory) == STEPS
    if recorded["build"] == build():
        assert trajectory == recorded[recipe.name]
    assert trajectory == pytest.approx(recorded[recipe.name], rel=1e-4)


def record() -> None:
    """Record the losses of this build."""
    with tempfile.TemporaryDirectory() as folder:
        images = write_images(Path(folder) / "patterns")
        dataset = make_dataset(images, Path(folder) / "dataset" / "patterns")
        recorded = {recipe.name: losses(recipe, dataset) for recipe in RECIPES}
    RECORDED.parent.mkdir(exist_ok=True)
    RECORDED.write_text(json.dumps({"build": build()} | recorded, indent=1) + "\n")


if __name__ == "__main__":
    record()
