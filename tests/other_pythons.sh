#!/bin/sh
# Runs the unit tests on every supported Python that can be had on this machine, or on the versions that are named:
#     sh tests/other_pythons.sh            # those of 3.11, 3.12 and 3.13 that .venv does not have
#     sh tests/other_pythons.sh 3.13
# An interpreter is taken from PATH, from pyenv, or, as root with apt, from Debian's packages. Each gets an environment of
# its own in .pythons/, with the extra `quantum`, without torch (gigabytes for each Python), and so without the tests of
# image_classification. The last lines say what ran and what did not. Exit code 1: some tests failed, or no Python ran.
set -u
TOOLS="pytest>=8 pytest-xdist>=3.5 hypothesis>=6.100 pandas>=2.1 import-linter>=2.1 mypy>=1.11 types-PyYAML types-psutil jsonschema"
cd "$(dirname "$0")/.." || exit 1
if [ $# -eq 0 ]; then
    own=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true)
    for version in 3.11 3.12 3.13; do [ "$version" = "$own" ] || set -- "$@" "$version"; done
fi

find_python() {  # prints a Python of version $1 that can make environments
    for candidate in "$(command -v "python$1")" "/usr/bin/python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if [ -x "$candidate" ] && "$candidate" -c "
import sys, ensurepip, venv, sqlite3, ssl
sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

install_python() {  # from Debian, where it has that version
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || return 1
    apt-get update -qq >/dev/null 2>&1
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "python$1" "python$1-venv" >/dev/null 2>&1
}

report=""
failed=0
ran=0
for version in "$@"; do
    if ! python=$(find_python "$version" || { install_python "$version" && find_python "$version"; }); then
        report="$report
Python $version: not run; it is neither on PATH, nor in pyenv, nor among the packages of this machine's distribution"
        continue
    fi
    folder=.pythons/$version
    echo "== Python $version: $python"
    if ! { [ -x "$folder/bin/python" ] || "$python" -m venv "$folder"; } ||
        ! "$folder/bin/python" -m pip install --quiet --editable '.[quantum]' $TOOLS; then
        report="$report
Python $version: not run; its packages could not be installed (see above)"
        failed=1
        continue
    fi
    # From 3.13 on sqlite3 warns of a connection that the garbage collector closes, in whatever test that happens.
    if "$folder/bin/python" -m pytest tests/unit -n auto --ignore tests/unit/domains/image_classification \
        -W "ignore:unclosed database:ResourceWarning"; then
        outcome="unit tests passed, without those of image_classification"
        ran=$((ran + 1))
    else
        outcome="unit tests FAILED"
        failed=1
    fi
    report="$report
$("$folder/bin/python" --version): $outcome"
done
echo "$report"
[ "$ran" -gt 0 ] && [ "$failed" -eq 0 ]
