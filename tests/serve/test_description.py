"""Requests drawn from the server's own description: none may end in an error of ours."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings, strategies
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from servers import serving

from unmul.serve.service import Limits


@pytest.fixture(scope="module")
def description(folder):
    """The description of a server whose answers are short."""
    with serving(folder, limits=Limits(new_tokens=32, drain_s=0)) as (url, _):
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
def test_no_request_ends_in_a_500_whether_the_description_allows_it_or_not(description, mode):
    operations = [found.ok() for found in description.get_all_operations()]
    assert {operation.path for operation in operations} >= {"/v1/completions", "/v1/chat/completions", "/metrics"}
    drawn = strategies.one_of(operation.as_strategy(generation_mode=mode) for operation in operations)

    @settings(max_examples=100, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=drawn)
    def probe(case):
        case.call_and_validate(checks=[not_a_server_error])

    probe()
