"""The page's API; ``page/openapi.json`` documents it."""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from c2rec.runtime.answer import Answer, RecommendedItem
from c2rec.runtime.errors import HomeError, ReleaseError, RequestError, UnknownColumnError
from c2rec.runtime.records import CHANNELS, COMPONENTS, LANGUAGES, Language
from c2rec.runtime.rules.notes import Note
from c2rec.runtime.rules.options import Options
from c2rec.store_kiosk.bodies import Body, read_body
from c2rec.store_kiosk.desk import Asked, Desk, Product, Scanned
from c2rec.store_kiosk.heartbeat import beat
from c2rec.store_kiosk.notify import Manager
from c2rec.store_kiosk.pictures import Pictures
from c2rec.store_kiosk.problems import RefusedError, problem
from c2rec.store_kiosk.render import SCHEMA, plain
from c2rec.store_kiosk.sessions import BASKET, DISMISSED, RECEIPTS, Session, Sessions
from c2rec.store_kiosk.worker import Worker

Relation: TypeAlias = Literal["instead_of", "goes_with"]

PAGE = Path(__file__).parent / "page"
QUEUE = 64
"""Questions that may wait for an answer at once."""
MOST_ITEMS = 50
"""Items in one answer."""
QUESTION = ("k", "channel", "only", "without", "where", "price", "at_most", "diversity")
"""Fields of a request for recommendations, beside the language."""
RELATIONS: tuple[Relation, Relation] = ("instead_of", "goes_with")
"""How items can be related to one, as the options of a request name it."""
GRACE_S = 30
"""A session lives so much longer here than on its page, which is to end it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the page behaves."""

    language: Language = "en"
    currency: str = "EUR"
    """ISO 4217."""
    idle_s: int = 60
    """Seconds without a touch or a scan after which the shopper is warned."""
    warning_s: int = 30
    """Seconds from then to the end of the session, at least 20."""


class Api:
    """The endpoints.

    Args:
        desk: answers; it is opened and asked in one thread, and closed at the end.
        settings: how the page behaves.
        pictures: of the items.
        answered: is told each answer that goes to a page.
        manager: of services, which is told that shoppers are answered; None where there is none.
    """

    def __init__(
        self,
        desk: Desk,
        settings: Settings,
        pictures: Pictures,
        *,
        answered: Callable[[Answer], None] = lambda _: None,
        manager: Manager | None = None,
    ) -> None:
        self._desk, self._settings, self._pictures = desk, settings, pictures
        self._answered, self._manager = answered, manager
        self._worker = Worker(QUEUE)
        self.sessions = Sessions(settings.idle_s + settings.warning_s + GRACE_S)

    def app(self) -> Starlette:
        """The app."""
        one = "/api/sessions/{session}"
        posts = {
            "/api/sessions": self._start,
            f"{one}/scans": self._scan,
            f"{one}/recommendations": self._recommend,
            f"{one}/details": self._detail,
            f"{one}/related": self._relate,
            f"{one}/dismissals": self._dismiss,
            f"{one}/removals": self._remove,
            f"{one}/extensions": self._extend,
            f"{one}/purchases": self._buy,
        }
        gets = {
            "/api/health": self._health,
            "/api/data": self._data,
            "/api/settings": self._tell_settings,
            "/api/openapi.json": self._openapi,
            "/pictures/{item_id:path}": self._picture,
            "/": self._index,
        }
        routes = [Route(path, _answering(end), methods=["POST"]) for path, end in posts.items()]
        routes += [Route(path, _answering(end), methods=["GET"]) for path, end in gets.items()]
        routes.append(Route(one, _answering(self._end), methods=["DELETE"]))
        mount = Mount("/page", StaticFiles(directory=PAGE))
        return Starlette(
            routes=[*routes, mount],
            lifespan=self._lifespan,
            exception_handlers={HTTPException: _http_problem, Exception: _failure},
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        import asyncio

        async def sweep() -> None:
            while True:
                await asyncio.sleep(1)
                self.sessions.sweep()

        tasks = [asyncio.create_task(sweep())]
        if self._manager is not None:
            answer = partial(self._worker.run, self._desk.answer_itself)
            tasks.append(asyncio.create_task(beat(self._manager, answer, self._desk.report)))
        try:
            yield
        finally:
            if self._manager is not None:
                self._manager.tell("STOPPING=1")
            for task in tasks:
                task.cancel()
            await self._worker.run(self._desk.close)
            self._worker.close()

    # --- a shopper

    async def _start(self, request: Request) -> Response:
        await read_body(request, ())
        session = self.sessions.start()
        if session is None:
            raise RefusedError("busy")
        return _json({"session": session} | self._times(), 201)

    async def _end(self, request: Request) -> Response:
        self.sessions.end(request.path_params["session"])
        return Response(status_code=204)

    async def _extend(self, request: Request) -> Response:
        await read_body(request, ())
        self._session(request)
        return _json(self._times())

    async def _scan(self, request: Request) -> Response:
        code = (await read_body(request, ("code",))).code()
        session = self._session(request)

        def identify() -> Scanned:
            found = self._desk.identify(code)
            if found.kind == "card":
                session.show_card(code)  # in the thread where answers are kept
            return found

        scanned = await self._worker.run(identify)
        if scanned.product is not None and scanned.product.item_id not in session.basket:
            if len(session.basket) >= BASKET:
                raise RefusedError("bad-field", f"the basket is full; allowed: {BASKET} items")
            session.basket.append(scanned.product.item_id)
        product = None if scanned.product is None else self._product(scanned.product)
        return _json({"kind": scanned.kind, "known": scanned.known, "product": product})

    async def _recommend(self, request: Request) -> Response:
        body = await read_body(request, ("language", *QUESTION))
        session = self._session(request)
        k = body.whole("k", 6, 1, MOST_ITEMS)
        language = body.choice("language", self._settings.language, LANGUAGES)
        question = _asked(session, body)

        def answer() -> dict[str, Any]:
            times = session.times_before((question, k))
            options = replace(question.options, times_shown=times)
            asked = replace(question, options=options)
            found = self._desk.recommend(asked, k)
            self._answered(found)
            shown = tuple(item.item_id for item in found.items)
            if session.answered((question, k), shown, arm=found.arm, visit=asked.visit):
                self._desk.shown(found, asked)
            basket = [self._desk.product(item_id) for item_id in asked.basket]
            return {
                **_head(found, language),
                "items": [self._item(item, language) for item in found.items],
                "basket": [self._product(each) for each in basket if each is not None],
                "notes": [_note(note, language) for note in found.notes],
            }

        return _json(await self._worker.run(answer))

    async def _detail(self, request: Request) -> Response:
        body = await read_body(request, ("item_id", "channel", "language"))
        session = self._session(request)
        item_id = body.item_id()
        language = body.choice("language", self._settings.language, LANGUAGES)
        asked = _asked(session, body)

        def explain() -> dict[str, Any]:
            product = self._desk.product(item_id)
            if product is None:
                raise RefusedError("unknown-item")
            answer = self._desk.explain(asked, item_id)
            session.touch(item_id, visit=asked.visit)
            self._desk.touched("tapped", asked, item_id)
            why: dict[str, Any] = {"score": None, "attention": None, "reason": None}
            for item in answer.items:
                why = self._why(item, item.reason.words(language))
            facts = {plain(name): plain(value) for name, value in product.metadata.items()}
            return {**_head(answer, language), **self._product(product), **why, "facts": facts}

        return _json(await self._worker.run(explain))

    async def _relate(self, request: Request) -> Response:
        body = await read_body(request, ("item_id", "relation", "k", "channel", "language"))
        session = self._session(request)
        item_id, k = body.item_id(), body.whole("k", 6, 1, MOST_ITEMS)
        relation = body.choice("relation", RELATIONS[0], RELATIONS)
        language = body.choice("language", self._settings.language, LANGUAGES)
        question = _asked(session, body)
        if relation == "instead_of":
            options = replace(question.options, instead_of=item_id)
        else:
            options = replace(question.options, goes_with=item_id)
        asked = replace(question, options=options)

        def relate() -> dict[str, Any]:
            found = self._desk.recommend(asked, k)
            shown = tuple(item.item_id for item in found.items)
            if session.related_to(asked, shown, arm=found.arm, visit=asked.visit):
                self._desk.shown(found, asked)
            return {
                **_head(found, language),
                "relation": relation,
                "known": item_id not in found.unknown_items,
                "items": [self._item(item, language) for item in found.items],
                "notes": [_note(note, language) for note in found.notes],
            }

        return _json(await self._worker.run(relate))

    async def _dismiss(self, request: Request) -> Response:
        body = await read_body(request, ("item_id",))
        item_id, session = body.item_id(), self._session(request)
        if item_id not in session.dismissed:
            if len(session.dismissed) >= DISMISSED:
                raise RefusedError("bad-field", f"allowed: {DISMISSED} dismissed items")
            session.dismissed.append(item_id)
            if item_id in session.shown:
                asked = _asked(session, body)
                await self._worker.run(self._desk.touched, "dismissed", asked, item_id)
        return Response(status_code=204)

    async def _remove(self, request: Request) -> Response:
        item_id = (await read_body(request, ("item_id",))).item_id()
        session = self._session(request)
        if item_id in session.basket:
            session.basket.remove(item_id)
        return Response(status_code=204)

    async def _buy(self, request: Request) -> Response:
        body = await read_body(request, ("items", "channel", "receipt"))
        items, receipt, session = body.bought(), body.receipt(), self._session(request)
        asked = _asked(session, body)

        def keep() -> str:
            if receipt is None:
                return self._desk.bought(asked, items)
            if receipt not in session.receipts:
                if len(session.receipts) >= RECEIPTS:
                    raise RefusedError("bad-field", f"allowed: {RECEIPTS} receipts")
                session.receipts[receipt] = items, self._desk.bought(asked, items)
            before, event_id = session.receipts[receipt]
            if before != items:
                raise RefusedError("receipt-used")
            return event_id

        return _json({"event_id": await self._worker.run(keep)}, 201)

    # --- anybody

    async def _health(self, _: Request) -> Response:
        return _json({"status": "up"})

    async def _data(self, _: Request) -> Response:
        fresh = await self._worker.run(self._desk.freshness)
        age = (datetime.now(UTC).date() - date.fromisoformat(fresh.data_to)).days
        days = {"from": fresh.data_from, "to": fresh.data_to, "age_days": age if age >= 0 else None}
        document = {"release": fresh.release, "data": days, "installed_at": fresh.installed_at}
        return _json({"schema": SCHEMA, **document})

    async def _tell_settings(self, _: Request) -> Response:
        told = {"language": self._settings.language, "languages": list(LANGUAGES)}
        return _json(told | {"currency": self._settings.currency} | self._times())

    async def _openapi(self, _: Request) -> Response:
        return FileResponse(PAGE / "openapi.json", media_type="application/json")

    async def _picture(self, request: Request) -> Response:
        found = self._pictures.find(request.path_params["item_id"])
        if found is None:
            raise RefusedError("not-found")
        path, kind = found
        if not path.is_file():  # it was there at the start
            raise RefusedError("not-found")
        return FileResponse(path, media_type=kind)

    async def _index(self, _: Request) -> Response:
        return FileResponse(PAGE / "index.html")

    # --- parts of answers

    def _session(self, request: Request) -> Session:
        session = self.sessions.find(request.path_params["session"])
        if session is None:
            raise RefusedError("session-ended")
        return session

    def _times(self) -> dict[str, int]:
        return {"idle_s": self._settings.idle_s, "warning_s": self._settings.warning_s}

    def _product(self, product: Product) -> dict[str, Any]:
        return {
            "item_id": product.item_id,
            "name": plain(product.name),
            "price": product.offer.price,
            "stock": product.offer.stock,
            "picture": self._pictures.address(product.item_id),
        }

    def _item(self, item: RecommendedItem, language: Language) -> dict[str, Any]:
        offer = self._desk.offer(item.item_id)
        reason = item.reason.discreet().words(language)  # a list lies open to bystanders
        product = self._product(Product(item.item_id, item.name, offer))
        return product | self._why(item, reason) | {"tier": item.tier}

    def _why(self, item: RecommendedItem, reason: str) -> dict[str, Any]:
        attention = {k: getattr(item.attention, k) for k in COMPONENTS}
        return {"score": item.score, "attention": attention, "reason": plain(reason)}


def _head(answer: Answer, language: Language) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "tier": answer.tier,
        "channel": answer.channel,
        "language": language,
        "release": answer.release,
        "path": answer.path,
        "online_age_s": answer.online_age_s,
        "arm": answer.arm,
        "model": answer.model,
    }


def _asked(session: Session, body: Body) -> Asked:
    return Asked(
        customer_id=session.customer_id,
        basket=tuple(session.basket),
        channel=body.choice("channel", CHANNELS[0], CHANNELS),
        only=body.ids("only"),
        without=body.ids("without") or (),
        visit=session.visit,
        arm=session.arm,
        options=Options(
            where=body.categories("where"),
            price=body.price("price"),
            at_most=body.counts("at_most"),
            diversity=body.share("diversity"),
            dismissed=tuple(session.dismissed),
        ),
    )


def _note(note: Note, language: Language) -> dict[str, Any]:
    told = {"kind": note.kind, "rule": plain(note.rule), "items": note.items}
    return told | {"text": plain(note.words(language))}


def _json(document: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(document), status, media_type="application/json")


def _answering(
    endpoint: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that answers with a problem document where it raises one of our errors."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except RefusedError as error:
            return problem(error.code, error.detail)
        except UnknownColumnError:
            return problem("unknown-column")
        except RequestError:
            return problem("bad-field")
        except (HomeError, ReleaseError):
            return problem("no-release")

    return answer


async def _http_problem(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    refused = problem("wrong-method" if status == 405 else "not-found")
    if isinstance(error, HTTPException) and error.headers:
        refused.headers.update(error.headers)  # Allow
    return refused


async def _failure(_: Request, __: Exception) -> Response:
    return problem("failed")
