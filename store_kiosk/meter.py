"""What a running page counts, and /metrics, where it tells that and the home's state.

Labels are routes, methods, status codes, tiers and paths: few, and nothing of a shopper.
"""

from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from c2rec.runtime.answer import Answer
from c2rec.store_kiosk.metrics import CONTENT_TYPE, HomeCollector, text_of
from c2rec.store_kiosk.problems import problem

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SCRAPES = 4
"""So many may wait at once: one reads files, and must not hold up the rest."""


class Meter:
    """Counts requests and answers.

    Args:
        home: the kiosk's folder, whose state is told with them.
    """

    def __init__(self, home: Path) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "c2rec_http_requests_total",
            "Requests answered by the page's server.",
            ["route", "method", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "c2rec_http_request_duration_seconds",
            "Time from a request's head to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._answers = Counter(
            "c2rec_answers_total",
            "Recommendations shown, by the tier that answered and what became of online scores.",
            ["tier", "path"],
            registry=self._registry,
        )
        ProcessCollector(registry=self._registry)
        self._registry.register(HomeCollector(home))

    def requested(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count a request.

        Args:
            method: one of HTTP's, or ``other``.
            route: the route's pattern, never the path; None where there is none.
            status: of the answer; 0 where there was none.
            seconds: that it took.
        """
        route = route or "none"
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def answered(self, answer: Answer) -> None:
        """Count an answer."""
        self._answers.labels(answer.tier, answer.path).inc()

    def text(self) -> str:
        """All of it, in Prometheus' text format."""
        return text_of(self._registry)


def metrics_route(meter: Meter) -> Route:
    """``GET /metrics``, which reads in a thread of its own."""
    waiting = 0

    async def tell(_: Request) -> Response:
        nonlocal waiting
        if waiting >= _SCRAPES:
            return problem("busy")
        waiting += 1
        try:
            text = await run_in_threadpool(meter.text)
        finally:
            waiting -= 1
        return Response(text, headers={"content-type": CONTENT_TYPE})

    return Route("/metrics", tell, methods=["GET"])
