# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154
# Disks that are qcow2 and vmdk images, alone and in chains, under bare-metal guests; QEMU's tools say
# what is in them.
#
# KVICK_TEST_LONG=1 does ten times as much; KVICK_SEED repeats what a line "seed=N" has told.

# make_image NAME: a new one of 16 MiB of the kind that its name begins with. What is before the first
# point is a kind, chain is three images.
make_image() {
	rm -f "$1"*
	case ${1%%.*} in
	qcow2) qemu-img create -q -f qcow2 "$1" 16M ;;
	small) qemu-img create -q -f qcow2 -o cluster_size=4k,lazy_refcounts=on "$1" 16M ;;
	old) qemu-img create -q -f qcow2 -o compat=0.10 "$1" 16M ;;
	full) qemu-img create -q -f qcow2 -o preallocation=full "$1" 16M ;;
	vmdk) qemu-img create -q -f vmdk "$1" 16M ;;
	flat) qemu-img create -q -f vmdk -o subformat=monolithicFlat "$1" 16M ;;
	chain)
		truncate -s 16M "$1.0"
		qemu-img create -q -f qcow2 -b "$1.0" -F raw "$1.1"
		qemu-img create -q -f qcow2 -b "$1.1" -F qcow2 "$1"
		;;
	esac || fail "no image $1"
}

# keys_of NAME: what such an image needs.
keys_of() {
	case ${1%%.*} in
	chain | flat) echo "path=$1,backing=on" ;;
	*) echo "path=$1" ;;
	esac
}

# sound NAME: no more is wrong with it than clusters that nobody uses, or not even that, given a word.
sound() {
	local rc=0
	case $1 in flat*) return ;; esac
	qemu-img check "$1" >checked 2>&1 || rc=$?
	[ "$rc" = 0 ] || [ "$rc$#" = 31 ] || fail "$1: qemu-img check says $rc: $(tail -n 3 checked | tr '\n' ' ')"
}

# content NAME: the checksum of what is in it.
content() {
	qemu-img convert -O raw "$1" raw-content || fail "$1 cannot be read"
	crc32_of raw-content
	rm raw-content
}

test_image_requests() {
	local kind
	for kind in qcow2 chain vmdk; do
		make_image $kind.img
		succeeds disk-requests --disk "$(keys_of $kind.img),serial=serial-of-the-disk"
		sound $kind.img clean
		cp $kind.img before
		succeeds disk-requests --append ro --disk "$(keys_of $kind.img),serial=serial-of-the-disk,ro"
		cmp $kind.img before || fail 'a disk that is read-only was written'
	done
	make_image qcow2.img
	cp qcow2.img before
	succeeds disk-requests --disk path=qcow2.img,serial=serial-of-the-disk,overlay=memory
	succeeds disk-requests --disk path=qcow2.img,serial=serial-of-the-disk,overlay=.
	cmp qcow2.img before || fail 'a disk with an overlay was written'
}

# random_image REQUESTS NAME TRANSPORT QUEUES KEYS [OPTION...]
random_image() {
	local requests=$1 name=$2 seed=${KVICK_SEED:-$((RANDOM << 15 | RANDOM))} transport=$3 queues=$4 keys=$5
	shift 5
	make_image "$name"
	boot disk-random --timeout 600 --transport "$transport" --disk "$(keys_of "$name"),queues=$queues,$keys" \
		--append "seed=$seed requests=$requests queues=$queues events" "$@" </dev/null
	status_is 0
	says SUCCESS
	sound "$name" clean
	says "crc32 $(content "$name")"
	nothing_left
}

test_image_random() {
	local more=${KVICK_TEST_LONG:+0}
	random_image "6000$more" qcow2.img pci 4 cache=writeback
	random_image "3000$more" qcow2.img mmio 1 cache=none
	random_image "6000$more" qcow2.img mmio 4 cache=unsafe --disk-engine sync
	random_image "500$more" qcow2.img pci 1 cache=writethrough
	random_image "6000$more" small.img pci 4 cache=unsafe
	random_image "3000$more" old.img pci 4 cache=writeback
	random_image "6000$more" full.img pci 1 cache=writeback
	random_image "6000$more" chain.img pci 4 cache=writeback
	random_image "3000$more" chain.img mmio 1 cache=none
	random_image "6000$more" vmdk.img pci 4 cache=writeback
	random_image "3000$more" vmdk.img mmio 1 cache=none
	random_image "6000$more" flat.img mmio 4 cache=writeback
}

# --- what the image names ------------------------------------------------------------------------

test_image_trust() {
	make_image chain.img
	refused 'disk chain.img: names other files of this host' \
		boot hello --disk path=chain.img
	says 'backing=on'
	says '  chain.img (qcow2) is backed by chain.img.1'
	says '  chain.img.1 (qcow2) is backed by chain.img.0'
	make_image flat.img
	refused 'disk flat.img: names other files' boot hello --disk path=flat.img
	boot hello --disk path=chain.img,backing=on </dev/null
	status_is 0
	# Nobody writes to what is below while a guest reads it.
	start vm parked --disk path=chain.img,backing=on
	refused_beside "disk chain.img.0: is in use by kvick (pid $pid)" boot hello --disk path=chain.img.0
	kvick status vm
	says '"format": "qcow2"'
	kvick kill vm
	ends 137
	rm chain.img.0
	refused 'disk chain.img.0: No such file' boot hello --disk path=chain.img,backing=on
	# What is raw by the first sector is not what its owner says it is.
	truncate -s 1M disk
	refused 'disk disk: ' boot hello --disk path=disk,format=qcow2
	refused 'disk disk: ' boot hello --disk path=disk,format=vmdk
	make_image qcow2.img
	truncate -s 1M qcow2.img
	boot hello --disk path=qcow2.img,format=raw </dev/null
	status_is 0
}

test_image_refused() {
	make_image qcow2.img
	qemu-img create -q -f qed other 1M
	refused 'disk other: it is a qed image' boot hello --disk path=other
	refused 'disk qcow2.img: has no partition table' boot hello --disk path=qcow2.img,partition=1
	qemu-img create -q -f qcow2 --object secret,id=s,data=x -o encrypt.format=aes,encrypt.key-secret=s other 1M
	refused 'disk other: ' boot hello --disk path=other
	says encrypt
	start vm parked --disk path=qcow2.img,id=data
	refused_beside 'vm: disk data: qcow2.img is a qcow2 image, which stays as large' kvick resize-disk vm data 32M
	refused_beside 'vm: disk data: a qcow2 image stays as large' kvick resize-disk vm data
	kvick kill vm
	ends 137
	sound qcow2.img clean
}

# --- compressed clusters, which another process decompresses -------------------------------------

# compressed NAME OPTION...: an image whose clusters all are, of a disk with something in it.
compressed() {
	local name=$1
	shift
	python3 -c 'import random, sys
r = random.Random(1)
sys.stdout.buffer.write(b"".join(bytes([r.randrange(256)]) * r.randrange(1, 99) for _ in range(1 << 18))[:8 << 20])' >plain
	qemu-img convert -q -c "$@" plain "$name" || fail "no image $name"
}

# reads_as_plain DISK OPTION...
reads_as_plain() {
	local keys=$1
	shift
	boot disk-random --append 'as-it-is requests=0' --disk "path=$keys" "$@" </dev/null
	status_is 0
	says "crc32 $(crc32_of plain)"
}

test_image_compressed() {
	local name
	compressed zlib.img -O qcow2
	compressed zstd.img -O qcow2 -o compression_type=zstd,cluster_size=512k
	compressed stream.img -O vmdk -o subformat=streamOptimized
	for name in zlib zstd stream; do
		reads_as_plain "$name.img,ro"
		reads_as_plain "$name.img,ro" --disk-engine sync
	done
	refused 'disk stream.img: ' boot hello --disk path=stream.img
	# Written over, they are clusters like others.
	for name in zlib zstd; do
		boot disk-random --append 'as-it-is requests=3000 events' --disk path=$name.img </dev/null
		status_is 0
		says "crc32 $(content $name.img)"
		sound $name.img clean
	done
}

# helpers_of PID: its processes that decompress.
helpers_of() {
	pgrep -P "$1" kvick-unpack
}

no_helpers_of() {
	! helpers_of "$1"
}

# Its death is told, what is compressed cannot be read any more, and the VM goes on.
test_image_helper_dies() {
	compressed zlib.img -O qcow2
	start vm disk-change --append read --disk path=zlib.img,id=data
	kill -9 "$(helpers_of "$pid")"
	await 'first error: '
	says 'kvick: disks: kvick-unpack has ended: compressed data cannot be read any more'
	says 'kvick: disk data: read of 65536 bytes at '
	soon no_helpers_of "$pid"
	ends 0
	# None is started for what is raw.
	truncate -s 1M disk
	start raw parked --disk path=disk
	no_helpers_of "$pid" || fail 'a process that nobody needs'
	kvick kill raw
	ends 137
}

# --- an overlay that stays -----------------------------------------------------------------------

# backing_of NAME: as the image has it.
backing_of() {
	qemu-img info --output=json "$1" | python3 -c 'import json, sys
i = json.load(sys.stdin)
print(i["backing-filename"], i["backing-filename-format"])'
}

test_image_overlay() {
	local first
	mkdir dir
	truncate -s 16M base
	boot disk-random --append 'seed=1 requests=1000' --disk path=base,overlay=over </dev/null
	status_is 0
	cmp -n 16777216 base /dev/zero || fail 'the image was written to'
	[ "$(backing_of over)" = 'base raw' ] || fail "it is over $(backing_of over)"
	sound over clean
	first=$(content over)
	says "crc32 $first"
	# It goes on where it was.
	boot disk-random --append 'as-it-is requests=0' --disk path=base,overlay=over </dev/null
	says "crc32 $first"
	boot disk-random --append 'as-it-is seed=2 requests=1000' --disk path=base,overlay=over </dev/null
	says "crc32 $(content over)"
	# Over another, over one that is over another, and from elsewhere.
	refused 'disk over: ' boot hello --disk path=over,overlay=dir/two
	boot hello --disk path=over,backing=on,overlay=dir/two </dev/null
	status_is 0
	[ "$(backing_of dir/two)" = "$PWD/over qcow2" ] || fail "it is over $(backing_of dir/two)"
	boot hello --disk "path=$PWD/over,backing=on,overlay=three" </dev/null
	[ "$(backing_of three)" = "$PWD/over qcow2" ] || fail "it is over $(backing_of three)"
	boot hello --disk path=over,backing=on,overlay=three </dev/null
	status_is 0
	[ "$(ls dir)" = two ] || fail "left: $(ls dir)"
}

test_image_overlay_refused() {
	truncate -s 1M base other
	boot hello --disk path=base,overlay=over </dev/null
	status_is 0
	refused 'disk other: overlay over: is one of base, not of other' boot hello --disk path=other,overlay=over
	qemu-img create -q -f qcow2 alone 1M
	refused 'disk base: overlay alone: is an image of its own' boot hello --disk path=base,overlay=alone
	refused 'disk base: disk other: ' boot hello --disk path=base,overlay=other
	refused 'disk base: disk base: ' boot hello --disk path=base,overlay=base
	qemu-img create -q -f qcow2 -b base -F qcow2 wrong 1M 2>/dev/null ||
		qemu-img create -q -f qcow2 -u -b base -F qcow2 wrong 1M
	refused 'disk base: overlay wrong: has base for a qcow2 image' boot hello --disk path=base,overlay=wrong
	start vm parked --disk path=base,overlay=over
	refused_beside "disk base: disk over: is in use by kvick (pid $pid)" boot hello --disk path=base,overlay=over
	boot hello --disk path=base,overlay=memory </dev/null
	status_is 0
	kvick kill vm
	ends 137
	[ -z "$(ls over.* 2>/dev/null)" ] || fail "left: $(ls over.*)"
}

# --- killed --------------------------------------------------------------------------------------

# What a guest was told is written is there, after each of many kills, and the image's books are right
# but for clusters that nobody uses.
test_image_kill() {
	local rounds=16
	[ -z "${KVICK_TEST_LONG:-}" ] || rounds=500
	make_image qcow2.img
	qemu-img create -q -f qcow2 qcow2.img 8M
	"$suite/disk-kill" "$rounds" qcow2.img "$build/kvick" boot "${base[@]}" \
		--kernel "$guests/disk-kill" >out 2>err || fail "$(tail -n 1 err)"
	cat out
	kvick ps
	nothing_left
	truncate -s 8M below
	"$suite/disk-kill" --overlay over "$((rounds / 4))" below "$build/kvick" boot "${base[@]}" \
		--kernel "$guests/disk-kill" >out 2>err || fail "$(tail -n 1 err)"
	cmp -n 8388608 below /dev/zero || fail 'the image was written to'
	succeeds hello --append greeting --disk path=below,overlay=over
}

# --- the host fails ------------------------------------------------------------------------------

# fill_in_1m KEYS OPTION...: a guest that fills its disk, slowly until the host lets it write no file
# past 1 MiB. room_for_all lifts that.
fill_in_1m() {
	local keys=$1
	shift
	trap '' XFSZ
	change vm fill "$keys,iops=1,iops-burst=1" "$@"
	prlimit --pid "$pid" --fsize=1048576:
	asked limit-disk vm data iops=0
}

# The file cannot become larger: a write that needs a cluster is held, and done when there is room.
test_image_stop() {
	local engine
	for engine in io_uring sync; do
		make_image qcow2.img
		qemu-img create -q -f qcow2 qcow2.img 2M
		fill_in_1m path=qcow2.img,id=data,on-error=stop --disk-engine "$engine"
		stopped 'disk data: write of 65536 bytes at [0-9]*: File too large'
		asked resume vm
		stopped 'disk data: write of 65536 bytes at [0-9]*: File too large'
		room_for_all
		asked resume vm
		await 'errors: 0'
		ends 0
		sound qcow2.img
	done
	# It ends while a write is held.
	qemu-img create -q -f qcow2 qcow2.img 2M
	fill_in_1m path=qcow2.img,id=data,on-error=stop
	stopped 'disk data: write of 65536 bytes at [0-9]*: File too large'
	asked kill vm
	ends 137
	sound qcow2.img
	qemu-img create -q -f qcow2 qcow2.img 2M
	fill_in_1m path=qcow2.img,id=data
	await 'first error: '
	ends 0
	sound qcow2.img
}

test_image_limits() {
	make_image qcow2.img
	change vm rate path=qcow2.img,iops=200
	await 'round 1'
	asked limit-disk vm qcow2.img iops=0
	await round
	asked pause vm
	asked resume vm
	await round
	asked kill vm
	ends 137
	sound qcow2.img clean
}

# What another has left marked as not closed is repaired when it is opened, and only when it is
# written to.
test_disk_dirty() {
	local overlay
	truncate -s 16M disk
	qemu-img create -q -f qcow2 -o lazy_refcounts=on image 16M
	qemu-img create -q -f qcow2 -o lazy_refcounts=on -b disk -F raw over
	for overlay in image over; do
		qemu-io -c 'write 0 1M' -c abort "$overlay" >/dev/null 2>&1 || true
		qemu-img info "$overlay" | grep -q 'dirty\|corrupt' || python3 - "$overlay" <<'END'
import struct, sys
f = open(sys.argv[1], "r+b")
f.seek(72)
f.write(struct.pack(">Q", 1))
END
	done
	succeeds hello --append greeting --disk path=image,ro
	says_not repaired
	succeeds hello --append greeting --disk path=image
	says repaired
	succeeds hello --append greeting --disk path=image
	says_not repaired
	succeeds hello --append greeting --disk path=disk,overlay=over
	says repaired
	qemu-img check -q image || fail "image: qemu-img check: $?"
	qemu-img check -q over || fail "over: qemu-img check: $?"
}
