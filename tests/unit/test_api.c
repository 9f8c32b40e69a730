// SPDX-License-Identifier: MIT
// The control socket: verbs and the states that permit them, garbage, long lines, slow and many
// clients.
#include "tests/unit/test.h"

#include "api/client.h"
#include "api/server.h"
#include "api/verbs.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/util.h"
#include "tests/unit/fake_machine.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct fixture {
	struct machine machine;
	struct api api;
	struct loop *loop;
	struct api_server *server;
	struct sockaddr_un address;
	socklen_t address_len;
};

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	x->machine.state = MACHINE_RUNNING;
	x->api = (struct api){.machine = &x->machine, .name = "vm", .cpus = 2, .memory = MIB(128)};
	x->address.sun_family = AF_UNIX;
	x->address_len = sizeof(x->address);
	assert_int_equal(
		bind(fd, (void *)&x->address, sizeof(sa_family_t)), 0); /* a name of its own */
	assert_int_equal(getsockname(fd, (void *)&x->address, &x->address_len), 0);
	assert_int_equal(listen(fd, 128), 0);
	assert_int_equal(loop_create(&x->loop, "test"), 0);
	assert_int_equal(api_server_create(&x->server, x->loop, fd, &x->api, &api_lines), 0);
	assert_int_equal(loop_spawn(x->loop, NULL, NULL), 0);
	*state = x;
	return 0;
}

static void destroy_server(void *arg)
{
	struct fixture *x = arg;

	api_server_destroy(x->server);
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	loop_call(x->loop, destroy_server, x);
	loop_destroy(x->loop);
	free(x);
	return 0;
}

static int dial(struct fixture *x)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_int_equal(connect(fd, (void *)&x->address, x->address_len), 0);
	return fd;
}

/* One line without its newline, in a buffer of this function's; "" at the end of the connection. */
static const char *read_line(int fd)
{
	static char line[1024];
	size_t n = 0;

	while (n < sizeof(line) - 1 && read(fd, line + n, 1) == 1 && line[n] != '\n')
		n++;
	line[n] = '\0';
	return line;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static const char *ask(int fd, const char *request)
{
	say(fd, request);
	return read_line(fd);
}

static void verbs_and_states(void **state)
{
	struct fixture *x = *state;
	int fd = dial(x);

	assert_string_equal(ask(fd, "{\"verb\":\"pause\"}\n"), "{\"ok\":true,\"result\":{}}");
	assert_int_equal(x->machine.state, MACHINE_PAUSED);
	assert_string_equal(ask(fd, "{\"verb\":\"pause\"}\n"),
		"{\"ok\":false,\"error\":\"pause: not while the machine is paused\"}");
	assert_string_equal(ask(fd, "{\"verb\":\"power-button\"}\n"),
		"{\"ok\":false,\"error\":\"power-button: not while the machine is paused\"}");
	assert_string_equal(ask(fd, "{\"verb\":\"resume\",\"id\":[7]}\n"),
		"{\"ok\":true,\"result\":{},\"id\":[7]}");
	assert_string_equal(ask(fd, "{\"verb\":\"stats\"}\n"),
		"{\"ok\":true,\"result\":{\"exits\":{\"io\":3}}}");
	x->machine.rc = -EIO;
	assert_string_equal(
		ask(fd, "{\"verb\":\"reset\"}\n"), "{\"ok\":false,\"error\":\"the fake refuses\"}");
	assert_string_equal(ask(fd, "{\"verb\":\"kill\"}\n"), "{\"ok\":true,\"result\":{}}");
	assert_int_equal(x->machine.end, END_KILLED);
	assert_string_equal(ask(fd, "{\"verb\":\"kill\"}\n"),
		"{\"ok\":false,\"error\":\"kill: not while the machine is ended\"}");
	close(fd);
}

/* Each verb in each state is permitted exactly where the machine's own rules permit it. */
static void every_state(void **state)
{
	static const char *const t[][3] = {
		/* when, and the arguments that it takes */
		{"status", "crpe"},
		{"stats", "crpe"},
		{"pause", "r"},
		{"resume", "p"},
		{"reset", "rp"},
		{"power-button", "r"},
		{"kill", "crp"},
		{"resize-disk", "rp", "{\"id\":\"data\"}"},
		{"limit-disk", "rp", "{\"id\":\"data\"}"},
		{"limit-nic", "rp", "{\"id\":\"data\"}"},
		{"link", "rp", "{\"state\":\"up\"}"},
		{"attach-disk", "rp", "{\"disk\":\"path=x\"}"},
		{"mirror-disk", "rp", "{\"id\":\"data\",\"disk\":\"path=x\"}"},
		{"commit-disk", "rp", "{\"id\":\"data\",\"disk\":\"path=x\"}"},
		{"snapshot-disk", "rp", "{\"id\":\"data\",\"disk\":\"path=x\"}"},
		{"attach-nic", "rp", "{\"nic\":\"none\"}"}, /* which it refuses */
		{"detach", "rp", "{\"id\":\"data\"}"},
	};
	struct fixture *x = *state;
	unsigned n;

	api_verbs(&n);
	assert_int_equal(n, ARRAY_SIZE(t));
	for (unsigned i = 0; i < 4 * n; i++) {
		const struct api_verb *verb = api_find(t[i / 4][0]);
		json_t *result, *args = t[i / 4][2] ? json_loads(t[i / 4][2], 0, NULL) : NULL;
		/* An image, and a socket for a copy. */
		unsigned image = strstr(t[i / 4][2] ? t[i / 4][2] : "", "path=x") != NULL;
		bool copies =
			!strcmp(verb->name, "mirror-disk") || !strcmp(verb->name, "commit-disk");
		struct api_fds fds = {.count = image + copies};

		for (unsigned f = 0; f < fds.count; f++)
			fds.fd[f] = dup(STDERR_FILENO);
		x->machine = (struct machine){.state = (enum machine_state)(i % 4)};
		assert_int_equal(api_run(&x->api, verb, args, &fds, &result),
			!strchr(t[i / 4][1], "crpe"[i % 4])     ? -EBUSY
			: strcmp(verb->name, "attach-nic") != 0 ? 0
								: -EINVAL);
		json_decref(result);
		json_decref(args);
	}
}

static void status(void **state)
{
	struct fixture *x = *state;
	int fd = dial(x);
	json_t *r = NULL;
	char *disk;

	assert_int_equal(api_client_call(fd, "status", NSEC_PER_SEC * 5, &r), 0);
	assert_string_equal(json_string_value(json_object_get(r, "name")), "vm");
	assert_string_equal(json_string_value(json_object_get(r, "state")), "running");
	assert_int_equal(json_integer_value(json_object_get(r, "cpus")), 2);
	assert_int_equal(json_integer_value(json_object_get(r, "memory")), MIB(128));
	assert_int_equal(json_integer_value(json_object_get(r, "pid")), getpid());
	assert_null(json_object_get(r, "why"));
	disk = json_dumps(json_array_get(json_object_get(r, "disks"), 0), JSON_COMPACT);
	assert_string_equal(disk,
		"{\"id\":\"data\",\"path\":\"dir/data.img\",\"size\":8388608,"
		"\"read-only\":false,\"detaching\":false,\"format\":\"raw\",\"overlay\":\"none\","
		"\"cache\":\"writeback\",\"engine\":\"io_uring\","
		"\"address\":\"mmio 0xd0000000\",\"on-error\":\"stop\",\"errors\":3,\"held\":2,"
		"\"limits\":{\"bw\":0,\"bw-burst\":0,\"iops\":0,\"iops-burst\":0}}");
	free(disk);
	disk = json_dumps(json_object_get(r, "nics"), JSON_COMPACT);
	assert_string_equal(disk, "[{\"id\":\"net0\"}]");
	free(disk);
	json_decref(r);
	x->machine.state = MACHINE_PAUSED;
	x->machine.why = "disk data: no room";
	assert_int_equal(api_client_call(fd, "status", NSEC_PER_SEC * 5, &r), 0);
	assert_string_equal(json_string_value(json_object_get(r, "why")), "disk data: no room");
	json_decref(r);
	x->machine.state = MACHINE_RUNNING;
	assert_int_equal(api_client_call(fd, "resume", NSEC_PER_SEC * 5, NULL), -EPROTO);
	assert_string_equal(last_error(), "resume: not while the machine is running");
	close(fd);
}

static void garbage(void **state)
{
	static const char *const lines[] = {"hello\n", "{}\n", "[]\n", "{\"verb\":1}\n",
		"{\"verb\":\"nope\"}\n", "{\"verb\":\"pause\",\"now\":1}\n", "{\"verb\":\"pau\n",
		"\xff\xfe\n", "{\"verb\":\"pause\",\"verb\":\"pause\"}\n",
		"{\"verb\":\"pause\\u0000\"}\n", "GET / HTTP/1.1\r\n"};
	/* A name that the message cuts in the middle of a character. */
	static const char cut[] =
		"{\"verb\":"
		"\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\xc3\xa9\"}\n";
	struct fixture *x = *state;
	int fd = dial(x);

	for (unsigned i = 0; i < ARRAY_SIZE(lines); i++)
		assert_memory_equal(ask(fd, lines[i]), "{\"ok\":false,\"error\":\"", 21);
	assert_string_equal(ask(fd, cut), "{\"ok\":false,\"error\":\"bad request\"}");
	assert_int_equal(x->machine.calls, 0);
	/* Empty lines are no requests, and the connection is still of use. */
	assert_memory_equal(ask(fd, "\n \r\n{\"verb\":\"status\"}\n"), "{\"ok\":true", 10);
	close(fd);
}

static void arguments(void **state)
{
	static const struct {
		const char *args, *error;
	} bad[] = {
		{"", "id: is missing"},
		{",\"args\":{}", "id: is missing"},
		{",\"args\":[]", "\\\"args\\\" must be an object"},
		{",\"args\":null", "\\\"args\\\" must be an object"},
		{",\"args\":{\"id\":1}", "id: must be a string"},
		{",\"args\":{\"id\":null}", "id: must be a string, a number or a boolean"},
		{",\"args\":{\"id\":[\"a\"]}", "id: must be a string, a number or a boolean"},
		{",\"args\":{\"id\":\"a\",\"x\":1}", "unknown field \\\"x\\\""},
		{",\"args\":{\"id\":\"a\"}", "it has no disk a"},
	};
	struct fixture *x = *state;
	int fd = dial(x);

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		char request[128], answer[192];

		snprintf(request, sizeof(request), "{\"verb\":\"resize-disk\"%s}\n", bad[i].args);
		snprintf(answer, sizeof(answer), "{\"ok\":false,\"error\":\"%s%s\"}",
			i == ARRAY_SIZE(bad) - 1 ? "" : "resize-disk: ", bad[i].error);
		assert_string_equal(ask(fd, request), answer);
	}
	assert_string_equal(ask(fd, "{\"verb\":\"pause\",\"args\":{\"id\":\"a\"}}\n"),
		"{\"ok\":false,\"error\":\"pause: unknown field \\\"id\\\"\"}");
	assert_string_equal(ask(fd, "{\"verb\":\"pause\",\"args\":{},\"id\":1}\n"),
		"{\"ok\":true,\"result\":{},\"id\":1}");
	assert_string_equal(ask(fd, "{\"verb\":\"resize-disk\",\"args\":{\"id\":\"data\"}}\n"),
		"{\"ok\":true,\"result\":{\"size\":8388608}}");
	close(fd);
}

static const char *limit(int fd, const char *keys)
{
	char request[192];

	snprintf(request, sizeof(request),
		"{\"verb\":\"limit-disk\",\"args\":{\"id\":\"data\"%s%s}}\n", *keys ? "," : "",
		keys);
	return ask(fd, request);
}

#define LIMITS(bw, bw_burst, iops, iops_burst)                                                     \
	"{\"ok\":true,\"result\":{\"bw\":" bw ",\"bw-burst\":" bw_burst ",\"iops\":" iops          \
	",\"iops-burst\":" iops_burst "}}"

static void limits(void **state)
{
	struct fixture *x = *state;
	int fd = dial(x);

	assert_string_equal(limit(fd, ""), LIMITS("0", "0", "0", "0"));
	assert_string_equal(limit(fd, "\"bw\":\"8K\",\"bw-burst\":\"1M\""),
		LIMITS("8192", "1048576", "0", "0"));
	assert_string_equal(limit(fd, "\"iops\":100"), LIMITS("8192", "1048576", "100", "0"));
	assert_string_equal(
		limit(fd, "\"iops-burst\":7,\"bw\":\"9B\""), LIMITS("9", "1048576", "100", "7"));
	assert_string_equal(limit(fd, "\"bw\":0"), LIMITS("0", "0", "100", "7"));
	assert_string_equal(limit(fd, "\"iops\":0"), LIMITS("0", "0", "0", "0"));
	assert_string_equal(limit(fd, "\"iops\":-1"),
		"{\"ok\":false,\"error\":\"limit-disk: iops -1: must be a number\"}");
	x->machine.rc = -EINVAL;
	assert_string_equal(
		limit(fd, ""), "{\"ok\":false,\"error\":\"limit-disk: the fake refuses\"}");
	close(fd);
}

static void nic_limits(void **state)
{
	struct fixture *x = *state;
	int fd = dial(x);

	assert_string_equal(ask(fd, "{\"verb\":\"limit-nic\",\"args\":{\"id\":\"data\",\"tx-bw\":"
				    "\"8K\",\"rx-pps\":9,\"rx-pps-burst\":3}}\n"),
		"{\"ok\":true,\"result\":{\"tx-bw\":8192,\"tx-bw-burst\":0,\"tx-pps\":0,\"tx-pps-"
		"burst\":0,"
		"\"rx-bw\":0,\"rx-bw-burst\":0,\"rx-pps\":9,\"rx-pps-burst\":3}}");
	assert_int_equal(x->machine.nic_limits.tx.bandwidth, 8192);
	assert_string_equal(
		ask(fd, "{\"verb\":\"limit-nic\",\"args\":{\"id\":\"data\",\"rx-pps\":0}}\n"),
		"{\"ok\":true,\"result\":{\"tx-bw\":8192,\"tx-bw-burst\":0,\"tx-pps\":0,\"tx-pps-"
		"burst\":0,"
		"\"rx-bw\":0,\"rx-bw-burst\":0,\"rx-pps\":0,\"rx-pps-burst\":0}}");
	close(fd);
}

static void links(void **state)
{
	struct fixture *x = *state;
	int fd = dial(x);

	assert_string_equal(ask(fd, "{\"verb\":\"link\",\"args\":{\"state\":\"down\"}}\n"),
		"{\"ok\":true,\"result\":{}}");
	assert_string_equal(x->machine.link, "- down");
	assert_string_equal(
		ask(fd, "{\"verb\":\"link\",\"args\":{\"state\":\"up\",\"id\":\"net1\"}}\n"),
		"{\"ok\":true,\"result\":{}}");
	assert_string_equal(x->machine.link, "net1 up");
	assert_string_equal(ask(fd, "{\"verb\":\"link\",\"args\":{\"state\":\"off\"}}\n"),
		"{\"ok\":false,\"error\":\"link: state off: must be one of down, up\"}");
	assert_string_equal(ask(fd, "{\"verb\":\"link\"}\n"),
		"{\"ok\":false,\"error\":\"link: state: is missing\"}");
	assert_int_equal(x->machine.calls, 2);
	close(fd);
}

/* ---- descriptors ---- */

/* `n` descriptors of one pipe's writing end: its other end says when all of them are closed. */
static int make_fds(int *fds, unsigned n)
{
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	fds[0] = ends[1];
	for (unsigned i = 1; i < n; i++)
		fds[i] = dup(ends[1]);
	return ends[0];
}

static void send_fds(int fd, const char *text, const int *fds, unsigned n)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE((API_FDS_MAX + 1) * sizeof(int))] = {0};
	struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = CMSG_SPACE(n * sizeof(int))};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);

	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(h), fds, n * sizeof(int));
	assert_int_equal(sendmsg(fd, &m, MSG_NOSIGNAL), strlen(text));
	for (unsigned i = 0; i < n; i++)
		close(fds[i]);
}

/* Waits until nobody has one of the descriptors. */
static void all_closed(int end)
{
	struct pollfd p = {.fd = end, .events = POLLIN};

	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_true(p.revents & POLLHUP);
	close(end);
}

/* A disk comes with as many descriptors as it has files. */
/* The last of a copy's descriptors is its socket; the others are the image's. */
static void disk_jobs(void **state)
{
	static const struct {
		const char *verb;
		unsigned fds;
		const char *error; /* NULL: it goes well */
		enum disk_job_kind kind;
	} t[] = {
		{"mirror-disk", 3, NULL, DISK_JOB_MIRROR},
		{"commit-disk", 2, NULL, DISK_JOB_COMMIT},
		{"snapshot-disk", 2, NULL, DISK_JOB_SNAPSHOT},
		{"mirror-disk", 1, "the image's descriptors and a socket are wanted", 0},
		{"snapshot-disk", 3, "3 descriptors have come with it", 0},
	};
	struct fixture *x = *state;
	int fd = dial(x), fds[4], end;
	char request[256];

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		x->machine.calls = 0;
		snprintf(request, sizeof(request),
			"{\"verb\":\"%s\",\"args\":{\"id\":\"data\",\"disk\":\"path=x\"}}\n",
			t[i].verb);
		end = make_fds(fds, t[i].fds);
		send_fds(fd, request, fds, t[i].fds);
		assert_non_null(strstr(read_line(fd), t[i].error ? t[i].error : "\"result\""));
		all_closed(end);
		assert_int_equal(x->machine.calls, !t[i].error);
		if (!t[i].error)
			assert_int_equal(x->machine.job, t[i].kind);
	}
	close(fd);
}

static void attach_disk(void **state)
{
	static const struct {
		const char *args;
		unsigned fds;
		const char *error;
	} bad[] = {
		{"", 1, "disk: is missing"},
		{",\"args\":{\"disk\":\"ro\"}", 1, "ro: path: must name the image's file"},
		{",\"args\":{\"disk\":\"path=x\",\"chain\":\"x\"}", 1, "chain x: must be"},
		{",\"args\":{\"disk\":\"path=x\"}", 0, "disk x: 0 descriptors have come with it"},
		{",\"args\":{\"disk\":\"path=x\"}", 2, "disk x: 2 descriptors have come with it"},
		{",\"args\":{\"disk\":\"path=x\",\"chain\":4}", 3, "disk x: 3 descriptors"},
		{",\"args\":{\"disk\":\"path=x\",\"chain\":1,\"overlay\":1}", 2, "disk x: 2"},
		{",\"args\":{\"disk\":\"path=x,overlay=/tmp\"}", 1, "disk x: 1 descriptors"},
		{",\"args\":{\"disk\":\"path=x,overlay=y\",\"overlay\":2}", 3, "disk x: 3"},
		{",\"args\":{\"disk\":\"path=x\"}", 3, "a descriptor is no socket of kvick-unpack"},
	};
	struct fixture *x = *state;
	int fd = dial(x), fds[8], end;
	char request[256];

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(request, sizeof(request), "{\"verb\":\"attach-disk\"%s}\n", bad[i].args);
		end = make_fds(fds, MAX(bad[i].fds, 1u));
		if (bad[i].fds)
			send_fds(fd, request, fds, bad[i].fds);
		else
			say(fd, request);
		if (!bad[i].fds)
			close(fds[0]);
		assert_non_null(strstr(read_line(fd), bad[i].error));
		all_closed(end);
		assert_int_equal(x->machine.calls, 0);
	}
	end = make_fds(fds, 5);
	send_fds(fd,
		"{\"verb\":\"attach-disk\",\"args\":{\"disk\":\"path=x,id=data,overlay=y\","
		"\"chain\":3,\"overlay\":2,\"kept\":true}}\n",
		fds, 5);
	assert_string_equal(read_line(fd), "{\"ok\":true,\"result\":{}}");
	assert_string_equal(x->machine.attached, "data");
	assert_int_equal(x->machine.files.count, 3);
	assert_true(x->machine.files.overlay.fd > 0 && x->machine.files.overlay.lock > 0 &&
		    x->machine.files.overlay.kept);
	all_closed(end);
	x->machine.rc = -EBUSY;
	end = make_fds(fds, 1);
	send_fds(fd, "{\"verb\":\"attach-disk\",\"args\":{\"disk\":\"path=x\"}}\n", fds, 1);
	assert_string_equal(read_line(fd), "{\"ok\":false,\"error\":\"the fake refuses\"}");
	all_closed(end);
	close(fd);
}

static void detach(void **state)
{
	struct fixture *x = *state;
	int fd = dial(x), ends[2];
	char byte;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	send_fds(fd, "{\"verb\":\"detach\",\"args\":{\"id\":\"data\"}}\n", &ends[1], 1);
	assert_string_equal(read_line(fd), "{\"ok\":true,\"result\":{}}");
	assert_int_equal(read(ends[0], &byte, 1), 1);
	all_closed(ends[0]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	send_fds(fd, "{\"verb\":\"detach\",\"args\":{\"id\":\"none\"}}\n", &ends[1], 1);
	assert_string_equal(read_line(fd), "{\"ok\":false,\"error\":\"it has no disk none\"}");
	all_closed(ends[0]);
	assert_string_equal(ask(fd, "{\"verb\":\"detach\",\"args\":{\"id\":\"data\"}}\n"),
		"{\"ok\":true,\"result\":{}}");
	close(fd);
}

#define PAUSE_REFUSED(n)                                                                           \
	"{\"ok\":false,\"error\":\"pause: " #n " descriptors have come with it, where it takes "   \
	"0\"}"

static void descriptors_not_wanted(void **state)
{
	struct fixture *x = *state;
	int fd = dial(x), fds[8], end;

	end = make_fds(fds, 4);
	send_fds(fd, "{\"verb\":\"pause\"}\n", fds, 4);
	assert_string_equal(read_line(fd), PAUSE_REFUSED(4));
	all_closed(end);
	/* In two pieces, and the second is what has them. */
	end = make_fds(fds, 2);
	say(fd, "{\"verb\":\"pau");
	send_fds(fd, "se\"}\n", fds, 2);
	assert_string_equal(read_line(fd), PAUSE_REFUSED(2));
	all_closed(end);
	/* Both have some. */
	end = make_fds(fds, 1);
	send_fds(fd, "{\"verb\":", fds, 1);
	close(end);
	end = make_fds(fds, 3);
	send_fds(fd, "\"pause\"}\n", fds, 3);
	assert_string_equal(read_line(fd), PAUSE_REFUSED(4));
	all_closed(end);
	/* What is no request, no verb, no line. */
	end = make_fds(fds, 1);
	send_fds(fd, "nonsense\n", fds, 1);
	assert_memory_equal(read_line(fd), "{\"ok\":false", 11);
	all_closed(end);
	end = make_fds(fds, 1);
	send_fds(fd, "{\"verb\":\"nope\"}\n", fds, 1);
	assert_memory_equal(read_line(fd), "{\"ok\":false", 11);
	all_closed(end);
	end = make_fds(fds, 1);
	send_fds(fd, " \n", fds, 1);
	all_closed(end);
	/* The client leaves in the middle of a request. */
	end = make_fds(fds, 3);
	send_fds(fd, "{\"verb\":", fds, 3);
	close(fd);
	all_closed(end);
	assert_int_equal(x->machine.calls, 0);
}

static void too_many_descriptors(void **state)
{
	const unsigned half = API_FDS_MAX / 2 + 1;
	struct fixture *x = *state;
	int fd = dial(x), fds[API_FDS_MAX + 1], end;

	end = make_fds(fds, API_FDS_MAX + 1);
	send_fds(fd, "{\"verb\":\"pause\"}\n", fds, API_FDS_MAX + 1);
	assert_memory_equal(read_line(fd), "{\"ok\":false", 11);
	assert_string_equal(read_line(fd), "");
	all_closed(end);
	close(fd);
	/* Piece by piece. */
	fd = dial(x);
	end = make_fds(fds, half);
	send_fds(fd, "{\"verb\":", fds, half);
	close(end);
	end = make_fds(fds, half);
	send_fds(fd, "\"pause\"}\n", fds, half);
	assert_string_equal(read_line(fd),
		"{\"ok\":false,\"error\":\"a request has at most 248 descriptors\"}");
	assert_string_equal(read_line(fd), "");
	all_closed(end);
	close(fd);
	/* Piece by piece, without an end. */
	fd = dial(x);
	for (unsigned i = 0; i < 3; i++) {
		end = make_fds(fds, API_FDS_MAX);
		send_fds(fd, " ", fds, API_FDS_MAX);
		if (i < 2)
			close(end);
	}
	assert_memory_equal(read_line(fd), "{\"ok\":false", 11);
	all_closed(end);
	close(fd);
	assert_int_equal(x->machine.calls, 0);
}

struct held {
	struct fixture *x;
	int until; /* the end of a pipe */
};

static void wait_until(void *arg)
{
	char byte;

	assert_int_equal(read(*(int *)arg, &byte, 1), 1);
}

static void *hold_loop(void *arg)
{
	struct held *h = arg;

	loop_call(h->x->loop, wait_until, &h->until);
	return NULL;
}

/* All are there before the server reads any: each request has its own. */
static void descriptors_of_neighbours(void **state)
{
	struct fixture *x = *state;
	struct held held = {.x = x};
	int fd = dial(x), fds[8], go[2], first, last;
	pthread_t thread;

	assert_int_equal(pipe(go), 0);
	held.until = go[0];
	pthread_create(&thread, NULL, hold_loop, &held);
	say(fd, "{\"verb\":\"pause\",\"id\":1}\n");
	first = make_fds(fds, 2);
	send_fds(fd, "{\"verb\":\"resume\",\"id\":2}\n", fds, 2);
	say(fd, "{\"verb\":\"resume\",\"id\":3}\n{\"verb\":\"stats\"");
	last = make_fds(fds, 1);
	send_fds(fd, ",\"id\":4}\n", fds, 1);
	assert_int_equal(write(go[1], "x", 1), 1);
	pthread_join(thread, NULL);
	assert_string_equal(read_line(fd), "{\"ok\":true,\"result\":{},\"id\":1}");
	assert_string_equal(read_line(fd),
		"{\"ok\":false,\"error\":\"resume: 2 descriptors have come with it, "
		"where it takes 0\",\"id\":2}");
	assert_string_equal(read_line(fd), "{\"ok\":true,\"result\":{},\"id\":3}");
	assert_string_equal(read_line(fd),
		"{\"ok\":false,\"error\":\"stats: 1 descriptors have come with it, "
		"where it takes 0\",\"id\":4}");
	all_closed(first);
	all_closed(last);
	close(go[0]);
	close(go[1]);
	close(fd);
}

static int take_second(struct api_request *r)
{
	assert_int_equal(r->fds->count, 2);
	*(int *)r->api->arg = r->fds->fd[1];
	r->fds->fd[1] = -1;
	return 0;
}

/* A verb that takes one of two; the other is closed. */
static void descriptor_taken(void **state)
{
	static const struct api_verb verb = {"take", 1u << MACHINE_RUNNING, 2, take_second, "take"};
	struct fixture *x = *state;
	struct api_fds fds = {.count = 2};
	int taken = -1, ends[2];
	json_t *result;

	ends[0] = make_fds(&fds.fd[0], 1);
	ends[1] = make_fds(&fds.fd[1], 1);
	x->api.arg = &taken;
	assert_int_equal(api_run(&x->api, &verb, NULL, &fds, &result), 0);
	json_decref(result);
	all_closed(ends[0]);
	assert_int_equal(poll(&(struct pollfd){.fd = ends[1], .events = POLLIN}, 1, 20), 0);
	close(taken);
	all_closed(ends[1]);
	fds.count = 1;
	ends[0] = make_fds(fds.fd, 1);
	x->machine.state = MACHINE_PAUSED;
	assert_int_equal(api_run(&x->api, &verb, NULL, &fds, &result), -EBUSY);
	all_closed(ends[0]);
}

static void client_sends_all(void **state)
{
	struct fixture *x = *state;
	json_t *args = json_pack("{s:s}", "id", "data"), *result = NULL;
	struct api_question q = {.verb = "resize-disk", .args = args};
	int fd = dial(x), fds[2], end = make_fds(fds, 2);
	char *text;

	assert_int_equal(api_client_ask(fd, &q, NSEC_PER_SEC * 5, &result), 0);
	assert_int_equal(json_integer_value(json_object_get(result, "size")), MIB(8));
	json_decref(result);
	q.fds = fds;
	q.fd_count = 2;
	assert_int_equal(api_client_ask(fd, &q, NSEC_PER_SEC * 5, NULL), -EPROTO);
	assert_string_equal(
		last_error(), "resize-disk: 2 descriptors have come with it, where it takes 0");
	close(fds[0]);
	close(fds[1]);
	all_closed(end);
	/* More than a socket takes at once. */
	text = calloc(1, KIB(60));
	memset(text, 'x', KIB(60) - 1);
	json_object_set_new(args, "id", json_string(text));
	q.fd_count = 0;
	assert_int_equal(api_client_ask(fd, &q, NSEC_PER_SEC * 5, NULL), -EPROTO);
	assert_memory_equal(last_error(), "it has no disk xxxx", 19);
	free(text);
	json_decref(args);
	close(fd);
}

static void pieces_and_batches(void **state)
{
	struct fixture *x = *state;
	int fd = dial(x);

	assert_int_equal(send(fd, "{\"verb\":", 8, 0), 8);
	assert_int_equal(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 20), 0);
	assert_string_equal(
		ask(fd, "\"pause\"}\n{\"verb\":\"resume\"}\n"), "{\"ok\":true,\"result\":{}}");
	assert_string_equal(read_line(fd), "{\"ok\":true,\"result\":{}}");
	assert_int_equal(x->machine.calls, 2);
	close(fd);
}

static void longest_line(void **state)
{
	struct fixture *x = *state;
	char *line = malloc(KIB(80));
	int fd = dial(x);
	size_t sent = 0;

	memset(line, ' ', KIB(80));
	memcpy(line, "{\"verb\":\"status\"}", 17);
	line[KIB(64) - 1] = '\n';
	while (sent < KIB(64))
		sent += (size_t)send(fd, line + sent, KIB(64) - sent, 0);
	assert_memory_equal(read_line(fd), "{\"ok\":true", 10);
	line[KIB(64) - 1] = ' ';
	for (sent = 0; sent < KIB(80);) {
		ssize_t n = send(fd, line + sent, KIB(80) - sent, MSG_NOSIGNAL);

		if (n <= 0)
			break;
		sent += (size_t)n;
	}
	assert_string_equal(
		read_line(fd), "{\"ok\":false,\"error\":\"a request has at most 65536 bytes\"}");
	assert_string_equal(read_line(fd), "");
	close(fd);
	free(line);
}

/* Also where its end has come with the rest. */
static void too_long_a_line(void **state)
{
	struct fixture *x = *state;
	char *line = malloc(KIB(70));
	int fd = dial(x);

	memset(line, ' ', KIB(70));
	memcpy(line, "{\"verb\":\"status\"}", 17);
	line[KIB(70) - 1] = '\n';
	assert_int_equal(send(fd, line, KIB(70), 0), KIB(70));
	assert_string_equal(
		read_line(fd), "{\"ok\":false,\"error\":\"a request has at most 65536 bytes\"}");
	assert_string_equal(read_line(fd), "");
	close(fd);
	free(line);
}

/* One that asks and never reads stops itself, and no one else. */
static void deaf_client(void **state)
{
	static const char request[] = "{\"verb\":\"status\"}\n";
	struct fixture *x = *state;
	int deaf = dial(x), fd = dial(x);
	unsigned asked = 0;

	while (send(deaf, request, sizeof(request) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) ==
		sizeof(request) - 1)
		asked++;
	assert_true(asked > 100);
	assert_memory_equal(ask(fd, request), "{\"ok\":true", 10);
	/* It may change its mind. */
	for (unsigned i = 0; i < asked; i++)
		assert_memory_equal(read_line(deaf), "{\"ok\":true", 10);
	close(deaf);
	close(fd);
}

static void many_clients(void **state)
{
	struct fixture *x = *state;
	int fds[100];
	unsigned served = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = dial(x);
	for (unsigned i = 0; i < ARRAY_SIZE(fds); i++) {
		send(fds[i], "{\"verb\":\"status\"}\n", 18, MSG_NOSIGNAL);
		served += !strncmp(read_line(fds[i]), "{\"ok\":true", 10);
		close(fds[i]);
	}
	/* 64 at once; those beyond find the door shut, or room that an earlier one has left. */
	assert_in_range(served, 64, ARRAY_SIZE(fds));
	fds[0] = dial(x);
	assert_memory_equal(ask(fds[0], "{\"verb\":\"status\"}\n"), "{\"ok\":true", 10);
	close(fds[0]);
}

static int press(void *arg)
{
	++*(unsigned *)arg;
	return 0;
}

static void own_power_button(void **state)
{
	struct fixture *x = *state;
	struct api_fds fds = {0};
	unsigned pressed = 0;
	json_t *r;

	x->api.power_button = press;
	x->api.arg = &pressed;
	assert_int_equal(api_call(&x->api, "power-button", NULL, &fds, &r), 0);
	json_decref(r);
	assert_int_equal(pressed, 1);
	assert_int_equal(x->machine.calls, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(verbs_and_states, setup, teardown),
		cmocka_unit_test_setup_teardown(every_state, setup, teardown),
		cmocka_unit_test_setup_teardown(status, setup, teardown),
		cmocka_unit_test_setup_teardown(garbage, setup, teardown),
		cmocka_unit_test_setup_teardown(arguments, setup, teardown),
		cmocka_unit_test_setup_teardown(limits, setup, teardown),
		cmocka_unit_test_setup_teardown(nic_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(links, setup, teardown),
		cmocka_unit_test_setup_teardown(attach_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(disk_jobs, setup, teardown),
		cmocka_unit_test_setup_teardown(detach, setup, teardown),
		cmocka_unit_test_setup_teardown(descriptors_not_wanted, setup, teardown),
		cmocka_unit_test_setup_teardown(too_many_descriptors, setup, teardown),
		cmocka_unit_test_setup_teardown(descriptors_of_neighbours, setup, teardown),
		cmocka_unit_test_setup_teardown(descriptor_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(client_sends_all, setup, teardown),
		cmocka_unit_test_setup_teardown(pieces_and_batches, setup, teardown),
		cmocka_unit_test_setup_teardown(longest_line, setup, teardown),
		cmocka_unit_test_setup_teardown(too_long_a_line, setup, teardown),
		cmocka_unit_test_setup_teardown(deaf_client, setup, teardown),
		cmocka_unit_test_setup_teardown(many_clients, setup, teardown),
		cmocka_unit_test_setup_teardown(own_power_button, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
