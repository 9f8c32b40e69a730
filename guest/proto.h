// SPDX-License-Identifier: MIT
// The protocol between the monitor and the guest's init: frames on one stream, a session a stream.
// Used by both ends; works on buffers only, and depends on nothing of either. docs/protocol.md has
// the whole of it.
#ifndef GUEST_PROTO_H
#define GUEST_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROTO_VERSION 1u
#define PROTO_PORT 1024u /* vsock port on the host, which init connects to */

#define PROTO_HEADER 8u
/* A whole frame, header included: 64 KiB is also the largest packet that vsock carries. */
#define PROTO_FRAME_MAX 65536u
#define PROTO_PAYLOAD_MAX (PROTO_FRAME_MAX - PROTO_HEADER)
#define PROTO_REQUEST_MAX (2u << 20) /* bytes of a request, over all its frames */
#define PROTO_WINDOW (256u << 10)    /* what our ends let a peer have under way in one stream */
#define PROTO_CREDIT_MAX (16u << 20) /* credit that a peer may hold in one stream */

enum proto_type {
	PROTO_HELLO = 1,         /* guest: the first frame of a session */
	PROTO_ERROR = 2,         /* both: a trouble of the sender's own; the session goes on */
	PROTO_EXEC = 16,         /* host: run a command; in pieces while PROTO_MORE is set */
	PROTO_STARTED = 17,      /* guest: the command runs */
	PROTO_SPAWN_FAILED = 18, /* guest: it does not; the session's last frame */
	PROTO_SIGNAL = 19,       /* host: send a signal to the command's process group */
	PROTO_EXIT = 20,         /* guest: the command has ended; the session's last frame */
	PROTO_DATA = 32,         /* a stream's writer: bytes, within the reader's credit */
	PROTO_EOF = 33,          /* a stream's writer: nothing follows in this stream */
	PROTO_CLOSE = 34,        /* a stream's reader: nothing more is wanted of this stream */
	PROTO_CREDIT = 35,       /* a stream's reader: so many bytes more may be sent */
};

enum proto_flag {
	PROTO_OPTIONAL = 1, /* a receiver that does not know the type passes over the frame */
	PROTO_MORE = 2,     /* the message goes on in the next frame of the same type */
};

enum proto_stream { PROTO_STDIN, PROTO_STDOUT, PROTO_STDERR, PROTO_STREAMS };

struct proto_frame {
	uint16_t type;
	uint8_t stream;
	uint8_t flags;
	uint32_t length; /* of the payload, in bytes */
	const uint8_t *payload;
};

/*
 * The receiving side: cuts a stream of bytes into frames. The caller owns the buffer, which holds
 * at least PROTO_FRAME_MAX bytes. Payloads point into it, until proto_reader_space is called again.
 */
struct proto_reader {
	uint8_t *buffer;
	size_t size, start, end;
};

void proto_reader_init(struct proto_reader *r, uint8_t *buffer, size_t size);
/* Where the next bytes go, and how many fit: at least one once proto_reader_next has returned 0. */
uint8_t *proto_reader_space(struct proto_reader *r, size_t *room);
void proto_reader_filled(struct proto_reader *r, size_t length);
/*
 * 1 with a frame in *f; 0 when the next one is not all there; -EMSGSIZE when it is longer than any
 * may be, -EPROTO when it is of a stream that does not exist. *f is the header's content then, too.
 */
int proto_reader_next(struct proto_reader *r, struct proto_frame *f);
/* Bytes of a frame that is not all there: not 0 at the end of a stream means it was cut. */
size_t proto_reader_partial(const struct proto_reader *r);

/*
 * The sending side: a bounded queue of encoded frames in one buffer of the caller's. Frames are
 * built in place, so that a stream's bytes are read from their pipe to where they are sent from.
 */
struct proto_writer {
	uint8_t *buffer;
	size_t size, start, end;
};

void proto_writer_init(struct proto_writer *w, uint8_t *buffer, size_t size);
/* How much payload a frame queued now could have, at most PROTO_PAYLOAD_MAX; -1: not even none. */
int proto_writer_room(const struct proto_writer *w);
/* Where that payload goes. Valid when proto_writer_room is not negative. */
uint8_t *proto_writer_payload(struct proto_writer *w);
/* Queues a frame of h's type, stream, flags and length around the payload written there. */
void proto_writer_commit(struct proto_writer *w, const struct proto_frame *h);
/* Queues a copy of the frame *f. False, and nothing done, where it does not fit. */
bool proto_writer_put(struct proto_writer *w, const struct proto_frame *f);
/* What is to be sent next, and its length; 0 when the queue is empty. */
const uint8_t *proto_writer_pending(const struct proto_writer *w, size_t *length);
void proto_writer_sent(struct proto_writer *w, size_t length);

/* The payload of PROTO_SIGNAL and PROTO_CREDIT: one number. */
#define PROTO_U32_SIZE 4u
void proto_put_u32(uint8_t *p, uint32_t value);
int proto_get_u32(const struct proto_frame *f, uint32_t *value);

/*
 * The messages below have a proto_put_, which writes a payload and returns its length, and a
 * proto_get_, which returns 0 or -EPROTO. Their sizes are those of the fixed part: a longer payload
 * is a later version's and its rest is passed over. Times are nanoseconds since the guest's kernel
 * started its clock. Errors are errno numbers of Linux on x86.
 */
enum proto_stage { PROTO_STAGE_INIT, PROTO_STAGE_MODULES, PROTO_STAGE_CONNECTED, PROTO_STAGES };

struct proto_hello {
	uint32_t version;
	uint64_t stage_ns[PROTO_STAGES];
};
#define PROTO_HELLO_SIZE (8u + 8u * PROTO_STAGES)
size_t proto_put_hello(uint8_t *p, const struct proto_hello *h);
int proto_get_hello(const struct proto_frame *f, struct proto_hello *h);

struct proto_started {
	uint32_t pid;
	uint64_t at_ns;
};
#define PROTO_STARTED_SIZE 16u
size_t proto_put_started(uint8_t *p, const struct proto_started *s);
int proto_get_started(const struct proto_frame *f, struct proto_started *s);

/* What a failed start was about. */
enum proto_step {
	PROTO_STEP_COMMAND,     /* executing the file; ENOENT: there is none */
	PROTO_STEP_INTERPRETER, /* the file is there, what it names to run it is not */
	PROTO_STEP_CWD,
	PROTO_STEP_RESOURCES, /* pipes, a process, memory */
};

/* PROTO_ERROR (step is 0) and PROTO_SPAWN_FAILED: a number, and a name or sentence beside it. */
struct proto_error {
	uint16_t error;
	uint16_t step;
	const char *text; /* not terminated; may hold any byte */
	size_t length;    /* cut to PROTO_TEXT_MAX by the sender */
};
#define PROTO_TEXT_MAX 1024u
#define PROTO_ERROR_SIZE (4u + PROTO_TEXT_MAX)
size_t proto_put_error(uint8_t *p, const struct proto_error *e);
int proto_get_error(const struct proto_frame *f, struct proto_error *e);

struct proto_exit {
	uint32_t code;   /* the exit status when signal is 0 */
	uint32_t signal; /* the signal that killed it */
	uint64_t user_us, system_us;
	uint64_t maxrss_kib;
	uint64_t at_ns;
};
#define PROTO_EXIT_SIZE 40u
size_t proto_put_exit(uint8_t *p, const struct proto_exit *e);
int proto_get_exit(const struct proto_frame *f, struct proto_exit *e);

/* What PROTO_EXEC carries: fields of u16 tag, u16 zero, u32 length, value. */
enum proto_field {
	PROTO_FIELD_ARG = 1, /* one a field; the strings end with their zero byte */
	PROTO_FIELD_ENV = 2,
	PROTO_FIELD_CWD = 3,
	PROTO_FIELD_HOSTNAME = 4,
	PROTO_FIELD_FLAGS = 5, /* u32 of PROTO_EXEC_... */
	PROTO_FIELD_ENTROPY = 6,
	PROTO_FIELD_NET = 7,           /* a struct proto_net; one a network interface */
	PROTO_FIELD_OPTIONAL = 0x8000, /* in the tag: may be passed over */
};

enum proto_exec_flag {
	PROTO_EXEC_STDIN = 1, /* stdin is stream 0; without it, /dev/null */
};

/*
 * What one network interface of the guest is to have. Addresses are in network order, as IPv6 where
 * they may be of either family, IPv4 as ::ffff:a.b.c.d then; one that is all zeroes is none.
 */
#define PROTO_NETS 32u /* interfaces in a request, at most */
#define PROTO_RESOLVERS 3u
struct proto_net {
	uint8_t mac[6];           /* by which the interface is found */
	uint16_t mtu;             /* 0: as it is */
	uint8_t prefix4, prefix6; /* bits; 0: no address of this family */
	uint8_t address4[4], gateway4[4];
	uint8_t address6[16], gateway6[16];
	uint8_t resolvers[PROTO_RESOLVERS][16];
};
/* As PROTO_FIELD_NET's value; a layout of another version is passed over. */
#define PROTO_NET_VERSION 1u
#define PROTO_NET_SIZE (52u + PROTO_RESOLVERS * 16u)

struct proto_request {
	char **argv;          /* NULL-terminated */
	char **envp;          /* NULL-terminated "NAME=VALUE" */
	const char *cwd;      /* NULL: / */
	const char *hostname; /* NULL: as it is */
	uint32_t flags;
	const uint8_t *entropy;
	size_t entropy_length;
	unsigned int n_nets;
	struct proto_net nets[PROTO_NETS];
};

/* The bytes proto_request_put writes. */
size_t proto_request_size(const struct proto_request *q);
void proto_request_put(uint8_t *p, const struct proto_request *q);
/*
 * Checks all of an encoded request and sets *pointers to the number of pointers that
 * proto_request_get needs for argv and envp. -EPROTO; -ENOTSUP for a field that must be known and
 * is not.
 */
int proto_request_check(const uint8_t *p, size_t length, size_t *pointers);
/* Fills *q from a checked request; its strings stay in p, its vectors are in `pointers`. */
void proto_request_get(uint8_t *p, size_t length, char **pointers, struct proto_request *q);

/* "DATA" for PROTO_DATA; NULL for a type this version does not know. */
const char *proto_type_name(unsigned int type);

#endif
