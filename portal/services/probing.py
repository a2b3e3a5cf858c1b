"""What is really there: each provider is asked which models it has, what they can do and how much they can read.

Three moves: read the rows; ask, all providers at once and outside any transaction; note what was found in a short one.
A probe that fails changes no offer, and one that overtook an operator's change notes nothing. Knows nothing of
requests: what rests a server that fails them is `routing`'s business.
"""

import datetime as dt
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext, suppress
from typing import NamedTuple

import sqlalchemy as sa

from portal.clock import utcnow
from portal.config import Settings
from portal.extensions import db
from portal.freshness import changing
from portal.models import LanguageModel, ModelOffer, Provider
from portal.providers.llm.ollama import Listed, OllamaServer, ProviderError, Shown
from portal.services import events
from portal.services.catalog import bare
from portal.services.catalog_rows import provider_url
from portal.services.provider_health import AWAY

log = logging.getLogger("portal.probing")
CAPABILITIES = frozenset({"completion", "tools", "insert", "vision", "embedding", "thinking", "image", "audio"})
"""Ollama's words that we know. Another one tells us nothing."""
AT_ONCE = 8
AGAIN_SECONDS = 1.0
"""After so long a server that was merely slow or restarting is asked once more, before anybody is told of it."""
FORGOTTEN_REST = dt.timedelta(minutes=30)
"""After so long a server that has its models is up, whatever rested it: no request may have come by since to tell."""


class Offered(NamedTuple):
    """An offer as its row has it. model: as customers call it."""

    id: str
    model: str
    upstream_name: str
    present: bool | None
    capabilities: str | None
    context_tokens: int | None


class Target(NamedTuple):
    """A provider about to be asked. own_url: its row's address; unoffered: models of the catalogue it might have."""

    id: str
    name: str
    kind: str
    location: str
    own_url: str
    url: str
    key_variable: str
    key: str = ""
    offers: tuple[Offered, ...] = ()
    unoffered: tuple[str, ...] = ()

    @property
    def unusable(self) -> str:
        """Why it can't be asked at all; empty when it can."""
        if not self.url:
            return "it has no address"
        return f"no key: {self.key_variable} is not set" if self.key_variable and not self.key else ""

    def bare(self, name: str) -> str:
        return bare(name, cloud=self.kind == "ollama-cloud")


class Found(NamedTuple):
    """One offer as it is there. None: not told."""

    present: bool
    capabilities: str | None = None
    context_tokens: int | None = None


class Findings(NamedTuple):
    """What a provider told: by offer, and the names of models that it has besides."""

    version: str = ""
    offers: tuple[tuple[Offered, Found], ...] = ()
    besides: tuple[str, ...] = ()


class Report(NamedTuple):
    """How a probe went. state: up, down, or unknown where it could not even be asked; reason: why it is not up.

    present, absent: offered models by whether they are there; besides: models of the catalogue that are there and not
    offered; changed: whether what is on offer is another than before.
    """

    name: str
    state: str
    reason: str = ""
    version: str = ""
    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    besides: tuple[str, ...] = ()
    changed: bool = False


def probe(settings: Settings, name: str | None = None) -> Iterator[Report]:
    """Ask every enabled provider, or the one of this name whether enabled or not; reports come as answers do.

    The session must have nothing open; commits.
    """
    targets = _targets(settings, name)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = {pool.submit(_ask, target): target for target in targets}
        for answer in as_completed(asked):
            target = asked[answer]
            try:
                yield _note_findings(target, answer.result())
            except ProviderError as error:
                yield _note_failure(target, "down", str(error))
            except _Unusable as error:
                yield _note_failure(target, "unknown", str(error))


class _Unusable(Exception):
    """Nobody was asked."""


def _targets(settings: Settings, name: str | None) -> list[Target]:
    wanted = Provider.enabled if name is None else Provider.name == name
    models = db.session.execute(
        sa.select(LanguageModel.id, LanguageModel.name, LanguageModel.location)
        .where(LanguageModel.enabled, LanguageModel.plan_id.is_not(None))
        .order_by(LanguageModel.name)
    ).all()
    offers: dict[str, dict[str, Offered]] = {}
    for row, model in db.session.execute(
        sa.select(ModelOffer, LanguageModel.name).join(LanguageModel, LanguageModel.id == ModelOffer.model_id)
    ):
        offers.setdefault(row.provider_id, {})[row.model_id] = Offered(
            row.id, model, row.upstream_name, row.present, row.capabilities, row.context_tokens
        )
    targets = []
    for provider in db.session.scalars(sa.select(Provider).where(wanted).order_by(Provider.name)):
        own = offers.get(provider.id, {})
        targets.append(
            Target(
                provider.id,
                provider.name,
                provider.kind,
                provider.location,
                provider.url,
                provider_url(provider, settings),
                provider.key_variable,
                settings.provider_key(provider.key_variable),
                tuple(sorted(own.values(), key=lambda offer: offer.model)),
                # What is at home in the cloud can't be had from a server of our own.
                tuple(m.name for m in models if m.id not in own and provider.location in ("cloud", m.location)),
            )
        )
    db.session.close()
    return targets


# --- asking ---------------------------------------------------------------------------------------------------------


def _ask(target: Target) -> Findings:
    """In a thread of its own: no row, no session. Raises ProviderError, _Unusable."""
    if target.unusable:
        raise _Unusable(target.unusable)
    try:
        return _asked_once(target)
    except ProviderError as error:
        if error.permanent:
            raise
    time.sleep(AGAIN_SECONDS)
    return _asked_once(target)


def _asked_once(target: Target) -> Findings:
    with OllamaServer(target.url, target.key) as server:
        if target.kind == "openai-compatible":
            return _compare(target, server.openai_models())
        there = server.tags()
        version, loaded = "", {}
        with suppress(ProviderError):  # what counts is the list
            version = server.version()
        if target.kind == "ollama":
            with suppress(ProviderError):
                loaded = {target.bare(name): context for name, context in server.loaded().items()}
        shown = {offer.upstream_name: _show(server, offer.upstream_name) for offer in _there(target, there)}
        return _compare(target, there, version, loaded, shown)


def _show(server: OllamaServer, name: str) -> Shown | None:
    """None where it does not tell, as Ollama's cloud may not."""
    try:
        return server.show(name)
    except ProviderError as error:
        if error.status == 401:  # the list is open to everybody: here it shows that the key is none
            raise
        return None


def _there(target: Target, listed: list[Listed]) -> list[Offered]:
    """Of the offers, those the provider has. A stub that answers from the cloud is no model of a server of our own:
    what asks to stay here would leave the house."""
    names = {target.bare(model.name) for model in listed if not (model.elsewhere and target.location == "local")}
    return [offer for offer in target.offers if target.bare(offer.upstream_name) in names]


def _compare(
    target: Target,
    listed: list[Listed],
    version: str = "",
    loaded: dict[str, int] | None = None,
    shown: dict[str, Shown | None] | None = None,
) -> Findings:
    by_name = {target.bare(model.name): model for model in listed}
    there = {offer.id for offer in _there(target, listed)}
    found = []
    for offer in target.offers:
        name = target.bare(offer.upstream_name)
        if offer.id in there:
            told = (shown or {}).get(offer.upstream_name)
            working = (loaded or {}).get(name)
            found.append((offer, Found(True, _capabilities(offer, by_name[name], told),
                                       _context(offer, by_name[name], told, working))))  # fmt: skip
        else:
            found.append((offer, Found(False, offer.capabilities, offer.context_tokens)))
    besides = tuple(name for name in target.unoffered if target.bare(name) in by_name)
    return Findings(version[:40], tuple(found), besides)


def _capabilities(offer: Offered, listed: Listed, shown: Shown | None) -> str | None:
    told = listed.capabilities if shown is None or shown.capabilities is None else shown.capabilities
    known = sorted(CAPABILITIES.intersection(told or ()))
    return " ".join(known) or offer.capabilities


def _context(offer: Offered, listed: Listed, shown: Shown | None, working: int | None) -> int | None:
    """What it works with while loaded; what its Modelfile sets; else what it was trained for, unless we know of less:
    a model that leaves memory would seem to read thirty times as much, until its next load cuts prompts in silence."""
    if working is not None:
        return working
    if shown is not None and shown.set_context is not None:
        return shown.set_context
    trained = listed.context_tokens if shown is None or shown.trained_context is None else shown.trained_context
    return min((context for context in (trained, offer.context_tokens) if context is not None), default=None)


# --- noting ---------------------------------------------------------------------------------------------------------


def _note_findings(target: Target, findings: Findings) -> Report:
    news = [(offer, found) for offer, found in findings.offers if tuple(found) != offer[3:]]
    with changing("catalog") if news else nullcontext():
        as_asked = _note(target, "up", "", **({"version": findings.version} if findings.version else {}))
        for offer, found in news if as_asked else ():
            db.session.execute(
                sa.update(ModelOffer)
                .where(ModelOffer.id == offer.id, ModelOffer.upstream_name == offer.upstream_name)
                .values(**found._asdict())
            )
        db.session.commit()
    for offer, found in news if as_asked else ():
        told = {"present": found.present, "able": found.capabilities, "context": found.context_tokens}
        log.info("offer changed", extra={"provider": target.name, "model": offer.model, **told})
    by_presence: dict[bool, list[str]] = {True: [], False: []}
    for offer, found in findings.offers:
        by_presence[found.present].append(offer.model)
    return Report(
        target.name, "up", "", findings.version, tuple(by_presence[True]), tuple(by_presence[False]),
        findings.besides, bool(news) and as_asked,
    )  # fmt: skip


def _note_failure(target: Target, state: str, reason: str) -> Report:
    _note(target, state, reason)
    db.session.commit()
    return Report(target.name, state, reason)


def _note(target: Target, state: str, reason: str, **values: str) -> bool:
    """Write the provider's row. False, and nothing written: somebody changed its address or key while it was asked."""
    now = utcnow()
    row = sa.and_(
        Provider.id == target.id, Provider.url == target.own_url, Provider.key_variable == target.key_variable
    )
    done = db.session.execute(sa.update(Provider).where(row).values(probed_at=now, **values))
    if done.rowcount != 1:  # type: ignore[attr-defined]
        return False
    _become(target, state, reason[:120], now)
    return True


def _become(target: Target, state: str, reason: str, now: dt.datetime) -> None:
    """Write the state, and tell of an outage that begins or ends here. The row is ours since the statement before."""
    here = sa.update(Provider).where(Provider.id == target.id)
    query = sa.select(Provider.enabled, Provider.state, Provider.state_reason, Provider.state_since)
    before = db.session.execute(query.where(Provider.id == target.id)).one()
    since = before.state_since or now
    if before.state == state:
        if before.state_reason != reason:
            db.session.execute(here.values(state_reason=reason))
        return
    if (before.state, state) == ("resting", "up") and before.state_since and since > now - FORGOTTEN_REST:
        return  # a list of models is no answer to a customer: who rests it for those says when it is up again
    if before.state in AWAY and state in AWAY:
        db.session.execute(here.values(state=state, state_reason=reason))  # it is the same outage
        return
    db.session.execute(here.values(state=state, state_reason=reason, state_since=now))
    log.log(
        logging.WARNING if state in AWAY else logging.INFO,
        "a probe found the provider %s", state, extra={"provider": target.name, "reason": reason},
    )  # fmt: skip
    occasion = f"{target.name}:{now.isoformat()}"
    if state in AWAY and before.enabled:
        events.record(db.session, events.PROVIDER_DOWN, occasion, provider=target.name, reason=reason, seconds=0)
    if before.state in AWAY and state == "up":
        seconds = round((now - since).total_seconds())
        events.record(db.session, events.PROVIDER_UP, occasion, provider=target.name, seconds=max(0, seconds))
