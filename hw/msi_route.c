// SPDX-License-Identifier: MIT
// The VM's table of interrupt routes.
#include "hw/msi_route.h"

#include "base/fd.h"
#include "base/log.h"
#include "hw/kvm.h"
#include "hw/layout.h"

#include <sys/eventfd.h>
#include <sys/ioctl.h>

/*
 * The lines of the interrupt controllers in the kernel, as it has them before a table is set: the
 * first 16 lead to both PICs and the IOAPIC, the others to the IOAPIC (arch/x86/kvm/irq_comm.c).
 */
#define PIC_LINES 16u
#define PIC_PINS 8u
#define LINES (GSI_COUNT + PIC_LINES)
/* What the kernel takes (include/linux/kvm_host.h), less those. */
#define ROUTES_MAX (4096u - LINES)
#define ROUTES_STEP 16u

struct kvm_route {
	uint64_t address;
	uint32_t data;
	bool taken;
};

static uint32_t gsi_of(unsigned route)
{
	return GSI_COUNT + route;
}

/* ---- The table ---- */

static int grow(struct kvm *k)
{
	unsigned n = k->route_count + ROUTES_STEP;
	struct kvm_route *more;

	if (n > ROUTES_MAX)
		return fail(ENOSPC, "more than %u interrupts by eventfds", k->route_count);
	more = realloc(k->routes, n * sizeof(*more));
	if (!more)
		return fail(ENOMEM, "no memory for %u interrupts by eventfds", n);
	memset(more + k->route_count, 0, ROUTES_STEP * sizeof(*more));
	k->routes = more;
	k->route_count = n;
	return 0;
}

static int take_route(struct kvm *k, unsigned *route)
{
	int rc = 0;

	pthread_mutex_lock(&k->route_lock);
	for (*route = 0; *route < k->route_count && k->routes[*route].taken;)
		++*route;
	if (*route == k->route_count)
		rc = grow(k);
	if (!rc)
		k->routes[*route].taken = true;
	pthread_mutex_unlock(&k->route_lock);
	return rc;
}

/* It stays in the table, where nothing leads to it, and saves a change if it comes back. */
static void give_route(struct kvm *k, unsigned route)
{
	pthread_mutex_lock(&k->route_lock);
	k->routes[route].taken = false;
	pthread_mutex_unlock(&k->route_lock);
}

static void put_line(struct kvm_irq_routing *t, uint32_t gsi, uint32_t chip, uint32_t pin)
{
	t->entries[t->nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = {.irqchip = chip, .pin = pin},
	};
}

static void put_lines(struct kvm_irq_routing *t)
{
	for (uint32_t i = 0; i < GSI_COUNT; i++)
		put_line(t, i, KVM_IRQCHIP_IOAPIC, i);
	for (uint32_t i = 0; i < PIC_LINES; i++)
		put_line(t, i, i < PIC_PINS ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
			i % PIC_PINS);
}

static void put_message(struct kvm_irq_routing *t, uint32_t gsi, const struct kvm_route *r)
{
	t->entries[t->nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = {.address_lo = (uint32_t)r->address,
			.address_hi = (uint32_t)(r->address >> 32),
			.data = r->data},
	};
}

static int set_table(struct kvm *k)
{
	CLEANUP_FREE struct kvm_irq_routing *t =
		calloc(1, sizeof(*t) + (LINES + (size_t)k->route_count) * sizeof(t->entries[0]));

	if (!t)
		return fail(ENOMEM, "no memory for the table of interrupts");
	put_lines(t);
	for (unsigned i = 0; i < k->route_count; i++)
		if (k->routes[i].address)
			put_message(t, gsi_of(i), &k->routes[i]);
	if (ioctl(k->vm, KVM_SET_GSI_ROUTING, t) < 0)
		return failno(errno, "KVM_SET_GSI_ROUTING of %u entries", t->nr);
	return 0;
}

int msi_routes_commit(struct kvm *k)
{
	int rc = 0;

	if (!k)
		return 0;
	pthread_mutex_lock(&k->route_lock);
	if (k->routes_changed)
		rc = set_table(k);
	if (!rc)
		k->routes_changed = false;
	pthread_mutex_unlock(&k->route_lock);
	return rc;
}

/* ---- Lines ---- */

int msi_line_init(struct msi_line *l, struct kvm *k)
{
	int rc;

	*l = (struct msi_line){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	if (l->fd < 0)
		return failno(errno, "eventfd for an interrupt");
	rc = k ? take_route(k, &l->route) : 0;
	if (rc)
		close(steal_fd(&l->fd));
	return rc;
}

void msi_line_finish(struct msi_line *l, struct kvm *k)
{
	if (l->fd < 0)
		return;
	if (msi_line_bind(l, k, false))
		log_warn("%s", last_error());
	close(steal_fd(&l->fd));
	if (k)
		give_route(k, l->route);
}

void msi_line_aim(const struct msi_line *l, struct kvm *k, uint64_t address, uint32_t data)
{
	struct kvm_route *r;

	if (!k)
		return;
	pthread_mutex_lock(&k->route_lock);
	r = &k->routes[l->route];
	if (r->address != address || r->data != data)
		k->routes_changed = true;
	r->address = address;
	r->data = data;
	pthread_mutex_unlock(&k->route_lock);
}

int msi_line_bind(struct msi_line *l, const struct kvm *k, bool on)
{
	struct kvm_irqfd arg = {.fd = (uint32_t)l->fd,
		.gsi = gsi_of(l->route),
		.flags = on ? 0 : KVM_IRQFD_FLAG_DEASSIGN};

	if (l->bound == on)
		return 0;
	if (k && ioctl(k->vm, KVM_IRQFD, &arg) < 0)
		return failno(errno, "irqfd for interrupt %u", arg.gsi);
	l->bound = on;
	return 0;
}

bool msi_line_take(const struct msi_line *l)
{
	uint64_t count;

	return read(l->fd, &count, sizeof(count)) == sizeof(count);
}
