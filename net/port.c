// SPDX-License-Identifier: MIT
// The packet descriptors of one NIC.
#include "net/port.h"

#include "base/fd.h"
#include "base/log.h"
#include "net/pcap.h"
#include "net/tap.h"

#include <errno.h>

/* What a link that comes up has missed is no more than fits the queues of the other end. */
#define DRAIN_MAX 4096u

const char *const net_drop_names[NET_DROPS + 1] = {
	[NET_DROP_BAD] = "bad",
	[NET_DROP_REFUSED] = "refused",
	[NET_DROP_LINK] = "link",
	[NET_DROP_FILTERED] = "filtered",
	[NET_DROP_ROOM] = "room",
};

void port_close(struct net_end *end)
{
	while (end->vhosts)
		vhost_finish(&end->vhost[--end->vhosts]);
	if (end->pcap)
		close(end->pcap);
	end->pcap = 0;
	while (end->pairs)
		close(end->fd[--end->pairs]);
}

/* An end of file is a socket's whose other end is closed: no packet is empty. */
ssize_t port_receive(struct net_port *p, unsigned pair, const struct iovec *iov, unsigned n)
{
	ssize_t got = TEMP_FAILURE_RETRY(readv(p->end.fd[pair], iov, (int)n));

	if (got > 0)
		return got;
	return got < 0 && errno == EAGAIN ? -EAGAIN : -EPIPE;
}

static bool is_gone(int err)
{
	return err == EPIPE || err == ECONNRESET || err == EBADFD || err == ENOTCONN;
}

ssize_t port_send(struct net_port *p, unsigned pair, const struct iovec *iov, unsigned n)
{
	ssize_t sent = TEMP_FAILURE_RETRY(writev(p->end.fd[pair], iov, (int)n));

	if (sent < 0)
		return is_gone(errno) ? -EPIPE : -errno;
	p->count.tx.packets++;
	p->count.tx.bytes += (size_t)sent - NET_HEADER;
	return sent;
}

int port_record(struct net_port *p, struct iovec *iov, unsigned n, size_t frame)
{
	int rc = pcap_write(p->end.pcap, iov, n, frame);

	if (rc) {
		close(p->end.pcap);
		p->end.pcap = 0;
	}
	return rc;
}

void port_count_rx(struct net_port *p, size_t frame)
{
	p->count.rx.packets++;
	p->count.rx.bytes += frame;
}

void port_count_drop(struct net_port *p, enum net_drop why)
{
	p->count.drops[why]++;
}

void port_drain(struct net_port *p, unsigned pair)
{
	char byte;
	const struct iovec iov = {.iov_base = &byte, .iov_len = 1};

	for (unsigned i = 0; i < DRAIN_MAX && port_receive(p, pair, &iov, 1) >= 0; i++)
		port_count_drop(p, NET_DROP_LINK);
}

int port_set_offloads(struct net_port *p, uint64_t guest)
{
	return p->end.tap ? tap_set_offloads(p->end.fd[0], guest) : 0;
}

/* A tap's queue that is in no use gets its share of the packets, as long as it is attached. */
int port_set_pairs(struct net_port *p, unsigned pairs)
{
	int rc = 0;

	for (unsigned i = 1; p->end.tap && i < p->end.pairs && !rc; i++)
		rc = tap_set_queue(p->end.fd[i], i < pairs);
	return rc;
}

void port_set_filter(struct net_port *p, const uint8_t (*macs)[6], unsigned count, bool groups)
{
	if (p->end.tap && tap_set_filter(p->end.fd[0], macs, count, groups))
		log_debug("%s: %s", p->end.name, last_error());
}
