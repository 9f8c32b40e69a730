# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154,SC2034
# What a machine cannot be made of is refused with status 125 and a message that names it.

test_bad_sizes() {
	refused '--memory 0: must be 1M to 1T' boot hello --memory 0
	refused '--memory 1B: must be 1M to 1T' boot hello --memory 1B
	refused '--memory 1023K: must be 1M to 1T' boot hello --memory 1023K
	refused '--memory 1000G: more than this host has' boot hello --memory 1000G
	refused '--memory 2T: must be 1M to 1T' boot hello --memory 2T
	refused '--memory lots' boot hello --memory lots
	refused '--cpus 0: must be 1 to 254' boot hello --cpus 0
	refused '--cpus 10000: must be 1 to 254' boot hello --cpus 10000
	refused '--cpus -1' boot hello --cpus -1
}

test_does_not_fit() {
	refused "kernel $guests/hello: its segment" boot hello --memory 1
	truncate -s 20M initrd
	refused 'initrd initrd: its 20 MiB do not fit beside the kernel in 16 MiB of memory' \
		boot hello --initrd initrd
	refused 'the command line has' boot hello --append "$(printf '%03000d' 0)"
}

# kernel FILE: boots it.
kernel() {
	kvick boot "${base[@]}" --kernel "$1"
}

test_bad_kernels() {
	refused '--kernel nowhere: No such file or directory' kernel nowhere
	refused '--kernel .: not a regular file' kernel .
	refused '--kernel /dev/zero: not a regular file' kernel /dev/zero
	mkfifo fifo
	refused '--kernel fifo: not a regular file' kernel fifo
	: >empty
	refused 'kernel empty: the file is empty' kernel empty
	echo text >text
	refused 'kernel text: neither an ELF kernel (vmlinux) nor a bzImage (vmlinuz)' kernel text
	head -c 6000 "$guests/hello" >part
	refused 'kernel part: truncated' kernel part
}

test_bad_initrds() {
	refused '--initrd nowhere: No such file or directory' boot hello --initrd nowhere
	refused 'initrd .: not a regular file' boot hello --initrd .
	refused 'initrd /dev/zero: not a regular file' boot hello --initrd /dev/zero
	mkfifo fifo
	refused 'initrd fifo: not a regular file' boot hello --initrd fifo
}

test_bad_outputs() {
	refused '--console nowhere/console: No such file' boot hello --console file:nowhere/console
	refused '--stats nowhere/stats: No such file' boot hello --stats nowhere/stats
	refused '--name ../b' boot hello --name ../b
}

# disk_refused WORDS KEYS...: a disk of these keys.
disk_refused() {
	refused "$1" boot hello --disk "$2"
}

test_bad_disks() {
	truncate -s 1M disk
	: >empty
	truncate -s 1000 odd
	mkfifo fifo
	python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
	printf 'QFI\xfb' >qcow2
	truncate -s 1M qcow2
	refused '--disk-engine fast: must be one of auto, io_uring, sync' boot hello --disk-engine fast
	disk_refused '--disk: : unknown key ""' ''
	disk_refused '--disk: ro: path: must name' ro
	disk_refused '--disk: disk: is no key; did you mean path=disk?' disk
	disk_refused '--disk: a/b.img,ro: is no key; did you mean path=a/b.img?' a/b.img,ro
	disk_refused '--disk: pth=disk: unknown key "pth"' pth=disk
	disk_refused '--disk: path=disk,ro,ro: ro: given twice' path=disk,ro,ro
	disk_refused '--disk: path=disk,path=disk: path: given twice' path=disk,path=disk
	disk_refused '--disk: path=disk,cache: cache: needs a value' path=disk,cache
	disk_refused '--disk: path=disk,cache=slow: cache slow: must be' path=disk,cache=slow
	disk_refused '--disk: path=disk,queues=0: queues 0: must be 1 to 16' path=disk,queues=0
	disk_refused '--disk: path=disk,queues=17: queues 17: must be 1 to 16' path=disk,queues=17
	disk_refused '--disk: path=disk,serial=' path=disk,serial=123456789012345678901
	disk_refused '--disk: path=disk,bw-burst=1M: bw-burst: needs bw' path=disk,bw-burst=1M
	disk_refused '--disk: path=disk,iops-burst=1: iops-burst: needs iops' path=disk,iops-burst=1
	disk_refused '--disk: path=disk,on-error=panic: on-error panic: must be' path=disk,on-error=panic
	disk_refused '--disk: path=disk,ro,overlay=memory: ro and overlay' path=disk,ro,overlay=memory
	disk_refused '--disk: path=disk,ro,overlay=.: ro and overlay' path=disk,ro,overlay=.
	disk_refused '--disk: path=disk,overlay=: overlay: must be' path=disk,overlay=
	disk_refused 'disk disk: ' path=disk,overlay=odd
	disk_refused 'disk disk: image nowhere/x: No such file' path=disk,overlay=nowhere/x
	disk_refused 'disk disk: overlay /proc: ' path=disk,overlay=/proc
	disk_refused 'disk disk: has no partition table' path=disk,partition=1
	disk_refused 'disk disk: has no partition table' path=disk,root=1
	disk_refused 'disk empty: is empty' path=empty,partition=1
	disk_refused '--disk: path=disk,root=129: root 129: must be 0 to 128' path=disk,root=129
	disk_refused '--disk: path=disk,root=1,partition=1: root and part' path=disk,root=1,partition=1
	disk_refused 'disk nowhere: No such file' path=nowhere
	disk_refused 'disk a,b: No such file' path=a,,b
	disk_refused 'disk .: is a directory, not a file' path=.
	disk_refused 'disk fifo: is a FIFO, not a file' path=fifo
	disk_refused 'disk socket: is a socket, not a file' path=socket
	disk_refused 'disk /dev/null: is a character device, not a file' path=/dev/null
	disk_refused 'disk empty: is empty' path=empty
	disk_refused 'disk odd: its 1000 bytes are not whole blocks of 512' path=odd
	disk_refused 'disk disk/: Not a directory' path=disk/
	disk_refused 'disk qcow2: qcow2: version 0 is not known' path=qcow2
	disk_refused '--disk: path=disk,addr=0: addr 0: must be 1 to 31' path=disk,addr=0
	disk_refused '--disk: path=disk,addr=0x20: addr 0x20: must be 1 to 31' path=disk,addr=0x20
	refused '--disk: disk disk: addr needs --transport pci' boot hello --transport mmio --disk path=disk,addr=4
	refused '--disk: disk b: addr 4 is taken by disk a' boot hello --transport pci \
		--disk path=disk,ro,id=a,addr=4 --disk path=disk,ro,id=b,addr=0x4
	refused '--disk: two disks are called disk; id=NAME' boot hello --disk path=disk,ro --disk path=disk,ro
	local disks=()
	for i in $(seq 32); do
		disks+=(--disk "path=disk,ro,id=$i")
	done
	refused '--disk: at most 6 disks and NICs, or 36 with --transport pci' boot hello --transport mmio "${disks[@]:0:14}"
	refused '--disk: at most 31 disks' boot hello "${disks[@]}"
}

# Each key without a value, with an empty one, with one that is out of range or none, and doubled.
test_bad_disk_keys() {
	local key wrong
	truncate -s 1M disk
	for key in path format backing overlay cache queues id serial bw bw-burst iops iops-burst \
		on-error root partition; do
		disk_refused "--disk: $key: $key: needs a value, $key=" "$key"
	done
	for key in format backing cache queues bw iops on-error root partition; do
		for wrong in '' x -1 1.5 99999999999999999999; do
			disk_refused "--disk: path=disk,$key=$wrong: $key $wrong: " \
				"path=disk,$key=$wrong"
		done
	done
	disk_refused '--disk: path=disk,ro=maybe: ro maybe: must be yes or no' path=disk,ro=maybe
	disk_refused '--disk: path=disk,id=: id: must not be empty' path=disk,id=
	disk_refused '--disk: path=: path: must name' path=
	disk_refused '--disk: path=disk,: unknown key ""' path=disk,
	disk_refused '--disk: path=disk, ro: unknown key " ro"' 'path=disk, ro'
	disk_refused '--disk: path=disk,iops=4294967296: iops 4294967296: too large' \
		path=disk,iops=4294967296
	disk_refused 'disk 000' "path=$(printf '%0300d' 0)"
}

# A second user is refused while a first one writes, and told who that is; readers share.
test_disk_shared() {
	truncate -s 1M disk
	start first parked --disk path=disk
	refused_beside "disk disk: is in use by kvick (pid $pid)" boot hello --disk path=disk
	refused_beside "disk disk: is written to by kvick (pid $pid)" \
		boot hello --disk path=disk,ro
	refused_beside 'disk disk: is written to by kvick' boot hello \
		--disk path=disk,overlay=memory
	kvick kill first
	ends 137
	start reader parked --disk path=disk,ro
	refused_beside "disk disk: is in use by kvick (pid $pid)" boot hello --disk path=disk
	boot hello --disk path=disk,overlay=memory </dev/null
	status_is 0
	kvick kill reader
	ends 137
}

# Programs of QEMU's are refused while a VM has the image, and a VM while they have it.
test_disk_shared_with_qemu() {
	command -v qemu-io >/dev/null || skip 'host: no qemu-io'
	truncate -s 1M disk
	start first parked --disk path=disk
	! qemu-io -f raw -c 'write 0 512' disk >out 2>err || fail 'qemu-io has written to it'
	says 'lock'
	! qemu-img resize -f raw disk 2M >out 2>err || fail 'qemu-img has made it larger'
	says 'lock'
	kvick kill first
	ends 137
	mkfifo words
	qemu-io -f raw disk <words >said 2>&1 &
	pid=$!
	exec {words}>words
	echo 'write 0 512' >&"$words"
	until grep -q wrote said; do
		kill -0 "$pid" || fail "$(cat said)"
		sleep 0.05
	done
	refused_beside "disk disk: is in use by qemu-io (pid $pid)" boot hello --disk path=disk
	exec {words}>&-
	ends 0
	boot hello --append greeting --disk path=disk </dev/null
	status_is 0
}

# As refused, while another VM runs.
refused_beside() {
	local words=$1
	shift
	"$@"
	status_is 125
	says "kvick: $words"
}

# A caller has closed what messages go to: they are not written to a file that is opened then.
test_closed_descriptors() {
	truncate -s 1M disk
	cp disk empty
	status=0
	"$build/kvick" boot "${base[@]}" --kernel "$guests/hello" --disk path=disk <&- >&- 2>&- || status=$?
	status_is 0
	"$build/kvick" boot "${base[@]}" --kernel nowhere --disk path=disk <&- >&- 2>&- || status=$?
	status_is 125
	cmp disk empty || fail 'the disk is written to'
}

# --- what a host forbids or lacks ----------------------------------------------------------------

# as_nobody WORD...: kvick boot as a user who owns nothing, but may use KVM; in the current folder.
as_nobody() {
	in_namespace 'mknod -m 666 /dev/kvm c 10 232' setpriv --reuid=65534 --regid=65534 \
		--clear-groups ./kvick boot "${base[@]}" "$@"
	status_is 125
}

# What another user needs to run kvick here.
prepare_for_others() {
	[ "$(id -u)" = 0 ] || skip 'host: only root can be someone else and make devices'
	chmod 755 "$scratch" .
	cp "$build/kvick" "$guests/hello" .
	mkdir -m 777 vms
	export KVICK_RUNTIME_DIR=$PWD/vms
	chown 65534 vms
	chmod 700 vms
}

test_unreadable() {
	prepare_for_others
	truncate -s 1M secret
	chmod 600 secret
	as_nobody --kernel secret
	says 'kvick: --kernel secret: Permission denied'
	as_nobody --kernel hello --initrd secret
	says 'kvick: --initrd secret: Permission denied'
	as_nobody --kernel hello --disk path=secret
	says 'kvick: disk secret: Permission denied'
	chmod 644 secret
	as_nobody --kernel hello --disk path=secret
	says 'kvick: disk secret: Permission denied'
}

# in_namespace COMMAND...: with a /dev of its own, made by make_dev there.
in_namespace() {
	unshare -m true || skip 'host: no mount namespaces for this user'
	status=0
	unshare -m bash -c "set -e; mount -t tmpfs tmpfs /dev
		mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/urandom c 1 9
		$1; exec \"\$@\"" - "${@:2}" </dev/null >out 2>err || status=$?
}

# kvm_is COMMAND WORDS: what kvick says to an ordinary user where that makes /dev/kvm.
kvm_is() {
	in_namespace "$1" setpriv --reuid=65534 --regid=65534 --clear-groups \
		./kvick boot "${base[@]}" --kernel hello
	status_is 125
	says "kvick: /dev/kvm$2"
}

test_no_kvm() {
	prepare_for_others
	kvm_is true ' cannot be opened: No such file or directory'
	kvm_is 'mknod -m 600 /dev/kvm c 10 232' ' may not be opened by this user'
	kvm_is 'echo >/dev/kvm; chmod 666 /dev/kvm' ': not a KVM device'
	kvm_is 'mknod -m 666 /dev/kvm c 1 5' ': not a KVM device'
}

# On a host like that, nothing is started unless that is asked for.
test_software_kvm() {
	kvick doctor --json
	! grep -q '"can_run_stock_guests": true' out || skip 'host: its KVM is hardware'
	kvick boot --kernel "$guests/hello"
	status_is 125
	says 'kvick: the KVM of this host is software, which cannot run stock guests'
	[ "$(wc -l <err)" = 2 ] || fail 'not two lines'
}
