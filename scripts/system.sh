#!/usr/bin/env bash
# Installs the Debian packages of one purpose whose commands are absent: `system.sh venv|test|bench`.
# Servers that it installs do not stay running: tests and bench start their own on free ports.
set -eu
PATH="$PATH:/usr/sbin:/sbin:$(printf '%s:' /usr/lib/postgresql/*/bin)"

absent() { # COMMAND=PACKAGE... -> the packages whose command is not found
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || echo "${pair#*=}"
    done
}

venv_package() {
    "${PYTHON:-python3}" - <<'END'
import sys
try:
    import ensurepip, venv
except ImportError:
    print("python%d.%d-venv" % sys.version_info[:2])
END
}

case "$1" in
    venv) packages=$(venv_package) ;;
    test) packages=$(absent postgres=postgresql pgbouncer=pgbouncer redis-server=redis-server) ;;
    bench) packages=$(absent nginx=nginx-light wrk=wrk postgres=postgresql pgbouncer=pgbouncer) ;;
esac
packages=$(echo $packages)
[ -n "$packages" ] || exit 0

give_up() {
    echo "sluicegate: $1; please install what your system calls these packages, then run make again: $packages" >&2
    exit 1
}
command -v apt-get >/dev/null || give_up "this system has no apt-get"
root=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null && sudo -v || give_up "installing system packages needs root or sudo"
    root=sudo
fi

echo "sluicegate: installing with apt-get: $packages"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt="$root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120"
if ! { $apt update && $apt install -y --no-install-recommends $packages; } >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    give_up "apt-get failed"
fi

for server in postgresql pgbouncer redis-server nginx; do
    case " $packages " in *" $server"*)
        $root service "$server" stop >/dev/null 2>&1 || true # it may never have been started
        $root update-rc.d "$server" disable >/dev/null
    esac
done
