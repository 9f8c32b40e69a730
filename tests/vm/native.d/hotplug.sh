# SPDX-License-Identifier: MIT
# Disks that come and go under a guest that uses them, through the program and its filters.
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

# Each is said in words, and leaves no lock.
test_hotplug_refused() {
	truncate -s 1M image other
	start vm hotplug --transport pci --disk path=image,id=first
	refused_beside 'vm: disk first: there is one of that name' kvick attach-disk vm path=other,id=first
	refused_beside 'disk image: ' kvick attach-disk vm path=image
	refused_beside 'disk nowhere: No such file' kvick attach-disk vm path=nowhere
	refused_beside 'vm: disk other: addr 2: ' kvick attach-disk vm path=other,addr=2
	refused_beside 'vm: disk other: addr 3 is taken' kvick attach-disk vm path=other,addr=3
	refused_beside 'path=other,cache=x: cache x: ' kvick attach-disk vm path=other,cache=x
	refused_beside 'root: is for a disk' kvick attach-disk vm path=other,root=0
	refused_beside 'which VM and which disk?' kvick attach-disk vm
	refused_beside 'vm: it has no disk other' kvick detach vm other
	kvick attach-disk vm path=other,addr=0xa
	status_is 0
	await used
	kvick detach vm first
	status_is 0
	await ejected
	kvick power-button vm
	ends 0
	start again hotplug --transport mmio --disk path=image
	refused_beside 'again: disk other: disks come and go only' kvick attach-disk again path=other
	refused_beside 'again: disk image: disks come and go only' kvick detach again image
	kvick power-button again
	ends 0
}

# A guest that does not listen keeps its disk; the second who asks is the one that is told.
test_hotplug_deaf() {
	truncate -s 1M image
	start vm hotplug --transport pci --append deaf
	kvick attach-disk vm path=image
	status_is 0
	refused_beside 'vm: disk image: the guest has not let go of it in 0.2 s' kvick detach --timeout 0.2 vm image
	"$build/kvick" detach vm image >out-first 2>err-first &
	local first=$!
	until kvick status vm && grep -q '"detaching": true' out; do :; done
	refused_beside 'vm: disk image: the guest has not let go' kvick detach --timeout 0.2 vm image
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
