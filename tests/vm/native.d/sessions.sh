# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154,SC2034
# Running VMs: found by name, told what to do, ended by signals, and gone without a trace.

# state_is NAME STATE
state_is() {
	kvick status "$1"
	grep -q "\"state\": \"$2\"" out || fail "$1 is not $2"
}

test_verbs() {
	start b button --append 'stubborn said="a b"' --cpus 2
	state_is b running
	kvick ps
	grep -qE '^b +running +2 +16M' out || fail 'ps does not show it'
	kvick pause b
	status_is 0
	state_is b paused
	refused_verb 'b: pause: not while the machine is paused' pause b
	refused_verb 'b: power-button: not while the machine is paused' power-button b
	kvick resume b
	status_is 0
	state_is b running
	kvick power-button b
	status_is 0
	await pressed
	kvick stats b
	grep -q '"exits"' out || fail 'no exits in the statistics'
	grep -qF 'swiotlb=noforce stubborn said=\"a b\""' out || fail 'not the command line'
	kvick reset b
	status_is 0
	await READY
	kvick pause b
	kvick reset b
	state_is b paused
	kvick resume b
	await READY
	kvick kill b
	status_is 0
	ends 137
	refused_verb 'b: no VM of that name is running' status b
}

# As refused, while a VM runs.
refused_verb() {
	local words=$1
	shift
	kvick "$@"
	status_is 125
	says "$words"
}

test_stop() {
	start b button
	kvick stop b
	status_is 0
	await pressed
	ends 0
	start c button --append stubborn
	kvick stop --timeout 0.2 c
	status_is 0
	await pressed
	ends 137
	start d button
	kvick stop --kill d
	status_is 0
	ends 137
}

# A signal is the power button; who repeats it means it.
test_signals() {
	start b button
	kill -TERM "$pid"
	await pressed
	ends 0
	start c button --append stubborn
	kill -TERM "$pid"
	await pressed
	kill -TERM "$pid"
	ends 137
	start d button --append stubborn
	kill -INT "$pid"
	await pressed
	kill -HUP "$pid"
	ends 137
}

# Whichever thread it dies of, or is ended by.
test_terminal() {
	ulimit -c 0
	for end in keys SIGTERM/kvick SIGSEGV/kvick SIGABRT/kvick SIGSEGV/vcpu0 SIGBUS/vcpu0 SIGABRT/io; do
		"$suite/on-terminal" "$end" "$build/kvick" boot "${base[@]}" --kernel "$guests/button" \
			>out 2>&1 || fail "$(cat out)"
	done
	kvick ps # takes away what the dead have left
	status_is 0
}

test_killed_monitor() {
	start b button
	kill -KILL "$pid"
	ends 137
	[ -e "$KVICK_RUNTIME_DIR/b/control" ] || fail 'it has not left a directory'
	start b button
	kvick stop b
	ends 0
	start c button
	kill -KILL "$pid"
	ends 137
	kvick ps
	status_is 0
}

test_same_name() {
	start b button
	boot hello --name b </dev/null
	status_is 125
	says 'kvick: --name b: a VM of that name is running'
	kvick kill b
	ends 137
}

# --- many ----------------------------------------------------------------------------------------

no_process() {
	local file
	for file in /proc/[0-9]*/cmdline; do
		! tr '\0' ' ' <"$file" 2>/dev/null | grep -q -- "--name $1" ||
			fail "still running: $(tr '\0' ' ' <"$file")"
	done
}

test_8_at_once() {
	local i pids=()
	for i in {1..8}; do
		"$build/kvick" boot "${base[@]}" --name "many$i" --kernel "$guests/hostile" \
			</dev/null >"out-$i" 2>"err-$i" &
		pids+=($!)
	done
	for i in {1..8}; do
		pid=${pids[i - 1]}
		ends 0
		grep -q SUCCESS "out-$i" || fail "number $i did not succeed"
	done
	no_process many
}

# With a /tmp of its own, to see whether anything stays in it.
test_200_in_a_row() {
	mkdir tmp
	unshare -m true || skip 'host: no mount namespaces for this user'
	unshare -m bash -s "$PWD/tmp" "$build/kvick" "$guests/hello" "${seccomp[@]}" <<-'X' ||
		set -eu
		mount -t tmpfs tmpfs "$1"
		cp "$2" "$3" "$1"
		mount --bind "$1" /tmp
		shift 3
		export KVICK_RUNTIME_DIR=/tmp/vms
		for ((i = 0; i < 200; i++)); do
			/tmp/kvick boot --allow-software-kvm "$@" --name "row$i" --memory 16 \
				--kernel /tmp/hello --append greeting --timeout 10 </dev/null |
				grep -q SUCCESS
		done
		rmdir /tmp/vms
		cd /tmp
		echo *
		[ "$(echo *)" = 'hello kvick' ]
	X
		fail 'one of them failed, or something is left in /tmp'
	no_process row
}

# --- kvick run, whose guest has to answer --------------------------------------------------------

# run_guest GUEST WORDS...: as a kernel for run.
run_guest() {
	local guest=$1
	shift
	mkdir -p root
	kvick run --allow-software-kvm "${seccomp[@]}" --kernel "$guests/$guest" --rootfs root \
		"$@" -- true
}

test_run_unanswered() {
	refused "guest's init did not connect within 0.3 s" \
		run_guest bad-init --append silent --boot-timeout 0.3
	run_guest halt --boot-timeout 0.3
	status_is 124
	says 'every processor of the guest halts with interrupts off, rip 0x'
}

test_run_nonsense() {
	refused "guest's init sent a frame of 1936287860 bytes" run_guest bad-init --append garbage
	refused "guest's init sent a frame of 4294967295 bytes" run_guest bad-init --append flood
	refused "guest's init closed the connection 1 bytes into a frame" \
		run_guest bad-init --append half
}

test_run_ended() {
	local early='the guest ended before its command did'
	refused "$early: power-off" run_guest end --append power-off
	refused "$early: reset" run_guest end --append acpi
	refused "$early: panic" run_guest end --append pvpanic
	refused "$early: triple-fault" run_guest triple-fault
}
