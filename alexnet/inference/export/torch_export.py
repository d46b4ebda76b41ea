"""Export to PyTorch's own graph format: a .pt2 file, which `torch.export.load` reads.

The graph has torch's operations only, so the file loads where this package is not installed. Any
number of images go in at once. The file's extra entry `alexnet.json` holds the classes, where the
model comes from, and how an image becomes the input.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alexnet.core.atomic_io import atomic_write, write_error
from alexnet.inference.export.check import Run, check, model_input
from alexnet.inference.export.exported import Exported
from alexnet.inference.export.options import ExportOptions
from alexnet.inference.export.portable import PortableClassifier
from alexnet.models.model_file import Classifier

METADATA_ENTRY = "alexnet.json"
TRACED_IMAGES = 2  # torch.export takes a batch of one for a constant


def export_torch(
    classifier: Classifier, path: Path, options: ExportOptions, files: Sequence[Path]
) -> Exported:
    """Write a classifier on the CPU, in float32, as a .pt2 file.

    Squares or crops, uint8, to probabilities (N, classes), averaged over the crops; normalized
    tensors to logits. It is checked on the images `files`, or on synthetic ones, before it gets
    its name. AlexNetError where its answers differ or it cannot be written.
    """
    program = _traced(classifier, options)
    try:
        with atomic_write(path) as temporary:
            with temporary.open("wb") as file:  # a name without .pt2 would be warned of
                entries = {METADATA_ENTRY: json.dumps(_metadata(classifier, options))}
                torch.export.save(program, file, extra_files=entries)
            run = _runner(temporary, has_logits=options.input == "tensor")
            agreement = check(classifier, options, run, files)
    except OSError as error:
        raise write_error(path, error) from error
    return Exported(path, "torch-export", (path,), options, agreement)


def _traced(classifier: Classifier, options: ExportOptions) -> torch.export.ExportedProgram:
    config = classifier.preprocessor.decode_config
    squares = np.zeros((TRACED_IMAGES, config.size, config.size, config.channels), np.uint8)
    images = torch.from_numpy(model_input(classifier.preprocessor, options, squares))
    module = PortableClassifier(classifier.model, classifier.preprocessor, options)
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        return torch.export.export(module, (images,), dynamic_shapes=({0: batch},))


def _metadata(classifier: Classifier, options: ExportOptions) -> dict[str, Any]:
    return {
        "recipe": classifier.recipe.name,
        "classes": classifier.preprocessor.classes,
        "input": options.input,
        "crops": options.crops,
        "decode_config": classifier.preprocessor.decode_config.to_json(),
        "provenance": dict(classifier.provenance),
    }


def _runner(path: Path, has_logits: bool) -> Run:
    """Return a function from a graph's input to its probabilities, as the file computes them."""
    with path.open("rb") as file:
        module = torch.export.load(file).module()

    @torch.inference_mode()
    def run(images: np.ndarray) -> np.ndarray:
        outputs = module(torch.from_numpy(images))
        return (outputs.softmax(1) if has_logits else outputs).numpy()

    return run
