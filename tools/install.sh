#!/usr/bin/env bash
# Make the virtual environment and install hash-pinned requirements: tools/install.sh PYTHON VENV REQUIREMENTS
# Says one line when something is missing and exits 2; all output goes to VENV/install.log.
set -euo pipefail
python=$1 venv=$2 requirements=$3

if ! command -v "$python" >/dev/null; then
  echo "tocsin: $python was not found: install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3" >&2
  exit 2
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "tocsin: $("$python" --version) is too old: Python 3.11 or newer is needed, name it: make PYTHON=/path/to/python3.11" >&2
  exit 2
fi
if [ ! -x "$venv/bin/python" ] && ! "$python" -m venv "$venv" >/dev/null 2>&1; then
  rm -rf "$venv"
  echo "tocsin: $python cannot make a virtual environment: install its venv package (Debian: python3-venv)" >&2
  exit 2
fi

log=$venv/install.log
say() { if [ -t 2 ]; then printf '\033[2m%s\033[0m\n' "$1" >&2; else echo "$1" >&2; fi; }

# uv installs in a second what pip needs half a minute for; where it cannot reach the registry as configured, pip may.
install() {
  "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt &&
    "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r "$requirements" ||
    "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$requirements"
}

say "installing $requirements into $venv"
if ! install >"$log" 2>&1; then
  echo "tocsin: the packages of $requirements could not be installed (is the package registry reachable?): see $log" >&2
  exit 2
fi
if ! "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . >>"$log" 2>&1; then
  echo "tocsin: the project itself could not be installed: see $log" >&2
  exit 2
fi
