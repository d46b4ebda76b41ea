"""Short binary codes for features, found by an autoencoder, and neighbours by the bits in which codes differ.

The paper suggests it at the end of section 6.1: Euclidean distance between 4,096 real numbers is slow, codes of some hundred bits
are not. Here one hidden layer of sigmoid units stands between features and their linear reconstruction. While it learns, each
unit is drawn to be 0 or 1 with its own probability, and the gradient passes as if it had not been, so that the decoder
only ever sees bits; a code is then the units above one half. Encoder and codes lie in the index folder beside the rows. A
distance is a number of bits: what it leaves out of the features is not known here.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from alexnet.evaluate import Tick
from alexnet.insight.nearest.features import FORMAT, Kept, Rows, still_good
from alexnet.insight.nearest.search import Found, Search
from alexnet.tensorfile import write_tensors

STEPS, BATCH, RATE = 1500, 128, 1e-3  # of Adam
BITS_OF = np.array([byte.bit_count() for byte in range(256)], np.uint16)  # ones in a byte, a table also for numpy below 2


@dataclass(frozen=True, eq=False)
class Encoder:
    """Features less their mean over their deviation, weighed: float32 mean (values,), deviation (), weight, bias."""

    mean: Tensor
    deviation: Tensor
    weight: Tensor  # (bits, values)
    bias: Tensor  # (bits,)

    def probabilities(self, rows: Tensor) -> Tensor:
        """Each hidden unit's probability (N, bits) to be 1, for rows float32 (N, values)."""
        return F.linear((rows - self.mean) / self.deviation, self.weight, self.bias).sigmoid()

    def codes(self, rows: Tensor) -> np.ndarray:
        """The codes uint8 (N, bits / 8) of rows (N, values)."""
        return np.packbits((self.probabilities(rows.float()) > 0.5).numpy(), axis=1)


def by_codes(kept: Kept, bits: int, progress: Tick) -> Search:
    """The search by codes of whole bytes, read from the index folder, or learnt and put there; `progress`: (done, all) steps."""
    path, about = kept.folder / f"codes{bits}.safetensors", {**kept.origin, "records": len(kept.rows), "bits": bits}
    found = still_good(path, about)
    if found is None:
        encoder = learnt(kept.rows, bits, 0, progress)
        codes = torch.from_numpy(np.concatenate([encoder.codes(part) for part in kept.rows.parts]))
        found = {**vars(encoder), "codes": codes}
        write_tensors(path, FORMAT, found, about)
    kept_codes = found["codes"].numpy()
    encoder = Encoder(found["mean"], found["deviation"], found["weight"], found["bias"])

    def search(queries: Tensor, count: int) -> list[Found]:
        return [_fewest(hamming(kept_codes, code), count) for code in encoder.codes(queries)]

    return search


def hamming(codes: np.ndarray, code: np.ndarray) -> np.ndarray:
    """The bits in which codes uint8 (N, B) differ from one (B,): uint16 (N,)."""
    return BITS_OF[codes ^ code].sum(1, dtype=np.uint16)


def _fewest(distances: np.ndarray, count: int) -> Found:
    """The smallest distances and where they stand; equals by number."""
    order = distances.argsort(kind="stable")[:count]
    return distances[order], order


def learnt(rows: Rows, bits: int, seed: int, progress: Tick = lambda done, of: None) -> Encoder:
    """An encoder that has learnt to keep as much of the rows as fits in so many bits."""
    generator = torch.Generator().manual_seed(seed)
    mean, deviation = _moments(rows)
    start = torch.randn(2, bits, rows.values, generator=generator) * rows.values**-0.5
    encoder = Encoder(mean, deviation, start[0].requires_grad_(), torch.zeros(bits, requires_grad=True))
    back, offset = start[1].T.clone().requires_grad_(), torch.zeros(rows.values, requires_grad=True)
    optimizer = torch.optim.Adam([encoder.weight, encoder.bias, back, offset], RATE)
    for step in range(STEPS):
        some = rows.take(torch.randint(len(rows), (BATCH,), generator=generator).numpy()).float()
        share = encoder.probabilities(some)
        drawn = share + (torch.bernoulli(share, generator=generator) - share).detach()  # the gradient is the probability's
        loss = F.mse_loss(F.linear(drawn, back, offset), (some - mean) / deviation)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress(step + 1, STEPS)
    return Encoder(mean, deviation, encoder.weight.detach(), encoder.bias.detach())


def _moments(rows: Rows) -> tuple[Tensor, Tensor]:
    """The rows' mean (values,) and one deviation for all values (), float32; 1 where all rows are the same."""
    mean = torch.stack([part.sum(0, dtype=torch.float64) for part in rows.parts]).sum(0) / len(rows)
    variance = (rows.squares.sum() / len(rows) - mean.square().sum()) / rows.values
    return mean.float(), variance.sqrt().float() if variance > 1e-12 else torch.tensor(1.0)
