// SPDX-License-Identifier: MIT
// A virtio device in its place, on either transport.
#include "vmm/slot.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "hw/layout.h"
#include "hw/pci.h"
#include "virtio/mmio.h"
#include "virtio/pci.h"

#include <errno.h>
#include <stdio.h>

/* Lines are shared by none while there are at most 8 devices. */
static int init_mmio(struct slot *s, const struct slot_host *h, unsigned number)
{
	struct virtio_mmio_config cfg = {
		.dev = s->dev,
		.mem = h->mem,
		.kvm = h->kvm,
		.bus = h->mmio,
		.irq = &s->irq,
		.io = h->io,
	};
	int rc;

	if (number >= LAYOUT_VIRTIO_MMIO_MAX || GSI_VIRTIO + number >= GSI_COUNT)
		return fail(ENOSPC, "no room for a virtio device past the %uth", number);
	s->base = cfg.base = LAYOUT_VIRTIO_MMIO + number * LAYOUT_VIRTIO_MMIO_STRIDE;
	rc = irq_init(&s->irq, h->kvm, GSI_VIRTIO + number);
	return rc ? rc : virtio_mmio_create(&s->mmio, &cfg);
}

static int init_pci(struct slot *s, const struct slot_host *h, unsigned place)
{
	const struct virtio_pci_config cfg = {
		.dev = s->dev,
		.mem = h->mem,
		.kvm = h->kvm,
		.pci = h->pci,
		.place = place,
		.io = h->io,
	};

	return virtio_pci_create(&s->pci, &cfg);
}

int slot_init(struct slot *s, const struct slot_host *h, struct virtio_device *dev,
	void (*destroy)(struct virtio_device *dev), unsigned place)
{
	*s = (struct slot){
		.dev = dev, .destroy = destroy, .io = h->io, .irq = IRQ_NONE, .told = -1};
	return h->pci ? init_pci(s, h, place) : init_mmio(s, h, place);
}

void slot_unplug(struct slot *s)
{
	virtio_pci_unplug(s->pci);
}

static void destroy_device(void *arg)
{
	struct slot *s = arg;

	s->destroy(s->dev);
}

void slot_finish(struct slot *s)
{
	virtio_pci_destroy(s->pci);
	virtio_mmio_destroy(s->mmio);
	irq_finish(&s->irq, NULL);
	loop_call(s->io, destroy_device, s);
	s->dev = NULL;
	cleanup_fd_(&s->told);
}

void slot_address(const struct slot *s, char *buf, size_t len)
{
	unsigned place = s->pci ? virtio_pci_place(s->pci) : 0;

	if (place >= PCI_SLOTS) /* on a bus whose number is the guest's affair */
		snprintf(buf, len, "pci root port %u", place - PCI_SLOTS);
	else if (s->pci)
		snprintf(buf, len, "pci 00:%02x.0", place);
	else
		snprintf(buf, len, "mmio %#llx", (unsigned long long)s->base);
}

void slot_pause(struct slot *s)
{
	if (s->pci)
		virtio_pci_pause(s->pci);
	else
		virtio_mmio_pause(s->mmio);
}

void slot_resume(struct slot *s)
{
	if (s->pci)
		virtio_pci_resume(s->pci);
	else
		virtio_mmio_resume(s->mmio);
}

void slot_reset(struct slot *s)
{
	if (s->pci)
		virtio_pci_reset(s->pci);
	else
		virtio_mmio_reset(s->mmio);
}

void slot_save(struct slot *s, struct stream_out *out)
{
	if (s->pci)
		virtio_pci_save(s->pci, out);
	else
		virtio_mmio_save(s->mmio, out);
}

int slot_load(struct slot *s, struct stream_in *in)
{
	return s->pci ? virtio_pci_load(s->pci, in) : virtio_mmio_load(s->mmio, in);
}
