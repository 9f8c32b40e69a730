// SPDX-License-Identifier: MIT
// Which files make a disk, by images of qemu-img: how names are found, what is refused and in which
// words, and the same files given to another process.
#include "tests/unit/image_file.h"

#include "base/util.h"
#include "blk/chain.h"
#include "blk/decompress_here.h"
#include "blk/memory.h"
#include "blk/now.h"
#include "blk/qcow2.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

struct fixture {
	struct loop *loop;
	struct blk_engine *engine;
	struct decompressor *decompressor;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(loop_create(&f->loop, "test"), 0);
	assert_int_equal(engine_create(&f->engine, f->loop, ENGINE_AUTO), 0);
	assert_int_equal(decompress_here_create(&f->decompressor), 0);
	*state = f;
	image_begin();
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	image_end();
	decompress_here_destroy(f->decompressor);
	engine_destroy(f->engine);
	loop_destroy(f->loop);
	free(f);
	return 0;
}

static struct chain_options reading(const char *path)
{
	return (struct chain_options){
		.path = path, .read_only = true, .trust = true, .how = "backing=on"};
}

static struct chain *open_ok(const struct chain_options *o)
{
	struct chain *c = NULL;

	if (chain_open(&c, o))
		fail_msg("%s", last_error());
	return c;
}

static void refused(const struct chain_options *o, int rc, const char *why)
{
	struct chain *c = NULL;

	assert_int_equal(chain_open(&c, o), rc);
	assert_null(c);
	if (!strstr(last_error(), why))
		fail_msg("\"%s\" is not in \"%s\"", why, last_error());
}

/* The image `name` names `backing`, whatever that is. */
static void make(const char *name, const char *backing, const char *format)
{
	run_ok("qemu-img create -q -u -f qcow2 -b '%s' -F %s '%s' 4M", backing, format, name);
}

/* And does not say what format that is of, which qemu-img does not do any more. */
static void make_silent(struct fixture *f, const char *name, const char *backing)
{
	const struct qcow2_create c = {.size = MIB(4), .backing = backing};
	struct blk *file = image_file(f->engine, name, true, O_CREAT | O_TRUNC);

	assert_int_equal(qcow2_create(file, &c), 0);
	blk_destroy(file);
}

static void make_three(void)
{
	run_ok("mkdir a a/b && truncate -s 4M a/base && qemu-img create -q -f qcow2 "
	       "-b ../base -F raw a/b/mid.qcow2 && qemu-img create -q -f qcow2 -b a/b/mid.qcow2 "
	       "-F qcow2 top.qcow2");
}

static void check_image(
	const struct chain *c, unsigned depth, const char *name, enum image_format format)
{
	enum image_format got;

	assert_string_equal(chain_image_at(c, depth, &got), name);
	assert_int_equal(got, format);
}

static void test_names(void **state)
{
	struct chain_options o = reading("top.qcow2");
	enum image_format none;
	struct chain *c;

	make_three();
	c = open_ok(&o);
	assert_int_equal(chain_format(c), IMAGE_QCOW2);
	check_image(c, 0, "top.qcow2", IMAGE_QCOW2);
	check_image(c, 1, "a/b/mid.qcow2", IMAGE_QCOW2);
	check_image(c, 2, "a/b/../base", IMAGE_RAW);
	assert_null(chain_image_at(c, 3, &none));
	chain_close(c);

	/* An absolute one as it is; a link's own folder, not that of what it leads to. */
	run_ok("qemu-img create -q -f qcow2 -b $PWD/a/base -F raw abs.qcow2");
	o.path = "abs.qcow2";
	chain_close(open_ok(&o));
	run_ok("ln -s ../top.qcow2 a/link.qcow2");
	o.path = "a/link.qcow2";
	refused(&o, -ENOENT, "disk a/a/b/mid.qcow2: No such file");
}

static void test_formats(void **state)
{
	struct chain_options o = reading("top.qcow2");
	struct chain *c;

	make_three();
	/* Found out where it is not said, and raw when it is said. */
	make_silent(*state, "silent.qcow2", "a/b/mid.qcow2");
	o.path = "silent.qcow2";
	c = open_ok(&o);
	check_image(c, 1, "a/b/mid.qcow2", IMAGE_QCOW2);
	chain_close(c);
	make("said.qcow2", "top.qcow2", "raw");
	o.path = "said.qcow2";
	c = open_ok(&o);
	check_image(c, 1, "top.qcow2", IMAGE_RAW);
	chain_close(c);
	o.path = "top.qcow2";
	o.format = IMAGE_RAW;
	c = open_ok(&o);
	assert_int_equal(chain_format(c), IMAGE_RAW);
	chain_close(c);
	o.path = "a/base";
	o.format = IMAGE_QCOW2;
	refused(&o, -EINVAL, "disk a/base: is no qcow2 image");
}

static void test_bad_formats(void **state)
{
	struct chain_options o = reading("top.qcow2");

	make("top.qcow2", "other", "vhdx");
	refused(&o, -ENOTSUP,
		"disk top.qcow2: says that its backing file is a vhdx image, which cannot be used");
	run_ok("qemu-img create -q -f vdi other 4M");
	make_silent(*state, "top.qcow2", "other");
	refused(&o, -ENOTSUP, "disk other: it is a vdi image");
}

static void test_bad_names(void **state)
{
	static const char *const names[] = {
		"nbd:localhost:10809", "file:base", "json:{\"driver\":\"file\"}", "a:b"};
	struct chain_options o = reading("top.qcow2");

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		make("top.qcow2", names[i], "raw");
		refused(&o, -ENOTSUP, names[i]);
		assert_non_null(strstr(last_error(), "only files and devices of this host"));
	}
	run_ok("qemu-img create -q -u -f qcow2 -b \"$(printf 'x\\033[2J')\" -F raw top.qcow2 4M");
	refused(&o, -EINVAL, "has control characters");
	assert_null(strchr(last_error(), '\033'));
	make("top.qcow2", "x\302\2332J", "raw");
	refused(&o, -EINVAL, "has control characters");
	make("top.qcow2", "none", "raw");
	refused(&o, -ENOENT, "disk none: No such file or directory");
	make("top.qcow2", "/", "raw");
	refused(&o, -EINVAL, "disk /: is a directory");
	make("top.qcow2", "./a:b", "raw");
	run_ok("truncate -s 4M a:b");
	chain_close(open_ok(&o));
}

static void test_loops(void **state)
{
	struct chain_options o = reading("a.qcow2");

	make("a.qcow2", "b.qcow2", "qcow2");
	make("b.qcow2", "c.qcow2", "qcow2");
	make("c.qcow2", "./a.qcow2", "qcow2");
	refused(&o, -ELOOP, "disk ./a.qcow2: is in the chain of a.qcow2 already, as a.qcow2");
	make("a.qcow2", "link", "qcow2");
	run_ok("ln -s a.qcow2 link");
	refused(&o, -ELOOP, "disk link: is in the chain of a.qcow2 already");
}

static void test_depth(void **state)
{
	struct chain_options o = reading("64");
	struct chain *c;

	run_ok("truncate -s 4M 1 && for i in $(seq 2 65); do qemu-img create -q -u -f qcow2 -b "
	       "$((i - 1)) -F $([ $i = 2 ] && echo raw || echo qcow2) $i 4M; done");
	c = open_ok(&o);
	check_image(c, 63, "1", IMAGE_RAW);
	chain_close(c);
	o.path = "65";
	refused(&o, -ELOOP, "disk 65: is a chain of more than 64 images");
}

/* What an image stands on instead. */
static int empty(struct blk **out)
{
	return memory_create(out, "empty", MIB(4));
}

static void test_trust(void **state)
{
	struct chain_options o = reading("top.qcow2");
	struct chain *c;

	make_three();
	o.trust = false;
	refused(&o, -EPERM,
		"disk top.qcow2: names other files of this host, which are used only with "
		"backing=on:\n"
		"  top.qcow2 (qcow2) is backed by a/b/mid.qcow2\n"
		"  a/b/mid.qcow2 (qcow2) is backed by a/b/../base\n"
		"  a/b/../base (raw)");
	/* What is no file is not opened to tell of it: to open this would wait. */
	run_ok("mkfifo a/fifo");
	make_silent(*state, "top.qcow2", "a/fifo");
	refused(&o, -EPERM, "is backed by a/fifo");
	assert_non_null(strstr(last_error(), "disk a/fifo: is not looked at"));
	make("top.qcow2", "none", "raw");
	refused(&o, -EPERM, "disk none: No such file");
	/* Nor is the file needed where only the image itself is looked at. */
	o.instead = empty;
	c = open_ok(&o);
	assert_int_equal(chain_format(c), IMAGE_QCOW2);
	chain_close(c);
	o.path = "a/base";
	o.instead = NULL;
	chain_close(open_ok(&o));
}

static void test_locks(void **state)
{
	struct chain_options o = reading("top.qcow2"), writing = reading("a/base");
	struct chain *c, *other;

	make_three();
	c = open_ok(&o);
	other = open_ok(&o);
	chain_close(other);
	writing.read_only = false;
	refused(&writing, -EBUSY, "disk a/base: is in use by");
	writing.no_lock = true;
	chain_close(open_ok(&writing));
	assert_int_equal(run_status("qemu-io -f raw -c 'write 0 512' a/base"), 1);
	chain_close(c);
	run_ok("qemu-io -f raw -c 'write 0 512' a/base");

	/* The image itself is for writing, what is below for reading. */
	writing = reading("top.qcow2");
	writing.read_only = false;
	c = open_ok(&writing);
	refused(&o, -EBUSY, "disk top.qcow2: is written to by");
	o.path = "a/b/mid.qcow2";
	chain_close(open_ok(&o));
	chain_close(c);
}

/* As another process has them: the caller's are closed. */
static unsigned pass(struct chain *c, int *fds)
{
	unsigned n = chain_fds(c, fds);

	for (unsigned i = 0; i < n; i++) {
		fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		assert_true(fds[i] >= 0);
	}
	chain_hand_over(c);
	return n;
}

static void test_take(void **state)
{
	struct fixture *f = *state;
	struct chain_options o = reading("top.qcow2"), writing = reading("a/base");
	int fds[CHAIN_FDS_MAX];
	struct chain *c;
	unsigned n;

	make_three();
	n = pass(open_ok(&o), fds);
	assert_int_equal(n, 6);
	/* Names are only said from here on. */
	run_ok("mv a z");
	assert_int_equal(chain_take(&c, &o, f->engine, fds, 2), -EINVAL);
	assert_non_null(strstr(last_error(), "disk a/b/../base: 2 descriptors have come"));
	assert_int_equal(chain_take(&c, &o, f->engine, fds, 5), -EINVAL);
	assert_non_null(strstr(last_error(), "5 descriptors have come with it; its 3 files"));
	for (unsigned i = 0; i < n; i++)
		assert_true(fcntl(fds[i], F_GETFD) >= 0);
	o.trust = false;
	assert_int_equal(chain_take(&c, &o, f->engine, fds, n), -EPERM);
	o.trust = true;
	assert_int_equal(chain_take(&c, &o, f->engine, fds, n), 0);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(fds[i], -1);
	check_image(c, 2, "a/b/../base", IMAGE_RAW);
	writing.path = "z/base";
	writing.read_only = false;
	refused(&writing, -EBUSY, "is in use by");
	chain_close(c);
	chain_close(open_ok(&writing));
}

static void test_take_unlocked(void **state)
{
	struct fixture *f = *state;
	struct chain_options o = reading("top.qcow2");
	int fds[CHAIN_FDS_MAX];
	struct chain *c;
	unsigned n;

	make_three();
	o.no_lock = true;
	n = pass(open_ok(&o), fds);
	assert_int_equal(n, 3);
	assert_int_equal(chain_take(&c, &o, f->engine, fds, n), 0);
	chain_close(c);
}

/* ---- disks ---- */

static struct blk *create_ok(struct fixture *f, const struct chain_options *o)
{
	struct blk *b = NULL;

	if (chain_create(&b, open_ok(o), f->engine, f->decompressor))
		fail_msg("%s", last_error());
	return b;
}

static void check_bytes(struct blk *b, uint64_t off, uint8_t want)
{
	_Alignas(4096) uint8_t buf[KIB(64)];

	assert_int_equal(blk_read_now(b, off, buf, sizeof(buf)), 0);
	for (unsigned i = 0; i < sizeof(buf); i++)
		assert_int_equal(buf[i], want);
}

static void test_disk(void **state)
{
	struct chain_options o = reading("top.qcow2");
	struct blk *b;

	make_three();
	run_ok("qemu-io -f raw -c 'write -P 1 0 1M' a/base && qemu-io -f qcow2 -c "
	       "'write -P 2 512k 64k' a/b/mid.qcow2 && qemu-io -f qcow2 -c 'write -P 3 2M 64k' "
	       "top.qcow2");
	b = create_ok(*state, &o);
	assert_int_equal(b->size, MIB(4));
	check_bytes(b, 0, 1);
	check_bytes(b, KIB(512), 2);
	check_bytes(b, MIB(2), 3);
	check_bytes(b, MIB(3), 0);
	blk_destroy(b);

	/* Without what is below. */
	o.instead = empty;
	b = create_ok(*state, &o);
	check_bytes(b, 0, 0);
	check_bytes(b, MIB(2), 3);
	blk_destroy(b);

	/* Only the uppermost is written to. */
	o.instead = NULL;
	o.read_only = false;
	b = create_ok(*state, &o);
	assert_int_equal(blk_clear_now(b, BLK_WRITE_ZEROES, 0, 0, KIB(64)), 0);
	assert_int_equal(blk_flush_now(b), 0);
	blk_destroy(b);
	b = create_ok(*state, &(struct chain_options){.path = "a/base", .format = IMAGE_RAW});
	check_bytes(b, 0, 1);
	blk_destroy(b);
	run_ok("qemu-img check -q top.qcow2 && qemu-io -r -f qcow2 -c 'read -P 0 0 64k' -c "
	       "'read -P 1 64k 64k' top.qcow2 && ! grep -q failed said");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_formats, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_formats, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_loops, setup, teardown),
		cmocka_unit_test_setup_teardown(test_depth, setup, teardown),
		cmocka_unit_test_setup_teardown(test_trust, setup, teardown),
		cmocka_unit_test_setup_teardown(test_locks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_take, setup, teardown),
		cmocka_unit_test_setup_teardown(test_take_unlocked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_disk, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
