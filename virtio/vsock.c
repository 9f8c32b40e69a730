// SPDX-License-Identifier: MIT
// virtio-vsock in user space: streams between the guest and UNIX sockets of the host
// (virtio 1.2, 5.10).
//
// The guest has three queues. What it sends is in TX, each packet a header of 44 bytes and up to 64
// KiB of payload. What it is sent goes into buffers that it puts into RX, 4 KiB each with Linux.
// EVENT carries one thing: that all streams are gone, after a load. A stream is named by a pair of
// ports, the guest's and the host's.
//
// From guest to host, a packet is handed to the UNIX socket straight from guest memory, and given
// back to the guest at once. What the socket does not take is copied into the stream's fifo, whose
// memory is taken when that first happens, and goes out as the socket becomes writable. The fifo
// cannot overflow: we advertise its size as buf_alloc, count what has left it in fwd_cnt, and the
// guest may not have more under way than that; one that does gets an RST. So a slow reader on the
// host holds up its own stream and no other, and TX never waits. The guest hears of fwd_cnt with
// every packet it gets, and in a CREDIT_UPDATE of its own each time half of the window has
// left since it last heard.
//
// From host to guest, streams whose socket has data, or for which another packet is due, stand in
// one queue
// (`turn`). Each gets one packet into the next RX buffer, read from the socket straight into guest
// memory, and goes to the end of the queue if it has more. A stream without credit is not in the
// queue: it has asked for credit once, and returns when a packet of the guest's brings some. When
// RX is empty all wait, and a kick is asked for. Nothing is read from a socket that cannot be
// delivered, so back-pressure reaches the host's peer by itself.
//
// A half-closed direction is passed on as such, both ways. A stream that the guest closes
// altogether is answered with RST at once, so that the guest need not wait; if the host's peer is
// slow, what is left of the stream lingers, without a name, until the fifo is empty. RSTs for what
// is no stream (any more) have a bounded queue of their own, so that no misuse by the guest takes
// memory.
//
// A stream killed within a callback is freed at the end of that callback, in vsock_pump, so that no
// function needs to know whether the one it has called has ended the stream; all look at its state.
//
// For a pause all watches are removed and later added again: epoll then reports anew what has
// happened. Peers that connect while the device is not started wait in the listening socket's
// backlog. Streams are not saved; a load leaves none, and the guest is told so.
#include "virtio/vsock.h"

#include "base/iov.h"
#include "base/stream.h"
#include "base/util.h"
#include "virtio/vsock_priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define HDR sizeof(struct virtio_vsock_hdr)

/* Packets each way before others on the loop have their turn. */
#define BUDGET 256

static_assert(HDR == 44, "the header as on the wire");

static struct vsock *to_vsock(struct virtio_device *dev)
{
	return container_of(dev, struct vsock, dev);
}

/* ---- To the guest ---- */

void vsock_refuse(struct vsock *v, const struct refusal *r)
{
	unsigned at = (v->refusal_first + v->refusal_count) % ARRAY_SIZE(v->refusals);

	if (v->refusal_count == ARRAY_SIZE(v->refusals)) {
		guest_error(&v->dev.log, v->dev.name, "takes no answers: one to port %u is dropped",
			r->src_port);
		return;
	}
	v->refusals[at] = *r;
	v->refusal_count++;
}

static void next_refusal(struct vsock *v, struct virtio_vsock_hdr *hdr)
{
	const struct refusal *r = &v->refusals[v->refusal_first];

	*hdr = (struct virtio_vsock_hdr){
		.src_cid = r->dst_cid,
		.dst_cid = r->src_cid,
		.src_port = r->dst_port,
		.dst_port = r->src_port,
		.type = r->type,
		.op = VIRTIO_VSOCK_OP_RST,
	};
	v->refusal_count--;
	/* From the start again where it can: fewer pages touched. */
	v->refusal_first = v->refusal_count ? (v->refusal_first + 1) % ARRAY_SIZE(v->refusals) : 0;
}

/* The next packet, its payload already in the n pieces of v->payload. */
static bool next_packet(struct vsock *v, struct virtio_vsock_hdr *hdr, unsigned n)
{
	struct list *node;
	struct stream *s;
	bool any;

	if (v->refusal_count) {
		next_refusal(v, hdr);
		return true;
	}
	node = list_take(&v->turn);
	if (!node)
		return false;
	s = container_of(node, struct stream, turn);
	*hdr = (struct virtio_vsock_hdr){
		.src_cid = VSOCK_HOST_CID,
		.dst_cid = v->cid,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
	};
	any = stream_next(s, hdr, n);
	stream_queue(s);
	return any;
}

/* Fills one RX buffer. False where there was nothing to put into it after all. */
static bool give_one(struct vsock *v, struct queue_elem *e)
{
	struct queue *q = &v->queues[VSOCK_RX];
	struct virtio_vsock_hdr hdr;
	unsigned n;

	if (e->out_n || e->in_len <= HDR) {
		virtio_broken(&v->dev, "a receive buffer of %u bytes to read, %u to write",
			e->out_len, e->in_len);
		return false;
	}
	n = iov_slice(v->payload, e->iov, e->in_n, HDR, e->in_len - HDR);
	if (!next_packet(v, &hdr, n)) {
		queue_unpop(q, 1);
		return false;
	}
	iov_write(e->iov, e->in_n, 0, &hdr, HDR);
	queue_push(q, e, HDR + hdr.len);
	return true;
}

static bool has_packets(const struct vsock *v)
{
	return v->refusal_count || !list_empty(&v->turn);
}

void vsock_pump(struct vsock *v)
{
	struct queue *q = &v->queues[VSOCK_RX];
	struct queue_elem e = {.iov = v->rx_iov, .cap = ARRAY_SIZE(v->rx_iov)};
	int left = BUDGET;

	while (v->live && left > 0 && has_packets(v)) {
		if (queue_pop(q, &e))
			left -= give_one(v, &e);
		else if (!queue_enable_kicks(q))
			break;
	}
	queue_notify(q);
	if (left == 0)
		virtio_kick_again(&v->dev, VSOCK_RX);
	stream_bury(v);
	if (v->live)
		vsock_listen(v);
}

static void send_event(struct vsock *v)
{
	const struct virtio_vsock_event event = {.id = VIRTIO_VSOCK_EVENT_TRANSPORT_RESET};
	struct queue *q = &v->queues[VSOCK_EVENT];
	struct queue_elem e = {.iov = v->rx_iov, .cap = ARRAY_SIZE(v->rx_iov)};

	if (!v->reset_due || !queue_pop(q, &e))
		return;
	if (e.in_len < sizeof(event)) {
		virtio_broken(&v->dev, "an event buffer of %u bytes", e.in_len);
		return;
	}
	iov_write(e.iov + e.out_n, e.in_n, 0, &event, sizeof(event));
	queue_push(q, &e, sizeof(event));
	queue_notify(q);
	v->reset_due = false;
}

/* ---- From the guest ---- */

static void refuse(struct vsock *v, const struct virtio_vsock_hdr *hdr)
{
	const struct refusal r = {
		.src_cid = hdr->src_cid,
		.dst_cid = hdr->dst_cid,
		.src_port = hdr->src_port,
		.dst_port = hdr->dst_port,
		.type = hdr->type,
	};

	/* Never an RST for an RST. */
	if (hdr->op != VIRTIO_VSOCK_OP_RST)
		vsock_refuse(v, &r);
}

static void guest_connects(struct vsock *v, const struct virtio_vsock_hdr *hdr)
{
	int fd = vsock_connect(v, hdr->dst_port);
	struct stream *s = fd >= 0 ? stream_new(v, fd, ESTABLISHED) : NULL;

	if (s)
		stream_accept(s, hdr);
	else
		refuse(v, hdr);
}

/* A packet whose payload is v->payload, n pieces. */
static void dispatch(struct vsock *v, const struct virtio_vsock_hdr *hdr, unsigned n)
{
	struct stream *s;

	if (hdr->dst_cid != VSOCK_HOST_CID || hdr->type != VIRTIO_VSOCK_TYPE_STREAM) {
		refuse(v, hdr);
		return;
	}
	s = stream_find(v, hdr->src_port, hdr->dst_port);
	if (s)
		stream_packet(s, hdr, n);
	else if (hdr->op == VIRTIO_VSOCK_OP_REQUEST)
		guest_connects(v, hdr);
	else
		refuse(v, hdr);
}

static void take_one(struct vsock *v, const struct queue_elem *e)
{
	struct virtio_vsock_hdr hdr;
	unsigned n;

	if (iov_read(e->iov, e->out_n, 0, &hdr, HDR) != HDR) {
		guest_error(&v->dev.log, v->dev.name, "a packet of %u bytes", e->out_len);
		return;
	}
	if (hdr.src_cid != v->cid) {
		guest_error(&v->dev.log, v->dev.name, "a packet from CID %llu", hdr.src_cid);
		return;
	}
	if (hdr.len > e->out_len - HDR) {
		guest_error(&v->dev.log, v->dev.name, "a packet of %u bytes says it has %u",
			e->out_len, hdr.len);
		hdr.len = 0;
		hdr.op = VIRTIO_VSOCK_OP_INVALID; /* which ends its stream, if it has one */
	}
	n = iov_slice(v->payload, e->iov, e->out_n, HDR, hdr.len);
	dispatch(v, &hdr, n);
}

static void take_packets(struct vsock *v)
{
	struct queue *q = &v->queues[VSOCK_TX];
	struct queue_elem e = {.iov = v->tx_iov, .cap = ARRAY_SIZE(v->tx_iov)};
	int left = BUDGET;

	do {
		queue_disable_kicks(q);
		for (; left > 0 && queue_pop(q, &e); left--) {
			take_one(v, &e);
			queue_push(q, &e, 0);
		}
	} while (left > 0 && queue_enable_kicks(q));
	queue_notify(q);
	if (left == 0)
		virtio_kick_again(&v->dev, VSOCK_TX);
}

static void vsock_kick(struct virtio_device *dev, unsigned index)
{
	struct vsock *v = to_vsock(dev);

	if (index == VSOCK_TX)
		take_packets(v);
	else if (index == VSOCK_EVENT)
		send_event(v);
	else
		queue_disable_kicks(&v->queues[VSOCK_RX]);
	vsock_pump(v);
}

/* ---- The machine's side ---- */

static void each_stream(struct vsock *v, void (*fn)(struct stream *s))
{
	struct list *node, *next;

	for (node = v->streams.next; node != &v->streams; node = next) {
		next = node->next;
		fn(container_of(node, struct stream, all));
	}
}

static void vsock_start(struct virtio_device *dev)
{
	struct vsock *v = to_vsock(dev);

	v->live = true;
	each_stream(v, stream_attach);
	vsock_listen(v);
}

static void vsock_stop(struct virtio_device *dev)
{
	struct vsock *v = to_vsock(dev);

	v->live = false;
	vsock_unlisten(v);
	each_stream(v, stream_detach);
}

static void vsock_reset(struct virtio_device *dev)
{
	struct vsock *v = to_vsock(dev);

	each_stream(v, stream_kill);
	stream_bury(v);
	v->refusal_first = v->refusal_count = 0;
	v->reset_due = false;
}

static void vsock_save(struct virtio_device *dev, struct stream_out *s)
{
	stream_begin(s, "virtio-vsock", 1);
	stream_put_u32(s, to_vsock(dev)->cid);
	stream_end(s);
}

static int vsock_load(struct virtio_device *dev, struct stream_in *s)
{
	int rc = stream_open(s, "virtio-vsock", 1);

	if (rc < 0)
		return rc;
	/* Another CID than now is fine: the guest asks for its CID when it hears of the reset. */
	stream_get_u32(s);
	to_vsock(dev)->reset_due = true;
	return stream_close(s);
}

static const struct virtio_ops vsock_ops = {
	.start = vsock_start,
	.stop = vsock_stop,
	.reset = vsock_reset,
	.kick = vsock_kick,
	.save = vsock_save,
	.load = vsock_load,
};

static void close_fds(const struct vsock_config *cfg)
{
	if (cfg->dir >= 0)
		close(cfg->dir);
	if (cfg->listen >= 0)
		close(cfg->listen);
}

static int check_config(const struct vsock_config *cfg)
{
	if (cfg->cid < 3 || cfg->cid == UINT32_MAX)
		return fail(
			EINVAL, "%s: CID %u: a guest's is 3 to 4294967294", cfg->name, cfg->cid);
	if (cfg->listen >= 0 &&
		fcntl(cfg->listen, F_SETFL, fcntl(cfg->listen, F_GETFL) | O_NONBLOCK) < 0)
		return failno(errno, "%s: the listening socket", cfg->name);
	return 0;
}

/* A descriptor each, of which the guest is not to have the last: whoever manages the machine needs
 * some. */
static unsigned most_streams(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) < 0)
		return VSOCK_STREAMS_MAX;
	return (unsigned)MIN(r.rlim_cur / 2, VSOCK_STREAMS_MAX);
}

static void init(struct vsock *v, const struct vsock_config *cfg)
{
	static const uint16_t queue_max[VSOCK_QUEUES] = {
		VSOCK_QUEUE_SIZE, VSOCK_QUEUE_SIZE, VSOCK_QUEUE_SIZE};
	const struct virtio_vsock_config config = {.guest_cid = cfg->cid};

	v->dev = (struct virtio_device){
		.ops = &vsock_ops,
		.name = cfg->name,
		.id = VIRTIO_ID_VSOCK,
		.queues = v->queues,
		.queue_max = queue_max,
		.queue_count = VSOCK_QUEUES,
		.config_len = sizeof(config),
	};
	v->cid = cfg->cid;
	v->most = most_streams();
	v->dir = cfg->dir;
	v->listen_fd = cfg->listen;
	v->socket = cfg->socket;
	v->listener.fd = -1;
	list_init(&v->streams);
	list_init(&v->dead);
	list_init(&v->turn);
	virtio_device_init(&v->dev);
	virtio_config_set(&v->dev, 0, &config, sizeof(config));
}

int vsock_create(struct virtio_device **out, const struct vsock_config *cfg)
{
	int rc = check_config(cfg);
	struct vsock *v = rc == 0 ? calloc(1, sizeof(*v)) : NULL;

	if (!v) {
		close_fds(cfg);
		return rc < 0 ? rc : fail(ENOMEM, "%s: no memory", cfg->name);
	}
	init(v, cfg);
	*out = &v->dev;
	return 0;
}

void vsock_destroy(struct virtio_device *dev)
{
	struct vsock *v;

	if (!dev)
		return;
	v = to_vsock(dev);
	vsock_reset(dev);
	close_fds(&(struct vsock_config){.dir = v->dir, .listen = v->listen_fd});
	virtio_device_finish(dev);
	free(v);
}
