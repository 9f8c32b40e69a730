// SPDX-License-Identifier: MIT
// The resolver of a guest with rules. The theory is in relay.h.
#include "net/slirp/relay.h"

#include "base/fd.h"
#include "base/util.h"
#include "net/slirp/reply.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>

#define RESOLV_CONF "/etc/resolv.conf"
#define MESSAGE_MAX 4096u
#define QUESTION_MAX (DNS_HEADER + DNS_NAME_MAX + 1 + 4) /* with its header */
#define ANSWER_MS 10000
#define PORT_DNS "53"

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* What says that longer answers than 512 bytes are taken (RFC 6891, 6.1.2). */
static const uint8_t option[] = {0, 0, 41, MESSAGE_MAX >> 8, MESSAGE_MAX & 0xff, 0, 0, 0, 0, 0, 0};

void relay_init(struct relay *r, struct filter *f,
	void (*send)(void *arg, const uint8_t *frame, size_t len), void *arg)
{
	r->filter = f;
	r->send = send;
	r->arg = arg;
	for (unsigned i = 0; i < RELAY_QUESTIONS; i++)
		r->question[i].fd = -1;
}

static void put_be16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static bool parse_address(const char *text, union address *a, socklen_t *len)
{
	const struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_DGRAM};
	struct addrinfo *found;
	bool ok = getaddrinfo(text, PORT_DNS, &hints, &found) == 0;

	if (!ok)
		return false;
	ok = found->ai_addrlen <= sizeof(*a);
	if (ok)
		memcpy(a, found->ai_addr, found->ai_addrlen);
	*len = found->ai_addrlen;
	freeaddrinfo(found);
	return ok;
}

/* The host's first resolver, as of now: a host may move from one network to another. */
static bool find_resolver(union address *a, socklen_t *len)
{
	FILE *in = fopen(RESOLV_CONF, "re");
	char line[256], text[128];
	bool found = false;

	if (!in)
		return false;
	while (!found && fgets(line, sizeof(line), in))
		found = sscanf(line, " nameserver %127s", text) == 1 && parse_address(text, a, len);
	fclose(in);
	return found;
}

static int ask(const uint8_t *message, size_t len)
{
	union address resolver;
	socklen_t size;
	int fd;

	if (!find_resolver(&resolver, &size))
		return -1;
	fd = socket(resolver.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && (connect(fd, &resolver.any, size) < 0 || send(fd, message, len, 0) < 0)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* A free one, or that which has waited for longest. */
static struct relay_question *take(struct relay *r)
{
	struct relay_question *q = r->question;

	for (unsigned i = 0; i < RELAY_QUESTIONS; i++) {
		if (r->question[i].fd < 0)
			return &r->question[i];
		if (r->question[i].until_ms < q->until_ms)
			q = &r->question[i];
	}
	close(steal_fd(&q->fd));
	return q;
}

static const uint8_t *query_of(const struct frame *f, size_t *len)
{
	*len = f->end - f->l4 - sizeof(struct udphdr);
	return f->bytes + f->l4 + sizeof(struct udphdr);
}

static void refuse(struct relay *r, const struct frame *f, const struct dns_question *q)
{
	uint8_t buf[REPLY_HEADERS + QUESTION_MAX], *frame;
	size_t len;

	r->filter->counts[SLIRP_NAME]++;
	memcpy(buf + REPLY_HEADERS, query_of(f, &len), q->end);
	len = reply_datagram(f, buf, dns_refuse(q, buf + REPLY_HEADERS), &frame);
	r->send(r->arg, frame, len);
}

/* The question with a header of ours. */
static size_t make_query(uint8_t *to, const uint8_t *query, const struct dns_question *q)
{
	static const uint8_t header[DNS_HEADER] = {[2] = 1 /* recursion */, [5] = 1 /* question */};
	bool options = query[10] | query[11];

	memcpy(to, query, q->end);
	memcpy(to, header, sizeof(header));
	put_be16(to, q->id);
	if (!options)
		return q->end;
	to[11] = 1;
	memcpy(to + q->end, option, sizeof(option));
	return q->end + sizeof(option);
}

static void pass_on(
	struct relay *r, const struct frame *f, const struct dns_question *asked, int64_t now_ms)
{
	uint8_t message[QUESTION_MAX + sizeof(option)];
	struct relay_question *q = take(r);
	size_t len;

	*q = (struct relay_question){.fd = -1,
		.until_ms = now_ms + ANSWER_MS,
		.guest_id = asked->id,
		.asked = *asked,
		.frame = *f};
	memcpy(q->head, f->bytes, sizeof(q->head));
	q->frame.bytes = q->head;
	if (getrandom(&q->asked.id, sizeof(q->asked.id), 0) == sizeof(q->asked.id))
		q->fd = ask(message, make_query(message, query_of(f, &len), &q->asked));
}

void relay_query(struct relay *r, const struct frame *f, int64_t now_ms)
{
	struct dns_question asked;
	size_t len;
	const uint8_t *query = query_of(f, &len);

	if (!dns_parse_query(&asked, query, len))
		r->filter->counts[SLIRP_MALFORMED]++;
	else if (!policy_knows_name(r->filter->policy, asked.name))
		refuse(r, f, &asked);
	else
		pass_on(r, f, &asked, now_ms);
}

/* The guest's number instead of ours; what is not the answer to the question is not looked at. */
static bool answer(struct relay *r, struct relay_question *q, int64_t now_ms)
{
	uint8_t buf[REPLY_HEADERS + MESSAGE_MAX], *message = buf + REPLY_HEADERS, *frame;
	ssize_t n = TEMP_FAILURE_RETRY(recv(q->fd, message, MESSAGE_MAX, 0));
	struct dns_answer a;
	size_t len;

	if (n < 0)
		return errno != EAGAIN;
	if (!dns_parse_answer(&a, &q->asked, message, (size_t)n))
		return false;
	for (unsigned i = 0; i < a.count; i++)
		filter_learn(r->filter, q->asked.name, &a.address[i].address, a.address[i].ttl_s,
			now_ms);
	put_be16(message, q->guest_id);
	len = reply_datagram(&q->frame, buf, (size_t)n, &frame);
	r->send(r->arg, frame, len);
	return true;
}

unsigned relay_poll(const struct relay *r, struct pollfd *fds)
{
	unsigned n = 0;

	for (unsigned i = 0; i < RELAY_QUESTIONS; i++)
		if (r->question[i].fd >= 0)
			fds[n++] = (struct pollfd){.fd = r->question[i].fd, .events = POLLIN};
	return n;
}

/* Between the two no socket is opened, so that the order is still the same. */
void relay_run(struct relay *r, const struct pollfd *fds, unsigned count, int64_t now_ms)
{
	for (unsigned i = 0, n = 0; i < RELAY_QUESTIONS && n < count; i++) {
		struct relay_question *q = &r->question[i];
		bool done;

		if (q->fd < 0)
			continue;
		done = (fds[n++].revents && answer(r, q, now_ms)) || q->until_ms <= now_ms;
		if (done)
			close(steal_fd(&q->fd));
	}
}
