// SPDX-License-Identifier: MIT
// The kernel's side of vhost-net, made up.
#include "tests/unit/fake_vhost.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <linux/vhost.h>
#include <linux/virtio_net.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#define FAKES 16u

unsigned fake_requests, fake_refuse;
unsigned fake_filter_count;
uint8_t fake_filter[256][6];
bool fake_filter_groups;

static struct fake_vhost fakes[FAKES];
static unsigned count;

void fake_reset(void)
{
	fake_requests = fake_refuse = fake_filter_count = count = 0;
}

struct fake_vhost *fake_vhost_open(void)
{
	struct fake_vhost *f = &fakes[count++];

	*f = (struct fake_vhost){.fd = eventfd(0, EFD_CLOEXEC),
		.has = 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_NET_F_MRG_RXBUF |
		       1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VIRTIO_RING_F_EVENT_IDX |
		       1ull << VHOST_NET_F_VIRTIO_NET_HDR | 1ull << VHOST_F_LOG_ALL};
	for (unsigned i = 0; i < 2; i++)
		f->ring[i].kick = f->ring[i].call = f->ring[i].tap = -1;
	return f;
}

static int refuse(int err)
{
	errno = err;
	return -1;
}

/* A ring gets a tap only where it lies in memory. */
static int attach(struct fake_vhost *f, struct fake_ring *r, int tap)
{
	if (tap >= 0 && (!r->at.desc_user_addr || !f->regions))
		return refuse(EFAULT);
	r->tap = tap;
	return 0;
}

/* ... and is not changed under one. */
static int change_ring(
	struct fake_vhost *f, struct fake_ring *r, unsigned long what, const unsigned arg[2])
{
	if (what == VHOST_NET_SET_BACKEND)
		return attach(f, r, (int)arg[1]);
	if (r->tap >= 0)
		return refuse(EBUSY);
	if (what == VHOST_SET_VRING_NUM)
		r->size = arg[1];
	else if (what == VHOST_SET_VRING_BASE)
		r->base = arg[1];
	else if (what == VHOST_SET_VRING_KICK)
		r->kick = (int)arg[1];
	else if (what == VHOST_SET_VRING_CALL)
		r->call = (int)arg[1];
	else if (what == VHOST_SET_VRING_ERR)
		r->error = (int)arg[1];
	else
		return refuse(ENOTTY);
	return 0;
}

static int answer_ring(struct fake_vhost *f, unsigned long what, void *arg)
{
	struct vhost_vring_addr at;
	unsigned words[2];

	if (what == VHOST_SET_VRING_ADDR) {
		memcpy(&at, arg, sizeof(at));
		f->ring[at.index].at = at;
		return 0;
	}
	memcpy(words, arg, sizeof(words));
	if (what != VHOST_GET_VRING_BASE)
		return change_ring(f, &f->ring[words[0]], what, words);
	memcpy((char *)arg + sizeof(words[0]), &f->ring[words[0]].base, sizeof(words[0]));
	return 0;
}

static void take_memory(struct fake_vhost *f, const struct vhost_memory *m)
{
	f->regions = m->nregions;
	memcpy(f->region, m->regions, m->nregions * sizeof(f->region[0]));
}

static int answer(struct fake_vhost *f, unsigned long what, void *arg)
{
	if (++fake_requests == fake_refuse)
		return refuse(EIO);
	if (what == VHOST_SET_OWNER)
		f->owned = true;
	else if (what == VHOST_GET_FEATURES)
		memcpy(arg, &f->has, sizeof(f->has));
	else if (!f->owned)
		return refuse(EPERM);
	else if (what == VHOST_SET_FEATURES)
		memcpy(&f->features, arg, sizeof(f->features));
	else if (what == VHOST_SET_MEM_TABLE)
		take_memory(f, arg);
	else
		return answer_ring(f, what, arg);
	return 0;
}

static int answer_tap(const void *arg)
{
	struct tun_filter head;

	memcpy(&head, arg, sizeof(head));
	fake_filter_count = head.count;
	fake_filter_groups = head.flags & TUN_FLT_ALLMULTI;
	memcpy(fake_filter, (const char *)arg + sizeof(head), head.count * 6u);
	return 0;
}

int __real_ioctl(int fd, unsigned long what, ...);
int __wrap_ioctl(int fd, unsigned long what, ...);

int __wrap_ioctl(int fd, unsigned long what, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, what);
	arg = va_arg(ap, void *);
	va_end(ap);
	for (unsigned i = 0; i < count; i++)
		if (fakes[i].fd == fd)
			return answer(&fakes[i], what, arg);
	if (what == TUNSETTXFILTER)
		return answer_tap(arg);
	if (what == TUNSETOFFLOAD || what == TUNSETQUEUE)
		return 0;
	return __real_ioctl(fd, what, arg);
}
