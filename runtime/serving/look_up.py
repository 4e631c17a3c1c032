"""Looking up all that a request names, as far as a damaged release lets."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

import numpy as np

from c2rec.runtime.errors import HomeError
from c2rec.runtime.release.cache import Cache
from c2rec.runtime.rules.options import Options
from c2rec.runtime.serving.asking import Asking
from c2rec.runtime.serving.related import About
from c2rec.runtime.serving.who import Who


def look_up(
    asking: Asking,
    rows: dict[str, int | None],
    *,
    cache: Cache,
    who: Who | None,
    customer_id: str | None,
    basket: Sequence[str],
    options: Options,
    now: datetime,
) -> None:
    """Look up who asks, what is in the basket, and the item that the request is about.

    What can be read is known though something else can't be: all of it is left out of an
    answer, whichever that will be.

    Args:
        asking: is filled in.
        rows: is filled with the rows of these items, None for unknown ones.
        cache: the release.
        who: looks customers up; None where nobody may be known.
        customer_id: who asks, or None.
        basket: ids of items.
        options: may name an item that the request is about.
        now: UTC.

    Raises:
        HomeError: something can't be read; the first of these.
    """

    def find(item_id: str) -> None:
        rows[item_id] = cache.item_row(item_id)

    def find_customer(who: Who, customer_id: str) -> None:
        asking.customer = who.customer(customer_id)

    def find_bought_here(who: Who, customer_id: str) -> None:
        asking.here = who.bought_here(customer_id, now)

    steps = [partial(find, item_id) for item_id in basket]
    if options.about is not None:
        steps.append(partial(find, options.about))
    if customer_id is not None and who is not None:
        steps.append(partial(find_customer, who, customer_id))
        steps.append(partial(find_bought_here, who, customer_id))
        asking.listed = who.listed(customer_id, now)
    errors = []
    for step in steps:
        try:
            step()
        except HomeError as error:
            errors.append(error)
    in_release = [row for row in map(rows.get, basket) if row is not None]
    asking.basket = np.unique(np.array(in_release, np.int64))
    row = None if options.about is None else rows.get(options.about)
    if options.about is not None and row is not None:
        asking.about = About(row, options.about, instead=options.instead_of is not None)
    if errors:
        raise errors[0]
