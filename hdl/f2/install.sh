#!/bin/sh
# Copies the sources and scripts of `cl_f2` into the folder of a custom logic in AWS's HDK: install.sh CL_DIR
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=${1:?usage: install.sh CL_DIR, a folder that create_new_cl.py made}
[ -d "$target/build/scripts" ] || { echo "$target is not the folder of a custom logic: run create_new_cl.py first" >&2; exit 1; }
cp -r "$here/cl_f2/." "$target"
grep -v '^#' "$here/cl_f2/design/files.f" | while read -r file; do
    cp "$here/../$file" "$target/design/"
done
cp "$here"/../rtl/include/*.svh "$target/design/"
echo "copied $(ls "$target/design" | wc -l) files into $target/design"
