"""Read the models that were given and let each compute once, before the first request comes.

The first pass compiles kernels and lets the libraries choose their algorithms.
"""

from collections.abc import Iterator

import numpy as np

from alexnet.core.errors import AlexNetError
from alexnet.evaluation.evaluate import probabilities
from alexnet.inference.server.api_error import ApiError
from alexnet.inference.server.model_store import MAX_LOADED
from alexnet.inference.server.service import Service


def warm_up(service: Service) -> Iterator[str]:
    """Yield the name of each model that was made ready; AlexNetError where one cannot be read."""
    for name in service.models.initial_names()[:MAX_LOADED]:
        try:
            classifier = service.models.get(name).classifier
        except ApiError as error:
            raise AlexNetError(error.message) from error
        config = classifier.preprocessor.decode_config
        square = np.zeros((1, config.size, config.size, config.channels), np.uint8)
        probabilities(classifier, square, 1, service.runtime)
        yield name
