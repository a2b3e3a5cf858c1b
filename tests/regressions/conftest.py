"""The fleet of the gateway's tests, for what once went wrong between many servers."""

from tests.gateway.conftest import (  # noqa: F401
    _fleet,
    fleet,
    fleet_complaints,
    fleet_hub,
    fleet_plain,
    gate,
    hurried,
)
