// SPDX-License-Identifier: MIT
// The file systems init mounts: the kernel's own, the root, and scratch space.
#include "guest/boot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

struct mount_entry {
	const char *type, *target;
	unsigned long flags;
	const char *options;
	bool may_lack; /* a kernel without it is no trouble */
};

static const struct mount_entry system_mounts[] = {
	{"devtmpfs", "/dev", MS_NOSUID, "mode=0755", false},
	{"proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, false},
	{"sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, true},
	{"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=0620,ptmxmode=0666", true},
	{"tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777", true},
};

/* A root in memory needs none of these, and may bring files of its own there. */
static const struct mount_entry scratch_mounts[] = {
	{"tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755", true},
	{"tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777", true},
};

static const struct {
	const char *target, *path;
} links[] = {
	{"/proc/self/fd", "/dev/fd"},
	{"/proc/self/fd/0", "/dev/stdin"},
	{"/proc/self/fd/1", "/dev/stdout"},
	{"/proc/self/fd/2", "/dev/stderr"},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static int mount_entry(const struct mount_entry *m)
{
	return mount(m->type, m->target, m->type, m->flags, m->options) ? errno : 0;
}

static void mount_table(struct boot *b, const struct mount_entry *m, size_t n)
{
	int error;

	for (; n--; m++) {
		error = mount_entry(m);
		if (error == ENOENT && !mkdir(m->target, 0755))
			error = mount_entry(m);
		if (error == EBUSY || (error == ENODEV && m->may_lack))
			continue;
		if (error)
			boot_trouble(b, "mount on", m->target, error);
	}
}

void boot_mount_system(struct boot *b)
{
	mount_table(b, system_mounts, COUNT(system_mounts));
	for (size_t i = 0; i < COUNT(links); i++)
		if (symlink(links[i].target, links[i].path) && errno != EEXIST)
			boot_trouble(b, "link", links[i].path, errno);
}

void boot_mount_scratch(struct boot *b)
{
	if (!b->root_in_memory)
		mount_table(b, scratch_mounts, COUNT(scratch_mounts));
	else if (mkdir("/tmp", 01777) == 0)
		chmod("/tmp", 01777); /* mkdir leaves out what the umask forbids */
}

/* The initramfs itself, which the kernel has unpacked and started us from. */
static int root_initramfs(struct boot *b)
{
	b->root_in_memory = true;
	return 0;
}

#define NEW_ROOT "/.kvick/root"

/* Read-write, else read-only. 0 or -errno. */
static int mount_disk(const char *device, const char *type)
{
	if (!mount(device, NEW_ROOT, type, 0, NULL))
		return 0;
	if (errno == EACCES || errno == EROFS)
		return mount(device, NEW_ROOT, type, MS_RDONLY, NULL) ? -errno : 0;
	return -errno;
}

/* Tries what file systems the kernel has, as it does itself for a root: each says whether it is one
 * of its own. */
static int mount_any(const char *device)
{
	char line[64];
	FILE *f = fopen("/proc/filesystems", "re");
	int rc = -ENODEV;

	if (!f)
		return -errno;
	while (rc && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		if (line[0] == '\t')
			rc = mount_disk(device, line + 1);
	}
	fclose(f);
	return rc;
}

/* Takes what is mounted with it, then becomes the root. */
static int switch_root(struct boot *b)
{
	static const char *const moved[] = {"/dev", "/proc", "/sys"};
	char to[64];

	for (size_t i = 0; i < COUNT(moved); i++) {
		snprintf(to, sizeof(to), NEW_ROOT "%s", moved[i]);
		mkdir(to, 0755); /* it is there, or the root is read-only and lacks it */
		if (mount(moved[i], to, NULL, MS_MOVE, NULL))
			boot_trouble(b, "mount on", moved[i], errno);
	}
	if (chdir(NEW_ROOT) || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		return -errno;
	return 0;
}

/* A disk or a partition, whatever file system it has. */
static int root_disk(struct boot *b)
{
	int rc;

	mkdir(NEW_ROOT, 0755);
	rc = mount_any(b->root);
	return rc ? rc : switch_root(b);
}

int boot_mount_root(struct boot *b)
{
	if (!strncmp(b->root, "/dev/", 5))
		return root_disk(b);
	return strcmp(b->root, "initramfs") ? -EINVAL : root_initramfs(b);
}
