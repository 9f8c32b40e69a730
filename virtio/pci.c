// SPDX-License-Identifier: MIT
// The virtio-pci transport (virtio 1.2, 4.1).
//
// Doorbells. Each queue has its own, which the kernel can so tell by the address alone. The driver
// may move the BAR at any time: the ioeventfds are then let go, and made again in the new place
// with the next kick of queues that are worth one.
//
// Interrupts are MSI-X, a vector for each queue and one for the configuration, or as few as the
// driver can have. A driver that does not enable it has to look at ISR status by itself. Queues
// that the monitor owns raise them by a system call, those handed over by an eventfd.
//
// Locks, in the order in which they are taken: the PCI bus's (configuration space), the
// transport's (registers), that of the doorbells. Of these the io loop takes the last only.
#include "virtio/pci_private.h"

#include "base/stream.h"
#include "base/util.h"
#include "hw/kvm.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include <stdlib.h>

#define ISR_QUEUE 1u
#define ISR_CONFIG 2u

/* ---- To the driver, on the loop ---- */

static void queue_interrupt(void *arg, unsigned queue)
{
	struct virtio_pci *v = arg;

	/* With MSI-X the driver learns of queues by their vectors alone (4.1.4.5.1). */
	if (!(atomic_load(&v->msix.control) & PCI_MSIX_FLAGS_ENABLE))
		atomic_fetch_or(&v->isr, ISR_QUEUE);
	msix_raise(&v->msix, atomic_load(&v->vectors[queue]));
}

static void config_interrupt(void *arg)
{
	struct virtio_pci *v = arg;

	atomic_fetch_or(&v->isr, ISR_CONFIG);
	msix_raise(&v->msix, atomic_load(&v->config_vector));
}

static void no_interrupts(void *arg)
{
	struct virtio_pci *v = arg;

	msix_forget(&v->msix);
	atomic_store(&v->isr, 0);
	atomic_store(&v->config_vector, VIRTIO_MSI_NO_VECTOR);
	for (unsigned i = 0; i < v->cfg.dev->queue_count; i++)
		atomic_store(&v->vectors[i], VIRTIO_MSI_NO_VECTOR);
}

static int connect_calls(void *arg, unsigned count, int *fds)
{
	struct virtio_pci *v = arg;

	if (!(atomic_load(&v->msix.control) & PCI_MSIX_FLAGS_ENABLE))
		return fail(ENOTSUP, "the guest's driver does not use MSI-X");
	return msix_connect(&v->msix, v->vectors, count, fds);
}

static void disconnect_calls(void *arg)
{
	msix_disconnect(&((struct virtio_pci *)arg)->msix);
}

static int bind_doorbell(void *arg, unsigned queue, bool add)
{
	struct virtio_pci *v = arg;

	if (!v->cfg.kvm || !v->base)
		return -EAGAIN;
	return kvm_ioeventfd_any(v->cfg.kvm, transport_kick_fd(&v->t, queue),
		v->base + AT_NOTIFY + queue * NOTIFY_STRIDE, add);
}

static const struct transport_ops transport_ops = {
	.queue_interrupt = queue_interrupt,
	.config_interrupt = config_interrupt,
	.reset = no_interrupts,
	.connect = connect_calls,
	.disconnect = disconnect_calls,
	.bind = bind_doorbell,
};

/* ---- Doorbells ---- */

static void kick(struct virtio_pci *v, uint64_t off)
{
	if (off % NOTIFY_STRIDE == 0 && transport_kick(&v->t, (uint32_t)off / NOTIFY_STRIDE))
		return;
	pthread_mutex_lock(&v->t.lock);
	mistake(v, "a kick at %#lx, where there is no queue's doorbell", off);
	pthread_mutex_unlock(&v->t.lock);
}

void virtio_pci_bar_moved(void *dev, unsigned bar, uint64_t base)
{
	struct virtio_pci *v = dev;

	pthread_mutex_lock(&v->t.bell_lock);
	transport_unbind(&v->t);
	v->base = base;
	pthread_mutex_unlock(&v->t.bell_lock);
}

/* ---- The BAR ---- */

/* Reading it takes what it says (4.1.4.5). */
static void isr_read(struct virtio_pci *v, uint64_t off, uint8_t *data)
{
	if (off == 0)
		*data = (uint8_t)atomic_exchange(&v->isr, 0);
}

void virtio_pci_bar_read(void *dev, uint64_t off, void *data, unsigned len)
{
	struct virtio_pci *v = dev;
	uint64_t in_page = off % PAGE;

	memset(data, 0, len);
	switch (off - in_page) {
	case AT_COMMON:
		virtio_pci_common_read(v, in_page, data, len);
		break;
	case AT_ISR:
		isr_read(v, in_page, data);
		break;
	case AT_DEVICE:
		virtio_config_read(v->cfg.dev, (unsigned)in_page, data, len);
		break;
	case AT_TABLE:
		msix_table_read(&v->msix, in_page, data, len);
		break;
	case AT_PENDING:
		msix_pending_read(&v->msix, in_page, data, len);
		break;
	default:
		break;
	}
}

void virtio_pci_bar_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct virtio_pci *v = dev;
	uint64_t in_page = off % PAGE;

	switch (off - in_page) {
	case AT_COMMON:
		virtio_pci_common_write(v, in_page, data, len);
		break;
	case AT_DEVICE:
		pthread_mutex_lock(&v->t.lock);
		transport_config_write(&v->t, (uint32_t)in_page, data, len);
		pthread_mutex_unlock(&v->t.lock);
		break;
	case AT_NOTIFY:
		kick(v, in_page);
		break;
	case AT_TABLE:
		msix_table_write(&v->msix, in_page, data, len);
		break;
	default:
		break;
	}
}

static const struct bus_ops bar_ops = {.read = virtio_pci_bar_read, .write = virtio_pci_bar_write};

/* ---- The machine's side ---- */

static int put_on_bus(struct virtio_pci *v)
{
	const struct transport_config t = {
		.dev = v->cfg.dev,
		.mem = v->cfg.mem,
		.io = v->cfg.io,
		.ops = &transport_ops,
		.arg = v,
	};
	int rc = virtio_pci_make_function(v, &bar_ops);

	if (rc < 0)
		return rc;
	rc = transport_init(&v->t, &t);
	if (rc < 0)
		return rc;
	no_interrupts(v);
	rc = pci_attach(v->cfg.pci, &v->function, v->cfg.place);
	if (rc < 0)
		transport_finish(&v->t);
	return rc;
}

static void free_pci(struct virtio_pci *v)
{
	msix_finish(&v->msix);
	free(v->vectors);
	free(v);
}

int virtio_pci_create(struct virtio_pci **out, const struct virtio_pci_config *cfg)
{
	unsigned n = cfg->dev->queue_count;
	struct virtio_pci *v = calloc(1, sizeof(*v));
	int rc;

	if (!v)
		return fail(ENOMEM, "%s: no memory for its registers", cfg->dev->name);
	v->cfg = *cfg;
	v->vectors = calloc(n, sizeof(*v->vectors));
	rc = v->vectors ? put_on_bus(v)
			: fail(ENOMEM, "%s: no memory for %u vectors", cfg->dev->name, n);
	if (rc < 0) {
		free_pci(v);
		return rc;
	}
	*out = v;
	return 0;
}

void virtio_pci_unplug(struct virtio_pci *v)
{
	pci_detach(&v->function);
}

void virtio_pci_destroy(struct virtio_pci *v)
{
	if (!v)
		return;
	virtio_pci_unplug(v);
	transport_finish(&v->t);
	free_pci(v);
}

static void forget_selections(struct virtio_pci *v)
{
	v->offered_sel = v->accept_sel = v->queue_sel = 0;
}

void virtio_pci_reset(struct virtio_pci *v)
{
	pthread_mutex_lock(&v->t.lock);
	transport_reset(&v->t);
	forget_selections(v);
	pthread_mutex_unlock(&v->t.lock);
	msix_reset(&v->msix);
	pci_function_reset(&v->function);
}

void virtio_pci_pause(struct virtio_pci *v)
{
	pthread_mutex_lock(&v->t.lock);
	transport_pause(&v->t);
	pthread_mutex_unlock(&v->t.lock);
}

void virtio_pci_resume(struct virtio_pci *v)
{
	pthread_mutex_lock(&v->t.lock);
	transport_resume(&v->t);
	pthread_mutex_unlock(&v->t.lock);
}

void virtio_pci_save(struct virtio_pci *v, struct stream_out *s)
{
	pci_function_save(&v->function, s);
	msix_save(&v->msix, s);
	pthread_mutex_lock(&v->t.lock);
	stream_begin(s, "virtio-pci", 1);
	stream_put_u8(s, (uint8_t)atomic_load(&v->isr));
	stream_put_u16(s, atomic_load(&v->config_vector));
	for (unsigned i = 0; i < v->cfg.dev->queue_count; i++)
		stream_put_u16(s, atomic_load(&v->vectors[i]));
	stream_put_u32(s, v->offered_sel);
	stream_put_u32(s, v->accept_sel);
	stream_put_u16(s, v->queue_sel);
	stream_end(s);
	transport_save(&v->t, s);
	pthread_mutex_unlock(&v->t.lock);
}

static int load_registers(struct virtio_pci *v, struct stream_in *s)
{
	int rc = stream_open(s, "virtio-pci", 1);

	if (rc < 0)
		return rc;
	atomic_store(&v->isr, stream_get_u8(s) & (ISR_QUEUE | ISR_CONFIG));
	virtio_pci_set_vector(v, &v->config_vector, stream_get_u16(s));
	for (unsigned i = 0; i < v->cfg.dev->queue_count; i++)
		virtio_pci_set_vector(v, &v->vectors[i], stream_get_u16(s));
	v->offered_sel = stream_get_u32(s);
	v->accept_sel = stream_get_u32(s);
	v->queue_sel = stream_get_u16(s);
	return stream_close(s);
}

static int load_transport(struct virtio_pci *v, struct stream_in *s)
{
	int rc;

	pthread_mutex_lock(&v->t.lock);
	rc = load_registers(v, s);
	rc = rc ? rc : transport_load(&v->t, s);
	pthread_mutex_unlock(&v->t.lock);
	return rc;
}

int virtio_pci_load(struct virtio_pci *v, struct stream_in *s)
{
	int rc;

	virtio_pci_pause(v);
	virtio_pci_reset(v);
	rc = pci_function_load(&v->function, s);
	rc = rc ? rc : msix_load(&v->msix, s);
	rc = rc ? rc : load_transport(v, s);
	if (rc < 0)
		virtio_pci_reset(v);
	return rc;
}

unsigned virtio_pci_place(const struct virtio_pci *v)
{
	return v->function.place;
}
