// SPDX-License-Identifier: MIT
#include "net/bridge/confine.h"

#include "base/log.h"
#include "base/util.h"

#include <cap-ng.h>
#include <errno.h>
#include <linux/filter.h>
#include <sys/prctl.h>

#include "bridge_jail_bpf.h"

/* Of those, what this process has. */
static int keep(const unsigned *caps, unsigned count)
{
	/* Who is not root has no power over the bounding set, and needs none. */
	bool bounds = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP), have[32];

	for (unsigned i = 0; i < count; i++)
		have[i] = capng_have_capability(CAPNG_PERMITTED, caps[i]);
	capng_clear(CAPNG_SELECT_BOTH);
	for (unsigned i = 0; i < count; i++) {
		if (have[i])
			capng_update(CAPNG_ADD,
				CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_BOUNDING_SET, caps[i]);
	}
	if (capng_apply(bounds ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS) < 0)
		return fail(EPERM, "kvick-net: cannot give up its capabilities");
	return 0;
}

int confine_for_setup(void)
{
	/* All but the first are dnsmasq's, and SETPCAP what gives up the rest later. */
	static const unsigned caps[] = {CAP_NET_ADMIN, CAP_NET_RAW, CAP_NET_BIND_SERVICE,
		CAP_SETUID, CAP_SETGID, CAP_CHOWN, CAP_KILL, CAP_SETPCAP};

	if (!capng_have_capability(CAPNG_EFFECTIVE, CAP_NET_ADMIN))
		return fail(EPERM, "a bridge needs CAP_NET_ADMIN: run as root, or use --net user");
	return keep(caps, ARRAY_SIZE(caps));
}

int confine_for_guard(bool kill, enum jail_mode jail)
{
	static const struct jail_filter filter = {ARRAY_SIZE(helper), helper};
	static const unsigned caps[] = {CAP_NET_ADMIN, CAP_KILL};
	int rc;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return failno(errno, "PR_SET_NO_NEW_PRIVS");
	rc = keep(caps, kill ? 2 : 1);
	return rc ? rc : jail_enter_filter(&filter, jail);
}
