#!/bin/sh
# install.sh LOCK: install the files that LOCK names into /opt/venv, hashes checked, and precompile them.
# They come from /wheels where the build mounts the wheel cache there (pip itself too: a base image may have
# none), else from pip's index.
set -eu
lock=$1
set -- --quiet --disable-pip-version-check --root-user-action=ignore --no-cache-dir --no-compile \
    --no-deps --no-build-isolation --require-hashes --requirement "$lock"
pip=$(find /wheels -name 'pip-*.whl' 2>/dev/null || true)
if [ -n "$pip" ]; then
    /opt/venv/bin/python "$pip/pip" install --no-index --find-links /wheels "$@"
else
    python3 -m pip --python /opt/venv/bin/python install "$@"
fi
# Read-only at run time, so never compiled then. Unchecked: layers do not keep modification times reliably.
# The result is ignored because some packages ship templates and files for other Pythons that do not compile.
/opt/venv/bin/python -m compileall -qq -j 0 --invalidation-mode unchecked-hash /opt/venv/lib || true
