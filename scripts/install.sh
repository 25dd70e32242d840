#!/usr/bin/env bash
# Copies what `dist.sh tree` made below PREFIX, or removes what an earlier call copied there.
#
# usage: install.sh install PREFIX
#        install.sh uninstall PREFIX
#
# DESTDIR, if it is set, stands before PREFIX. The list of what was written is
# PREFIX/share/picker/installed.txt: files, and folders that were not there before, which end in `/`;
# with `/` in front, folders above PREFIX.
set -euo pipefail
umask 022
export LC_ALL=C

cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
tree=target/dist/picker-$version-linux-x86_64
list=share/picker/installed.txt

fail() { printf 'error: %s\nhint: %s\n' "$1" "$2" >&2; exit 1; }

action=${1:-} prefix=${2:-}
case $prefix in
  /*) ;;
  *) fail "PREFIX is \"$prefix\", which is not a full path" "give one that begins with /" ;;
esac
prefix=$(realpath -ms "$prefix")
to=$(realpath -ms "${DESTDIR:-}/$prefix")

uninstall() {
  local path
  # The deepest come first.
  sort -r "$to/$list" | while read -r path; do
    case $path in
      /*/) [ ! -d "${DESTDIR:-}$path" ] || rmdir --ignore-fail-on-non-empty "${DESTDIR:-}$path" ;;
      */) [ ! -d "$to/$path" ] || rmdir --ignore-fail-on-non-empty "$to/$path" ;;
      *) rm -f "$to/$path" ;;
    esac
  done
}

install_files() {
  [ -x "$tree/bin/picker" ] || fail "$tree is missing" "run make install"
  local path above=$prefix written=()
  # Before an earlier installation is removed: a refusal leaves it as it is.
  while read -r path; do
    [ ! -e "$to/$path" ] || grep -qsxF "$path" "$to/$list" ||
      fail "$to/$path is there and was not put there by make install" "remove it, or choose another PREFIX"
  done < <(cd "$tree" && find . -type f -printf '%P\n')
  [ ! -f "$to/$list" ] || uninstall
  mkdir -p "${DESTDIR:-/}"
  while [ ! -e "${DESTDIR:-}$above" ]; do
    written+=("$above/")
    above=$(dirname "$above")
  done
  while read -r path; do
    [ -d "$to/$path" ] || written+=("$path/")
  done < <(cd "$tree" && find . -mindepth 1 -type d -printf '%P\n')
  while read -r path; do
    written+=("$path")
  done < <(cd "$tree" && find . -type f -printf '%P\n')
  written+=("$list")

  # The list comes first, so that an installation that was cut short can be removed too.
  mkdir -p "$to/share/picker"
  printf '%s\n' "${written[@]}" > "$to/$list"
  for path in "${written[@]}"; do
    case $path in
      "$list" | /*/) ;;
      */) mkdir -p "$to/$path" ;;
      *) install -D -m "$([ -x "$tree/$path" ] && echo 755 || echo 644)" "$tree/$path" "$to/$path" ;;
    esac
  done
}

case $action in
  install)
    install_files
    echo "picker $version is in $to/bin ($(du -shc "$to/bin/picker" "$to/lib/picker" | tail -1 | cut -f1)); make uninstall PREFIX=$prefix removes it"
    if [ -z "${DESTDIR:-}" ] && [ "$(command -v picker)" != "$prefix/bin/picker" ]; then
      echo "To find it as \`picker\`, put this line into ~/.bashrc: export PATH=\"$prefix/bin:\$PATH\""
    fi
    ;;
  uninstall)
    [ -f "$to/$list" ] || fail "$to has no picker from make install ($list is missing)" \
      "give the PREFIX (and DESTDIR) that it was installed with"
    uninstall
    echo "picker was removed from $to"
    ;;
  *) sed -n '4,5s/^# //p' "$0"; exit 2 ;;
esac
