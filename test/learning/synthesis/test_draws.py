"""Random numbers that depend on seed, index and part alone."""

import torch

from handos_ros.learning.synthesis.draws import Draws


def test_numbers_do_not_depend_on_the_batch_or_on_other_parts():
    both = Draws(7, torch.tensor([3, 900_000_000_000]))
    alone = Draws(7, torch.tensor([900_000_000_000]))
    both.for_part("a").uniform(100)
    assert torch.equal(both.for_part("b").uniform(5)[1:], alone.for_part("b").uniform(5))
    assert not torch.equal(both.for_part("b").uniform(5), both.for_part("c").uniform(5))
    assert not torch.equal(Draws(8, torch.tensor([3])).uniform(5), Draws(7, torch.tensor([3])).uniform(5))


def test_uniform_is_uniform_and_normal_is_normal():
    draws = Draws(0, torch.arange(2000))
    u = draws.uniform(50)
    assert u.min() >= 0 and u.max() < 1
    counts = torch.histc(u, 20, 0, 1)
    assert (counts / u.numel() * 20 - 1).abs().max() < 0.05
    # Neither neighbouring pictures nor successive numbers go together.
    assert torch.corrcoef(torch.stack([u[:-1].flatten(), u[1:].flatten()]))[0, 1].abs() < 0.01
    assert torch.corrcoef(torch.stack([u[:, :-1].flatten(), u[:, 1:].flatten()]))[0, 1].abs() < 0.01
    n = draws.normal(50, limit=9)
    assert abs(float(n.mean())) < 0.01 and abs(float(n.std()) - 1) < 0.01
    later = torch.cat([draws.uniform(90) for _ in range(4)], 1)
    assert all(len(set(row.tolist())) == 360 for row in later[:50])  # nothing comes again


def test_choice_goes_by_weight():
    draws = Draws(1, torch.arange(4000))
    counts = torch.bincount(draws.choice((1, 0, 3), 10).flatten(), minlength=3) / 40000
    assert (counts - torch.tensor([0.25, 0, 0.75])).abs().max() < 0.01
    assert sorted(set(draws.below(3, 10).flatten().tolist())) == [0, 1, 2]
    assert (draws.directions(3).norm(dim=-1) - 1).abs().max() < 1e-5
