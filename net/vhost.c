// SPDX-License-Identifier: MIT
// The kernel as the owner of a NIC's queues.
#include "net/vhost.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"

#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_net.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#define DEVICE "/dev/vhost-net"

/* Those of the rings and of the packets' headers; all others are the tap's affair. */
#define FEATURES                                                                                   \
	(1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_NET_F_MRG_RXBUF |                             \
		1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VIRTIO_RING_F_EVENT_IDX)

#define REGIONS_MAX 2u

int vhost_open(void)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
		return fail(errno, DEVICE ": this host has none; modprobe vhost_net");
	if (errno == EACCES)
		return fail(errno, DEVICE ": not for this user; the kvm group often has it");
	return failno(errno, DEVICE);
}

static int check_features(int fd)
{
	uint64_t has = 0;

	if (ioctl(fd, VHOST_GET_FEATURES, &has) < 0)
		return failno(errno, DEVICE ": what it can do");
	if (FEATURES & ~has)
		return fail(ENOTSUP, DEVICE ": this host's kernel lacks features %#llx of it",
			FEATURES & ~has);
	return 0;
}

int vhost_init(struct vhost *v, int fd)
{
	int rc;

	*v = VHOST_NONE;
	v->fd = fd;
	if (ioctl(fd, VHOST_SET_OWNER, NULL) < 0)
		rc = failno(errno, DEVICE ": a thread of the kernel for a NIC");
	else
		rc = check_features(fd);
	if (!rc) {
		v->error = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		rc = v->error < 0 ? failno(errno, DEVICE ": an eventfd") : 0;
	}
	if (rc)
		vhost_finish(v);
	return rc;
}

void vhost_finish(struct vhost *v)
{
	uint16_t next[2];

	vhost_stop(v, next);
	if (v->fd >= 0)
		close(v->fd);
	if (v->error >= 0)
		close(v->error);
	*v = VHOST_NONE;
}

static int request_(const struct vhost *v, unsigned long what, void *arg, const char *name)
{
	return ioctl(v->fd, what, arg) < 0 ? failno(errno, DEVICE ": %s", name) : 0;
}

#define request(v, what, arg) request_(v, what, arg, #what)

static int set_memory(
	const struct vhost *v, const struct vhost_memory_region *memory, unsigned regions)
{
	struct {
		struct vhost_memory head;
		struct vhost_memory_region region[REGIONS_MAX];
	} table = {.head.nregions = regions};

	if (regions > REGIONS_MAX)
		return fail(EINVAL, DEVICE ": memory in %u pieces", regions);
	memcpy(table.region, memory, regions * sizeof(*memory));
	return request(v, VHOST_SET_MEM_TABLE, &table);
}

static int set_ring(const struct vhost *v, unsigned index, const struct vhost_ring *r)
{
	struct vhost_vring_state size = {index, r->size}, base = {index, r->next};
	struct vhost_vring_file kick = {index, r->kick}, call = {index, r->call};
	struct vhost_vring_file error = {index, v->error};
	struct vhost_vring_addr at = {
		.index = index,
		.desc_user_addr = (uintptr_t)r->desc,
		.avail_user_addr = (uintptr_t)r->avail,
		.used_user_addr = (uintptr_t)r->used,
	};
	int rc = request(v, VHOST_SET_VRING_NUM, &size);

	rc = rc ? rc : request(v, VHOST_SET_VRING_BASE, &base);
	rc = rc ? rc : request(v, VHOST_SET_VRING_ADDR, &at);
	rc = rc ? rc : request(v, VHOST_SET_VRING_CALL, &call);
	rc = rc ? rc : request(v, VHOST_SET_VRING_ERR, &error);
	return rc ? rc : request(v, VHOST_SET_VRING_KICK, &kick);
}

int vhost_attach(struct vhost *v, int tap)
{
	int rc = 0;

	for (unsigned i = 0; i < 2 && !rc; i++) {
		struct vhost_vring_file file = {i, tap};

		rc = request(v, VHOST_NET_SET_BACKEND, &file);
	}
	return rc;
}

int vhost_start(struct vhost *v, uint64_t features, const struct vhost_memory_region *memory,
	unsigned regions, const struct vhost_ring rings[2], int tap)
{
	uint64_t used = features & FEATURES;
	uint16_t next[2];
	int rc = request(v, VHOST_SET_FEATURES, &used);

	v->running = true;
	rc = rc ? rc : set_memory(v, memory, regions);
	for (unsigned i = 0; i < 2 && !rc; i++)
		rc = set_ring(v, i, &rings[i]);
	rc = rc ? rc : vhost_attach(v, tap);
	if (rc)
		vhost_stop(v, next);
	return rc;
}

/* Without a tap the kernel's thread does nothing, and nothing is under way in it. */
void vhost_stop(struct vhost *v, uint16_t next[2])
{
	if (!v->running)
		return;
	v->running = false;
	if (vhost_attach(v, VHOST_FILE_UNBIND))
		log_warn("%s", last_error());
	for (unsigned i = 0; i < 2; i++) {
		struct vhost_vring_file none = {i, VHOST_FILE_UNBIND};
		struct vhost_vring_state base = {.index = i};

		if (request(v, VHOST_GET_VRING_BASE, &base) ||
			request(v, VHOST_SET_VRING_KICK, &none) ||
			request(v, VHOST_SET_VRING_CALL, &none))
			log_warn("%s", last_error());
		else
			next[i] = (uint16_t)base.num;
	}
}
