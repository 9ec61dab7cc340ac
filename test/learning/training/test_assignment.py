"""SimOTA on cases small enough to work out by hand."""

import pytest

torch = pytest.importorskip("torch")

from handos_ros.learning.training.assignment import simota  # noqa: E402


def boxes(*rows):
    return torch.tensor([rows], dtype=torch.float32)


def test_k_is_the_sum_of_overlaps_rounded_down():
    # IoU with the hand: 1, 0.8, 0.6, 0.25: sum 2.65, so the two best queries learn it.
    queries = boxes([5, 5, 10, 10], [5, 5, 8, 10], [5, 5, 6, 10], [5, 5, 5, 5])
    match = simota(torch.full((1, 4), 0.5), queries, boxes([5, 5, 10, 10]), torch.tensor([[True]]))
    assert match.tolist() == [[0, 0, -1, -1]]


def test_at_least_one_query_learns_every_hand():
    queries = boxes([5, 5, 2, 2], [50, 50, 2, 2])
    match = simota(torch.full((1, 2), 0.5), queries, boxes([5, 5, 10, 10]), torch.tensor([[True]]))
    assert match.tolist() == [[0, -1]]


def test_the_score_outweighs_a_small_difference_in_overlap():
    # costs: -log 0.1 + 0 = 2.30, against -log 0.9 - 3 log 0.8 = 0.77; the sum of IoU is 1.8, so k = 1.
    queries = boxes([5, 5, 10, 10], [5, 5, 8, 10])
    match = simota(torch.tensor([[0.1, 0.9]]), queries, boxes([5, 5, 10, 10]), torch.tensor([[True]]))
    assert match.tolist() == [[-1, 0]]


def test_the_overlap_outweighs_a_small_difference_in_score():
    # -log 0.5 = 0.69 against -log 0.9 - 3 log 0.6 = 1.64; k = floor(1.6) = 1.
    queries = boxes([5, 5, 10, 10], [5, 5, 6, 10])
    match = simota(torch.tensor([[0.5, 0.9]]), queries, boxes([5, 5, 10, 10]), torch.tensor([[True]]))
    assert match.tolist() == [[0, -1]]


def test_a_query_centred_outside_comes_last():
    # The first overlaps more (10 of 20 against 2 of 10 squares) but its centre is outside.
    queries = boxes([11, 5, 12, 10], [5, 5, 2, 10])
    match = simota(torch.full((1, 2), 0.5), queries, boxes([5, 5, 10, 10]), torch.tensor([[True]]))
    assert match.tolist() == [[-1, 0]]


def test_a_query_wanted_twice_goes_where_it_costs_least():
    # Query 1 lies between two overlapping hands, nearer to the second; each hand has a query of its own.
    hands = boxes([5, 5, 10, 10], [8, 5, 10, 10])
    queries = boxes([5, 5, 10, 10], [7, 5, 10, 10], [8, 5, 10, 10])
    match = simota(torch.full((1, 3), 0.5), queries, hands, torch.tensor([[True, True]]))
    assert match.tolist() == [[0, 1, 1]]


def test_a_missed_hand_is_given_no_query_that_does_not_touch_it():
    match = simota(
        torch.full((1, 1), 0.9), boxes([50, 50, 4, 4]), boxes([5, 5, 10, 10]), torch.tensor([[True]])
    )
    assert match.tolist() == [[-1]]


def test_padding_matches_nothing_and_pictures_do_not_mix():
    queries = torch.cat([boxes([5, 5, 10, 10], [0, 0, 0, 0])] * 3)
    hands = torch.cat([boxes([5, 5, 10, 10], [0, 0, 0, 0]), boxes([0, 0, 0, 0], [5, 5, 10, 10]),
                       boxes([5, 5, 10, 10], [5, 5, 10, 10])])  # fmt: skip
    valid = torch.tensor([[True, False], [True, True], [False, False]])
    match = simota(torch.full((3, 2), 0.5), queries, hands, valid)
    assert match.tolist() == [[0, -1], [1, -1], [-1, -1]]


def test_no_queries_or_no_places_for_hands():
    none = simota(torch.zeros(1, 0), torch.zeros(1, 0, 4), boxes([5, 5, 1, 1]), torch.tensor([[True]]))
    assert none.shape == (1, 0)
    empty = simota(torch.zeros(1, 2), torch.zeros(1, 2, 4), torch.zeros(1, 0, 4), torch.zeros(1, 0).bool())
    assert empty.tolist() == [[-1, -1]]
