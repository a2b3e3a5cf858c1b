"""The environment a portal under test runs in: complete, so that nothing of the developer's own settings leaks in."""

import os
import sys
from pathlib import Path

KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")
ROOT = Path(__file__).resolve().parent.parent.parent
TOOLS = Path(sys.executable).parent
"""Where flask, gunicorn and rq lie: beside the Python that runs us."""
NOWHERE = "http://127.0.0.1:9"
"""The discard port: a request that should never be made is refused at once."""


def portal_environment(instance: Path, **settings: object) -> dict[str, str]:
    """Everything a portal process needs. `settings` are the contract's variables, by their own names."""
    own_env_file = instance / "empty.env"
    if not own_env_file.exists():
        own_env_file.touch()
    chosen = {
        "PORTAL_ENV": "development",
        "PORTAL_ENV_FILE": str(own_env_file),
        "PORTAL_INSTANCE_DIR": str(instance),
        "SECRET_KEY": "a-key-for-tests-alone-0123456789abcdef",
        "BASE_URL": "http://127.0.0.1:8000",
        "DATABASE_URL": f"sqlite:///{instance / 'portal.db'}",
        "REDIS_URL": f"unix://{instance / 'no-redis.sock'}?db=0",
        "OLLAMA_URL": NOWHERE,
        "OLLAMA_CLOUD_URL": NOWHERE,
        "MYFATOORAH_BASE_URL": NOWHERE,
        "RESAYIL_API_URL": NOWHERE,
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "default",
    }
    return (
        {name: os.environ[name] for name in KEPT if name in os.environ}
        | chosen
        | {k: str(v) for k, v in settings.items()}
    )
