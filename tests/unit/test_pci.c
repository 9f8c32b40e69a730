// SPDX-License-Identifier: MIT
// PCI: every register of configuration space at every width by both ways to it, BARs sized, moved,
// moved onto others and out of the window.
#include "tests/unit/pci_guest.h"

#include "base/log.h"
#include "base/stream.h"

#include <errno.h>

#define WINDOW LAYOUT_PCI_WINDOW
#define ALL_ONES 0xffffffffu

/* A function with a BAR of 4 KiB and one of 64 bits and 64 KiB, which remember what is written. */
struct card {
	struct pci_function f;
	uint64_t last_off, moved[PCI_BARS];
	unsigned len, moves, reads, writes;
	uint8_t fill, last;
};

static void card_read(void *dev, uint64_t off, void *data, unsigned len)
{
	struct card *c = dev;

	c->last_off = off;
	memset(data, c->fill, len);
}

static void card_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct card *c = dev;

	c->last_off = off;
	c->len = len;
	memcpy(&c->last, data, 1);
}

static void card_config_read(void *dev, unsigned off, unsigned len)
{
	((struct card *)dev)->reads++;
}

static void card_config_written(void *dev, unsigned off, unsigned len)
{
	((struct card *)dev)->writes++;
}

static void card_moved(void *dev, unsigned bar, uint64_t base)
{
	struct card *c = dev;

	assert_true(c->moved[bar] != base);
	c->moved[bar] = base;
	c->moves++;
}

static const struct bus_ops card_bar = {card_read, card_write};
static const struct pci_function_ops card_ops = {card_config_read, card_config_written, card_moved};

static void card_init(struct card *c, uint8_t fill)
{
	const struct pci_id id = {0x1234, 0x5678, 0x9abc, 0xdef0, 7, 0x010203};
	const struct pci_bar small = {.size = 0x1000, .ops = &card_bar};
	const struct pci_bar wide = {.size = 0x10000, .wide = true, .ops = &card_bar};
	const uint8_t first[3] = {1, 2, 3}, second[2] = {4, 5};

	*c = (struct card){.fill = fill};
	c->f.ops = &card_ops;
	c->f.dev = c;
	c->f.name = "card";
	pci_function_init(&c->f, &id);
	pci_function_set_bar(&c->f, 0, &small);
	pci_function_set_bar(&c->f, 2, &wide);
	assert_int_equal(pci_function_add_capability(&c->f, 9, first, 3), 0x40);
	assert_int_equal(pci_function_add_capability(&c->f, 5, second, 2), 0x48);
}

struct fixture {
	struct pci_rig r;
	struct card a, b;
};

static int setup(void **state)
{
	static struct fixture f;

	pci_rig_init(&f.r);
	card_init(&f.a, 0xaa);
	card_init(&f.b, 0xbb);
	assert_int_equal(pci_attach(f.r.pci, &f.a.f, 1), 0);
	assert_int_equal(pci_attach(f.r.pci, &f.b.f, 2), 0);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	pci_detach(&f->a.f);
	pci_detach(&f->b.f);
	pci_rig_finish(&f->r);
	return 0;
}

static void test_identity(void **state)
{
	struct pci_rig *r = &((struct fixture *)*state)->r;

	assert_int_equal(config_get(r, 0, PCI_CLASS_REVISION, 4), 0x06000000);
	assert_int_equal(config_get(r, 1, PCI_VENDOR_ID, 4), 0x56781234);
	assert_int_equal(config_get(r, 1, PCI_CLASS_REVISION, 4), 0x01020307);
	assert_int_equal(config_get(r, 1, PCI_SUBSYSTEM_VENDOR_ID, 4), 0xdef09abc);
	assert_int_equal(config_get(r, 1, PCI_HEADER_TYPE, 1), 0);
	assert_int_equal(config_get(r, 1, PCI_INTERRUPT_PIN, 1), 0);
	assert_int_equal(config_get(r, 1, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
	assert_int_equal(find_capability(r, 1, 9, 0), 0x40);
	assert_int_equal(config_get(r, 1, 0x42, 2), 0x0201);
	assert_int_equal(find_capability(r, 1, 5, 0), 0x48);
	assert_int_equal(find_capability(r, 1, 5, 0x48), 0);
	assert_int_equal(find_capability(r, 1, 1, 0), 0);
	assert_int_equal(find_capability(r, 0, 1, 0), 0);
}

/* Each width at each offset of a function, by memory and by ports. */
static void test_widths(void **state)
{
	struct pci_rig *r = &((struct fixture *)*state)->r;
	uint8_t bytes[PCI_SPACE], wide[8];

	for (unsigned i = 0; i < PCI_SPACE; i++)
		bytes[i] = (uint8_t)config_get(r, 1, i, 1);
	for (unsigned len = 1; len <= 4; len *= 2)
		for (unsigned off = 0; off + len <= PCI_SPACE; off++) {
			uint32_t want = 0, got = config_get(r, 1, off, len);

			memcpy(&want, bytes + off, len);
			if (off % len)
				memset(&want, 0xff, len);
			assert_int_equal(got, want);
			assert_int_equal(port_get(r, 1, off, len), want);
		}
	assert_true(bus_read(&r->mmio, ecam(1, 0), wide, 8));
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(wide[i], 0xff);
	for (unsigned off = PCI_SPACE; off < 4096; off += 4)
		assert_int_equal(config_get(r, 1, off, 4), 0);
}

static void test_absent(void **state)
{
	struct pci_rig *r = &((struct fixture *)*state)->r;
	uint32_t v;

	for (unsigned devfn = 0; devfn < 256; devfn++) {
		uint32_t want = devfn == 0 ? 0x00081b36 : 0x56781234;

		if (devfn & 7 || devfn >> 3 > 2)
			want = ALL_ONES;
		assert_int_equal(mem_get_len(r, LAYOUT_PCI_ECAM + (devfn << 12), 4), want);
		v = 1u << 31 | devfn << 8;
		bus_write(&r->pio, PORT_PCI_ADDRESS, &v, 4);
		bus_read(&r->pio, PORT_PCI_DATA, &v, 4);
		assert_int_equal(v, want);
		config_set(r, devfn >> 3, (devfn & 7) << 12, 4, 0);
	}
	for (unsigned bus = 1; bus < 256; bus++) {
		v = 1u << 31 | bus << 16;
		bus_write(&r->pio, PORT_PCI_ADDRESS, &v, 4);
		bus_read(&r->pio, PORT_PCI_DATA, &v, 4);
		assert_int_equal(v, ALL_ONES);
		bus_write(&r->pio, PORT_PCI_DATA, &v, 4);
	}
}

static void test_address_port(void **state)
{
	struct pci_rig *r = &((struct fixture *)*state)->r;
	uint32_t v = ALL_ONES;

	bus_write(&r->pio, PORT_PCI_ADDRESS, &v, 4);
	bus_read(&r->pio, PORT_PCI_ADDRESS, &v, 4);
	assert_int_equal(v, 0x80fffffc);
	config_address(r, 1, 0);
	for (unsigned off = 0; off < 8; off++)
		for (unsigned len = 1; len <= 4; len *= 2) {
			if ((off == 0 && len == 4) || off >= 4)
				continue;
			v = 0;
			bus_write(&r->pio, PORT_PCI_ADDRESS + off, &v, len);
			bus_read(&r->pio, PORT_PCI_ADDRESS + off, &v, len);
			assert_int_equal(v, len == 4 ? ALL_ONES : (1u << 8 * len) - 1);
		}
	assert_int_equal(port_get(r, 1, 0, 4), 0x56781234);
	v = 1 << 11; /* not enabled */
	bus_write(&r->pio, PORT_PCI_ADDRESS, &v, 4);
	bus_read(&r->pio, PORT_PCI_DATA, &v, 4);
	assert_int_equal(v, ALL_ONES);
	v = 0;
	bus_write(&r->pio, PORT_PCI_DATA, &v, 4);
	assert_int_equal(config_get(r, 1, 0, 4), 0x56781234);
}

/* Nothing but what the masks allow can be changed, whichever way it is tried. */
static void test_masks(void **state)
{
	struct fixture *f = *state;
	struct pci_rig *r = &f->r;
	uint8_t before[PCI_SPACE];

	memcpy(before, f->a.f.space, sizeof(before));
	for (unsigned len = 1; len <= 4; len *= 2)
		for (unsigned off = 0; off + len <= 4096; off++) {
			config_set(r, 1, off, len, ALL_ONES);
			if (off < PCI_SPACE)
				port_set(r, 1, off, len, ALL_ONES);
		}
	for (unsigned i = 0; i < PCI_SPACE; i++)
		assert_int_equal(config_get(r, 1, i, 1), before[i] | f->a.f.writable[i]);
	assert_int_equal(config_get(r, 1, PCI_COMMAND, 2), 0x0406);
	assert_int_equal(config_get(r, 1, PCI_INTERRUPT_LINE, 1), 0xff);
	for (unsigned off = 0; off < 4096; off++)
		config_set(r, 1, off, 1, 0);
	for (unsigned i = 0; i < PCI_SPACE; i++)
		assert_int_equal(config_get(r, 1, i, 1), before[i]);
	assert_true(f->a.reads && f->a.writes);
	/* One that is not aligned changes nothing. */
	config_set(r, 1, PCI_BASE_ADDRESS_0 + 1, 4, ALL_ONES);
	config_set(r, 1, PCI_BASE_ADDRESS_0 + 3, 2, ALL_ONES);
	assert_int_equal(config_get(r, 1, PCI_BASE_ADDRESS_0, 4), 0);
}

static void test_sizing(void **state)
{
	struct pci_rig *r = &((struct fixture *)*state)->r;
	static const uint32_t want[PCI_BARS] = {0xfffff000, 0, 0xffff0004, 0xffffffff, 0, 0};

	for (unsigned n = 0; n < PCI_BARS; n++) {
		place_bar(r, 1, n, ALL_ONES);
		assert_int_equal(config_get(r, 1, PCI_BASE_ADDRESS_0 + 4 * n, 4), want[n]);
		place_bar(r, 1, n, 0);
	}
	config_set(r, 1, PCI_ROM_ADDRESS, 4, ALL_ONES);
	assert_int_equal(config_get(r, 1, PCI_ROM_ADDRESS, 4), 0);
}

static void test_decode(void **state)
{
	struct fixture *f = *state;
	struct pci_rig *r = &f->r;
	uint8_t wide[8];

	place_bar(r, 1, 0, WINDOW + 0x5000);
	assert_int_equal(mem_get_len(r, WINDOW + 0x5000, 4), ALL_ONES);
	decode(r, 1, true);
	assert_true(f->a.moved[0] == WINDOW + 0x5000);
	assert_int_equal(mem_get_len(r, WINDOW + 0x5ffc, 4), 0xaaaaaaaa);
	assert_int_equal(f->a.last_off, 0xffc);
	assert_int_equal(mem_get_len(r, WINDOW + 0x5ffe, 4), ALL_ONES); /* over its end */
	assert_int_equal(mem_get_len(r, WINDOW + 0x4ffe, 4), ALL_ONES);
	assert_int_equal(mem_get_len(r, WINDOW + 0x6000, 1), 0xff);
	assert_true(bus_read(&r->mmio, WINDOW + 0x5008, wide, 8));
	assert_int_equal(wide[7], 0xaa);
	bus_write(&r->mmio, WINDOW + 0x5010, "\x77", 1);
	assert_int_equal(f->a.last, 0x77);
	assert_int_equal(f->a.last_off, 0x10);
	/* It moves while it is enabled. */
	place_bar(r, 1, 0, WINDOW + LAYOUT_PCI_WINDOW_SIZE - 0x1000);
	assert_int_equal(mem_get_len(r, WINDOW + 0x5000, 4), ALL_ONES);
	assert_int_equal(mem_get_len(r, WINDOW + LAYOUT_PCI_WINDOW_SIZE - 4, 4), 0xaaaaaaaa);
	decode(r, 1, false);
	assert_true(f->a.moved[0] == 0);
	assert_int_equal(mem_get_len(r, WINDOW + LAYOUT_PCI_WINDOW_SIZE - 4, 4), ALL_ONES);
}

/* On RAM, on the IOAPIC, at the edges: nobody answers there but who did before. */
static void test_outside(void **state)
{
	struct fixture *f = *state;
	struct pci_rig *r = &f->r;
	static const uint32_t places[] = {0x1000, 0x100000, WINDOW - 0x10000,
		WINDOW + LAYOUT_PCI_WINDOW_SIZE, LAYOUT_VIRTIO_MMIO, LAYOUT_PCI_ECAM, LAYOUT_IOAPIC,
		LAYOUT_LAPIC, 0xffff0000};

	decode(r, 1, true);
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		unsigned missed = (unsigned)r->mmio.missed;

		place_bar(r, 1, 0, places[i]);
		place_bar(r, 1, 2, places[i]);
		assert_true(f->a.moved[0] == 0 && f->a.moved[2] == 0);
		mem_get_len(r, places[i], 4);
		if (places[i] != LAYOUT_PCI_ECAM)
			assert_int_equal(r->mmio.missed, missed + 1);
	}
	assert_int_equal(config_get(r, 0, 0, 4), 0x00081b36);
	/* A wide one whose upper half is set is far away. */
	place_bar(r, 1, 2, WINDOW);
	assert_true(f->a.moved[2] == WINDOW);
	place_bar(r, 1, 3, 1);
	assert_true(f->a.moved[2] == 0);
	place_bar(r, 1, 3, 0);
	assert_int_equal(mem_get_len(r, WINDOW + 0xfffc, 4), 0xaaaaaaaa);
}

static void test_overlap(void **state)
{
	struct fixture *f = *state;
	struct pci_rig *r = &f->r;

	decode(r, 1, true);
	decode(r, 2, true);
	place_bar(r, 2, 2, WINDOW);
	assert_int_equal(mem_get_len(r, WINDOW, 4), 0xbbbbbbbb);
	/* The one of the earlier slot wins, all of the other is silent. */
	place_bar(r, 1, 0, WINDOW + 0x8000);
	assert_int_equal(mem_get_len(r, WINDOW + 0x8000, 4), 0xaaaaaaaa);
	assert_int_equal(mem_get_len(r, WINDOW, 4), ALL_ONES);
	assert_true(f->b.moved[2] == 0);
	place_bar(r, 1, 0, WINDOW + 0x10000);
	assert_int_equal(mem_get_len(r, WINDOW + 0x8000, 4), 0xbbbbbbbb);
	/* Two of one function. */
	place_bar(r, 1, 2, WINDOW + 0x10000);
	assert_true(f->a.moved[0] == WINDOW + 0x10000 && f->a.moved[2] == 0);
	place_bar(r, 1, 0, WINDOW + 0x20000);
	assert_true(f->a.moved[2] == WINDOW + 0x10000);
	/* When one goes, the other may answer. */
	place_bar(r, 1, 2, WINDOW);
	assert_true(f->b.moved[2] == 0);
	pci_detach(&f->a.f);
	assert_true(f->a.moved[0] == 0 && f->a.moved[2] == 0);
	assert_int_equal(mem_get_len(r, WINDOW, 4), 0xbbbbbbbb);
	assert_int_equal(config_get(r, 1, 0, 4), ALL_ONES);
	assert_int_equal(pci_attach(r->pci, &f->a.f, 1), 0);
	assert_true(f->a.f.place == 1);
}

static void test_slots(void **state)
{
	static struct card more[PCI_SLOTS];
	struct fixture *f = *state;
	unsigned n = 0;

	for (; n + 3 < PCI_SLOTS; n++) {
		card_init(&more[n], 0);
		assert_true(pci_is_free(f->r.pci, n + 3));
		assert_int_equal(pci_attach(f->r.pci, &more[n].f, n + 3), 0);
		assert_int_equal(more[n].f.place, n + 3);
	}
	card_init(&more[n], 0);
	for (unsigned place = 0; place <= PCI_PLACES; place++) { /* there is no port */
		assert_false(pci_is_free(f->r.pci, place));
		assert_int_equal(pci_attach(f->r.pci, &more[n].f, place), -EBUSY);
	}
	assert_int_equal(config_get(&f->r, 31, 0, 4), 0x56781234);
	pci_detach(&more[n].f); /* which is not there */
	while (n)
		pci_detach(&more[--n].f);
	assert_int_equal(config_get(&f->r, 31, 0, 4), ALL_ONES);
	assert_true(pci_is_free(f->r.pci, 31));
}

/* ---- Root ports ---- */

#define PORT_SLOT 31u
#define PORTS 3u

struct ported {
	struct pci_rig r;
	struct card card[PORTS]; /* one behind each */
	struct card root;
};

static uint64_t port(unsigned number, unsigned off)
{
	return ecam_at(0, PORT_SLOT, number, off);
}

static uint64_t behind(unsigned bus, unsigned off)
{
	return ecam_at(bus, 0, 0, off);
}

static int setup_ports(void **state)
{
	static struct ported f;

	pci_rig_init_with(&f.r, PORTS, PORT_SLOT);
	for (unsigned i = 0; i < PORTS; i++) {
		card_init(&f.card[i], (uint8_t)(0x11 * (i + 1)));
		assert_int_equal(pci_attach(f.r.pci, &f.card[i].f, PCI_SLOTS + i), 0);
	}
	card_init(&f.root, 0xee);
	assert_int_equal(pci_attach(f.r.pci, &f.root.f, 1), 0);
	assert_int_equal(f.root.f.place, 1);
	*state = &f;
	return 0;
}

static int teardown_ports(void **state)
{
	struct ported *f = *state;

	for (unsigned i = 0; i < PORTS; i++)
		pci_detach(&f->card[i].f);
	pci_detach(&f->root.f);
	pci_rig_finish(&f->r);
	return 0;
}

/* As a driver of bridges does it: this bus, this megabyte of the window and those after it. */
static void set_port(
	struct pci_rig *r, unsigned number, unsigned bus, uint32_t window, uint32_t mib)
{
	uint32_t limit = window + (mib << 20) - 1;

	set_at(r, port(number, PCI_PRIMARY_BUS), 4, bus << 8 | bus << 16);
	set_at(r, port(number, PCI_MEMORY_BASE), 4, (limit & 0xfff00000) | window >> 16);
	set_at(r, port(number, PCI_COMMAND), 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static void place_behind(struct pci_rig *r, unsigned bus, uint32_t base)
{
	set_at(r, behind(bus, PCI_BASE_ADDRESS_0), 4, base);
	set_at(r, behind(bus, PCI_COMMAND), 2, PCI_COMMAND_MEMORY);
}

static void test_port_identity(void **state)
{
	struct pci_rig *r = &((struct ported *)*state)->r;

	assert_int_equal(pci_buses(r->pci), 1 + PORTS);
	for (unsigned i = 0; i < 8; i++) {
		uint32_t want = i < PORTS ? 0x000c1b36 : ALL_ONES;

		assert_int_equal(mem_get_len(r, port(i, PCI_VENDOR_ID), 4), want);
	}
	for (unsigned i = 0; i < PORTS; i++) {
		assert_int_equal(mem_get_len(r, port(i, PCI_CLASS_REVISION), 4), 0x06040000);
		assert_int_equal(mem_get_len(r, port(i, PCI_HEADER_TYPE), 1), 0x81);
		assert_int_equal(mem_get_len(r, port(i, PCI_CAPABILITY_LIST), 1), 0x40);
		assert_int_equal(mem_get_len(r, port(i, 0x40), 1), PCI_CAP_ID_EXP);
		assert_int_equal(mem_get_len(r, port(i, 0x41), 1), 0);
		/* Version 2, a root port without a slot; its link is up. */
		assert_int_equal(mem_get_len(r, port(i, 0x42), 2), 0x42);
		assert_int_equal(mem_get_len(r, port(i, 0x4c), 4), 0x11 | (i + 1) << 24);
		assert_int_equal(mem_get_len(r, port(i, 0x52), 2), 0x11);
	}
}

/* What there is to be set, and that the rest is not. */
static void test_port_registers(void **state)
{
	static const struct {
		unsigned off;
		uint32_t want;
	} set[] = {{0x04, 0x00100406}, {0x0c, 0x008100ff}, {0x18, 0x00ffffff}, {0x20, 0xfff0fff0},
		{0x3c, 0xff}};
	struct pci_rig *r = &((struct ported *)*state)->r;

	for (unsigned off = 0; off < 256; off += 4) {
		uint32_t before = mem_get_len(r, port(1, off), 4), want = before;

		for (unsigned i = 0; i < ARRAY_SIZE(set); i++)
			if (set[i].off == off)
				want = set[i].want;
		set_at(r, port(1, off), 4, ALL_ONES);
		assert_int_equal(mem_get_len(r, port(1, off), 4), want);
		set_at(r, port(1, off), 4, 0);
		assert_int_equal(mem_get_len(r, port(1, off), 4), before);
	}
}

static void test_port_buses(void **state)
{
	struct ported *f = *state;
	struct pci_rig *r = &f->r;
	uint32_t v;

	for (unsigned bus = 1; bus <= PORTS; bus++)
		assert_int_equal(mem_get_len(r, behind(bus, 0), 4), ALL_ONES);
	set_port(r, 0, 2, WINDOW, 1);
	set_port(r, 1, 1, WINDOW, 1);
	set_port(r, 2, 200, WINDOW, 1);
	assert_int_equal(mem_get_len(r, behind(1, 0), 4), 0x56781234);
	assert_int_equal(mem_get_len(r, ecam_at(1, 0, 1, 0), 4), ALL_ONES);
	assert_int_equal(mem_get_len(r, ecam_at(1, 1, 0, 0), 4), ALL_ONES);
	set_at(r, behind(1, PCI_INTERRUPT_LINE), 1, 7);
	assert_int_equal(f->card[1].f.space[PCI_INTERRUPT_LINE], 7);
	assert_int_equal(f->card[0].f.space[PCI_INTERRUPT_LINE], 0);
	/* The third is past configuration space in memory, and there by ports. */
	assert_int_equal(mem_get_len(r, behind(3, 0), 4), ALL_ONES);
	v = 1u << 31 | 200 << 16;
	bus_write(&r->pio, PORT_PCI_ADDRESS, &v, 4);
	bus_read(&r->pio, PORT_PCI_DATA, &v, 4);
	assert_int_equal(v, 0x56781234);
	/* Two on one bus: the first is there. */
	set_port(r, 2, 2, WINDOW, 1);
	set_at(r, behind(2, PCI_INTERRUPT_LINE), 1, 9);
	assert_int_equal(f->card[0].f.space[PCI_INTERRUPT_LINE], 9);
	pci_detach(&f->card[0].f);
	assert_int_equal(mem_get_len(r, behind(2, 0), 4), ALL_ONES);
	/* Bus 0 is the root, whatever a port says. */
	set_port(r, 2, 0, WINDOW, 1);
	assert_int_equal(mem_get_len(r, ecam_at(0, 0, 0, 0), 4), 0x00081b36);
}

static void test_port_window(void **state)
{
	struct ported *f = *state;
	struct pci_rig *r = &f->r;

	set_port(r, 0, 1, WINDOW + 0x100000, 2);
	place_behind(r, 1, WINDOW + 0x100000);
	assert_int_equal(mem_get_len(r, WINDOW + 0x100000, 4), 0x11111111);
	place_behind(r, 1, WINDOW + 0x2ff000);
	assert_int_equal(mem_get_len(r, WINDOW + 0x2ff000, 4), 0x11111111);
	place_behind(r, 1, WINDOW + 0x300000); /* past the port's */
	assert_int_equal(mem_get_len(r, WINDOW + 0x300000, 4), ALL_ONES);
	place_behind(r, 1, WINDOW + 0xff000);
	assert_int_equal(mem_get_len(r, WINDOW + 0xff000, 4), ALL_ONES);
	/* The port's window moves over it; then its decoding is off, then it leads nowhere. */
	set_port(r, 0, 1, WINDOW, 1);
	assert_int_equal(mem_get_len(r, WINDOW + 0xff000, 4), 0x11111111);
	set_at(r, port(0, PCI_COMMAND), 2, 0);
	assert_int_equal(mem_get_len(r, WINDOW + 0xff000, 4), ALL_ONES);
	set_at(r, port(0, PCI_COMMAND), 2, PCI_COMMAND_MEMORY);
	assert_int_equal(mem_get_len(r, WINDOW + 0xff000, 4), 0x11111111);
	set_at(r, port(0, PCI_SECONDARY_BUS), 1, 0);
	assert_true(f->card[0].moved[0] == 0);
	set_at(r, port(0, PCI_SECONDARY_BUS), 1, 1);
	assert_true(f->card[0].moved[0] == WINDOW + 0xff000);
	/* A window that ends before it begins, and one that is everything. */
	set_at(r, port(0, PCI_MEMORY_BASE), 4, 0xc000c010);
	assert_true(f->card[0].moved[0] == 0);
	set_at(r, port(0, PCI_MEMORY_BASE), 4, 0xfff00000);
	assert_true(f->card[0].moved[0] == WINDOW + 0xff000);
	place_behind(r, 1, LAYOUT_PCI_ECAM); /* and yet not out of the bridge's */
	assert_true(f->card[0].moved[0] == 0);
	/* One on the root bus has been there first. */
	place_behind(r, 1, WINDOW + 0x5000);
	place_bar(r, 1, 0, WINDOW + 0x5000);
	decode(r, 1, true);
	assert_int_equal(mem_get_len(r, WINDOW + 0x5000, 4), 0xeeeeeeee);
	assert_true(f->card[0].moved[0] == 0);
}

static void test_port_state(void **state)
{
	struct ported *f = *state;
	struct pci_rig *r = &f->r, other;
	struct stream_out s;
	struct stream_in in;

	set_port(r, 1, 1, WINDOW, 1);
	place_behind(r, 1, WINDOW + 0x4000);
	stream_out_init(&s);
	pci_save(r->pci, &s);
	pci_function_save(&f->card[1].f, &s);
	assert_int_equal(s.err, 0);
	pci_function_reset(&f->card[1].f);
	pci_reset(r->pci);
	assert_int_equal(mem_get_len(r, behind(1, 0), 4), ALL_ONES);
	assert_int_equal(mem_get_len(r, WINDOW + 0x4000, 4), ALL_ONES);
	stream_in_init(&in, s.buf, s.len);
	assert_int_equal(pci_load(r->pci, &in), 0);
	assert_int_equal(pci_function_load(&f->card[1].f, &in), 0);
	assert_int_equal(mem_get_len(r, behind(1, 0), 4), 0x56781234);
	assert_int_equal(mem_get_len(r, WINDOW + 0x4000, 4), 0x22222222);
	pci_rig_init_with(&other, PORTS - 1, PORT_SLOT);
	stream_in_init(&in, s.buf, s.len);
	assert_int_equal(pci_load(other.pci, &in), -EINVAL);
	pci_rig_finish(&other);
	stream_out_finish(&s);
}

/* All slots of the root bus but that of the ports, which may be any, and those behind them. */
static void test_port_places(void **state)
{
	static struct card more[PCI_PLACES];
	struct card extra;
	struct pci_rig r;
	unsigned n = 0;

	pci_rig_init_with(&r, PCI_PORTS, 29);
	assert_int_equal(mem_get_len(&r, ecam_at(0, 29, 7, 0), 4), 0x000c1b36);
	card_init(&extra, 0);
	for (unsigned place = 1; place < PCI_PLACES; place++) {
		card_init(&more[n], 0);
		if (place != 29)
			assert_int_equal(pci_attach(r.pci, &more[n++].f, place), 0);
		assert_int_equal(pci_attach(r.pci, &extra.f, place), -EBUSY);
	}
	assert_int_equal(pci_attach(r.pci, &extra.f, PCI_PLACES), -EBUSY);
	while (n)
		pci_detach(&more[--n].f);
	pci_rig_finish(&r);
}

static void save(struct fixture *f, struct stream_out *s)
{
	stream_out_init(s);
	pci_save(f->r.pci, s);
	pci_function_save(&f->a.f, s);
	assert_int_equal(s->err, 0);
}

static int load(struct fixture *f, const struct stream_out *s)
{
	struct stream_in in;
	int rc;

	stream_in_init(&in, s->buf, s->len);
	rc = pci_load(f->r.pci, &in);
	return rc ? rc : pci_function_load(&f->a.f, &in);
}

static void test_save_load(void **state)
{
	struct fixture *f = *state;
	struct pci_rig *r = &f->r;
	struct stream_out s, bad;
	unsigned refused = 0;

	place_bar(r, 1, 0, WINDOW + 0x3000);
	decode(r, 1, true);
	config_address(r, 1, 0);
	save(f, &s);
	pci_function_reset(&f->a.f);
	pci_reset(r->pci);
	assert_int_equal(mem_get_len(r, WINDOW + 0x3000, 4), ALL_ONES);
	assert_int_equal(config_get(r, 1, PCI_COMMAND, 2), 0);
	assert_int_equal(load(f, &s), 0);
	assert_int_equal(mem_get_len(r, WINDOW + 0x3000, 4), 0xaaaaaaaa);
	bus_read(&r->pio, PORT_PCI_DATA, &refused, 4);
	assert_int_equal(refused, 0x56781234);
	save(f, &bad);
	refused = 0;
	for (size_t bit = 0; bit < s.len * 8; bit++) {
		bad.buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
		refused += load(f, &bad) < 0;
		assert_int_equal(config_get(r, 1, 0, 4), 0x56781234);
		bad.buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_true(refused > 2000);
	for (size_t len = 0; len < s.len; len++) {
		bad.len = len;
		assert_true(load(f, &bad) < 0);
	}
	stream_out_finish(&s);
	stream_out_finish(&bad);
}

static void test_refusals(void **state)
{
	static const struct bus_ops none;
	const struct bus_range ram = {LAYOUT_PCI_WINDOW + 0x1000, 1, &none, NULL, "x", 0};
	struct pci_rig r = {0};
	const struct pci_config cfg = {.pio = &r.pio, .mmio = &r.mmio};

	assert_int_equal(bus_add(&r.mmio, &ram), 0);
	assert_int_equal(pci_create(&r.pci, &cfg), -EEXIST);
	assert_int_equal(r.pio.count, 0);
	assert_int_equal(r.mmio.count, 1);
	bus_del(&r.mmio, ram.base);
	pci_rig_finish(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_identity, setup, teardown),
		cmocka_unit_test_setup_teardown(test_widths, setup, teardown),
		cmocka_unit_test_setup_teardown(test_absent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_address_port, setup, teardown),
		cmocka_unit_test_setup_teardown(test_masks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sizing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_decode, setup, teardown),
		cmocka_unit_test_setup_teardown(test_outside, setup, teardown),
		cmocka_unit_test_setup_teardown(test_overlap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slots, setup, teardown),
		cmocka_unit_test_setup_teardown(test_port_identity, setup_ports, teardown_ports),
		cmocka_unit_test_setup_teardown(test_port_registers, setup_ports, teardown_ports),
		cmocka_unit_test_setup_teardown(test_port_buses, setup_ports, teardown_ports),
		cmocka_unit_test_setup_teardown(test_port_window, setup_ports, teardown_ports),
		cmocka_unit_test_setup_teardown(test_port_state, setup_ports, teardown_ports),
		cmocka_unit_test(test_port_places),
		cmocka_unit_test_setup_teardown(test_save_load, setup, teardown),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
