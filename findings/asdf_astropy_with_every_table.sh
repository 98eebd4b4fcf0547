#!/usr/bin/env bash
# asdf-astropy: once it is installed, every `import astropy.table` loads the whole of asdf.
# Exit code 0: the surprise is still there; 1: it has changed; 2: the packages could not be installed.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
bin="$folder/venv/bin"
install() { "$bin/pip" install --quiet --disable-pip-version-check "$@" || exit 2; }

cat > "$folder/count.py" <<'PYTHON'
"""Modules that a program has loaded which only reads and writes FITS tables."""
import sys

import astropy.table

names = [name.split(".")[0] for name in sys.modules]
print(len(names), names.count("asdf") + names.count("asdf_astropy"))
PYTHON

echo "package:   asdf-astropy 0.11.0, astropy 8.0.2 (2026-11-28)"
echo "guess:     a package of readers and writers for ASDF files is loaded when such a file is opened"
echo "happens:   astropy.table imports it, with asdf and its schema validator, in every program"
echo "who:       pipelines of many short jobs in an environment that holds gwcs (which needs it):"
echo "           each job pays for a format that it never touches"
install astropy==8.0.2 numpy==2.4.6
read -r plain none < <("$bin/python" "$folder/count.py")
install asdf-astropy==0.11.0 asdf==6.0.0
read -r with some < <("$bin/python" "$folder/count.py")
echo "seen:      $plain modules without it, $none of them of asdf; $with with it, $some of asdf"
if [ "$none" -eq 0 ] && [ "$some" -gt 50 ]; then
    echo "still there"
else
    echo "changed"
    exit 1
fi
