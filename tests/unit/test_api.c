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

static const char *ask(int fd, const char *request)
{
	assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
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
	static const char *const permitted[][2] = {{"status", "crpe"}, {"stats", "crpe"},
		{"pause", "r"}, {"resume", "p"}, {"reset", "rp"}, {"power-button", "r"},
		{"kill", "crp"}};
	struct fixture *x = *state;
	unsigned n;

	api_verbs(&n);
	assert_int_equal(n, ARRAY_SIZE(permitted));
	for (unsigned v = 0; v < n; v++) {
		for (unsigned s = 0; s < 4; s++) {
			json_t *result;
			int rc;

			x->machine = (struct machine){.state = (enum machine_state)s};
			rc = api_call(&x->api, permitted[v][0], &result);
			assert_int_equal(rc, strchr(permitted[v][1], "crpe"[s]) ? 0 : -EBUSY);
			json_decref(rc ? NULL : result);
		}
	}
}

static void status(void **state)
{
	struct fixture *x = *state;
	int fd = dial(x);
	json_t *r = NULL;

	assert_int_equal(api_client_call(fd, "status", NSEC_PER_SEC * 5, &r), 0);
	assert_string_equal(json_string_value(json_object_get(r, "name")), "vm");
	assert_string_equal(json_string_value(json_object_get(r, "state")), "running");
	assert_int_equal(json_integer_value(json_object_get(r, "cpus")), 2);
	assert_int_equal(json_integer_value(json_object_get(r, "memory")), MIB(128));
	assert_int_equal(json_integer_value(json_object_get(r, "pid")), getpid());
	json_decref(r);
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
	unsigned pressed = 0;
	json_t *r;

	x->api.power_button = press;
	x->api.arg = &pressed;
	assert_int_equal(api_call(&x->api, "power-button", &r), 0);
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
		cmocka_unit_test_setup_teardown(pieces_and_batches, setup, teardown),
		cmocka_unit_test_setup_teardown(longest_line, setup, teardown),
		cmocka_unit_test_setup_teardown(deaf_client, setup, teardown),
		cmocka_unit_test_setup_teardown(many_clients, setup, teardown),
		cmocka_unit_test_setup_teardown(own_power_button, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
