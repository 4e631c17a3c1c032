"""The command that records an event."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from c2rec.runtime.errors import EventError, HomeError, IdentityError, ReleaseError
from c2rec.runtime.events.events import KINDS
from c2rec.runtime.records import TIERS
from c2rec.store_kiosk.commands.options import (
    CHANNEL,
    JSON,
    WrongUsageError,
    echo_json,
)
from c2rec.store_kiosk.render import plain

if TYPE_CHECKING:
    from c2rec.runtime.events.events import Kind
    from c2rec.runtime.home.identity import Identity
    from c2rec.runtime.records import Channel, Tier

T = TypeVar("T")


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("items", metavar="ITEM…", nargs=-1, required=True)
@click.option("--customer", help="Id of the customer; what is kept and sent is a pseudonym.")
@click.option(
    "--quantity",
    type=int,
    multiple=True,
    help="How many were bought; once for all items, or once for each in their order.",
)
@click.option(
    "--price",
    type=float,
    multiple=True,
    help="Price of one; once for all items, or once for each in their order.",
)
@CHANNEL
@click.option("--session", help="Name of the visit, the same for what was shown and bought in it.")
@click.option("--release", help="Release that answered.")
@click.option("--tier", type=click.Choice(TIERS), help="Tier that answered.")
@click.option("--path", "answered", help="Path that answered, as recommend --json tells it.")
@click.option(
    "--arm",
    help="Arm of an experiment, as recommend --json tells it; "
    "default: the customer's, by the active release.",
)
@click.option("--model", help="Model that ranked, as recommend --json tells it.")
@JSON
@click.pass_obj
def record(
    home: Path,
    kind: "Kind",
    items: tuple[str, ...],
    *,
    customer: str | None,
    quantity: tuple[int, ...],
    price: tuple[float, ...],
    channel: "Channel",
    session: str | None,
    release: str | None,
    tier: "Tier | None",
    answered: str | None,
    arm: str | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Record that each ITEM was shown, tapped, bought or dismissed; print the event's id.

    It is on disk when the id is printed, and goes to head office with the next queue --send, which
    the timer of install --systemd runs.
    """
    from c2rec.runtime.events.events import Event, EventItem
    from c2rec.runtime.events.outbox import Outbox
    from c2rec.runtime.home.identity import check_customer_id, pseudonym

    if customer is not None:
        check_customer_id(customer)
    identity = enrolled(home)
    unsaid = (1,) if kind == "bought" else ()
    who = None if customer is None else pseudonym(identity.customer_key, customer).hex()
    quantities = _each("--quantity", quantity or unsaid, len(items))
    prices = _each("--price", price, len(items))
    try:
        event = Event(
            kind=kind,
            items=tuple(
                EventItem(
                    item=item,
                    position=None if kind == "bought" else position,
                    quantity=quantities[position - 1],
                    price=prices[position - 1],
                )
                for position, item in enumerate(items, start=1)
            ),
            channel=channel,
            customer=who,
            session=session,
            release=release,
            tier=tier,
            path=answered,
            arm=arm or _arm_of(home, who),
            model=model,
        )
    except EventError as error:  # every field of it is an option or an argument
        raise WrongUsageError(plain(str(error))) from error
    outbox = Outbox(home, identity)
    try:
        event_id = outbox.record(event)
    finally:
        outbox.close()
    if as_json:
        echo_json({"schema": 1, "event_id": event_id})
    else:
        click.echo(event_id)


def _arm_of(home: Path, customer: str | None) -> str | None:
    """The arm that a customer, by pseudonym, is in by the active release; None where none tells."""
    from c2rec.runtime.home.disk import generation_path
    from c2rec.runtime.home.state import find_state
    from c2rec.runtime.release.cache import Cache

    try:
        state = find_state(home)
        if customer is None or state is None:
            return None
        cache = Cache(generation_path(home, state.active.name))
        try:
            experiment = cache.manifest().experiment
        finally:
            cache.close()
    except (HomeError, ReleaseError):  # what happened counts, whatever became of the release
        return None
    return None if experiment is None else experiment.label(experiment.arm_of(customer))


def enrolled(home: Path) -> "Identity":
    """Read who this kiosk is.

    Raises:
        IdentityError: it was never enrolled.
    """
    from c2rec.runtime.home.identity import find_identity

    identity = find_identity(home)
    if identity is None:
        raise IdentityError(
            f"{home} is not enrolled, and an event needs to know its store; "
            f"enrol it: c2rec-kiosk --home {home} enrol"
        )
    return identity


def _each(option: str, values: Sequence[T], items: int) -> list[T | None]:
    """Spread what was given for all items, or for each, over the items."""
    if len(values) not in (0, 1, items):
        raise click.UsageError(
            f"{option} was given {len(values)} times for {items} items; "
            "give it once for all, or once for each"
        )
    return [*values] * (items if len(values) == 1 else 1) or [None] * items
