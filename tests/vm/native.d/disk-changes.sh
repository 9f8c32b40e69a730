# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154
# Disks that change under a guest, by command or by what befalls the host.

# change NAME WORDS KEYS OPTION...: starts the guest that looks at a disk, NAME being the VM's too.
change() {
	local name=$1 words=$2 keys=$3
	shift 3
	start "$name" disk-change --append "$words" --disk "$keys" "$@"
}

# asked WORD...: a command that does what it is asked to.
asked() {
	kvick "$@"
	status_is 0
}

# disk_status NAME MEMBER: of its first disk.
disk_status() {
	"$build/kvick" status "$1" | python3 -c "import json, sys; print(json.load(sys.stdin)['disks'][0]['$2'])"
}

test_disk_resize() {
	local transport
	for transport in mmio pci; do
		rm -f disk
		truncate -s 1M disk
		change grow grow path=disk,id=data --transport "$transport"
		asked resize-disk grow data
		says '"size": 1048576'
		asked resize-disk grow data 2M
		says '"size": 2097152'
		await 'sectors: 4096'
		ends 0
		[ "$(stat -c %s disk)" = 2097152 ] || fail 'the file has another size'
	done
}

test_disk_resize_refused() {
	truncate -s 1M disk
	change vm rate path=disk
	refused_by "vm: it has no disk nope" resize-disk vm nope 2M
	refused_by "vm: disk disk: disk has 1048576 bytes: a disk does not become smaller" resize-disk vm disk 512K
	refused_by "vm: disk disk: 1048577 bytes are not whole sectors" resize-disk vm disk 1048577B
	refused_by "size 2X: must be a size" resize-disk vm disk 2X
	truncate -s 512K disk
	refused_by "vm: disk disk: has become smaller" resize-disk vm disk
	[ "$(disk_status vm size)" = 1048576 ] || fail 'the disk has become smaller'
	truncate -s 1M disk
	mv disk other
	truncate -s 1M disk
	refused_by "vm: disk disk: disk is not the file any more that the VM has open" resize-disk vm disk 2M
	[ "$(stat -c %s disk)" = 1048576 ] || fail 'a file that is none of the VM has grown'
	asked kill vm
	ends 137
	change vm rate path=other,overlay=memory
	refused_by "vm: disk other: with an overlay it stays" resize-disk vm other 2M
	refused_by "vm: disk other: with an overlay it stays" resize-disk vm other
	asked kill vm
	ends 137
}

# refused_by MESSAGE WORD...: by a VM that goes on.
refused_by() {
	local words=$1
	shift
	kvick "$@"
	status_is 125
	says "kvick: $words"
}

# Reads what a VM that is paused has told of rounds until then: the last is $round.
last_round() {
	local line
	while IFS= read -r -t 0.5 line <&"$console"; do
		round=${line#round }
	done
}

# Time is only ever looked at from below: a machine may be slow.
test_disk_limit() {
	local start end round=1
	truncate -s 1M disk
	change vm rate path=disk
	await 'round 1'
	asked pause vm
	last_round
	asked limit-disk vm disk iops=100 iops-burst=1
	says '"iops": 100'
	start=$EPOCHREALTIME
	asked resume vm
	await "round $((round + 3))"
	end=$EPOCHREALTIME
	awk "BEGIN { exit !($end - $start >= 0.9) }" || fail "100 requests and more in $start to $end"
	# With one a second no round would come in time.
	asked limit-disk vm disk iops=1
	asked limit-disk vm disk iops=0
	says '"iops-burst": 0'
	await round
	await round
	asked limit-disk vm disk bw=1M
	says '"bw": 1048576'
	refused_by 'vm: limit-disk: iops-burst: needs iops' limit-disk vm disk iops-burst=5
	refused_by 'vm: limit-disk: unknown field "speed"' limit-disk vm disk speed=5
	refused_by 'limit-disk: which ID?' limit-disk vm
	asked kill vm
	ends 137
}

# --- errors --------------------------------------------------------------------------------------

# As change, with a host that lets it write no file past 1 MiB, which may be lifted: room_for_all.
change_in_1m() {
	trap '' XFSZ
	ulimit -S -f 1024
	change "$@"
	ulimit -S -f unlimited
}

room_for_all() {
	prlimit --pid "$pid" --fsize=unlimited:
}

# The image does not fit where it is: the guest never knows.
test_disk_stop() {
	local transport engine
	for transport in mmio pci; do
		for engine in io_uring sync; do
			rm -f disk
			truncate -s 2M disk
			change_in_1m vm fill path=disk,id=data,on-error=stop --transport "$transport" \
				--disk-engine "$engine"
			stopped 'disk data: write of 65536 bytes at 1048576: File too large'
			# No room yet: it stops again.
			asked resume vm
			stopped 'disk data: write of 65536 bytes at 1048576: File too large'
			[ "$(disk_status vm held)" = 1 ] || fail 'nothing is held'
			room_for_all
			asked resume vm
			await 'errors: 0'
			ends 0
			says 'the VM is paused until kvick resume vm'
			nothing_left
		done
	done
}

# stopped PATTERN: waits until a disk has stopped the VM, and looks at what is said of it.
stopped() {
	local tries=200
	until "$build/kvick" status vm >out && grep -q '"why"' out; do
		[ $((tries--)) -gt 0 ] || fail 'it is not paused'
		sleep 0.05
	done
	grep -q "\"why\": \"$1\"" out || fail "$(grep why out)"
	says '"state": "paused"'
	asked ps
	says disk-error
}

# A guest that is reset meanwhile begins anew, and one that ends is gone.
test_disk_stop_and_reset() {
	truncate -s 2M disk
	change_in_1m vm fill path=disk,id=data,on-error=stop
	stopped 'disk data: write of 65536 bytes at 1048576: File too large'
	asked reset vm
	[ "$(disk_status vm held)" = 0 ] || fail 'a request is held that nobody waits for'
	"$build/kvick" status vm >out
	says_not '"why"'
	asked resume vm
	await READY
	stopped 'disk data: write of 65536 bytes at 1048576: File too large'
	asked kill vm
	ends 137
}

test_disk_report() {
	truncate -s 2M disk
	change_in_1m vm fill path=disk,id=data
	await 'first error: 2048'
	await 'errors: 16'
	ends 0
	says 'kvick: disk data: write of 65536 bytes at 1048576: File too large; the guest is told (error 1)'
}

test_disk_ignore() {
	truncate -s 4M disk
	change_in_1m vm 'fill lost' path=disk,id=data,on-error=ignore
	await 'errors: 0'
	ends 0
	says 'File too large; ignored (error 1)'
}

# What is read past the end of a file that was cut short is an error, in time and again.
test_disk_truncated() {
	local engine
	for engine in io_uring sync; do
		rm -f disk
		truncate -s 2M disk
		change vm read path=disk,id=data --disk-engine "$engine"
		[ "$(disk_status vm engine)" = "$engine" ] || fail 'another engine'
		[ "$(disk_status vm errors)" = 0 ] || fail 'errors before there can be any'
		truncate -s 1M disk
		await 'first error: '
		ends 0
		says 'kvick: disk data: read of 65536 bytes at '
		says ': I/O error; the guest is told (error 1)'
	done
	truncate -s 2M disk
	change vm read path=disk,id=data,on-error=stop
	truncate -s 1M disk
	stopped 'disk data: read of 65536 bytes at [0-9]*: I/O error'
	truncate -s 2M disk
	asked resume vm
	[ "$(disk_status vm size)" = 2097152 ] || fail 'another size'
	asked kill vm
	ends 137
}
