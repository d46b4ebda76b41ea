"""The figure saliency: the pixels that a prediction depends on."""

from pathlib import Path

import click

from alexnet.cli.options import LOCATION, MODEL, SPLIT, runtime_options
from alexnet.cli.show.figure import figure_options, figure_path, write_figure_of_images
from alexnet.cli.show.inputs import RECORD, class_index, read_images


@click.command()
@click.argument("model", type=MODEL)
@click.argument("paths", type=LOCATION, nargs=-1, required=True, metavar="DATASET|IMAGE...")
@click.option(
    "--class",
    "class_name",
    default=None,
    help="The class to explain; default: the likeliest of each image.",
)
@click.option(
    "--count", type=click.IntRange(1, 12), default=3, show_default=True, help="Images, at most."
)
@RECORD
@SPLIT
@figure_options
@runtime_options
def saliency(
    model: Path,
    paths: tuple[str, ...],
    class_name: str | None,
    count: int,
    record: int,
    split: str | None,
    out: Path | None,
    as_json: bool,
    device: str,
    precision: str,
    workers: int | None,
) -> None:
    """Draw where a MODEL looks, by gradient and occlusion.

    The gradient of the class's output by every pixel, and what its probability loses where a
    patch is covered.

    \b
    Example:  alexnet show saliency run cat.jpg --class cat
    """
    from alexnet.analysis.plots.saliency import plot_saliency
    from alexnet.analysis.saliency import compute_saliency
    from alexnet.core import console
    from alexnet.core.device import make_runtime
    from alexnet.models.model_file import load_classifier

    path = figure_path(out, "saliency")
    runtime = make_runtime(device, precision, workers)
    classifier = load_classifier(model, runtime)
    preprocessor = classifier.preprocessor
    label = None if class_name is None else class_index(preprocessor, class_name)
    images, unreadable = read_images(preprocessor, paths, split, count, runtime.workers, record)
    explained = []
    with console.progress_bar("computing saliency") as progress:
        for name, square in zip(images.names, images.readable, strict=True):
            explained.append(compute_saliency(classifier, name, square, label, runtime))
            progress(len(explained), len(images.names))
    figure = plot_saliency(explained, preprocessor.classes)
    data = {"images": [image.to_json(preprocessor.classes) for image in explained]}
    write_figure_of_images(path, figure, data, len(explained), unreadable, as_json)
