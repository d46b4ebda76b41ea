"""A look inside: what a network makes of one image, layer by layer, and where it looked.

The image is the body of the request. Boxes are [top, left, bottom, right] in pixels.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from torch import Tensor

from alexnet.analysis import saliency
from alexnet.analysis.gradcam import gradcam, last_convolution
from alexnet.analysis.plots.feature_maps import compute_feature_maps
from alexnet.analysis.receptive_field import stretch
from alexnet.analysis.unit_responses import (
    kernel_images,
    layer_output,
    strongest_first,
    unit_response,
)
from alexnet.core.device import Runtime
from alexnet.inference.predict import TOP_K
from alexnet.inference.server.api_error import ApiError
from alexnet.inference.server.background_jobs import compute_patiently
from alexnet.inference.server.model_store import ServedModel
from alexnet.inference.server.png import diverging_url, png_url, strength_url
from alexnet.inference.server.predict_routes import DIGITS, describe_top, require_finite
from alexnet.inference.server.query import class_index, required, whole_number
from alexnet.inference.server.request_input import read_image
from alexnet.inference.server.service import Service
from alexnet.models.alexnet import AlexNet

MAX_MAPS = 4096  # of a layer, in one answer
MAX_UNIT = 2**31
CONTRAST = 0.995  # the quantile of a gradient that is drawn as the strongest
OCCLUSION_POSITIONS = 15  # the patch moves by this part of the crop's side
OCCLUSION_BATCH = 16  # crops in one step


@dataclass(frozen=True, eq=False)
class Explained:
    """An image that a request asks about: its record uint8 (S, S, C), and the network's input."""

    model: ServedModel
    runtime: Runtime
    record: np.ndarray

    @property
    def crop(self) -> np.ndarray:
        """Return the center crop uint8 (H, W, C), which is what the network sees."""
        return self.model.classifier.preprocessor.center_crop(self.record[None])[0]

    @property
    def network(self) -> AlexNet:
        """Return the network."""
        return self.model.classifier.model

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes."""
        return self.model.classifier.preprocessor.classes

    def batch(self) -> Tensor:
        """Return the network's input (1, C, H, W)."""
        preprocessor = self.model.classifier.preprocessor
        return preprocessor.normalize(self.crop[None], self.runtime.device, self.runtime.dtype)

    def probability(self) -> Tensor:
        """Compute the probabilities of the classes (classes,); ApiError 409 for no numbers."""
        probability = saliency.class_probabilities(self.network, self.batch())[0].cpu()
        require_finite(self.model, probability)
        return probability

    def output(self, layer: str) -> np.ndarray:
        """Compute the output of a layer; UsageError for an unknown one, ApiError 409 for NaN."""
        maps = compute_feature_maps(self.model.classifier, self.record, self.runtime)
        output = layer_output(dict(maps.layers), layer)
        require_finite(self.model, torch.from_numpy(output))
        return output


Explain = Callable[[Explained, Request], Any]  # computes the JSON of an answer


def routes(service: Service) -> list[BaseRoute]:
    """Return the routes /v1/explain/... and /v1/kernels."""
    posts: dict[str, Explain] = {
        "input": explain_input,
        "maps": explain_maps,
        "unit": explain_unit,
        "gradient": explain_gradient,
        "gradcam": explain_gradcam,
    }

    async def answer_kernels(request: Request) -> Response:
        model = await service.model(request.query_params.get("model"))
        layer = request.query_params.get("layer", model.classifier.model.shapes[0].name)
        kernels = await service.compute(partial(kernel_images, model.classifier.model, layer))
        if kernels is None:
            raise ApiError(400, f"layer={layer}: only a first convolution has kernels of pixels")
        return JSONResponse({"layer": layer, "kernels": [png_url(each) for each in kernels]})

    async def answer_occlusion(request: Request) -> Response:
        explained = await read_explained(service, request)
        chosen = await service.compute(partial(choose_class, explained, request))
        return StreamingResponse(
            occlusion_lines(service, explained, chosen.label), media_type="application/x-ndjson"
        )

    return [
        *(
            Route(f"/v1/explain/{name}", answerer(service, explain), methods=["POST"])
            for name, explain in posts.items()
        ),
        Route("/v1/explain/occlusion", answer_occlusion, methods=["POST"]),
        Route("/v1/kernels", answer_kernels),
    ]


def answerer(service: Service, explain: Explain) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler that answers with what `explain` computes."""

    async def answer(request: Request) -> Response:
        explained = await read_explained(service, request)
        return JSONResponse(await service.compute(partial(explain, explained, request)))

    return answer


async def read_explained(service: Service, request: Request) -> Explained:
    """Read the image and the model that a request is about; ApiError."""
    model = await service.model(request.query_params.get("model"))
    record = await service.decode(model, await read_image(request))
    return Explained(model, service.runtime, record)


# ---- what the network saw


def explain_input(explained: Explained, request: Request) -> dict[str, Any]:
    """Return crop and mean as pictures, the crop's place in the record, and the first classes."""
    preprocessor = explained.model.classifier.preprocessor
    crop = explained.crop
    margin = preprocessor.margin // 2
    mean = np.broadcast_to(preprocessor.center_mean, crop.shape)
    return {
        "record": explained.record.shape[:2],
        "crop": png_url(crop),
        "mean": png_url(np.rint(mean).astype(np.uint8)),
        "box": [margin, margin, margin + crop.shape[0], margin + crop.shape[1]],
        "top": describe_top(explained.model, explained.probability(), TOP_K),
    }


def explain_maps(explained: Explained, request: Request) -> dict[str, Any]:
    """Return the maps of a layer as pictures, or the values of a fully connected one."""
    layer = required(request, "layer")
    count = whole_number(request, "count", 48, 1, MAX_MAPS)
    output = explained.output(layer)
    strongest = strongest_first(output)[:count].tolist()
    if output.ndim == 1:
        units = [{"unit": unit, "value": float(output[unit])} for unit in strongest]
        return {"layer": layer, "shape": [len(output), 1, 1], "units": units}
    scale = float(np.abs(output).max())
    maps = [
        {
            "unit": unit,
            "max": float(output[unit].max()),
            "mean": float(output[unit].mean()),
            "image": diverging_url(output[unit], scale),
        }
        for unit in strongest
    ]
    return {"layer": layer, "shape": output.shape, "scale": scale, "maps": maps}


def explain_unit(explained: Explained, request: Request) -> dict[str, Any]:
    """Return a unit's strongest response, its map and kernel, and the pixels that it sees there."""
    layer = required(request, "layer")
    unit = whole_number(request, "unit", None, 0, MAX_UNIT)
    output = explained.output(layer)
    response = unit_response(explained.network, output, layer, unit)
    kernels = kernel_images(explained.network, layer)
    field = response.receptive_field
    return {
        "layer": layer,
        "unit": unit,
        "value": response.value,
        "position": response.position,
        "receptive_field": {"size": field.box.size, "box": field.box, "clipped": field.clipped},
        "map": None
        if response.map is None
        else diverging_url(response.map, float(np.abs(response.map).max())),
        "kernel": None if kernels is None else png_url(kernels[unit]),
    }


# ---- where the network looked


class ChosenClass(NamedTuple):
    """A class that is explained, and its probability for the image."""

    label: int
    probability: float


def choose_class(explained: Explained, request: Request) -> ChosenClass:
    """Return the class that a request names, or the most likely one of the image."""
    label = class_index(request, "label", explained.classes)
    probability = explained.probability()
    if label is None:
        label = int(probability.argmax())
    return ChosenClass(label, float(probability[label]))


def explain_gradient(explained: Explained, request: Request) -> dict[str, Any]:
    """Return the gradient of a class's logit by every pixel, as a picture."""
    chosen = choose_class(explained, request)
    gradient = saliency.input_gradient(explained.network, explained.batch(), chosen.label)[0]
    values = gradient.float().cpu().numpy()
    return class_map(explained, chosen, values, float(np.quantile(values, CONTRAST)))


def explain_gradcam(explained: Explained, request: Request) -> dict[str, Any]:
    """Return the Grad-CAM of a class at a layer, by default the last convolution, as a picture."""
    chosen = choose_class(explained, request)
    layer = request.query_params.get("layer", last_convolution(explained.network))
    maps = gradcam(explained.network, explained.batch(), chosen.label, layer)
    stretched = stretch(maps[0].float().cpu().numpy(), explained.network.shapes, layer)
    return class_map(explained, chosen, stretched, float(stretched.max()))


def class_map(
    explained: Explained, chosen: ChosenClass, values: np.ndarray, largest: float
) -> dict[str, Any]:
    """Return a picture of the crop's size about a class, with the class's probability."""
    return {
        "class": explained.classes[chosen.label],
        "probability": round(chosen.probability, DIGITS),
        "map": strength_url(values, largest),
    }


async def occlusion_lines(service: Service, explained: Explained, label: int) -> AsyncIterator[str]:
    """Yield the occlusion map after each batch of patches as a line of JSON, coarse to fine."""
    batch = await compute_patiently(service, explained.batch)
    patch, corners = saliency.patch_positions(batch.shape[-1], OCCLUSION_POSITIONS)
    steps = saliency.occlusion_batches(len(corners), OCCLUSION_BATCH)
    maps = saliency.occlusion_steps(
        explained.network, batch[0], label, patch, corners, OCCLUSION_BATCH
    )
    for step in range(1, steps + 1):
        drop = await compute_patiently(service, partial(next, maps))
        line = {
            "class": explained.classes[label],
            "step": step,
            "steps": steps,
            "patch": patch,
            "corners": corners,
            "drop": torch.round(drop, decimals=6).tolist(),
        }
        yield json.dumps(line) + "\n"
