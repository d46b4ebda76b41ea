"""Counted randomness: pure, evenly distributed, and always the same bits."""

import numpy as np

from alexnet.core.rng import key, normal, permutation, randint, uniform


def test_the_same_name_gives_the_same_hash_and_every_part_matters() -> None:
    hashes = {
        int(key(*name)[0])
        for name in (
            (1, "crop", 2, 3),
            (2, "crop", 2, 3),
            (1, "mirror", 2, 3),
            (1, "crop", 3, 2),
            (1, "crop", 2),
        )
    }
    assert len(hashes) == 5
    assert key(1, "crop", 2, 3) == key(1, "crop", 2, 3)


def test_an_array_gives_the_hashes_of_its_elements() -> None:
    hashes = key(7, "crop", np.arange(5))
    assert [int(value) for value in hashes] == [
        int(key(7, "crop", number)[0]) for number in range(5)
    ]


def test_the_bits_never_change() -> None:
    assert int(key(0, "order", 0)[0]) == 0xF5FE5E3A0D44290D
    assert permutation(key(0, "order", 0), 6).tolist() == [4, 5, 0, 2, 3, 1]


def test_draws_follow_their_distributions() -> None:
    hashes = key("many", np.arange(200_000))
    assert abs(uniform(hashes).mean() - 0.5) < 0.003
    counts = np.bincount(randint(hashes, 33), minlength=33)
    assert len(counts) == 33 and (abs(counts / len(hashes) * 33 - 1) < 0.06).all()
    values = normal(hashes, 3)
    assert abs(values.mean()) < 0.005 and abs(np.cov(values.T) - np.eye(3)).max() < 0.01


def test_a_permutation_contains_every_number_once() -> None:
    assert sorted(permutation(key("any"), 1000)) == list(range(1000))
