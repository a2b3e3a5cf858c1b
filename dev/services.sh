#!/usr/bin/env bash
# Installs the servers and the browser that the full `make test` uses. It only installs: the tests start private servers
# of their own, so the system's are neither started nor set to start at the next boot.
set -euo pipefail
PATH="$PATH:/usr/sbin:/sbin"

wanted=() # what is missing, by package
need() { # PACKAGE COMMAND…: any one of the commands will do
  local package=$1 command
  shift
  for command; do
    compgen -G "$command" >/dev/null && return
    command -v "$command" >/dev/null && return
  done
  wanted+=("$package")
}
need mariadb-server mariadbd
need postgresql postgres '/usr/lib/postgresql/*/bin/postgres'
need redis-server redis-server valkey-server
need chromium chromium
need chromium-driver chromedriver
need nginx nginx
need fail2ban fail2ban-server
need libgomp1 '/usr/lib/*/libgomp.so.1' '/lib/*/libgomp.so.1'
need fonts-noto-core '/usr/share/fonts/truetype/noto/NotoSansArabic-Regular.ttf'
need util-linux setpriv

if [ ${#wanted[@]} -eq 0 ]; then
  echo "· Services: all installed (MariaDB, PostgreSQL, Redis, Chromium, nginx, fail2ban, fonts)"
  exit 0
fi
if ! command -v apt-get >/dev/null; then
  echo "Missing here: ${wanted[*]} (Debian's names). This machine has no apt-get, so nothing was installed: please install" >&2
  echo "them with its own package manager. make test finds their programs on the PATH; suites without theirs are skipped." >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "Missing here: ${wanted[*]}. Installing them needs root, and there is no sudo. As root: apt-get install ${wanted[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

# Debian starts a server as soon as it is installed, unless policy-rc.d says no (101).
policy=/usr/sbin/policy-rc.d
kept=
restore() {
  "${as_root[@]}" rm -f "$policy"
  if [ -n "$kept" ]; then "${as_root[@]}" mv "$kept" "$policy"; fi
}
if [ -e "$policy" ]; then
  kept=$policy.before-llm-portal
  "${as_root[@]}" mv "$policy" "$kept"
fi
trap restore EXIT
trap 'exit 130' INT TERM
printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
"${as_root[@]}" chmod 755 "$policy"

log=$(mktemp)
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1 || { tail -20 "$log" >&2; return 1; }; }
echo "· Services: installing ${wanted[*]}"
apt update
apt install -y --no-install-recommends "${wanted[@]}"
if [ -d /run/systemd/system ]; then
  for unit in mariadb postgresql redis-server nginx fail2ban; do
    case " ${wanted[*]} " in *" $unit"*) "${as_root[@]}" systemctl disable --quiet "$unit" 2>/dev/null || true ;; esac
  done
fi
rm -f "$log"
