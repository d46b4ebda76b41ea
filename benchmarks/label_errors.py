"""Are wrong labels found? Plant some in a dataset, train on it, and see where they are listed.

The largest classes of SOURCE are taken; a share of their images, chosen by a hash, gets the label
of another class. A network of the recipe `modern` is trained on the result, as a user would, and
all images are ranked by `analysis.label_errors`. The recall is the share of the planted labels in
the first tenth of the list; for comparison, the list by the network's own probabilities.

    python benchmarks/label_errors.py SOURCE FOLDER --classes 20 --epochs 30
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from alexnet.analysis.computation import finish
from alexnet.analysis.label_errors import find_label_errors, margins
from alexnet.core.console import progress_bar, training_progress
from alexnet.core.device import Runtime, make_runtime
from alexnet.core.rng import key, permutation, randint
from alexnet.data.build import prepare
from alexnet.data.images import DecodeConfig
from alexnet.data.prepared import PreparedDataset, open_dataset
from alexnet.data.readers import ImageSource, Sample, SplitFractions, open_source
from alexnet.evaluation.evaluate import predict_split
from alexnet.models.model_file import Classifier, load_classifier
from alexnet.recipes.layers import Linear
from alexnet.recipes.presets import MODERN
from alexnet.recipes.recipe import Recipe, with_epochs, with_lr
from alexnet.training.run_config import RunConfig
from alexnet.training.trainer import train

RECORD = 76  # side of the prepared images, pixels
INPUT = 67  # side of the network's input, pixels
PER_CLASS = 100  # images, at most
HIDDEN = 512  # units of fc6 and fc7
BATCH_SIZE = 64
LR = 0.015


def largest_classes(source: ImageSource, count: int, without: Sequence[str]) -> ImageSource:
    """Return a source with the images of its largest classes only, PER_CLASS each at most."""
    sizes = Counter(sample.label for sample in source.samples if sample.label not in without)
    classes = tuple(sorted(label for label, _ in sizes.most_common(count)))
    counts: Counter[str] = Counter()
    samples = []
    for sample in source.samples:
        counts[sample.label] += 1
        if sample.label in classes and counts[sample.label] <= PER_CLASS:
            samples.append(sample)
    return replace(source, samples=tuple(samples), classes=classes)


def plant_errors(source: ImageSource, share: float, seed: int) -> ImageSource:
    """Return a source in which a share of the images, by a hash, has the label of another class."""
    samples = list(source.samples)
    count = len(source.classes)
    planted = permutation(key(seed, "planted"), len(samples))[: round(share * len(samples))]
    shifts = 1 + randint(key(seed, "class", planted), count - 1)
    for index, shift in zip(planted.tolist(), shifts.tolist(), strict=True):
        sample: Sample = samples[index]
        label = (source.classes.index(sample.label) + shift) % count
        samples[index] = replace(sample, label=source.classes[label])
    return replace(source, samples=tuple(samples))


def make_dataset(args: argparse.Namespace, path: Path) -> PreparedDataset:
    """Prepare the dataset with planted errors, where that is not done yet."""
    if not path.exists():
        with open_source(args.source) as source:
            chosen = largest_classes(source, args.classes, args.without)
            planted = plant_errors(chosen, args.share, args.seed)
            prepare(planted, path, DecodeConfig(size=RECORD), SplitFractions(0.1))
    return open_dataset(path)


def make_recipe(epochs: int) -> Recipe:
    """Return `modern` with a smaller input and fewer hidden units."""
    recipe = with_lr(with_epochs(MODERN, epochs), LR)
    layers = tuple(
        replace(layer, out_features=HIDDEN)
        if isinstance(layer, Linear) and layer.name in ("fc6", "fc7")
        else layer
        for layer in recipe.network.layers
    )
    return replace(
        recipe,
        network=replace(recipe.network, layers=layers, input=(3, INPUT, INPUT)),
        training=replace(recipe.training, batch_size=BATCH_SIZE),
    )


def recall(ranked: Sequence[tuple[str, int]], planted: set[tuple[str, int]], images: int) -> float:
    """Return the percentage of the planted errors in the first tenth of a list."""
    return 100 * len(planted.intersection(ranked[: images // 10])) / len(planted)


def planted_in(dataset: PreparedDataset) -> set[tuple[str, int]]:
    """Return (split, index) of the images whose name begins with another class than theirs."""
    return {
        (name, index)
        for name, split in dataset.splits.items()
        for index, label in enumerate(split.labels)
        if not split.names[index].startswith(f"{dataset.classes[label]}/")
    }


def rank_by_probability(
    classifier: Classifier, dataset: PreparedDataset, runtime: Runtime
) -> list[tuple[str, int]]:
    """Return (split, index) of all images, the given class furthest behind another first."""
    images: list[tuple[str, int]] = []
    parts = []
    for name, split in dataset.splits.items():
        if len(split):
            probability, labels = predict_split(classifier, split, 1, runtime)
            parts.append(margins(probability, labels)[0])
            images += [(name, index) for index in range(len(split))]
    return [images[i] for i in torch.cat(parts).argsort(descending=True).tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="class folders, or an archive of them")
    parser.add_argument("folder", type=Path, help="for the dataset and the run")
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--without", nargs="*", default=["Faces_easy", "BACKGROUND_Google"])
    parser.add_argument("--share", type=float, default=0.05, help="of the labels to be wrong")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    runtime = make_runtime()
    dataset = make_dataset(args, args.folder / f"dataset-{args.seed}")
    run = args.folder / f"run-{args.seed}"
    config = RunConfig(dataset, make_recipe(args.epochs), args.seed, runtime)
    with training_progress(config.steps) as callback:
        train(config, run, callback)
    classifier = load_classifier(run, runtime)
    images = sum(map(len, dataset.splits.values()))
    planted = planted_in(dataset)
    with progress_bar("comparing") as progress:
        suspects = finish(find_label_errors(classifier, dataset, runtime), progress)
    rankings = {
        "leave-one-out": [(suspect.split, suspect.index) for suspect in suspects],
        "own probability": rank_by_probability(classifier, dataset, runtime),
    }
    print(f"{images} images, {len(planted)} planted errors; in the first tenth of the list:")
    for name, ranked in rankings.items():
        print(f"{name}: {recall(ranked, planted, images):.1f} %")


if __name__ == "__main__":
    main()
