"""Asks a page's server what Schemathesis makes up from its OpenAPI document.

A process of its own, for Schemathesis changes Hypothesis where it is imported: its tests, and how
they tell of a failure, would not be the same any more.
"""

import sys
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from c2rec.store_kiosk.bodies import MOST_BYTES
from tests.kiosk_page import TOKEN, Served

SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def ask(served: Served, mode: GenerationMode) -> dict[str, int]:
    """Ask for every operation; how many answers were checked, by operation."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    schema = schemathesis.openapi.from_dict(served.json("GET", "/api/openapi.json"))
    schema.validate()
    asked: dict[str, int] = {}
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]
        asked[operation.label] = 0
        if mode is GenerationMode.NEGATIVE and not (operation.body or operation.path_parameters):
            continue  # nothing can be wrong
        path = served.session()

        @settings(max_examples=15, deadline=None, suppress_health_check=SLOW, database=None)
        @given(operation.as_strategy(generation_mode=mode))
        def answered(case: Any) -> None:
            if case.method != "DELETE" and "session" in case.path_parameters:
                case.path_parameters["session"] = path.rpartition("/")[2]  # noqa: B023 - run at once
            response = case.call(base_url=served.address, headers=headers)
            asked[operation.label] += 1  # noqa: B023 - run at once
            assert response.status_code < 500
            if response.status_code == 413:  # which Schemathesis takes for accepted
                assert len(response.request.body) > MOST_BYTES
                return
            case.validate_response(response)
            if response.status_code == 201 and "session" in response.json():
                served.json("DELETE", f"/api/sessions/{response.json()['session']}")

        answered()
        served.json("DELETE", path)
    return asked


if __name__ == "__main__":
    for operation, count in ask(Served(int(sys.argv[1])), GenerationMode(sys.argv[2])).items():
        print(count, operation)
