"""The figure layers: the feature maps of one image."""

from pathlib import Path

import click

from alexnet.cli.options import LOCATION, MODEL, SPLIT, runtime_options
from alexnet.cli.show.figure import figure_options, figure_path, write_figure
from alexnet.cli.show.inputs import RECORD, read_images


@click.command()
@click.argument("model", type=MODEL)
@click.argument("path", type=LOCATION, metavar="DATASET|IMAGE")
@RECORD
@SPLIT
@figure_options
@runtime_options
def layers(
    model: Path,
    path: str,
    record: int,
    split: str | None,
    out: Path | None,
    as_json: bool,
    device: str,
    precision: str,
    workers: int | None,
) -> None:
    """Draw an image's feature maps, layer by layer.

    \b
    Example:  alexnet show layers run cat.jpg
    """
    from alexnet.analysis.plots import feature_maps as plot
    from alexnet.core.device import make_runtime
    from alexnet.models.model_file import load_classifier

    target = figure_path(out, "layers")
    runtime = make_runtime(device, precision, workers)
    classifier = load_classifier(model, runtime)
    images, _ = read_images(classifier.preprocessor, (path,), split, 1, runtime.workers, record)
    outputs = plot.compute_feature_maps(classifier, images.readable[0], runtime)
    data = {"image": images.names[0], "layers": outputs.to_json()}
    write_figure(target, plot.plot_feature_maps(outputs), data, as_json)
