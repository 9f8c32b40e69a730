# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154
# Disks under bare-metal guests: what is written is read, whatever happens in between.
#
# KVICK_TEST_LONG=1 does ten times as much.

# image SIZE: a new one.
image() {
	rm -f disk
	truncate -s "$1" disk
}

test_disk_requests() {
	local transport
	for transport in mmio pci; do
		image 2M
		succeeds disk-requests --transport "$transport" --append "${KVICK_TEST_LONG:+pieces}" \
			--disk path=disk,serial=serial-of-the-disk,cache=unsafe
		cp disk before
		succeeds disk-requests --transport "$transport" --append ro \
			--disk path=disk,serial=serial-of-the-disk,ro
		cmp disk before || fail 'a disk that is read-only was written'
	done
	image 2M
	succeeds disk-requests --disk path=disk,serial=serial-of-the-disk,cache=none
	image 2M
	succeeds disk-requests --disk path=disk,serial=serial-of-the-disk,overlay=memory
	cmp -n 2097152 disk /dev/zero || fail 'a disk with an overlay was written'
}

test_disk_config() {
	image 1M
	succeeds disk-config --disk path=disk,cache=unsafe
	succeeds disk-config --disk path=disk,cache=unsafe --transport pci
}

test_disk_ring_wrap() {
	image 1M
	succeeds disk-ring-wrap --disk path=disk
	succeeds disk-ring-wrap --disk path=disk --transport pci
}
