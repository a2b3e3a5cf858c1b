"""Passwords: what is common, what is alike, and that hashing one keeps nobody else waiting."""

import subprocess
import sys

import pytest

from portal.services import passwords
from tests.services.environment import ROOT

HUB = """
import gevent.monkey; gevent.monkey.patch_all()
import gevent
from portal.services import passwords
stored = passwords.hashed("saffron-tide-lamp")
ticks, done = 0, False
def tick():
    global ticks
    while not done:
        gevent.sleep(0.001)
        ticks += 1
ticker = gevent.spawn(tick)
jobs = [gevent.spawn(passwords.matches, stored, "saffron-tide-lamp") for _ in range(8)]
gevent.joinall(jobs)
done = True
assert all(job.value for job in jobs)
print(ticks)
"""


def test_hashing_does_not_hold_up_the_worker() -> None:
    """AUTH-02: on the hub, eight sign-ins let everything else run eight times; beside it, it runs all the while."""
    done = subprocess.run([sys.executable, "-c", HUB], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 24


@pytest.mark.parametrize("password", ["password", "Password1", "12345678", "١٢٣٤٥٦٧٨", "qwertyuiop", "iloveyou"])
def test_the_common_ones_are_known(password: str) -> None:
    """AUTH-01: whatever the case, whatever the digits."""
    assert passwords.is_common(password)


def test_a_password_is_the_same_from_every_keyboard() -> None:
    """AUTH-02: composed and decomposed Arabic letters are one password."""
    stored = passwords.hashed("آمال\u0627\u0653 كبيرة")
    assert passwords.matches(stored, "\u0627\u0653مال\u0622 كبيرة")
    assert not passwords.matches(stored, "امالا كبيرة")


def test_nobodys_hash_opens_nothing() -> None:
    """AUTH-02: the hash that unknown names are checked against has no password."""
    assert not passwords.matches(None, "nobody has this password: " + "x" * 16)
    assert not passwords.matches("", "nobody has this password: " + "x" * 16)
