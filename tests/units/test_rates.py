"""Rates of units: how they are written, which codebooks serve them, their order."""

import pytest

from emoq_plugin.units.rates import Rate, deepest


def test_a_rate_is_read_as_it_is_written():
    for text in ("2x24", "64x1"):
        assert str(Rate.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["64", "64x", "x4", "1x4", "64x0", "64X2", "-64x2", ""]
)
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(ValueError, match=f"rate '{text}' is not <K>x<L>"):
        Rate.parse(text)


def test_levels_are_nested_so_the_deepest_serves_all_of_its_size():
    rates = [Rate.parse(text) for text in ("64x1", "64x4", "2x24", "64x2")]
    found = deepest(rates)
    assert found == [Rate(64, 4), Rate(2, 24)]
    assert all(any(bank.serves(rate) for bank in found) for rate in rates)
    assert not Rate(64, 2).serves(Rate(64, 4)) and not Rate(32, 4).serves(Rate(64, 1))


def test_rates_are_ordered_by_bits_then_by_levels():
    rates = [Rate.parse(text) for text in ("64x2", "2x4", "16x1", "64x1")]
    assert list(map(str, sorted(rates))) == ["16x1", "2x4", "64x1", "64x2"]
