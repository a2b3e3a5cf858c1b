"""What the payment page says, in both languages, and the frame of every page. A page never runs a script."""

from __future__ import annotations

from html import escape
from pathlib import Path

STYLE = (Path(__file__).parent / "pages.css").read_text(encoding="utf-8")

WORDS = {
    "en": {
        "title": "Payment", "ribbon": "Sandbox: no money moves here", "merchant": "LLM Portal (simulated merchant)",
        "amount": "Amount", "charge": "Service charge", "total": "You pay", "currency": "KWD", "by": "Method",
        "order": "Order", "invoice": "Invoice", "until": "Can be paid until", "zone": "Kuwait time",
        "keep": "Keep this card for next time", "kept": "Card", "new_card": "A new card", "pay": "Pay",
        "why": "Reason", "fail": "Let it fail", "failing": "Or it fails",
        "later": "Pay later", "close": "Close",
        "later_note": "Nothing has happened yet. Payment can still be made here or from the list of invoices.",
        "close_note": "You have left the payment page. You were not sent back to the shop and nothing was paid.",
        "again": "Back to the payment", "list": "All invoices", "tried": "Failed attempts so far",
        "paid": "This invoice is paid.", "canceled": "This invoice is canceled.",
        "expired": "This invoice has expired.",
        "unknown": "There is no such invoice. Perhaps the sandbox was started anew since.",
        "stays": "The payment page did not send you back (that is a setting of the sandbox).",
        "done_paid": "Paid.", "done_failed": "The payment failed.",
    },
    "ar": {
        "title": "الدفع", "ribbon": "بيئة تجريبية: لا تتحرك هنا أي أموال", "merchant": "LLM Portal (تاجر افتراضي)",
        "amount": "المبلغ", "charge": "رسوم الخدمة", "total": "تدفع", "currency": "د.ك", "by": "طريقة الدفع",
        "order": "الطلب", "invoice": "الفاتورة", "until": "يمكن الدفع حتى", "zone": "بتوقيت الكويت",
        "keep": "احفظ هذه البطاقة للمرة القادمة", "kept": "البطاقة", "new_card": "بطاقة جديدة", "pay": "ادفع",
        "why": "السبب", "fail": "أفشِل الدفع", "failing": "أو تفشل العملية",
        "later": "الدفع لاحقًا", "close": "إغلاق",
        "later_note": "لم يحدث شيء بعد. ما زال الدفع ممكنًا من هنا أو من قائمة الفواتير.",
        "close_note": "غادرت صفحة الدفع، ولم تُعَد إلى المتجر ولم يُدفع شيء.",
        "again": "العودة إلى الدفع", "list": "كل الفواتير", "tried": "المحاولات الفاشلة حتى الآن",
        "paid": "هذه الفاتورة مدفوعة.", "canceled": "أُلغيت هذه الفاتورة.", "expired": "انتهت صلاحية هذه الفاتورة.",
        "unknown": "لا توجد فاتورة كهذه. ربما أُعيد تشغيل البيئة التجريبية منذ ذلك الحين.",
        "stays": "لم تُعِدك صفحة الدفع إلى المتجر (هذا من إعدادات البيئة التجريبية).",
        "done_paid": "تم الدفع.", "done_failed": "لم تنجح عملية الدفع.",
    },
}  # fmt: skip
ERRORS_AR = {
    "MF001": "فشل التحقق ثلاثي الأبعاد", "MF002": "رفضها البنك المُصدِر", "MF003": "حظرتها بوابة الدفع",
    "MF004": "الرصيد غير كافٍ", "MF005": "انتهت مهلة الجلسة", "MF006": "ألغاها الدافع", "MF007": "بطاقة منتهية الصلاحية",
    "MF008": "البنك المُصدِر لا يستجيب", "MF009": "رُفضت لأسباب تتعلق بالمخاطر", "MF010": "رمز الأمان خاطئ",
    "MF020": "خطأ غير محدد",
}  # fmt: skip


def frame(title: str, body: str, language: str = "en") -> bytes:
    """A whole page around a body that is HTML already."""
    direction = "rtl" if language == "ar" else "ltr"
    return f"""<!doctype html>
<html lang="{language}" dir="{direction}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<p class="ribbon">{WORDS[language]["ribbon"]}</p>
{body}
</body>
</html>
""".encode()
