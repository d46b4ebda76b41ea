"""Train every recipe for two epochs on the same few images: does each one learn? A table.

The images are chosen by a hash of their names, some for training and some for scoring. Networks for
photographs get images of 256 pixels, or with --small images of 80 for an input of 72; the CIFAR
networks get 32; networks of one channel get the same images in gray. Losses and errors are those of
the center crop on the scored images. --set changes a recipe before it runs, and --epochs trains
longer: this compares, for instance, two initializations.

    python benchmarks/all_recipes.py DATA/caltech101.tar --images 1500 --set training.batch_size=32
    python benchmarks/all_recipes.py DATA/cifar10.tar --images 2000 --small --set training.batch_size=32
"""  # noqa: E501

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from alexnet.core.device import Runtime, make_runtime
from alexnet.core.rng import key
from alexnet.data.build import prepare
from alexnet.data.images import DecodeConfig
from alexnet.data.prepared import PreparedDataset, open_dataset
from alexnet.data.readers import Sample, SplitFractions, open_source
from alexnet.evaluation.evaluate import Scores, evaluate
from alexnet.models.alexnet import AlexNet, init_weights
from alexnet.models.model_file import Classifier, make_preprocessor
from alexnet.recipes.overrides import override
from alexnet.recipes.presets import RECIPES, get_recipe
from alexnet.recipes.recipe import Recipe, with_epochs
from alexnet.training.run_config import RunConfig
from alexnet.training.trainer import train

MIN_INPUT = 72  # pixels, the smallest that every network for photographs accepts


def choose_samples(samples: Iterable[Sample], train: int, val: int) -> tuple[Sample, ...]:
    """Return some train and val samples in the order of a hash of their names, none of test."""
    candidates = [sample for sample in samples if sample.split != "test"]
    candidates.sort(key=lambda sample: key(sample.name)[0])
    chosen = [
        replace(sample, split="train" if i < train else "val")
        for i, sample in enumerate(candidates[: train + val])
    ]
    return tuple(sorted(chosen, key=lambda sample: sample.name.encode()))


def prepare_once(
    source: str, folder: Path, decode_config: DecodeConfig, train: int, val: int
) -> PreparedDataset:
    """Return the dataset of the chosen images at a size, prepared on first use."""
    path = folder / f"{decode_config.size}-{decode_config.channels}"
    if not path.exists():
        with open_source(source) as opened:
            subset = replace(opened, samples=choose_samples(opened.samples, train, val))
            prepare(
                subset,
                path,
                decode_config,
                SplitFractions(0, 0),
                on_error="fail",
                workers=2,
                progress=lambda done, total: None,
            )
    return open_dataset(path)


def fit_input(recipe: Recipe, small: bool) -> tuple[Recipe, DecodeConfig]:
    """Return the recipe with an input for the images, and how to decode them."""
    channels, side, _ = recipe.network.input
    if side <= 32:
        return recipe, DecodeConfig(size=32, channels=channels, encoding="raw")
    if not small:
        return recipe, DecodeConfig(size=256, channels=channels, encoding="raw")
    network = replace(recipe.network, input=(channels, MIN_INPUT, MIN_INPUT))
    decode_config = DecodeConfig(size=80, channels=channels, encoding="raw")
    return replace(recipe, network=network), decode_config


def train_and_score(
    dataset: PreparedDataset, recipe: Recipe, seed: int, folder: Path, runtime: Runtime
) -> tuple[Scores, list[dict[str, Any]]]:
    """Return the scores before the first step, and the run's records."""
    model = init_weights(AlexNet(recipe.network, len(dataset.classes)), seed)
    model.to(runtime.dtype).eval()
    classifier = Classifier(model, make_preprocessor(dataset, recipe), recipe, {})
    before = evaluate([classifier], dataset.splits["val"], 1, runtime)
    records: list[dict[str, Any]] = []
    config = RunConfig(dataset, recipe, seed, runtime)
    train(config, folder, records.append, save_every=float("inf"))
    return before, records


def table_row(recipe: Recipe, before: Scores, records: list[dict[str, Any]]) -> str:
    last = [record for record in records if record["kind"] == "epoch"][-1]
    cells = [
        f"`{recipe.name}`",
        "×".join(map(str, recipe.network.input)),
        f"{before.loss:.3f}",
        f"{last['val_loss']:.3f}",
        f"{last['val_top1_error']:.2f} %",
        f"{last['seconds']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def write_curve(path: Path, records: list[dict[str, Any]]) -> None:
    steps = [record for record in records if record["kind"] == "step"]
    lines = [f"{record['epoch']:.4f} {record['loss']:.5f}\n" for record in steps]
    path.write_text("".join(lines))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source")
    parser.add_argument(
        "--images", type=int, default=2000, help="for training; a quarter as many are scored"
    )
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--recipe", action="append", help="only this one; can be repeated")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument(
        "--curve", type=Path, help="write the losses to this file, as lines of epoch and loss"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    runtime = make_runtime("cpu", "fp32", 1)
    print("| recipe | input | initial loss | loss | top-1 error | seconds |")
    print("|---|---|---|---|---|---|", flush=True)
    with TemporaryDirectory() as temporary:
        for name in args.recipe or list(RECIPES):
            recipe = with_epochs(get_recipe(name), args.epochs)
            recipe, decode_config = fit_input(recipe, args.small)
            for setting in args.settings:
                recipe = override(recipe, setting)
            dataset = prepare_once(
                args.source, Path(temporary), decode_config, args.images, args.images // 4
            )
            folder = Path(temporary, name)
            before, records = train_and_score(dataset, recipe, args.seed, folder, runtime)
            print(table_row(recipe, before, records), flush=True)
            if args.curve:
                write_curve(args.curve, records)


if __name__ == "__main__":
    main()
