# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034,SC2154
# Another image for a disk that a guest uses.

# writing OPTION...: a guest of VM "vm" that goes on writing at random to its disk until it is told
# to end, and then looks at all of it. Its process is $pid.
writing() {
	image 16M
	mkfifo input output
	"$build/kvick" boot "${base[@]}" --name vm --kernel "$guests/disk-random" "$@" \
		--append "seed=${KVICK_SEED:-$RANDOM} requests=1000 queues=1 until-told" \
		<input >output 2>err-vm &
	pid=$!
	exec {input}>input {console}<output
	await READY
}

# finds_all IMAGE FORMAT: the guest ends, has found what it wrote, and that is what the image has.
finds_all() {
	printf x >&"$input"
	await crc32
	exec {input}>&- {console}<&-
	ends 0
	[[ $(tail -n 1 console) == *"crc32 $(crc32_as_raw "$1" "$2")"* ]] || fail "$1 has not what the guest wrote"
	rm -f input output console
}

crc32_as_raw() {
	qemu-img convert -f "$2" -O raw "$1" as-raw
	crc32_of as-raw
}

test_disk_mirror_switch() {
	local format
	for format in raw qcow2; do
		rm -f copy
		writing --disk path=disk
		asked mirror-disk --switch vm disk "path=copy,format=$format"
		[ "$(disk_status vm path)" = copy ] || fail 'status has the old path'
		[ "$(disk_status vm format)" = "$format" ] || fail 'status has the old format'
		finds_all copy "$format"
		[ "$format" = raw ] || qemu-img check -q copy || fail "qemu-img check: $?"
		succeeds hello --append greeting --disk path=disk --disk path=copy
	done
}

# Whatever the guest has written when it is paused is in the copy.
test_disk_mirror() {
	writing --disk path=disk
	asked pause vm
	asked mirror-disk vm disk path=copy
	cmp disk copy || fail 'the copy is another'
	asked resume vm
	asked mirror-disk vm disk path=second,format=qcow2
	qemu-img check -q second || fail "qemu-img check: $?"
	finds_all disk raw
}

# Interrupted sooner or later: either it is done, or there is no file of it and all is as before.
test_disk_mirror_interrupted() {
	local n
	writing --disk path=disk
	for n in {1..12}; do
		rm -f copy
		status=0
		timeout -s INT "0.00$n" "$build/kvick" mirror-disk vm disk path=copy >out 2>err || status=$?
		case $status in
		0) [ -s copy ] || fail 'done, and no copy' ;;
		*) [ ! -e copy ] || [ "$status" = 124 ] || fail "status $status, and a copy is left" ;;
		esac
	done
	rm -f copy
	asked mirror-disk --switch vm disk path=copy
	finds_all copy raw
}

# Where the VM may have taken an image over, nobody removes it. The one who asks is held up until the
# VM has copied all, and the VM until the other has told it to switch.
test_disk_mirror_unsure() {
	local asks
	image 1G
	start vm disk-change --append rate --disk path=disk
	env --default-signal=INT "$build/kvick" mirror-disk --switch vm disk path=copy >out 2>err &
	asks=$!
	soon [ -e copy ]
	kill -STOP "$asks"
	soon has_copied
	kill -STOP "$pid"
	kill -CONT "$asks"
	sleep 0.5
	kill -INT "$asks"
	soon has_ended "$asks" || kill -KILL "$asks"
	! wait "$asks" || fail 'the client has not been interrupted'
	says 'whether the VM has taken over the other image is not known'
	kill -CONT "$pid"
	[ -e copy ] || fail 'the copy is gone'
	soon is_path copy
	asked kill vm
	wait
}

# The job's chunks are what the VM allocates storage for, or takes it away, until all are copied.
has_copied() {
	local before
	before=$(stat -c %z copy)
	sleep 1
	[ "$before" = "$(stat -c %z copy)" ]
}

has_ended() {
	[[ $(<"/proc/$1/stat") == *') Z '* ]]
}

is_path() {
	[ "$(disk_status vm path)" = "$1" ]
}

# stops_when NAME: stops the VM as soon as there is that file.
stops_when() {
	python3 -c 'import os, signal, sys
signal.alarm(60)
while not os.path.exists(sys.argv[1]):
    pass
os.kill(int(sys.argv[2]), signal.SIGSTOP)' "$1" "$pid"
}

# The VM has the question, and answers too late. Where it is not stopped in time, once more.
test_disk_snapshot_unsure() {
	local n
	writing --disk path=disk
	for n in {1..20}; do
		stops_when "over$n" &
		sleep 0.5
		kvick snapshot-disk vm disk "over$n"
		wait "$!"
		kill -CONT "$pid"
		[ "$status" = 0 ] || break
	done
	status_is 125
	says 'whether the VM has taken over the other image is not known'
	[ -e "over$n" ] || fail 'the overlay is gone'
	soon is_path "$PWD/over$n"
	finds_all "over$n" qcow2
}

# What was made would not be opened again.
test_disk_snapshot_depth() {
	local n
	image 1M
	qemu-img create -q -f qcow2 -b disk -F raw 2
	for n in {3..63}; do
		qemu-img create -q -u -f qcow2 -b $((n - 1)) -F qcow2 "$n" 1M
	done
	start vm disk-change --append rate --disk path=63,backing=on
	asked snapshot-disk vm 63 64
	refused_by "vm: disk 63: $PWD/64 is a chain of 64 images" snapshot-disk vm 63 65
	[ ! -e 65 ] || fail 'an image is left'
	asked kill vm
	wait
}

test_disk_mirror_refused() {
	writing --disk path=disk
	echo >small
	refused_by 'image small: is there already' mirror-disk vm disk path=small
	[ "$(stat -c %s small)" = 1 ] || fail 'a file that was there has been changed'
	refused_by 'vm: it has no disk nope' mirror-disk vm nope path=copy
	refused_by 'to which image?' mirror-disk vm disk
	refused_by 'copy: overlay, ro, partition and root are nothing for an image' mirror-disk vm disk path=copy,ro
	refused_by 'vm: disk disk: in which new file?' snapshot-disk vm disk
	refused_by 'vm: disk disk: image small: is there already' snapshot-disk vm disk small
	[ ! -e copy ] || fail 'a copy is left'
	mv disk other
	qemu-img create -q -f qcow2 -b other -F raw disk
	refused_by 'vm: disk disk: disk is not the file any more that the VM has open' snapshot-disk vm disk over
	refused_by 'disk is not the file any more that the VM has open' commit-disk vm disk
	mv other disk
	finds_all disk raw
	writing --disk path=disk,overlay=memory
	refused_by 'vm: disk disk: it has an overlay, memory, and can only be mirrored' snapshot-disk vm disk over
	[ ! -e over ] || fail 'an overlay is left'
	asked kill vm
	exec {input}>&-
	ends 137
}

# The old image stays as it is, and both together have what the guest wrote.
test_disk_snapshot() {
	local before
	writing --disk path=disk
	asked snapshot-disk vm disk first.qcow2
	before=$(crc32_of disk)
	asked snapshot-disk vm disk second.qcow2
	[ "$(disk_status vm path)" = "$PWD/second.qcow2" ] || fail 'status has the old path'
	finds_all second.qcow2 qcow2
	[ "$(crc32_of disk)" = "$before" ] || fail 'the old image has changed'
	qemu-img check -q first.qcow2 || fail "first: qemu-img check: $?"
	qemu-img check -q second.qcow2 || fail "second: qemu-img check: $?"
	succeeds hello --append greeting --disk path=disk
}

# What two overlays have comes to the image, one after the other, while the guest writes.
test_disk_commit() {
	local format
	for format in raw qcow2; do
		rm -f -- *.qcow2 base
		writing --disk path=disk
		[ "$format" = raw ] || asked mirror-disk --switch vm disk "path=base,format=$format"
		asked snapshot-disk vm disk first.qcow2
		asked snapshot-disk vm disk second.qcow2
		asked commit-disk vm disk
		[ "$(disk_status vm path)" = "$PWD/first.qcow2" ] || fail 'status has another path'
		asked commit-disk vm disk
		[ "$(disk_status vm format)" = "$format" ] || fail 'status has another format'
		kvick commit-disk vm disk
		status_is 125
		says 'no backing file'
		finds_all "$([ "$format" = raw ] && echo disk || echo base)" "$format"
	done
	qemu-img check -q base || fail "qemu-img check: $?"
	succeeds hello --append greeting --disk path=disk --disk path=base
}

# What the first one had in memory, when the file could not become larger, the second one knows of.
test_disk_commit_again() {
	qemu-img create -q -f qcow2 -o cluster_size=512 base 64M
	qemu-img create -q -f qcow2 -b base -F qcow2 over
	qemu-io -c 'write -q -P 9 0 40M' over
	trap '' XFSZ
	start vm disk-change --append rate --disk path=over,backing=on
	prlimit --pid "$pid" --fsize=10485760:
	refused_by 'File too large' commit-disk vm over
	refused_by "vm: disk $PWD/base: what was written cannot be made durable" commit-disk vm over
	prlimit --pid "$pid" --fsize=unlimited:
	asked commit-disk vm over
	asked kill vm
	wait
	qemu-img check -q base || fail "qemu-img check: $?"
	qemu-img compare -q base over || fail 'the backing file is another'
}

# The overlay of such a disk does not stand on what its image's backing file is.
test_disk_commit_overlay() {
	image 16M
	qemu-img create -q -f qcow2 -b disk -F raw middle
	qemu-io -c 'write -q -P 9 0 16M' middle
	start vm disk-change --append rate --disk path=middle,backing=on,overlay=over
	refused_by 'vm: disk middle: it has an overlay, over, and can only be mirrored' commit-disk vm middle
	asked mirror-disk vm middle path=copy
	cmp <(head -c 1M copy) <(head -c 1M /dev/zero | tr '\0' '\11') || fail 'the copy is another'
	asked mirror-disk --switch vm middle path=alone,format=qcow2
	[ "$(disk_status vm overlay)" = none ] || fail 'status has the old overlay'
	asked snapshot-disk vm middle top
	asked commit-disk vm middle
	[ "$(disk_status vm path)" = "$PWD/alone" ] || fail 'status has another path'
	asked kill vm
	wait
}

kvick_does() {
	kvick "$@"
	[ "$status" = 0 ]
}

# A backing file that another reads too is not written to.
test_disk_commit_refused() {
	writing --disk path=disk
	asked snapshot-disk vm disk over
	qemu-img create -q -f qcow2 -b disk -F raw other
	start second disk-change --append rate --disk path=other,backing=on
	refused_by 'vm: disk disk: another uses it' commit-disk vm disk
	asked kill second
	cp disk another
	mv disk old
	mv another disk
	refused_by "$PWD/disk is not the file any more that the VM has open" commit-disk vm disk
	mv old disk
	soon kvick_does commit-disk vm disk
	printf x >&"$input"
	exec {input}>&-
	wait
}
