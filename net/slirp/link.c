// SPDX-License-Identifier: MIT
// The guest's end of the wire. The theory is in link.h.
#include "net/slirp/link.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "net/slirp/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_net.h>
#include <sys/socket.h>

#define BATCH 32u
#define ROUNDS 4u  /* batches taken before others have their turn */
#define QUEUE 512u /* packets */
#define QUEUE_BYTES MIB(1)
#define SOCKET_BYTES MIB(4)  /* as far as the host lets an ordinary user have them */
#define SLOT (FRAME_MAX + 1) /* one byte more shows what is too long */

struct packet {
	uint32_t off, len;
};

struct link {
	int fd;
	uint64_t *dropped;
	void (*got)(void *arg, const void *vnet_header, uint8_t *frame, size_t len);
	void *arg;

	struct mmsghdr in[BATCH];
	struct iovec in_iov[BATCH][2];
	struct virtio_net_hdr_v1 in_header[BATCH];
	uint8_t (*in_frame)[SLOT];

	struct mmsghdr out[BATCH];
	struct iovec out_iov[BATCH][2];
	struct packet queue[QUEUE];
	unsigned first, last; /* of those that wait */
	uint8_t *bytes;       /* QUEUE_BYTES */
	size_t used, backlog;
};

/* Its checksums need not be looked at by a guest that is told so. */
static const struct virtio_net_hdr_v1 out_header = {.flags = VIRTIO_NET_HDR_F_DATA_VALID};

static void *header_to_send(void)
{
	void *p;
	const void *from = &out_header;

	memcpy(&p, &from, sizeof(p)); /* the kernel's interface lacks the const */
	return p;
}

static void enlarge(int fd, int force, int option)
{
	int size = (int)SOCKET_BYTES;

	if (setsockopt(fd, SOL_SOCKET, force, &size, sizeof(size)) < 0)
		setsockopt(fd, SOL_SOCKET, option, &size, sizeof(size));
}

static void prepare(struct link *l)
{
	for (unsigned i = 0; i < BATCH; i++) {
		l->in_iov[i][0] = (struct iovec){&l->in_header[i], sizeof(l->in_header[i])};
		l->in_iov[i][1] = (struct iovec){l->in_frame[i], SLOT};
		l->in[i].msg_hdr = (struct msghdr){.msg_iov = l->in_iov[i], .msg_iovlen = 2};
		l->out_iov[i][0] = (struct iovec){header_to_send(), sizeof(out_header)};
		l->out[i].msg_hdr = (struct msghdr){.msg_iov = l->out_iov[i], .msg_iovlen = 2};
	}
}

int link_create(struct link **out, int fd, uint64_t *dropped,
	void (*got)(void *arg, const void *vnet_header, uint8_t *frame, size_t len), void *arg)
{
	struct link *l = calloc(1, sizeof(*l));
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		free(l);
		return failno(errno, "the packets' socket");
	}
	if (l) {
		l->bytes = malloc(QUEUE_BYTES);
		l->in_frame = malloc(BATCH * sizeof(*l->in_frame));
	}
	if (!l || !l->bytes || !l->in_frame) {
		link_destroy(l);
		return fail(ENOMEM, "out of memory");
	}
	l->fd = fd;
	l->dropped = dropped;
	l->got = got;
	l->arg = arg;
	prepare(l);
	enlarge(fd, SO_SNDBUFFORCE, SO_SNDBUF);
	*out = l;
	return 0;
}

void link_destroy(struct link *l)
{
	if (!l)
		return;
	free(l->bytes);
	free(l->in_frame);
	free(l);
}

static void take(struct link *l, unsigned i)
{
	size_t len = l->in[i].msg_len;

	if (len < sizeof(struct virtio_net_hdr_v1))
		len = sizeof(struct virtio_net_hdr_v1); /* as good as one without a frame */
	l->got(l->arg, &l->in_header[i], l->in_frame[i], len - sizeof(struct virtio_net_hdr_v1));
}

bool link_receive(struct link *l)
{
	for (unsigned round = 0; round < ROUNDS; round++) {
		int n = recvmmsg(l->fd, l->in, BATCH, MSG_DONTWAIT, NULL);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		for (int i = 0; i < n; i++) {
			if (!l->in[i].msg_len)
				return false;
			take(l, (unsigned)i);
		}
		if ((unsigned)n < BATCH)
			break;
	}
	return true;
}

size_t link_backlog(const struct link *l)
{
	return l->backlog;
}

/* What waits, to the front: once in a long while, when a guest does not read. */
static void compact(struct link *l)
{
	size_t off = l->queue[l->first].off;

	memmove(l->bytes, l->bytes + off, l->used - off);
	memmove(l->queue, l->queue + l->first, (l->last - l->first) * sizeof(l->queue[0]));
	l->last -= l->first;
	l->first = 0;
	l->used -= off;
	for (unsigned i = 0; i < l->last; i++)
		l->queue[i].off -= (uint32_t)off;
}

static void hold(struct link *l, const void *frame, size_t len)
{
	if ((l->last == QUEUE || l->used + len > QUEUE_BYTES) && l->first < l->last)
		compact(l);
	if (l->last == QUEUE || l->used + len > QUEUE_BYTES) {
		++*l->dropped;
		return;
	}
	memcpy(l->bytes + l->used, frame, len);
	l->queue[l->last++] = (struct packet){(uint32_t)l->used, (uint32_t)len};
	l->used += len;
	l->backlog += len;
}

void link_send(struct link *l, const void *frame, size_t len)
{
	hold(l, frame, len);
	if (l->last - l->first == BATCH)
		link_flush(l);
}

/* How many of the first ones went. */
static unsigned send_some(struct link *l)
{
	unsigned count = MIN(l->last - l->first, BATCH);
	int n;

	for (unsigned i = 0; i < count; i++) {
		const struct packet *p = &l->queue[l->first + i];

		l->out_iov[i][1] = (struct iovec){l->bytes + p->off, p->len};
	}
	n = sendmmsg(l->fd, l->out, count, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : count;
	return (unsigned)n;
}

void link_flush(struct link *l)
{
	while (l->first < l->last) {
		unsigned n = send_some(l);

		if (!n)
			return;
		while (n--)
			l->backlog -= l->queue[l->first++].len;
	}
	l->first = l->last = 0;
	l->used = 0;
}
