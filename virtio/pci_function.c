// SPDX-License-Identifier: MIT
// What a virtio device looks like in PCI's configuration space (virtio 1.2, 4.1.2 to 4.1.4).
#include "virtio/pci_private.h"

#include "base/util.h"
#include "hw/msi.h"

#include <linux/pci_regs.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>
#include <stddef.h>

#define VENDOR 0x1af4u
#define DEVICE_BASE 0x1040u /* and the device's id */
#define SUBSYSTEM 0x1100u   /* 0x40 and up: not a transitional device (4.1.2.1) */
#define REVISION 1u

#define CLASS_OTHER 0x00ff00u

static uint32_t class_of(uint32_t id)
{
	static const struct {
		uint32_t id, class;
	} classes[] = {
		{VIRTIO_ID_NET, 0x020000},
		{VIRTIO_ID_BLOCK, 0x018000},
		{VIRTIO_ID_CONSOLE, 0x078000},
		{VIRTIO_ID_SCSI, 0x010000},
		{VIRTIO_ID_VSOCK, 0x028000},
		{VIRTIO_ID_FS, 0x018000},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(classes); i++)
		if (classes[i].id == id)
			return classes[i].class;
	return CLASS_OTHER;
}

/* 4.1.4; `extra` bytes follow the structure and are zeroes. */
static unsigned add_capability(
	struct virtio_pci *v, uint8_t type, uint32_t at, uint32_t size, unsigned extra)
{
	struct virtio_pci_cap cap = {
		.cap_len = (uint8_t)(sizeof(cap) + extra),
		.cfg_type = type,
		.bar = BAR_NUMBER,
		.offset = htole32(at),
		.length = htole32(size),
	};
	uint8_t body[sizeof(cap) + 4] = {0};

	memcpy(body, &cap, sizeof(cap));
	/* Its first two bytes are PCI's own. */
	return pci_function_add_capability(&v->function, PCI_CAP_ID_VNDR,
		body + offsetof(struct virtio_pci_cap, cap_len),
		sizeof(cap) + extra - (unsigned)offsetof(struct virtio_pci_cap, cap_len));
}

/* The driver chooses BAR, offset and length of an access; data moves as it is touched (4.1.4.9). */
static void add_window(struct virtio_pci *v)
{
	v->window = add_capability(v, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, 4);
	v->function.writable[v->window + offsetof(struct virtio_pci_cap, bar)] = 0xff;
	pci_function_let_write(
		&v->function, v->window + offsetof(struct virtio_pci_cap, offset), UINT32_MAX);
	pci_function_let_write(
		&v->function, v->window + offsetof(struct virtio_pci_cap, length), UINT32_MAX);
	pci_function_let_write(&v->function, v->window + WINDOW_DATA, UINT32_MAX);
}

static void add_capabilities(struct virtio_pci *v)
{
	const struct virtio_device *dev = v->cfg.dev;
	unsigned notify;

	add_capability(
		v, VIRTIO_PCI_CAP_COMMON_CFG, AT_COMMON, sizeof(struct virtio_pci_common_cfg), 0);
	add_capability(v, VIRTIO_PCI_CAP_ISR_CFG, AT_ISR, 1, 0);
	notify = add_capability(
		v, VIRTIO_PCI_CAP_NOTIFY_CFG, AT_NOTIFY, dev->queue_count * NOTIFY_STRIDE, 4);
	put_le32(v->function.space + notify + sizeof(struct virtio_pci_cap), NOTIFY_STRIDE);
	if (dev->config_len)
		add_capability(v, VIRTIO_PCI_CAP_DEVICE_CFG, AT_DEVICE, dev->config_len, 0);
	add_window(v);
}

/* ---- The window in configuration space ---- */

/* Whether the driver touches the data, and has described an access that there may be. */
static bool find_access(
	const struct virtio_pci *v, unsigned off, unsigned len, uint32_t *at, uint32_t *size)
{
	const uint8_t *cap = v->function.space + v->window;
	unsigned data = v->window + WINDOW_DATA;

	*at = get_le32(cap + offsetof(struct virtio_pci_cap, offset));
	*size = get_le32(cap + offsetof(struct virtio_pci_cap, length));
	return off < data + 4 && off + len > data &&
	       cap[offsetof(struct virtio_pci_cap, bar)] == BAR_NUMBER &&
	       (*size == 1 || *size == 2 || *size == 4) && *at % *size == 0 &&
	       range_ok(*at, *size, BAR_SIZE);
}

static void config_read(void *dev, unsigned off, unsigned len)
{
	struct virtio_pci *v = dev;
	uint32_t at, size;

	if (find_access(v, off, len, &at, &size))
		virtio_pci_bar_read(v, at, v->function.space + v->window + WINDOW_DATA, size);
}

static void config_written(void *dev, unsigned off, unsigned len)
{
	struct virtio_pci *v = dev;
	uint32_t at, size;

	msix_config_written(&v->msix);
	if (find_access(v, off, len, &at, &size))
		virtio_pci_bar_write(v, at, v->function.space + v->window + WINDOW_DATA, size);
}

static const struct pci_function_ops function_ops = {
	.config_read = config_read,
	.config_written = config_written,
	.bar_moved = virtio_pci_bar_moved,
};

int virtio_pci_make_function(struct virtio_pci *v, const struct bus_ops *ops)
{
	const struct virtio_device *dev = v->cfg.dev;
	const struct pci_id id = {
		.vendor = VENDOR,
		.device = (uint16_t)(DEVICE_BASE + dev->id),
		.subsystem_vendor = VENDOR,
		.subsystem = SUBSYSTEM,
		.revision = REVISION,
		.class = class_of(dev->id),
	};
	const struct pci_bar bar = {.size = BAR_SIZE, .ops = ops};
	const struct msix_config msix = {
		.function = &v->function,
		.vectors = dev->queue_count + 1,
		.bar = BAR_NUMBER,
		.table = AT_TABLE,
		.pending = AT_PENDING,
		.send = msi_send,
		.arg = v->cfg.kvm,
		.kvm = v->cfg.kvm,
	};

	v->function.ops = &function_ops;
	v->function.dev = v;
	v->function.name = dev->name;
	pci_function_init(&v->function, &id);
	pci_function_set_bar(&v->function, BAR_NUMBER, &bar);
	add_capabilities(v);
	return msix_init(&v->msix, &msix);
}
