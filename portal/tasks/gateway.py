"""The gateway's chore: settle what dead processes left open."""

from flask import current_app

from portal.services.gateway.sweep import sweep


def sweep_abandoned() -> int:
    """Returns how many requests were settled."""
    return sweep(current_app.config["PORTAL"])
