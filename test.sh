#!/bin/sh
# Lint, types and all tests. Sets itself up; run it as often as you like.
#
#   ./test.sh              everything; as root on Debian it installs the system packages it needs
#   ./test.sh quick        no real MTA, no root, nothing slow: about a minute
#   ./test.sh machines     whole Debian machines, booted, with the packages; as root on Debian, 15 minutes.
#                          Where the kernel lacks what they need it says so, by name, and SKIPPED, with exit code
#                          0; where a program or the permission is missing, it fails.
#   ./test.sh faults ROUNDS [SEED]
#                          the randomised tests for longer, as root: so many power cuts of the durability module, a
#                          twentieth of them for each program under load, kill -9 and failing calls, and a minute
#                          of fuzzing for each parser (BENNO_FUZZ_SECONDS). Shows a table; fails if anything was
#                          lost, torn or invented. SEED repeats a run.
#   ./test.sh soak [MAILS] [SEED]
#                          so many mails (100,000) through the whole chain while everything goes wrong; as root
#   ./test.sh [quick] ...  further arguments go to pytest: ./test.sh -k postfix
set -eu
cd "$(dirname "$0")"

quick=
if [ "${1-}" = quick ]; then
    quick=1
    shift
fi
machines=
if [ "${1-}" = machines ]; then
    machines=1
    shift
fi
long=
if [ "${1-}" = faults ]; then
    BENNO_ROUNDS=${2:?"how many rounds? ./test.sh faults ROUNDS [SEED]"}
    BENNO_FUZZ_SECONDS=${BENNO_FUZZ_SECONDS:-60}
    BENNO_SEED=${3:-$(date +%s)}
    long="-n 2 --dist worksteal tests/faults tests/fuzz"
elif [ "${1-}" = soak ]; then
    BENNO_SOAK=${2:-100000}
    BENNO_SEED=${3:-$(date +%s)}
    long="-rP tests/faults/test_soak.py"
fi
if [ -n "$long" ] && [ "$(id -u)" != 0 ]; then
    echo "test.sh: $1 needs root: file systems, control groups, network namespaces" >&2
    exit 77
fi

# What the tests use of the system: for the set-up itself, then for those marked `system`.
packages="python3-venv"
if [ -n "$machines" ]; then
    packages="$packages mmdebstrap systemd-container iproute2 e2fsprogs mount util-linux openssl"
elif [ -z "$quick" ]; then
    packages="$packages postfix miltertest strace swaks xfsprogs e2fsprogs mount openssl procps shellcheck"
    packages="$packages gcc libc6-dev libmilter-dev"  # for the benchmarks' programs
    packages="$packages btrfs-progs bindfs nftables iproute2 util-linux stunnel4"
    packages="$packages m4" # for Sendmail's configuration
fi
if [ -z "$quick" ] && command -v javac >/dev/null; then
    packages="$packages libmail-java"
fi

missing=
if command -v dpkg-query >/dev/null; then
    for package in $packages; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
    done
fi
if [ -n "$missing" ] && [ "$(id -u)" = 0 ]; then
    echo "test.sh: installing$missing"
    # A Postfix that the tests start has its own configuration; the system's stays without any.
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    apt-get update -q >/dev/null
    # shellcheck disable=SC2086 # several words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >/dev/null
elif [ -n "$missing" ]; then
    echo "test.sh: not installed, tests that need them are skipped:$missing"
fi

python=${PYTHON:-python3}
if ! [ -f .venv/ready ] || [ pyproject.toml -nt .venv/ready ]; then
    echo "test.sh: making .venv with $($python --version)"
    "$python" -m venv .venv
    .venv/bin/pip install -q --use-pep517 -e '.[test]'
    touch .venv/ready
fi

if [ -n "$machines" ]; then
    PYTHONPATH=tests exec .venv/bin/python -m machines.run "$@"
fi

if [ -n "$long" ]; then
    export BENNO_ROUNDS BENNO_FUZZ_SECONDS BENNO_SOAK BENNO_SEED
    [ -z "${BENNO_ROUNDS-}" ] || .venv/bin/python -c "import atheris" 2>/dev/null || .venv/bin/pip install -q atheris ||
        echo "test.sh: no atheris for this Python; hypothesis alone makes the inputs"
    echo "test.sh: seed $BENNO_SEED"
    # shellcheck disable=SC2086 # several words
    PYTHONPATH=tests exec .venv/bin/python -m pytest -q -p tally --timeout 0 $long
fi

# unpack NAME PACKAGE...: a mail server in .venv/NAME, as Debian installs only one, with the first one's libraries
unpack() {
    name=$1
    shift
    if [ -d ".venv/$name" ]; then
        return
    fi
    apt-get update -q >/dev/null
    libraries=$(apt-cache depends "$1" | awk '/ Depends: lib/ {print $2}')
    # shellcheck disable=SC2086 # several words
    echo "test.sh: unpacking $* in .venv/$name, installing" $libraries
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $libraries >/dev/null
    rm -rf .venv/debs
    mkdir .venv/debs
    (cd .venv/debs && apt-get download -q "$@" >/dev/null)
    for deb in .venv/debs/*.deb; do
        dpkg -x "$deb" .venv/debs/tree
    done
    mv .venv/debs/tree ".venv/$name"
    rm -r .venv/debs
}

if [ -z "$quick" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    unpack sendmail sendmail-bin sendmail-cf
    unpack exim exim4-daemon-light
fi

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/bandit -q -c pyproject.toml -r common milter milter2smtp smtp_receiver debian/sbin/benno-*
if [ -n "$quick" ]; then
    exec .venv/bin/python -m pytest -n 2 -m 'not system and not slow' "$@"
fi
exec .venv/bin/python -m pytest -n 2 "$@"
