# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154
# Disks under bare-metal guests: what is written is read, whatever happens in between.
#
# KVICK_TEST_LONG=1 does ten times as much; KVICK_SEED repeats what a line "seed=N" has told.

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
	succeeds disk-config --transport mmio --disk path=disk,cache=unsafe
	succeeds disk-config --disk path=disk,cache=unsafe --transport pci
}

test_disk_ring_wrap() {
	image 1M
	succeeds disk-ring-wrap --transport mmio --disk path=disk
	succeeds disk-ring-wrap --disk path=disk --transport pci
}

# --- at random -----------------------------------------------------------------------------------

# at_random REQUESTS TRANSPORT QUEUES KEYS [WORD]: and what the guest has at the end is what the host has.
at_random() {
	local seed=${KVICK_SEED:-$((RANDOM << 15 | RANDOM))}
	image 16M
	boot disk-random --timeout 600 --transport "$2" --disk "path=disk,queues=$3,$4" \
		--append "seed=$seed requests=$1 queues=$3 ${5:-}" </dev/null
	status_is 0
	says SUCCESS
	says "crc32 $(crc32_of disk)"
	nothing_left
}

crc32_of() {
	python3 -c 'import sys, zlib; print(zlib.crc32(open(sys.argv[1], "rb").read()))' "$1"
}

# What a request costs the host differs by two orders of magnitude, with it their number.
test_disk_random() {
	local more=${KVICK_TEST_LONG:+0}
	at_random "40000$more" mmio 1 cache=writeback
	at_random "50000$more" pci 4 cache=writeback events
	at_random "90000$more" mmio 4 cache=unsafe events
	at_random "20000$more" pci 1 cache=none
	at_random "1000$more" mmio 4 cache=writethrough events
}

# --- killed --------------------------------------------------------------------------------------

test_disk_kill() {
	local more=${KVICK_TEST_LONG:+0}
	image 8M
	"$suite/disk-kill" "50$more" disk "$build/kvick" boot "${base[@]}" \
		--kernel "$guests/disk-kill" >out 2>err || fail "$(tail -n 1 err)"
	cat out
	kvick ps
	nothing_left
	# Nobody has it any more.
	succeeds hello --append greeting --disk path=disk
}

# A device is opened for itself alone, and is free for the next when its VM has ended.
test_disk_device_again() {
	local device n engine
	truncate -s 4M image
	device=$(losetup --find --show image) || skip 'host: no loop device'
	for engine in io_uring sync; do
		for n in 1 2 3 4; do
			boot hello --append greeting --disk "path=$device" --disk-engine "$engine" </dev/null
			[ "$status" = 0 ] || break 2
		done
	done
	losetup -d "$device"
	[ "$status" = 0 ] || fail "$engine: the device is taken at turn $n: $(cat err)"
}
