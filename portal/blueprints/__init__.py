"""The door list: every way in, who may use it, and the dialect its errors are told in. One line each; default deny.

guard  `public` anyone · `user` signed in · `staff` signed in as staff · `key` a Bearer key, checked by the door itself
csrf   whether its POSTs must carry the form token
errors `page` or `openai`
"""

from typing import NamedTuple

from flask import Blueprint, Flask

from portal.blueprints import (
    auth,
    billing,
    dashboard,
    errors,
    guards,
    health,
    keys,
    notifications,
    papers,
    proxy,
    recovery,
    settings,
    site,
    verification,
    webhooks,
)
from portal.extensions import csrf, login_manager


class Door(NamedTuple):
    blueprint: Blueprint
    prefixes: tuple[str, ...]
    guard: str
    csrf: bool
    errors: str


DOORS = (
    Door(site.bp,           ("",),               guards.PUBLIC,   True,  "page"),
    Door(auth.bp,           ("",),               guards.PUBLIC,   True,  "page"),
    Door(recovery.bp,       ("",),               guards.PUBLIC,   True,  "page"),
    Door(verification.bp,   ("",),               guards.USER,     True,  "page"),
    Door(dashboard.bp,      ("",),               guards.USER,     True,  "page"),
    Door(billing.bp,        ("",),               guards.USER,     True,  "page"),
    Door(papers.bp,         ("",),               guards.USER,     True,  "page"),
    Door(keys.bp,           ("",),               guards.USER,     True,  "page"),
    Door(settings.bp,       ("",),               guards.USER,     True,  "page"),
    Door(notifications.bp,  ("",),               guards.USER,     True,  "page"),
    Door(proxy.bp,          ("/v1", "/api/v1"),  guards.KEY,      False, "openai"),
    Door(webhooks.bp,       ("",),               guards.PUBLIC,   False, "openai"),
    Door(health.bp,         ("",),               guards.PUBLIC,   False, "openai"),
)  # fmt: skip


def open_doors(app: Flask) -> None:
    """Register every door with its guard, form protection and error dialect."""
    # Its own context processor looks the user up for every page, error pages of a lost database included.
    login_manager.init_app(app, add_context_processor=False)
    for door in DOORS:
        if not door.csrf:
            csrf.exempt(door.blueprint)
        for number, prefix in enumerate(door.prefixes):
            name = door.blueprint.name if number == 0 else f"{door.blueprint.name}_{number}"
            app.register_blueprint(door.blueprint, url_prefix=prefix or None, name=name)
    app.before_request(guards.check)
    app.extensions["doors"] = {
        (door.blueprint.name if n == 0 else f"{door.blueprint.name}_{n}"): door
        for door in DOORS
        for n in range(len(door.prefixes))
    }
    errors.init_app(app)
    proxy.mount(app)
