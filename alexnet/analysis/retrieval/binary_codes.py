"""Short binary codes learned by an autoencoder, searched by Hamming distance.

The paper suggests them at the end of section 6.1: Euclidean distance between 4096 real numbers is
slow, codes of some hundred bits are fast. Here one hidden layer of sigmoid units stands between the
features and their linear reconstruction. In training each unit is sampled to 0 or 1 with its own
probability and the gradient passes straight through, so the decoder only ever sees bits; a code
holds the units above one half. Encoder and codes are stored in the folder of the feature index.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.analysis.retrieval.features import FORMAT, FeatureIndex, Features, read_if_current
from alexnet.analysis.retrieval.search import SearchFn, SearchResult
from alexnet.core.safetensors_io import write_tensors
from alexnet.evaluation.evaluate import ProgressFn

STEPS = 1500  # of Adam
BATCH_SIZE = 128
LR = 1e-3
POPCOUNT = np.array([byte.bit_count() for byte in range(256)], np.uint16)  # np.bitwise_count: 2.0


@dataclass(frozen=True, eq=False)
class Encoder:
    """A linear layer on standardized features, float32, followed by a sigmoid."""

    mean: Tensor  # (dim,)
    std: Tensor  # ()
    weight: Tensor  # (bits, dim)
    bias: Tensor  # (bits,)

    def probabilities(self, features: Tensor) -> Tensor:
        """Return each hidden unit's probability (N, bits) to be 1, for float32 (N, dim)."""
        return F.linear((features - self.mean) / self.std, self.weight, self.bias).sigmoid()

    def encode(self, features: Tensor) -> np.ndarray:
        """Return the codes uint8 (N, bits / 8) of features (N, dim)."""
        return np.packbits((self.probabilities(features.float()) > 0.5).numpy(), axis=1)


def binary_code_search(index: FeatureIndex, bits: int, progress: ProgressFn) -> SearchFn:
    """Return the search by codes of `bits` (a multiple of 8), trained on first use and then stored.

    `progress` receives (done, total) training steps; distances are numbers of differing bits.
    """
    path = index.folder / f"codes-{bits}.safetensors"
    metadata = {**index.metadata, "images": len(index.features), "bits": bits}
    stored = read_if_current(path, metadata)
    if stored is None:
        trained = train_encoder(index.features, bits, 0, progress)
        codes = np.concatenate([trained.encode(part) for part in index.features.parts])
        stored = {**vars(trained), "codes": torch.from_numpy(codes)}
        write_tensors(path, FORMAT, stored, metadata)
    stored_codes = stored["codes"].numpy()
    encoder = Encoder(stored["mean"], stored["std"], stored["weight"], stored["bias"])

    def search(queries: Tensor, top_k: int) -> list[SearchResult]:
        return [
            smallest_distances(hamming_distances(stored_codes, code), top_k)
            for code in encoder.encode(queries)
        ]

    return search


def hamming_distances(codes: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Return the number of bits in which codes uint8 (N, B) differ from one (B,): uint16 (N,)."""
    return POPCOUNT[codes ^ code].sum(1, dtype=np.uint16)


def smallest_distances(distances: np.ndarray, top_k: int) -> SearchResult:
    """Return the smallest distances and their indices; ties are ordered by index."""
    order = distances.argsort(kind="stable")[:top_k]
    return SearchResult(distances[order], order)


def train_encoder(
    features: Features, bits: int, seed: int, progress: ProgressFn = lambda done, total: None
) -> Encoder:
    """Train the autoencoder and return its encoder."""
    generator = torch.Generator().manual_seed(seed)
    mean, std = _moments(features)
    weights = torch.randn(2, bits, features.dim, generator=generator) * features.dim**-0.5
    bias = torch.zeros(bits, requires_grad=True)
    encoder = Encoder(mean, std, weights[0].requires_grad_(), bias)
    decoder_weight = weights[1].T.clone().requires_grad_()  # (dim, bits)
    decoder_bias = torch.zeros(features.dim, requires_grad=True)
    parameters = [encoder.weight, encoder.bias, decoder_weight, decoder_bias]
    optimizer = torch.optim.Adam(parameters, LR)
    for step in range(STEPS):
        indices = torch.randint(len(features), (BATCH_SIZE,), generator=generator).numpy()
        batch = features.take(indices).float()
        probabilities = encoder.probabilities(batch)
        bit_samples = torch.bernoulli(probabilities, generator=generator)
        hidden = probabilities + (bit_samples - probabilities).detach()  # straight-through gradient
        output = F.linear(hidden, decoder_weight, decoder_bias)
        loss = F.mse_loss(output, (batch - mean) / std)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress(step + 1, STEPS)
    return Encoder(mean, std, encoder.weight.detach(), encoder.bias.detach())


def _moments(features: Features) -> tuple[Tensor, Tensor]:
    """Return the mean (dim,) and one std () of all values, float32; std 1 where all are equal."""
    count = len(features)
    sums = torch.stack([part.sum(0, dtype=torch.float64) for part in features.parts])
    mean = sums.sum(0) / count
    variance = (features.squared_norms.sum() / count - mean.square().sum()) / features.dim
    std = variance.sqrt().float() if variance > 1e-12 else torch.tensor(1.0)
    return mean.float(), std
