// SPDX-License-Identifier: MIT
// Disks come and go under a guest that uses them; machines that have had some are saved, destroyed
// and loaded. test_hotplug FOLDER, where the guests are.
#include "tests/unit/test.h"

#include "base/log.h"
#include "base/util.h"
#include "tests/vm/life.h"
#include "vmm/devices.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define TIMES 100u
#define SLOTS 8u
#define KEYS_MAX 128u
#define SKIP 77

static const char *folder;
static unsigned attached, detached, lost;

struct fixture {
	struct life l;
	char kernel[512];
	char path[SLOTS + 1][64]; /* of images */
};

static void event(void *arg, const char *what)
{
	attached += !strncmp(what, "disk attached ", 14);
	detached += !strncmp(what, "disk detached ", 14);
	attached += !strcmp(what, "NIC attached net7");
	detached += !strcmp(what, "NIC detached net7");
	lost += !strcmp(what, "network: net7: its helper has ended; its link is down");
}

static void init(struct fixture *f, const char *cmdline)
{
	snprintf(f->kernel, sizeof(f->kernel), "%s/hotplug", folder);
	f->l = (struct life){.kernel = f->kernel,
		.cmdline = cmdline,
		.cpus = 2,
		.transport = TRANSPORT_PCI,
		.event = event};
	attached = detached = lost = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(f->path); i++) {
		int fd;

		strcpy(f->path[i], "/tmp/test_hotplug.XXXXXX");
		fd = mkstemp(f->path[i]);
		assert_true(fd >= 0);
		assert_int_equal(ftruncate(fd, MIB(1)), 0);
		close(fd);
	}
	life_init(&f->l);
}

static void finish(struct fixture *f)
{
	life_finish(&f->l);
	for (unsigned i = 0; i < ARRAY_SIZE(f->path); i++)
		unlink(f->path[i]);
}

/* `keys` follow the path. */
static void keys_of(const struct fixture *f, char text[KEYS_MAX], unsigned image, const char *keys)
{
	snprintf(text, KEYS_MAX, "path=%s%s", f->path[image], keys);
}

static struct disk_config *parse(const struct fixture *f, unsigned image, const char *keys)
{
	struct disk_config *disk;
	char text[KEYS_MAX];

	keys_of(f, text, image, keys);
	assert_int_equal(disk_config_create(&disk, text), 0);
	return disk;
}

static int attach(struct fixture *f, unsigned image, const char *keys)
{
	struct disk_config *disk = parse(f, image, keys);
	struct disk_files files;

	assert_int_equal(disk_open(disk, &files), 0);
	return machine_attach_disk(f->l.machine, disk, &files);
}

static void await_detached(struct fixture *f, unsigned count)
{
	for (unsigned ms = 0; detached < count; ms++) {
		assert_true(ms < 30000);
		life_check(&f->l);
		life_run(&f->l, 1000000);
	}
	assert_int_equal(detached, count);
	life_await(&f->l, "ejected", count); /* it has seen the slot empty */
}

/* Presses the button, to which the guest ends. */
static void end(struct fixture *f)
{
	assert_int_equal(machine_power_button(f->l.machine), 0);
	life_await(&f->l, "SUCCESS", 1);
	while (!f->l.end)
		life_run(&f->l, 10000000);
	assert_int_equal(f->l.end, END_POWEROFF);
}

static unsigned open_files(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* The image is free again: nobody has a lock on it. */
static void check_free(const struct fixture *f, unsigned image)
{
	struct disk_config *disk = parse(f, image, "");
	struct disk_files files;

	assert_int_equal(disk_open(disk, &files), 0);
	disk_close(&files);
	disk_config_free(disk);
}

static void come_and_go(const char *cmdline)
{
	struct fixture f;
	unsigned files;

	init(&f, cmdline);
	life_begin(&f.l);
	life_await(&f.l, "READY", 1);
	files = open_files();
	for (unsigned i = 0; i < TIMES; i++) {
		assert_int_equal(attach(&f, i % SLOTS, ",id=disk"), 0);
		life_await(&f.l, "used", i + 1);
		assert_int_equal(machine_detach(f.l.machine, "disk", -1), 0);
		await_detached(&f, i + 1);
		check_free(&f, i % SLOTS);
	}
	assert_int_equal(attached, TIMES);
	assert_int_equal(open_files(), files);
	end(&f);
	finish(&f);
}

static void a_hundred_times(void **state)
{
	come_and_go("");
}

/* Ejects what it was not asked for, and lets go with requests in flight. */
static void rudely(void **state)
{
	log_set_level(LOG_LEVEL_ERROR);
	come_and_go("rude");
}

/* What it was not asked for is nothing that the machine is stopped for: the vCPUs are parked only
 * where there is something to be taken away. */
static void asked_or_not(void **state)
{
	static struct devices d;

	log_set_level(LOG_LEVEL_ERROR);
	assert_false(devices_eject(&d, 0xff));
	assert_int_equal(d.ejected, 0);
	devices_set_leaving(&d, PCI_HOT_FIRST + 2);
	devices_set_leaving(&d, PCI_HOT_FIRST - 1);
	devices_set_leaving(&d, PCI_HOT_FIRST + PCI_HOT_SLOTS);
	devices_set_leaving(&d, PCI_SLOTS + PCI_HOT_FIRST);
	for (unsigned i = 0; i < PCI_PLACES; i++)
		assert_int_equal(devices_is_leaving(&d, i), i == PCI_HOT_FIRST + 2);
	assert_false(devices_eject(&d, 0xff & ~(1u << 2)));
	assert_true(devices_eject(&d, 0xff));
	assert_int_equal(d.ejected, 1u << 2);
	devices_unplug(&d, false);
	assert_false(devices_eject(&d, 0xff));
	assert_int_equal(d.ejected, 0);
}

/* Over a socket whose other end is ours. */
static int attach_nic(struct fixture *f, const char *keys, int *peer)
{
	struct net_end end = {.pairs = 1};
	struct net_config *nic;
	int ends[2];

	assert_int_equal(net_config_create(&nic, keys), 0);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
	end.fd[0] = ends[0];
	*peer = ends[1];
	return machine_attach_nic(f->l.machine, nic, &end, NULL);
}

/* Beside a disk: each leaves as what it is. One that is lost leaves as any other. */
static void nics(void **state)
{
	struct fixture f;
	char packet[256];
	int peer;

	log_set_level(LOG_LEVEL_ERROR);
	init(&f, "");
	life_begin(&f.l);
	life_await(&f.l, "READY", 1);
	assert_int_equal(attach(&f, 0, ",id=disk"), 0);
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(attach_nic(&f, "tap,id=net7,mac=02:00:00:00:00:07", &peer), 0);
		life_await(&f.l, "used", i + 2);
		assert_int_equal(recv(peer, packet, sizeof(packet), 0), 72);
		if (i & 1)
			machine_lose_nic(f.l.machine, "net7", "its helper has ended");
		assert_int_equal(machine_detach(f.l.machine, "net7", -1), 0);
		await_detached(&f, i + 1);
		assert_int_equal(recv(peer, packet, sizeof(packet), 0), 0); /* closed */
		close(peer);
		machine_lose_nic(f.l.machine, "net7", "its helper has ended");
	}
	assert_int_equal(attached, 11);
	assert_int_equal(lost, 5);
	assert_int_equal(attach_nic(&f, "tap,id=disk,mac=02:00:00:00:00:07", &peer), -EEXIST);
	close(peer);
	assert_int_equal(machine_detach(f.l.machine, "disk", -1), 0);
	await_detached(&f, 11);
	end(&f);
	finish(&f);
}

static void all_at_once(void **state)
{
	struct fixture f;

	init(&f, "");
	life_begin(&f.l);
	life_await(&f.l, "READY", 1);
	for (unsigned i = 0; i < SLOTS; i++)
		assert_int_equal(attach(&f, i, ""), 0);
	assert_int_equal(attach(&f, SLOTS, ""), -ENOSPC);
	check_free(&f, SLOTS);
	life_await(&f.l, "used", SLOTS);
	for (unsigned i = 0; i < SLOTS; i++)
		assert_int_equal(machine_detach(f.l.machine, f.path[i], -1), 0);
	await_detached(&f, SLOTS);
	end(&f);
	finish(&f);
}

static void refusals(void **state)
{
	struct fixture f;

	init(&f, "");
	life_create(&f.l);
	assert_int_equal(attach(&f, 0, ""), -EBUSY); /* before its start */
	life_destroy(&f.l);
	life_begin(&f.l);
	life_await(&f.l, "READY", 1);
	assert_int_equal(attach(&f, 0, ",addr=2"), -EINVAL);
	assert_int_equal(attach(&f, 0, ",addr=11"), -EINVAL);
	assert_int_equal(attach(&f, 0, ",addr=5,id=a"), 0);
	assert_int_equal(attach(&f, 1, ",addr=5,id=b"), -EBUSY);
	assert_int_equal(attach(&f, 1, ",id=a"), -EEXIST);
	assert_int_equal(machine_detach(f.l.machine, "b", -1), -ENOENT);
	assert_int_equal(machine_detach(f.l.machine, "vsock", -1), -ENOENT);
	life_await(&f.l, "used", 1);
	check_free(&f, 1);
	machine_end(f.l.machine, END_KILLED);
	assert_int_equal(attach(&f, 1, ""), -EBUSY);
	assert_int_equal(machine_detach(f.l.machine, "a", -1), -EBUSY);
	life_destroy(&f.l);
	check_free(&f, 0);
	f.l.transport = TRANSPORT_MMIO;
	f.l.end = END_NONE;
	life_begin(&f.l);
	assert_int_equal(attach(&f, 0, ""), -ENOTSUP);
	finish(&f);
}

/* What is attached in a pause is seen after it, and is let go of after it. */
static void while_paused(void **state)
{
	struct fixture f;

	init(&f, "");
	life_begin(&f.l);
	life_await(&f.l, "READY", 1);
	assert_int_equal(machine_pause(f.l.machine), 0);
	assert_int_equal(attach(&f, 0, ",id=disk"), 0);
	assert_int_equal(machine_resume(f.l.machine), 0);
	life_await(&f.l, "used", 1);
	assert_int_equal(machine_pause(f.l.machine), 0);
	assert_int_equal(machine_detach(f.l.machine, "disk", -1), 0);
	life_run(&f.l, 20000000);
	assert_int_equal(detached, 0);
	assert_int_equal(machine_resume(f.l.machine), 0);
	await_detached(&f, 1);
	end(&f);
	finish(&f);
}

/* A guest that does not listen keeps its disk, whoever asks how often. */
static void deaf(void **state)
{
	struct fixture f;

	init(&f, "deaf");
	life_begin(&f.l);
	life_await(&f.l, "READY", 1);
	assert_int_equal(attach(&f, 0, ",id=disk"), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(machine_detach(f.l.machine, "disk", -1), 0);
		life_run(&f.l, 20000000);
	}
	assert_int_equal(detached, 0);
	end(&f);
	life_destroy(&f.l);
	check_free(&f, 0);
	finish(&f);
}

/* What it was asked for and has not let go of is gone with a reset; the rest stays. */
static void reset(void **state)
{
	struct fixture f;

	init(&f, "deaf");
	life_begin(&f.l);
	life_await(&f.l, "READY", 1);
	assert_int_equal(attach(&f, 0, ",id=a"), 0);
	assert_int_equal(attach(&f, 1, ",id=b"), 0);
	assert_int_equal(machine_detach(f.l.machine, "a", -1), 0);
	assert_int_equal(machine_reset(f.l.machine), 0);
	assert_int_equal(detached, 1);
	check_free(&f, 0);
	life_await(&f.l, "READY", 2);
	assert_int_equal(life_said(&f.l, "used"), 1);
	end(&f);
	finish(&f);
}

/* ---- Save and load ---- */

/* Disks that came while it ran are there at the start of the machine that goes on. */
static void saved(void **state)
{
	char keys[3][KEYS_MAX];
	struct fixture f;

	init(&f, "");
	life_begin(&f.l);
	life_await(&f.l, "READY", 1);
	assert_int_equal(attach(&f, 0, ",id=a"), 0);
	assert_int_equal(attach(&f, 1, ",id=b"), 0);
	assert_int_equal(attach(&f, 2, ",id=c,addr=9"), 0);
	life_await(&f.l, "used", 3);
	assert_int_equal(machine_detach(f.l.machine, "a", -1), 0);
	await_detached(&f, 1);
	assert_int_equal(attach(&f, 3, ",id=d,addr=3"), 0);
	life_await(&f.l, "used", 4);
	assert_int_equal(machine_pause(f.l.machine), 0);
	assert_int_equal(machine_detach(f.l.machine, "c", -1), 0); /* it has not heard of it yet */
	life_save(&f.l);
	life_make(&f.l);
	assert_true(life_load(&f.l) < 0);
	assert_non_null(strstr(last_error(), "slot 3 had a disk, and has nothing here"));
	life_destroy(&f.l);
	/* In another order than they came. */
	keys_of(&f, keys[0], 2, ",id=c,addr=9");
	keys_of(&f, keys[1], 3, ",id=d,addr=3");
	keys_of(&f, keys[2], 1, ",id=b,addr=4");
	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
		f.l.disk_keys[i] = keys[i];
	life_begin(&f.l);
	await_detached(&f, 2);
	assert_int_equal(machine_detach(f.l.machine, "d", -1), 0);
	assert_int_equal(machine_detach(f.l.machine, "b", -1), 0);
	await_detached(&f, 4);
	end(&f);
	finish(&f);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refusals),
		cmocka_unit_test(a_hundred_times),
		cmocka_unit_test(rudely),
		cmocka_unit_test(asked_or_not),
		cmocka_unit_test(nics),
		cmocka_unit_test(all_at_once),
		cmocka_unit_test(while_paused),
		cmocka_unit_test(deaf),
		cmocka_unit_test(reset),
		cmocka_unit_test(saved),
	};

	if (argc != 2) {
		fprintf(stderr, "usage: test_hotplug FOLDER\n");
		return 2;
	}
	if (access("/dev/kvm", R_OK | W_OK))
		return SKIP;
	folder = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
