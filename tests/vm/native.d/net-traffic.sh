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
