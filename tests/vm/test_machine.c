// SPDX-License-Identifier: MIT
// Machines are saved, destroyed and loaded under a guest that uses every device; and whatever the
// monitor writes to guest memory is known. test_machine FOLDER PROGRAM: where the guests are, and
// kvick-slirp.
#include "tests/unit/test.h"

#include "base/log.h"
#include "base/util.h"
#include "tests/vm/life.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define CUTS 100u
#define PAGE 4096u
#define SKIP 77

static const char *folder, *slirp;

static const char *guest(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

/* Lines numbered from 0 with nothing left out, doubled or damaged; other words between them. */
static void check_lines(const struct life *l)
{
	char want[32];
	unsigned n = 0;
	const char *at = l->text;

	while ((at = strstr(at, "line "))) {
		int len = snprintf(want, sizeof(want), "line %u\n", n++);

		if (strncmp(at, want, (size_t)len))
			fail_msg("%.20s where %s was due", at, want);
		at += len;
	}
	assert_true(n > CUTS);
}

/* A number of nanoseconds between none and `ms` milliseconds. */
static uint64_t any_time(unsigned ms)
{
	return (uint64_t)rand() % (ms * 1000000ull);
}

static void press_button(struct life *l, unsigned *presses)
{
	if (life_said(l, "pressed\n") < *presses)
		return; /* two presses that the guest has not seen are one to it */
	assert_int_equal(machine_power_button(l->machine), 0);
	++*presses;
}

static void end_well(struct life *l, unsigned presses)
{
	life_await(l, "pressed\n", presses);
	life_send_end(l);
	life_await(l, "SUCCESS", 1);
	while (!l->end)
		life_run(l, 10000000);
	assert_int_equal(l->end, END_POWEROFF);
	assert_int_equal(life_said(l, "pressed\n"), presses);
	check_lines(l);
}

static unsigned number_after(const struct life *l, const char *words)
{
	const char *at = strstr(l->text, words);

	assert_non_null(at);
	return (unsigned)strtoul(at + strlen(words), NULL, 0);
}

static void cut_often(uint32_t cpus, const char *cmdline, enum machine_transport transport)
{
	struct life l = {
		.kernel = guest("life"), .cmdline = cmdline, .cpus = cpus, .transport = transport};
	unsigned presses = 0;

	srand(cpus);
	life_init(&l);
	for (unsigned i = 0; i < CUTS; i++) {
		life_feed(&l);
		life_begin(&l);
		life_run(&l, any_time(20));
		life_check(&l);
		if (i % 3 == 0)
			press_button(&l, &presses);
		if (i % 2)
			life_run(&l, any_time(5));
		life_check(&l);
		life_cut(&l);
	}
	life_begin(&l);
	end_well(&l, presses);
	assert_true(number_after(&l, "vsock resets ") > 0);
	print_message("%s: %u alarms, %u vsock resets, %u connections\n", cmdline,
		number_after(&l, "alarms "), number_after(&l, "vsock resets "), l.connections);
	life_finish(&l);
}

static void one_processor(void **state)
{
	cut_often(1, "cpus=1", TRANSPORT_MMIO);
}

static void two_processors(void **state)
{
	cut_often(2, "cpus=2", TRANSPORT_MMIO);
}

static void on_pci(void **state)
{
	cut_often(2, "cpus=2", TRANSPORT_PCI);
}

/* ---- Disks ---- */

#define IMAGE_SIZE MIB(16)

/* Whatever was under way is done, and no more than once, and the next machine goes on from there.
 */
static void cut_disk(const char *keys, const char *cmdline, enum machine_transport transport)
{
	char path[] = "/tmp/kvick-test-XXXXXX", all[128];
	struct life l = {.kernel = guest("disk-random"),
		.cmdline = cmdline,
		.cpus = 1,
		.transport = transport,
		.disk_keys = {all}};
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, IMAGE_SIZE), 0);
	snprintf(all, sizeof(all), "path=%s,%s", path, keys);
	life_init(&l);
	for (unsigned i = 0; i < CUTS; i++) {
		life_begin(&l);
		life_run(&l, any_time(20));
		life_check(&l);
		life_cut(&l);
	}
	life_begin(&l);
	life_send_end(&l);
	life_await(&l, "SUCCESS", 1);
	assert_int_equal(life_said(&l, "READY"), 1);
	print_message("%s, %s: %u requests\n", keys, cmdline, number_after(&l, "requests "));
	life_finish(&l);
	close(fd);
	unlink(path);
}

static void disk(void **state)
{
	cut_disk("queues=1", "seed=1 until-told", TRANSPORT_MMIO);
}

static void disk_on_pci(void **state)
{
	cut_disk("queues=4,cache=unsafe", "seed=2 queues=4 events until-told", TRANSPORT_PCI);
}

/* Half-done pieces of requests that the file system does not take as they are; a rate. */
static void disk_slow(void **state)
{
	cut_disk("queues=4,cache=none,iops=5000", "seed=3 queues=4 until-told", TRANSPORT_MMIO);
}

/* A format's tables are in order with each machine that ends. */
static void disk_on_overlay(void **state)
{
	char path[] = "/tmp/kvick-test-XXXXXX", keys[64];

	assert_int_equal(close(mkstemp(path)), 0);
	unlink(path);
	snprintf(keys, sizeof(keys), "queues=4,overlay=%s", path);
	cut_disk(keys, "seed=4 queues=4 events until-told", TRANSPORT_PCI);
	assert_int_equal(unlink(path), 0);
}

/* ---- A NIC ---- */

#define TAP "life0"
#define FRAME 200u
#define DATAGRAM 200
#define NET_TEST 0x88b5u
#define NET_END 0x88b6u

static const uint8_t guest_mac[6] = {2, 0, 0, 0, 0, 1}, host_mac[6] = {2, 0, 0, 0xff, 0xff, 0xfe};

/* The other end of a tap, in a network namespace of the test's own. */
struct wire {
	int sock;
	uint32_t sent, got;
};

/* What is not possible without privilege. */
static bool make_wire(struct wire *w)
{
	struct ifreq r = {.ifr_name = TAP, .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int tun, room = 1 << 24;

	*w = (struct wire){0};
	if (access("/dev/net/tun", R_OK | W_OK) || unshare(CLONE_NEWNET))
		return false;
	tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	assert_int_equal(ioctl(tun, TUNSETIFF, &r), 0);
	assert_int_equal(ioctl(tun, TUNSETPERSIST, 1), 0);
	close(tun);
	w->sock = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));
	setsockopt(w->sock, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	r = (struct ifreq){.ifr_name = TAP, .ifr_flags = IFF_UP};
	assert_int_equal(ioctl(w->sock, SIOCSIFFLAGS, &r), 0);
	a.sll_ifindex = (int)if_nametoindex(TAP);
	assert_int_equal(bind(w->sock, (struct sockaddr *)&a, sizeof(a)), 0);
	return true;
}

static void send_frame(struct wire *w, unsigned type)
{
	uint8_t frame[FRAME];

	memcpy(frame, guest_mac, 6);
	memcpy(frame + 6, host_mac, 6);
	frame[12] = (uint8_t)(type >> 8);
	frame[13] = (uint8_t)type;
	memcpy(frame + 14, &w->sent, 4);
	for (unsigned i = 18; i < FRAME; i++)
		frame[i] = (uint8_t)(w->sent * 7 + i);
	w->sent++;
	send(w->sock, frame, FRAME, 0); /* with no machine there is nobody to take it */
}

/* All that the guest has sent, in its order and nothing left out. */
static void take_frames(struct wire *w)
{
	uint8_t frame[2048];
	uint32_t number;

	for (ssize_t n; (n = recv(w->sock, frame, sizeof(frame), 0)) > 0;) {
		if (memcmp(frame, host_mac, 6) != 0)
			continue;
		memcpy(&number, frame + 14, 4);
		assert_int_equal(n, FRAME);
		assert_int_equal(number, w->got);
		for (unsigned i = 18; i < FRAME; i++)
			assert_int_equal(frame[i], (uint8_t)(number * 7 + i));
		w->got++;
	}
}

static void cut_nic(enum machine_transport transport)
{
	struct life l = {.kernel = guest("net-life"),
		.cmdline = "",
		.cpus = 1,
		.transport = transport,
		.nic = "tap,name=" TAP ",mac=02:00:00:00:00:01"};
	struct wire w;

	if (!make_wire(&w))
		skip();
	life_init(&l);
	for (unsigned i = 0; i < CUTS; i++) {
		life_begin(&l);
		for (unsigned k = 0; k < 4; k++) {
			for (unsigned n = 0; n < 16; n++)
				send_frame(&w, NET_TEST);
			life_run(&l, any_time(5));
			take_frames(&w);
		}
		life_check(&l);
		life_cut(&l);
		take_frames(&w);
	}
	life_begin(&l);
	while (!l.end) {
		send_frame(&w, NET_END);
		life_run(&l, 10000000);
		take_frames(&w);
	}
	life_await(&l, "SUCCESS", 1);
	take_frames(&w);
	assert_int_equal(number_after(&l, "sent "), w.got);
	assert_in_range(number_after(&l, "got "), CUTS, w.sent);
	print_message("frames: %u of %u from the host, %u from the guest\n",
		number_after(&l, "got "), w.sent, w.got);
	life_finish(&l);
	close(w.sock);
}

static void nic(void **state)
{
	cut_nic(TRANSPORT_MMIO);
}

static void nic_on_pci(void **state)
{
	cut_nic(TRANSPORT_PCI);
}

/* The host's side of a guest in user mode: an echo on the loopback of a network namespace. */
struct echo {
	struct watch watch;
	uint32_t next;   /* number of a datagram that may come */
	uint32_t got[2]; /* answers that the guest has had, as it says: pings, datagrams */
	unsigned count;
	bool ending;
};

static void echo_ready(void *arg, uint32_t events)
{
	struct echo *e = arg;
	struct sockaddr_in from;
	socklen_t size = sizeof(from);
	uint8_t data[DATAGRAM + 1];
	uint32_t number;

	if (recvfrom(e->watch.fd, data, sizeof(data), 0, (struct sockaddr *)&from, &size) !=
		DATAGRAM)
		fail_msg("a datagram of another size");
	memcpy(&number, data, 4);
	assert_true(number >= e->next);
	memcpy(e->got, data + 4, sizeof(e->got));
	for (unsigned i = 12; i < DATAGRAM; i++)
		assert_int_equal(data[i], (uint8_t)(number * 7 + i));
	e->next = number + 1;
	e->count++;
	if (e->ending)
		memset(data, 0xff, 4);
	sendto(e->watch.fd, data, DATAGRAM, 0, (struct sockaddr *)&from, size);
}

/* False where it takes privilege that is not to be had. */
static bool make_echo(struct echo *e)
{
	const struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_port = htons(7),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd;

	if (unshare(CLONE_NEWNET))
		return false;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &up), 0);
	assert_int_equal(bind(fd, (const struct sockaddr *)&a, sizeof(a)), 0);
	*e = (struct echo){.watch = WATCH_INIT(echo_ready, e)};
	e->watch.fd = fd;
	return true;
}

/* Until the guest has had both kinds of answers by way of this machine. */
static void await_answers(struct life *l, const struct echo *e)
{
	const uint32_t before[2] = {e->got[0], e->got[1]};
	uint64_t until = now_ns() + 30 * NSEC_PER_SEC;

	while (e->got[0] == before[0] || e->got[1] == before[1]) {
		life_check(l);
		assert_true(now_ns() < until);
		life_run(l, 1000000);
	}
}

/* Each machine has a process of its own at the other end of its NIC. */
static void cut_user_mode(enum machine_transport transport)
{
	struct life l = {.kernel = guest("net-user-life"),
		.cmdline = "",
		.cpus = 1,
		.transport = transport,
		.nic = "user,host=allow,mac=02:00:00:00:00:01",
		.slirp = slirp};
	struct echo e;

	if (!make_echo(&e))
		skip();
	life_init(&l);
	assert_int_equal(loop_add(l.loop, &e.watch, e.watch.fd, EPOLLIN), 0);
	for (unsigned i = 0; i < CUTS; i++) {
		life_begin(&l);
		await_answers(&l, &e);
		life_run(&l, any_time(5));
		life_check(&l);
		life_cut(&l);
	}
	e.ending = true;
	life_begin(&l);
	life_await(&l, "SUCCESS", 1);
	assert_true(number_after(&l, "pings ") >= e.got[0]);
	assert_in_range(number_after(&l, "datagrams "), e.got[1], e.count);
	print_message("answers to the guest: %u pings, %u of %u datagrams\n",
		number_after(&l, "pings "), number_after(&l, "datagrams "), e.count);
	loop_del(l.loop, &e.watch);
	life_finish(&l);
	close(e.watch.fd);
}

static void user_mode(void **state)
{
	cut_user_mode(TRANSPORT_MMIO);
}

static void user_mode_on_pci(void **state)
{
	cut_user_mode(TRANSPORT_PCI);
}

/* The state of a machine that has not yet run is as good as any. */
static void before_the_start(void **state)
{
	struct life l = {.kernel = guest("hello"), .cmdline = "greeting", .cpus = 2};

	life_init(&l);
	life_create(&l);
	life_save(&l);
	life_begin(&l);
	life_await(&l, "SUCCESS", 1);
	life_finish(&l);
}

/* ---- Dirty pages ---- */

static bool is_marked(const uint64_t *bits, uint64_t page)
{
	return bits[page / 64] >> page % 64 & 1;
}

/* The guest writes nothing itself: what differs from `l->ram` must be marked. How much did. */
static unsigned compare_pages(const struct life *l, const uint64_t *bits)
{
	static uint8_t now[PAGE];
	unsigned changed = 0;

	for (uint64_t page = 0; page < LIFE_MEMORY / PAGE; page++) {
		assert_int_equal(mem_read(machine_mem(l->machine), page * PAGE, now, PAGE), 0);
		if (!memcmp(now, l->ram + page * PAGE, PAGE))
			continue;
		changed++;
		if (!is_marked(bits, page))
			fail_msg("page 0x%llx was written unmarked",
				(unsigned long long)(page * PAGE));
	}
	return changed;
}

static unsigned count_marked(const uint64_t *bits)
{
	unsigned n = 0;

	for (uint64_t page = 0; page < LIFE_MEMORY / PAGE; page++)
		n += is_marked(bits, page);
	return n;
}

#define REQUESTS 16u /* as in tests/guests/parked.c: each in three pages at most, two at least */

static void writes_are_marked(void **state)
{
	struct life l = {.kernel = guest("parked"), .cmdline = "", .cpus = 1};
	const uint16_t index = REQUESTS;
	struct mem *m;
	uint64_t *bits;
	unsigned changed;

	life_init(&l);
	life_begin(&l);
	life_await(&l, "READY", 1);
	assert_int_equal(machine_pause(l.machine), 0);
	m = machine_mem(l.machine);
	assert_int_equal(mem_write(m, number_after(&l, "index "), &index, sizeof(index)), 0);
	assert_int_equal(mem_track_start(m), 0);
	assert_int_equal(mem_read(m, 0, l.ram, LIFE_MEMORY), 0);
	assert_int_equal(machine_resume(l.machine), 0); /* the devices look into their queues */
	life_await(&l, "DONE", 1);
	assert_int_equal(machine_pause(l.machine), 0);
	bits = malloc(mem_bitmap_size(m, 0));
	assert_non_null(bits);
	mem_track_take(m, 0, bits);
	changed = compare_pages(&l, bits);
	assert_in_range(changed, 2 * REQUESTS + 1, 3 * REQUESTS + 2);
	assert_in_range(count_marked(bits), changed, changed + 2);
	free(bits);
	life_finish(&l);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(before_the_start),
		cmocka_unit_test(writes_are_marked),
		cmocka_unit_test(one_processor),
		cmocka_unit_test(two_processors),
		cmocka_unit_test(on_pci),
		cmocka_unit_test(disk),
		cmocka_unit_test(disk_on_pci),
		cmocka_unit_test(disk_slow),
		cmocka_unit_test(disk_on_overlay),
		cmocka_unit_test(nic),
		cmocka_unit_test(nic_on_pci),
		cmocka_unit_test(user_mode),
		cmocka_unit_test(user_mode_on_pci),
	};

	if (argc != 3) {
		fprintf(stderr, "usage: test_machine FOLDER PROGRAM\n");
		return 2;
	}
	if (access("/dev/kvm", R_OK | W_OK))
		return SKIP;
	folder = argv[1];
	slirp = argv[2];
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
