# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What the scripts here share: messages, packages, the cache, locks, progress.

# Without it "x=$(f)" goes on after a failure within f.
shopt -s inherit_errexit

# shellcheck disable=SC2034 # used by those who source this
kvick_cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/kvick

# Everything these scripts say about themselves goes to stderr: stdout is for results.
say() {
	printf '%s\n' "$*" >&2
}

# The exit status is 1, or $die_status where a script promises another one.
die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit "${die_status:-1}"
}

# missing_packages NAME... - prints those that are not installed, one a line.
missing_packages() {
	local installed name
	installed=$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' "$@" 2>/dev/null || true)
	for name in "$@"; do
		grep -qx "ii $name" <<<"$installed" || printf '%s\n' "$name"
	done
}

# An image of a fresh machine often has no package lists, or lists that are out of date: both
# show as a failed installation, which an update cures.
apt_install() {
	local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600)

	"${apt[@]}" install -y --no-install-recommends "$@" && return
	"${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "$@"
}

# need_packages NAME... - installs what is missing (root), or says how to.
need_packages() {
	local missing

	mapfile -t missing < <(missing_packages "$@")
	[ ${#missing[@]} -gt 0 ] || return 0
	[ "$(id -u)" = 0 ] ||
		die "needs packages; run: sudo apt-get install --no-install-recommends ${missing[*]}"
	stage "installing ${missing[*]}" apt_install "${missing[@]}"
}

# packages_of SECTION... - the package names of these sections of tools/packages.
packages_of() {
	local list
	list=$(dirname "${BASH_SOURCE[0]}")/packages
	awk -v want=" $* " '
		/^\[/ { name = substr($1, 2, length($1) - 2); on = index(want, " " name " "); next }
		on && !/^#/ && NF { print $1 }' "$list" | sort -u
}

# hold_lock FILE - waits for the lock and holds it until this shell ends or drop_lock.
hold_lock() {
	mkdir -p "$(dirname "$1")"
	exec {lock_fd}>"$1"
	flock -n "$lock_fd" && return
	say "${0##*/}: waiting for another one that holds $1"
	flock "$lock_fd"
}

drop_lock() {
	exec {lock_fd}>&-
}

# publish FROM TO - puts a finished folder in its place, or fails; what was there goes away.
publish() {
	local old=$2.old.$$

	[ ! -e "$2" ] || mv "$2" "$old"
	mv "$1" "$2"
	rm -rf "$old"
}

# follow_log PID LOG TEXT - a line on the terminal that updates until PID ends.
follow_log() {
	local start=$SECONDS width last
	while kill -0 "$1" 2>/dev/null; do
		width=$(($(tput cols 2>/dev/null || echo 80) - ${#3} - 12))
		last=$(tail -n 1 "$2" | tr -cd '[:print:]')
		[ "$width" -gt 8 ] || width=8
		printf '\r\033[K%s (%d s) %s' "$3" $((SECONDS - start)) "${last:0:$width}" >&2
		read -rt 0.5 <> <(:) || true
	done
	printf '\r\033[K' >&2
}

# stage TEXT CMD... - runs a long step with its output in a log that is shown only if it fails.
stage() {
	local text=$1 start=$SECONDS log pid rc=0
	shift

	log=$(mktemp)
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	if [ -t 2 ]; then
		follow_log "$pid" "$log" "$text"
	else
		say "$text ..."
	fi
	wait "$pid" || rc=$?
	if [ "$rc" != 0 ]; then
		tail -n 40 "$log" >&2
		say "$text: failed with status $rc (whole log: $log)"
		return "$rc"
	fi
	rm -f "$log"
	say "$text: done in $((SECONDS - start)) s"
}
