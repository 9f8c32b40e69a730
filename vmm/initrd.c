// SPDX-License-Identifier: MIT
// Packs a root directory with what init needs: itself, the modules, and the order to load them in.
#include "vmm/initrd.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "loader/initramfs.h"
#include "loader/loader.h"
#include "loader/modules.h"

#include <errno.h>
#include <stdio.h>

struct initrd {
	struct loader_initrd loader;
	int fd; /* of a file; else -1 */
	struct initramfs *archive;
	struct modules *modules;
	char *list; /* names of the modules' files, a line each */
};

#define WANTED_MAX 6u

/* What the devices of run need in the guest. Returns how many. */
static size_t list_wanted(const struct initrd_root *r, struct module_want want[WANTED_MAX])
{
	size_t n = 0;

	want[n++] = (struct module_want){r->pci ? "virtio_pci" : "virtio_mmio", false};
	want[n++] = (struct module_want){"vmw_vsock_virtio_transport", false};
	want[n++] = (struct module_want){"virtio_rng", true};
	if (r->disks)
		want[n++] = (struct module_want){"virtio_blk", false};
	if (r->nics) {
		want[n++] = (struct module_want){"virtio_net", !r->nics_wanted};
		want[n++] = (struct module_want){"af_packet", true}; /* for tcpdump, and DHCP */
	}
	return n;
}

int initrd_from_file(struct initrd **out, int fd, const char *name)
{
	struct initrd *i = calloc(1, sizeof(*i));
	int rc;

	if (!i) {
		close(fd);
		return fail(ENOMEM, "out of memory");
	}
	i->fd = fd;
	rc = loader_initrd_from_fd(&i->loader, fd, name);
	if (rc < 0)
		initrd_destroy(i);
	else
		*out = i;
	return rc;
}

static int resolve(struct initrd *i, const struct initrd_root *r)
{
	struct module_want want[WANTED_MAX];
	char version[128];
	struct modules_config c = {
		.dir = r->modules,
		.kernel_path = r->kernel_path,
		.version = version,
		.want = want,
		.nwant = list_wanted(r, want),
		.unpacker = r->unpacker,
	};
	int rc = loader_version(r->kernel_fd, r->kernel_path, version, sizeof(version));

	return rc < 0 ? rc : modules_resolve(&i->modules, &c);
}

static int add_module(struct initrd *i, size_t n, FILE *list)
{
	const char *file = modules_file(i->modules, n);
	char path[256];
	const void *data;
	size_t size;
	int rc = modules_read(i->modules, n, &data, &size);

	if (rc < 0)
		return rc;
	snprintf(path, sizeof(path), ".kvick/modules/%s", file);
	fprintf(list, "%s\n", file);
	return initramfs_add_data(i->archive, path, 0600, data, size);
}

static int add_modules(struct initrd *i)
{
	size_t len, count = modules_count(i->modules);
	FILE *list;
	int rc = 0;

	if (!count)
		return 0;
	list = open_memstream(&i->list, &len);
	if (!list)
		return fail(ENOMEM, "out of memory");
	rc = initramfs_add_dir(i->archive, ".kvick/modules", 0700);
	for (size_t n = 0; n < count && !rc; n++)
		rc = add_module(i, n, list);
	if (fclose(list))
		rc = fail(ENOMEM, "out of memory");
	if (!rc)
		rc = initramfs_add_data(i->archive, ".kvick/modules/list", 0600, i->list, len);
	return rc;
}

static int pack(struct initrd *i, const struct initrd_root *r)
{
	int rc = initramfs_create(&i->archive);

	if (!rc && r->root_fd >= 0)
		rc = initramfs_add_tree(i->archive, r->root_fd, r->root_name);
	if (!rc)
		rc = initramfs_add_dir(i->archive, ".kvick", 0700);
	if (!rc)
		rc = initramfs_add_fd(i->archive, ".kvick/init", 0700, r->init_fd);
	if (!rc)
		rc = add_modules(i);
	return rc < 0 ? rc : initramfs_finish(i->archive, &i->loader);
}

int initrd_from_root(struct initrd **out, const struct initrd_root *r)
{
	struct initrd *i = calloc(1, sizeof(*i));
	int rc;

	if (!i)
		return fail(ENOMEM, "out of memory");
	i->fd = -1;
	rc = resolve(i, r);
	if (!rc)
		rc = pack(i, r);
	if (rc < 0)
		initrd_destroy(i);
	else
		*out = i;
	return rc;
}

void initrd_destroy(struct initrd *i)
{
	if (!i)
		return;
	initramfs_destroy(i->archive);
	modules_destroy(i->modules);
	cleanup_fd_(&i->fd);
	free(i->list);
	free(i);
}

uint64_t initrd_size(const struct initrd *i)
{
	return i->loader.size;
}

const struct loader_initrd *initrd_loader(const struct initrd *i)
{
	return &i->loader;
}
