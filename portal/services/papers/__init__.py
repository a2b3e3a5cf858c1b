"""The papers of money: a receipt for what was paid, a credit note for what was given back, a month's statement.

`issuing` writes a paper once, in the transaction of what it is about; `content` is what stands on it; `finding` reads
them; `statements` adds up a month of the ledger; `pdf` and `sheet` are for printers and spreadsheets. Who may see which
is the door's.
"""

from portal.services.papers.finding import NoReceiptYet, find_credit_note, find_receipt, of_payments
from portal.services.papers.issuing import credit_note, receipt

__all__ = ["NoReceiptYet", "credit_note", "find_credit_note", "find_receipt", "of_payments", "receipt"]
