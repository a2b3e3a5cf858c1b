"""Keys of rows: version 7 UUIDs written as 32 hex digits.

Time-ordered, so that indexes stay dense; text, so that the three databases, the logs and a person all spell them alike.
"""

import uuid_utils


def new_id() -> str:
    """A fresh id: 32 lower-case hex digits, larger than every earlier one of this process."""
    return uuid_utils.uuid7().hex
