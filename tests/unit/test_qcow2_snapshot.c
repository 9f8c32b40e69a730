// SPDX-License-Identifier: MIT
// Internal snapshots: QEMU lists and reads ours, we list and apply QEMU's, and after each change
// QEMU finds nothing wrong with the image.
#include "tests/unit/image_engine.h"

#include "base/util.h"
#include "blk/qcow2_check.h"
#include "blk/qcow2_format.h"
#include "blk/qcow2_snapshot.h"

#include <errno.h>
#include <string.h>

/* ---- one change each, on file "a" ---- */

static int create(const char *name)
{
	struct blk *file = image_file(engine, "a", true, 0);
	int rc = qcow2_snapshot_create(file, name, 1700000000, 123456789);

	blk_destroy(file);
	return rc;
}

static int apply(const char *which)
{
	struct blk *file = image_file(engine, "a", true, 0);
	int rc = qcow2_snapshot_apply(file, which);

	blk_destroy(file);
	return rc;
}

static int drop(const char *which)
{
	struct blk *file = image_file(engine, "a", true, 0);
	int rc = qcow2_snapshot_delete(file, which);

	blk_destroy(file);
	return rc;
}

static void list(struct qcow2_snapshots *out)
{
	struct blk *file = image_file(engine, "a", true, 0);

	if (qcow2_snapshot_list(out, file))
		fail_msg("%s", last_error());
	blk_destroy(file);
}

static void done(int rc)
{
	if (rc)
		fail_msg("%d: %s", rc, last_error());
	run_ok("qemu-img check a");
}

static const char *const options[] = {
	"cluster_size=512",
	"cluster_size=4k,compat=0.10",
	"cluster_size=64k",
	"cluster_size=2M",
	"cluster_size=512,refcount_bits=2",
	"cluster_size=512,refcount_bits=64",
	"cluster_size=1k,refcount_bits=4",
	"cluster_size=16k,extended_l2=on",
};

static void make(const char *with)
{
	run_ok("rm -f a && qemu-img create -q -f qcow2 -o %s a 8M && "
	       "qemu-io -c 'write -P 1 0 300k' -c 'write -P 1 3M 100k' a",
		with);
}

/* Of what is written between the snapshots each has its own. */
static void test_all(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(options); i++) {
		make(options[i]);
		done(create("one"));
		run_ok("qemu-io -c 'write -P 2 100k 2900k' a && qemu-img check a");
		done(create("two"));
		run_ok("qemu-io -c 'write -P 3 0 8M' a && qemu-img check a");
		run_ok("qemu-img convert -l snapshot.name=one a b && "
		       "qemu-io -f raw -c 'read -P 1 0 300k' -c 'read -P 0 300k 2772k' "
		       "-c 'read -P 1 3M 100k' b");
		done(apply("one"));
		run_ok("qemu-img compare a b && qemu-img convert -l snapshot.name=two a b && "
		       "qemu-io -f raw -c 'read -P 2 100k 2900k' b");
		done(apply("2"));
		run_ok("qemu-img compare a b && qemu-io -c 'write -P 4 1M 64k' a && "
		       "qemu-img check a");
		done(drop("one"));
		run_ok("qemu-img convert -l snapshot.name=two a c && qemu-img compare b c");
		done(drop("two"));
		run_ok("qemu-io -c 'read -P 4 1M 64k' -c 'read -P 2 100k 900k' a && "
		       "test -z \"$(qemu-img snapshot -l a)\"");
	}
}

/* Of what a test that fails would leave the rest of the list. */
static void expect(unsigned count, const char *const *names, const char *const *ids)
{
	struct qcow2_snapshots s;

	list(&s);
	assert_int_equal(s.count, count);
	for (unsigned i = 0; i < count; i++) {
		assert_string_equal(s.list[i].name, names[i]);
		assert_string_equal(s.list[i].id, ids[i]);
		assert_int_equal(s.list[i].disk_size, MIB(8));
		run_ok("qemu-img snapshot -l a | grep -E '^%s +%s +'", ids[i], names[i]);
	}
	qcow2_snapshot_finish(&s);
}

static void test_list(void **state)
{
	struct qcow2_snapshots s;

	make("cluster_size=64k");
	expect(0, NULL, NULL);
	run_ok("qemu-img snapshot -c theirs a");
	done(create("ours"));
	run_ok("qemu-img snapshot -c more a");
	expect(3, (const char *const[]){"theirs", "ours", "more"},
		(const char *const[]){"1", "2", "3"});
	done(drop("1"));
	done(create("last"));
	expect(3, (const char *const[]){"ours", "more", "last"},
		(const char *const[]){"2", "3", "4"});
	list(&s);
	assert_int_equal(s.list[0].date_s, 1700000000);
	assert_int_equal(s.list[0].date_ns, 123456789);
	assert_int_equal(s.list[0].vm_state_size, 0);
	qcow2_snapshot_finish(&s);
	run_ok("qemu-img snapshot -a ours a && qemu-img snapshot -d more a && qemu-img check a");
}

/* Its size goes with the snapshot. */
static void test_size(void **state)
{
	make("cluster_size=512");
	done(create("small"));
	run_ok("qemu-img resize a 1G && qemu-io -c 'write -P 9 1000M 1M' a");
	done(create("large"));
	done(apply("small"));
	run_ok("qemu-img info a | grep -q 'virtual size: 8 MiB'");
	done(apply("large"));
	run_ok("qemu-img info a | grep -q 'virtual size: 1 GiB' && "
	       "qemu-io -c 'read -P 9 1000M 1M' -c 'read -P 1 0 300k' a");
}

/* What QEMU knows of what was written since is of another disk then. */
static void test_bitmaps(void **state)
{
	make("cluster_size=64k");
	run_ok("qemu-img bitmap --add a bits && qemu-io -c 'write 1M 64k' a");
	done(create("one"));
	run_ok("qemu-img info a | grep -q 'name: bits'");
	done(apply("one"));
	run_ok("qemu-img info a >b && ! grep -q 'name: bits' b");
	run_ok("qemu-img bitmap --add a bits && qemu-img check a");
}

/* Refcounts need blocks that are not there, and then a table that has more entries. */
static void test_growth(void **state)
{
	char name[16];

	make("cluster_size=512,refcount_bits=64");
	for (unsigned i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "n%u", i);
		assert_int_equal(create(name), 0);
		if (i % 20 == 0)
			run_ok("qemu-io -c 'write %uk 500k' a && qemu-img check a", 100 * i);
	}
	done(0);
	for (unsigned i = 0; i < 60; i += 2) {
		snprintf(name, sizeof(name), "n%u", i);
		assert_int_equal(drop(name), 0);
	}
	done(0);
}

static void refused(int rc, int wanted, const char *says)
{
	if (rc != wanted || !strstr(last_error(), says))
		fail_msg("%d, %s", rc, last_error());
	run_ok("qemu-img check a");
}

static void test_refused(void **state)
{
	char name[300];
	int fd;

	memset(name, 'n', sizeof(name));
	name[256] = '\0';
	make("cluster_size=64k");
	done(create("one"));
	refused(create("one"), -EEXIST, "\"one\"");
	refused(create("1"), -EEXIST, "\"1\"");
	refused(create(""), -EINVAL, "name");
	refused(create(name), -EINVAL, "name");
	done(create(name + 1));
	refused(apply("two"), -ENOENT, "\"two\"");
	refused(drop("7"), -ENOENT, "\"7\"");
	make("cluster_size=64k,refcount_bits=1");
	refused(create("one"), -EMLINK, "refcounts of 1 bits");
	make("cluster_size=64k,refcount_bits=2");
	done(create("one"));
	done(create("two"));
	refused(create("three"), -EMLINK, "refcounts of 2 bits");
	/* A refcount of a cluster in use is 0. */
	fd = open("a", O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "", 1, 0x20000), 1);
	close(fd);
	assert_int_equal(create("three"), -EIO);
	assert_non_null(strstr(last_error(), "corrupt"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_list, setup, teardown),
		cmocka_unit_test_setup_teardown(test_size, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bitmaps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_growth, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_all, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
