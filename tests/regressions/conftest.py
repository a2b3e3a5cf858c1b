"""The fleet of the gateway's tests, for what once went wrong between many servers."""

import tests.gateway.conftest  # noqa: F401  (first: the house, which the fleet builds on, imports the fleet in turn)
from tests.gateway.fleet import (  # noqa: F401
    _fleet,
    fleet,
    fleet_complaints,
    fleet_hub,
    fleet_plain,
    gate,
    hurried,
)
