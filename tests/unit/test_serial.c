// SPDX-License-Identifier: MIT
// The serial port: what drivers probe, interrupts, flow control both ways, slow and dead terminals.
#include "tests/unit/test.h"

#include "base/loop.h"
#include "base/stream.h"
#include "base/util.h"
#include "hw/layout.h"
#include "hw/serial.h"
#include "tests/unit/ports.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <termios.h>

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };

#define DTR_RTS 0x03

struct fixture {
	struct bus bus;
	struct irq irq;
	struct loop *loop;
	struct serial *s;
	int in, out; /* the test's ends */
	int dev_in, dev_out;
	char seen[64];
	size_t seen_len;
};

static void observe(void *arg, const char *data, size_t len)
{
	struct fixture *f = arg;

	for (size_t i = 0; i < len; i++)
		if (f->seen_len < sizeof(f->seen))
			f->seen[f->seen_len++] = data[i];
}

static void create(struct fixture *f)
{
	struct serial_config cfg = {.pio = &f->bus,
		.irq = &f->irq,
		.loop = f->loop,
		.in_fd = f->dev_in,
		.out_fd = f->dev_out,
		.output = observe,
		.arg = f};

	assert_int_equal(serial_create(&f->s, &cfg), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int in[2], out[2];

	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	f->in = in[1];
	f->dev_in = in[0];
	f->out = out[0];
	f->dev_out = out[1];
	assert_int_equal(irq_init(&f->irq, NULL, GSI_COM1), 0);
	assert_int_equal(loop_create(&f->loop, "serial"), 0);
	create(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	serial_destroy(f->s);
	loop_destroy(f->loop);
	irq_finish(&f->irq, NULL);
	bus_finish(&f->bus);
	close(f->in);
	close(f->out);
	close(f->dev_in);
	close(f->dev_out);
	free(f);
	return 0;
}

static uint8_t get(struct fixture *f, unsigned reg)
{
	return in8(&f->bus, PORT_COM1 + reg);
}

static void set(struct fixture *f, unsigned reg, uint8_t v)
{
	out8(&f->bus, PORT_COM1 + reg, v);
}

static void stop(void *arg)
{
	loop_stop(arg);
}

/* Lets the loop run for a while on this thread. */
static void run_ms(struct fixture *f, uint64_t ms)
{
	struct timer t = TIMER_INIT(stop, f->loop);

	loop_arm(f->loop, &t, ms * 1000000);
	assert_int_equal(loop_run(f->loop), 0);
}

/* The next byte of input, which may be one that the loop has yet to bring. */
static uint8_t next_byte(struct fixture *f)
{
	for (int i = 0; i < 100 && !(get(f, LSR) & 1); i++)
		run_ms(f, 1);
	assert_int_equal(get(f, LSR) & 0x03, 1);
	return get(f, DATA);
}

static size_t read_out(struct fixture *f, char *buf, size_t len)
{
	struct pollfd p = {.fd = f->out, .events = POLLIN};
	ssize_t n = poll(&p, 1, 0) == 1 ? read(f->out, buf, len) : 0;

	assert_true(n >= 0);
	return (size_t)n;
}

/* What Linux's autoconfig looks for before it calls a port a 16550A. */
static void test_probe(void **state)
{
	struct fixture *f = *state;

	set(f, IER, 0);
	assert_int_equal(get(f, IER), 0);
	set(f, IER, 0x0f);
	assert_int_equal(get(f, IER), 0x0f);
	set(f, IER, 0xf0);
	assert_int_equal(get(f, IER), 0);

	set(f, MCR, 0x10 | 0x0a);
	assert_int_equal(get(f, MSR) & 0xf0, 0x90);
	set(f, MCR, 0);
	assert_int_equal(get(f, MSR) & 0xf0, 0xb0);

	set(f, LCR, 0xbf);
	set(f, IIR, 0);
	set(f, LCR, 0);
	set(f, IIR, 0x01);
	assert_int_equal(get(f, IIR) >> 6, 3);
	set(f, IIR, 0x21); /* a 16750 would show bit 5 */
	assert_int_equal(get(f, IIR) >> 5, 6);

	set(f, SCR, 0x5a);
	assert_int_equal(get(f, SCR), 0x5a);
	set(f, LCR, 0x83);
	set(f, DATA, 1);
	set(f, IER, 2);
	assert_int_equal(get(f, DATA), 1);
	assert_int_equal(get(f, IER), 2);
	set(f, LCR, 3);
	assert_int_equal(get(f, LCR), 3);
	assert_int_equal(get(f, LSR), 0x60);
	assert_int_equal(f->seen_len, 0);
}

/* Linux's test for transmitters that do not report "empty" anew when that is enabled again. */
static void test_thre(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 2; i++) {
		edges(&f->irq);
		set(f, IER, 0x02);
		assert_int_equal(edges(&f->irq), 1);
		assert_int_equal(get(f, IIR), 0x02);
		assert_int_equal(get(f, IIR), 0x01); /* reading it acknowledges */
		set(f, IER, 0);
	}
	set(f, IER, 0x02);
	get(f, IIR);
	edges(&f->irq);
	set(f, DATA, 'x');
	assert_int_equal(edges(&f->irq), 1);
	assert_int_equal(get(f, IIR), 0x02);
	assert_int_equal(f->seen[0], 'x');
}

static void test_output(void **state)
{
	struct fixture *f = *state;
	const char *text = "hello, world\n";
	char buf[64];

	for (const char *p = text; *p; p++)
		set(f, DATA, (uint8_t)*p);
	assert_int_equal(read_out(f, buf, sizeof(buf)), 0);
	run_ms(f, 20);
	/* One write for all of it. */
	assert_int_equal(read_out(f, buf, sizeof(buf)), strlen(text));
	assert_memory_equal(buf, text, strlen(text));
	assert_memory_equal(f->seen, text, strlen(text));
	set(f, DATA, '!');
	assert_int_equal(serial_flush(f->s, -1), 0);
	assert_int_equal(read_out(f, buf, sizeof(buf)), 1);
	assert_int_equal(fcntl(f->dev_out, F_GETFL) & O_NONBLOCK, 0);
}

static void test_wide_access(void **state)
{
	struct fixture *f = *state;
	uint16_t v = 0x0f00 | 'w';
	char buf[8];

	assert_true(bus_write(&f->bus, PORT_COM1, &v, 2));
	assert_int_equal(get(f, IER), 0x0f);
	serial_flush(f->s, -1);
	assert_int_equal(read_out(f, buf, sizeof(buf)), 1);
	assert_int_equal(buf[0], 'w');
	assert_true(bus_read(&f->bus, PORT_COM1 + LCR, &v, 2));
	assert_int_equal(v, 0);
	assert_false(bus_read(&f->bus, PORT_COM1 + SCR, &v, 2));
}

/* A terminal that takes nothing: the guest is told to wait, never made to; then it goes on. */
static void test_slow_terminal(void **state)
{
	struct fixture *f = *state;
	static char buf[262144];
	size_t sent = 0, got = 0, n;
	uint8_t expect = 0;

	set(f, IER, 0x02);
	while (sent < sizeof(buf)) {
		if (!(get(f, LSR) & 0x20)) {
			run_ms(f, 3);
			if (!(get(f, LSR) & 0x20))
				break;
		}
		set(f, DATA, (uint8_t)sent++);
	}
	assert_true(sent > 65536 && sent < sizeof(buf)); /* the pipe's and the ring's size */
	get(f, IIR);
	edges(&f->irq);
	assert_int_equal(get(f, IIR), 0x01);
	assert_int_equal(get(f, LSR) & 0x60, 0);
	assert_int_equal(serial_flush(f->s, 1), -ETIMEDOUT);
	while (got < sent) {
		n = read_out(f, buf, sizeof(buf));
		for (size_t i = 0; i < n; i++)
			assert_int_equal((uint8_t)buf[i], expect++);
		got += n;
		run_ms(f, 2);
	}
	assert_int_equal(got, sent);
	assert_int_equal(get(f, LSR) & 0x60, 0x60);
	assert_true(edges(&f->irq) >= 1);
	assert_int_equal(get(f, IIR), 0x02);
}

static void test_dead_terminal(void **state)
{
	struct fixture *f = *state;

	close(f->out);
	f->out = open("/dev/null", O_RDONLY | O_CLOEXEC);
	for (int i = 0; i < 200000; i++) {
		set(f, DATA, 'd');
		if (i % 50000 == 10)
			run_ms(f, 3);
	}
	assert_int_equal(get(f, LSR) & 0x60, 0x60);
	assert_int_equal(serial_flush(f->s, -1), 0);
}

/* Input waits for a guest that wants it, and survives what drivers do when they open the port. */
static void test_input_waits(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(write(f->in, "ls\n", 3), 3);
	run_ms(f, 3);
	assert_int_equal(get(f, LSR) & 1, 0);
	get(f, DATA);
	set(f, IER, 0x05);
	assert_int_equal(get(f, LSR) & 1, 1);
	set(f, IIR, 0x01); /* switching the FIFO on clears it */
	set(f, IIR, 0x07);
	set(f, IIR, 0x81);
	set(f, MCR, DTR_RTS);
	assert_int_equal(get(f, DATA), 'l');
	assert_int_equal(get(f, DATA), 's');
	assert_int_equal(get(f, DATA), '\n');
	assert_int_equal(get(f, LSR) & 1, 0);
}

/* memtest86+ sets neither RTS nor an interrupt: it asks again and again. */
static void test_input_polled(void **state)
{
	struct fixture *f = *state;
	int polls = 0;

	assert_int_equal(write(f->in, "q", 1), 1);
	run_ms(f, 3);
	while (!(get(f, LSR) & 1) && polls < 100)
		polls++;
	assert_in_range(polls, 16, 18);
	assert_int_equal(get(f, DATA), 'q');
	/* Writing with a look before each byte is not polling. */
	serial_reset(f->s);
	assert_int_equal(write(f->in, "z", 1), 1);
	run_ms(f, 3);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(get(f, LSR), 0x60);
		set(f, DATA, 'o');
	}
}

static void test_input_interrupts(void **state)
{
	struct fixture *f = *state;
	char text[33] = "0123456789abcdefghijklmnopqrstuv";

	set(f, IIR, 0x81); /* trigger at 8 */
	set(f, IER, 0x01);
	set(f, MCR, DTR_RTS);
	assert_int_equal(write(f->in, "abc", 3), 3);
	run_ms(f, 3);
	assert_int_equal(edges(&f->irq), 1);
	assert_int_equal(get(f, IIR), 0xcc); /* below the trigger: time-out */
	assert_int_equal(get(f, DATA), 'a');
	assert_int_equal(get(f, IIR), 0xcc);
	get(f, DATA);
	get(f, DATA);
	assert_int_equal(get(f, IIR), 0xc1);
	assert_int_equal(write(f->in, text, 32), 32);
	run_ms(f, 3);
	assert_int_equal(get(f, IIR), 0xc4);
	for (int i = 0; i < 16; i++)
		assert_int_equal(get(f, DATA), text[i]);
	assert_int_equal(
		get(f, LSR) & 0x03, 0); /* the handler gets to return before there is more */
	assert_int_equal(edges(&f->irq), 1);
	run_ms(f, 3);
	assert_int_equal(edges(&f->irq), 1);
	for (int i = 16; i < 32; i++)
		assert_int_equal(get(f, DATA), text[i]);
	run_ms(f, 3);
	assert_int_equal(get(f, IIR), 0xc1);
	assert_int_equal(edges(&f->irq), 0);
}

/* On the loop's thread, as its watches want it. */
static void destroy_device(void *arg)
{
	struct fixture *f = arg;

	serial_destroy(f->s);
	f->s = NULL;
}

/* More than any buffer here: the writer waits, nothing is lost. */
static void *write_much(void *arg)
{
	struct fixture *f = arg;

	for (unsigned i = 0; i < 60000; i++) {
		uint8_t v = (uint8_t)(i * 7);

		if (write(f->in, &v, 1) != 1)
			return f;
	}
	return NULL;
}

static void test_input_flood(void **state)
{
	struct fixture *f = *state;
	pthread_t writer;
	void *failed;

	assert_int_equal(loop_spawn(f->loop, NULL, NULL), 0);
	set(f, IIR, 0x01);
	set(f, MCR, DTR_RTS);
	pthread_create(&writer, NULL, write_much, f);
	for (unsigned i = 0; i < 60000; i++) {
		while (!(get(f, LSR) & 1))
			;
		assert_int_equal(get(f, DATA), (uint8_t)(i * 7));
	}
	pthread_join(writer, &failed);
	assert_null(failed);
	loop_call(f->loop, destroy_device, f);
}

static void *just_write(void *arg)
{
	struct fixture *f = arg;

	for (unsigned i = 0; i < 400000; i++) {
		while (!(get(f, LSR) & 0x20))
			;
		set(f, DATA, (uint8_t)(i * 3));
	}
	return NULL;
}

/* A vCPU writes while the loop drains. */
static void test_output_flood(void **state)
{
	struct fixture *f = *state;
	static uint8_t buf[65536];
	pthread_t vcpu;
	unsigned got = 0;

	assert_int_equal(loop_spawn(f->loop, NULL, NULL), 0);
	pthread_create(&vcpu, NULL, just_write, f);
	while (got < 400000) {
		ssize_t n = read(f->out, buf, sizeof(buf));

		assert_true(n > 0);
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(buf[i], (uint8_t)(got++ * 3));
	}
	pthread_join(vcpu, NULL);
	loop_call(f->loop, destroy_device, f);
}

static void test_loopback(void **state)
{
	struct fixture *f = *state;
	char buf[8];

	set(f, IIR, 0x01);
	set(f, MCR, 0x10);
	for (int i = 0; i < 17; i++)
		set(f, DATA, (uint8_t)('a' + i));
	assert_int_equal(get(f, LSR), 0x63); /* the 17th overran */
	assert_int_equal(get(f, LSR), 0x61);
	for (int i = 0; i < 16; i++)
		assert_int_equal(get(f, DATA), 'a' + i);
	assert_int_equal(get(f, LSR), 0x60);
	serial_flush(f->s, -1);
	assert_int_equal(read_out(f, buf, sizeof(buf)), 0);
	assert_int_equal(f->seen_len, 0);
	/* OUT1 is the ring indicator there: its falling edge is a change. */
	get(f, MSR);
	set(f, IER, 0x08);
	set(f, MCR, 0x14);
	assert_int_equal(get(f, MSR), 0x40);
	edges(&f->irq);
	set(f, MCR, 0x10);
	assert_int_equal(edges(&f->irq), 1);
	assert_int_equal(get(f, IIR) & 0x0f, 0);
	assert_int_equal(get(f, MSR), 0x04);
	assert_int_equal(get(f, IIR) & 0x0f, 1);
}

static void test_input_entry(void **state)
{
	struct fixture *f = *state;
	uint8_t big[2000] = {'B', 'i', 'g'};
	size_t n;

	set(f, IIR, 0x01);
	set(f, MCR, DTR_RTS);
	assert_int_equal(serial_input(f->s, "hi", 2), 2);
	assert_int_equal(get(f, DATA), 'h');
	assert_int_equal(get(f, DATA), 'i');
	n = serial_input(f->s, big, sizeof(big));
	assert_true(n > 100 && n < sizeof(big));
	for (size_t i = 0; i < n; i++)
		assert_int_equal(next_byte(f), big[i]);
	assert_int_equal(get(f, LSR) & 1, 0);
}

static void test_file_input(void **state)
{
	struct fixture *f = *state;
	char path[] = "/tmp/test_serial.XXXXXX";
	int fd = mkstemp(path);

	unlink(path);
	for (int i = 0; i < 3000; i++)
		assert_int_equal(write(fd, &(char){(char)('A' + i % 26)}, 1), 1);
	lseek(fd, 0, SEEK_SET);
	serial_destroy(f->s);
	close(f->dev_in);
	f->dev_in = fd;
	create(f);
	set(f, MCR, DTR_RTS);
	set(f, IIR, 0x01);
	for (int i = 0; i < 3000; i++)
		assert_int_equal(next_byte(f), 'A' + i % 26);
	run_ms(f, 3);
	assert_int_equal(get(f, LSR) & 1, 0);
}

static void test_descriptors(void **state)
{
	struct fixture *f = *state;
	int kinds[4], pty[2], socks[2];
	struct termios raw;
	char buf[8];

	assert_int_equal(openpty(&pty[0], &pty[1], NULL, NULL, NULL), 0);
	assert_int_equal(tcgetattr(pty[1], &raw), 0);
	cfmakeraw(&raw); /* or what is written to the one side may come back from it as an echo */
	assert_int_equal(tcsetattr(pty[1], TCSANOW, &raw), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks), 0);
	kinds[0] = pty[0];
	kinds[1] = pty[1];
	kinds[2] = socks[1];
	kinds[3] = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		serial_destroy(f->s);
		close(f->dev_in);
		close(f->dev_out);
		f->dev_in = dup(kinds[i]);
		f->dev_out = f->dev_in; /* one descriptor for both ways */
		create(f);
		set(f, DATA, 'k');
		run_ms(f, 5);
		f->dev_out = dup(kinds[i]);
	}
	assert_int_equal(read(socks[0], buf, sizeof(buf)), 1);
	assert_int_equal(read(pty[0], buf, sizeof(buf)), 1);
	assert_int_equal(fcntl(pty[1], F_GETFL) & O_NONBLOCK, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
		close(kinds[i]);
	close(socks[0]);
}

/* A terminal stopped by its user, on either side of the pty: neither the vCPU nor the loop waits.
 */
static void test_stopped_terminal(void **state)
{
	struct fixture *f = *state;
	struct termios raw = {0};
	int pty[2];

	cfmakeraw(&raw);
	assert_int_equal(openpty(&pty[0], &pty[1], NULL, &raw, NULL), 0);
	for (int side = 0; side < 2; side++) {
		serial_destroy(f->s);
		close(f->dev_out);
		f->dev_out = dup(pty[side]);
		create(f);
		for (int i = 0; i < 400000; i++) {
			set(f, DATA, 's');
			if (i % 60000 == 0)
				run_ms(f, 3);
		}
		assert_int_equal(get(f, LSR) & 0x60, 0);
	}
	close(pty[0]);
	close(pty[1]);
}

static void test_state(void **state)
{
	struct fixture *f = *state;
	struct stream_out out;
	struct stream_in in;

	set(f, IIR, 0x81);
	set(f, IER, 0x01);
	set(f, MCR, DTR_RTS);
	set(f, SCR, 0x77);
	set(f, LCR, 0x03);
	assert_int_equal(serial_input(f->s, "0123456789abcdefghij", 20), 20);
	stream_out_init(&out);
	serial_save(f->s, &out);
	assert_int_equal(out.err, 0);
	serial_destroy(f->s);
	create(f);
	edges(&f->irq);
	stream_in_init(&in, out.buf, out.len);
	assert_int_equal(serial_load(f->s, &in), 0);
	assert_int_equal(edges(&f->irq), 1);
	assert_int_equal(get(f, SCR), 0x77);
	assert_int_equal(get(f, IIR), 0xc4);
	for (const char *p = "0123456789abcdefghij"; *p; p++)
		assert_int_equal(next_byte(f), *p);
	assert_int_equal(get(f, LSR) & 1, 0);
	/* A FIFO longer than there is. */
	out.buf[out.len - 4 - 4 - 16 - 1] = 17;
	stream_in_init(&in, out.buf, out.len);
	assert_int_equal(serial_load(f->s, &in), -EINVAL);
	stream_out_finish(&out);
	serial_reset(f->s);
	assert_int_equal(get(f, SCR), 0);
	assert_int_equal(get(f, IER), 0);
}

static void test_ports_taken(void **state)
{
	struct fixture *f = *state;
	struct serial_config cfg = {
		.pio = &f->bus, .irq = &f->irq, .loop = f->loop, .in_fd = -1, .out_fd = -1};
	struct serial *s;

	assert_int_equal(serial_create(&s, &cfg), -EEXIST);
	serial_destroy(f->s);
	f->dev_in = f->dev_out = -1;
	f->s = NULL;
	assert_int_equal(serial_create(&f->s, &cfg), 0);
	for (int i = 0; i < 100000; i++)
		set(f, DATA, 'n');
	assert_int_equal(get(f, LSR), 0x60);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_probe),
		T(test_thre),
		T(test_output),
		T(test_wide_access),
		T(test_slow_terminal),
		T(test_dead_terminal),
		T(test_input_waits),
		T(test_input_polled),
		T(test_input_interrupts),
		T(test_input_flood),
		T(test_output_flood),
		T(test_loopback),
		T(test_input_entry),
		T(test_file_input),
		T(test_descriptors),
		T(test_stopped_terminal),
		T(test_state),
		T(test_ports_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
