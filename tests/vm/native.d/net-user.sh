# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154
# NICs in user mode, in a network namespace of the tests' own.

needs_loopback() {
	[ -n "$own_network" ] || skip 'no network namespace of its own'
	ip link set lo up || skip 'no loopback'
}

# helper_of PID: the process of its NIC.
helper_of() {
	local child children
	read -ra children <"/proc/$1/task/$1/children"
	for child in "${children[@]}"; do
		[ "$(cat "/proc/$child/comm")" != kvick-slirp ] || echo "$child"
	done
}

# echoes PORT: a datagram to it comes back.
echoes() {
	local line
	exec {udp}<>"/dev/udp/127.0.0.1/$1"
	echo "a datagram to $1" >&"$udp"
	line=$(timeout 20 head -n 1 <&"$udp") || fail "nothing comes back from port $1"
	[ "$line" = "a datagram to $1" ] || fail "\"$line\" comes back from port $1"
	exec {udp}>&-
}

test_net_user() {
	local transport helper
	needs_loopback
	for transport in mmio pci; do
		start "u$transport" net-user --net user,publish=9001:7/udp --publish 9002:8/udp \
			--transport "$transport"
		echoes 9001
		echoes 9002
		helper=$(helper_of "$pid")
		[ -n "$helper" ] || fail 'no kvick-slirp'
		kill -9 "$helper"
		await 'datagrams: 2'
		ends 0
		says 'kvick: network: net0: kvick-slirp ended by signal 9; its link is down'
	done
}

# keep_asking PORT: one datagram after the other, each once the last one is answered, a line in
# `answers`, or lost.
keep_asking() {
	exec {udp}<>"/dev/udp/127.0.0.1/$1"
	while echo again >&"$udp"; do
		timeout 1 head -n 1 <&"$udp" >>answers
	done 2>/dev/null
}

# The process goes on as it was, and has no other guest for one that begins anew.
test_net_user_paused_and_reset() {
	local transport asking
	needs_loopback
	for transport in mmio pci; do
		start "p$transport" net-user --net user,publish=9001:7/udp,publish=9002:8/udp \
			--transport "$transport"
		keep_asking 9002 &
		asking=$!
		for _ in {1..20}; do
			kvick pause "p$transport"
			kvick resume "p$transport"
			status_is 0
			echoes 9001
		done
		for _ in {1..5}; do
			kvick reset "p$transport"
			status_is 0
			await READY
			echoes 9001
		done
		kill "$asking" || fail 'nothing was asked meanwhile'
		[ "$(wc -l <answers)" -gt 10 ] || fail "$(wc -l <answers) answers meanwhile"
		rm answers
		kill -9 "$(helper_of "$pid")"
		await 'datagrams: '
		ends 0
	done
}

# What its process does not let through is counted, and told as long as the VM lives.
test_net_user_counters() {
	local seen=(kind user user-mode.malformed 1 user-mode.unknown 1 user-mode.local 1
		user-mode.denied 0 user-mode.full 0 user-mode.busy 0)
	needs_loopback
	start c net-user --net user --stats stats --append wrong
	kvick status c
	"$suite/nic-says" "${seen[@]}" <out || fail "$(cat out)"
	kill -9 "$(helper_of "$pid")"
	await 'datagrams: 0'
	ends 0
	"$suite/nic-says" "${seen[@]}" link lost <stats || fail "$(cat stats)"
}

# It goes with the VM, also where that is killed.
test_net_user_ends() {
	local helper
	needs_loopback
	start k net-user --net user,publish=9001:7/udp
	helper=$(helper_of "$pid")
	[ -n "$helper" ] || fail 'no kvick-slirp'
	kill -9 "$pid"
	ends 137
	rm -r "${KVICK_RUNTIME_DIR:?}/k" # what is left of one killed is taken by the next of that name
	for _ in {1..200}; do
		[ -e "/proc/$helper" ] || return 0
		sleep 0.02
	done
	fail 'kvick-slirp outlives its VM'
}

net_user_refused() {
	refused "$1" boot net-user "${@:2}"
}

# net_user_in_use PORT OPTION...: beside a VM that has the port.
net_user_in_use() {
	boot net-user --net user "${@:2}"
	status_is 125
	says "kvick: --net user: net0: publish 127.0.0.1:$1: Address already in use"
}

test_net_user_bad_input() {
	needs_loopback
	net_user_refused '--publish 80:80: needs --net user' --publish 80:80
	net_user_refused '--net user: net0: publish 80: must be [ADDRESS:]HOSTPORT:GUESTPORT[/udp]' \
		--net user --publish 80
	net_user_refused '--net user: net0: publish 0:80: must be' --net user,publish=0:80
	net_user_refused '--net user: net0: publish [::1:80:80: must be' --net 'user,publish=[::1:80:80'
	net_user_refused "--net user: net0: publish 81:80/udp: the guest's port 80 is published for" \
		--net user,publish=80:80/udp,publish=81:80/udp
	net_user_refused '--net user: net0: allow deb.debian.org:http: must be' \
		--net user,allow=deb.debian.org:http
	net_user_refused '--net user: net0: allow 10.1.0.0/8: the address has bits beyond its prefix' \
		--net user,allow=10.1.0.0/8
	net_user_refused '--net: user,restrict,allow=10.0.0.0/8: restrict: leaves nothing to do for' \
		--net user,restrict,allow=10.0.0.0/8
	net_user_refused '--net: user,host=yes: host yes: must be' --net user,host=yes
	net_user_refused '--net: user,mtu=576: mtu 576: must be 1280 to 65520 in user mode' \
		--net user,mtu=576
	net_user_refused '--net: user,queues=2: queues: is a key of tap, bridge only' --net user,queues=2
	start p net-user --net user,publish=9001:7/udp,publish=9001:7
	net_user_in_use 9001 --publish 9001:80
	net_user_in_use 9001/udp --publish 9001:80/udp
	kill -9 "$(helper_of "$pid")"
	ends 0
}
