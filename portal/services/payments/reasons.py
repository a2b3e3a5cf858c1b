"""Why a payment failed or is held, in words: for customers by the provider's codes, for staff by what did not match.

Plain words in both languages, since messages are told in both. A code that nobody knows is told as a refusal by the
bank: the provider's own text is for the log.
"""

from typing import Final

Words = dict[str, str]

FAILED: Final[dict[str, Words]] = {
    "MF001": {"ar": "لم يكتمل التحقق من صاحب البطاقة", "en": "the card holder's check was not completed"},
    "MF002": {"ar": "رفض البنك المُصدر للبطاقة العملية", "en": "the card's bank declined it"},
    "MF003": {"ar": "أوقفت بوابة الدفع العملية", "en": "the payment gateway stopped it"},
    "MF004": {"ar": "الرصيد في البطاقة غير كافٍ", "en": "there is not enough money on the card"},
    "MF005": {"ar": "انتهت مهلة صفحة الدفع", "en": "the payment page timed out"},
    "MF006": {"ar": "أُلغيت عملية الدفع", "en": "the payment was cancelled"},
    "MF007": {"ar": "انتهت صلاحية البطاقة", "en": "the card has expired"},
    "MF008": {"ar": "لم يستجب البنك المُصدر للبطاقة", "en": "the card's bank did not answer"},
    "MF009": {"ar": "رُفضت العملية لأسباب أمنية", "en": "it was declined for security reasons"},
    "MF010": {"ar": "رمز التحقق من البطاقة غير صحيح", "en": "the card's security code is wrong"},
    "refused": {"ar": "لم تقبل خدمة الدفع هذا الطلب", "en": "the payment service did not accept this order"},
    "declined": {"ar": "لم يقبل البنك العملية", "en": "the bank did not accept it"},
}
HELD: Final[dict[str, Words]] = {
    "amount": {"ar": "المبلغ المدفوع غير المبلغ المطلوب", "en": "another amount was paid than was asked for"},
    "currency": {"ar": "دُفع بعملة أخرى", "en": "it was paid in another currency"},
    "reference": {"ar": "الفاتورة تخص طلبًا آخر", "en": "the invoice is another order's"},
    "account": {"ar": "الفاتورة تخص حسابًا آخر", "en": "the invoice is another account's"},
    "suspended": {"ar": "الحساب موقوف", "en": "the account is suspended"},
}

CONCERNS: Final[dict[str, Words]] = {
    "twice": {"ar": "دفع العميل الفاتورة أكثر من مرة", "en": "the customer paid the invoice more than once"},
    "disputed": {"ar": "اعترض صاحب البطاقة على العملية لدى بنكه", "en": "the card's holder disputes it at the bank"},
    "refunded": {"ar": "رُدّ مبلغ من صفحات خدمة الدفع نفسها", "en": "money was given back on the provider's own pages"},
    "other_amount": {"ar": "رُدّ مبلغ غير الذي طُلب ردّه", "en": "another amount was given back than was asked for"},
    "booked": {"ar": "سُجّلت العملية يدويًا قبل وصولها", "en": "it was booked by hand before it came"},
    "stuck": {"ar": "وقع خطأ عند تسجيلها، وسنعيد المحاولة", "en": "booking it failed with an error; it is tried again"},
}


def words(reason: str) -> Words:
    """What a customer or staff is told for a payment's `reason`; never empty."""
    return FAILED.get(reason) or HELD.get(reason) or CONCERNS.get(reason) or FAILED["declined"]


def code(told: str) -> str:
    """The reason that is kept for the provider's error code, which may be anything."""
    return told if told in FAILED else "declined"
