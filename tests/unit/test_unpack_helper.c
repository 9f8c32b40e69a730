// SPDX-License-Identifier: MIT
// The process that unpacks: started when it is needed, asked many things, broken, missing, shut
// out.
#include "tests/unit/test.h"

#include "base/fd.h"
#include "base/log.h"
#include "vmm/unpack_helper.h"

#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <zlib.h>

#define SIZE MIB(20)
#define OFF 4097 /* of the packed data in its file */

static const char *program; /* the helper's file */
static unsigned opened;
static uint8_t *plain;

static int open_program(const char *name)
{
	opened++;
	assert_string_equal(name, "kvick-unpack");
	return open(program, O_RDONLY | O_CLOEXEC);
}

static int open_nothing(const char *name)
{
	return fail(ENOENT, "%s: not found", name);
}

/* A sanitizer makes calls of its own, which no filter of ours allows. */
static enum jail_mode mode(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return JAIL_OFF;
#else
	return JAIL_KILL;
#endif
}

static size_t pack_gzip(uint8_t *to, size_t cap)
{
	z_stream s = {
		.next_in = plain, .avail_in = SIZE, .next_out = to, .avail_out = (unsigned)cap};

	assert_int_equal(
		deflateInit2(&s, 1, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&s, Z_FINISH), Z_STREAM_END);
	deflateEnd(&s);
	return s.total_out;
}

/* Three blocks: it is unpacked by threads. */
static size_t pack_lz4(uint8_t *to, size_t cap)
{
	size_t pos = 4;

	put_le32(to, 0x184c2102);
	for (size_t off = 0; off < SIZE; off += MIB(8)) {
		int n = LZ4_compress_default((const char *)plain + off, (char *)to + pos + 4,
			(int)MIN(MIB(8), SIZE - off), (int)(cap - pos - 4));

		assert_true(n > 0);
		put_le32(to + pos, (uint32_t)n);
		pos += 4 + (size_t)n;
	}
	return pos;
}

static int packed_file(size_t (*pack)(uint8_t *to, size_t cap), uint64_t *len)
{
	int fd = memfd_create("packed", MFD_CLOEXEC);
	uint8_t *to = malloc(SIZE);

	assert_non_null(to);
	*len = pack(to, SIZE);
	assert_int_equal(pwrite(fd, to, *len, OFF), *len);
	free(to);
	return fd;
}

static int setup(void **state)
{
	plain = malloc(SIZE);
	assert_non_null(plain);
	for (size_t i = 0; i < SIZE; i++)
		plain[i] = (uint8_t)((i >> 4) * 2654435761u >> 24);
	return 0;
}

static int teardown(void **state)
{
	free(plain);
	return 0;
}

static void check_one(struct unpack_helper *h, size_t (*pack)(uint8_t *to, size_t cap))
{
	const struct unpacker *u = &h->unpacker;
	uint8_t *got = malloc(SIZE);
	uint64_t len;
	int fd CLEANUP_FD = packed_file(pack, &len);

	assert_non_null(got);
	if (u->begin(u->arg, fd, OFF, len, SIZE) != (int64_t)SIZE)
		fail_msg("%s", last_error());
	assert_int_equal(u->read(u->arg, 0, got, 100), 0);
	assert_int_equal(u->read(u->arg, 100, got + 100, SIZE - 100), 0);
	assert_memory_equal(got, plain, SIZE);
	assert_int_equal(u->read(u->arg, SIZE - 1, got, 2), -EPROTO);
	u->end(u->arg);
	assert_int_equal(lseek(h->memory, 0, SEEK_END), 0);
	free(got);
}

static void test_unpacks(void **state)
{
	struct unpack_helper h;

	unpack_helper_init(&h, mode(), open_program);
	opened = 0;
	check_one(&h, pack_lz4);
	check_one(&h, pack_gzip);
	unpack_helper_seal(&h);
	check_one(&h, pack_lz4); /* who is there already stays */
	assert_int_equal(opened, 1);
	unpack_helper_finish(&h);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
}

static void test_refuses(void **state)
{
	struct unpack_helper h;
	const struct unpacker *u = &h.unpacker;
	uint64_t len;
	int fd CLEANUP_FD = packed_file(pack_gzip, &len);

	unpack_helper_init(&h, mode(), open_program);
	assert_int_equal(u->begin(u->arg, fd, OFF, len, SIZE - 1), -ENOSPC);
	assert_string_equal(last_error(), "it unpacks to more than 20971519 bytes");
	assert_int_equal(u->begin(u->arg, fd, OFF, len - 1000, SIZE), -EINVAL);
	assert_non_null(strstr(last_error(), "broken gzip data after"));
	assert_int_equal(u->begin(u->arg, fd, OFF + 1, len, SIZE), -ENOTSUP);
	assert_non_null(strstr(last_error(), "packed in a way not known here"));
	assert_int_equal(lseek(h.memory, 0, SEEK_END), 0);
	check_one(&h, pack_gzip);
	unpack_helper_finish(&h);
}

static void test_dies(void **state)
{
	struct unpack_helper h;
	const struct unpacker *u = &h.unpacker;
	uint64_t len;
	int fd CLEANUP_FD = packed_file(pack_gzip, &len);

	unpack_helper_init(&h, mode(), open_program);
	check_one(&h, pack_gzip);
	kill(h.process.pid, SIGKILL);
	assert_int_equal(waitid(P_PID, (id_t)h.process.pid, &(siginfo_t){0}, WEXITED | WNOWAIT), 0);
	assert_int_equal(u->begin(u->arg, fd, OFF, len, SIZE), -EPIPE);
	assert_string_equal(last_error(), "kvick-unpack ended before it had answered");
	unpack_helper_finish(&h);
}

static void test_is_not_there(void **state)
{
	struct unpack_helper h;
	const struct unpacker *u = &h.unpacker;

	unpack_helper_init(&h, mode(), open_nothing);
	assert_int_equal(u->begin(u->arg, 0, 0, 1, 1), -ENOTSUP);
	assert_string_equal(last_error(), "kvick-unpack: not found");
	unpack_helper_finish(&h);
	unpack_helper_init(&h, mode(), open_program);
	opened = 0;
	unpack_helper_seal(&h);
	assert_int_equal(u->begin(u->arg, 0, 0, 1, 1), -ENOTSUP);
	assert_int_equal(opened, 0);
	unpack_helper_finish(&h);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unpacks),
		cmocka_unit_test(test_refuses),
		cmocka_unit_test(test_dies),
		cmocka_unit_test(test_is_not_there),
	};

	program = argv[argc - 1];
	return cmocka_run_group_tests(tests, setup, teardown);
}
