"""The forms of the settings page. Each stands beside the others, so ids are told apart; names are the contract's."""

from flask_babel import LazyString, lazy_gettext as _l
from wtforms import PasswordField, SelectField, TelField
from wtforms.validators import DataRequired, InputRequired

from portal import i18n
from portal.blueprints.auth_forms import FILL_IN, Marked, countries
from portal.services import phones

PRESENT = _l("Present password")


class PasswordForm(Marked):
    current = PasswordField(PRESENT, [InputRequired(FILL_IN)], id="password-current")
    password = PasswordField(_l("New password"), [InputRequired(FILL_IN)])


class NumberForm(Marked):
    country = SelectField(_l("Country of the new number"), default=phones.GULF[0], validate_choice=False)
    phone = TelField(_l("New mobile number"), [DataRequired(FILL_IN)])
    current = PasswordField(PRESENT, [InputRequired(FILL_IN)], id="phone-current")

    def __init__(self, **values: object) -> None:
        super().__init__(**values)
        self.country.choices = list(countries(i18n.language()))


KINDS: dict[str, tuple[LazyString, LazyString]] = {
    "credit_low": (_l("Credit is running low"), _l("Once, when a fifth of your credit is left.")),
    "subscription_expiring": (_l("Subscription ends soon"), _l("Three days before its end, in the morning.")),
    "key_created": (_l("New API key"), _l("Whenever somebody creates a key in this account.")),
    "invoice_ready": (_l("Invoice is ready"), _l("After each payment.")),
}
"""What the messages that one can do without are called on the settings page, and when they come."""
