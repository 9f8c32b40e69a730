// SPDX-License-Identifier: MIT
// The machine's NICs.
#include "vmm/devices.h"

#include "base/log.h"
#include "base/loop.h"
#include "virtio/net.h"
#include "vmm/nic.h"

#include <stdio.h>

struct making {
	const struct devices_host *host;
	const struct net_config *cfg;
	const struct net_end *end;
	struct virtio_device *dev;
	int rc;
	char why[256]; /* messages are each thread's own */
};

static void make(void *arg)
{
	struct making *m = arg;
	const struct nic_host host = {.event = m->host->nic_event, .arg = m->host->arg};

	m->rc = nic_create(&m->dev, m->cfg, m->end, &host);
	if (m->rc)
		snprintf(m->why, sizeof(m->why), "%s", last_error());
}

/* Takes the end. `place` as in devices_plug; on success the NIC is the last one. */
static int add_nic(
	struct devices *d, const struct net_config *cfg, const struct net_end *end, unsigned place)
{
	struct making m = {.host = &d->host, .cfg = cfg, .end = end};
	struct nic *n;
	int rc;

	loop_call(d->io, make, &m);
	if (m.rc)
		return fail(-m.rc, "%s", m.why);
	rc = devices_plug(d, m.dev, virtio_net_destroy, &place);
	if (rc)
		return rc;
	n = &d->nic[d->nics++];
	*n = (struct nic){.cfg = cfg,
		.dev = m.dev,
		.place = place,
		.mtu = end->mtu,
		.limits = cfg->limits,
		.counts = end->counts};
	memcpy(n->tap, end->name, sizeof(n->tap));
	return 0;
}

struct nic *devices_find_nic(struct devices *d, const char *id)
{
	for (unsigned i = 0; i < d->nics; i++)
		if (!strcmp(d->nic[i].cfg->id, id))
			return &d->nic[i];
	return NULL;
}

int devices_attach_nic(struct devices *d, struct net_config *cfg, const struct net_end *end,
	struct nic_helper *helper)
{
	const struct arrival a = {"NIC", cfg->id, cfg->slot, d->nics == MACHINE_NICS_MAX};
	struct net_end taken = *end;
	unsigned place;
	int rc = devices_check_arrival(d, &a, &place);

	if (rc)
		port_close(&taken);
	else
		rc = add_nic(d, cfg, end, place);
	if (rc) {
		nic_helper_free(helper);
		net_config_free(cfg);
		return rc;
	}
	d->nic[d->nics - 1].owned = cfg;
	d->nic[d->nics - 1].helper = helper;
	devices_has_come(d, place);
	return 0;
}

void devices_forget_nic(struct devices *d, const struct virtio_device *dev)
{
	for (unsigned i = 0; i < d->nics; i++)
		if (d->nic[i].dev == dev) {
			nic_helper_free(d->nic[i].helper);
			net_config_free(d->nic[i].owned);
			memmove(&d->nic[i], &d->nic[i + 1], (--d->nics - i) * sizeof(*d->nic));
		}
}

int devices_add_nics(struct devices *d, const struct machine_config *cfg)
{
	int rc = 0;

	for (unsigned i = 0; i < cfg->nic_count; i++) {
		struct net_end end = cfg->nic_ends[i];

		if (rc)
			port_close(&end);
		else
			rc = add_nic(
				d, &cfg->nics[i], &end, places_take(&d->places, cfg->nics[i].slot));
	}
	return rc;
}
