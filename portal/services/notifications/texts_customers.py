"""What customers read: every message in Arabic and in English, side by side.

The two say the same, each as a native would write it. A number never decides the form of a noun here: it stands after
a colon, as Arabic has six forms. `{link}` and `{code}` are alone in their lines. No Arabic line begins with Latin
letters: a telephone would turn it round. Staff edit copies of these (`wording`); the facts are explained in `kinds`.
"""

from typing import Final

from portal.services.notifications.rendering import Wording

TEXTS: Final[dict[str, dict[str, Wording]]] = {
    "welcome": {
        "ar": Wording(
            "أهلًا بك في LLM Portal",
            """\
فُتح حساب بهذا الرقم، وهو جاهز للاستخدام.
رصيدك الترحيبي بالوحدات: {credits}
إن لم تفتح حسابًا لدينا، فتجاهل هذه الرسالة.
أنشئ أول مفتاح API من هنا، ثم أرسل أول طلب لك:
{link}""",
        ),
        "en": Wording(
            "Welcome to LLM Portal",
            """\
An account was opened with this number and is ready to use.
Welcome credits: {credits}
If you opened no account with us, ignore this message.
Create your first API key here, then send your first request:
{link}""",
        ),
    },
    "subscription_confirmed": {
        "ar": Wording(
            "تم تفعيل اشتراكك",
            """\
نشكر لك ثقتك. اشتراكك فعّال الآن.
الباقة: {plan}
الوحدات المضافة إلى رصيدك: {credits}
يسري الاشتراك حتى: {expires}
لمتابعة رصيدك واستخدامك:
{link}""",
        ),
        "en": Wording(
            "Your subscription is active",
            """\
Thank you for your trust. Your subscription is active now.
Plan: {plan}
Credits added to your balance: {credits}
Valid until: {expires}
Follow your balance and usage here:
{link}""",
        ),
    },
    "credit_low": {
        "ar": Wording(
            "رصيدك يوشك على النفاد",
            """\
الوحدات المتبقية: {balance}
الرصيد بعد آخر إضافة: {total}
إذا نفد الرصيد رُفضت طلباتك. لكيلا يتوقف عملك، أضف رصيدًا من هنا:
{link}""",
        ),
        "en": Wording(
            "Your credit is running low",
            """\
Credits left: {balance}
Balance after your latest top-up: {total}
Once your credit is used up, your requests are refused. To keep working without a break, top up here:
{link}""",
        ),
    },
    "credit_exhausted": {
        "ar": Wording(
            "نفد رصيدك",
            """\
لم يعد رصيدك يكفي لتنفيذ طلباتك. الوحدات المتبقية: {balance}
تُرفض الطلبات من الآن إلى أن تضيف رصيدًا. أما مفاتيحك وإعداداتك فباقية كما هي.
أضف رصيدًا من هنا، وتعود طلباتك إلى العمل فور تأكيد الدفع:
{link}""",
        ),
        "en": Wording(
            "Your credit is used up",
            """\
Your balance no longer covers your requests. Credits left: {balance}
From now on requests are refused until you top up. Your keys and settings stay as they are.
Top up here, and your requests work again as soon as the payment is confirmed:
{link}""",
        ),
    },
    "topup_confirmed": {
        "ar": Wording(
            "تمت إضافة الرصيد",
            """\
شكرًا لك. تأكّد الدفع، وأصبح الرصيد الجديد متاحًا للاستخدام.
الوحدات المضافة: {credits}
رصيدك الآن بالوحدات: {balance}
لمتابعة رصيدك واستخدامك:
{link}""",
        ),
        "en": Wording(
            "Credit added",
            """\
Thank you. Your payment is confirmed, and the new credit is ready to use.
Credits added: {credits}
Your balance in credits: {balance}
Follow your balance and usage here:
{link}""",
        ),
    },
    "subscription_expiring": {
        "ar": Wording(
            "اشتراكك يقترب من الانتهاء",
            """\
الباقة: {plan}
ينتهي الاشتراك في: {expires}
جدّد قبل هذا الموعد لتحتفظ بنماذج باقتك وحدودها، وتُضاف المدة الجديدة إلى ما بقي من مدتك.
إن لم تجدّد، عاد حسابك إلى المستوى المجاني، وبقي رصيدك صالحًا للاستخدام. للتجديد:
{link}""",
        ),
        "en": Wording(
            "Your subscription ends soon",
            """\
Plan: {plan}
Ends on: {expires}
Renew before then to keep your plan's models and limits; the new period is added to the time you have left.
If you do not renew, your account moves to the free level, and your credit stays usable. Renew here:
{link}""",
        ),
    },
    "subscription_ended": {
        "ar": Wording(
            "انتهى اشتراكك",
            """\
الباقة: {plan}
انتهى الاشتراك في: {expires}
أصبح حسابك على المستوى المجاني، بنماذجه وحدوده. ويبقى رصيدك صالحًا للاستخدام.
يمكنك الاشتراك من جديد متى شئت:
{link}""",
        ),
        "en": Wording(
            "Your subscription has ended",
            """\
Plan: {plan}
Ended on: {expires}
Your account is now on the free level, with its models and limits. Your credit stays usable.
You can subscribe again at any time:
{link}""",
        ),
    },
    "one_time_code": {
        "ar": Wording(
            "رمز التحقق",
            """\
هذا رمزك للتحقق في LLM Portal:
{code}
مدة صلاحيته بالدقائق: {minutes}
لا تُطلع عليه أحدًا؛ لن يطلبه منك موظفونا أبدًا.
إن لم تكن أنت من طلبه، فتجاهل هذه الرسالة؛ لا يحدث شيء من دون الرمز.""",
        ),
        "en": Wording(
            "Verification code",
            """\
This is your LLM Portal verification code:
{code}
Minutes until it expires: {minutes}
Never share it with anyone; our staff will never ask you for it.
If it was not you who asked for it, ignore this message: nothing happens without the code.""",
        ),
    },
    "password_changed": {
        "ar": Wording(
            "تم تغيير كلمة المرور",
            """\
تغيّرت كلمة مرور حسابك في LLM Portal.
وقت التغيير: {at}
إن كنت أنت من غيّرها، فلا يلزمك شيء.
إن لم تكن أنت، فعيّن كلمة مرور جديدة فورًا من هنا، ثم احذف كل مفتاح لا تعرفه:
{link}""",
        ),
        "en": Wording(
            "Your password was changed",
            """\
The password of your LLM Portal account was changed.
Changed at: {at}
If it was you, there is nothing to do.
If it was not you, set a new password here at once, then delete every key that you do not recognise:
{link}""",
        ),
    },
    "phone_changed": {
        "ar": Wording(
            "تم تغيير رقم الهاتف",
            """\
تغيّر رقم الهاتف المسجَّل في حسابك لدى LLM Portal.
الرقم الجديد: {phone}
وقت التغيير: {at}
إن لم تكن أنت من غيّره، فسجّل الدخول فورًا، وغيّر كلمة المرور، وأعد رقمك من هنا:
{link}""",
        ),
        "en": Wording(
            "Your phone number was changed",
            """\
The phone number of your LLM Portal account was changed.
New number: {phone}
Changed at: {at}
If it was not you, sign in at once, change your password, and restore your number here:
{link}""",
        ),
    },
    "key_created": {
        "ar": Wording(
            "أُنشئ مفتاح API جديد",
            """\
اسم المفتاح: {label}
أول المفتاح: {prefix}
كل من يحمل هذا المفتاح يستهلك من رصيدك، فاحفظه في مكان آمن.
إن لم تكن أنت من أنشأه، فاحذفه فورًا من هنا، ثم غيّر كلمة المرور:
{link}""",
        ),
        "en": Wording(
            "New API key created",
            """\
Name of the key: {label}
It begins with: {prefix}
Whoever holds this key spends your credit, so keep it in a safe place.
If it was not you who created it, delete it here at once, then change your password:
{link}""",
        ),
    },
    "payment_failed": {
        "ar": Wording(
            "لم تتم عملية الدفع",
            """\
المبلغ: {amount}
السبب: {reason}
لم تُضف هذه العملية شيئًا إلى رصيدك، ولم تغيّر اشتراكك.
يمكنك المحاولة مرة أخرى، أو اختيار وسيلة دفع أخرى:
{link}""",
        ),
        "en": Wording(
            "Your payment did not go through",
            """\
Amount: {amount}
Reason: {reason}
Nothing was added to your balance by it, and your subscription has not changed.
You can try again, or choose another payment method:
{link}""",
        ),
    },
    "refund_made": {
        "ar": Wording(
            "تم ردّ المبلغ",
            """\
المبلغ المردود: {amount}
الوحدات المخصومة من رصيدك مقابله: {credits}
رصيدك الآن بالوحدات: {balance}
يعود المبلغ إلى وسيلة الدفع التي استخدمتها، ويتوقف موعد ظهوره على البنك. التفاصيل:
{link}""",
        ),
        "en": Wording(
            "Refund made",
            """\
Amount refunded: {amount}
Credits taken from your balance for it: {credits}
Your balance in credits: {balance}
The money goes back to the payment method you used; when it appears there depends on your bank. Details:
{link}""",
        ),
    },
    "invoice_ready": {
        "ar": Wording(
            "فاتورتك جاهزة",
            """\
رقم الفاتورة: {number}
المبلغ: {amount}
يمكنك الاطلاع عليها وتنزيلها من هنا:
{link}""",
        ),
        "en": Wording(
            "Your invoice is ready",
            """\
Invoice number: {number}
Amount: {amount}
View it and download it here:
{link}""",
        ),
    },
    "member_invited": {
        "ar": Wording(
            "دعوة للانضمام إلى فريق",
            """\
وصلتك دعوة من {inviter} للانضمام إلى فريق {account} في LLM Portal.
بعد انضمامك تستخدم نماذج الذكاء الاصطناعي من رصيد الفريق.
إن كنت لا تعرف صاحب الدعوة، فتجاهل هذه الرسالة.
لقبولها سجّل الدخول، أو أنشئ حسابًا إن لم يكن لديك حساب:
{link}""",
        ),
        "en": Wording(
            "Invitation to join a team",
            """\
You have an invitation from {inviter} to join the team {account} on LLM Portal.
Once you join, you use AI models with the team's credit.
If you do not know who invited you, ignore this message.
To accept, sign in, or create an account if you have none:
{link}""",
        ),
    },
    "member_removed": {
        "ar": Wording(
            "انتهت عضويتك في الفريق",
            """\
لم تعد عضوًا في فريق {account} في LLM Portal.
توقفت مفاتيحك التابعة لهذا الفريق عن العمل، ولم يعد رصيده متاحًا لك.
أما حسابك الخاص ورصيده ومفاتيحه فلم يتغير منها شيء.
إن كان لديك استفسار، فتواصل مع مسؤول الفريق.""",
        ),
        "en": Wording(
            "Your team membership has ended",
            """\
You are no longer a member of the team {account} on LLM Portal.
Your keys for this team have stopped working, and its credit is no longer available to you.
Your own account, with its credit and keys, has not changed.
If you have a question, please ask the person in charge of the team.""",
        ),
    },
    "credit_adjusted": {
        "ar": Wording(
            "تم تعديل رصيدك",
            """\
عدّل فريق LLM Portal رصيد حسابك.
مقدار التعديل بالوحدات: {credits}
رصيدك الآن بالوحدات: {balance}
السبب: {reason}
لمراجعة رصيدك:
{link}""",
        ),
        "en": Wording(
            "Your balance was adjusted",
            """\
The LLM Portal team adjusted the balance of your account.
Adjustment in credits: {credits}
Your balance in credits: {balance}
Reason: {reason}
Review your balance here:
{link}""",
        ),
    },
    "account_suspended": {
        "ar": Wording(
            "تم إيقاف حسابك",
            """\
أُوقف حسابك في LLM Portal.
السبب: {reason}
تُرفض طلبات مفاتيحك ما دام الحساب موقوفًا، ولا تستهلك من رصيدك شيئًا.
للاستفسار أو لطلب إعادة التفعيل، تواصل مع فريق LLM Portal.""",
        ),
        "en": Wording(
            "Your account was suspended",
            """\
Your LLM Portal account was suspended.
Reason: {reason}
While it is suspended, requests with your keys are refused and cost you nothing.
To ask about it, or to have it restored, please contact the LLM Portal team.""",
        ),
    },
    "account_restored": {
        "ar": Wording(
            "أُعيد تفعيل حسابك",
            """\
عاد حسابك في LLM Portal إلى العمل، ويمكنك إرسال طلباتك من جديد.
رصيدك ومفاتيحك كما كانت. نشكر لك صبرك، ويمكنك المتابعة من هنا:
{link}""",
        ),
        "en": Wording(
            "Your account is active again",
            """\
Your LLM Portal account works again, and you can send requests as before.
Your credit and keys are as they were. Thank you for your patience; continue here:
{link}""",
        ),
    },
}
