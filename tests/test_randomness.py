"""Counted randomness: pure, spread evenly, and the same bits for ever."""

import numpy as np

from alexnet.randomness import below, key, normal, permutation, uniform


def test_the_same_name_gives_the_same_word_and_every_part_matters() -> None:
    words = {
        int(key(*name)[0])
        for name in ((1, "crop", 2, 3), (2, "crop", 2, 3), (1, "mirror", 2, 3), (1, "crop", 3, 2), (1, "crop", 2))
    }
    assert len(words) == 5
    assert key(1, "crop", 2, 3) == key(1, "crop", 2, 3)


def test_arrays_give_what_their_elements_give() -> None:
    together = key(7, "crop", np.arange(5))
    assert [int(word) for word in together] == [int(key(7, "crop", number)[0]) for number in range(5)]


def test_the_bits_never_change() -> None:
    assert int(key(0, "order", 0)[0]) == 0xF5FE5E3A0D44290D
    assert permutation(key(0, "order", 0), 6).tolist() == [4, 5, 0, 2, 3, 1]


def test_draws_follow_their_distributions() -> None:
    words = key("many", np.arange(200_000))
    assert abs(uniform(words).mean() - 0.5) < 0.003
    counts = np.bincount(below(words, 33), minlength=33)
    assert len(counts) == 33 and (abs(counts / len(words) * 33 - 1) < 0.06).all()
    drawn = normal(words, 3)
    assert abs(drawn.mean()) < 0.005 and abs(np.cov(drawn.T) - np.eye(3)).max() < 0.01


def test_a_permutation_holds_every_number_once() -> None:
    assert sorted(permutation(key("any"), 1000)) == list(range(1000))
