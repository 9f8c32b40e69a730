// SPDX-License-Identifier: MIT
// Trees packed as initramfs: what cpio(1) takes out is what went in; changes on the way are
// survived.
#include "tests/unit/test.h"

#include "base/fd.h"
#include "base/log.h"
#include "loader/cpio.h"
#include "loader/initramfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

struct work {
	char dir[64];
	char in[80], out[80], archive[80];
	int tree;
};

static void shell(const char *fmt, ...) printf_like(1, 2);

static void shell(const char *fmt, ...)
{
	char *command;
	va_list ap;

	va_start(ap, fmt);
	assert_true(vasprintf(&command, fmt, ap) > 0);
	va_end(ap);
	if (system(command) != 0)
		fail_msg("failed: %s", command);
	free(command);
}

static int setup(void **state)
{
	struct work *w = calloc(1, sizeof(*w));

	strcpy(w->dir, "/tmp/kvick-cpio-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->in, sizeof(w->in), "%s/in", w->dir);
	snprintf(w->out, sizeof(w->out), "%s/out", w->dir);
	snprintf(w->archive, sizeof(w->archive), "%s/a.cpio", w->dir);
	shell("mkdir %s %s", w->in, w->out);
	w->tree = open(w->in, O_RDONLY | O_DIRECTORY);
	assert_true(w->tree >= 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct work *w = *state;

	close(w->tree);
	shell("chmod -R u+rwx %s; rm -rf %s", w->dir, w->dir);
	free(w);
	return 0;
}

static uint8_t *filled(const struct loader_initrd *rd)
{
	static uint8_t garbage; /* another each time, so that what is not written differs */
	uint8_t *p = malloc(rd->size);

	assert_non_null(p);
	memset(p, ++garbage, rd->size);
	if (rd->fill(rd->arg, p, rd->size))
		fail_msg("%s", last_error());
	return p;
}

static void extract(const struct work *w, const struct loader_initrd *rd)
{
	uint8_t *p = filled(rd);
	int fd = open(w->archive, O_CREAT | O_TRUNC | O_WRONLY, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, p, rd->size), 0);
	close(fd);
	free(p);
	shell("cd %s && cpio --quiet -idmu --no-absolute-filenames < %s", w->out, w->archive);
}

static struct initramfs *packed(const struct work *w, struct loader_initrd *rd)
{
	struct initramfs *a;

	assert_int_equal(initramfs_create(&a), 0);
	if (initramfs_add_tree(a, w->tree, "tree"))
		fail_msg("%s", last_error());
	assert_int_equal(initramfs_finish(a, rd), 0);
	return a;
}

/* Types, modes, owners, times, devices, links, sizes and contents. */
static void assert_same(const struct work *w)
{
	shell("cd %s && find . -mindepth 1 -printf '%%P %%y %%m %%U %%G %%s %%l %%n ' "
	      "\\( -type d -o -type l -o -printf '%%Ts' \\) -printf '\\n' | "
	      "sed 's/ d \\([^ ]* [^ ]* [^ ]*\\) .*/ d \\1/' | sort > %s/want && cd %s && "
	      "find . -mindepth 1 -printf '%%P %%y %%m %%U %%G %%s %%l %%n ' "
	      "\\( -type d -o -type l -o -printf '%%Ts' \\) -printf '\\n' | "
	      "sed 's/ d \\([^ ]* [^ ]* [^ ]*\\) .*/ d \\1/' | sort > %s/got && "
	      "diff %s/want %s/got && diff -r --no-dereference %s %s",
		w->in, w->dir, w->out, w->dir, w->dir, w->dir, w->in, w->out);
}

static void test_same_as_cpio(void **state)
{
	struct work *w = *state;
	struct loader_initrd rd;
	struct initramfs *a;

	shell("cd %s && mkdir -p a/b/c bin lib && echo hello > a/b/one && : > a/empty && "
	      "head -c 100001 /dev/urandom > bin/big && chmod 4755 bin/big && "
	      "ln -s ../bin/big lib/link && ln -s /nowhere/at/all lib/dangling && "
	      "for i in 1 2 3 4 5; do head -c $i /dev/zero > a/pad$i; done && "
	      "touch -d @1234567890 a/pad1 && chmod 1777 lib && chmod 0 a/pad2 && "
	      "ln a/b/one a/b/two && ln a/b/one lib/three && : > e1 && ln e1 e2",
		w->in);
	if (geteuid() == 0)
		shell("cd %s && mknod a/null c 1 3 && mknod a/disk b 259 70000 && mkfifo a/fifo && "
		      "chown 1000:4294967294 a/pad3",
			w->in);
	a = packed(w, &rd);
	extract(w, &rd);
	if (geteuid() == 0)
		shell("test -p %s/a/fifo && test $(stat -c %%t,%%T %s/a/disk) = 103,11170 && "
		      "rm %s/a/fifo %s/a/null %s/a/disk %s/a/fifo %s/a/null %s/a/disk",
			w->out, w->out, w->out, w->out, w->out, w->in, w->in, w->in);
	assert_same(w);
	initramfs_destroy(a);
}

static void test_many_links(void **state)
{
	struct work *w = *state;
	struct loader_initrd rd;
	struct initramfs *a;

	shell("cd %s && for i in $(seq 700); do echo $i > f$i; ln f$i g$i; done && "
	      "head -c 1000000 /dev/zero > big && ln big big2 && ln big big3",
		w->in);
	a = packed(w, &rd);
	assert_int_equal(initramfs_entries(a), 1403);
	assert_in_range(rd.size, 1000000, 1999999); /* the data is there once */
	extract(w, &rd);
	assert_same(w);
	initramfs_destroy(a);
}

/* The same bytes each time, in whatever order the directory gives its names. */
static void test_deterministic(void **state)
{
	struct work *w = *state;
	struct loader_initrd one, two;
	struct initramfs *a, *b;
	uint8_t *p, *q;

	shell("cd %s && for i in $(seq 300 | shuf); do echo $i > $i; done && touch -d @1 *", w->in);
	a = packed(w, &one);
	p = filled(&one);
	initramfs_destroy(a);
	shell("cd %s && rm * && for i in $(seq 300 | shuf); do echo $i > $i; done && touch -d @1 *",
		w->in);
	b = packed(w, &two);
	q = filled(&two);
	assert_int_equal(one.size, two.size);
	assert_memory_equal(p, q, one.size);
	free(p);
	free(q);
	initramfs_destroy(b);
}

static void make_socket(const struct work *w)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s/sock", w->in);
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	close(fd);
}

static void test_left_out(void **state)
{
	struct work *w = *state;
	struct loader_initrd rd;
	struct initramfs *a;

	make_socket(w);
	shell("cd %s && mkdir -p proc sys sub/proc && echo 1 > proc/x && echo 1 > sys/y && "
	      "echo 1 > sub/proc/z",
		w->in);
	a = packed(w, &rd);
	assert_int_equal(initramfs_entries(a), 5); /* proc, sys, sub, sub/proc, sub/proc/z */
	extract(w, &rd);
	shell("cd %s && test -d proc && test -d sys && ! test -e proc/x && ! test -e sys/y && "
	      "test -f sub/proc/z && ! test -e sock",
		w->out);
	initramfs_destroy(a);
}

static void test_extras(void **state)
{
	struct work *w = *state;
	struct loader_initrd rd;
	struct initramfs *a;
	int fd;

	shell("cd %s && echo old > replaced && echo from-fd > %s/src", w->in, w->dir);
	fd = openat(w->tree, "../src", O_RDONLY);
	assert_int_equal(initramfs_create(&a), 0);
	assert_int_equal(initramfs_add_tree(a, w->tree, "tree"), 0);
	assert_int_equal(initramfs_add_tree(a, w->tree, "tree"), -EEXIST);
	assert_int_equal(initramfs_add_dir(a, ".kvick", 0755), 0);
	assert_int_equal(initramfs_add_data(a, ".kvick/data", 0640, "12345", 5), 0);
	assert_int_equal(initramfs_add_fd(a, ".kvick/init", 0755, fd), 0);
	assert_int_equal(initramfs_add_data(a, "replaced", 0644, "new\n", 4), 0);
	assert_int_equal(initramfs_add_data(a, "/absolute", 0644, "", 0), -EINVAL);
	assert_int_equal(initramfs_add_data(a, "huge", 0644, "", GIB(4)), -EFBIG);
	if (geteuid() == 0)
		assert_int_equal(
			initramfs_add_node(a, ".kvick/console", S_IFCHR | 0600, makedev(5, 1)), 0);
	assert_int_equal(initramfs_finish(a, &rd), 0);
	extract(w, &rd);
	shell("cd %s/.kvick && test $(cat data) = 12345 && test $(stat -c %%a data) = 640 && "
	      "test $(cat init) = from-fd && test -x init && test $(cat ../replaced) = new",
		w->out);
	if (geteuid() == 0)
		shell("test $(stat -c %%t,%%T,%%a %s/.kvick/console) = 5,1,600", w->out);
	close(fd);
	initramfs_destroy(a);
}

/* Sizes are those of the first look: what has grown is cut, what has shrunk is padded. */
static void test_changes_underway(void **state)
{
	struct work *w = *state;
	struct loader_initrd rd;
	struct initramfs *a;
	uint8_t *p;

	shell("cd %s && echo 1234567 > grows && echo 1234567 > shrinks && echo z > zz", w->in);
	a = packed(w, &rd);
	shell("cd %s && echo more >> grows && echo 12 > shrinks", w->in);
	extract(w, &rd);
	shell("cd %s && test \"$(cat grows)\" = 1234567 && test $(stat -c %%s shrinks) = 8 && "
	      "test \"$(head -c 2 shrinks)\" = 12 && test $(cat zz) = z",
		w->out);

	p = malloc(rd.size);
	shell("rm %s/shrinks && ln -s /etc/passwd %s/shrinks", w->in, w->in);
	assert_int_equal(rd.fill(rd.arg, p, rd.size), -ELOOP);
	assert_non_null(strstr(last_error(), "opening shrinks: "));
	shell("rm %s/shrinks", w->in);
	assert_int_equal(rd.fill(rd.arg, p, rd.size), -ENOENT);
	shell("mkfifo %s/shrinks", w->in);
	assert_int_equal(rd.fill(rd.arg, p, rd.size), -ESPIPE);
	assert_int_equal(rd.fill(rd.arg, p, rd.size - 4), -EINVAL);
	free(p);
	initramfs_destroy(a);
}

/* A directory that has become a link out of the tree. */
static void test_never_leaves_the_tree(void **state)
{
	struct work *w = *state;
	struct loader_initrd rd;
	struct initramfs *a;
	uint8_t *p;

	shell("cd %s && mkdir d ../outside && echo secret > ../outside/f && echo plain. > d/f",
		w->in);
	a = packed(w, &rd);
	shell("cd %s && rm -r d && ln -s ../outside d", w->in);
	p = malloc(rd.size);
	assert_true(rd.fill(rd.arg, p, rd.size) < 0);
	assert_non_null(strstr(last_error(), "opening d/f: "));
	free(p);
	initramfs_destroy(a);
}

static void test_refused(void **state)
{
	struct work *w = *state;
	struct initramfs *a;

	shell("truncate -s 4294967296 %s/huge", w->in);
	assert_int_equal(initramfs_create(&a), 0);
	assert_int_equal(initramfs_add_tree(a, w->tree, "/some/where"), -EFBIG);
	assert_non_null(strstr(last_error(), "/some/where: huge has 4294967296 bytes"));
	initramfs_destroy(a);
	if (geteuid() == 0)
		return; /* nothing is unreadable for root */
	shell("rm %s/huge && mkdir -m 0 %s/closed", w->in, w->in);
	assert_int_equal(initramfs_create(&a), 0);
	assert_int_equal(initramfs_add_tree(a, w->tree, "/some/where"), -EACCES);
	assert_non_null(strstr(last_error(), "/some/where: opening the directory closed"));
	initramfs_destroy(a);
}

static void test_deep(void **state)
{
	struct work *w = *state;
	struct loader_initrd rd;
	struct initramfs *a;

	shell("cd %s && p=d && for i in $(seq 150); do p=$p/directory$i; done && mkdir -p $p && "
	      "echo x > $p/file",
		w->in);
	a = packed(w, &rd);
	assert_int_equal(initramfs_entries(a), 152);
	extract(w, &rd);
	assert_same(w);
	initramfs_destroy(a);
}

static void test_header(void **state)
{
	char buf[128], want[] = "070701"
				"00000001000081A4000000020000000300000004"
				"499602D20000000500000000000000000000000600000007"
				"0000000400000000abc\0\0";
	struct cpio_entry e = {.name = "abc",
		.ino = 1,
		.mode = 0100644,
		.uid = 2,
		.gid = 3,
		.nlink = 4,
		.mtime = 1234567890,
		.size = 5,
		.rmajor = 6,
		.rminor = 7};

	assert_int_equal(cpio_header_size(3), 116);
	cpio_write_header(buf, &e);
	assert_memory_equal(buf, want, 116);
}

int main(void)
{
#define WITH_TREE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header),
		WITH_TREE(test_same_as_cpio),
		WITH_TREE(test_many_links),
		WITH_TREE(test_deterministic),
		WITH_TREE(test_left_out),
		WITH_TREE(test_extras),
		WITH_TREE(test_changes_underway),
		WITH_TREE(test_never_leaves_the_tree),
		WITH_TREE(test_refused),
		WITH_TREE(test_deep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
