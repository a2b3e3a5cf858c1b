"""nginx as a pass-through: no account, no limit, no ledger. The floor under what any gateway can cost."""

import shutil
import subprocess
from pathlib import Path

from bench.systems import PORTS, Ground, Missing, System

CONFIGURATION = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {home}/nginx.pid;
error_log stderr error;
events {{ worker_connections {files}; multi_accept on; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  upstream mock {{ server 127.0.0.1:{mock}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=8192;
    location / {{
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 300s;
    }}
  }}
}}
"""


def start(ground: Ground, *, files: int) -> System:
    """Start nginx with one worker. files: how many descriptors it may open. Raises Missing without the binary."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if binary is None:
        raise Missing("there is no nginx (Debian: apt install nginx-light)")
    home = ground.build / "nginx"
    home.mkdir(parents=True, exist_ok=True)
    port = ground.port_base + PORTS["nginx"]
    text = CONFIGURATION.format(home=home, port=port, mock=ground.mock.port, files=files)
    (home / "nginx.conf").write_text(text)
    command: list[str | Path] = [binary, "-p", home, "-c", home / "nginx.conf", "-e", "stderr"]
    pid = ground.processes.start("nginx", command)
    ground.processes.wait_for_port("nginx", port, 10)
    version = (
        subprocess.run([binary, "-v"], capture_output=True, text=True, check=False).stderr.strip().rpartition("/")[2]
    )
    return System("nginx", port, pid, version=version)
