"""The client of the WhatsApp carrier, pointed at the sandbox."""

import pytest

from portal.providers.messaging.resayil import Resayil
from sandbox.process import SandboxProcess


@pytest.fixture
def carrier(sandbox: SandboxProcess) -> Resayil:
    return Resayil(sandbox.whatsapp_url, "sandbox")
