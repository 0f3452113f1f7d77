#!/usr/bin/env bash
# githubkit cannot be imported with the newest hishel that it admits, which is the one that is installed.
# Expected: the bound of a dependency is a version that the package works with.
# Seen: it requires hishel <= 2.0.0, whose names it does not find: ImportError. With hishel 1.3.0 it can be imported.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
result() {
  "$work/venv/bin/pip" install -q 'GitHubKit==0.16.1' "hishel[async,httpx]==$1" 'httpx==0.28.1'
  "$work/venv/bin/pip" check >"$work/check" || { cat "$work/check"; exit 1; }
  if "$work/venv/bin/python" -c 'import githubkit' 2>"$work/error"; then
    echo imported
  else
    tail -1 "$work/error" | cut -d '(' -f 1
  fi
}
newest=$(result 2.0.0)
older=$(result 1.3.0)
echo "githubkit 0.16.1: hishel 2.0.0: $newest; hishel 1.3.0: $older"
[[ "$newest" == *"cannot import name 'CachePolicy' from 'hishel'"* && "$older" == imported ]] || {
  echo "changed: it can be imported with what it requires" >&2
  exit 1
}
