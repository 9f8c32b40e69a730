// SPDX-License-Identifier: MIT
// The registers of the common configuration (virtio 1.2, 4.1.4.3).
#include "virtio/pci_private.h"

#include "base/util.h"

#include <linux/virtio_pci.h>

/* How wide the register at `off` is in bytes; 0: there is none. Those of 64 bits are two of 32. */
static unsigned width_at(uint64_t off)
{
	static const uint8_t widths[sizeof(struct virtio_pci_common_cfg)] = {
		[VIRTIO_PCI_COMMON_DFSELECT] = 4,
		[VIRTIO_PCI_COMMON_DF] = 4,
		[VIRTIO_PCI_COMMON_GFSELECT] = 4,
		[VIRTIO_PCI_COMMON_GF] = 4,
		[VIRTIO_PCI_COMMON_MSIX] = 2,
		[VIRTIO_PCI_COMMON_NUMQ] = 2,
		[VIRTIO_PCI_COMMON_STATUS] = 1,
		[VIRTIO_PCI_COMMON_CFGGENERATION] = 1,
		[VIRTIO_PCI_COMMON_Q_SELECT] = 2,
		[VIRTIO_PCI_COMMON_Q_SIZE] = 2,
		[VIRTIO_PCI_COMMON_Q_MSIX] = 2,
		[VIRTIO_PCI_COMMON_Q_ENABLE] = 2,
		[VIRTIO_PCI_COMMON_Q_NOFF] = 2,
		[VIRTIO_PCI_COMMON_Q_DESCLO] = 4,
		[VIRTIO_PCI_COMMON_Q_DESCHI] = 4,
		[VIRTIO_PCI_COMMON_Q_AVAILLO] = 4,
		[VIRTIO_PCI_COMMON_Q_AVAILHI] = 4,
		[VIRTIO_PCI_COMMON_Q_USEDLO] = 4,
		[VIRTIO_PCI_COMMON_Q_USEDHI] = 4,
	};

	return off < sizeof(widths) ? widths[off] : 0;
}

/* The selected queue's vector, or NULL. */
static _Atomic uint16_t *selected_vector(struct virtio_pci *v)
{
	return v->queue_sel < v->cfg.dev->queue_count ? &v->vectors[v->queue_sel] : NULL;
}

static enum transport_ring ring_at(uint64_t off)
{
	static const enum transport_ring rings[] = {RING_DESC, RING_AVAIL, RING_USED};

	return rings[(off - VIRTIO_PCI_COMMON_Q_DESCLO) / 8];
}

static uint32_t read_queue_register(struct virtio_pci *v, uint64_t off)
{
	_Atomic uint16_t *vector = selected_vector(v);

	switch (off) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		return transport_queue_size(&v->t, v->queue_sel);
	case VIRTIO_PCI_COMMON_Q_MSIX:
		return vector ? atomic_load(vector) : VIRTIO_MSI_NO_VECTOR;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		return transport_queue_ready(&v->t, v->queue_sel);
	case VIRTIO_PCI_COMMON_Q_NOFF:
		return v->queue_sel;
	default:
		return (uint32_t)(transport_queue_ring(&v->t, v->queue_sel, ring_at(off)) >>
				  8 * (off & 4));
	}
}

static uint32_t read_register(struct virtio_pci *v, uint64_t off)
{
	switch (off) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		return v->offered_sel;
	case VIRTIO_PCI_COMMON_DF:
		return transport_offered(&v->t, v->offered_sel);
	case VIRTIO_PCI_COMMON_GFSELECT:
		return v->accept_sel;
	case VIRTIO_PCI_COMMON_GF:
		return v->accept_sel < 2 ? (uint32_t)(v->cfg.dev->features >> 32 * v->accept_sel)
					 : 0;
	case VIRTIO_PCI_COMMON_MSIX:
		return atomic_load(&v->config_vector);
	case VIRTIO_PCI_COMMON_NUMQ:
		return v->cfg.dev->queue_count;
	case VIRTIO_PCI_COMMON_STATUS:
		return transport_status(&v->t);
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		return (uint8_t)virtio_config_generation(v->cfg.dev);
	case VIRTIO_PCI_COMMON_Q_SELECT:
		return v->queue_sel;
	default:
		return read_queue_register(v, off);
	}
}

/* One that there is not reads back as none: so the driver learns that it cannot have it. */
void virtio_pci_set_vector(struct virtio_pci *v, _Atomic uint16_t *vector, uint32_t value)
{
	if (!vector) {
		mistake(v, "vector %u for queue %u: there is none", value, v->queue_sel);
		return;
	}
	atomic_store(vector, value < v->msix.cfg.vectors ? (uint16_t)value : VIRTIO_MSI_NO_VECTOR);
	msix_calls_moved(&v->msix);
}

static void write_queue_register(struct virtio_pci *v, uint64_t off, uint32_t value)
{
	if (off == VIRTIO_PCI_COMMON_Q_SIZE)
		transport_set_queue_size(&v->t, v->queue_sel, value);
	else if (off == VIRTIO_PCI_COMMON_Q_MSIX)
		virtio_pci_set_vector(v, selected_vector(v), value);
	else if (off == VIRTIO_PCI_COMMON_Q_ENABLE && value == 1)
		transport_set_queue_ready(&v->t, v->queue_sel, 1);
	else if (off >= VIRTIO_PCI_COMMON_Q_DESCLO)
		transport_set_queue_ring(&v->t, v->queue_sel, ring_at(off), off & 4, value);
	else /* a queue is never taken back alone: no queue_reset is offered */
		mistake(v, "%#x written to register %#lx", value, off);
}

static void write_register(struct virtio_pci *v, uint64_t off, uint32_t value)
{
	switch (off) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		v->offered_sel = value;
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		v->accept_sel = value;
		break;
	case VIRTIO_PCI_COMMON_GF:
		transport_accept(&v->t, v->accept_sel, value);
		break;
	case VIRTIO_PCI_COMMON_MSIX:
		virtio_pci_set_vector(v, &v->config_vector, value);
		break;
	case VIRTIO_PCI_COMMON_STATUS:
		transport_set_status(&v->t, value);
		break;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		v->queue_sel = (uint16_t)value;
		break;
	default:
		write_queue_register(v, off, value);
	}
}

/* With the transport's lock held. Another width is a mistake: reads as zeroes, changes nothing. */
static bool is_register(struct virtio_pci *v, uint64_t off, unsigned len)
{
	if (len == width_at(off))
		return true;
	mistake(v, "%u bytes accessed at register %#lx", len, off);
	return false;
}

void virtio_pci_common_read(struct virtio_pci *v, uint64_t off, void *data, unsigned len)
{
	uint32_t value = 0;

	pthread_mutex_lock(&v->t.lock);
	if (is_register(v, off, len))
		value = read_register(v, off);
	pthread_mutex_unlock(&v->t.lock);
	value = htole32(value);
	memcpy(data, &value, MIN(len, sizeof(value)));
}

void virtio_pci_common_write(struct virtio_pci *v, uint64_t off, const void *data, unsigned len)
{
	uint32_t value = 0;

	memcpy(&value, data, MIN(len, sizeof(value)));
	pthread_mutex_lock(&v->t.lock);
	if (is_register(v, off, len))
		write_register(v, off, le32toh(value));
	pthread_mutex_unlock(&v->t.lock);
}
