#!/bin/sh
# Unit and protocol tests with Debian's own aiosmtpd, aiosmtplib and attrs, not those of PyPI.
#
#   tests/debian_libraries.sh bookworm|trixie [arguments of pytest]
#
# As root, with mmdebstrap and after ./test.sh, whose .venv it needs. The tree with Debian's Python is
# made once, in .venv/libraries. Only what Debian need not have comes from PyPI: pytest, hypothesis and
# purepythonmilter, without their dependencies, so that nothing of Debian's is covered.
set -eu
cd "$(dirname "$0")/.."
suite=$1
shift
set -- tests/common tests/durable tests/forwarder tests/mailfile tests/milter tests/receiver "$@"
tree=${BENNO_TREES:-$PWD/.venv/libraries}/$suite

if ! [ -f "$tree/ready" ]; then
    echo "debian_libraries.sh: making $tree"
    rm -rf "$tree"
    mkdir -p "$tree"
    mmdebstrap --quiet --variant=apt --aptopt='APT::Install-Recommends "false"' \
        --include=python3,python3-aiosmtpd,python3-aiosmtplib,python3-attr,python3-bcrypt,python3-cryptography,procps,openssl \
        "$suite" "$tree"
    version=$(chroot "$tree" python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    .venv/bin/pip install -q --no-deps --no-compile --only-binary=:all: --python-version "$version" \
        --target "$tree/opt/python" purepythonmilter==0.0.1 pytest pluggy iniconfig packaging pygments \
        pytest-timeout pytest-xdist execnet hypothesis sortedcontainers
    mkdir -p "$tree/project"
    echo "127.0.0.1 localhost" >"$tree/etc/hosts"
    printf '%s\n' /opt/python /project/common /project/milter /project/milter2smtp /project/smtp_receiver \
        >"$tree/usr/local/lib/python$version/dist-packages/project.pth"
    cat >"$tree/opt/run.py" <<'END'
import importlib.metadata, platform, sys
import aiosmtpd, aiosmtplib, attr, pytest

for module in (aiosmtpd, aiosmtplib, attr):
    assert module.__file__.startswith("/usr/lib/python3/dist-packages/"), module.__file__
for name in ("aiosmtpd", "aiosmtplib", "attrs"):
    print(name, importlib.metadata.version(name), end=", ")
print("Python", platform.python_version(), flush=True)
sys.exit(pytest.main(["-n", "2", "-m", "not system", "-p", "no:cacheprovider", *sys.argv[1:]]))
END
    touch "$tree/ready"
fi

# In a mount namespace of its own, which takes the mounts away with it.
# shellcheck disable=SC2016 # expanded there
exec unshare --mount sh -eu -c '
tree=$1
shift
mount --bind "$PWD" "$tree/project"
mount -t tmpfs tmpfs "$tree/tmp"
mount -t proc proc "$tree/proc"
mount --rbind /dev "$tree/dev"
exec chroot "$tree" env -i -C /project HOME=/root LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin \
    PYTHONDONTWRITEBYTECODE=1 python3 /opt/run.py "$@"
' sh "$tree" "$@"
