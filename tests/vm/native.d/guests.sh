# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154
# One guest a property: its entry, its devices, and the ways it ends.

test_hello() {
	succeeds hello --append greeting
	says 'entered by PVH: console=ttyS0'
	succeeds hello64 --append greeting
	says 'entered in 64-bit mode: console=ttyS0'
	succeeds hello --append greeting --memory-backing shared --memory 4G
}

# With no port, there is no output but in the status.
test_console() {
	succeeds_silently hello --append greeting --console off
	succeeds_silently hello --append greeting --console file:here
	grep -q SUCCESS here || fail 'nothing in the file'
}

succeeds_silently() {
	boot "$@" </dev/null
	status_is 0
	says_not SUCCESS
}

test_every_port() {
	succeeds every-port
}

test_mmio_widths() {
	succeeds mmio-widths
}

test_irq() {
	succeeds irq
}

test_smp() {
	succeeds smp
	succeeds smp --cpus 2 --append cpus=2
	succeeds smp --cpus 4 --append cpus=4
}

test_serial_echo() {
	head -c 7500 /dev/urandom | base64 >sent
	boot serial-echo < <(cat sent; printf '\4')
	status_is 0
	says "bytes: $(wc -c <sent)"
	sed -n '/^READY/,/^bytes/p' out | sed '1d;$d' | head -c "$(wc -c <sent)" | cmp - sent ||
		fail 'another text came back'
}

test_ring_wrap() {
	succeeds ring-wrap
}

test_hostile() {
	succeeds hostile
	says 'indirect_in_indirect: ok'
}

test_bad_rings() {
	succeeds bad-rings
}

test_mutate() {
	succeeds mutate --cpus 2
}

test_reset_storm() {
	succeeds reset-storm
}

test_vsock_echo() {
	start v vsock-echo
	timeout 60 "$suite/vsock-peer" "$KVICK_RUNTIME_DIR/v" 1 3000000 || fail 'one stream'
	await 'streams: 1'
	ends 0
	start many vsock-echo
	timeout 60 "$suite/vsock-peer" "$KVICK_RUNTIME_DIR/many" 40 50000 || fail '40 streams'
	await 'streams: 60'
	ends 0
}

# What else drives virtio's queues, on PCI.
test_pci() {
	local guest
	for guest in irq ring-wrap hostile reset-storm; do
		succeeds "$guest" --transport pci
	done
	succeeds mutate --cpus 2 --transport pci
	start v vsock-echo --transport pci
	timeout 60 "$suite/vsock-peer" "$KVICK_RUNTIME_DIR/v" 1 3000000 || fail 'one stream'
	await 'streams: 1'
	ends 0
	boot reboot --on-reboot restart --transport pci </dev/null
	status_is 0
	says 'resets: 30'
}

test_pci_hostile() {
	succeeds pci-hostile --transport pci
}

# --- ends ----------------------------------------------------------------------------------------

# ends_with STATUS WAY: `end` ends in that way, and executes nothing afterwards.
ends_with() {
	boot end --append "$2" </dev/null
	status_is "$1"
	says_not 'after the end'
}

test_power_off() {
	ends_with 0 power-off
	ends_with 0 quoted-panic
}

test_reset() {
	ends_with 10 i8042
	ends_with 10 output-port
	ends_with 10 acpi
}

test_panic() {
	ends_with 11 pvpanic
	ends_with 11 console-panic
	says 'kvick: the guest ended: panic: no working init found'
	ends_with 11 panic-and-reset
	says 'kvick: the guest ended: panic: again'
}

test_triple_fault() {
	boot triple-fault </dev/null
	status_is 12
	says 'the guest ended: triple-fault'
}

test_halt() {
	boot halt --timeout 0.2 </dev/null
	status_is 124
	says 'did not end within 0.2 s: every processor halts with interrupts off, rip 0x'
	boot end --append spin --timeout 0.2 </dev/null
	status_is 124
	says_not 'halts'
}

test_reboot() {
	boot reboot --on-reboot restart </dev/null
	status_is 0
	says 'resets: 30'
	boot reboot --on-reboot restart --memory-backing shared --cpus 2 </dev/null
	status_is 0
	says 'resets: 30'
}
