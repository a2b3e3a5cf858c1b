"""Routing's chore: what is really there at the servers of models."""

from flask import current_app

from portal.services.probing import probe


def probe_providers() -> dict[str, str]:
    """Returns the state of each provider that is enabled."""
    return {report.name: report.state for report in probe(current_app.config["PORTAL"])}
