# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154
# NICs on taps, in a network namespace of the tests' own.

mac=02:00:00:00:00:01

# Where there can be no taps there is nothing to test.
needs_taps() {
	[ -n "$own_network" ] || skip 'no network namespace of its own'
	ip tuntap add dev probe mode tap 2>/dev/null || skip 'no taps on this host'
	ip link del probe
}

# tap NAME [OPTION]...: a tap that is up, over which the host says nothing by itself.
tap() {
	ip tuntap add dev "$1" mode tap "${@:2}" || fail "no tap $1"
	ip link set "$1" addrgenmode none up mtu 9000
}

# no_interface_left [NAME]...: deletes those that the test has made; there is no other.
no_interface_left() {
	local left name
	for name; do
		ip link del "$name" || fail "$name is gone"
	done
	left=$(ip -o link | grep -v ' lo:')
	[ -z "$left" ] || fail "left: $left"
}

test_net_echo() {
	local how transport
	needs_taps
	tap t0
	for how in '' plain filter; do
		for transport in pci mmio; do
			start "e$how$transport" net-echo --net "tap,name=t0,mac=$mac" \
				--append "$how" --transport "$transport"
			timeout 60 "$suite/net-peer" t0 "$mac" 200 60 61 1514 1515 ||
				fail "echo $how $transport"
			await 'frames: 800'
			ends 0
		done
	done
	start big net-echo --net "tap,name=t0,mac=$mac,queues=1"
	timeout 60 "$suite/net-peer" t0 "$mac" 200 9014 4000 || fail 'echo of large frames'
	ends 0
	no_interface_left t0
}

test_net_own_tap() {
	local name
	needs_taps
	start o net-echo --net "tap,mac=$mac"
	name=$(ip -o link | sed -n 's/^[0-9]*: \(kvt[0-9]*\):.*/\1/p')
	[ -n "$name" ] || fail 'no tap of its own'
	[ "$(cat "/proc/sys/net/ipv6/conf/$name/accept_ra")" = 0 ] || fail 'the host takes the guest for a router'
	timeout 60 "$suite/net-peer" "$name" "$mac" 10 100 || fail "echo on $name"
	ends 0
	no_interface_left
}

test_net_link() {
	needs_taps
	tap t0
	tap t1
	start vm net-echo --net "tap,name=t0,mac=$mac,link=down" --net tap,name=t1,id=second \
		--append link
	await 'link down'
	refused_beside 'vm: which NIC? it has 2' kvick link vm up
	refused_beside 'vm: it has no NIC net1' kvick link vm net1 up
	refused_beside 'vm: link: state maybe: must be one of' kvick link vm net0 maybe
	kvick link vm net0 up
	status_is 0
	await 'link up'
	timeout 60 "$suite/net-peer" --stay t0 "$mac" 10 100 || fail 'no echo'
	kvick status vm
	says '"link": "up"'
	kvick link vm net0 down
	await 'link down'
	kvick status vm
	says '"link": "down"'
	kvick link vm net0 up
	await 'link up'
	timeout 60 "$suite/net-peer" t0 "$mac" 10 100 || fail 'no echo once it is up again'
	await 'frames: 20'
	ends 0
	no_interface_left t0 t1
}

# What status and stats say of a NIC agrees with what was sent.
test_net_counters() {
	needs_taps
	tap t0
	start vm net-echo --net "tap,name=t0,mac=$mac,queues=1" --stats stats --append filter
	timeout 60 "$suite/net-peer" --stay t0 "$mac" 100 500 || fail 'no echo'
	timeout 60 "$suite/net-peer" t0 02:00:00:00:00:77 0 || fail 'nothing for another'
	for _ in $(seq 100); do
		kvick stats vm
		! grep -q '"filtered": 1' out || break
	done
	kvick status vm
	"$suite/nic-says" id net0 kind tap tap t0 mac "$mac" mtu 9000 queues 1 link up \
		address 'pci 00:03.0' tx.packets 100 tx.bytes 50000 rx.bytes 50000 \
		drops.bad 0 drops.filtered 1 <out || fail "$(cat out)"
	timeout 60 "$suite/net-peer" t0 "$mac" 0 || fail 'no end'
	ends 0
	grep -q '"tx":{"packets":100,' stats || fail 'no word of it in --stats'
	no_interface_left t0
}

# The VM goes on, and says so once.
test_net_tap_deleted() {
	needs_taps
	tap t0
	start vm net-echo --net "tap,name=t0,mac=$mac" --append link
	ip link del t0
	await 'link down'
	kvick status vm
	says '"link": "lost"'
	refused_beside 'vm: NIC net0: there is nothing at its other end any more' kvick link vm up
	kvick pause vm
	kvick resume vm
	[ "$(grep -c 'network: net0: tap t0 has gone; its link is down' err-vm)" = 1 ] ||
		fail 'not one event'
	kvick kill vm
	ends 137
	no_interface_left
}

test_net_helper_killed() {
	local helper
	[ -n "$own_network" ] || skip 'no network namespace of its own'
	start vm net-echo --net user,id=wan --append link
	helper=$(pgrep -P "$pid") || fail 'no helper'
	kill -9 "$helper"
	await 'link down'
	kvick status vm
	"$suite/nic-says" id wan kind user tap '' link lost mtu 65520 <out || fail "$(cat out)"
	says 'network: wan: kvick-slirp ended by signal 9; its link is down'
	kvick kill vm
	ends 137
}

# 200 frames at 100 a second take 2 s but for the burst; without a limit they do not wait.
test_net_limits() {
	local begin
	needs_taps
	tap t0
	start vm net-echo --net "tap,name=t0,mac=$mac,tx-pps=100"
	begin=$EPOCHREALTIME
	timeout 60 "$suite/net-peer" --stay t0 "$mac" 200 100 || fail 'no echo'
	awk "BEGIN { exit !($EPOCHREALTIME - $begin > 1.8) }" || fail 'too fast'
	kvick limit-nic vm net0 tx-pps=0 rx-bw=20K rx-bw-burst=1K
	status_is 0
	says '"rx-bw": 20480'
	begin=$EPOCHREALTIME
	timeout 60 "$suite/net-peer" --stay t0 "$mac" 40 1000 || fail 'no echo'
	awk "BEGIN { exit !($EPOCHREALTIME - $begin > 1.8) }" || fail 'too fast'
	refused_beside 'vm: limit-nic: tx-pps-burst: needs tx-pps' kvick limit-nic vm net0 tx-pps-burst=1
	kvick limit-nic vm net0 rx-bw=0
	kvick status vm
	"$suite/nic-says" limits.tx-pps 0 limits.rx-bw 0 limits.rx-bw-burst 0 tx.packets 240 drops.refused 0 \
		<out || fail "$(cat out)"
	timeout 60 "$suite/net-peer" t0 "$mac" 200 100 || fail 'no echo'
	ends 0
	no_interface_left t0
}

# What tcpdump reads is what was sent.
test_net_pcap() {
	needs_taps
	command -v tcpdump >/dev/null || skip 'no tcpdump'
	tap t0
	start vm net-echo --net "tap,name=t0,mac=$mac,pcap=frames"
	timeout 60 "$suite/net-peer" t0 "$mac" 20 100 1400 || fail 'no echo'
	ends 0
	[ "$(tcpdump -nr frames 2>tcpdump-err | grep -c '^[0-9]')" = 81 ] || fail "$(cat tcpdump-err)"
	grep -q 'link-type EN10MB (Ethernet), snapshot length 262144' tcpdump-err || fail "$(cat tcpdump-err)"
	[ "$(tcpdump -nr frames "ether src $mac and len = 1400" 2>/dev/null | grep -c '^[0-9]')" = 20 ] ||
		fail 'not each echo of 1400 bytes'
	[ "$(stat -c '%a %s' frames)" = "600 $((24 + 81 * 16 + 40 * 1500 + 60))" ] ||
		fail "$(stat -c '%a %s' frames)"
	net_refused '--net tap: net0: pcap /nowhere/x: No such file' tap,name=t0,pcap=/nowhere/x
	net_refused '--net tap: net0: pcap /dev/full: No space left' tap,name=t0,pcap=/dev/full
	no_interface_left t0
}

net_refused() {
	refused "$1" boot net-echo --net "$2"
}

test_net_bad_input() {
	needs_taps
	ip link add v0 type veth peer v1
	ip tuntap add dev t1 mode tap
	net_refused '--net: tup: a NIC of kind "tup"' tup
	net_refused '--net: tap,nmae=x: unknown key "nmae"' tap,nmae=x
	net_refused '--net: none,name=x: none: has no keys' none,name=x
	net_refused '--net tap: net0: tap t9: there is no such interface' tap,name=t9
	net_refused '--net tap: net0: tap v0: it is an interface, but no tap' tap,name=v0
	net_refused '--net tap: net0: vhost=on: it keeps to no limits' tap,vhost=on,rx-pps=9
	net_refused '--net tap: net0: vhost=on: pcap= would not see them' tap,vhost=on,pcap=frames
	refused '--net tap: net0: vhost=on: it takes --transport pci' boot net-echo --transport mmio --net tap,vhost=on
	[ -e /dev/vhost-net ] || net_refused '--net tap: net0: vhost=on: /dev/vhost-net: this host has none; modprobe vhost_net' tap,vhost=on
	net_refused '--net tap: net0: tap t1: it is no tap, or one queue is all it has' \
		tap,name=t1,queues=2
	net_refused '--net: tap,name=0123456789abcdef: name 0123456789abcdef: an interface' \
		tap,name=0123456789abcdef
	net_refused '--net tap: net0: fd 2: must be a descriptor' tap,fd=2
	net_refused '--net tap: net0: fd tap3: must be a descriptor' tap,fd=tap3
	net_refused '--net tap: net0: fd 99: no such descriptor is open' tap,fd=99
	net_refused '--net tap: net0: fd 3: it is no tap' tap,fd=3 3</dev/null
	net_refused '--net: tap,ip=10.0.0.2: ip 10.0.0.2: must be an address and' tap,ip=10.0.0.2
	net_refused '--net tap: net0: ip: only a guest that kvick run starts' tap,name=t1,ip=10.0.0.2/24
	start u net-echo --net "tap,name=t1,mac=$mac"
	boot net-echo --net tap,name=t1
	status_is 125
	says 'kvick: --net tap: net0: tap t1: another process uses it'
	ip link set t1 up
	timeout 60 "$suite/net-peer" t1 "$mac" 0 || fail 'no end'
	ends 0
	no_interface_left v0 t1
}
