"""Telling people: customers and staff, by WhatsApp in both languages, by e-mail, and in the notification centre.

`outbox` writes rows in the transaction of what happened, `delivery` sends what is due, `kinds` lists what is told and
`wording` in which words. What a message is about is its caller's business.
"""

from portal.services.notifications.outbox import notify, notify_number, notify_staff

__all__ = ["notify", "notify_number", "notify_staff"]
