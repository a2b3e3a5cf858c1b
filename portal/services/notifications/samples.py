"""A value for every fact of every kind: what previews show and what tests write every text with. Nobody's own data."""

from typing import Any, Final

_PRO = {"ar": "احترافي", "en": "Pro"}
_BUDGET = {"day": "2026-11-21", "used": 400, "limit": 500}
_MOMENT = "2026-11-21T11:05:00+00:00"

FACTS: Final[dict[str, dict[str, Any]]] = {
    "welcome": {"credits": 100_000},
    "subscription_confirmed": {"plan": _PRO, "credits": 60_000_000, "expires": "2026-12-21"},
    "credit_low": {"balance": 2_950_125, "total": 15_000_000},
    "credit_exhausted": {"balance": 12},
    "topup_confirmed": {"credits": 15_000_000, "balance": 15_012_500},
    "subscription_expiring": {"plan": _PRO, "expires": "2026-11-24"},
    "subscription_ended": {"plan": _PRO, "expires": "2026-11-24"},
    "one_time_code": {"code": "482913", "minutes": 10},
    "password_changed": {"at": _MOMENT},
    "phone_changed": {"phone": "+96550001234", "at": _MOMENT},
    "key_created": {"label": "my-app (test)", "prefix": "rsk_Ab3dE6gH"},
    "payment_failed": {"amount": 5_000, "reason": {"ar": "لم يوافق البنك على العملية", "en": "The bank declined it"}},
    "refund_made": {"amount": 5_000, "credits": 15_000_000, "balance": 12_500},
    "invoice_ready": {"number": "R-2026-000123", "amount": 15_000},
    "member_invited": {"account": "Nakhla Trading Co.", "inviter": "ليلى"},
    "member_removed": {"account": "Nakhla Trading Co."},
    "credit_adjusted": {"credits": 500_000, "balance": 1_250_000, "reason": "تعويض عن انقطاع الخدمة"},
    "account_suspended": {"reason": "مراجعة عملية دفع"},
    "account_restored": {},
    "cloud_budget_warning": _BUDGET,
    "cloud_budget_exhausted": _BUDGET | {"used": 500},
    "address_banned": {"address": "203.0.113.9", "jail": "llm-portal", "failures": 6},
    "enterprise_customer": {
        "name": "Omar Saleh", "email": "omar@example.com", "plan": {"ar": "مؤسسات", "en": "Enterprise"},
    },
    "payment_held": {
        "payment": "0190f3c2a4b17c3e9d52f61a7b8c9d0e", "amount": 15_000, "email": "layla@example.com",
        "reason": {"ar": "المبلغ المدفوع غير المبلغ المطلوب", "en": "another amount was paid than was asked for"},
    },
    "payment_concern": {
        "payment": "0190f3c2a4b17c3e9d52f61a7b8c9d0e", "amount": 15_000, "email": "layla@example.com",
        "reason": {"ar": "دفع العميل الفاتورة أكثر من مرة", "en": "the customer paid the invoice more than once"},
    },
    "refund_failed": {
        "payment": "0190f3c2a4b17c3e9d52f61a7b8c9d0e", "amount": 15_000, "email": "layla@example.com",
        "error": "the provider did not carry it out",
    },
    "provider_down": {"provider": "ollama-1", "reason": "connection refused"},
    "provider_up": {"provider": "ollama-1", "seconds": 754},
    "job_stale": {"job": "remind_expiring", "since": _MOMENT, "reason": "not run"},
    "step_dead": {
        "event": "payment_paid", "step": "receipt", "run": "0190f3c2a4b17c3e9d52", "error": "SMTP: connection refused",
    },
    "codes_exhausted": {"day": "2026-11-21", "limit": 1_000},
    "alerts_muted": {
        "about": {"ar": "حُظر عنوان بعد محاولات فاشلة", "en": "An address was banned after failed attempts"}, "count": 6,
    },
    "daily_summary": {
        "day": "2026-11-20", "new_users": 12, "requests": 48_210, "failed": 37, "spent": 9_120_450, "sold": 45_000_000,
        "cloud": 212, "limit": 500, "undelivered": 2,
    },
}  # fmt: skip
"""By kind. Instants and days are as rows store them, amounts in milli-credits and fils."""
