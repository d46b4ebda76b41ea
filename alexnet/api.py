"""The Python API: what the commands do, as functions that return values and never print.

`prepare`, `train`, `evaluate` and `predict` are exported by the package; the rest is what the
commands and these four share. Progress goes to a callback, failures are AlexNetError (a failure
the caller can mend) or its subclass UsageError (a wrong argument), each with a one-line text.
torch is imported inside the functions that compute, because preparing images does without it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from PIL import Image

from alexnet.core.console import ProgressFn, Stage, ignore_progress, same_for_every_stage
from alexnet.core.cpu import available_cores
from alexnet.core.errors import require
from alexnet.data import build
from alexnet.data.build import choose_encoding
from alexnet.data.build_dir import require_absent
from alexnet.data.build_plan import Part, PrepareSummary
from alexnet.data.download import PUBLIC_DATASETS, download
from alexnet.data.images import DecodeConfig
from alexnet.data.readers import SplitFractions, open_source
from alexnet.data.synthetic import write_images
from alexnet.recipes.configure import Settings, configure_recipe
from alexnet.recipes.recipe import Recipe

if TYPE_CHECKING:
    from alexnet.analysis.tracking.tracker import TrackerName
    from alexnet.core.device import ParallelMode, Runtime
    from alexnet.data.prepared import PreparedDataset
    from alexnet.data.transforms import Preprocessor
    from alexnet.distributed.process_group import Ranks
    from alexnet.evaluation.evaluate import Scores
    from alexnet.inference.export.exported import Exported
    from alexnet.inference.export.options import ExportOptions, Format
    from alexnet.inference.predict import Prediction
    from alexnet.models.alexnet import AlexNet
    from alexnet.models.model_file import Classifier

SYNTHETIC = "synthetic"  # the source name of the images that the package draws itself

ImageLike: TypeAlias = str | Path | Image.Image | np.ndarray
ModelLike: TypeAlias = "str | Path | tuple[AlexNet, Preprocessor] | Classifier"
Crops: TypeAlias = Literal[1, 9, 10, "dense"]


# ---- prepare


def prepare(
    source: str | Path,
    dataset: str | Path,
    *,
    size: int = 256,
    grayscale: bool = False,
    val_fraction: float = 0.1,
    test_fraction: float = 0.0,
    encoding: Literal["auto", "raw", "jpeg"] = "auto",
    on_error: Literal["fail", "skip"] = "skip",
    exif: bool | None = None,
    part: Part | None = None,
    workers: int | None = None,
    progress: ProgressFn | None = None,
) -> PrepareSummary:
    """Turn images into a prepared dataset at the new directory `dataset`; return its counts.

    `source`: a folder of class folders, or of train/, val/, test/ over them; a tar or zip of
    either; files of MNIST's format, CIFAR-10's or ImageNet's archives; "synthetic", which the
    package draws; or a public set that is downloaded once: fashion-mnist, cifar10, caltech101,
    imagenette. Images become squares of `size` pixels. `exif` None rotates images as their camera
    recorded, except ImageNet's. `part`: make one part of a dataset that several machines share.
    `progress` is called with (images done, images in all), while downloading with bytes.

    >>> summary = prepare("photos", "photos-dataset", test_fraction=0.2)  # doctest: +SKIP
    >>> summary.splits  # doctest: +SKIP
    {'train': 720, 'val': 80, 'test': 200}

    Raises AlexNetError where the source cannot be read, `dataset` exists or cannot be written,
    or, with on_error="fail", an image cannot be decoded; UsageError for an impossible setting.
    """
    require_absent(Path(dataset))
    threads = workers or available_cores()
    report = progress or ignore_progress
    with (
        local_source(str(source), threads, report) as path,
        open_source(path) as images,
    ):
        decode_config = DecodeConfig(
            size=size,
            channels=1 if grayscale else 3,
            encoding=choose_encoding(size) if encoding == "auto" else encoding,
            exif=images.exif if exif is None else exif,
        )
        return build.prepare(
            images,
            dataset,
            decode_config,
            SplitFractions(val_fraction, test_fraction),
            on_error=on_error,
            workers=threads,
            progress=report,
            part=part,
        )


@contextmanager
def local_source(source: str, workers: int, progress: ProgressFn) -> Iterator[str]:
    """Provide the path of a source: draw the synthetic images or download a public set first.

    The synthetic images are removed at the end, a downloaded set stays in the cache. Any other
    source is a path already, also one that exists under the name of a public set.
    """
    if source == SYNTHETIC:
        with TemporaryDirectory() as folder:
            path = Path(folder) / SYNTHETIC
            write_images(path, workers=workers, progress=progress)
            yield str(path)
    elif source in PUBLIC_DATASETS and not Path(source).exists():
        yield str(download(source, progress))
    else:
        yield source


# ---- train


def train(
    dataset: str | Path,
    *,
    recipe: str | Recipe = "modern",
    out: str | Path | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    settings: Settings = (),
    seed: int = 0,
    init_from: str | Path | None = None,
    freeze_until: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    workers: int | None = None,
    parallel: "ParallelMode" = "none",
    deterministic: bool = False,
    log: "Sequence[TrackerName]" = (),
    callback: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Train a recipe on a prepared dataset; return the summary of the run.

    The summary has epochs, steps, seconds, images_per_second, model (the file of the best model),
    best_epoch, top1_error and top5_error (percent on the val split, one crop; None without one).
    `out` is a new run's directory; None: runs/DATASET-RECIPE. `epochs`, `batch_size`, `lr` and
    `settings` change the recipe as `configure_recipe` says: {"training.momentum": 0.8}, or a list
    of "training.momentum=0.8", or one such string. `init_from`: a model file, a run's directory
    or the name of public weights, whose layers the run starts with. `log`: the trackers that the
    run is logged to, "tensorboard", "wandb", "mlflow". `callback` receives the records that
    metrics.jsonl keeps: {"kind": "step", "loss": ...}, {"kind": "epoch", ...}.
    Under torchrun every process calls this, with a `parallel` strategy.

    >>> summary = train("photos-dataset", epochs=12, out="run")  # doctest: +SKIP
    >>> model, preprocess = alexnet.load_model(summary["model"])  # doctest: +SKIP

    Raises UsageError for a wrong setting, AlexNetError where the dataset does not fit the recipe,
    `out` holds a run already, or the loss diverges.
    """
    from alexnet.analysis.tracking.session import require_trackers, tracked
    from alexnet.core.device import make_runtime, with_parallelism
    from alexnet.distributed.process_group import init_distributed
    from alexnet.training import run_config, trainer

    require_trackers(log)
    configured = configure_recipe(recipe, epochs, batch_size, lr, settings, freeze_until)
    init = None if init_from is None else Path(init_from)
    with init_distributed() as ranks:
        runtime = make_runtime(device, precision, workers, deterministic)
        runtime = with_parallelism(runtime, parallel, ranks)
        config = run_config.new_run(dataset, configured, seed, runtime, init)
        folder = new_run_dir(out, config.dataset, configured, ranks)
        with tracked(log, config, folder, callback or ignore_record) as session:
            return trainer.train(config, folder, session.log, epoch_callback=session.log_filters)


def new_run_dir(
    out: str | Path | None, dataset: "PreparedDataset", recipe: Recipe, ranks: "Ranks"
) -> Path:
    """Return the directory of a new run, runs/DATASET-RECIPE where `out` is None.

    Raises AlexNetError where it holds a run already, unless torchrun has restarted this one.
    """
    from alexnet.training import run_config

    folder = Path(out or Path("runs") / f"{dataset.path.name}-{recipe.name}")
    if ranks.is_main and not ranks.has_flag("begun"):
        run_config.require_new(folder)
        ranks.set_flag("begun")
    return folder


# ---- evaluate


@dataclass(frozen=True)
class Evaluation:
    """The scores of models on a split, and how they were computed."""

    scores: "Scores"
    location: str  # of the dataset
    split: str
    crops: int | Literal["dense"]
    weights: tuple[float, ...]  # each model's share in the averaged probabilities, of sum 1

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as a JSON object; errors in percent."""
        return {
            "images": self.scores.images,
            "crops": self.crops,
            "models": len(self.weights),
            "weights": list(self.weights),
            "split": self.split,
            **dict(self.scores),
        }


def evaluate(
    models: "ModelLike | Sequence[ModelLike]",
    dataset: str | Path,
    *,
    split: str | None = None,
    crops: Crops | None = None,
    weights: Sequence[float] | Literal["val"] | None = None,
    submission: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    workers: int | None = None,
    progress: ProgressFn | None = None,
) -> "Scores":
    """Score a model, or several as an ensemble, on a split of a prepared dataset.

    Returns top1_error and top5_error in percent (top-5 None with fewer than six classes) and the
    mean cross-entropy loss. A model is a model file, a run's directory, the name of public
    weights (`alexnet.load_model`), or a pair (model, preprocessor), which computes on its own
    device and in its own type. `split` None takes test, else val. `crops`: 1, 9, 10 (paper, section
    4.1) or "dense" (every position of the whole square); None takes the models' own number.
    `weights` of an ensemble: numbers, "val" (fitted on the val split), None for equal ones.
    `submission`: a file for the challenge's five guesses.

    >>> evaluate("run", "photos-dataset", crops=10).top1_error  # doctest: +SKIP
    37.5

    Raises AlexNetError where a model or the dataset cannot be read or they do not fit together,
    UsageError for a wrong argument.
    """
    values = as_list(models)
    text = weights if weights is None or weights == "val" else ",".join(map(str, weights))
    runtime = runtime_for(values, device, precision, workers)
    evaluation = evaluate_models(
        values,
        dataset,
        runtime,
        split=split,
        crops=crops,
        weights=text,
        submission=None if submission is None else Path(submission),
        stage=same_for_every_stage(progress or ignore_progress),
    )
    return evaluation.scores


def evaluate_models(
    models: Sequence[ModelLike],
    dataset: str | Path,
    runtime: "Runtime",
    *,
    split: str | None,
    crops: Crops | None,
    weights: str | None,
    submission: Path | None,
    stage: Stage,
) -> Evaluation:
    """Score models as `evaluate` does, on the ranks of `runtime`.

    `weights` is what --weights takes: numbers between commas, "val", or None. The main rank writes
    the submission.
    """
    from alexnet.core.atomic_io import require_writable
    from alexnet.data.prepared import open_dataset
    from alexnet.evaluation import evaluate as evaluation
    from alexnet.evaluation.ensemble import ensemble_weights
    from alexnet.evaluation.submission import write_submission

    if submission is not None:
        require_writable(submission)
    opened = open_dataset(dataset)
    classifiers = [as_classifier(model, runtime) for model in models]
    for classifier in classifiers:
        evaluation.require_same_classes(classifier.preprocessor, opened)
    scored = evaluation.scored_split(opened, split)
    count: int | Literal["dense"] = common_crops(classifiers) if crops is None else crops
    passes = evaluation.DENSE if count == "dense" else count
    with in_eval_mode(classifiers):
        with stage("fitting weights", "images") as progress:
            shares = ensemble_weights(
                weights, classifiers, opened, scored, passes, runtime, progress
            )
        with stage("evaluating", "images") as progress:
            probability, labels = evaluation.predict_split(
                classifiers, scored, passes, runtime, progress, shares
            )
    if submission is not None and runtime.ranks.is_main:
        write_submission(submission, probability, scored.names)
    return Evaluation(
        evaluation.score(probability, labels),
        str(opened.location),
        scored.name,
        count,
        tuple(shares.tolist()),
    )


def common_crops(classifiers: "Sequence[Classifier]") -> int:
    """Return the number of crops of the models' own recipes; UsageError where they differ."""
    counts = sorted({model.preprocessor.augmentation.test_crops for model in classifiers})
    require(
        len(counts) == 1,
        f"these models are made for {' and '.join(map(str, counts))} crops; choose with --crops",
    )
    return counts[0]


# ---- predict


def predict(
    model: ModelLike,
    images: ImageLike | Sequence[ImageLike],
    *,
    crops: Literal[1, 9, 10] | None = None,
    top_k: int = 5,
    device: str = "auto",
    precision: str = "auto",
    workers: int | None = None,
    progress: ProgressFn | None = None,
) -> "list[Prediction]":
    """Return the `top_k` likeliest classes of images, likeliest first, one Prediction an image.

    `model`: a model file, a run's directory, the name of public weights (`alexnet.load_model`), or
    a pair (model, preprocessor). `images`: files, folders and patterns such as "photos/*.jpg"; or
    PIL images and arrays (H, W, 3) or (H, W), uint8; a list of either. `crops` None takes the
    model's own number. An image that cannot be read has a Prediction whose `error` says why.

    >>> (prediction,) = predict("run", "cat.jpg", top_k=1)  # doctest: +SKIP
    >>> prediction.top  # doctest: +SKIP
    (('cat', 0.94),)

    Raises AlexNetError where the model cannot be read or no file is found, UsageError for a wrong
    argument.
    """
    from alexnet.data.image_batches import find_images
    from alexnet.inference.predict import predict_files

    require(top_k >= 1, f"top_k={top_k}: expected 1 or more")
    runtime = runtime_for([model], device, precision, workers)
    classifier = as_classifier(model, runtime)
    count = crops or classifier.preprocessor.augmentation.test_crops
    report = progress or ignore_progress
    values = as_list(images)
    in_memory = [image for image in values if not isinstance(image, str | Path)]
    require(
        len(in_memory) in (0, len(values)),
        "images: found files and images in memory; expected one kind in a call",
    )
    with in_eval_mode([classifier]):
        if in_memory:
            return predict_in_memory(classifier, in_memory, count, top_k, runtime, report)
        files = find_images([str(path) for path in values])
        total = len(files)
        return list(predict_files(classifier, files, count, runtime, report, top_k, total))


def predict_in_memory(
    classifier: "Classifier",
    images: "Sequence[Image.Image | np.ndarray]",
    crops: int,
    top_k: int,
    runtime: "Runtime",
    progress: ProgressFn,
) -> "list[Prediction]":
    """Predict images in memory; their paths are [0], [1], ..."""
    from alexnet.evaluation.evaluate import CROPS_PER_BATCH, probabilities
    from alexnet.inference.predict import Prediction, top_classes

    batch_size = max(1, CROPS_PER_BATCH // crops)
    predictions: list[Prediction] = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        squares = [classifier.preprocessor.decode_square(image) for image in batch]
        for probability in probabilities(classifier, np.stack(squares), crops, runtime):
            top = top_classes(classifier, probability, top_k)
            predictions.append(Prediction(Path(f"[{len(predictions)}]"), top))
        progress(len(predictions), len(images))
    return predictions


# ---- export


def export(
    model: ModelLike,
    path: str | Path,
    *,
    format: "Format | None" = None,
    options: "ExportOptions | None" = None,
    images: Sequence[str | Path] = (),
    card: bool = True,
) -> "Exported":
    """Write a model in a format that other programs run; return what was written.

    `model`: a model file, a run's directory, or a pair (model, preprocessor). `format` None is
    that of the path's suffix: .onnx, .pt2 (torch.export), .xml (OpenVINO), .pth or .safetensors (a
    state dict), .caffemodel; "page" makes a folder, a static page that runs the network in the
    visitor's browser. `options`: how the network is exported, see `ExportOptions`. `images`: files
    and folders on which the exported model is compared with the network before the file gets its
    name; none: synthetic images. `card`: write a model card, MODEL.md, beside.

    >>> exported = alexnet.export("run", "flowers.onnx")  # doctest: +SKIP
    >>> exported.agreement.max_difference  # doctest: +SKIP
    1.2e-07

    Raises AlexNetError where the model cannot be read, the file cannot be written or its answers
    differ, or a package is not installed; UsageError for a wrong argument.
    """
    from alexnet.inference.export.formats import export_model
    from alexnet.inference.export.options import ExportOptions, choose_format

    chosen_format = choose_format(Path(path), format)
    files = [Path(image) for image in images]
    target = Path(path)
    classifier = copy_to_cpu(model, target)
    return export_model(classifier, target, chosen_format, options or ExportOptions(), files, card)


def copy_to_cpu(model: ModelLike, path: Path) -> "Classifier":
    """Return a model on the CPU, in float32 and eval mode, to be written to `path`.

    UsageError where a layer of a model in memory was replaced by one that its network lacks.
    """
    from copy import deepcopy

    from alexnet.models.model_file import read_model_file, require_own_weights

    if isinstance(model, str | Path):
        return read_model_file(Path(model))
    classifier = classifier_in_memory(model)
    require_own_weights(classifier.model, path)
    return replace(classifier, model=deepcopy(classifier.model).float().cpu().eval())


# ---- models


def as_list(values: Any) -> list[Any]:
    """Return one value, or a sequence of them, as a list; a pair (model, preprocessor) is one."""
    from alexnet.models.alexnet import AlexNet

    pair = isinstance(values, tuple) and bool(values) and isinstance(values[0], AlexNet)
    several = isinstance(values, Sequence) and not isinstance(values, str) and not pair
    values = list(values) if several else [values]
    require(bool(values), "found an empty list; expected one or more")
    return values


def as_classifier(model: ModelLike, runtime: "Runtime") -> "Classifier":
    """Return a model with its preprocessor: read from a file and put on the device, or as given."""
    from alexnet.models.model_file import find_model_file, load_classifier

    if isinstance(model, str | Path):
        return load_classifier(find_model_file(Path(model)), runtime)
    return classifier_in_memory(model)


def classifier_in_memory(model: Any) -> "Classifier":
    """Return a pair (model, preprocess) as a classifier, or one as it is; else UsageError."""
    from alexnet.models.model_file import Classifier, make_classifier

    if isinstance(model, Classifier):
        return model
    require(
        isinstance(model, tuple) and len(model) == 2,
        f"model: found {type(model).__name__}, expected a path or the pair (model, preprocess)",
    )
    return make_classifier(*model)


def runtime_for(
    models: Sequence[ModelLike], device: str, precision: str, workers: int | None
) -> "Runtime":
    """Return the runtime for models: a given one's own device and type, else as the options say."""
    from alexnet.core.device import make_runtime

    for model in models:
        if not isinstance(model, str | Path):
            weight = next(classifier_in_memory(model).model.parameters())
            runtime = make_runtime(str(weight.device), "auto", workers)
            return replace(runtime, dtype=weight.dtype)
    return make_runtime(device, precision, workers)


@contextmanager
def in_eval_mode(classifiers: "Sequence[Classifier]") -> Iterator[None]:
    """Put models into eval mode for a while, and back into the mode each one was in."""
    modes = [classifier.model.training for classifier in classifiers]
    for classifier in classifiers:
        classifier.model.eval()
    try:
        yield
    finally:
        for classifier, training in zip(classifiers, modes, strict=True):
            classifier.model.train(training)


# ---- callbacks


def ignore_record(record: dict[str, Any]) -> None:
    """Do nothing: the callback of a run where none is given."""
