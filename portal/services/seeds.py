"""The rows a new portal starts with: plans, packs, models, prices, providers, messages, the administrator.

Each row is seeded once in a portal's life and remembered (`Setting` "seeded"): running it again adds only what a newer
release brings, and neither overwrites what an operator edited nor brings back what one deleted.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

import sqlalchemy as sa

from portal.config import Settings
from portal.extensions import db
from portal.freshness import changing
from portal.models import LanguageModel, MessageTemplate, ModelOffer, Pack, Plan, Price, Provider, Setting
from portal.services.notifications import wording

K = 1000  # milli-credits in a credit
ONCE = 1_000_000  # the 1× rate: milli-credits for a million tokens
TWICE = 2 * ONCE
Row = TypeVar("Row", LanguageModel, Provider)

PLANS = (
    dict(
        id="basic",
        name_ar="أساسي",
        name_en="Basic",
        rank=1,
        price_fils=5_000,
        credits=15_000 * K,
        requests_per_minute=10,
        priority=0,
        failover=False,
    ),
    dict(
        id="pro",
        name_ar="احترافي",
        name_en="Pro",
        rank=2,
        price_fils=15_000,
        credits=60_000 * K,
        requests_per_minute=30,
        priority=1,
        failover=True,
    ),
    dict(
        id="enterprise",
        name_ar="مؤسسات",
        name_en="Enterprise",
        rank=3,
        price_fils=45_000,
        credits=250_000 * K,
        requests_per_minute=60,
        priority=2,
        failover=True,
    ),
)
PACKS = (
    dict(id="pack-5000", price_fils=2_000, credits=5_000 * K),
    dict(id="pack-15000", price_fils=5_000, credits=15_000 * K),
    dict(id="pack-50000", price_fils=15_000, credits=50_000 * K),
)


def _model(
    name: str, plan: str | None, tokens: tuple[int, int], able: str, ar: str = "", en: str = ""
) -> dict[str, Any]:
    """tokens: the context and the longest answer. able: Ollama's words for what it can do."""
    return {
        "name": name,
        "plan_id": plan,
        "context_tokens": tokens[0],
        "answer_tokens": tokens[1],
        "capabilities": able,
        "summary_ar": ar,
        "summary_en": en,
        "location": "cloud" if name.endswith(":cloud") else "local",
    }


# fmt: off
MODELS = (
    _model("smollm2:135m", "basic", (8192, 2048), "completion",
           "نموذج صغير وسريع للتجارب", "Tiny and quick, for trying things out"),
    _model("llama3.2:3b", "basic", (131_072, 8192), "completion tools",
           "نموذج خفيف للأغراض العامة", "A light all-rounder"),
    _model("qwen2.5-coder:14b", "basic", (32_768, 8192), "completion tools insert",
           "متخصص في كتابة البرامج", "Made for writing code"),
    _model("mistral-small3.2:24b", "basic", (131_072, 8192), "completion tools vision",
           "نموذج قوي للأغراض العامة يفهم الصور", "A strong all-rounder that reads images"),
    _model("qwen3-30b-40k", "pro", (40_960, 8192), "completion tools thinking",
           "تفكير عميق وسياق طويل", "Deep reasoning with a long context"),
    _model("Qwen3-VL-32B", "pro", (262_144, 8192), "completion tools vision thinking",
           "يفهم الصور والمستندات", "Reads images and documents"),
    _model("gpt-oss:20b", "pro", (131_072, 8192), "completion tools thinking",
           "نموذج مفتوح للتفكير المنطقي", "An open model for reasoning"),
    _model("qwen3.5:cloud", "pro", (262_144, 8192), "completion tools thinking",
           "نموذج سحابي كبير", "A large cloud model"),
    _model("deepseek-v3.2:cloud", "pro", (163_840, 8192), "completion tools thinking",
           "نموذج سحابي كبير للتفكير المنطقي", "A large cloud model for reasoning"),
    # Open to no plan: known only so that no alias, tag or spelling of theirs ever reaches a server (MODEL-04).
    _model("glm-4.7-flash", None, (131_072, 8192), "completion"),
    _model("bge-m3", None, (8192, 1), "embedding"),
    _model("nomic-embed-text", None, (2048, 1), "embedding"),
)
# fmt: on
CLOUD = "ollama-cloud"
TWINS = (("gpt-oss:20b", "gpt-oss:20b"),)
"""(a model that is at home here, what Ollama's cloud calls it): where it goes while our own servers are busy."""


def seed(settings: Settings) -> list[str]:
    """Add every row that was never seeded. Returns their names; commits."""
    record = db.session.get(Setting, "seeded")
    done: set[str] = set(record.value) if record else set()
    added: list[str] = []

    def once(name: str, make: Callable[..., object], *arguments: Any, **values: Any) -> None:
        if name not in done:
            make(*arguments, **values)
            db.session.flush()
            added.append(name)

    for plan in PLANS:
        once(f"plan {plan['id']}", _add, Plan, plan)
    for pack in PACKS:
        once(f"pack {pack['id']}", _add, Pack, pack)
    servers = [f"ollama-{number}" for number, _url in enumerate(settings.ollama_url, 1)]
    for name in servers:
        once(f"provider {name}", _provider, name, "ollama", slots=settings.ollama_slots)
    # Enabled, and yet offered only where its key is set: without one it takes no operator to switch it off.
    cloud = {"location": "cloud", "slots": 3, "key_variable": "OLLAMA_CLOUD_API_KEY"}
    once(f"provider {CLOUD}", _provider, CLOUD, "ollama-cloud", **cloud)
    for model in MODELS:
        once(f"model {model['name']}", _model_rows, model)
    for name in servers:  # not every server there is: what one serves that an operator added is the operator's to say
        once(f"offers {name}", _offers, name)
    for model_name, upstream_name in TWINS:
        once(f"twin {model_name}", _twin, model_name, upstream_name)
    for kind, words in wording.TEXTS.items():
        for language in words:
            once(f"message {kind} {language}", _message, kind, language)

    if record is None:
        db.session.add(Setting(name="seeded", value=sorted(done | set(added))))
    elif added:
        record.value = sorted(done | set(added))
    # A new portal has no worker that could remember anything, and perhaps no store yet.
    with changing("catalog") if added and done else nullcontext():
        db.session.commit()
    return added


def _add(row: type[Plan] | type[Pack], values: dict[str, Any]) -> None:
    db.session.add(row(**values))


def _provider(name: str, kind: str, **values: Any) -> None:
    # No address: a seeded provider follows the environment (OLLAMA_URL) until an operator gives it one of its own.
    db.session.add(Provider(name=name, kind=kind, url="", **values))


def _model_rows(values: dict[str, Any]) -> None:
    model = LanguageModel(**values)
    db.session.add(model)
    db.session.flush()
    if model.plan_id is None:
        return
    cloud = model.location == "cloud"
    rate = TWICE if cloud else ONCE
    db.session.add(Price(model_id=model.id, rate_in=rate, rate_out=rate))
    provider = _found(Provider, CLOUD) if cloud else None
    if provider is not None:
        upstream_name = model.name.removesuffix(":cloud")
        db.session.add(ModelOffer(provider_id=provider.id, model_id=model.id, upstream_name=upstream_name))


def _offers(name: str) -> None:
    provider = _found(Provider, name)
    if provider is None:
        return
    local = sa.select(LanguageModel).where(LanguageModel.location == "local", LanguageModel.plan_id.is_not(None))
    for model in db.session.scalars(local).all():
        db.session.add(ModelOffer(provider_id=provider.id, model_id=model.id, upstream_name=model.name))


def _twin(model_name: str, upstream_name: str) -> None:
    """Offer and price in the cloud, each unless an operator was quicker."""
    model, provider = _found(LanguageModel, model_name), _found(Provider, CLOUD)
    if model is None or provider is None:
        return
    offers = sa.select(ModelOffer.id).where(ModelOffer.model_id == model.id, ModelOffer.provider_id == provider.id)
    if db.session.scalar(offers) is None:
        db.session.add(ModelOffer(provider_id=provider.id, model_id=model.id, upstream_name=upstream_name))
    prices = sa.select(Price.id).where(Price.model_id == model.id, Price.provider == CLOUD).limit(1)
    if db.session.scalar(prices) is None:
        db.session.add(Price(model_id=model.id, provider=CLOUD, rate_in=TWICE, rate_out=TWICE))


def _message(kind: str, language: str) -> None:
    """The release's own words. What staff wrote before they were seeded is a later version, and speaks."""
    words = wording.TEXTS[kind][language]
    row = MessageTemplate(kind=kind, language=language, version=wording.OWN, title=words.title, body=words.body)
    db.session.add(row)


def _found(row: type[Row], name: str) -> Row | None:
    return db.session.scalar(sa.select(row).where(row.name == name))
