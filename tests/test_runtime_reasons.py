"""The words for a reason follow the attention, and what the customer really bought."""

import pytest

from c2rec.runtime.reasons import personal_reason


@pytest.mark.parametrize(
    ("attention", "bought", "reason"),
    [
        ((0.5, 0.3, 0.2), (1, 1, 1), "like what you buy in the store and online"),
        ((0.5, 0.5, 0.0), (1, 1, 0), "like what you buy in the store"),
        ((0.9, 0.0, 0.1), (1, 0, 1), "like what you buy online"),
        ((0.2, 0.5, 0.3), (1, 1, 1), "like what you buy in the store"),
        ((0.2, 0.3, 0.5), (1, 1, 1), "like what you buy online"),
        # only the basket is from the store
        ((0.2, 0.5, 0.3), (1, 0, 1), "goes with what is in the basket"),
        ((0.2, 0.3, 0.5), (0, 0, 0), "goes with what is in the basket"),
        ((1.0, 0.0, 0.0), (1, 0, 0), "like what you buy"),
    ],
)
def test_a_reason_is_true_of_the_customer(
    attention: tuple[float, ...], bought: tuple[int, ...], reason: str
) -> None:
    assert personal_reason(attention, [bool(flag) for flag in bought]) == reason
