"""Gather the figures and tables of a run's report: curves, filters, examples, confusion, recipe.

The figures are those of `alexnet show`. Examples are evenly spaced over the split, not picked.
"""

import json

import numpy as np

from alexnet.analysis.format import (
    describe_layer,
    format_count,
    format_percent,
    format_probability,
    format_shape,
    format_size,
)
from alexnet.analysis.plots import curves
from alexnet.analysis.plots.confusion import Confusion, plot_confusion_matrix
from alexnet.analysis.plots.feature_maps import plot_feature_maps
from alexnet.analysis.plots.filters import first_layer_filters, tile_filters
from alexnet.analysis.plots.predictions import TOP_K
from alexnet.analysis.plots.saliency import plot_saliency
from alexnet.analysis.plots.sampling import evenly_spaced
from alexnet.analysis.plots.schedule import compute_schedules, plot_schedules
from alexnet.analysis.report.images import (
    embed_png,
    embed_raster,
    embed_svg,
    embed_thumbnail,
)
from alexnet.analysis.report.scoring import RunAnalysis, SplitPredictions
from alexnet.analysis.report.values import (
    Bar,
    ConfusionSection,
    EmbeddedImage,
    Example,
    ExampleSection,
    FigureSection,
    RecipeSection,
    Table,
)
from alexnet.core.errors import AlexNetError
from alexnet.models.flops import layer_costs, totals
from alexnet.models.model_file import Classifier
from alexnet.models.shapes import infer_shapes
from alexnet.recipes.describe import (
    describe_augmentation,
    describe_network,
    describe_schedule,
    describe_training,
)
from alexnet.recipes.overrides import to_json
from alexnet.training.run_dir import Run

NUM_EXAMPLES = 8  # of predictions, and of errors
NUM_PAIRS = 15  # most confused pairs
NUM_CLASSES = 10  # hardest and easiest classes

# ---- training curves and filters


def curves_section(run: Run) -> FigureSection | None:
    """Plot loss, validation error and learning rate; None where no step is recorded."""
    if not run.of("step"):
        return None
    recorded = curves.run_curves(run, run.folder.name)
    figures = [_plot_curve(curves.draw_loss, recorded, _loss_text(run))]
    note = (
        "The loss of single batches is faint, its mean over half an epoch strong; "
        "a mark on top shows where the learning rate dropped. "
    )
    best = run.best
    if best:
        error = format_percent(best["val_top1_error"])
        text = f"Validation error after each epoch, at best {error} after epoch {best['epoch']}."
        figures.append(_plot_curve(curves.draw_errors, recorded, text))
        note += "Validation uses the center crop of each image only."
    else:
        note += "There was no validation split."
    text = f"Learning rate: {describe_schedule(run.model.recipe.training.lr)}."
    figures.append(_plot_curve(curves.draw_lr, recorded, text))
    return FigureSection(note, figures)


def _plot_curve(panel: curves.Panel, recorded: curves.RunCurves, alt: str) -> EmbeddedImage:
    return embed_svg(curves.plot_panel(panel, [recorded]), alt)


def _loss_text(run: Run) -> str:
    epochs = format_count(len(run.of("epoch")), "epoch")
    last = run.of("step")[-1]["loss"]
    return f"Loss over {epochs}, at last {last:.3f} for a training batch."


def filters_section(classifier: Classifier) -> FigureSection | None:
    """Show the first convolution's filters (paper, figure 3); None without a convolution."""
    try:
        filters = first_layer_filters(classifier)
    except AlexNetError:
        return None
    count, channels, height, width = filters.weight.shape
    size = format_size(height, width, channels)
    note = (
        f"The {count} filters of {filters.layer}, {size}, each scaled to its own range around gray."
    )
    if filters.towers == 2:
        note += " The upper half belongs to one tower, the lower half to the other."
    return FigureSection(note, [embed_png(tile_filters(filters.weight, filters.towers), note)])


def inside_section(analysis: RunAnalysis, classes: tuple[str, ...]) -> FigureSection:
    """Plot the saliency of some images and the feature maps of one."""
    predicted = "; ".join(
        f"{classes[result.label]}, {format_probability(result.probability)}"
        for result in analysis.saliency
    )
    saliency = embed_raster(
        plot_saliency(analysis.saliency, classes),
        f"Gradient and occlusion of {len(analysis.saliency)} crops: {predicted}.",
    )
    layers = ", ".join(analysis.feature_maps.layers)
    maps = embed_raster(
        plot_feature_maps(analysis.feature_maps),
        f"Feature maps of one image after the layers {layers}.",
    )
    note = (
        "Saliency: how the prediction depends on each pixel (gradient), and the probability lost "
        "where a patch is covered (occlusion, blue). Below, some feature maps of each layer for "
        "one image, blue above zero and rust below."
    )
    return FigureSection(note, [saliency, maps])


# ---- examples


def examples_section(predicted: SplitPredictions, classes: tuple[str, ...]) -> ExampleSection:
    """Show images spread over the split with their most likely classes (paper, figure 4)."""
    indices = evenly_spaced(NUM_EXAMPLES, len(predicted.split))
    note = (
        "Images from all over the split, not picked. "
        "Below each image are its true class and the most likely predictions."
    )
    return ExampleSection(note, [_example(predicted, index, classes) for index in indices])


def errors_section(predicted: SplitPredictions, classes: tuple[str, ...]) -> ExampleSection:
    """Show the errors with the most probability on a wrong class."""
    worst = worst_errors(predicted.probability, predicted.labels)[:NUM_EXAMPLES]
    if not len(worst):
        images = format_count(len(predicted.split), "image")
        return ExampleSection(f"None: all {images} are predicted correctly.", [])
    note = "The wrong predictions with the highest probability. A wrong label shows up here, too."
    return ExampleSection(note, [_example(predicted, int(index), classes) for index in worst])


def worst_errors(probability: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the indices of the errors, those with the highest probability first."""
    wrong = np.flatnonzero(probability.argmax(1) != labels)
    return wrong[np.argsort(-probability[wrong].max(1), kind="stable")]


def _example(predicted: SplitPredictions, index: int, classes: tuple[str, ...]) -> Example:
    """Return an image of the split with bars for its most likely classes."""
    split = predicted.split
    label = int(split.labels[index])
    probability = predicted.probability[index]
    most_likely = np.argsort(-probability, kind="stable")[:TOP_K].tolist()
    return Example(
        embed_thumbnail(split.pixels(index), f"An image of the class {classes[label]}"),
        classes[label],
        split.names[index],
        [_bar(classes[other], float(probability[other]), other == label) for other in most_likely],
    )


def _bar(class_name: str, probability: float, is_true: bool) -> Bar:
    check_mark = "\N{CHECK MARK} " if is_true else ""
    text = f"{check_mark}{format_probability(probability)}"
    return Bar(class_name, text, f"{100 * probability:.1f}", is_true)


# ---- confusion


def confusion_section(predicted: SplitPredictions, classes: tuple[str, ...]) -> ConfusionSection:
    """Plot the confusion matrix; with many classes also list pairs, hardest and easiest classes."""
    confusion = predicted.confusion(classes)
    figure = plot_confusion_matrix(confusion, with_pairs=False)
    matrix = embed_svg(figure, _confusion_text(confusion))
    if confusion.few_classes:
        note = (
            "Images counted by true class (rows) and predicted class (columns); "
            "correct predictions are on the diagonal."
        )
        return ConfusionSection(note, matrix)
    note = (
        f"The {len(classes)} classes at a glance, the pairs confused most often, "
        "and the classes with the highest and the lowest error."
    )
    errors = confusion.class_errors
    tables = [
        ("Hardest classes", _class_table(errors[:NUM_CLASSES], classes)),
        ("Easiest classes", _class_table(errors[::-1][:NUM_CLASSES], classes)),
    ]
    return ConfusionSection(note, matrix, _pairs_table(confusion), tables)


def _confusion_text(confusion: Confusion) -> str:
    """Describe the matrix for those who cannot see it."""
    classes = confusion.classes
    pairs = [
        f"{classes[true]} predicted as {classes[other]} {count} times"
        for true, other, count in confusion.pairs[:3]
    ]
    most_often = "; ".join(pairs) or "nothing confused"
    return f"Confusion of {len(classes)} classes. Most often: {most_often}."


def _pairs_table(confusion: Confusion) -> Table:
    """Return the pairs confused most often, with their share of the true class's images."""
    classes = confusion.classes
    images = np.bincount(confusion.labels, minlength=len(classes))
    rows = []
    for true, predicted, count in confusion.pairs[:NUM_PAIRS]:
        share = format_percent(100 * count / images[true], 0)
        row = (classes[true], classes[predicted], f"{count:,} of {images[true]:,}", share)
        rows.append(row)
    return Table(("True class", "Predicted class", "Images", "Share"), rows)


def _class_table(errors: list[tuple[int, int, int]], classes: tuple[str, ...]) -> Table:
    """Return classes with their errors."""
    rows = []
    for label, wrong, images in errors:
        error = format_percent(100 * wrong / images, 0)
        rows.append((classes[label], f"{wrong:,} of {images:,}", error))
    return Table(("Class", "Wrong", "Error"), rows)


# ---- recipe


def recipe_section(classifier: Classifier) -> RecipeSection:
    """Describe the recipe: layers with their costs, augmentation, training, schedules, JSON."""
    recipe = classifier.recipe
    text = f"Schedules: {describe_schedule(recipe.training.lr)}."
    return RecipeSection(
        recipe.name,
        describe_network(recipe.network),
        _layer_table(classifier),
        describe_augmentation(recipe.augmentation, recipe.network.input[1]),
        describe_training(recipe.training),
        embed_svg(plot_schedules(compute_schedules(recipe)), text),
        json.dumps(to_json(recipe), indent=1, ensure_ascii=False),
    )


def _layer_table(classifier: Classifier) -> Table:
    """Return the layers in the order in which data flows, with their costs."""
    network = classifier.recipe.network
    num_classes = len(classifier.preprocessor.classes)
    shapes = infer_shapes(network, num_classes)
    costs = layer_costs(network, num_classes)
    rows = []
    for step, cost in zip(shapes, costs, strict=True):
        row = (
            cost.name,
            describe_layer(step.layer, any(step.extra_padding)),
            format_shape(cost.shape),
            f"{cost.parameters:,}" if cost.parameters else "",
            f"{cost.multiply_adds:,}" if cost.multiply_adds else "",
        )
        rows.append(row)
    total = totals(costs)
    foot = ("", "total", "", f"{total['parameters']:,}", f"{total['multiply_adds']:,}")
    return Table(("Layer", "What it does", "Output", "Parameters", "Multiply-adds"), rows, foot)
