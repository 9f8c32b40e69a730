// SPDX-License-Identifier: MIT
// The machine's devices, in creation order.
#include "vmm/devices.h"

#include "base/jail.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/stream.h"
#include "blk/engine.h"
#include "blk/raw.h"
#include "hw/acpi.h"
#include "hw/i8042.h"
#include "hw/pci.h"
#include "hw/pit.h"
#include "hw/pm.h"
#include "hw/pvpanic.h"
#include "hw/rtc.h"
#include "hw/serial.h"
#include "virtio/blk.h"
#include "virtio/mmio.h"
#include "virtio/rng.h"
#include "virtio/vsock.h"
#include "vmm/disk.h"

#include <errno.h>
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

static int add_pm(struct devices *d)
{
	const struct pm_config pm = {
		.pio = &d->pio,
		.irq = &d->ged_irq,
		.power_off = d->host.power_off,
		.reset = d->host.reset,
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
		rc = add_pm(d);
	if (!rc)
		rc = pvpanic_create(&d->pvpanic, &pvpanic);
	return rc;
}

/* Takes the device, also on failure. */
static int add_slot(
	struct devices *d, struct virtio_device *dev, void (*destroy)(struct virtio_device *dev))
{
	const struct slot_host host = {
		.kvm = d->kvm, .mem = d->mem, .io = d->io, .mmio = &d->mmio, .pci = d->pci};

	if (d->slots == SLOTS_MAX) {
		destroy(dev);
		return fail(ENOSPC, "no room for a virtio device past the %uth", d->slots);
	}
	d->slots++;
	return slot_init(&d->slot[d->slots - 1], &host, dev, destroy, d->slots - 1);
}

void devices_address(
	const struct devices *d, const struct virtio_device *dev, char *buf, size_t len)
{
	*buf = '\0';
	for (unsigned i = 0; i < d->slots; i++)
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

	return rc ? rc : add_slot(d, dev, vsock_destroy);
}

static int add_rng(struct devices *d)
{
	struct virtio_device *dev;
	int rc = rng_create(&dev, "rng");

	return rc ? rc : add_slot(d, dev, rng_destroy);
}

static int add_disk(
	struct devices *d, const struct disk_config *cfg, const struct disk_files *files)
{
	const struct disk_host host = {
		.engine = d->engine,
		.loop = d->io,
		.stopped = d->host.disk_stopped,
		.arg = d->host.arg,
	};
	struct virtio_blk_config_args args = {
		.name = disk_name(cfg),
		.serial = cfg->serial,
		.queues = cfg->queues,
		.writeback = cfg->cache != RAW_WRITETHROUGH,
	};
	struct disk *disk = &d->disk[d->disks];
	int rc = disk_create(disk, cfg, files, &host);

	if (rc)
		return rc;
	args.blk = disk->blk;
	rc = virtio_blk_create(&disk->dev, &args);
	if (!rc)
		rc = add_slot(d, disk->dev, virtio_blk_destroy);
	if (!rc)
		d->disks++;
	return rc;
}

static int create_engine(struct devices *d, const struct machine_config *cfg)
{
	int rc = engine_create(&d->engine, d->io, (enum engine_kind)cfg->disk_engine);

	if (rc)
		return fail_context(rc, "--disk-engine %s", engine_kind_names[cfg->disk_engine]);
	log_info("disks are read and written through %s", engine_name(d->engine));
	return 0;
}

/* Takes the descriptors: those that come to nothing are closed. */
static int add_disks(struct devices *d, const struct machine_config *cfg)
{
	int rc = cfg->disk_count ? create_engine(d, cfg) : 0;

	for (unsigned i = 0; i < cfg->disk_count; i++)
		if (rc)
			disk_close(&cfg->disk_files[i]);
		else
			rc = add_disk(d, &cfg->disks[i], &cfg->disk_files[i]);
	return rc;
}

static int add_virtio(struct devices *d, const struct machine_config *cfg)
{
	int rc = 0;

	if (!cfg->vsock && !cfg->rng && !cfg->disk_count)
		return 0;
	rc = loop_create(&d->io, "io");
	if (!rc && cfg->transport == TRANSPORT_PCI)
		rc = pci_create(&d->pci, &d->pio, &d->mmio);
	if (!rc && cfg->vsock)
		rc = add_vsock(d, cfg);
	if (!rc && cfg->rng)
		rc = add_rng(d);
	return rc ? rc : add_disks(d, cfg);
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
	};
	rc = add_legacy(d, cfg);
	return rc ? rc : add_virtio(d, cfg);
}

void devices_flush(struct devices *d)
{
	if (d->serial)
		serial_flush(d->serial, CONSOLE_FLUSH_MS);
}

void devices_finish(struct devices *d)
{
	if (d->io)
		loop_join(d->io);
	while (d->slots)
		slot_finish(&d->slot[--d->slots]);
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
		.pci = d->pci,
	};
	int rc;

	for (unsigned i = 0; i < acpi.mmio_count; i++)
		virtio[i] = (struct acpi_mmio){.base = d->slot[i].base,
			.size = VIRTIO_MMIO_SIZE,
			.gsi = d->slot[i].irq.gsi};
	rc = acpi_build(d->mem, &acpi, rsdp);
	return rc ? rc : pm_write_reset_vector(d->mem);
}

static void enter_io(void *arg)
{
	const struct machine_config *cfg = arg;

	if (jail_enter(JAIL_IO, cfg->jail)) {
		log_error("%s", last_error());
		_exit(EXIT_JAIL);
	}
}

int devices_start(struct devices *d, struct machine_config *cfg)
{
	return d->io ? loop_spawn(d->io, enter_io, cfg) : 0;
}

void devices_pause(struct devices *d)
{
	for (unsigned i = 0; i < d->slots; i++)
		slot_pause(&d->slot[i]);
}

void devices_resume(struct devices *d)
{
	for (unsigned i = 0; i < d->slots; i++)
		slot_resume(&d->slot[i]);
}

void devices_reset(struct devices *d)
{
	for (unsigned i = 0; i < d->slots; i++)
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

int devices_save(struct devices *d, struct stream_out *s)
{
	devices_flush(d);
	if (d->serial)
		serial_save(d->serial, s);
	pit_save(d->pit, s);
	i8042_save(d->i8042, s);
	rtc_save(d->rtc, s);
	pm_save(d->pm, s);
	if (d->pci)
		pci_save(d->pci, s);
	for (unsigned i = 0; i < d->slots; i++)
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
	if (!rc && d->pci)
		rc = pci_load(d->pci, s);
	for (unsigned i = 0; !rc && i < d->slots; i++)
		rc = slot_load(&d->slot[i], s);
	return rc;
}
