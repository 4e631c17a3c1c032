#!/bin/sh
# Installs c2rec-kiosk from this folder, with no network:
#
#   sh install.sh [FOLDER]        FOLDER/current/bin/c2rec-kiosk; /opt/c2rec unless told otherwise
#
# Another version is installed beside the one that is there, and takes its place in one step.
set -eu
version=@VERSION@ python_version=@PYTHON_VERSION@ machine=@MACHINE@ glibc=@GLIBC@
python=${PYTHON:-python$python_version}
target=${1:-/opt/c2rec}

fail() {
  echo "install.sh: $*" >&2
  exit 1
}

cd "$(dirname "$0")"
sha256sum --check --strict --quiet SHA256SUMS ||
  fail "the pack is damaged; copy it here once more"
# what is not listed must not be installed
for wheel in wheels/*; do
  grep -q "  $wheel\$" SHA256SUMS || fail "$wheel does not belong to this pack"
done
[ "$(uname -m)" = "$machine" ] || fail "this machine is $(uname -m), the pack is for $machine"
command -v "$python" >/dev/null ||
  fail "there is no $python; install it, or say where it is: PYTHON=/path/to/python sh install.sh"
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$found" = "$python_version" ] || fail "$python is Python $found, the pack is for $python_version"
"$python" - "$glibc" <<'END' || fail "this system's C library is older than glibc $glibc, or another"
import os, sys
name, _, found = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
numbers = lambda text: [int(part) for part in text.split(".")[:2]]
sys.exit(not (name == "glibc" and numbers(found) >= numbers(sys.argv[1])))
END

umask 022
mkdir -p "$target"
target=$(cd "$target" && pwd)
place=$target/$version-$(sha256sum SHA256SUMS | cut -c 1-12)
if [ ! -e "$place/installed" ]; then
  rm -rf "$place" # the rest of an installation that was cut off
  "$python" -m venv "$place" || fail "$python can't make an environment: it lacks venv or ensurepip"
  "$place/bin/pip" install --quiet --disable-pip-version-check --no-input --no-index \
    --find-links wheels --constraint constraints.txt "c2rec[page]==$version"
  "$place/bin/pip" check --disable-pip-version-check >/dev/null
  touch "$place/installed"
fi
ln -sfn "$place" "$target/.current"
mv -T "$target/.current" "$target/current"
"$target/current/bin/c2rec-kiosk" --version
echo "Installed: $target/current/bin/c2rec-kiosk"
