// SPDX-License-Identifier: MIT
// Modules: found where they may be, resolved in order, unpacked, and named when they are missing or
// another's.
#include "tests/unit/test.h"

#include "base/log.h"
#include "base/util.h"
#include "loader/modules.h"
#include "tests/unit/unpack_here.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define VERSION "9.8.7-test"

static char top[64];

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

/* Beside boot/vmlinuz, lib/modules/VERSION: c needs b and a, b needs a; d is packed; x is for
 * another kernel. */
static int setup(void **state)
{
	strcpy(top, "/tmp/kvick-modules-XXXXXX");
	assert_non_null(mkdtemp(top));
	shell("cd %s && mkdir -p boot lib/modules/" VERSION "/kernel/net && : > boot/vmlinuz && "
	      "ln -s boot/vmlinuz vmlinuz && cd lib/modules/" VERSION " && "
	      "for m in a b-x c d e; do printf 'bytes of %%s\\0vermagic=" VERSION " SMP\\0' $m "
	      "> kernel/net/$m.ko; done && xz kernel/net/d.ko && gzip kernel/net/e.ko && "
	      "printf 'old\\0vermagic=9.8.6 SMP\\0' > kernel/x.ko && "
	      "head -c 100000 /dev/zero > kernel/z.ko && zstd -q --rm kernel/z.ko && "
	      "{ echo kernel/net/a.ko:; echo kernel/net/b-x.ko: kernel/net/a.ko;"
	      "  echo kernel/net/c.ko: kernel/net/b-x.ko kernel/net/a.ko; echo kernel/net/d.ko.xz:;"
	      "  echo kernel/net/e.ko.gz: kernel/net/c.ko kernel/net/b-x.ko kernel/net/a.ko;"
	      "  echo kernel/x.ko:; echo kernel/z.ko.zst:; echo kernel/l1.ko: kernel/l2.ko;"
	      "  echo kernel/l2.ko: kernel/l1.ko; echo kernel/gone.ko:;"
	      "  echo kernel/broken.ko: kernel/absent.ko; } > modules.dep && "
	      "echo kernel/drivers/built-in_one.ko > modules.builtin",
		top);
	return 0;
}

static int teardown(void **state)
{
	shell("rm -rf %s", top);
	return 0;
}

static const char *at(const char *sub)
{
	static char path[2][128];
	static unsigned turn;

	turn ^= 1;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", top, sub);
	return path[turn];
}

/* With the names in `want`, which ends at NULL. */
static int resolve(struct modules **m, const char *dir, const char *kernel, const char *const *want)
{
	struct module_want w[8] = {0};
	struct modules_config cfg = {.dir = dir,
		.kernel_path = kernel,
		.version = VERSION,
		.want = w,
		.unpacker = unpacker_here()};

	while (want[cfg.nwant]) {
		w[cfg.nwant].optional = want[cfg.nwant][0] == '?';
		w[cfg.nwant].name = want[cfg.nwant] + w[cfg.nwant].optional;
		cfg.nwant++;
	}
	return modules_resolve(m, &cfg);
}

#define WANT(...) ((const char *const[]){__VA_ARGS__, NULL})

static void check_files(const struct modules *m, const char *files)
{
	char list[256] = "";

	for (size_t i = 0; i < modules_count(m); i++) {
		strcat(list, modules_file(m, i));
		strcat(list, " ");
	}
	assert_string_equal(list, files);
}

static void test_order(void **state)
{
	struct modules *m;

	assert_int_equal(resolve(&m, NULL, at("boot/vmlinuz"),
				 WANT("e", "built_in-one", "b_x", "d", "?none")),
		0);
	check_files(m, "a.ko b-x.ko c.ko e.ko d.ko ");
	modules_destroy(m);
	assert_int_equal(resolve(&m, NULL, at("vmlinuz"), WANT("b-x")), 0);
	check_files(m, "a.ko b-x.ko ");
	modules_destroy(m);
}

static void check_bytes(struct modules *m, size_t i, const char *begin, size_t want)
{
	const void *data;
	size_t size;

	if (modules_read(m, i, &data, &size))
		fail_msg("%s", last_error());
	assert_int_equal(size, want);
	assert_memory_equal(data, begin, strlen(begin));
}

static void test_read(void **state)
{
	struct modules *m;
	const size_t tail = sizeof("vermagic=" VERSION " SMP") + sizeof("bytes of ");

	assert_int_equal(resolve(&m, at("lib/modules/" VERSION), NULL, WANT("d", "e", "z")), 0);
	check_files(m, "d.ko a.ko b-x.ko c.ko e.ko z.ko ");
	check_bytes(m, 0, "bytes of d", tail + 1);
	check_bytes(m, 2, "bytes of b-x", tail + 3);
	check_bytes(m, 4, "bytes of e", tail + 1);
	check_bytes(m, 5, "", 100000);
	check_bytes(m, 0, "bytes of d", tail + 1);
	modules_destroy(m);
}

static void test_named_directory(void **state)
{
	static const char *const sub[] = {"", "lib/modules", ("lib/modules/" VERSION)};
	struct modules *m;

	for (size_t i = 0; i < ARRAY_SIZE(sub); i++) {
		assert_int_equal(resolve(&m, at(sub[i]), NULL, WANT("a")), 0);
		check_files(m, "a.ko ");
		assert_non_null(strstr(modules_dir(m), "lib/modules/" VERSION));
		modules_destroy(m);
	}
	assert_int_equal(resolve(&m, at("boot"), NULL, WANT("a")), -ENOENT);
	assert_non_null(strstr(
		last_error(), "boot: it has neither a modules.dep nor a directory " VERSION));
	assert_int_equal(resolve(&m, at("nowhere"), NULL, WANT("a")), -ENOENT);
}

static void test_no_modules_at_all(void **state)
{
	struct modules *m;

	assert_int_equal(resolve(&m, NULL, at("lib/vmlinux"), WANT("a")), 0);
	assert_null(modules_dir(m));
	assert_int_equal(modules_count(m), 0);
	modules_destroy(m);
	assert_int_equal(resolve(&m, NULL, NULL, WANT("a")), 0);
	modules_destroy(m);
}

#define CHAIN 31 /* modules, each of which needs all before it, and says so */

/* As depmod writes it; read as it comes, it would take 2^30 steps. */
static void test_each_names_all(void **state)
{
	struct modules *m;

	shell("cd %s && for n in $(seq %d); do echo kernel/m$n.ko:"
	      "$(for k in $(seq $((n - 1)) -1 1); do printf ' kernel/m%%d.ko' $k; done); done "
	      "> modules.dep",
		at("lib/modules/" VERSION), CHAIN);
	assert_int_equal(resolve(&m, NULL, at("vmlinuz"), WANT("m31")), 0);
	assert_int_equal(modules_count(m), CHAIN);
	assert_string_equal(modules_file(m, 0), "m1.ko");
	assert_string_equal(modules_file(m, CHAIN - 1), "m31.ko");
	modules_destroy(m);
}

static void test_missing(void **state)
{
	struct modules *m;

	assert_int_equal(resolve(&m, NULL, at("vmlinuz"), WANT("a", "virtio_mmio")), -ENOENT);
	assert_non_null(
		strstr(last_error(), "kernel " VERSION " needs module virtio_mmio, which is "
				     "neither built in nor in /"));
	assert_int_equal(resolve(&m, NULL, at("vmlinuz"), WANT("l1")), -ELOOP);
	assert_int_equal(resolve(&m, NULL, at("vmlinuz"), WANT("broken")), -ENOENT);
	assert_non_null(strstr(last_error(), "no line for kernel/absent.ko"));
	shell("mv %s/modules.builtin %s/off", at("lib/modules/" VERSION), top);
	assert_int_equal(resolve(&m, NULL, at("vmlinuz"), WANT("a")), 0);
	modules_destroy(m);
	assert_int_equal(resolve(&m, NULL, at("vmlinuz"), WANT("built-in-one")), -ENOENT);
	shell("rm %s/modules.dep", at("lib/modules/" VERSION));
	assert_int_equal(resolve(&m, NULL, at("vmlinuz"), WANT("a")), -ENOENT);
	assert_non_null(strstr(last_error(), "has no modules.dep; depmod makes it"));
}

static void test_of_another_kernel(void **state)
{
	struct modules *m;
	const void *data;
	size_t size;

	assert_int_equal(resolve(&m, NULL, at("vmlinuz"), WANT("x", "gone")), 0);
	assert_int_equal(modules_read(m, 0, &data, &size), -EINVAL);
	assert_non_null(strstr(
		last_error(), "kernel/x.ko: it was built for kernel 9.8.6, not for " VERSION));
	assert_int_equal(modules_read(m, 1, &data, &size), -ENOENT);
	assert_non_null(strstr(last_error(), "kernel/gone.ko: opening it"));
	modules_destroy(m);
	assert_int_equal(resolve(&m, at("lib/modules"), NULL, WANT("x")), -EINVAL);
}

/* Lists that no depmod would write. */
static void test_odd_lists(void **state)
{
	static const char *const dep[] = {"", "\\n\\n", ":", "::::", "a.ko",
		"a.ko:", "a.ko: ", "a.ko:  a.ko", "a.ko: b", "b:\\na.ko: b", ".ko:", "/a.ko: /",
		"kernel/a.ko : x", "a.ko:\\0b"};
	struct modules *m;

	for (size_t i = 0; i < ARRAY_SIZE(dep); i++) {
		shell("printf '%s' > %s/modules.dep", dep[i], at("lib/modules/" VERSION));
		if (resolve(&m, NULL, at("vmlinuz"), WANT("a")) == 0)
			modules_destroy(m);
		else
			assert_true(strlen(last_error()) > 10);
	}
}

int main(void)
{
#define WITH_FILES(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		WITH_FILES(test_order),
		WITH_FILES(test_read),
		WITH_FILES(test_named_directory),
		WITH_FILES(test_no_modules_at_all),
		WITH_FILES(test_each_names_all),
		WITH_FILES(test_missing),
		WITH_FILES(test_of_another_kernel),
		WITH_FILES(test_odd_lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
