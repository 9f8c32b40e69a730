// SPDX-License-Identifier: MIT
// The machine's devices, in creation order.
#include "vmm/devices.h"

#include "base/jail.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/stream.h"
#include "blk/engine.h"
#include "hw/acpi.h"
#include "hw/i8042.h"
#include "hw/pit.h"
#include "hw/pm.h"
#include "hw/pvpanic.h"
#include "hw/rtc.h"
#include "hw/serial.h"
#include "virtio/device.h"
#include "virtio/mmio.h"
#include "virtio/rng.h"
#include "virtio/vsock.h"
#include "vmm/disk.h"

#include <linux/virtio_ids.h>
#include <stdio.h>
#include <unistd.h>

/* How long a terminal or a pipe may take to accept the last of the console's output. */
#define CONSOLE_FLUSH_MS 1000

static void serial_output(void *arg, const char *data, size_t len)
{
	struct devices *d = arg;

	if (panic_feed(&d->panic, data, len))
		d->host.panicked(d->host.arg, d->panic.over ? PANIC_DONE : PANIC_SAID);
}

static void pvpanic_event(void *arg, uint8_t events)
{
	struct devices *d = arg;

	if (events & PVPANIC_PANICKED)
		d->host.panicked(d->host.arg, PANIC_DONE);
}

static int add_serial(struct devices *d, const struct machine_config *cfg)
{
	const struct serial_config serial = {
		.pio = &d->pio,
		.irq = &d->com1_irq,
		.loop = d->control,
		.in_fd = cfg->serial_in,
		.out_fd = cfg->serial_out,
		.output = serial_output,
		.arg = d,
	};
	int rc;

	if (!cfg->serial)
		return 0;
	rc = irq_init(&d->com1_irq, d->kvm, GSI_COM1);
	return rc ? rc : serial_create(&d->serial, &serial);
}

static int add_rtc(struct devices *d)
{
	const struct rtc_config rtc = {.pio = &d->pio, .irq = &d->rtc_irq, .loop = d->control};
	int rc = irq_init(&d->rtc_irq, d->kvm, GSI_RTC);

	return rc ? rc : rtc_create(&d->rtc, &rtc);
}

static int add_pm(struct devices *d, const struct machine_config *cfg)
{
	const struct pm_config pm = {
		.pio = &d->pio,
		.irq = &d->ged_irq,
		.power_off = d->host.power_off,
		.reset = d->host.reset,
		.ejected = cfg->transport == TRANSPORT_PCI ? d->host.ejected : NULL,
		.arg = d->host.arg,
	};
	int rc = irq_init(&d->ged_irq, d->kvm, GSI_GED);

	return rc ? rc : pm_create(&d->pm, &pm);
}

static int add_legacy(struct devices *d, const struct machine_config *cfg)
{
	const struct i8042_config i8042 = {&d->pio, d->host.reset, d->host.arg};
	const struct pvpanic_config pvpanic = {&d->pio, pvpanic_event, d};
	int rc = add_serial(d, cfg);

	if (!rc)
		rc = pit_create(&d->pit, d->kvm, &d->pio);
	if (!rc)
		rc = i8042_create(&d->i8042, &i8042);
	if (!rc)
		rc = add_rtc(d);
	if (!rc)
		rc = add_pm(d, cfg);
	if (!rc)
		rc = pvpanic_create(&d->pvpanic, &pvpanic);
	return rc;
}

int devices_plug(struct devices *d, struct virtio_device *dev,
	void (*destroy)(struct virtio_device *dev), unsigned *place)
{
	const struct slot_host host = {
		.kvm = d->kvm, .mem = d->mem, .io = d->io, .mmio = &d->mmio, .pci = d->pci};
	struct slot *s;
	int rc;

	if (!d->pci)
		*place = d->slots;
	s = &d->slot[*place];
	rc = slot_init(s, &host, dev, destroy, *place);
	if (rc)
		slot_finish(s);
	else
		d->slots++;
	return rc;
}

static int plug_next(
	struct devices *d, struct virtio_device *dev, void (*destroy)(struct virtio_device *dev))
{
	unsigned place = places_take(&d->places, 0);

	return devices_plug(d, dev, destroy, &place);
}

void devices_address(
	const struct devices *d, const struct virtio_device *dev, char *buf, size_t len)
{
	*buf = '\0';
	for (unsigned i = 0; i < SLOTS_MAX; i++)
		if (d->slot[i].dev == dev)
			slot_address(&d->slot[i], buf, len);
}

static int add_vsock(struct devices *d, const struct machine_config *cfg)
{
	const struct vsock_config vsock = {
		.name = "vsock",
		.cid = cfg->vsock_cid,
		.dir = cfg->vsock_dir,
		.socket = MACHINE_VSOCK_NAME,
		.listen = cfg->vsock_listen,
	};
	struct virtio_device *dev;
	int rc = vsock_create(&dev, &vsock);

	return rc ? rc : plug_next(d, dev, vsock_destroy);
}

static int add_rng(struct devices *d)
{
	struct virtio_device *dev;
	int rc = rng_create(&dev, "rng");

	return rc ? rc : plug_next(d, dev, rng_destroy);
}

static int find_places(struct places *p, const struct machine_config *cfg)
{
	places_init(p);
	if (cfg->vsock)
		places_ask(p, 0);
	if (cfg->rng)
		places_ask(p, 0);
	for (unsigned i = 0; i < cfg->disk_count; i++)
		places_ask(p, cfg->disks[i].slot);
	for (unsigned i = 0; i < cfg->nic_count; i++)
		places_ask(p, cfg->nics[i].slot);
	return places_settle(p);
}

static int add_pci(struct devices *d)
{
	const struct pci_config pci = {.pio = &d->pio,
		.mmio = &d->mmio,
		.ports = d->places.ports,
		.port_slot = d->places.port_slot};

	return pci_create(&d->pci, &pci);
}

static int add_virtio(struct devices *d, const struct machine_config *cfg)
{
	bool pci = cfg->transport == TRANSPORT_PCI;
	int rc;

	if (!pci && !cfg->vsock && !cfg->rng && !cfg->disk_count && !cfg->nic_count)
		return 0;
	rc = loop_create(&d->io, "io");
	if (!rc)
		rc = find_places(&d->places, cfg);
	if (!rc && pci)
		rc = add_pci(d);
	if (!rc && cfg->vsock)
		rc = add_vsock(d, cfg);
	if (!rc && cfg->rng)
		rc = add_rng(d);
	if (!rc)
		rc = devices_add_disks(d, cfg);
	return rc ? rc : devices_add_nics(d, cfg);
}

int devices_init(struct devices *d, struct kvm *kvm, struct mem *mem, struct loop *control,
	const struct machine_config *cfg, const struct devices_host *host)
{
	int rc;

	*d = (struct devices){
		.kvm = kvm,
		.mem = mem,
		.control = control,
		.host = *host,
		.com1_irq = IRQ_NONE,
		.rtc_irq = IRQ_NONE,
		.ged_irq = IRQ_NONE,
		.cfg = cfg,
	};
	rc = add_legacy(d, cfg);
	return rc ? rc : add_virtio(d, cfg);
}

void devices_flush(struct devices *d)
{
	if (d->serial)
		serial_flush(d->serial, CONSOLE_FLUSH_MS);
}

static void leave_files(void *arg)
{
	engine_leave(arg);
}

void devices_leave(struct devices *d)
{
	devices_close_disks(d);
	if (d->engine)
		loop_call(d->io, leave_files, d->engine);
	devices_flush(d);
}

void devices_finish(struct devices *d)
{
	if (d->io)
		loop_join(d->io);
	for (unsigned i = 0; i < d->disks; i++)
		devices_end_job(d, d->disk[i].dev);
	for (unsigned i = SLOTS_MAX; i-- > 0;)
		if (d->slot[i].dev)
			slot_finish(&d->slot[i]);
	while (d->disks)
		devices_forget_disk(d, d->disk[0].dev);
	while (d->nics)
		devices_forget_nic(d, d->nic[0].dev);
	if (d->io && d->cfg->decompress)
		decompress_helper_unwatch(d->cfg->decompress);
	engine_destroy(d->engine);
	pci_destroy(d->pci);
	loop_destroy(d->io);
	pvpanic_destroy(d->pvpanic);
	pm_destroy(d->pm);
	rtc_destroy(d->rtc);
	i8042_destroy(d->i8042);
	pit_destroy(d->pit);
	devices_flush(d);
	serial_destroy(d->serial);
	irq_finish(&d->ged_irq, NULL);
	irq_finish(&d->rtc_irq, NULL);
	irq_finish(&d->com1_irq, NULL);
	bus_finish(&d->mmio);
	bus_finish(&d->pio);
}

int devices_describe(struct devices *d, uint32_t cpus, uint64_t *rsdp)
{
	struct acpi_mmio virtio[SLOTS_MAX];
	const struct acpi_config acpi = {
		.cpus = cpus,
		.serial = d->serial,
		.mmio = virtio,
		.mmio_count = d->pci ? 0 : d->slots,
		.pci_buses = d->pci ? pci_buses(d->pci) : 0,
	};
	int rc;

	for (unsigned i = 0; i < acpi.mmio_count; i++)
		virtio[i] = (struct acpi_mmio){.base = d->slot[i].base,
			.size = VIRTIO_MMIO_SIZE,
			.gsi = d->slot[i].irq.gsi};
	rc = acpi_build(d->mem, &acpi, rsdp);
	return rc ? rc : pm_write_reset_vector(d->mem);
}

/*
 * A disk may come while the machine runs, and no ring can be made behind the filter. It is made
 * here, beside a guest that starts, so that nobody waits for it.
 */
static void enter_io(void *arg)
{
	struct devices *d = arg;

	if (d->pci && !d->engine &&
		engine_create(&d->engine, d->io, (enum engine_kind)d->cfg->disk_engine))
		log_warn("%s: no disk can be attached", last_error());
	if (jail_enter(JAIL_IO, d->cfg->jail)) {
		log_error("%s", last_error());
		_exit(EXIT_JAIL);
	}
}

int devices_start(struct devices *d)
{
	return d->io ? loop_spawn(d->io, enter_io, d) : 0;
}

void devices_pause(struct devices *d)
{
	for (unsigned i = 0; i < SLOTS_MAX; i++)
		if (d->slot[i].dev)
			slot_pause(&d->slot[i]);
}

void devices_resume(struct devices *d)
{
	for (unsigned i = 0; i < SLOTS_MAX; i++)
		if (d->slot[i].dev)
			slot_resume(&d->slot[i]);
}

void devices_reset(struct devices *d)
{
	for (unsigned i = 0; i < SLOTS_MAX; i++)
		if (d->slot[i].dev)
			slot_reset(&d->slot[i]);
	if (d->pci)
		pci_reset(d->pci);
	pm_reset(d->pm);
	rtc_reset(d->rtc);
	i8042_reset(d->i8042);
	if (d->serial)
		serial_reset(d->serial);
	pit_reset(d->pit);
	d->panic = (struct panic){0};
}

static uint32_t kind_at(const struct devices *d, unsigned place)
{
	return d->slot[place].dev ? d->slot[place].dev->id : 0;
}

/* Which device is where: those that came while the machine ran are to be there when it is loaded.
 */
static void save_places(const struct devices *d, struct stream_out *s)
{
	stream_begin(s, "places", 1);
	for (unsigned i = 0; i < SLOTS_MAX; i++) {
		stream_put_u32(s, kind_at(d, i));
		stream_put_u8(s, devices_is_leaving(d, i));
	}
	stream_end(s);
}

static const char *name_of_kind(uint32_t kind)
{
	if (kind == VIRTIO_ID_BLOCK)
		return "a disk";
	if (kind == VIRTIO_ID_NET)
		return "a NIC";
	return kind ? "another device" : "nothing";
}

static int load_places(struct devices *d, struct stream_in *s)
{
	int rc = stream_open(s, "places", 1);
	char text[96];

	atomic_store(&d->leaving, 0);
	for (unsigned i = 0; i < SLOTS_MAX && rc >= 0 && !s->err; i++) {
		uint32_t kind = stream_get_u32(s);

		if (stream_get_u8(s))
			devices_set_leaving(d, i);
		if (kind == kind_at(d, i) || s->err)
			continue;
		snprintf(text, sizeof(text), "slot %u had %s, and has %s here", i,
			name_of_kind(kind), name_of_kind(kind_at(d, i)));
		stream_bad(s, text);
	}
	return rc < 0 ? rc : stream_close(s);
}

int devices_save(struct devices *d, struct stream_out *s)
{
	devices_flush(d);
	if (d->serial)
		serial_save(d->serial, s);
	pit_save(d->pit, s);
	i8042_save(d->i8042, s);
	rtc_save(d->rtc, s);
	pm_save(d->pm, s);
	save_places(d, s);
	if (d->pci)
		pci_save(d->pci, s);
	for (unsigned i = 0; i < SLOTS_MAX; i++)
		if (d->slot[i].dev)
			slot_save(&d->slot[i], s);
	return s->err;
}

int devices_load(struct devices *d, struct stream_in *s)
{
	int rc = d->serial ? serial_load(d->serial, s) : 0;

	if (!rc)
		rc = pit_load(d->pit, s);
	if (!rc)
		rc = i8042_load(d->i8042, s);
	if (!rc)
		rc = rtc_load(d->rtc, s);
	if (!rc)
		rc = pm_load(d->pm, s);
	if (!rc)
		rc = load_places(d, s);
	if (!rc && d->pci)
		rc = pci_load(d->pci, s);
	for (unsigned i = 0; !rc && i < SLOTS_MAX; i++)
		if (d->slot[i].dev)
			rc = slot_load(&d->slot[i], s);
	return rc;
}
