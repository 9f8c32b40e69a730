// SPDX-License-Identifier: MIT
#include "net/bridge/host.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "net/bridge/dhcp.h"
#include "net/bridge/forward.h"
#include "net/bridge/rules.h"
#include "net/bridge/subnet.h"

#include <errno.h>
#include <stdio.h>

int host_open(struct host *h)
{
	CLEANUP_FREE char(*names)[IFNAMSIZ] = NULL;
	int rc = state_open(&h->state);

	h->rtnl = NULL;
	if (rc)
		return rc;
	h->rtnl = rtnl_open();
	rc = h->rtnl ? state_bridges(&h->state, &names) : -EIO;
	if (rc) {
		host_close(h);
		return rc;
	}
	for (unsigned i = 0; names[i][0]; i++)
		host_release_bridge(h, names[i]);
	forward_restore(&h->state); /* one was killed after the last bridge, and before this */
	return 0;
}

void host_close(struct host *h)
{
	rtnl_close(h->rtnl);
	h->rtnl = NULL;
	state_close(&h->state);
}

/* --- making -------------------------------------------------------------------------------------
 */

/* An address for a bridge that is told none: the first that no route is in the way of. */
static int choose_address(struct host *h, struct bridge_state *b)
{
	char route[64], text[SUBNET_TEXT];
	int rc = -EEXIST;

	for (unsigned i = 0; i < DEFAULT_SUBNETS && rc == -EEXIST; i++) {
		b->wish.address = subnet_default(b->wish.name, i);
		rc = route_find(h->rtnl, &b->wish.address, 0, route, sizeof(route));
	}
	if (rc == -EEXIST)
		return fail(EEXIST,
			"%s: %s and all others like it collide with routes, as that to "
			"%s: choose one by address=",
			b->wish.name, subnet_format(&b->wish.address, text), route);
	return rc ? failno(-rc, "%s: routes", b->wish.name) : 0;
}

static int check_address(struct host *h, const struct bridge_state *b)
{
	char route[64], text[SUBNET_TEXT];
	int rc = route_find(h->rtnl, &b->wish.address, b->index, route, sizeof(route));

	subnet_format(&b->wish.address, text);
	if (rc == -EEXIST)
		return fail(EEXIST, "%s: address %s collides with the route to %s: choose another",
			b->wish.name, text, route);
	return rc ? failno(-rc, "%s: routes", b->wish.name) : 0;
}

/* Its MAC is always the same, so that guests which know it go on when it was made anew. */
static void make_mac(const char *bridge, uint8_t mac[6])
{
	uint64_t hash = stable_hash(bridge, strlen(bridge));

	memcpy(mac, &hash, 6);
	mac[0] = 0x06; /* locally administered, and none that a guest is given */
}

static int make_link(struct host *h, struct bridge_state *b, unsigned *index)
{
	struct in6_addr address6 = state_address6(b, b->wish.address.address);
	struct link l;
	uint8_t mac[6];
	int rc;

	make_mac(b->wish.name, mac);
	rc = link_add_bridge(h->rtnl, b->wish.name, mac);
	if (!rc)
		rc = link_find(h->rtnl, b->wish.name, &l);
	if (rc)
		return failno(-rc, "%s: cannot make the bridge", b->wish.name);
	*index = l.index;
	forward_harden(b->wish.name);
	rc = link_add_address(h->rtnl, l.index, &b->wish.address);
	b->ipv6 = !rc && !link_add_address6(h->rtnl, l.index, &address6, 64);
	return rc ? failno(-rc, "%s: cannot give the bridge its address", b->wish.name) : 0;
}

/* The state is first to know; after a failure there are none, as there were. */
static int add_rules(struct host *h, struct bridge_state *b, const struct nic_state *guarded)
{
	bool first = !b->rules;
	int rc;

	b->rules = true;
	rc = first ? state_save(&h->state, b) : 0;
	if (!rc)
		rc = guarded ? rules_add_guard(b, guarded) : rules_add_bridge(b);
	if (!rc || !first)
		return rc;
	b->rules = false;
	state_save(&h->state, b);
	return rc;
}

int host_add_rules(struct host *h, struct bridge_state *b)
{
	int rc = add_rules(h, b, NULL);

	return rc ? fail_context(rc, "%s", b->wish.name) : 0;
}

int host_add_guard(struct host *h, struct bridge_state *b, const struct nic_state *n)
{
	int rc = add_rules(h, b, n);

	return rc ? fail_context(rc, "%s: spoof-guard", b->wish.name) : 0;
}

int host_join(struct host *h, const struct nic_state *n, unsigned bridge)
{
	unsigned how = (n->isolate ? LINK_ISOLATED : 0) | (n->spoof_guard ? LINK_GUARDED : 0);

	return link_join(h->rtnl, n->index, bridge, how, n->mac);
}

/* NICs that were on it when it was deleted are on it again, before it is up: none is there for a
 * moment without being isolated. */
static void join_again(struct host *h, const struct bridge_state *b, unsigned bridge)
{
	struct nic_list l;
	struct link tap;

	if (state_nics(&h->state, b->wish.name, &l))
		return;
	for (unsigned i = 0; i < l.count; i++) {
		if (!link_find(h->rtnl, l.nics[i].tap, &tap) && tap.index == l.nics[i].index)
			host_join(h, &l.nics[i], bridge);
	}
	nics_free(&l);
}

/* Its number is written last: without it, what there is of it is made once more. */
static int make(struct host *h, struct bridge_state *b)
{
	unsigned index = 0;
	int rc = b->wish.address.prefix ? check_address(h, b) : choose_address(h, b);

	if (!rc)
		rc = state_save(&h->state, b);
	if (!rc)
		rc = make_link(h, b, &index);
	if (!rc && b->wish.nat)
		rc = forward_on(&h->state, b->wish.name);
	if (!rc && (b->wish.nat || b->wish.isolate || b->rules))
		rc = host_add_rules(h, b);
	if (rc)
		return rc;
	join_again(h, b, index);
	rc = link_set_up(h->rtnl, index);
	if (rc)
		return failno(-rc, "%s: cannot set the bridge up", b->wish.name);
	b->index = index;
	return state_save(&h->state, b);
}

/* --- finding ------------------------------------------------------------------------------------
 */

static int check_foreign(const struct bridge_wish *w)
{
	const char *what = w->address.prefix ? "address" : w->nat ? "nat" : w->dhcp ? "dhcp" : NULL;

	return what ? fail(EINVAL, "%s: %s is for bridges that kvick makes, and this one was there",
			      w->name, what)
		    : 0;
}

static int check_ours(const struct bridge_state *b, const struct bridge_wish *w)
{
	const struct subnet *is = &b->wish.address, *be = &w->address;
	char text[2][SUBNET_TEXT];

	if (be->prefix && (be->prefix != is->prefix || be->address.s_addr != is->address.s_addr))
		return fail(EEXIST, "%s: address %s: it has %s already, made by %s", w->name,
			subnet_format(be, text[0]), subnet_format(is, text[1]), b->maker);
	if ((w->nat && !b->wish.nat) || (w->dhcp && !b->wish.dhcp))
		return fail(EEXIST, "%s: it is there without %s, made by %s", w->name,
			w->nat && !b->wish.nat ? "nat" : "dhcp", b->maker);
	return 0;
}

/* Whether it is the one that is known: by its number, or by its MAC where that was not yet written.
 */
static bool is_it(const struct link *l, const struct bridge_state *b)
{
	uint8_t mac[6];

	make_mac(b->wish.name, mac);
	return !strcmp(l->kind, "bridge") &&
	       (b->index ? b->index == l->index : !memcmp(l->mac, mac, sizeof(mac)));
}

/* Only the one that was made: by now the name may be another's. */
static void remove_link(struct host *h, const struct bridge_state *b)
{
	struct link l;
	int rc = link_find(h->rtnl, b->wish.name, &l);

	if (rc || !is_it(&l, b))
		return;
	rc = link_delete(h->rtnl, l.index);
	if (rc)
		log_warn("%s: cannot be deleted: %s", b->wish.name, strerror(-rc));
}

/* After a failure it is as it was: known, and not there. */
static int make_again(struct host *h, struct bridge_state *b)
{
	int rc;

	if (b->wish.dhcp)
		dhcp_stop(&h->state, b->wish.name); /* it listens to the one that is gone */
	remove_link(h, b);
	b->index = 0;
	rc = make(h, b);
	if (rc)
		remove_link(h, b);
	return rc;
}

/* One that we know: as it is, or made once more where someone deleted it, or was killed making it.
 */
static int find_known(struct host *h, const struct bridge_wish *w, struct bridge_state *b)
{
	struct link l;
	int found = link_find(h->rtnl, w->name, &l);
	int rc = *b->maker ? check_ours(b, w) : check_foreign(w);

	if (rc || (!found && (l.index == b->index || !*b->maker))) {
		b->index = found ? 0 : l.index;
		return rc;
	}
	if (!*b->maker)
		return fail(ENODEV, "%s: was deleted, and is not ours to make anew", w->name);
	if (!found && !is_it(&l, b))
		return fail(EEXIST,
			"%s: was deleted and made anew by someone else; kvick net rm --force %s "
			"forgets ours, and this one can be joined",
			w->name, w->name);
	return make_again(h, b);
}

static int find_foreign(struct host *h, const struct link *l, struct bridge_state *b)
{
	const struct bridge_wish w = b->wish;
	int rc = check_foreign(&w);

	if (strcmp(l->kind, "bridge") != 0)
		return fail(EINVAL, "%s: is no bridge", w.name);
	*b = (struct bridge_state){.index = l->index};
	memcpy(b->wish.name, w.name, sizeof(w.name));
	return rc ? rc : state_save(&h->state, b);
}

void host_undo_bridge(struct host *h, const struct bridge_state *b)
{
	char why[256];

	snprintf(why, sizeof(why), "%s", last_error());
	host_remove_bridge(h, b);
	fail(EIO, "%s", why);
}

int host_add_bridge(
	struct host *h, const struct bridge_wish *wish, const char *maker, struct bridge_state *out)
{
	struct link l;
	int rc;

	rc = wish->address.prefix ? subnet_check(&wish->address) : 0;
	if (rc)
		return rc;
	if (!state_load(&h->state, wish->name, out))
		return find_known(h, wish, out);
	*out = (struct bridge_state){.wish = *wish};
	rc = link_find(h->rtnl, wish->name, &l);
	if (!rc)
		return find_foreign(h, &l, out);
	if (rc != -ENODEV)
		return failno(-rc, "%s", wish->name);
	snprintf(out->maker, sizeof(out->maker), "%s", maker);
	rc = make(h, out);
	if (rc)
		host_undo_bridge(h, out);
	return rc;
}

/* --- taking away --------------------------------------------------------------------------------
 */

int host_remove_bridge(struct host *h, const struct bridge_state *b)
{
	if (b->wish.dhcp && dhcp_stop(&h->state, b->wish.name) == -EPERM)
		return fail(EPERM, "%s: ending its dnsmasq takes CAP_KILL", b->wish.name);
	if (b->rules)
		rules_remove_bridge(b->wish.name);
	if (*b->maker)
		remove_link(h, b);
	state_remove(&h->state, b->wish.name);
	if (b->wish.nat)
		forward_restore(&h->state);
	return 0;
}

/* True if there was one. */
static bool release_dead(struct host *h, const char *bridge, const struct nic_list *l)
{
	bool found = false;

	for (unsigned i = 0; i < l->count; i++) {
		const struct nic_state *n = &l->nics[i];

		if (n->alive)
			continue;
		if (n->spoof_guard)
			rules_remove_guard(bridge, n->index);
		state_remove_nic(&h->state, bridge, n->index);
		found = true;
	}
	return found;
}

void host_release_bridge(struct host *h, const char *bridge)
{
	struct bridge_state b;
	struct nic_list l;
	bool changed;

	if (state_load(&h->state, bridge, &b)) {
		state_remove(&h->state, bridge); /* killed before it had written anything */
		return;
	}
	if (state_nics(&h->state, bridge, &l))
		return;
	changed = release_dead(h, bridge, &l);
	if (!nics_alive(&l) && strcmp(b.maker, STATE_ADMIN) != 0)
		host_remove_bridge(h, &b);
	else if (changed && b.wish.dhcp)
		dhcp_tell(&h->state, &b);
	nics_free(&l);
}
