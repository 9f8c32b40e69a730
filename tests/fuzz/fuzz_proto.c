// SPDX-License-Identifier: MIT
// Fuzzes what either end of a session decodes: frames, each message, and requests.
//
// The input is a stream as a peer would send it, arriving in pieces whose sizes come from the input
// too. What must hold beside the sanitizers' findings: payloads lie in the buffer, room is never
// nothing, and a request that was checked decodes to as many strings as were announced.
#include "guest/proto.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t buffer[2 * PROTO_FRAME_MAX];

static void must(bool condition)
{
	if (!condition)
		abort();
}

static size_t count(char **v)
{
	size_t n = 0;

	while (v[n])
		n += strlen(v[n]) < PROTO_REQUEST_MAX; /* reads every byte of it */
	return n;
}

static void fuzz_request(const uint8_t *bytes, size_t length)
{
	uint8_t *copy = malloc(length ? length : 1);
	struct proto_request q;
	char **pointers;
	size_t n;

	must(copy);
	if (length)
		memcpy(copy, bytes, length);
	if (!proto_request_check(copy, length, &n)) {
		pointers = calloc(n, sizeof(*pointers));
		must(pointers);
		proto_request_get(copy, length, pointers, &q);
		must(q.argv[0] && count(q.argv) + count(q.envp) + 2 == n);
		must(!q.cwd || strlen(q.cwd) < length);
		must(!q.hostname || strlen(q.hostname) < length);
		must(q.n_nets <= PROTO_NETS && q.n_nets * PROTO_NET_SIZE <= length);
		for (unsigned int i = 0; i < q.n_nets; i++)
			must(q.nets[i].prefix4 <= 32 && q.nets[i].prefix6 <= 128);
		free(pointers);
	}
	free(copy);
}

static void fuzz_messages(const struct proto_frame *f)
{
	union {
		struct proto_hello hello;
		struct proto_started started;
		struct proto_exit exit;
		uint32_t number;
	} u;
	struct proto_error e;

	proto_get_hello(f, &u.hello);
	proto_get_started(f, &u.started);
	proto_get_exit(f, &u.exit);
	proto_get_u32(f, &u.number);
	if (!proto_get_error(f, &e))
		must(e.length <= f->length && e.length <= PROTO_TEXT_MAX);
	fuzz_request(f->payload, f->length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t piece = size ? 1 + data[0] * 257u : 1, at = 0, room;
	struct proto_reader r;
	struct proto_frame f;
	int rc = 0;

	fuzz_request(data, size);
	proto_reader_init(&r, buffer, PROTO_FRAME_MAX + (size & 1 ? PROTO_FRAME_MAX : 0));
	while (at < size && rc >= 0) {
		uint8_t *space = proto_reader_space(&r, &room);

		must(room > 0 && space >= buffer && space + room <= buffer + r.size);
		room = room < piece ? room : piece;
		room = room < size - at ? room : size - at;
		memcpy(space, data + at, room);
		proto_reader_filled(&r, room);
		at += room;
		while ((rc = proto_reader_next(&r, &f)) > 0) {
			must(f.payload >= buffer && f.payload + f.length <= buffer + r.end);
			fuzz_messages(&f);
		}
	}
	return 0;
}
