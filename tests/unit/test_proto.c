// SPDX-License-Identifier: MIT
// The protocol of guest/proto.h and the ring beside it: round trips, bounds, and broken input.
#include "example_net.h"
#include "test.h"

#include "guest/proto.h"
#include "guest/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint8_t buffer[2 * PROTO_FRAME_MAX], outgoing[PROTO_FRAME_MAX + 100];

static void put(struct proto_writer *w, uint16_t type, uint8_t stream, const char *text)
{
	struct proto_frame f = {.type = type,
		.stream = stream,
		.flags = PROTO_OPTIONAL,
		.length = (uint32_t)strlen(text),
		.payload = (const uint8_t *)text};

	assert_true(proto_writer_put(w, &f));
}

static void expect(struct proto_reader *r, uint16_t type, uint8_t stream, const char *text)
{
	struct proto_frame f;

	assert_int_equal(proto_reader_next(r, &f), 1);
	assert_int_equal(f.type, type);
	assert_int_equal(f.stream, stream);
	assert_int_equal(f.flags, PROTO_OPTIONAL);
	assert_int_equal(f.length, strlen(text));
	assert_memory_equal(f.payload, text, f.length);
}

static void feed(struct proto_reader *r, const void *bytes, size_t length)
{
	size_t room;
	uint8_t *space = proto_reader_space(r, &room);

	assert_true(room >= length);
	memcpy(space, bytes, length);
	proto_reader_filled(r, length);
}

static void frames_survive_every_cut(void **state)
{
	struct proto_writer w;
	struct proto_reader r;
	struct proto_frame f;
	const uint8_t *bytes;
	size_t length;

	proto_writer_init(&w, outgoing, sizeof(outgoing));
	put(&w, PROTO_DATA, PROTO_STDOUT, "hello");
	put(&w, PROTO_EOF, PROTO_STDERR, "");
	put(&w, 999, PROTO_STDIN, "x");
	bytes = proto_writer_pending(&w, &length);
	assert_int_equal(length, 3 * PROTO_HEADER + 6);
	for (size_t cut = 0; cut <= length; cut++) {
		proto_reader_init(&r, buffer, PROTO_FRAME_MAX);
		feed(&r, bytes, cut);
		if (cut >= PROTO_HEADER + 5) {
			expect(&r, PROTO_DATA, PROTO_STDOUT, "hello");
			feed(&r, bytes + cut, length - cut);
		} else {
			assert_int_equal(proto_reader_next(&r, &f), 0);
			assert_int_equal(proto_reader_partial(&r), cut);
			feed(&r, bytes + cut, length - cut);
			expect(&r, PROTO_DATA, PROTO_STDOUT, "hello");
		}
		expect(&r, PROTO_EOF, PROTO_STDERR, "");
		expect(&r, 999, PROTO_STDIN, "x");
		assert_int_equal(proto_reader_next(&r, &f), 0);
		assert_int_equal(proto_reader_partial(&r), 0);
	}
}

/* A frame of the largest size, arriving behind others, must always find room. */
static void largest_frames_fit(void **state)
{
	static uint8_t stream[3 * PROTO_FRAME_MAX + 3 * (PROTO_HEADER + 1)];
	struct proto_reader r;
	struct proto_frame f;
	size_t at = 0, sent = 0, room, frames = 0;

	for (int i = 0; i < 3; i++) {
		static const uint8_t tiny[] = {1, 0, 0, 0, PROTO_DATA, 0, 1, 0, 'a'};
		static const uint8_t large[] = {0xf8, 0xff, 0, 0, PROTO_DATA, 0, 2, 0};

		memcpy(stream + at, tiny, sizeof(tiny));
		memcpy(stream + at + sizeof(tiny), large, sizeof(large));
		at += sizeof(tiny) + PROTO_FRAME_MAX;
	}
	assert_int_equal(at, sizeof(stream));
	proto_reader_init(&r, buffer, PROTO_FRAME_MAX);
	while (sent < at) {
		uint8_t *space = proto_reader_space(&r, &room);

		assert_true(room > 0);
		room = room < at - sent ? room : at - sent;
		memcpy(space, stream + sent, room);
		proto_reader_filled(&r, room);
		sent += room;
		while (proto_reader_next(&r, &f) == 1)
			assert_int_equal(f.length, frames++ % 2 ? PROTO_PAYLOAD_MAX : 1);
	}
	assert_int_equal(frames, 6);
}

static void broken_headers_are_refused(void **state)
{
	static const uint8_t too_long[] = {0xf9, 0xff, 0, 0, PROTO_DATA, 0, 1, 0};
	static const uint8_t no_stream[] = {0, 0, 0, 0, PROTO_DATA, 0, 3, 0};
	struct proto_reader r;
	struct proto_frame f;

	proto_reader_init(&r, buffer, PROTO_FRAME_MAX);
	feed(&r, too_long, sizeof(too_long));
	assert_int_equal(proto_reader_next(&r, &f), -EMSGSIZE);
	assert_int_equal(f.length, PROTO_PAYLOAD_MAX + 1);
	proto_reader_init(&r, buffer, PROTO_FRAME_MAX);
	feed(&r, no_stream, sizeof(no_stream));
	assert_int_equal(proto_reader_next(&r, &f), -EPROTO);
	assert_int_equal(f.stream, 3);
}

static void writer_is_bounded(void **state)
{
	struct proto_frame f = {.type = PROTO_DATA, .length = 92, .payload = buffer};
	struct proto_writer w;
	size_t length;

	proto_writer_init(&w, outgoing, 250);
	assert_int_equal(proto_writer_room(&w), 242);
	assert_true(proto_writer_put(&w, &f));
	assert_true(proto_writer_put(&w, &f));
	assert_int_equal(proto_writer_room(&w), 42);
	assert_false(proto_writer_put(&w, &f));
	f.length = 42;
	assert_true(proto_writer_put(&w, &f));
	assert_int_equal(proto_writer_room(&w), -1);
	proto_writer_sent(&w, 249);
	assert_int_equal(proto_writer_room(&w), -1);
	proto_writer_pending(&w, &length);
	assert_int_equal(length, 1);
	proto_writer_sent(&w, 1);
	assert_int_equal(proto_writer_room(&w), 242);
	proto_writer_init(&w, outgoing, sizeof(outgoing));
	assert_int_equal(proto_writer_room(&w), PROTO_PAYLOAD_MAX);
}

static void messages_round_trip(void **state)
{
	struct proto_hello hello = {.version = 7, .stage_ns = {1, UINT64_MAX, 3}}, hello2;
	struct proto_started started = {.pid = 0xfedcba98, .at_ns = 1ull << 40}, started2;
	struct proto_exit end = {1, 2, 3, 4, 5, 6}, end2;
	struct proto_error error = {.error = 2, .step = 1, .text = "abc", .length = 3}, error2;
	uint8_t p[PROTO_ERROR_SIZE];
	struct proto_frame f = {.payload = p};
	uint32_t number;

	f.length = (uint32_t)proto_put_hello(p, &hello);
	assert_int_equal(proto_get_hello(&f, &hello2), 0);
	assert_int_equal(hello2.version, 7);
	assert_memory_equal(hello.stage_ns, hello2.stage_ns, sizeof(hello.stage_ns));
	f.length = (uint32_t)proto_put_started(p, &started);
	assert_int_equal(proto_get_started(&f, &started2), 0);
	assert_true(started2.pid == 0xfedcba98 && started2.at_ns == 1ull << 40);
	f.length = (uint32_t)proto_put_exit(p, &end);
	assert_int_equal(proto_get_exit(&f, &end2), 0);
	assert_memory_equal(&end, &end2, sizeof(end));
	f.length = (uint32_t)proto_put_error(p, &error);
	assert_int_equal(proto_get_error(&f, &error2), 0);
	assert_true(error2.error == 2 && error2.step == 1 && error2.length == 3);
	assert_memory_equal(error2.text, "abc", 3);
	f.length = PROTO_U32_SIZE;
	proto_put_u32(p, 0x12345678);
	assert_int_equal(p[0], 0x78);
	assert_int_equal(proto_get_u32(&f, &number), 0);
	assert_int_equal(number, 0x12345678);
}

/* Each message is refused at every length below its own; the copies let a sanitizer see overruns.
 */
static void cut_messages_are_refused(void **state)
{
	struct proto_hello hello = {.version = 1};
	struct proto_started started;
	struct proto_exit end = {0};
	struct proto_error error;
	uint8_t p[PROTO_HELLO_SIZE + PROTO_EXIT_SIZE] = {0};
	uint32_t number;

	proto_put_hello(p, &hello);
	for (uint32_t n = 0; n < PROTO_EXIT_SIZE; n++) {
		uint8_t *copy = malloc(n + 1);
		struct proto_frame f = {.length = n, .payload = copy + 1};

		memcpy(copy + 1, p, n);
		assert_int_equal(proto_get_exit(&f, &end), -EPROTO);
		assert_int_equal(proto_get_hello(&f, &hello), n < PROTO_HELLO_SIZE ? -EPROTO : 0);
		assert_int_equal(proto_get_started(&f, &started), n < 16 ? -EPROTO : 0);
		assert_int_equal(proto_get_error(&f, &error), n < 4 ? -EPROTO : 0);
		assert_int_equal(proto_get_u32(&f, &number), n < 4 ? -EPROTO : 0);
		free(copy);
	}
	proto_put_u32(p + 4, UINT32_MAX); /* stages that cannot be there */
	assert_int_equal(
		proto_get_hello(&(struct proto_frame){.length = sizeof(p), .payload = p}, &hello),
		-EPROTO);
}

static void request_round_trips(void **state)
{
	char sh[] = "sh", c[] = "-c", empty[] = "", a1[] = "A=1", b[] = "B=";
	char *argv[] = {sh, c, empty, NULL}, *envp[] = {a1, b, NULL};
	struct proto_request q = {.argv = argv,
				     .envp = envp,
				     .cwd = "/tmp",
				     .hostname = "box",
				     .flags = PROTO_EXEC_STDIN,
				     .entropy = (const uint8_t *)"12345",
				     .entropy_length = 5,
				     .n_nets = 2,
				     .nets = {example_net, {.mac = {2}}}},
			     q2;
	size_t length = proto_request_size(&q), n = 0;
	uint8_t *p = malloc(length);
	char *pointers[16];

	proto_request_put(p, &q);
	assert_int_equal(proto_request_check(p, length, &n), 0);
	assert_int_equal(n, 4 + 3);
	proto_request_get(p, length, pointers, &q2);
	for (int i = 0; i < 3; i++)
		assert_string_equal(q2.argv[i], argv[i]);
	assert_null(q2.argv[3]);
	assert_string_equal(q2.envp[0], "A=1");
	assert_string_equal(q2.envp[1], "B=");
	assert_null(q2.envp[2]);
	assert_string_equal(q2.cwd, "/tmp");
	assert_string_equal(q2.hostname, "box");
	assert_int_equal(q2.flags, PROTO_EXEC_STDIN);
	assert_int_equal(q2.entropy_length, 5);
	assert_memory_equal(q2.entropy, "12345", 5);
	assert_int_equal(q2.n_nets, 2);
	assert_memory_equal(q2.nets, q.nets, sizeof(q.nets));
	free(p);
}

static void cut_requests_are_refused(void **state)
{
	char ab[] = "ab", *argv[] = {ab, NULL}, *envp[] = {NULL};
	struct proto_request q = {.argv = argv, .envp = envp};
	size_t length = proto_request_size(&q), n;
	uint8_t p[64];

	assert_true(length <= sizeof(p));
	proto_request_put(p, &q);
	for (size_t cut = 0; cut < length; cut++) {
		uint8_t *copy = malloc(cut + 1);

		memcpy(copy + 1, p, cut);
		/* Between the two fields a request ends well. */
		assert_int_equal(proto_request_check(copy + 1, cut, &n), cut == 11 ? 0 : -EPROTO);
		free(copy);
	}
	assert_int_equal(proto_request_check(p, length, &n), 0);
	p[10] = 'x'; /* the end of "ab" */
	assert_int_equal(proto_request_check(p, length, &n), -EPROTO);
	p[10] = 0;
	p[9] = 0; /* a zero inside */
	assert_int_equal(proto_request_check(p, length, &n), -EPROTO);
	p[9] = 'b';
	p[0] = 77; /* a field no one knows */
	assert_int_equal(proto_request_check(p, length, &n), -ENOTSUP);
	p[1] = 0x80; /* that may be passed over: but then nothing is to be run */
	assert_int_equal(proto_request_check(p, length, &n), -EPROTO);
}

/* A request of one argument and `count` interfaces of `size` bytes, whose values are at *value. */
static uint8_t *net_request(unsigned int count, uint32_t size, size_t *length, uint8_t **value)
{
	static const uint8_t arg[] = {PROTO_FIELD_ARG, 0, 0, 0, 2, 0, 0, 0, 'a', 0};
	size_t field = 8 + size;
	uint8_t *p = calloc(1, sizeof(arg) + count * field), *at = p + sizeof(arg);

	assert_non_null(p);
	memcpy(p, arg, sizeof(arg));
	for (unsigned int i = 0; i < count; i++, at += field) {
		at[0] = PROTO_FIELD_NET;
		proto_put_u32(at + 4, size);
		if (size)
			at[8] = PROTO_NET_VERSION;
	}
	*length = sizeof(arg) + count * field;
	*value = p + sizeof(arg) + 8;
	return p;
}

static int check_nets(unsigned int count, uint32_t size, int at, int byte)
{
	size_t length, pointers;
	uint8_t *value, *p = net_request(count, size, &length, &value);
	int rc;

	if (at >= 0)
		value[at] = (uint8_t)byte;
	rc = proto_request_check(p, length, &pointers);
	free(p);
	return rc;
}

static void interfaces_are_checked(void **state)
{
	for (uint32_t size = 0; size < PROTO_NET_SIZE; size++)
		assert_int_equal(check_nets(1, size, -1, 0), -EPROTO);
	assert_int_equal(check_nets(1, PROTO_NET_SIZE, -1, 0), 0);
	assert_int_equal(check_nets(1, PROTO_NET_SIZE + 9, -1, 0), 0);
	assert_int_equal(check_nets(PROTO_NETS, PROTO_NET_SIZE, -1, 0), 0);
	assert_int_equal(check_nets(PROTO_NETS + 1, PROTO_NET_SIZE, -1, 0), -EPROTO);
	assert_int_equal(check_nets(1, PROTO_NET_SIZE, 10, 32), 0);
	assert_int_equal(check_nets(1, PROTO_NET_SIZE, 10, 33), -EPROTO);
	assert_int_equal(check_nets(1, PROTO_NET_SIZE, 11, 128), 0);
	assert_int_equal(check_nets(1, PROTO_NET_SIZE, 11, 129), -EPROTO);
}

/* A layout of a later version may be of any size, and counts for nothing. */
static void later_interfaces_are_passed_over(void **state)
{
	size_t length, pointers;
	uint8_t *value, *p = net_request(2, PROTO_NET_SIZE, &length, &value);
	struct proto_request q;
	char *vectors[3];

	assert_int_equal(check_nets(1, 2, 0, PROTO_NET_VERSION + 1), 0);
	value[0] = PROTO_NET_VERSION + 1;
	value[11] = 200;
	value[8 + PROTO_NET_SIZE + 2] = 99; /* the MTU of the other */
	assert_int_equal(proto_request_check(p, length, &pointers), 0);
	assert_int_equal(pointers, 3);
	proto_request_get(p, length, vectors, &q);
	assert_int_equal(q.n_nets, 1);
	assert_int_equal(q.nets[0].mtu, 99);
	free(p);
}

static void ring_keeps_order(void **state)
{
	uint8_t space[13], in = 0, out = 0;
	struct ring r;

	ring_init(&r, space, sizeof(space));
	for (int round = 0; round < 500; round++) {
		uint8_t bytes[13];
		size_t n = (size_t)(round * 7) % (sizeof(space) - r.used + 1), length;
		const uint8_t *p;

		for (size_t i = 0; i < n; i++)
			bytes[i] = in++;
		ring_put(&r, bytes, n);
		p = ring_peek(&r, &length);
		assert_int_equal(length > 0, r.used > 0);
		length = length > 5 ? 5 : length;
		for (size_t i = 0; i < length; i++)
			assert_int_equal(p[i], out++);
		ring_drop(&r, length);
	}
	assert_true(in != 0 && (uint8_t)(in - out) == r.used);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_survive_every_cut),
		cmocka_unit_test(largest_frames_fit),
		cmocka_unit_test(broken_headers_are_refused),
		cmocka_unit_test(writer_is_bounded),
		cmocka_unit_test(messages_round_trip),
		cmocka_unit_test(cut_messages_are_refused),
		cmocka_unit_test(request_round_trips),
		cmocka_unit_test(cut_requests_are_refused),
		cmocka_unit_test(interfaces_are_checked),
		cmocka_unit_test(later_interfaces_are_passed_over),
		cmocka_unit_test(ring_keeps_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
