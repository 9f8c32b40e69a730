// SPDX-License-Identifier: MIT
// MSI-X: tables written at every width, masks of vector and function, what is pending, and when it
// is sent; eventfds that interrupt by a vector.
#include "tests/unit/pci_guest.h"

#include "base/stream.h"
#include "base/util.h"
#include "hw/irq.h"
#include "hw/kvm.h"
#include "hw/layout.h"
#include "hw/msi.h"
#include "hw/pci_msix.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define VECTORS 70u
#define ENABLE PCI_MSIX_FLAGS_ENABLE
#define MASK_ALL PCI_MSIX_FLAGS_MASKALL

struct fixture {
	struct pci_rig r;
	struct pci_function f;
	struct msix x;
	atomic_uint sent;
	uint64_t address;
	uint32_t data;
	/* With a processor of the host's KVM to interrupt. */
	struct kvm kvm;
	int vcpu;
	_Atomic uint16_t vectors[4];
	int calls[4];
};

static void sent(void *arg, uint64_t address, uint32_t data)
{
	struct fixture *f = arg;

	f->address = address;
	f->data = data;
	f->sent++;
}

static void written(void *dev, unsigned off, unsigned len)
{
	msix_config_written(&((struct fixture *)dev)->x);
}

static const struct pci_function_ops ops = {.config_written = written};

static int setup(void **state)
{
	static struct fixture f;
	const struct pci_id id = {.vendor = 0x1234};
	const struct msix_config cfg = {.function = &f.f,
		.vectors = VECTORS,
		.bar = 1,
		.table = 0x1000,
		.pending = 0x1800,
		.send = sent,
		.arg = &f};

	f = (struct fixture){0};
	f.f.ops = &ops;
	f.f.dev = &f;
	f.f.name = "msix";
	pci_rig_init(&f.r);
	pci_function_init(&f.f, &id);
	assert_int_equal(msix_init(&f.x, &cfg), 0);
	assert_int_equal(pci_attach(f.r.pci, &f.f, 1), 0);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	pci_detach(&f->f);
	msix_finish(&f->x);
	pci_rig_finish(&f->r);
	return 0;
}

static uint32_t table_get(struct fixture *f, uint64_t off)
{
	uint32_t v;

	msix_table_read(&f->x, off, &v, 4);
	return v;
}

static void table_set(struct fixture *f, uint64_t off, uint32_t v)
{
	msix_table_write(&f->x, off, &v, 4);
}

static void mask(struct fixture *f, unsigned vector, bool on)
{
	table_set(f, vector * 16 + 12, on);
}

static void control(struct fixture *f, unsigned flags)
{
	config_set(&f->r, 1, f->x.at + PCI_MSIX_FLAGS, 2, flags);
}

static uint64_t pending(struct fixture *f, unsigned word)
{
	uint64_t v;

	msix_pending_read(&f->x, word * 8, &v, 8);
	return v;
}

static void test_capability(void **state)
{
	struct fixture *f = *state;
	unsigned at = find_capability(&f->r, 1, PCI_CAP_ID_MSIX, 0);

	assert_int_equal(at, f->x.at);
	assert_int_equal(config_get(&f->r, 1, at + PCI_MSIX_FLAGS, 2), VECTORS - 1);
	assert_int_equal(config_get(&f->r, 1, at + PCI_MSIX_TABLE, 4), 0x1001);
	assert_int_equal(config_get(&f->r, 1, at + PCI_MSIX_PBA, 4), 0x1801);
	control(f, 0xffff);
	assert_int_equal(
		config_get(&f->r, 1, at + PCI_MSIX_FLAGS, 2), ENABLE | MASK_ALL | (VECTORS - 1));
	config_set(&f->r, 1, at + PCI_MSIX_TABLE, 4, 0xffffffff);
	assert_int_equal(config_get(&f->r, 1, at + PCI_MSIX_TABLE, 4), 0x1001);
}

static void test_table(void **state)
{
	struct fixture *f = *state;
	uint8_t data[8], ones[8];

	memset(ones, 0xff, sizeof(ones));
	for (unsigned v = 0; v < VECTORS; v++) {
		assert_int_equal(table_get(f, v * 16 + 12), 1); /* masked at first */
		table_set(f, v * 16, 0xfee00003 + (v << 12));
		table_set(f, v * 16 + 4, v);
		table_set(f, v * 16 + 8, 100 + v);
		table_set(f, v * 16 + 12, 0xfffffffe);
	}
	for (unsigned v = 0; v < VECTORS; v++) {
		uint64_t low, high;

		msix_table_read(&f->x, v * 16, &low, 8);
		msix_table_read(&f->x, v * 16 + 8, &high, 8);
		assert_true(low == ((uint64_t)v << 32 | (0xfee00000 + (v << 12))));
		assert_true(high == 100 + v);
	}
	memset(data, 0, sizeof(data));
	memcpy(data, "\x01\x02\x03\x04\x01\xff\xff\xff", 8);
	msix_table_write(&f->x, 24, data, 8);
	assert_int_equal(table_get(f, 24), 0x04030201);
	assert_int_equal(table_get(f, 28), 1);
	for (unsigned len = 1; len <= 8; len *= 2)
		for (unsigned off = 0; off + len <= 64; off++) {
			uint64_t before[8], after[8];

			if (len >= 4 && off % len == 0)
				continue;
			for (unsigned i = 0; i < 8; i++)
				msix_table_read(&f->x, i * 8, &before[i], 8);
			msix_table_read(&f->x, off, data, len);
			assert_memory_equal(data, ones, len);
			msix_table_write(&f->x, off, ones, len);
			for (unsigned i = 0; i < 8; i++)
				msix_table_read(&f->x, i * 8, &after[i], 8);
			assert_memory_equal(before, after, sizeof(before));
		}
	/* Past its end. */
	for (unsigned off = VECTORS * 16; off < 0x1000; off += 4) {
		table_set(f, off, 0xffffffff);
		assert_int_equal(table_get(f, off), 0);
	}
	table_set(f, UINT64_MAX - 3, 1);
	assert_int_equal(f->sent, 0);
}

static void test_delivery(void **state)
{
	struct fixture *f = *state;

	table_set(f, 3 * 16, 0xfee01000);
	table_set(f, 3 * 16 + 8, 0x4041);
	mask(f, 3, false);
	msix_raise(&f->x, 3); /* not enabled */
	assert_int_equal(f->sent, 0);
	control(f, ENABLE);
	assert_int_equal(f->sent, 0);
	msix_raise(&f->x, 3);
	assert_int_equal(f->sent, 1);
	assert_true(f->address == 0xfee01000 && f->data == 0x4041);
	msix_raise(&f->x, VECTORS);
	msix_raise(&f->x, 0xffff);
	assert_int_equal(f->sent, 1);
	assert_true(pending(f, 0) == 0 && pending(f, 1) == 0);
}

static void test_masks(void **state)
{
	struct fixture *f = *state;
	uint32_t half;

	control(f, ENABLE);
	for (unsigned i = 0; i < 3; i++) {
		msix_raise(&f->x, 69);
		msix_raise(&f->x, 33);
	}
	assert_int_equal(f->sent, 0);
	assert_true(pending(f, 0) == 1ull << 33 && pending(f, 1) == 1ull << 5);
	msix_pending_read(&f->x, 4, &half, 4);
	assert_int_equal(half, 2);
	msix_pending_read(&f->x, 2, &half, 4);
	assert_int_equal(half, 0xffffffff);
	assert_true(pending(f, 2) == 0 && pending(f, 100) == 0);
	mask(f, 69, false);
	assert_int_equal(f->sent, 1);
	assert_true(pending(f, 1) == 0);
	/* The whole function's mask. */
	control(f, ENABLE | MASK_ALL);
	msix_raise(&f->x, 69);
	mask(f, 33, false);
	assert_int_equal(f->sent, 1);
	assert_true(pending(f, 0) == 1ull << 33 && pending(f, 1) == 1ull << 5);
	control(f, ENABLE);
	assert_int_equal(f->sent, 3);
	assert_true(pending(f, 0) == 0 && pending(f, 1) == 0);
	/* Masked again, and what came meanwhile is kept over a disable. */
	mask(f, 33, true);
	msix_raise(&f->x, 33);
	control(f, 0);
	mask(f, 33, false);
	assert_int_equal(f->sent, 3);
	control(f, ENABLE);
	assert_int_equal(f->sent, 4);
	msix_reset(&f->x);
	pci_function_reset(&f->f);
	msix_raise(&f->x, 33);
	assert_int_equal(f->sent, 4);
	assert_int_equal(table_get(f, 33 * 16 + 12), 1);
}

static void test_save_load(void **state)
{
	struct fixture *f = *state;
	struct stream_out s;
	struct stream_in in;
	unsigned refused = 0;

	control(f, ENABLE);
	table_set(f, 8, 77);
	table_set(f, 24, 78);
	mask(f, 0, false);
	msix_raise(&f->x, 1);
	stream_out_init(&s);
	msix_save(&f->x, &s);
	msix_reset(&f->x);
	stream_in_init(&in, s.buf, s.len);
	assert_int_equal(msix_load(&f->x, &in), 0);
	assert_int_equal(f->sent, 0);
	msix_raise(&f->x, 0);
	assert_int_equal(f->data, 77);
	mask(f, 1, false);
	assert_int_equal(f->sent, 2);
	assert_int_equal(f->data, 78);
	for (size_t bit = 0; bit < s.len * 8; bit++) {
		s.buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
		stream_in_init(&in, s.buf, s.len);
		refused += msix_load(&f->x, &in) < 0;
		for (unsigned v = 0; v <= VECTORS; v++)
			msix_raise(&f->x, v);
		s.buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_true(refused > 100);
	for (size_t len = 0; len < s.len; len++) {
		stream_in_init(&in, s.buf, len);
		assert_true(msix_load(&f->x, &in) < 0);
	}
	stream_out_finish(&s);
}

/* ---- Raised on one thread, masked on another: none is lost ---- */

#define RACES 20000u

static void *race(void *arg)
{
	struct fixture *f = arg;

	for (unsigned i = 0; i < RACES; i++) {
		unsigned before = f->sent;

		msix_raise(&f->x, 5);
		/* It is sent at once, or as the other thread unmasks it. */
		while (f->sent == before)
			;
	}
	return NULL;
}

static void test_race(void **state)
{
	struct fixture *f = *state;
	pthread_t t;

	control(f, ENABLE);
	assert_int_equal(pthread_create(&t, NULL, race, f), 0);
	while (f->sent < RACES) {
		mask(f, 5, true);
		mask(f, 5, false);
	}
	pthread_join(t, NULL);
	assert_true(pending(f, 0) == 0);
}

/* ---- Eventfds, to a processor of the host's own KVM ---- */

/* The local APIC's registers (Intel SDM 3, 10.4.1). */
#define APIC_SPIV 0xf0u
#define APIC_SPIV_ENABLED 0x1ffu
#define APIC_IRR 0x200u

static int setup_kvm(void **state)
{
	struct kvm_lapic_state apic;
	struct fixture *f;

	setup(state);
	f = *state;
	assert_int_equal(kvm_create(&f->kvm, open("/dev/kvm", O_RDWR | O_CLOEXEC)), 0);
	f->vcpu = ioctl(f->kvm.vm, KVM_CREATE_VCPU, 0);
	assert_true(f->vcpu >= 0);
	assert_int_equal(ioctl(f->vcpu, KVM_GET_LAPIC, &apic), 0);
	put_le32((uint8_t *)apic.regs + APIC_SPIV, APIC_SPIV_ENABLED);
	assert_int_equal(ioctl(f->vcpu, KVM_SET_LAPIC, &apic), 0);
	f->x.cfg.send = msi_send;
	f->x.cfg.arg = f->x.cfg.kvm = &f->kvm;
	for (unsigned v = 0; v < 4; v++) {
		f->vectors[v] = (uint16_t)v;
		table_set(f, v * 16, LAYOUT_LAPIC);
		table_set(f, v * 16 + 8, 0x40 + v);
		mask(f, v, false);
	}
	control(f, ENABLE);
	return 0;
}

static int teardown_kvm(void **state)
{
	struct fixture *f = *state;

	msix_disconnect(&f->x);
	close(f->vcpu);
	kvm_finish(&f->kvm);
	return teardown(state);
}

/* Whether the processor has been asked for this vector; it is then forgotten. */
static bool took(struct fixture *f, unsigned vector)
{
	struct kvm_lapic_state apic;
	uint8_t *irr = (uint8_t *)apic.regs + APIC_IRR + vector / 32 * 16;
	uint32_t bit = 1u << vector % 32;

	assert_int_equal(ioctl(f->vcpu, KVM_GET_LAPIC, &apic), 0);
	if (!(get_le32(irr) & bit))
		return false;
	put_le32(irr, get_le32(irr) & ~bit);
	assert_int_equal(ioctl(f->vcpu, KVM_SET_LAPIC, &apic), 0);
	return true;
}

static void ring(struct fixture *f, unsigned call)
{
	uint64_t one = 1;

	assert_int_equal(write(f->calls[call], &one, sizeof(one)), sizeof(one));
}

/* The kernel may hand it on by a thread of its own. */
static void await(struct fixture *f, unsigned vector)
{
	while (!took(f, vector))
		sched_yield();
}

static void test_calls(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(msix_connect(&f->x, f->vectors, 4, f->calls), 0);
	for (unsigned i = 0; i < 4; i++) {
		ring(f, i);
		await(f, 0x40 + i);
	}
	/* The monitor's own way leads there as well. */
	msix_raise(&f->x, 2);
	assert_true(took(f, 0x42));
	/* The message changes, masked and not; two calls share a vector; one has none. */
	mask(f, 1, true);
	table_set(f, 1 * 16 + 8, 0x51);
	mask(f, 1, false);
	table_set(f, 2 * 16 + 8, 0x52);
	f->vectors[3] = 0;
	f->vectors[0] = 0xffff;
	msix_calls_moved(&f->x);
	for (unsigned i = 0; i < 4; i++)
		ring(f, i);
	await(f, 0x51);
	await(f, 0x52);
	await(f, 0x40);
	assert_false(took(f, 0x43) || took(f, 0x41) || took(f, 0x42));
	assert_true(pending(f, 0) == 0);
	/* No processor is there. */
	table_set(f, 1 * 16, 0x1000);
	ring(f, 1);
	table_set(f, 1 * 16, LAYOUT_LAPIC);
	await(f, 0x51);
}

/* What is signalled under each kind of mask is pending, and delivered once at its end. */
static void test_calls_masked(void **state)
{
	struct fixture *f = *state;

	mask(f, 1, true);
	assert_int_equal(msix_connect(&f->x, f->vectors, 2, f->calls), 0);
	for (unsigned i = 0; i < 3; i++)
		ring(f, 1);
	assert_false(took(f, 0x41));
	assert_true(pending(f, 0) == 1 << 1);
	mask(f, 1, false);
	await(f, 0x41);
	assert_true(pending(f, 0) == 0);
	/* Nobody has looked at it meanwhile. */
	mask(f, 1, true);
	ring(f, 1);
	mask(f, 1, false);
	await(f, 0x41);
	control(f, ENABLE | MASK_ALL);
	ring(f, 0);
	ring(f, 1);
	assert_true(pending(f, 0) == 3);
	ring(f, 1);
	control(f, 0);
	assert_false(took(f, 0x40) || took(f, 0x41));
	control(f, ENABLE);
	await(f, 0x40);
	await(f, 0x41);
	/* It outlives the eventfd. */
	mask(f, 0, true);
	ring(f, 0);
	ring(f, 1);
	msix_disconnect(&f->x);
	assert_true(took(f, 0x41));
	assert_true(pending(f, 0) == 1);
	mask(f, 0, false);
	assert_true(took(f, 0x40));
}

/* As a driver that is loaded again and again has it: routes are used again. */
static void test_calls_again(void **state)
{
	struct fixture *f = *state;

	for (unsigned n = 0; n < 20; n++) {
		unsigned i = n % 4;

		assert_int_equal(msix_connect(&f->x, f->vectors, 4, f->calls), 0);
		ring(f, i);
		await(f, 0x40 + i);
		msix_disconnect(&f->x);
		assert_int_equal(f->kvm.route_count, 16);
	}
}

/* The table that the routes are in has the lines of the interrupt controllers as well. */
static void test_lines_stay(void **state)
{
	struct fixture *f = *state;
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
	struct irq serial, device;

	assert_int_equal(irq_init(&serial, &f->kvm, GSI_COM1), 0);
	assert_int_equal(irq_init(&device, &f->kvm, GSI_VIRTIO + 3), 0);
	assert_int_equal(ioctl(f->kvm.vm, KVM_GET_IRQCHIP, &chip), 0);
	chip.chip.ioapic.redirtbl[GSI_VIRTIO + 3].bits = 0x61;
	chip.chip.ioapic.redirtbl[GSI_COM1].bits = 0x62;
	assert_int_equal(ioctl(f->kvm.vm, KVM_SET_IRQCHIP, &chip), 0);
	assert_int_equal(msix_connect(&f->x, f->vectors, 1, f->calls), 0);
	irq_raise(&serial);
	irq_raise(&device);
	await(f, 0x61);
	await(f, 0x62);
	chip.chip_id = KVM_IRQCHIP_PIC_MASTER;
	assert_int_equal(ioctl(f->kvm.vm, KVM_GET_IRQCHIP, &chip), 0);
	assert_true(chip.chip.pic.irr & 1 << GSI_COM1);
	ring(f, 0);
	await(f, 0x40);
	irq_finish(&serial, &f->kvm);
	irq_finish(&device, &f->kvm);
}

static void *mask_often(void *arg)
{
	struct fixture *f = arg;

	while (!f->sent) {
		mask(f, 1, true);
		mask(f, 1, false);
	}
	return NULL;
}

/* Signalled here, masked and looked at on another thread: none is lost. */
static void test_calls_race(void **state)
{
	struct fixture *f = *state;
	pthread_t t;

	assert_int_equal(msix_connect(&f->x, f->vectors, 2, f->calls), 0);
	assert_int_equal(pthread_create(&t, NULL, mask_often, f), 0);
	for (unsigned n = 0; n < 100; n++) {
		ring(f, 1);
		while (!took(f, 0x41))
			pending(f, 0);
	}
	f->sent = 1;
	pthread_join(t, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_capability, setup, teardown),
		cmocka_unit_test_setup_teardown(test_table, setup, teardown),
		cmocka_unit_test_setup_teardown(test_delivery, setup, teardown),
		cmocka_unit_test_setup_teardown(test_masks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_save_load, setup, teardown),
		cmocka_unit_test_setup_teardown(test_race, setup, teardown),
		cmocka_unit_test_setup_teardown(test_calls, setup_kvm, teardown_kvm),
		cmocka_unit_test_setup_teardown(test_calls_masked, setup_kvm, teardown_kvm),
		cmocka_unit_test_setup_teardown(test_calls_again, setup_kvm, teardown_kvm),
		cmocka_unit_test_setup_teardown(test_lines_stay, setup_kvm, teardown_kvm),
		cmocka_unit_test_setup_teardown(test_calls_race, setup_kvm, teardown_kvm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
