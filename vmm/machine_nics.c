// SPDX-License-Identifier: MIT
// What befalls a running machine's NICs, and what can be asked of them and changed. The control
// loop asks; it is done on the loop that owns the NIC.
#include "vmm/machine_private.h"

#include "base/field.h"
#include "base/log.h"
#include "net/slirp/slirp.h"
#include "virtio/net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- what befalls them ---- */

/* What there is no more room for has been logged all the same. */
void machine_note(struct machine *m, const char *text)
{
	size_t len;

	log_warn("%s", text);
	pthread_mutex_lock(&m->note_lock);
	len = strlen(m->events);
	if (len + strlen(text) + 2 <= sizeof(m->events))
		snprintf(m->events + len, sizeof(m->events) - len, "%s\n", text);
	pthread_mutex_unlock(&m->note_lock);
	machine_ring_events(m);
}

void machine_tell_events(struct machine *m)
{
	char lines[sizeof(m->events)], *at = lines, *end;

	pthread_mutex_lock(&m->note_lock);
	memcpy(lines, m->events, sizeof(lines));
	*m->events = '\0';
	pthread_mutex_unlock(&m->note_lock);
	for (; (end = strchr(at, '\n')); at = end + 1) {
		*end = '\0';
		machine_tell(m, at);
	}
}

void machine_nic_event(void *arg, const char *nic, const char *what)
{
	char text[320];

	snprintf(text, sizeof(text), "network: %s: %s", nic, what);
	machine_note(arg, text);
}

static void lose(void *arg)
{
	virtio_net_lose(arg);
}

void machine_lose_nic(void *arg, const char *id, const char *why)
{
	struct machine *m = arg;
	const struct nic *n = devices_find_nic(&m->devices, id);
	char what[160];

	if (!n)
		return;
	loop_call(m->devices.io, lose, n->dev);
	snprintf(what, sizeof(what), "%s; its link is down", why);
	machine_nic_event(m, id, what);
}

int machine_watch_nic(struct machine *m, struct nic_helper *helper)
{
	const struct nic_listener listener = {m->control, machine_nic_event, machine_lose_nic, m};

	return nic_watch(helper, &listener);
}

/* ---- what is changed ---- */

/* NULL with a message where there is none of that name, or NULL does not say which. */
static struct nic *find(struct machine *m, const char *id)
{
	struct devices *d = &m->devices;
	struct nic *n = id ? devices_find_nic(d, id) : &d->nic[0];

	if (id && !n)
		fail(ENOENT, "it has no NIC %s", id);
	else if (!id && d->nics != 1)
		n = NULL, fail(EINVAL, d->nics ? "which NIC? it has %u" : "it has no NIC", d->nics);
	return n;
}

struct link {
	struct virtio_device *dev;
	bool up;
	enum virtio_net_link now;
};

static void set_link(void *arg)
{
	struct link *l = arg;

	virtio_net_set_link(l->dev, l->up);
	l->now = virtio_net_link(l->dev);
}

int machine_set_link(struct machine *m, const char *id, bool up)
{
	const struct nic *n = find(m, id);
	struct link l = {.up = up};

	if (!n)
		return -ENOENT;
	l.dev = n->dev;
	loop_call(m->devices.io, set_link, &l);
	if (up && l.now == VIRTIO_NET_LOST)
		return fail(
			ENOTCONN, "NIC %s: there is nothing at its other end any more", n->cfg->id);
	return 0;
}

int machine_nic_limits(struct machine *m, const char *id, struct net_limits *limits)
{
	const struct nic *n = find(m, id);

	if (!n)
		return -ENOENT;
	*limits = n->limits;
	return 0;
}

static void limit(void *arg)
{
	const struct nic *n = arg;

	virtio_net_set_limits(n->dev, &n->limits);
}

int machine_limit_nic(struct machine *m, const char *id, const struct net_limits *limits)
{
	struct nic *n = find(m, id);
	int rc = n ? net_check_limits(limits) : -ENOENT;

	if (rc)
		return rc;
	n->limits = *limits;
	loop_call(m->devices.io, limit, n);
	return 0;
}

/* ---- what they are ---- */

/* What the NIC's loop may change. */
struct now {
	struct virtio_net_counters count;
	enum virtio_net_link link;
};

struct look {
	const struct devices *devices;
	struct now now[MACHINE_NICS_MAX];
};

static void look(void *arg)
{
	struct look *l = arg;

	for (unsigned i = 0; i < l->devices->nics; i++) {
		struct virtio_device *dev = l->devices->nic[i].dev;

		virtio_net_count(dev, &l->now[i].count);
		l->now[i].link = virtio_net_link(dev);
	}
}

static void put_text(FILE *f, const char *key, const char *text)
{
	fprintf(f, "\"%s\":", key);
	json_put_string(f, text);
	putc(',', f);
}

static void put_flow(FILE *f, const char *key, const struct net_flow *flow)
{
	fprintf(f, "\"%s\":{\"packets\":%llu,\"bytes\":%llu},", key,
		(unsigned long long)flow->packets, (unsigned long long)flow->bytes);
}

static void put_rate(FILE *f, const char *way, const struct net_rate *r)
{
	fprintf(f, "\"%s-bw\":%llu,\"%s-bw-burst\":%llu,\"%s-pps\":%u,\"%s-pps-burst\":%u", way,
		(unsigned long long)r->bandwidth, way, (unsigned long long)r->bandwidth_burst, way,
		r->packets, way, r->packets_burst);
}

/* `names` is NULL-terminated, and says how many there are. */
static void put_counts(
	FILE *f, const char *key, const char *const *names, const volatile uint64_t *counts)
{
	fprintf(f, "\"%s\":{", key);
	for (unsigned i = 0; names[i]; i++)
		fprintf(f, "%s\"%s\":%llu", i ? "," : "", names[i], (unsigned long long)counts[i]);
	fputs("},", f);
}

static void put_nic(FILE *f, const struct devices *d, const struct nic *n, const struct now *now)
{
	static const char *const links[] = {"down", "up", "lost"};
	static const char *const user_names[] = {SLIRP_COUNTERS_TABLE(SLIRP_NAME_ROW) NULL};
	const struct net_config *c = n->cfg;
	char address[32];

	devices_address(d, n->dev, address, sizeof(address));
	putc('{', f);
	put_text(f, "id", c->id);
	put_text(f, "kind", net_kind_name(c->kind));
	put_text(f, "tap", n->tap);
	put_text(f, "address", address);
	put_text(f, "link", links[now->link]);
	fprintf(f, "\"detaching\":%s,", devices_is_leaving(d, n->place) ? "true" : "false");
	fprintf(f, "\"mac\":\"%02x:%02x:%02x:%02x:%02x:%02x\",\"mtu\":%u,\"queues\":%u,", c->mac[0],
		c->mac[1], c->mac[2], c->mac[3], c->mac[4], c->mac[5], n->mtu, c->pairs);
	put_flow(f, "tx", &now->count.port.tx);
	put_flow(f, "rx", &now->count.port.rx);
	put_counts(f, "drops", net_drop_names, now->count.port.drops);
	if (n->counts)
		put_counts(f, "user-mode", user_names, n->counts);
	fprintf(f, "\"vhost\":%s,", now->count.vhost ? "true" : "false");
	fputs("\"limits\":{", f);
	put_rate(f, "tx", &n->limits.tx);
	putc(',', f);
	put_rate(f, "rx", &n->limits.rx);
	fputs("},", f);
	fprintf(f, "\"interrupts\":{\"sent\":%llu,\"spared\":%llu}}",
		(unsigned long long)now->count.interrupts, (unsigned long long)now->count.spared);
}

void machine_put_nics(struct machine *m, FILE *f)
{
	const struct devices *d = &m->devices;
	struct look l = {.devices = d};

	if (d->nics)
		loop_call(d->io, look, &l);
	putc('[', f);
	for (unsigned i = 0; i < d->nics; i++) {
		if (i)
			putc(',', f);
		put_nic(f, d, &d->nic[i], &l.now[i]);
	}
	putc(']', f);
}
