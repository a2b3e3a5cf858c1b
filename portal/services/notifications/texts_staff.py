"""What the operator's own people read, in Arabic and in English, written as `texts_customers` says."""

from typing import Final

from portal.services.notifications.rendering import Wording

TEXTS: Final[dict[str, dict[str, Wording]]] = {
    "cloud_budget_warning": {
        "ar": Wording(
            "ميزانية السحابة اليومية توشك على النفاد",
            """\
اليوم: {day}
طلبات السحابة: {used} من {limit}
عند بلوغ الحد تتوقف السحابة حتى منتصف الليل بتوقيت الكويت، وتستمر خوادمنا في العمل.
لمتابعة الاستهلاك، أو لرفع الحد من الإعدادات:
{link}""",
        ),
        "en": Wording(
            "The daily cloud budget is nearly used up",
            """\
Day: {day}
Cloud requests: {used} of {limit}
At the limit the cloud is switched off until midnight, Kuwait time; our own servers go on.
To follow the use, or to raise the limit in the settings:
{link}""",
        ),
    },
    "cloud_budget_exhausted": {
        "ar": Wording(
            "توقفت السحابة: نفدت ميزانية اليوم",
            """\
اليوم: {day}
طلبات السحابة: {used} من {limit}
لا يُرسل إليها أي طلب حتى منتصف الليل بتوقيت الكويت. ما يحتاج إليها يُرفض مع بيان موعد المحاولة، وما عداه تنفذه خوادمنا.
لرفع الحد من الإعدادات:
{link}""",
        ),
        "en": Wording(
            "Cloud switched off: today's budget is used up",
            """\
Day: {day}
Cloud requests: {used} of {limit}
No request goes there until midnight, Kuwait time. What needs the cloud is refused and told when to try again; all \
else runs on our own servers.
To raise the limit in the settings:
{link}""",
        ),
    },
    "address_banned": {
        "ar": Wording(
            "حُظر عنوان بعد محاولات فاشلة",
            """\
العنوان: {address}
قاعدة الحظر: {jail}
عدد المحاولات الفاشلة: {failures}
لا يلزم شيء إن كان العنوان غريبًا. وإن كان لعميل تعرفونه، فارفعوا الحظر عنه من الخادم.
لمتابعة العناوين المحظورة:
{link}""",
        ),
        "en": Wording(
            "An address was banned after failed attempts",
            """\
Address: {address}
Rule (jail): {jail}
Failed attempts: {failures}
A stranger's needs nothing from you. If it belongs to a customer you know, lift the ban on the server.
Banned addresses:
{link}""",
        ),
    },
    "enterprise_customer": {
        "ar": Wording(
            "عميل مؤسسات جديد",
            """\
الاسم: {name}
البريد الإلكتروني: {email}
الباقة: {plan}
هذه أعلى باقاتنا. نقترح التواصل مع العميل للترحيب به ومساعدته على البدء.
بيانات العميل:
{link}""",
        ),
        "en": Wording(
            "New enterprise customer",
            """\
Name: {name}
E-mail: {email}
Plan: {plan}
This is our highest plan. We suggest getting in touch to welcome them and help them begin.
The customer's details:
{link}""",
        ),
    },
    "payment_held": {
        "ar": Wording(
            "وصلت دفعة تنتظر قراركم",
            """\
العملية: {payment}
المبلغ: {amount}
العميل: {email}
السبب: {reason}
لم يُضف شيء إلى رصيد العميل بعد. أضيفوها بعد التحقق، أو ردّوا المبلغ:
{link}""",
        ),
        "en": Wording(
            "A payment came that waits for your decision",
            """\
Payment: {payment}
Amount: {amount}
Customer: {email}
Why: {reason}
Nothing was credited yet. Let it count once you have checked it, or give the money back:
{link}""",
        ),
    },
    "payment_concern": {
        "ar": Wording(
            "دفعة تحتاج إلى مراجعتكم",
            """\
العملية: {payment}
المبلغ: {amount}
العميل: {email}
السبب: {reason}
لم يتغيّر شيء في رصيد العميل. راجعوا العملية لدى خدمة الدفع، ثم قرّروا ما يلزم:
{link}""",
        ),
        "en": Wording(
            "A payment needs your eyes",
            """\
Payment: {payment}
Amount: {amount}
Customer: {email}
Why: {reason}
Nothing was changed in the customer's balance. Look at it at the payment provider, then decide:
{link}""",
        ),
    },
    "refund_failed": {
        "ar": Wording(
            "لم يُردّ مبلغ إلى عميل",
            """\
العملية: {payment}
المبلغ: {amount}
العميل: {email}
السبب: {error}
عادت الوحدات التي كانت محجوزة لهذا الرد إلى رصيد العميل. للمراجعة أو لإعادة المحاولة:
{link}""",
        ),
        "en": Wording(
            "A refund was not made",
            """\
Payment: {payment}
Amount: {amount}
Customer: {email}
Why: {error}
The credits that were held for it are the customer's again. To look, or to try once more:
{link}""",
        ),
    },
    "provider_down": {
        "ar": Wording(
            "تعطّل مزوّد",
            """\
المزوّد: {provider}
السبب: {reason}
لا تُرسل إليه طلبات الآن، ويتولاها غيره حيث أمكن. ويُفحص تلقائيًا حتى يعود.
إن طال الانقطاع، فتحققوا من الخادم والشبكة، أو من حسابنا لدى المزوّد. حالة المزوّدين:
{link}""",
        ),
        "en": Wording(
            "A provider is down",
            """\
Provider: {provider}
Reason: {reason}
It gets no requests now; others take them where they can. It is probed by itself until it is back.
If this lasts, check the server and the network, or our account there. State of the providers:
{link}""",
        ),
    },
    "provider_up": {
        "ar": Wording(
            "عاد المزوّد إلى العمل",
            """\
المزوّد: {provider}
مدة الانقطاع: {seconds}
تُرسل إليه الطلبات من جديد، ولا يلزم أي إجراء.
حالة المزوّدين:
{link}""",
        ),
        "en": Wording(
            "A provider is back",
            """\
Provider: {provider}
It was away for: {seconds}
Requests go to it again; there is nothing to do.
State of the providers:
{link}""",
        ),
    },
    "job_stale": {
        "ar": Wording(
            "مهمة مجدولة لا تُنجز",
            """\
المهمة: {job}
منذ: {since}
السبب: {reason}
عمل هذه المهمة متوقف الآن. عالجوا السبب، وتحققوا من أن المجدول ومنفّذ المهام يعملان:
{link}""",
        ),
        "en": Wording(
            "A scheduled job is not being done",
            """\
Job: {job}
Since: {since}
Reason: {reason}
Its work stands still. Look into the reason, and check that the scheduler and the worker are running:
{link}""",
        ),
    },
    "step_dead": {
        "ar": Wording(
            "خطوة فشلت نهائيًا",
            """\
الخطوة: {step}، من الحدث: {event}
رقم التنفيذ: {run}
الخطأ: {error}
استُنفدت محاولاتها، ولم تُنفذ الخطوات التي تعتمد عليها. أزيلوا السبب، ثم أعيدوا تشغيلها من هنا:
{link}""",
        ),
        "en": Wording(
            "A step has failed for good",
            """\
Step: {step}, of the event: {event}
Run: {run}
Error: {error}
Its tries are used up, and the steps that depend on it were not run. Remove the cause, then run it again here:
{link}""",
        ),
    },
    "codes_exhausted": {
        "ar": Wording(
            "بلغت الرموز حدّها لهذا اليوم",
            """\
اليوم: {day}
الحد اليومي: {limit}
بلغته رموز إثبات الأرقام، أو رموز استعادة كلمة المرور. لن يُرسل المزيد من هذا النوع حتى منتصف الليل بتوقيت الكويت.
تحققوا من سبب كثرتها، ويمكنكم رفع الحد من الإعدادات:
{link}""",
        ),
        "en": Wording(
            "The day's codes are used up",
            """\
Day: {day}
Limit of a day: {limit}
Codes that prove numbers, or those for forgotten passwords, have reached it. No more of that sort until midnight, \
Kuwait time.
Look into why there are so many; the limit can be raised in the settings:
{link}""",
        ),
    },
    "alerts_muted": {
        "ar": Wording(
            "تنبيهات كثيرة من نوع واحد",
            """\
التنبيه: {about}
عدد مراته خلال ساعة: {count}
لن يُرسل المزيد منه في هذه الساعة، وكل التنبيهات محفوظة في البوابة:
{link}""",
        ),
        "en": Wording(
            "Many alerts of one kind",
            """\
The alert: {about}
Times within an hour: {count}
No more of these are sent this hour; all of them are in the portal:
{link}""",
        ),
    },
    "daily_summary": {
        "ar": Wording(
            "ملخص يوم {day}",
            """\
العملاء الجدد: {new_users}
الطلبات: {requests}، منها ما لم ينجح: {failed}
الوحدات المستهلكة: {spent}، والمبيعة: {sold}
طلبات السحابة: {cloud} من {limit}
الرسائل التي لم تصل: {undelivered}
{link}""",
        ),
        "en": Wording(
            "Summary of {day}",
            """\
New customers: {new_users}
Requests: {requests}, of which failed: {failed}
Credits used: {spent}, and sold: {sold}
Cloud requests: {cloud} of {limit}
Messages not delivered: {undelivered}
{link}""",
        ),
    },
}
