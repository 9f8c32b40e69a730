// SPDX-License-Identifier: MIT
// The configuration of a machine: defaults, what is refused, the command, the file, the kernel's
// line.
#include "tests/unit/test.h"

#include "base/jail.h"
#include "base/log.h"
#include "base/util.h"
#include "hw/mem.h"
#include "vmm/cmdline.h"
#include "vmm/config.h"
#include "vmm/machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PARSE(c, command, ...) parse(c, command, (const char *[]){__VA_ARGS__, NULL})

static int parse(struct config *c, enum config_command command, const char *const *words)
{
	char *argv[32];
	int argc = 0, rc;

	for (; words[argc]; argc++)
		argv[argc] = (char *)(uintptr_t)words[argc];
	assert_int_equal(config_init(c, command), 0);
	rc = config_parse(c, argc, argv);
	return rc < 0 || c->help ? rc : config_check(c);
}

static void defaults(void **state)
{
	struct config c;

	assert_int_equal(PARSE(&c, CONFIG_BOOT, "--kernel", "k"), 0);
	assert_int_equal(c.cpus, 1);
	assert_int_equal(c.memory, MIB(256));
	assert_int_equal(c.memory_backing, MEM_PRIVATE);
	assert_int_equal(c.console_kind, CONSOLE_SERIAL);
	assert_int_equal(c.seccomp, JAIL_KILL);
	assert_int_equal(c.timeout_ns, 0);
	assert_int_equal(c.cid, 3);
	config_finish(&c);
	assert_int_equal(PARSE(&c, CONFIG_RUN, "true"), 0);
	assert_int_equal(c.memory, MIB(512));
	assert_false(c.memory_given);
	assert_int_equal(c.console_kind, CONSOLE_OFF);
	assert_int_equal(c.boot_timeout_ns, 60 * NSEC_PER_SEC);
	assert_string_equal(c.workdir, "/");
	config_finish(&c);
}

static void command(void **state)
{
	struct config c;

	assert_int_equal(PARSE(&c, CONFIG_RUN, "-m", "1G", "--", "sh", "-c", "--memory 5"), 0);
	assert_true(c.memory_given);
	assert_int_equal(c.command.count, 3);
	assert_string_equal(c.command.items[2], "--memory 5");
	config_finish(&c);
	assert_int_equal(PARSE(&c, CONFIG_RUN, "ls", "-l", "--cpus", "0"), 0);
	assert_int_equal(c.command.count, 4);
	config_finish(&c);
}

static void refused(void **state)
{
	static const struct {
		enum config_command command;
		const char *words[6];
		const char *message; /* how it begins */
	} cases[] = {
		{CONFIG_RUN, {NULL}, "no command"},
		{CONFIG_RUN, {"--"}, "no command"},
		{CONFIG_BOOT, {"extra"}, "unexpected argument \"extra\""},
		{CONFIG_BOOT, {"--memory", "0"}, "--memory 0: "},
		{CONFIG_BOOT, {"--memory", "1B"}, "--memory 1B: "},
		{CONFIG_BOOT, {"--cpus", "0"}, "--cpus 0: "},
		{CONFIG_BOOT, {"--cpus", "10000"}, "--cpus 10000: "},
		{CONFIG_BOOT, {"--console", "tape"}, "--console tape: "},
		{CONFIG_BOOT, {"--console", "file:"}, "--console file:: "},
		{CONFIG_BOOT, {"--name", "a/b"}, "--name a/b: "},
		{CONFIG_BOOT, {"--cid", "2"}, "--cid 2: "},
		{CONFIG_BOOT, {"--env", "A=b"}, "unknown option --env"},
		{CONFIG_RUN, {"--on-reboot", "exit"}, "unknown option --on-reboot"},
		{CONFIG_RUN, {"--env", "=b", "true"}, "--env =b: "},
		{CONFIG_RUN, {"--workdir", "tmp", "true"}, "--workdir tmp: "},
		{CONFIG_RUN, {"--config", "/nonexistent", "true"}, "--config /nonexistent: "},
		{CONFIG_RUN, {"--config", "/dev/null", "true"}, "--config /dev/null: "},
		{CONFIG_RUN, {"--disk", "path=x,root=1", "true"},
			"--disk: root: is a key of --rootfs"},
		{CONFIG_BOOT, {"-d", "path=x,root=1", "-d", "path=y,root=1"},
			"--disk: root: is given"},
		{CONFIG_BOOT, {"-d", "path=x,root=129"},
			"--disk: path=x,root=129: root 129: must be"},
		{CONFIG_BOOT, {"-d", "path=x,root=1,partition=1"},
			"--disk: path=x,root=1,partition=1: root and partition: "},
		{CONFIG_BOOT, {"--net", "tup"}, "--net: tup: a NIC of kind"},
		{CONFIG_BOOT, {"--net", "none", "--net", "tap"}, "--net: none: is to be"},
		{CONFIG_BOOT, {"--net", "tap", "--net", "none"}, "--net: none: is to be"},
		{CONFIG_BOOT, {"--net", "tap", "--net", "tap,id=net0"}, "--net: two NICs"},
		{CONFIG_BOOT, {"--net", "tap,addr=4", "--net", "tap,addr=4"},
			"--net: NIC net1: addr 4 is taken by NIC net0"},
		{CONFIG_BOOT, {"--transport", "mmio", "--net", "tap,addr=4"},
			"--net: NIC net0: addr needs"},
		{CONFIG_BOOT, {"-d", "path=x,addr=4", "--net", "tap,addr=4"},
			"--disk: disk x: addr 4 is taken by NIC net0"},
		{CONFIG_BOOT, {"-d", "path=x,id=net0", "--net", "tap"},
			"--disk: a disk and a NIC are called net0"},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct config c;

		assert_true(parse(&c, cases[i].command, cases[i].words) < 0);
		if (strncmp(last_error(), cases[i].message, strlen(cases[i].message)))
			assert_string_equal(last_error(), cases[i].message);
		config_finish(&c);
	}
}

static void more_than_the_host(void **state)
{
	assert_int_equal(config_check_memory(MIB(1)), 0);
	assert_int_equal(config_check_memory(UINT64_MAX), -ENOMEM);
	assert_non_null(
		strstr(last_error(), "--memory 18446744073709551615B: more than this host"));
}

static void environment(void **state)
{
	struct config c;

	setenv("KVICK_TEST_SET", "from here", 1);
	unsetenv("KVICK_TEST_UNSET");
	assert_int_equal(PARSE(&c, CONFIG_RUN, "-e", "A=1=2", "-e", "KVICK_TEST_SET", "-e",
				 "KVICK_TEST_UNSET", "-e", "B=", "true"),
		0);
	assert_int_equal(c.env.count, 3);
	assert_string_equal(c.env.items[0], "A=1=2");
	assert_string_equal(c.env.items[1], "KVICK_TEST_SET=from here");
	assert_string_equal(c.env.items[2], "B=");
	assert_null(c.env.items[3]);
	config_finish(&c);
}

/* What config_save writes, --config reads; the command line has the last word. */
static void file(void **state)
{
	char path[] = "/tmp/kvick-config-XXXXXX";
	int fd = mkstemp(path);
	FILE *out = fdopen(fd, "w");
	struct config c;

	assert_int_equal(PARSE(&c, CONFIG_RUN, "--cpus=3", "--memory=600", "-e", "A=1", "-n",
				 "--boot-timeout=0", "--", "sh", "-c", "exit 7"),
		0);
	config_save(&c, out);
	fclose(out);
	config_finish(&c);
	assert_int_equal(PARSE(&c, CONFIG_RUN, "--cpus", "2", "--config", path), 0);
	assert_int_equal(c.cpus, 2);
	assert_int_equal(c.memory, MIB(600));
	assert_true(c.no_stdin);
	assert_int_equal(c.boot_timeout_ns, 0);
	assert_int_equal(c.env.count, 1);
	assert_int_equal(c.command.count, 3);
	assert_string_equal(c.command.items[2], "exit 7");
	config_finish(&c);
	assert_int_equal(PARSE(&c, CONFIG_RUN, "--config", path, "--", "true"), 0);
	assert_int_equal(c.command.count, 1);
	config_finish(&c);
	unlink(path);
}

static void help(void **state)
{
	struct config c;

	assert_int_equal(PARSE(&c, CONFIG_RUN, "--help"), 0);
	assert_true(c.help);
	config_finish(&c);
}

static void kernel_line(void **state)
{
	struct cmdline_config run = {.init = true, .pci = true, .alone = true},
			      boot = {.serial = true, .append = "a b"};
	const struct cmdline_config on_disk = {.init = true, .root_device = "/dev/vda2"},
				    boot_disk = {.root_device = "/dev/vdb", .append = "ro"};
	char *line = cmdline_compose(&run);

	assert_non_null(strstr(line, "rdinit=/.kvick/init"));
	assert_null(strstr(line, "ttyS0"));
	assert_null(strstr(line, "pci=off"));
	assert_non_null(strstr(line, " pci=noearly "));
	assert_non_null(strstr(line, " noreplace-smp "));
	free(line);
	line = cmdline_compose(&boot);
	assert_memory_equal(line, "console=ttyS0 ", 14);
	assert_string_equal(line + strlen(line) - 4, " a b");
	assert_null(strstr(line, "rdinit"));
	assert_non_null(strstr(line, " pci=off "));
	assert_null(strstr(line, "noearly"));
	assert_null(strstr(line, "noreplace-smp"));
	assert_null(strstr(line, "root="));
	free(line);
	line = cmdline_compose(&on_disk);
	assert_non_null(strstr(line, " kvick.root=/dev/vda2"));
	free(line);
	line = cmdline_compose(&boot_disk);
	assert_string_equal(line + strlen(line) - 17, " root=/dev/vdb ro");
	free(line);
}

/* Which disk is the root, and what it is called in the guest. */
static void root_device(void **state)
{
	struct config c;

	assert_int_equal(
		PARSE(&c, CONFIG_RUN, "--rootfs", "path=x,root=12", "-d", "path=y", "true"), 0);
	assert_string_equal(c.root_device, "/dev/vda12");
	config_finish(&c);
	assert_int_equal(PARSE(&c, CONFIG_RUN, "--rootfs", "path=x", "true"), 0);
	assert_string_equal(c.root_device, "/dev/vda");
	config_finish(&c);
	assert_int_equal(PARSE(&c, CONFIG_BOOT, "-d", "path=x", "-d", "path=y,root=3"), 0);
	assert_string_equal(c.root_device, "/dev/vdb3");
	config_finish(&c);
	assert_int_equal(PARSE(&c, CONFIG_BOOT, "-d", "path=x", "-d", "path=y,root=0"), 0);
	assert_string_equal(c.root_device, "/dev/vdb");
	config_finish(&c);
	assert_int_equal(PARSE(&c, CONFIG_BOOT, "-d", "path=x"), 0);
	assert_string_equal(c.root_device, "");
	config_finish(&c);
}

/* On PCI names go by slots. `slots` are those that the disks before the root ask for; its own. */
static void check_slots(const char *slots[], unsigned count, const char *want)
{
	char words[32][64], transport[] = "--transport", pci[] = "pci", disk[] = "-d";
	char *argv[2 * 32 + 2] = {transport, pci};
	struct config c;

	for (unsigned i = 0; i < count; i++) {
		snprintf(words[i], sizeof(words[i]), "path=%u%s%s%s", i, *slots[i] ? ",addr=" : "",
			slots[i], i + 1 == count ? ",root=0" : "");
		argv[2 + 2 * i] = disk;
		argv[3 + 2 * i] = words[i];
	}
	assert_int_equal(config_init(&c, CONFIG_BOOT), 0);
	assert_int_equal(config_parse(&c, (int)(2 + 2 * count), argv), 0);
	assert_int_equal(config_check(&c), 0);
	assert_string_equal(c.root_device, want);
	config_finish(&c);
}

static void root_by_slot(void **state)
{
	const char *many[31];

	check_slots((const char *[]){"", "", ""}, 3, "/dev/vdc");
	check_slots((const char *[]){"5", "", ""}, 3, "/dev/vdb"); /* in 5, 3 and 4 */
	check_slots((const char *[]){"3", "", "4"}, 3, "/dev/vdb");
	check_slots((const char *[]){"3", "", "1"}, 3, "/dev/vda");
	check_slots((const char *[]){"1", "2", ""}, 3, "/dev/vdc");
	check_slots((const char *[]){"", "", "", "0x1f", ""}, 5, "/dev/vdd");
	for (unsigned i = 0; i < 31; i++)
		many[i] = "";
	check_slots(many, 26, "/dev/vdz");
	check_slots(many, 27, "/dev/vdaa");
	check_slots(many, 31, "/dev/vdae");
	many[0] = "31"; /* the ports' slot is another, and what is behind them comes last */
	check_slots(many, 31, "/dev/vdae");
	many[30] = "31";
	many[0] = "";
	check_slots(many, 31, "/dev/vdab");
}

static void check_transport(struct config *c, int rc, unsigned want)
{
	assert_int_equal(rc, 0);
	assert_int_equal(c->transport, want);
	config_finish(c);
}

/* NICs and disks share the places there are. */
static void too_many_nics(void **state)
{
	char words[2 * 48][24], *argv[2 * 48];
	struct config c;

	for (unsigned i = 0; i < 2 * 48; i++)
		argv[i] = words[i];
	for (unsigned i = 0; i < 48; i++) {
		snprintf(words[2 * i], 24, i < 16 ? "--net" : "--disk");
		snprintf(words[2 * i + 1], 24, i < 16 ? "tap" : "path=%u", i);
	}
	assert_int_equal(config_init(&c, CONFIG_BOOT), 0);
	assert_int_equal(config_parse(&c, 2 * 36, argv), 0);
	assert_int_equal(config_check(&c), 0);
	assert_int_equal(c.nic_count, 16);
	assert_int_equal(c.disk_count, 20);
	config_finish(&c);
	assert_int_equal(config_init(&c, CONFIG_BOOT), 0);
	assert_int_equal(config_parse(&c, 2 * 37, argv), 0);
	assert_int_equal(config_check(&c), -EINVAL);
	assert_string_equal(last_error(), "--disk: at most 36 disks and NICs");
	config_finish(&c);
	snprintf(words[2 * 16], 24, "--net");
	snprintf(words[2 * 16 + 1], 24, "tap");
	assert_int_equal(config_init(&c, CONFIG_BOOT), 0);
	assert_int_equal(config_parse(&c, 2 * 17, argv), 0);
	assert_int_equal(config_check(&c), -EINVAL);
	assert_string_equal(last_error(), "--net: at most 16 NICs");
	config_finish(&c);
}

static void transport_chosen(void **state)
{
	struct config c;

	check_transport(&c, PARSE(&c, CONFIG_BOOT, "-k", "k"), TRANSPORT_MMIO);
	check_transport(&c, PARSE(&c, CONFIG_RUN, "-r", "path=x", "--", "true"), TRANSPORT_MMIO);
	check_transport(&c, PARSE(&c, CONFIG_BOOT, "-d", "path=x"), TRANSPORT_PCI);
	check_transport(
		&c, PARSE(&c, CONFIG_BOOT, "--transport", "mmio", "-d", "path=x"), TRANSPORT_MMIO);
	check_transport(&c, PARSE(&c, CONFIG_BOOT, "--transport", "pci"), TRANSPORT_PCI);
	check_transport(&c, PARSE(&c, CONFIG_BOOT, "--net", "none"), TRANSPORT_MMIO);
	check_transport(&c, PARSE(&c, CONFIG_BOOT, "--net", "tap"), TRANSPORT_PCI);
	check_transport(
		&c, PARSE(&c, CONFIG_BOOT, "--net", "tap", "--transport", "mmio"), TRANSPORT_MMIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(transport_chosen),
		cmocka_unit_test(too_many_nics),
		cmocka_unit_test(defaults),
		cmocka_unit_test(command),
		cmocka_unit_test(refused),
		cmocka_unit_test(more_than_the_host),
		cmocka_unit_test(environment),
		cmocka_unit_test(file),
		cmocka_unit_test(help),
		cmocka_unit_test(kernel_line),
		cmocka_unit_test(root_device),
		cmocka_unit_test(root_by_slot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
