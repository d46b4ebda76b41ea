"""The challenge's submission file."""

from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet.evaluation.submission import write_submission


@pytest.mark.parametrize("classes", [3, 12])
def test_a_submission_lists_the_most_probable_classes_from_one(
    classes: int, tmp_path: Path
) -> None:
    probability = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(classes), 50))
    probability[7] = 1 / classes  # of equals, the first comes first
    names = [f"val/{50 - i}/image_{i:02}.jpg" for i in range(50)]
    # stored by class; the challenge counts by file name
    order = np.random.default_rng(1).permutation(50)
    file = tmp_path / "answers.txt"
    write_submission(file, probability[order], [names[i] for i in order])
    lines = [[int(word) for word in line.split()] for line in file.read_text().splitlines()]
    assert lines == (np.argsort(-probability.numpy(), 1, kind="stable")[:, :5] + 1).tolist()
    assert lines[7] == list(range(1, min(5, classes) + 1))
