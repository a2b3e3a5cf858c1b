"""LiteLLM's proxy, which people compare with: one worker, a master key, no database, so no ledger either.

Installed on demand, at one version, into an environment of its own: its dependencies are none of ours.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.processes import BenchError
from bench.systems import PORTS, Ground, Missing, System

VERSION = "1.106.2"
KEY = "sk-bench-only-on-loopback"
CONFIGURATION = {
    "model_list": [
        {"model_name": "mock", "litellm_params": {"model": "openai/mock", "api_base": "", "api_key": "none"}}
    ],
    "general_settings": {"master_key": KEY},
    "litellm_settings": {"num_retries": 0, "telemetry": False},
}


def install(build: Path) -> None:
    """Make sure that the environment is there. Raises Missing when it is not wanted or can't be made."""
    if os.environ.get("BENCH_LITELLM") == "0":
        raise Missing("left out, as BENCH_LITELLM=0 asks")
    home = build / "litellm"
    marker = home / f"installed-{VERSION}"
    if marker.exists():
        return
    print(f"installing litellm[proxy]=={VERSION} into {home} …", flush=True)
    shutil.rmtree(home, ignore_errors=True)
    python = home / "bin" / "python"
    uv = shutil.which("uv")
    wanted = f"litellm[proxy]=={VERSION}"
    if uv:
        commands = [
            [uv, "venv", "-q", "--python", sys.executable, home],
            [uv, "pip", "install", "-q", "-p", python, wanted],
        ]
    else:
        commands = [[sys.executable, "-m", "venv", home], [python, "-m", "pip", "install", "-q", wanted]]
    for command in commands:
        done = subprocess.run(
            [str(w) for w in command], capture_output=True, text=True, check=False, start_new_session=True
        )
        if done.returncode:
            raise Missing(f"it could not be installed: {done.stderr.strip()[-600:]}")
    marker.touch()


def start(ground: Ground) -> System:
    """Start the proxy. `install` comes first."""
    home = ground.build / "litellm"
    port = ground.port_base + PORTS["litellm"]
    CONFIGURATION["model_list"][0]["litellm_params"]["api_base"] = f"http://127.0.0.1:{ground.mock.port}/v1"  # type: ignore[index]
    (home / "config.yaml").write_text(json.dumps(CONFIGURATION))  # JSON is YAML
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV")) and k != "DATABASE_URL"
    }
    environment |= {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "HOME": str(home)}
    command: list[str | Path] = [
        home / "bin" / "litellm",
        "--config",
        home / "config.yaml",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    pid = ground.processes.start("litellm", [*command, "--num_workers", "1"], environment=environment, directory=home)
    try:
        ground.processes.wait_for_port("litellm", port, 90)
    except BenchError as error:
        raise Missing(str(error)) from error
    keys = ("-k", KEY)
    return System("litellm", port, pid, keys, plain_requests=400, warm_up=150, reminder=20, version=VERSION)
