# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154
# What is wrong on a wire, and much of it.

test_net_requests() {
	local transport
	needs_taps
	tap t0
	for transport in pci mmio; do
		start "r$transport" net-requests --net "tap,name=t0,mac=$mac" --transport "$transport"
		timeout 60 "$suite/net-watch" t0 "$mac" 33 60 1514 9014 40000 65535 ||
			fail "what gets out on $transport"
		await SUCCESS
		ends 0
	done
	no_interface_left t0
}

# Whoever does not listen costs nothing, and gets what was queued once it does.
test_net_flood() {
	local spent
	needs_taps
	tap t0
	start deaf net-deaf --net "tap,name=t0,mac=$mac"
	"$suite/net-flood" t0 "$mac" 0.2
	await FULL
	"$suite/net-flood" t0 "$mac" 2 "$pid" | tee flood
	spent=$(sed -n 's/^cpu //p' flood)
	[ "$spent" -lt 20000 ] || fail "a flood of 2 s costs $spent us"
	kvick power-button deaf
	status_is 0
	until ! kill -0 "$pid" 2>/dev/null; do
		timeout 60 "$suite/net-peer" t0 "$mac" 0 || break
	done
	await 'frames: '
	ends 0
	no_interface_left t0
}

test_net_queues() {
	local pairs few
	needs_taps
	for pairs in 2 3 8; do
		tap t0 multi_queue
		for few in '' few; do
			start "q$pairs$few" net-queues --net "tap,name=t0,mac=$mac,queues=$pairs" --append "$few"
			timeout 60 "$suite/net-flows" t0 "$mac" 400 || fail "flows over $pairs pairs $few"
			await 'pairs:'
			ends 0
			check_spread "$pairs" "$few" "$(tail -n 1 console)"
		done
		no_interface_left t0
	done
}

# Frames came on all pairs in use, and on no other.
check_spread() {
	echo "$3" | tr -d '\r' | awk -v n="$1" -v few="$2" '{
		used = few ? int(n / 2) : n
		for (i = 1; i <= n; i++)
			if (($(i + 1) > 0) != (i <= used))
				exit 1
	}' || fail "of $1 pairs $2: $3"
}

test_net_resets() {
	local transport
	needs_taps
	tap t0
	for transport in pci mmio; do
		start "s$transport" net-resets --net "tap,name=t0,mac=$mac" --transport "$transport"
		timeout 60 "$suite/net-flood" t0 "$mac" 50 "$pid"
		await 'frames: '
		ends 0
	done
	no_interface_left t0
}

# 16 machines of four NICs each on one bridge, which isolates its ports from then on.
test_net_crowd() {
	local vm nic i nics pids=()
	needs_taps
	ip link add br0 type bridge
	ip link set br0 up
	for ((i = 0; i < 64; i++)); do
		echo "tuntap add dev t$i mode tap"
		echo "link set t$i master br0 up"
	done | ip -batch - || fail 'no taps on a bridge'
	for ((vm = 0; vm < 16; vm++)); do
		nics=()
		for ((nic = 0; nic < 4; nic++)); do
			i=$((4 * vm + nic))
			nics+=(--net "tap,name=t$i,mac=$(printf '02:00:00:00:00:%02x' $i)")
		done
		start "c$vm" net-crowd "${nics[@]}"
		pids+=("$pid")
	done
	timeout 100 "$suite/net-crowd" br0 64 all || fail 'not all have heard all'
	seq -f 'link set dev t%g isolated on' 0 63 | bridge -batch - || fail 'no isolation'
	timeout 100 "$suite/net-crowd" br0 64 none || fail 'some have heard others'
	for pid in "${pids[@]}"; do
		ends 0
	done
	# shellcheck disable=SC2046
	no_interface_left br0 $(seq -f t%g 0 63)
}
