#!/bin/sh
# The whole way of the mail on this machine: an MTA, benno-milter, the forwarder, benno-smtp, and a table of
# what arrived. It takes free ports on loopback and a temporary directory, and leaves nothing running.
#
#   ./demo.sh          with a Postfix of its own where one is installed and root starts this
#   ./demo.sh --keep   stays up afterwards, to send mails of one's own
#   ./demo.sh --help   says all options
#
# The Python environment is made once, in .venv-demo; that of ./test.sh is used where it is there.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}

ready() { # ENVIRONMENT
    [ -f "$1/ready" ] && [ -z "$(find "$here/pyproject.toml" -newer "$1/ready")" ]
}

quietly() { # COMMAND... whose output is of interest only if it fails
    output=$("$@" 2>&1) || {
        echo "$output" >&2
        exit 1
    }
}

environment=$here/.venv
ready "$environment" || environment=$here/.venv-demo
if ! ready "$environment"; then
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
            echo "demo.sh: needs Python 3.10 or later with venv; on Debian: apt install python3-venv" >&2
            exit 1
        fi
        echo "demo.sh: installing python3-venv"
        quietly apt-get update
        quietly env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv
    fi
    echo "demo.sh: making .venv-demo with $("$python" --version), once"
    quietly "$python" -m venv "$environment"
    quietly "$environment/bin/pip" install --disable-pip-version-check --use-pep517 -e "$here"
    touch "$environment/ready"
    echo
fi

# The tests' Postfix, milter client and SMTP client play their parts here too.
PYTHONPATH=$here/tests exec "$environment/bin/python" "$here/demo/demonstration.py" "$@"
