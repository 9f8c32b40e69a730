// SPDX-License-Identifier: MIT
#include "net/bridge/forward.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define IP_FORWARD "/proc/sys/net/ipv4/ip_forward"
#define CHANGED ".ip_forward" /* is there while it is 1 by our doing */

static int write_value(const char *path, char value)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, &value, 1) != 1 ? -errno : 0;
}

/* -1: it cannot be told. */
static int read_value(const char *path)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	char value;

	return fd < 0 || read(fd, &value, 1) != 1 ? -1 : value - '0';
}

int forward_on(const struct state *s, const char *bridge)
{
	CLEANUP_FD int changed = -1;
	int rc;

	if (read_value(IP_FORWARD) == 1)
		return 0;
	changed = openat(s->dir, CHANGED, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (changed < 0)
		return failno(errno, STATE_DIR);
	rc = write_value(IP_FORWARD, '1');
	if (rc) {
		unlinkat(s->dir, CHANGED, 0);
		return failno(
			-rc, "%s: nat needs net.ipv4.ip_forward, which cannot be set", bridge);
	}
	log_warn("net.ipv4.ip_forward was 0 and is 1 as long as there is a bridge with nat (%s)",
		bridge);
	return 0;
}

static bool has_nat(const struct state *s)
{
	CLEANUP_FREE char(*names)[IFNAMSIZ] = NULL;
	struct bridge_state b;

	if (state_bridges(s, &names))
		return true; /* it is put back by the next one */
	for (unsigned i = 0; names[i][0]; i++) {
		if (!state_load(s, names[i], &b) && b.wish.nat)
			return true;
	}
	return false;
}

void forward_restore(const struct state *s)
{
	int rc;

	if (faccessat(s->dir, CHANGED, F_OK, 0) < 0 || has_nat(s))
		return;
	rc = write_value(IP_FORWARD, '0');
	if (rc)
		log_warn("net.ipv4.ip_forward cannot be put back to 0: %s", strerror(-rc));
	unlinkat(s->dir, CHANGED, 0);
}

struct interface_switch {
	const char *family, *name;
	char value;
};

static void set_switches(
	const char *interface, const struct interface_switch *switches, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		char path[96];
		int rc;

		snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", switches[i].family,
			interface, switches[i].name);
		rc = write_value(path, switches[i].value);
		if (rc && rc != -ENOENT)
			log_warn("%s: %s", path, strerror(-rc));
	}
}

void forward_harden(const char *bridge)
{
	static const struct interface_switch switches[] = {
		{"ipv4", "rp_filter", '1'},
		{"ipv4", "accept_redirects", '0'},
		{"ipv6", "accept_ra", '0'},
		{"ipv6", "accept_redirects", '0'},
	};

	set_switches(bridge, switches, ARRAY_SIZE(switches));
}

void forward_harden_tap(const char *tap)
{
	static const struct interface_switch switches[] = {
		{"ipv4", "rp_filter", '1'}, /* it has no address, and so none is right to it */
		{"ipv6", "disable_ipv6", '1'},
	};

	set_switches(tap, switches, ARRAY_SIZE(switches));
}
