// SPDX-License-Identifier: MIT
// A 16550A UART whose line is infinitely fast until the host's side is full.
//
// A byte written is sent at once, so that "transmitter empty" is true as long as the host's side
// takes a burst more. The interrupt line is the OR of four conditions; a rising edge of that OR is
// one edge on the line, as on the ISA bus. Received bytes below the FIFO's trigger raise the
// time-out interrupt without the time: there is nothing to wait for, more would have come already.
#include "hw/serial.h"

#include "base/log.h"
#include "base/stream.h"
#include "base/util.h"
#include "hw/bus.h"
#include "hw/chardev.h"
#include "hw/irq.h"
#include "hw/layout.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR, REG_COUNT };

#define IER_RX 0x01u
#define IER_TX 0x02u
#define IER_LINE 0x04u
#define IER_MODEM 0x08u
#define IER_MASK 0x0fu

#define IIR_MODEM 0x00u
#define IIR_NONE 0x01u
#define IIR_TX 0x02u
#define IIR_RX 0x04u
#define IIR_LINE 0x06u
#define IIR_TIMEOUT 0x0cu
#define IIR_FIFO 0xc0u

#define FCR_ENABLE 0x01u
#define FCR_CLEAR_RX 0x02u
#define FCR_KEPT 0xc9u /* enable, DMA mode, trigger; the clears act once */

#define LCR_DLAB 0x80u

#define MCR_DTR 0x01u
#define MCR_RTS 0x02u
#define MCR_OUT1 0x04u
#define MCR_OUT2 0x08u
#define MCR_LOOP 0x10u
#define MCR_MASK 0x1fu

#define LSR_DATA 0x01u
#define LSR_OVERRUN 0x02u
#define LSR_THR_EMPTY 0x20u
#define LSR_TX_IDLE 0x40u

#define MSR_CTS 0x10u
#define MSR_DSR 0x20u
#define MSR_RI 0x40u
#define MSR_DCD 0x80u
#define MSR_DELTA_RI 0x04u

#define FIFO_SIZE 16u
#define POLLS_FOR_INPUT                                                                            \
	16u /* no driver reads the line status in vain this often unless it wants input */

_Static_assert(FIFO_SIZE <= CHARDEV_BURST, "what is put back must fit");

struct serial {
	struct serial_config cfg;
	struct chardev *host;

	pthread_mutex_t lock; /* guards what follows; taken before the chardev's own */
	uint8_t ier, fcr, lcr, mcr, scr, dll, dlm;
	uint8_t msr_delta;
	bool overrun;
	bool tx_pending; /* "transmitter empty" has not been reported since it last became true */
	bool line;       /* some enabled condition holds */
	uint8_t polls;   /* reads of the line status in a row that told the guest nothing, over time
			  */
	bool polled;     /* the last access was such a read */
	uint8_t fifo[FIFO_SIZE];
	uint8_t fifo_len;
};

/* ---- Conditions ---- */

static unsigned fifo_size(const struct serial *s)
{
	return s->fcr & FCR_ENABLE ? FIFO_SIZE : 1;
}

static unsigned fifo_trigger(const struct serial *s)
{
	static const uint8_t levels[] = {1, 4, 8, 14};

	return s->fcr & FCR_ENABLE ? levels[s->fcr >> 6] : 1;
}

static uint8_t interrupt_id(const struct serial *s)
{
	if ((s->ier & IER_LINE) && s->overrun)
		return IIR_LINE;
	if ((s->ier & IER_RX) && s->fifo_len)
		return s->fifo_len >= fifo_trigger(s) ? IIR_RX : IIR_TIMEOUT;
	if ((s->ier & IER_TX) && s->tx_pending)
		return IIR_TX;
	if ((s->ier & IER_MODEM) && s->msr_delta)
		return IIR_MODEM;
	return IIR_NONE;
}

static void update_line(struct serial *s)
{
	bool line = interrupt_id(s) != IIR_NONE;

	if (line && !s->line)
		irq_raise(s->cfg.irq);
	s->line = line;
}

static uint8_t modem_lines(const struct serial *s)
{
	if (!(s->mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	return (s->mcr & MCR_RTS ? MSR_CTS : 0) | (s->mcr & MCR_DTR ? MSR_DSR : 0) |
	       (s->mcr & MCR_OUT1 ? MSR_RI : 0) | (s->mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static bool tx_empty(struct serial *s)
{
	return (s->mcr & MCR_LOOP) || chardev_ready(s->host);
}

/* ---- Receiving ---- */

static bool wants_input(const struct serial *s)
{
	return (s->mcr & MCR_RTS) || (s->ier & IER_RX) || s->polls >= POLLS_FOR_INPUT;
}

static void receive(struct serial *s)
{
	if (s->mcr & MCR_LOOP || !wants_input(s) || s->fifo_len >= fifo_size(s))
		return;
	s->fifo_len +=
		(uint8_t)chardev_get(s->host, s->fifo + s->fifo_len, fifo_size(s) - s->fifo_len);
}

/* What came from the host goes back there: on a line with flow control it had not been sent yet. */
static void clear_fifo(struct serial *s)
{
	if (!(s->mcr & MCR_LOOP) && s->fifo_len)
		chardev_unget(s->host, s->fifo, s->fifo_len);
	s->fifo_len = 0;
}

static uint8_t read_data(struct serial *s)
{
	uint8_t v = s->fifo_len ? s->fifo[0] : 0;

	if (!s->fifo_len)
		return 0;
	memmove(s->fifo, s->fifo + 1, --s->fifo_len);
	if (!s->fifo_len && !(s->mcr & MCR_LOOP))
		chardev_request(s->host);
	return v;
}

static void loop_back(struct serial *s, uint8_t v)
{
	if (s->fifo_len < fifo_size(s))
		s->fifo[s->fifo_len++] = v;
	else
		s->overrun = true;
}

/* ---- Registers ---- */

static void write_data(struct serial *s, uint8_t v)
{
	char c = (char)v;

	if (s->mcr & MCR_LOOP) {
		loop_back(s, v);
	} else {
		chardev_put(s->host, v);
		if (s->cfg.output)
			s->cfg.output(s->cfg.arg, &c, 1);
	}
	/* Sent already, unless the host's side is full: then host_room says when. */
	s->tx_pending = tx_empty(s);
}

static void write_ier(struct serial *s, uint8_t v)
{
	v &= IER_MASK;
	/* Linux takes a port for broken where enabling this does not report an idle transmitter
	 * anew. */
	if ((v & ~s->ier & IER_TX) && tx_empty(s))
		s->tx_pending = true;
	s->ier = v;
	receive(s);
}

static void write_fcr(struct serial *s, uint8_t v)
{
	if (!(v & FCR_ENABLE))
		v = 0;
	if (((v ^ s->fcr) & FCR_ENABLE) || (v & FCR_CLEAR_RX))
		clear_fifo(s);
	s->fcr = v & FCR_KEPT;
	receive(s);
}

static void write_mcr(struct serial *s, uint8_t v)
{
	uint8_t before = modem_lines(s), changed;

	v &= MCR_MASK;
	if ((v ^ s->mcr) & MCR_LOOP)
		clear_fifo(s);
	s->mcr = v;
	changed = before ^ modem_lines(s);
	s->msr_delta |= (changed & ~MSR_RI) >> 4;
	if (changed & before & MSR_RI)
		s->msr_delta |= MSR_DELTA_RI; /* its falling edge only */
	receive(s);
}

static uint8_t read_iir(struct serial *s)
{
	uint8_t id = interrupt_id(s);

	if (id == IIR_TX)
		s->tx_pending = false;
	return id | (s->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

static uint8_t read_lsr(struct serial *s)
{
	uint8_t v = (s->fifo_len ? LSR_DATA : 0) | (s->overrun ? LSR_OVERRUN : 0);

	if (tx_empty(s))
		v |= LSR_THR_EMPTY | LSR_TX_IDLE;
	s->overrun = false;
	return v;
}

static uint8_t read_msr(struct serial *s)
{
	uint8_t v = modem_lines(s) | s->msr_delta;

	s->msr_delta = 0;
	return v;
}

/* Counts looks at the line status that follow one another and find only that nothing has come. */
static void note_poll(struct serial *s, bool idle_status)
{
	if (idle_status && s->polled && s->polls < POLLS_FOR_INPUT) {
		s->polls++;
		receive(s);
	}
	s->polled = idle_status;
}

static uint8_t reg_read(struct serial *s, unsigned reg)
{
	bool dlab = s->lcr & LCR_DLAB;
	uint8_t v;

	switch (reg) {
	case REG_DATA:
		return dlab ? s->dll : read_data(s);
	case REG_IER:
		return dlab ? s->dlm : s->ier;
	case REG_IIR_FCR:
		return read_iir(s);
	case REG_LCR:
		return s->lcr;
	case REG_MCR:
		return s->mcr;
	case REG_LSR:
		v = read_lsr(s);
		note_poll(s, v == (LSR_THR_EMPTY | LSR_TX_IDLE));
		return v;
	case REG_MSR:
		return read_msr(s);
	default:
		return s->scr;
	}
}

static void reg_write(struct serial *s, unsigned reg, uint8_t v)
{
	bool dlab = s->lcr & LCR_DLAB;

	switch (reg) {
	case REG_DATA:
		if (dlab)
			s->dll = v;
		else
			write_data(s, v);
		break;
	case REG_IER:
		if (dlab)
			s->dlm = v;
		else
			write_ier(s, v);
		break;
	case REG_IIR_FCR:
		write_fcr(s, v);
		break;
	case REG_LCR:
		s->lcr = v;
		break;
	case REG_MCR:
		write_mcr(s, v);
		break;
	case REG_SCR:
		s->scr = v;
		break;
	default:
		break; /* LSR and MSR: for the factory's tests */
	}
}

/* A wider access is one a byte, as on the ISA bus. */
static void serial_read(void *dev, uint64_t off, void *data, unsigned len)
{
	struct serial *s = dev;
	uint8_t *p = data;

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < len; i++) {
		if (off + i != REG_LSR)
			s->polled = false;
		p[i] = reg_read(s, (unsigned)off + i);
	}
	update_line(s);
	pthread_mutex_unlock(&s->lock);
}

static void serial_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct serial *s = dev;
	const uint8_t *p = data;

	pthread_mutex_lock(&s->lock);
	s->polled = false;
	for (unsigned i = 0; i < len; i++)
		reg_write(s, (unsigned)off + i, p[i]);
	update_line(s);
	pthread_mutex_unlock(&s->lock);
}

static const struct bus_ops serial_ops = {.read = serial_read, .write = serial_write};

/* ---- The host's side ---- */

static void host_input(void *arg)
{
	struct serial *s = arg;

	pthread_mutex_lock(&s->lock);
	receive(s);
	update_line(s);
	pthread_mutex_unlock(&s->lock);
}

static void host_room(void *arg)
{
	struct serial *s = arg;

	pthread_mutex_lock(&s->lock);
	s->tx_pending = true;
	update_line(s);
	pthread_mutex_unlock(&s->lock);
}

int serial_create(struct serial **out, const struct serial_config *cfg)
{
	struct serial *s = calloc(1, sizeof(*s));
	struct chardev_config host = {
		.loop = cfg->loop,
		.in_fd = cfg->in_fd,
		.out_fd = cfg->out_fd,
		.name = "serial",
		.input = host_input,
		.room = host_room,
		.arg = s,
	};
	struct bus_range ports = {PORT_COM1, REG_COUNT, &serial_ops, s, "serial"};
	int rc;

	if (!s)
		return fail(ENOMEM, "serial: out of memory");
	s->cfg = *cfg;
	pthread_mutex_init(&s->lock, NULL);
	rc = chardev_create(&s->host, &host);
	rc = rc ? rc : bus_add(cfg->pio, &ports);
	if (rc) {
		chardev_destroy(s->host);
		pthread_mutex_destroy(&s->lock);
		free(s);
		return rc;
	}
	serial_reset(s);
	*out = s;
	return 0;
}

void serial_destroy(struct serial *s)
{
	if (!s)
		return;
	bus_del(s->cfg.pio, PORT_COM1);
	chardev_destroy(s->host);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

size_t serial_input(struct serial *s, const void *data, size_t len)
{
	return chardev_feed(s->host, data, len);
}

int serial_flush(struct serial *s, int timeout_ms)
{
	return chardev_flush(s->host, timeout_ms);
}

void serial_reset(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	clear_fifo(s);
	s->ier = s->fcr = s->lcr = s->mcr = s->scr = s->dlm = s->msr_delta = s->polls = 0;
	s->dll = 12; /* 9600 baud: firmware left it so */
	s->overrun = s->line = s->polled = false;
	s->tx_pending = true;
	pthread_mutex_unlock(&s->lock);
}

void serial_save(struct serial *s, struct stream_out *out)
{
	pthread_mutex_lock(&s->lock);
	stream_begin(out, "serial", 1);
	const uint8_t regs[] = {s->ier, s->fcr, s->lcr, s->mcr, s->scr, s->dll, s->dlm,
		s->msr_delta, s->overrun, s->polls, s->fifo_len};
	stream_put(out, regs, sizeof(regs));
	stream_put(out, s->fifo, sizeof(s->fifo));
	chardev_save(s->host, out);
	stream_end(out);
	pthread_mutex_unlock(&s->lock);
}

static void load_regs(struct serial *s, struct stream_in *in)
{
	s->ier = stream_get_u8(in) & IER_MASK;
	s->fcr = stream_get_u8(in) & FCR_KEPT;
	s->lcr = stream_get_u8(in);
	s->mcr = stream_get_u8(in) & MCR_MASK;
	s->scr = stream_get_u8(in);
	s->dll = stream_get_u8(in);
	s->dlm = stream_get_u8(in);
	s->msr_delta = stream_get_u8(in) & 0x0f;
	s->overrun = stream_get_u8(in);
	s->polls = stream_get_u8(in);
	s->fifo_len = stream_get_u8(in);
	stream_get(in, s->fifo, sizeof(s->fifo));
	if (s->fifo_len > fifo_size(s)) {
		s->fifo_len = 0;
		stream_bad(in, "bytes in the FIFO");
	}
}

int serial_load(struct serial *s, struct stream_in *in)
{
	int rc = stream_open(in, "serial", 1);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&s->lock);
	load_regs(s, in);
	if (!in->err)
		chardev_load(s->host, in);
	rc = stream_close(in);
	s->polled = s->line = false;
	s->tx_pending = true; /* the host's side is empty here, whatever it was there */
	if (!rc)
		update_line(s); /* an edge too many is harmless, one too few is not */
	pthread_mutex_unlock(&s->lock);
	return rc;
}
