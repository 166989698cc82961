#!/usr/bin/env bash
# Installs what kvmshim needs: system packages where they are missing, then the Python environment.
# Usage: tools/setup.sh PYTHON VENV
set -euo pipefail

python=$1
venv=$2

missing=()
need() { # need PACKAGE COMMAND…: the package goes on the list when the command fails
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

need fuse3 sh -c 'ldconfig -p | grep -q libfuse3.so.3'
need libfuse3-dev test -e /usr/include/fuse3/fuse_lowlevel.h
need gcc sh -c 'command -v gcc'
need libc6-dev test -e /usr/include/stdio.h
need linux-libc-dev test -e /usr/include/linux/kvm.h
need pkg-config sh -c 'command -v pkg-config'
need python3-dev "$python" -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")'
need python3-venv "$python" -c 'import ensurepip, venv'
need user-mode-linux sh -c 'command -v linux.uml'
need strace sh -c 'command -v strace'
need crun sh -c 'command -v crun'
need runc sh -c 'command -v runc'
need qemu-system-x86 sh -c 'command -v qemu-system-x86_64'

if ((${#missing[@]})); then
    if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
        echo "kvmshim needs these Debian packages; install them and try again: ${missing[*]}" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

command -v cargo >/dev/null || {
    echo "kvmshim needs cargo (Rust 1.88 or newer): https://rustup.rs" >&2
    exit 1
}

[[ -x $venv/bin/python ]] || "$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes \
    --requirement requirements.lock
