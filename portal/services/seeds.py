"""The rows a new portal starts with: plans, packs, models and their prices, providers, the administrator.

Each row is seeded once in a portal's life and remembered (`Setting` "seeded"): running it again adds only what a newer
release brings, and neither overwrites what an operator edited nor brings back what one deleted.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from portal.config import Settings
from portal.extensions import db
from portal.models import LanguageModel, ModelOffer, Pack, Plan, Price, Provider, Setting

K = 1000  # milli-credits in a credit

PLANS = (
    dict(id="basic", name_ar="أساسي", name_en="Basic", rank=1, price_fils=5_000, credits=15_000 * K, requests_per_minute=10),
    dict(id="pro", name_ar="احترافي", name_en="Pro", rank=2, price_fils=15_000, credits=60_000 * K, requests_per_minute=30),
    dict(id="enterprise", name_ar="مؤسسات", name_en="Enterprise", rank=3, price_fils=45_000, credits=250_000 * K, requests_per_minute=60),
)
PACKS = (
    dict(id="pack-5000", price_fils=2_000, credits=5_000 * K),
    dict(id="pack-15000", price_fils=5_000, credits=15_000 * K),
    dict(id="pack-50000", price_fils=15_000, credits=50_000 * K),
)


def _model(name: str, plan: str | None, context: int, answer: int, capabilities: str, ar: str, en: str, location: str = "local") -> dict[str, Any]:
    return dict(
        name=name, plan_id=plan, context_tokens=context, answer_tokens=answer, capabilities=capabilities,
        summary_ar=ar, summary_en=en, location=location,
    )  # fmt: skip


MODELS = (
    _model("smollm2:135m", "basic", 8192, 2048, "completion", "نموذج صغير وسريع للتجارب", "Tiny and quick, for trying things out"),
    _model("llama3.2:3b", "basic", 131_072, 8192, "completion tools", "نموذج عام خفيف", "A light all-rounder"),
    _model("qwen2.5-coder:14b", "basic", 32_768, 8192, "completion tools insert", "متخصص في كتابة الشيفرة البرمجية", "Made for writing code"),
    _model("mistral-small3.2:24b", "basic", 131_072, 8192, "completion tools vision", "نموذج عام قوي يفهم الصور", "A strong all-rounder that reads images"),
    _model("qwen3-30b-40k", "pro", 40_960, 8192, "completion tools thinking", "استدلال عميق بسياق طويل", "Deep reasoning with a long context"),
    _model("Qwen3-VL-32B", "pro", 262_144, 8192, "completion tools vision thinking", "يفهم الصور والمستندات", "Reads images and documents"),
    _model("gpt-oss:20b", "pro", 131_072, 8192, "completion tools thinking", "نموذج مفتوح للاستدلال", "An open model for reasoning"),
    _model("qwen3.5:cloud", "pro", 262_144, 8192, "completion tools thinking", "نموذج سحابي كبير", "A large cloud model", "cloud"),
    _model("deepseek-v3.2:cloud", "pro", 163_840, 8192, "completion tools thinking", "نموذج سحابي كبير للاستدلال", "A large cloud model for reasoning", "cloud"),
    _model("glm-4.7-flash", None, 131_072, 8192, "completion", "", ""),
    _model("bge-m3", None, 8192, 1, "embedding", "", ""),
    _model("nomic-embed-text", None, 2048, 1, "embedding", "", ""),
)  # fmt: skip


def seed(settings: Settings) -> list[str]:
    """Add every row that was never seeded. Returns their names; commits."""
    record = db.session.get(Setting, "seeded")
    done: set[str] = set(record.value) if record else set()
    added: list[str] = []

    def once(name: str, make: Callable[[], object]) -> None:
        if name not in done:
            make()
            db.session.flush()
            added.append(name)

    for plan in PLANS:
        once(f"plan {plan['id']}", lambda plan=plan: db.session.add(Plan(**plan)))  # type: ignore[misc]
    for pack in PACKS:
        once(f"pack {pack['id']}", lambda pack=pack: db.session.add(Pack(**pack)))  # type: ignore[misc]
    for number, _url in enumerate(settings.ollama_url, 1):
        once(f"provider ollama-{number}", lambda number=number: _provider(f"ollama-{number}", "ollama", settings.ollama_slots))  # type: ignore[misc]
    once("provider ollama-cloud", lambda: _provider("ollama-cloud", "ollama-cloud", 1, key_variable="OLLAMA_CLOUD_API_KEY", enabled=False))
    for model in MODELS:
        once(f"model {model['name']}", lambda model=model: _model_rows(model))  # type: ignore[misc]
    for provider in db.session.scalars(sa.select(Provider).where(Provider.kind == "ollama")).all():
        once(f"offers {provider.name}", lambda provider=provider: _offers(provider))  # type: ignore[misc]

    if record is None:
        db.session.add(Setting(name="seeded", value=sorted(done | set(added))))
    elif added:
        record.value = sorted(done | set(added))
    db.session.commit()
    return added


def _provider(name: str, kind: str, slots: int, **values: Any) -> None:
    # No address: a seeded provider follows the environment (OLLAMA_URL) until an operator gives it one of its own.
    db.session.add(Provider(name=name, kind=kind, url="", slots=slots, **values))


def _model_rows(values: dict[str, Any]) -> None:
    model = LanguageModel(**values)
    db.session.add(model)
    db.session.flush()
    if model.plan_id is None:
        return
    rate = 2 * K if model.location == "cloud" else K
    db.session.add(Price(model_id=model.id, rate_in=rate, rate_out=rate))
    if model.location == "cloud":
        cloud = db.session.scalar(sa.select(Provider).where(Provider.name == "ollama-cloud"))
        if cloud is not None:
            db.session.add(ModelOffer(provider_id=cloud.id, model_id=model.id, upstream_name=model.name.removesuffix(":cloud")))


def _offers(provider: Provider) -> None:
    local = sa.select(LanguageModel).where(LanguageModel.location == "local", LanguageModel.plan_id.is_not(None))
    for model in db.session.scalars(local).all():
        db.session.add(ModelOffer(provider_id=provider.id, model_id=model.id, upstream_name=model.name))
