// SPDX-License-Identifier: MIT
// The words kvick-unpack is spoken to with where it decompresses clusters of images.
//
// As "kvick-unpack MODE clusters" it has a file in memory open as CLUSTERS_MEMORY, which a monitor
// has mapped too: the compressed data is there, and what becomes of it goes there. Each message on
// its standard input, a SOCK_SEQPACKET socket, is one job; each is answered, in any order.
#ifndef LOADER_UNPACK_CLUSTERS_H
#define LOADER_UNPACK_CLUSTERS_H

#include <stdint.h>

#define CLUSTERS_WORD "clusters"
#define CLUSTERS_MEMORY 3

struct cluster_job {
	uint32_t number;         /* the monitor's */
	uint32_t kind;           /* enum decompress_kind */
	uint64_t from, from_len; /* bytes of the file in memory */
	uint64_t to, to_len;
};

struct cluster_answer {
	uint32_t number;
	int32_t rc; /* 0 or -errno */
};

struct clusters_memory {
	uint8_t *at;
	uint64_t len;
};

/* Maps CLUSTERS_MEMORY. 0, or -errno with a message. */
int clusters_open(struct clusters_memory *m);

/* Serves until the socket is closed. 0, or -errno with a message. */
int clusters_serve(struct clusters_memory *m);

#endif
