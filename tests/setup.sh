#!/bin/sh
# Installs what the tests start themselves: the MariaDB server binary and Node
# for the official JavaScript SDKs. Idempotent. As root it uses apt; otherwise it
# names what is missing. No service is started: the harness starts its own
# servers on free ports with private data folders.
set -eu
cd "$(dirname "$0")/.."

PATH="$PATH:/usr/sbin:/usr/local/sbin"
missing=""
need() { # need PACKAGE COMMAND…: any of the commands will do
    package=$1
    shift
    for c in "$@"; do
        command -v "$c" >/dev/null 2>&1 && return 0
    done
    missing="$missing $package"
}

need git git
[ -n "${SLUICE_TEST_MYSQL_DSN:-}" ] || need mariadb-server mariadbd mysqld
if [ -f tests/compat/js/package.json ]; then
    need nodejs node
    need npm npm
fi

if [ -n "$missing" ]; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        echo "The tests need these packages (Debian names):$missing" >&2
        echo "Install them, or run tests/setup.sh as root on a Debian-like system." >&2
        exit 1
    fi
    # A policy-rc.d that says 101 keeps dpkg from starting services.
    policy=/usr/sbin/policy-rc.d
    made=""
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        made=yes
    fi
    trap '[ -z "$made" ] || rm -f "$policy"' EXIT
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    # shellcheck disable=SC2086 # a list of words
    apt-get install -q -y --no-install-recommends $missing
fi

if [ -f tests/compat/js/package.json ]; then
    cd tests/compat/js
    # npm writes node_modules/.package-lock.json last: older than the lock file means stale.
    if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
        npm ci --no-audit --no-fund
        touch node_modules/.package-lock.json
    fi
fi
