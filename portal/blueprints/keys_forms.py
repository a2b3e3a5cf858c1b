"""The form that makes a key. The rule (`services/api_keys.py`) says what is wrong with it."""

from flask_babel import LazyString, lazy_gettext as _l
from flask_wtf import FlaskForm
from wtforms import BooleanField, HiddenField, SelectField, SelectMultipleField, StringField

LIFETIMES = ("", "30", "90", "365")


class KeyForm(FlaskForm):
    label = StringField(_l("Name of the key"))
    scopes = SelectMultipleField(_l("Permissions"), default=["read", "write"], validate_choice=False)
    expires = SelectField(_l("Expires"), default="", validate_choice=False)
    scopes_shown = HiddenField(default="1")
    """Browsers send nothing for boxes left empty: this tells "none ticked" from "not asked"."""

    failover = BooleanField(_l("May use the cloud when our servers are busy"), default=True)
    failover_shown = HiddenField(default="1")

    def __init__(self) -> None:
        super().__init__()
        self.scopes.choices = [
            ("read", _l("Read: models, balance and usage")),
            ("write", _l("Write: requests to the models")),
            ("delete", _l("Delete: delete keys through the API")),
        ]
        if self.is_submitted() and not self.failover_shown.raw_data:
            self.failover.data = True  # a script that sends only a label wants the usual
        self.expires.choices = [
            ("", _l("Never")),
            ("30", _l("After 30 days")),
            ("90", _l("After 90 days")),
            ("365", _l("After one year")),
        ]

    def chosen_scopes(self) -> list[str]:
        """What was ticked; the usual two where the boxes were never shown (a script that sends only a label)."""
        asked = bool(self.scopes_shown.raw_data)
        return list(self.scopes.data or []) if asked or self.scopes.data else ["read", "write"]

    def chosen_days(self) -> int | None:
        """Days until it expires, None for never, 0 for something that was not on offer."""
        text = self.expires.data or ""
        return None if not text else int(text) if text in LIFETIMES else 0

    def show(self, problems: dict[str, LazyString]) -> None:
        """Put the rule's refusals beside their fields."""
        for name, sentence in problems.items():
            self[name].errors = [*self[name].errors, sentence]
