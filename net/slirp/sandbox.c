// SPDX-License-Identifier: MIT
// What kvick-slirp gives up.
//
// It reads /etc/resolv.conf for as long as it lives, as hosts move between networks, and it has the
// network: so that one whom a guest has taken over cannot send the user's files away, Landlock
// leaves it the folder of that file and no other. The folder, as the file is replaced at each
// change.
#include "net/slirp/sandbox.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "slirp_jail_bpf.h"

#define RESOLV_CONF "/etc/resolv.conf"
#define MEMORY_MAX GIB(2)
#define NOBODY 65534u

static int limit(int resource, rlim_t max, const char *what)
{
	struct rlimit r;

	if (getrlimit(resource, &r) < 0)
		return failno(errno, "%s", what);
	r.rlim_cur = r.rlim_max = MIN(r.rlim_max, max);
	return setrlimit(resource, &r) < 0 ? failno(errno, "%s", what) : 0;
}

int sandbox_begin(unsigned first)
{
	int rc;

	if (syscall(SYS_close_range, first, UINT_MAX, 0) < 0)
		return failno(errno, "closing descriptors");
	rc = limit(RLIMIT_NOFILE, SANDBOX_DESCRIPTORS, "limit of descriptors");
#if !defined(__SANITIZE_ADDRESS__)
	rc = rc ? rc : limit(RLIMIT_DATA, MEMORY_MAX, "limit of memory");
#endif
	return rc ? rc : limit(RLIMIT_CORE, 0, "limit of core files");
}

/* Where root is all that a user namespace knows, nobody is not there to become. */
static int become_nobody(void)
{
	if (geteuid() != 0)
		return 0;
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		return failno(errno, "giving up groups");
	if (setresgid(NOBODY, NOBODY, NOBODY) < 0 && errno != EINVAL)
		return failno(errno, "giving up root's group");
	if (setresuid(NOBODY, NOBODY, NOBODY) < 0 && errno != EINVAL)
		return failno(errno, "giving up root");
	return 0;
}

static int shed_capabilities(void)
{
	capng_clear(CAPNG_SELECT_ALL);
	if (capng_apply(CAPNG_SELECT_CAPS) != 0)
		return fail(EPERM, "giving up capabilities failed");
	if (capng_apply(CAPNG_SELECT_AMBIENT) != 0)
		return fail(EPERM, "giving up ambient capabilities failed");
	return 0;
}

/* The folder that the file, or where a link of that name leads, is in. */
static int open_folder(void)
{
	char path[PATH_MAX], *slash;

	if (!realpath(RESOLV_CONF, path))
		strcpy(path, RESOLV_CONF);
	slash = strrchr(path, '/');
	slash[slash == path] = '\0';
	return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* Every right that the first version knows; one that is handled and not given is refused. */
static int confine_files(void)
{
	struct landlock_ruleset_attr all = {
		.handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1};
	int ruleset CLEANUP_FD = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);
	int folder CLEANUP_FD = open_folder();
	struct landlock_path_beneath_attr read = {
		.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE, .parent_fd = folder};

	if (ruleset < 0 && (errno == ENOSYS || errno == EOPNOTSUPP))
		return 0; /* the filter of system calls still lets nothing be written */
	if (ruleset < 0)
		return failno(errno, "Landlock");
	if (folder >= 0 &&
		syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &read, 0) < 0)
		return failno(errno, "Landlock: the folder of " RESOLV_CONF);
	if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		return failno(errno, "Landlock");
	return 0;
}

int sandbox_enter(enum jail_mode mode)
{
	static const struct jail_filter filter = {ARRAY_SIZE(helper), helper};
	int rc = become_nobody();

	rc = rc ? rc : shed_capabilities();
	if (rc)
		return rc;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return failno(errno, "no_new_privs");
	rc = confine_files();
	return rc ? rc : jail_enter_filter(&filter, mode);
}
