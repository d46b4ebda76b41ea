"""Share models on the Hugging Face Hub: the adapter to huggingface_hub's mixin, an extra.

What is pushed is our model file under the Hub's usual name, model.safetensors: weights, mean image,
classes and recipe in one file under one hash, so that whoever pulls it preprocesses images as
training did. config.json repeats what readers and search want to know; nothing is read from it.

>>> HubModel.from_file("run").push_to_hub("me/birds")  # doctest: +SKIP
>>> birds = HubModel.from_pretrained("me/birds")  # doctest: +SKIP
>>> birds.model(birds.preprocess(["robin.jpg"])).softmax(1)  # doctest: +SKIP
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from alexnet.core.errors import require
from alexnet.data.transforms import Preprocessor
from alexnet.models.alexnet import AlexNet
from alexnet.models.model_file import (
    FORMAT,
    MODEL_FILE,
    Classifier,
    make_classifier,
    read_model_file,
    write_classifier,
)
from alexnet.recipes.recipe import Recipe

try:
    from huggingface_hub import ModelHubMixin, hf_hub_download
except ImportError as error:
    raise ModuleNotFoundError(
        'alexnet.models.hub: huggingface_hub is missing; pip install "alexnet[hub]"',
        name="huggingface_hub",
    ) from error

MODEL_CARD = """\
---
{{ card_data }}
---

# AlexNet

An image classifier of the package `alexnet`. `model.safetensors` is its model file: weights, mean
image, classes, recipe and provenance. `config.json` lists the classes.

```python
from alexnet.models.hub import HubModel

hub = HubModel.from_pretrained("OWNER/NAME")
probabilities = hub.model(hub.preprocess(["cat.jpg"])).softmax(1)
```
"""


class HubModel(
    nn.Module,
    ModelHubMixin,
    library_name="alexnet",
    pipeline_tag="image-classification",
    tags=["alexnet"],
    paper_url="https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-"
    "neural-networks",
    model_card_template=MODEL_CARD,
):
    """A model with its preprocessing, which can be pushed to the Hub and pulled from it.

    `model` maps what `preprocess` makes of images to logits, as in `alexnet.load_model`. `recipe`
    and `provenance` are kept in the file; None is what `alexnet.save_model` writes. UsageError
    where model and preprocessor do not fit together.
    """

    def __init__(
        self,
        model: AlexNet,
        preprocess: Preprocessor,
        recipe: Recipe | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.preprocess = preprocess
        self.recipe = recipe
        self.provenance = provenance or {}
        make_classifier(model, preprocess)

    @classmethod
    def from_file(cls, path: str | Path) -> "HubModel":
        """Return the model of a model file, a run's directory, or public weights by name."""
        classifier = read_model_file(Path(path))
        classifier.model.requires_grad_(True)
        return cls(
            classifier.model, classifier.preprocessor, classifier.recipe, classifier.provenance
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes) of preprocessed images (N, C, H, W)."""
        logits: Tensor = self.model(images)
        return logits

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write model.safetensors and config.json; called by the mixin."""
        custom = make_classifier(self.model, self.preprocess)
        recipe = self.recipe or custom.recipe
        classifier = Classifier(self.model, self.preprocess, recipe, self.provenance)
        write_classifier(save_directory / MODEL_FILE, classifier)
        config = {
            "model_type": "alexnet",
            "format": FORMAT,
            "recipe_name": recipe.name,
            "num_classes": self.model.num_classes,
            "id2label": dict(enumerate(self.preprocess.classes)),
        }
        text = json.dumps(config, indent=2, ensure_ascii=False)
        # names that are not UTF-8 become \udc80 ... \udcff, as JSON escapes them
        content = f"{text}\n".encode(errors="backslashreplace")
        (save_directory / "config.json").write_bytes(content)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **model_kwargs: Any,
    ) -> "HubModel":
        """Read the model file of a directory or of a repository; called by the mixin.

        UsageError for further arguments, which the model file leaves no room for.
        """
        require(not model_kwargs, f"from_pretrained: unknown {', '.join(model_kwargs)}")
        if Path(model_id).is_dir():
            return cls.from_file(model_id)
        file = hf_hub_download(
            model_id,
            MODEL_FILE,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )
        return cls.from_file(file)
