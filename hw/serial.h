// SPDX-License-Identifier: MIT
// The first serial port: a 16550A at PORT_COM1.
//
// Modem lines: the other end is always there (CTS, DSR and DCD on). Input reaches the guest once it
// shows that it wants some: it raises RTS, enables the receive interrupt, or keeps polling the line
// status. What is typed before that waits, and what the guest clears from the FIFO unseen is not
// lost.
#ifndef HW_SERIAL_H
#define HW_SERIAL_H

#include <stddef.h>

struct bus;
struct irq;
struct loop;
struct serial;
struct stream_in;
struct stream_out;

struct serial_config {
	struct bus *pio;       /* gets the ports; outlives the device */
	const struct irq *irq; /* outlives the device */
	struct loop *loop;     /* does the host's I/O; outlives the device */
	int in_fd, out_fd;     /* borrowed, see hw/chardev.h; -1: none, dropped */

	/* Sees what the guest sends, as it sends it. On vCPU threads, locked: must not call back.
	 * May be NULL. */
	void (*output)(void *arg, const char *data, size_t len);
	void *arg;
};

/* `cfg` is copied. 0 or -errno. */
int serial_create(struct serial **out, const struct serial_config *cfg);

/* NULL is fine. Output that cannot be written at once is lost: serial_flush first. */
void serial_destroy(struct serial *s);

/* Bytes to the guest from elsewhere than in_fd; how many were taken. On the loop's thread. */
size_t serial_input(struct serial *s, const void *data, size_t len);

/* Waits for output to be written, `timeout_ms` at most (-1: no limit). On the loop's thread. 0,
 * -ETIMEDOUT. */
int serial_flush(struct serial *s, int timeout_ms);

/* To the state after power-on. Input that the guest has not taken stays. vCPUs are parked, as for
 * the next two. */
void serial_reset(struct serial *s);

/* Output is not part of the state: flush before. */
void serial_save(struct serial *s, struct stream_out *out);
int serial_load(struct serial *s, struct stream_in *in);

#endif
