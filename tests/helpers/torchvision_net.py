"""torchvision's AlexNet, written here layer for layer: its wheels do not import beside every torch.

It has few hidden units, so that its files are small.
"""

import torch
from torch import Tensor, nn

CLASSES = 10
UNITS = 16  # hidden ones, 4096 in theirs


class Theirs(nn.Module):
    """Their network, layer for layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            *(nn.Dropout(), nn.Linear(256 * 6 * 6, UNITS), nn.ReLU()),
            *(nn.Dropout(), nn.Linear(UNITS, UNITS), nn.ReLU()),
            nn.Linear(UNITS, CLASSES),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits of pixels (N, 3, 224, 224), 0 to 255."""
        mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        x = (pixels / 255 - mean) / std
        return self.classifier(self.avgpool(self.features(x)).flatten(1))
