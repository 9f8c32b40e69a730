# SPDX-License-Identifier: MIT
# Disks and NICs that come and go under a guest that uses them, through the program and its filters.
# shellcheck shell=bash disable=SC2154 # the variables are run-native's

# comes_and_goes CACHE: a hundred times, one image after the other.
comes_and_goes() {
	truncate -s 1M image-0 image-1 image-2
	start vm hotplug --transport pci
	for i in $(seq 100); do
		kvick attach-disk vm "path=image-$((i % 3)),id=disk,cache=$1"
		status_is 0
		await used
		kvick status vm
		says '"detaching": false'
		kvick detach vm disk
		status_is 0
		await ejected
	done
	kvick status vm
	says '"disks": []'
	[ "$(find "/proc/$pid/fd" -lname '*image-*' | wc -l)" = 0 ] || fail "an image is still open"
	kvick power-button vm
	await SUCCESS
	ends 0
}

test_hotplug() {
	comes_and_goes writeback
}

test_hotplug_direct() {
	comes_and_goes none
}

# unpack_left: the processes that decompress for these tests' VMs, whoever has started them.
unpack_left() {
	pgrep --ns $$ --nslist net --runstates RSDI kvick-unpack
}

no_unpack_left() {
	! unpack_left >left || fail "left: process $(cat left)"
}

# An image with what it names and an overlay, whose process goes with it.
test_hotplug_images() {
	local name names=(qcow2.img chain.img vmdk.img)
	for name in "${names[@]}"; do
		make_image "$name"
	done
	truncate -s 1M base
	start vm hotplug --transport pci
	for i in $(seq 24); do
		name=${names[i % 3]}
		kvick attach-disk vm "$(keys_of "$name"),id=disk"
		status_is 0
		await used
		kvick status vm
		says '"format": "'
		kvick detach vm disk
		status_is 0
		await ejected
		sound "$name" clean
		kvick attach-disk vm path=base,id=disk,overlay=over
		status_is 0
		await used
		kvick detach vm disk
		status_is 0
		await ejected
		sound over clean
	done
	[ "$(find "/proc/$pid/fd" -lname '*.img*' -o -lname '*/over' | wc -l)" = 0 ] || fail "an image is still open"
	soon no_unpack_left
	refused_beside 'disk chain.img: names other files' kvick attach-disk vm path=chain.img
	refused_beside 'vm: disk qcow2.img: has no partition table' kvick attach-disk vm path=qcow2.img,partition=1
	soon no_unpack_left
	# What it says while it is there is the VM's.
	"$build/kvick" attach-disk vm path=qcow2.img,id=disk 2>&1 </dev/null | timeout 20 cat ||
		fail 'its output is still open'
	await used
	kill -9 "$(unpack_left)"
	soon says 'disks: kvick-unpack has ended'
	kvick detach vm disk
	status_is 0
	await ejected
	kvick attach-disk vm path=qcow2.img,id=disk
	await used
	kvick kill vm
	ends 137
	soon no_unpack_left
	sound qcow2.img
}

# Each is said in words, and leaves no lock.
test_hotplug_refused() {
	truncate -s 1M image other
	start vm hotplug --transport pci --disk path=image,id=first
	refused_beside 'vm: disk first: there is a disk of that name' kvick attach-disk vm path=other,id=first
	refused_beside 'disk image: ' kvick attach-disk vm path=image
	refused_beside 'disk nowhere: No such file' kvick attach-disk vm path=nowhere
	refused_beside 'vm: disk other: addr 2: ' kvick attach-disk vm path=other,addr=2
	refused_beside 'vm: disk other: addr 3 is taken' kvick attach-disk vm path=other,addr=3
	refused_beside 'path=other,cache=x: cache x: ' kvick attach-disk vm path=other,cache=x
	refused_beside 'root: is for a disk' kvick attach-disk vm path=other,root=0
	refused_beside 'which VM and which device?' kvick attach-disk vm
	refused_beside 'vm: it has no disk or NIC other' kvick detach vm other
	kvick attach-disk vm path=other,addr=0xa
	status_is 0
	await used
	kvick detach vm first
	status_is 0
	await ejected
	kvick power-button vm
	ends 0
	start again hotplug --transport mmio --disk path=image
	refused_beside 'again: disk other: devices come and go only' kvick attach-disk again path=other
	refused_beside 'again: disk image: devices come and go only' kvick detach again image
	kvick power-button again
	ends 0
}

# A guest that does not listen keeps its disk; the second who asks is the one that is told.
test_hotplug_deaf() {
	truncate -s 1M image
	start vm hotplug --transport pci --append deaf
	kvick attach-disk vm path=image
	status_is 0
	refused_beside 'vm: image: the guest has not let go of it in 0.2 s' kvick detach --timeout 0.2 vm image
	"$build/kvick" detach vm image >out-first 2>err-first &
	local first=$!
	until kvick status vm && grep -q '"detaching": true' out; do :; done
	refused_beside 'vm: image: the guest has not let go' kvick detach --timeout 0.2 vm image
	wait "$first" && fail "the first who asks is told that the disk is gone"
	grep -q 'another has asked' err-first || fail "the first who asks is not told why"
	kvick reset vm
	status_is 0
	kvick status vm
	says '"disks": []'
	kvick kill vm
	ends 137
	boot hello --disk path=image </dev/null
	status_is 0
}

# nic_comes KEYS: another time a NIC is used, and sends one frame.
nic_comes() {
	kvick attach-nic vm "$1"
	status_is 0
	await used
	kvick status vm
	"$suite/nic-says" id net0 link up detaching False address 'pci 00:03.0' mtu "$2" tx.packets 1 \
		<out || fail "$(cat out)"
	kvick detach vm net0
	status_is 0
	await ejected
}

# On a tap that stays, and on one that goes with the NIC.
test_hotplug_nic() {
	local mac
	needs_taps
	tap t0
	start vm hotplug --transport pci
	for _ in $(seq 10); do
		nic_comes tap,name=t0 9000
		mac=$(sed -n 's/.*"mac": "\(.*\)",/\1/p' out)
	done
	nic_comes tap 1500
	[ "$(sed -n 's/.*"mac": "\(.*\)",/\1/p' out)" = "$mac" ] || fail 'another address'
	kvick status vm
	says '"nics": []'
	[ "$(find "/proc/$pid/fd" -lname /dev/net/tun | wc -l)" = 0 ] || fail 'a tap is still open'
	no_interface_left t0
	kvick power-button vm
	await SUCCESS
	ends 0
}

# The one kvick-slirp in these tests, of whoever it is.
slirp_left() {
	pgrep --ns $$ --nslist net --runstates RSDI kvick-slirp || fail "no kvick-slirp"
}

no_helper() {
	! pgrep --ns $$ --nslist net --runstates RSDI 'kvick-slirp' >left ||
		fail "left: process $(cat left)"
}

# What is at the NIC's other end is of the command that attaches it, which has ended, and goes with the
# NIC, with the VM, or by itself.
test_hotplug_nic_user() {
	needs_loopback
	start vm hotplug --transport pci
	refused_beside '--net user: net0: publish 80: must be' kvick attach-nic vm user,publish=80
	nic_comes user,publish=8080:80 65520
	nic_comes user 65520
	soon no_helper
	# Who reads to the end of what the command says is not kept by the process that stays.
	"$build/kvick" attach-nic vm user 2>&1 </dev/null | timeout 20 cat || fail 'its output is still open'
	await used
	kill -9 "$(slirp_left)"
	soon says 'network: net0: kvick-slirp ended; its link is down'
	kvick detach vm net0
	status_is 0
	await ejected
	kvick attach-nic vm user
	status_is 0
	await used
	kvick kill vm
	ends 137
	soon no_helper
}

test_hotplug_nic_bridge() {
	needs_bridges
	start vm hotplug --transport pci
	refused_beside 'bridge,nat=2: nat 2: must be' kvick attach-nic vm bridge,nat=2
	nic_comes bridge,nat,dhcp 1500
	soon nothing_on_the_host
	kvick attach-nic vm bridge,nat
	status_is 0
	says 'net.ipv4.ip_forward was 0 and is 1'
	await used
	kvick detach vm net0
	status_is 0
	await ejected
	soon nothing_on_the_host
	kvick attach-nic vm bridge
	status_is 0
	await used
	ip link del kvick0
	soon says 'network: net0: '
	kvick detach vm net0
	status_is 0
	await ejected
	soon nothing_on_the_host
	kvick attach-nic vm bridge,nat
	status_is 0
	await used
	kvick kill vm
	ends 137
	soon nothing_on_the_host
}

test_hotplug_nic_refused() {
	needs_taps
	tap t0
	truncate -s 1M image image2
	start vm hotplug --transport pci --disk path=image,id=first --net tap,name=t0
	refused_beside 'vm: NIC first: there is a disk of that name' kvick attach-nic vm tap,id=first
	refused_beside 'vm: NIC net0: there is a NIC of that name' kvick attach-nic vm tap,id=net0
	refused_beside 'vm: disk net0: there is a NIC of that name' kvick attach-disk vm path=image2,id=net0
	refused_beside '--net tap: net1: tap t0: another process uses it' kvick attach-nic vm tap,name=t0
	refused_beside '--net tap: net1: ip: only a guest that' kvick attach-nic vm tap,ip=10.0.0.2/24
	refused_beside 'vm: NIC net1: addr 4 is taken' kvick attach-nic vm tap,addr=4
	refused_beside 'none: there is nothing to attach' kvick attach-nic vm none
	kvick detach vm net0
	status_is 0
	await ejected
	kvick kill vm
	ends 137
	no_interface_left t0
}
