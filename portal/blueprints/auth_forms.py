"""The forms of signing up, in, and back in: what a browser may send, and the countries in the reader's own words.

They collect and trim; what is right and wrong is a rule (`services/accounts.py`), the same for every door.
"""

import unicodedata
from collections.abc import Mapping
from functools import lru_cache

from babel import Locale
from flask_babel import LazyString, lazy_gettext as _l
from flask_wtf import FlaskForm
from wtforms import BooleanField, PasswordField, SelectField, StringField, TelField
from wtforms.validators import DataRequired, InputRequired

from portal import i18n
from portal.services import phones

FILL_IN = _l("Please fill in this field.")


class Marked(FlaskForm):
    """A form whose rule says which fields are at fault."""

    def show(self, problems: Mapping[str, LazyString]) -> None:
        """Put the rule's refusals beside their fields."""
        for name, sentence in problems.items():
            self[name].errors = [*self[name].errors, sentence]


class RegisterForm(Marked):
    name = StringField(_l("Name"))
    email = StringField(_l("E-mail address"))
    country = SelectField(_l("Country of the phone number"), default=phones.GULF[0], validate_choice=False)
    phone = TelField(_l("Mobile phone"))
    password = PasswordField(_l("Password"))

    def __init__(self) -> None:
        super().__init__()
        self.country.choices = list(countries(i18n.language()))


class LoginForm(FlaskForm):
    email = StringField(_l("E-mail address or phone number"), [InputRequired(FILL_IN)])
    password = PasswordField(_l("Password"), [InputRequired(FILL_IN)])
    remember = BooleanField(_l("Keep me signed in on this device for 30 days"))


class CodeForm(Marked):
    code = StringField(_l("Six-digit code"), [DataRequired(FILL_IN)])


class ForgotForm(Marked):
    email = StringField(_l("E-mail address or phone number"), [DataRequired(FILL_IN)])


class ResetForm(Marked):
    email = StringField(_l("E-mail address or phone number"), [DataRequired(FILL_IN)])
    code = StringField(_l("Six-digit code"), [DataRequired(FILL_IN)])
    password = PasswordField(_l("New password"), [InputRequired(FILL_IN)])


@lru_cache(maxsize=4)
def countries(language: str) -> tuple[tuple[str, str], ...]:
    """Every country with telephones as (code, name and calling code): Kuwait, the Gulf, then all others by name."""
    names = Locale.parse(language).territories
    others = sorted(phones.countries() - set(phones.GULF), key=lambda code: _sorted_as(names.get(code, code)))
    # Isolated, or the plus sign jumps to the other end of the digits in an Arabic line.
    return tuple(
        (code, f"{names.get(code, code)} (\u2066+{phones.calling_code(code)}\u2069)")
        for code in (*phones.GULF, *others)
    )


def _sorted_as(name: str) -> str:
    """`Åland Islands` stands under A, `أستراليا` under ا."""
    plain = "".join(c for c in unicodedata.normalize("NFD", name) if not unicodedata.combining(c))
    return plain.casefold()
