// SPDX-License-Identifier: MIT
// virtio-vsock: which streams there are, found by their pair of ports.
#include "virtio/vsock_priv.h"

#include "base/util.h"

#include <assert.h>
#include <stdlib.h>
#include <unistd.h>

static_assert(VSOCK_BUCKETS == 256, "a hash's upper 8 bits select the bucket");

/* Multiplicative hashing: consecutive ports, of either side, go to different buckets. */
static unsigned bucket(uint32_t guest_port, uint32_t host_port)
{
	return (guest_port ^ host_port * 0x9e3779b1u) * 0x85ebca6bu >> 24;
}

struct stream *stream_find(const struct vsock *v, uint32_t guest_port, uint32_t host_port)
{
	struct stream *s = v->table[bucket(guest_port, host_port)];

	while (s && (s->guest_port != guest_port || s->host_port != host_port))
		s = s->bucket_next;
	return s;
}

void stream_insert(struct stream *s, uint32_t guest_port, uint32_t host_port)
{
	struct stream **b = &s->v->table[bucket(guest_port, host_port)];

	s->guest_port = guest_port;
	s->host_port = host_port;
	s->bucket_next = *b;
	*b = s;
}

void stream_remove(struct stream *s)
{
	struct stream **p = &s->v->table[bucket(s->guest_port, s->host_port)];

	while (*p && *p != s)
		p = &(*p)->bucket_next;
	if (*p)
		*p = s->bucket_next;
}

uint32_t stream_free_port(struct vsock *v, uint32_t guest_port)
{
	uint32_t port;

	/* Ends: there are a million times more ports than streams. */
	do {
		port = VSOCK_HOST_PORTS + v->next_port++ % VSOCK_HOST_PORTS;
	} while (stream_find(v, guest_port, port));
	return port;
}

struct stream *stream_new(struct vsock *v, int fd, enum stream_state state)
{
	struct stream *s = v->count < v->most ? calloc(1, sizeof(*s)) : NULL;

	if (!s) {
		close(fd);
		return NULL;
	}
	s->v = v;
	s->fd = fd;
	s->state = state;
	s->fifo.size = VSOCK_WINDOW;
	s->watch.fd = -1;
	list_init(&s->turn);
	list_init(&s->all);
	list_append(&v->streams, &s->all);
	v->count++;
	return s;
}

void stream_kill(struct stream *s)
{
	if (s->state == DEAD)
		return;
	stream_detach(s);
	close(s->fd);
	stream_remove(s);
	list_del(&s->turn);
	list_del(&s->all);
	list_append(&s->v->dead, &s->all);
	s->v->count--;
	s->state = DEAD;
}

void stream_bury(struct vsock *v)
{
	struct list *node, *next;

	for (node = v->dead.next; node != &v->dead; node = next) {
		struct stream *s = container_of(node, struct stream, all);

		next = node->next;
		fifo_finish(&s->fifo);
		free(s);
	}
	list_init(&v->dead);
}
