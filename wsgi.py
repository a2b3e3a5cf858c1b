"""The WSGI entry: `gunicorn -c gunicorn.conf.py wsgi:app`, `flask --app wsgi …`."""

import sys

from portal import create_app
from portal.config import SettingsError

try:
    app = create_app()
except SettingsError as error:
    # A traceback would hide the one thing the operator needs: which settings are wrong.
    sys.exit(str(error))
