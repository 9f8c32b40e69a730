# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154
# VMs on bridges, in a network namespace of the tests' own. What kvick-net does by itself is in
# tests/net.

needs_bridges() {
	needs_taps
	ip link add probe type bridge 2>/dev/null || skip 'no bridges on this host'
	ip link del probe
	nft list tables >/dev/null 2>&1 || skip 'no nftables on this host'
}

nothing_on_the_host() {
	no_interface_left
	[ -z "$(nft list tables)" ] || fail "left: $(nft list tables)"
	[ "$(cat /proc/sys/net/ipv4/ip_forward)" = 0 ] || fail 'ip_forward is left at 1'
	! pgrep --ns $$ --nslist net --runstates RSDI 'kvick-net|dnsmasq' >left ||
		fail "left: process $(cat left)"
}

# guardian_of PID: the kvick-net of that VM.
guardian_of() {
	pgrep -P "$1" kvick-net || fail 'no guardian'
}

# echo_through BRIDGE MAC [COUNT]: frames to a guest by way of the bridge, which are to come back, and
# to a MAC that is not the bridge's.
echo_through() {
	ip link set "$1" promisc on
	timeout 60 "$suite/net-peer" "$1" "$2" "${3:-50}" 60 1514 || fail "echo through $1 to $2"
}

test_bridge_two_vms() {
	local first second mac2=02:00:00:00:00:02
	needs_bridges
	start one net-echo --net "bridge,mac=$mac,nat,dhcp,spoof-guard"
	first=$pid
	start two net-echo --net "bridge,mac=$mac2,isolate"
	second=$pid
	kvick net ls
	status_is 0
	says 'one/net0, two/net0'
	says '10.86.0.1/24'
	kvick net rm kvick0
	status_is 125
	says 'kvick: kvick0: 2 NICs are of VMs on it'
	echo_through kvick0 "$mac2" 0 # no more than: end
	pid=$second ends 0
	[ -e /proc/sys/net/ipv4/conf/kvick0 ] || fail 'the bridge is gone before its last VM'
	kill -9 "$first"
	pid=$first ends 137
	kvick ps # forgets it
	soon nothing_on_the_host
}

test_bridge_echo() {
	needs_bridges
	start e net-echo --net "bridge,mac=$mac,queues=2,br=br9"
	echo_through br9 "$mac"
	ends 0
	nothing_on_the_host
}

test_bridge_guardian_killed() {
	needs_bridges
	start g net-echo --net "bridge,mac=$mac,nat"
	kill -9 "$(guardian_of "$pid")"
	echo_through kvick0 "$mac"
	ends 0
	grep -q 'kvick: network: net0: kvick-net has ended' err-g || fail 'no word of it'
	[ -e /proc/sys/net/ipv4/conf/kvick0 ] || fail 'nothing was left to take away'
	start h net-echo --net "bridge,mac=$mac"
	echo_through kvick0 "$mac" 0
	ends 0
	nothing_on_the_host
}

test_bridge_both_killed() {
	needs_bridges
	start g net-echo --net "bridge,mac=$mac,nat,dhcp"
	kill -9 "$(guardian_of "$pid")" "$pid"
	ends 137
	start h net-echo --net "bridge,mac=$mac"
	kvick net ls
	says_not yes
	echo_through kvick0 "$mac" 0
	ends 0
	nothing_on_the_host
}

test_bridge_deleted() {
	needs_bridges
	start d net-echo --net "bridge,mac=$mac"
	ip link del kvick0
	for _ in {1..100}; do
		! grep -q 'kvick: network: net0: bridge kvick0 was deleted' err-d || break
		read -rt 0.05 <> <(:) || true
	done
	says 'kvick: network: net0: bridge kvick0 was deleted'
	kvick status d
	says running
	kvick kill d
	ends 137
	nothing_on_the_host
}

test_bridge_that_stays() {
	needs_bridges
	kvick net create --address 10.9.9.1/24 lan
	status_is 0
	start s net-echo --net "bridge,br=lan,mac=$mac"
	echo_through lan "$mac"
	ends 0
	kvick net ls --json
	says '"made-by": "kvick net create"'
	kvick net rm lan
	status_is 0
	nothing_on_the_host
}

test_bridge_bad_input() {
	needs_bridges
	ip link add v0 type veth peer v1
	net_refused '--net bridge: net0: v0: is no bridge' bridge,br=v0
	net_refused "--net bridge: net0: a-name-of-16-byte: a bridge's name has 1 to 15" \
		bridge,br=a-name-of-16-byte
	net_refused '--net bridge: net0: 10.0.0.1: must be an address and the length' \
		bridge,address=10.0.0.1
	net_refused '--net: bridge,nat=maybe: nat maybe: must be' bridge,nat=maybe
	net_refused '--net: tap,nat: nat: is a key of bridge only' tap,nat
	ip link del v0
	nothing_on_the_host
}

test_bridge_not_root() {
	needs_bridges
	! setpriv --bounding-set -net_admin --inh-caps -net_admin "$build/kvick" boot \
		"${base[@]}" --kernel "$guests/net-echo" --net bridge >out 2>err </dev/null || fail started
	says 'kvick: --net bridge: net0: a bridge needs CAP_NET_ADMIN: run as root, or use --net user'
	nothing_on_the_host
}
