"""Events and batches on the wire: what is written is read, and nothing else is."""

import json
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from c2rec.runtime.errors import EventError
from c2rec.runtime.events.batches import Epoch, claimed_kiosk, parse_batch, write_batch
from c2rec.runtime.events.events import (
    KINDS,
    Event,
    EventItem,
    Stamp,
    event_body,
    moment,
    moment_text,
    parse_record,
    record_line,
)

KEY = b"k" * 32
HEX = st.text("0123456789abcdef", min_size=32, max_size=32)
NAMES = st.none() | st.text(string.ascii_letters + "äß€😀 -", min_size=1, max_size=100)
IDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40).filter(
    lambda text: text == text.strip()
)


@st.composite
def events(draw: st.DrawFn) -> Event:
    kind = draw(st.sampled_from(KINDS))
    bought = kind == "bought"
    items = st.builds(
        EventItem,
        item=IDS,
        position=st.none() | st.integers(1, 1000),
        quantity=st.none() | st.integers(1, 10_000) if bought else st.none(),
        price=st.none() | st.floats(0, 1e7) if bought else st.none(),
    )
    return draw(
        st.builds(
            Event,
            kind=st.just(kind),
            items=st.lists(items, min_size=1, max_size=5).map(tuple),
            channel=st.sampled_from(["offline", "online"]),
            customer=st.none() | HEX,
            session=NAMES,
            release=NAMES,
            tier=st.none() | st.sampled_from(["personal", "basket"]),
            path=NAMES,
            arm=NAMES,
            model=NAMES,
        )
    )


STAMPS = st.builds(
    Stamp,
    event_id=HEX,
    store=st.just("S1"),
    device=st.just("k1"),
    boot=HEX,
    at=st.integers(0, 4_102_444_799_999),
    clock=st.integers(0, 1 << 53),
)


def batch(pairs: list[tuple[Event, Stamp]], first: int = 1) -> bytes:
    return write_batch(
        "S1",
        "k1",
        Epoch(name="e" * 32, reason="first", previous=None, previous_arrived=None),
        first=first,
        last=first + len(pairs) - 1,
        lines=[
            record_line(event_body(event, stamp), event.customer, sequence)
            for sequence, (event, stamp) in enumerate(pairs, start=first)
        ],
        dropped={"shown": 3},
        made_at=moment_text(0),
        device_key=KEY,
    )


@settings(suppress_health_check=[HealthCheck.too_slow])  # of a machine that does much else
@given(st.lists(st.tuples(events(), STAMPS), min_size=1, max_size=4), st.integers(1, 1 << 40))
def test_a_batch_is_read_as_it_was_written(pairs: list[tuple[Event, Stamp]], first: int) -> None:
    content = batch(pairs, first)
    read = parse_batch(content, KEY)
    assert [(record.event, record.stamp) for record in read.records] == pairs
    assert [record.sequence for record in read.records] == [
        *range(first, first + len(pairs)),
    ]
    assert (read.header.first, read.header.dropped) == (first, {"shown": 3})
    assert claimed_kiosk(content) == ("S1", "k1")


EXAMPLE = batch(
    [
        (
            Event(kind="bought", items=(EventItem(item="A", quantity=2, price=1.5),)),
            Stamp(event_id="a" * 32, store="S1", device="k1", boot="b" * 32, at=0, clock=0),
        )
    ]
)


@given(st.integers(0, len(EXAMPLE) - 1), st.integers(1, 255))
def test_whatever_byte_is_changed_it_is_refused(at: int, by: int) -> None:
    content = EXAMPLE[:at] + bytes([EXAMPLE[at] ^ by]) + EXAMPLE[at + 1 :]
    with pytest.raises(EventError):
        parse_batch(content, KEY)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
LINE = json.loads(EXAMPLE.split(b"\n")[1])


@given(st.sampled_from(sorted(LINE)), JSON)
def test_a_field_of_any_value_is_taken_or_refused_and_nothing_else(
    name: str, value: object
) -> None:
    line = json.dumps(LINE | {name: value}).encode()
    try:
        record = parse_record(line)
    except EventError:
        return
    again = record_line(event_body(record.event, record.stamp), record.event.customer, 1)
    assert parse_record(again).event == record.event


@given(st.binary(max_size=200))
def test_noise_is_refused(content: bytes) -> None:
    for parse in (parse_record, claimed_kiosk, lambda each: parse_batch(each, KEY)):
        with pytest.raises(EventError):
            parse(content)


@given(st.integers(0, 4_102_444_799_999))
def test_times_are_read_as_they_were_written(at: int) -> None:
    assert moment(moment_text(at)) == at


@pytest.mark.parametrize(
    "text", ["2026-01-31", "2026-01-31T09:30:00Z", "2026-01-31T09:30:00.000+00:00", None, 5, ""]
)
def test_a_time_written_otherwise_is_refused(text: object) -> None:
    with pytest.raises(EventError, match="allowed: a time in UTC"):
        moment(text)


def test_an_id_of_a_customer_is_no_pseudonym_and_is_not_told() -> None:
    with pytest.raises(EventError, match="customer is no pseudonym") as caught:
        Event(kind="shown", items=(EventItem(item="A"),), customer="somebody@example.com")
    assert "somebody" not in str(caught.value)


def test_an_event_too_large_is_refused() -> None:
    items = tuple(EventItem(item=f"{n:0250}") for n in range(200))
    stamp = Stamp(event_id="a" * 32, store="S1", device="k1", boot="b" * 32, at=0, clock=0)
    with pytest.raises(EventError, match="give fewer items"):
        event_body(Event(kind="shown", items=items), stamp)
