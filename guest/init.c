// SPDX-License-Identifier: MIT
// Process 1 of a guest that runs one command: boots the rest, runs it, and powers off.
#include "guest/agent.h"
#include "guest/boot.h"
#include "guest/console.h"
#include "guest/net.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/random.h>

#define MODULES "/.kvick/modules"

static struct boot boot;
static struct agent agent;

static uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A root that stays is left as its file system would like to find it: no one writes any more. */
static void leave_root(void)
{
	kill(-1, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0)
		continue;
	sync();
	mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL);
}

static _Noreturn void power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause(); /* a kernel that cannot power off; process 1 must not end */
}

static _Noreturn void give_up(const char *what, const char *name, int error)
{
	unsigned int n = boot.n_troubles < BOOT_TROUBLES ? boot.n_troubles : BOOT_TROUBLES;

	for (unsigned int i = 0; i < n; i++)
		console_say(boot.troubles[i].what, boot.troubles[i].name, boot.troubles[i].error);
	console_say(what, name, error);
	power_off();
}

/*
 * An open /dev/null above 2. Where the initramfs has no /dev/console, the kernel starts us with
 * nothing open, and the connection must not become some command's stdout.
 */
static int open_null(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
		if (fd < 0)
			give_up("cannot open", "/dev/null", errno);
	} while (fd <= STDERR_FILENO);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	return fd;
}

/* Those from the number `first` on. */
static void report_troubles(unsigned int first)
{
	char text[128];
	struct proto_error e = {.text = text};

	for (unsigned int i = first; i < boot.n_troubles && i < BOOT_TROUBLES; i++) {
		const struct trouble *t = &boot.troubles[i];

		strcpy(stpcpy(stpcpy(text, t->what), " "), t->name);
		e.error = (uint16_t)t->error;
		e.length = strlen(text);
		agent_trouble(&agent, &e);
	}
}

/* The host's random bytes, which no other guest has had. */
static void add_entropy(const uint8_t *bytes, size_t length)
{
	struct { /* struct rand_pool_info, with its bytes */
		int entropy_count, buf_size;
		uint8_t bytes[64];
	} pool;
	int fd;

	if (!length)
		return;
	if (length > sizeof(pool.bytes))
		length = sizeof(pool.bytes);
	pool.entropy_count = (int)length * 8;
	pool.buf_size = (int)length;
	memcpy(pool.bytes, bytes, length);
	fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ioctl(fd, RNDADDENTROPY, &pool);
	close(fd);
}

static void set_up_network(const struct proto_request *q)
{
	/* Without its driver no interface will ever come. */
	bool driver = !access("/sys/bus/virtio/drivers/virtio_net", F_OK);

	net_configure(&boot, q, driver ? NET_WAIT_MS : 0);
	net_resolvers(&boot, q);
}

static void prepare(const struct proto_request *q)
{
	unsigned int told = boot.n_troubles;

	add_entropy(q->entropy, q->entropy_length);
	if (q->hostname && sethostname(q->hostname, strlen(q->hostname)))
		console_say("cannot set the host name", q->hostname, errno);
	set_up_network(q);
	report_troubles(told);
}

/* What is on a disk would be lost: the machine is gone once the end is reported. Where there is
 * none the walk through what is mounted is spared. */
static void flush_disks(void)
{
	DIR *disks = opendir("/sys/block");
	const struct dirent *e;
	bool some = !disks;

	while (disks && !some && (e = readdir(disks)))
		some = e->d_name[0] != '.';
	if (disks)
		closedir(disks);
	if (some)
		sync();
}

static void serve(int socket, int null, const struct proto_hello *hello)
{
	struct proto_request q;
	int rc = agent_init(&agent, socket, null);

	if (rc)
		give_up("cannot watch for", "SIGCHLD", -rc);
	agent.leave = boot.root_in_memory ? flush_disks : leave_root;
	agent_hello(&agent, hello);
	report_troubles(0);
	rc = agent_request(&agent, &q);
	if (!rc) {
		prepare(&q);
		rc = agent_run(&agent, &q);
	}
	if (rc)
		give_up("the session with", "the host", -rc);
}

int main(void)
{
	struct proto_hello hello = {.version = PROTO_VERSION};
	int null, socket, rc;

	hello.stage_ns[PROTO_STAGE_INIT] = clock_ns();
	boot_mount_system(&boot);
	null = open_null();
	boot_parameters(&boot);
	boot_load_modules(&boot, MODULES);
	rc = boot_mount_root(&boot);
	if (rc)
		give_up("cannot mount the root", boot.root, -rc);
	boot_mount_scratch(&boot);
	hello.stage_ns[PROTO_STAGE_MODULES] = clock_ns();
	boot_loopback(&boot);
	socket = boot_connect(&boot);
	if (socket < 0)
		give_up("cannot reach", "the host over vsock", -socket);
	hello.stage_ns[PROTO_STAGE_CONNECTED] = clock_ns();
	serve(socket, null, &hello);
	power_off();
}
