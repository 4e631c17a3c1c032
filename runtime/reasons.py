"""Why an item is recommended, in words that are true of the customer: the one table of them."""

from collections.abc import Sequence

from c2rec.runtime.records import COMPONENTS, Channel, Component

BASKET = "goes with what is in the basket"
CATALOGUE = "from the catalogue"
ONLINE = "recommended to you online"
"""Where the item is in the answer because the online list has it."""

POPULAR: dict[Channel, str] = {"offline": "popular in the store", "online": "popular online"}

BOUGHT: dict[tuple[bool, bool], str] = {
    (True, True): "like what you buy in the store and online",
    (True, False): "like what you buy in the store",
    (False, True): "like what you buy online",
    (False, False): "like what you buy",
}
"""By whether the purchases spoken of are in the store, and whether they are online."""


def personal_reason(attention: Sequence[float], bought: Sequence[bool]) -> str:
    """Reason for one item of a personal answer.

    Args:
        attention: three weights α, over shared, offline and online.
        bought: three flags: which components the customer's own purchases, without the basket,
            give data for.

    Returns:
        The words for the component that weighs most. Where that component has data from the
        basket alone, the basket is the reason.
    """
    strongest: Component = COMPONENTS[max(range(3), key=lambda k: attention[k])]
    _, offline, online = bought
    if not bought[COMPONENTS.index(strongest)]:
        return BASKET
    if strongest == "shared":
        return BOUGHT[offline, online]
    return BOUGHT[strongest == "offline", strongest == "online"]
