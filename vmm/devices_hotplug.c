// SPDX-License-Identifier: MIT
// Devices that come and go while the machine runs, whatever they are.
//
// One that comes is made as at start, then ACPI tells the guest that the slot has changed. For one
// to go the guest is asked, and it is the guest that says when it has let go: it ejects the slot.
// What it was not asked for it cannot eject.
#include "vmm/devices.h"

#include "base/log.h"
#include "hw/pm.h"
#include "virtio/device.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOT_LAST (PCI_HOT_FIRST + PCI_HOT_SLOTS - 1)

static bool is_hot(unsigned place)
{
	return place >= PCI_HOT_FIRST && place <= HOT_LAST;
}

/* 0: nothing comes to this place or goes. */
static unsigned hot_bit(unsigned place)
{
	return is_hot(place) ? 1u << (place - PCI_HOT_FIRST) : 0;
}

void devices_set_leaving(struct devices *d, unsigned place)
{
	atomic_fetch_or(&d->leaving, hot_bit(place));
}

bool devices_is_leaving(const struct devices *d, unsigned place)
{
	return atomic_load(&d->leaving) & hot_bit(place);
}

/* NULL: it is none of those that come and go. */
static const char *kind_of(const struct slot *s)
{
	uint32_t id = s->dev ? s->dev->id : 0;

	return id == VIRTIO_ID_BLOCK ? "disk" : id == VIRTIO_ID_NET ? "NIC" : NULL;
}

/* SLOTS_MAX: there is none of that name. */
static unsigned find(const struct devices *d, const char *name)
{
	unsigned i = 0;

	while (i < SLOTS_MAX && !(kind_of(&d->slot[i]) && !strcmp(d->slot[i].dev->name, name)))
		i++;
	return i;
}

/* ---- one comes ---- */

static int check_bus(const struct devices *d, const char *kind, const char *name)
{
	return d->pci ? 0
		      : fail(ENOTSUP,
				"%s %s: devices come and go only in a machine made with "
				"--transport pci",
				kind, name);
}

static int find_hot_slot(struct devices *d, const struct arrival *a, unsigned *place)
{
	unsigned first = a->slot ? a->slot : PCI_HOT_FIRST;
	unsigned last = a->slot ? a->slot : HOT_LAST;

	if (first < PCI_HOT_FIRST || last > HOT_LAST)
		return fail(EINVAL,
			"%s %s: addr %u: while the machine runs, devices come to slots %u to %u",
			a->kind, a->name, a->slot, PCI_HOT_FIRST, HOT_LAST);
	for (*place = first; *place <= last; ++*place)
		if (pci_is_free(d->pci, *place))
			return 0;
	if (a->slot)
		return fail(EBUSY, "%s %s: addr %u is taken", a->kind, a->name, a->slot);
	return fail(ENOSPC,
		"%s %s: slots %u to %u, which take devices while the machine runs, are taken",
		a->kind, a->name, PCI_HOT_FIRST, HOT_LAST);
}

int devices_check_arrival(struct devices *d, const struct arrival *a, unsigned *place)
{
	unsigned other = find(d, a->name);
	int rc = check_bus(d, a->kind, a->name);

	if (rc)
		return rc;
	if (other < SLOTS_MAX)
		return fail(EEXIST, "%s %s: there is a %s of that name", a->kind, a->name,
			kind_of(&d->slot[other]));
	if (a->full)
		return fail(ENOSPC, "%s %s: there are as many as can be", a->kind, a->name);
	return find_hot_slot(d, a, place);
}

void devices_has_come(struct devices *d, unsigned place)
{
	pm_raise(d->pm, PM_EVENT_ADDED(place - PCI_HOT_FIRST));
}

/* ---- one goes ---- */

int devices_detach(struct devices *d, const char *id, int told)
{
	unsigned place = find(d, id);
	struct slot *s = &d->slot[place % SLOTS_MAX];
	int rc = place < SLOTS_MAX ? check_bus(d, kind_of(s), id)
				   : fail(ENOENT, "it has no disk or NIC %s", id);

	if (rc)
		return rc;
	if (!is_hot(place))
		return fail(ENOTSUP,
			"%s %s: it is in slot %u, and only slots %u to %u can be emptied while "
			"the machine runs",
			kind_of(s), id, place, PCI_HOT_FIRST, HOT_LAST);
	devices_set_leaving(d, place);
	if (s->told >= 0)
		close(s->told);
	s->told = told;
	pm_raise(d->pm, PM_EVENT_WANTED(place - PCI_HOT_FIRST));
	return 0;
}

bool devices_eject(struct devices *d, unsigned slots)
{
	unsigned asked = slots & atomic_load(&d->leaving);

	if (slots & ~asked)
		log_debug("the guest ejects hot-plug slots %#x, which it was not asked for",
			slots & ~asked);
	atomic_fetch_or(&d->ejected, asked);
	return asked;
}

void devices_unplug(struct devices *d, bool all)
{
	unsigned ejected = atomic_exchange(&d->ejected, 0), leaving = atomic_load(&d->leaving);

	if (all)
		ejected = leaving;
	for (unsigned i = PCI_HOT_FIRST; i <= HOT_LAST; i++) {
		d->slot[i].gone = d->slot[i].dev && hot_bit(i) & ejected & leaving;
		if (d->slot[i].gone)
			slot_unplug(&d->slot[i]);
	}
	atomic_fetch_and(&d->leaving, ~ejected);
}

/* Who does not listen any more misses it. */
static void tell(int told)
{
	if (told < 0)
		return;
	if (send(told, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_debug("a device that is detached: %s", strerror(errno));
	close(told);
}

bool devices_take_away(struct devices *d, char *what, size_t len)
{
	const struct virtio_device *dev;
	unsigned i = PCI_HOT_FIRST;
	struct slot *s;
	int told;

	while (i <= HOT_LAST && !d->slot[i].gone)
		i++;
	if (i > HOT_LAST)
		return false;
	s = &d->slot[i];
	dev = s->dev;
	told = s->told;
	snprintf(what, len, "%s detached %s", kind_of(s), dev->name);
	s->gone = false;
	s->told = -1;
	devices_end_job(d, dev);
	slot_finish(s);
	d->slots--;
	devices_forget_disk(d, dev);
	devices_forget_nic(d, dev);
	tell(told);
	return true;
}
