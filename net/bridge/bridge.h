// SPDX-License-Identifier: MIT
// The words that kvick-net is spoken to with, and what it promises.
//
// kvick-net makes a NIC on a bridge of the host and stands guard over it. It is started with a
// SOCK_SEQPACKET socket as its standard input, is sent one struct bridge_request, and answers with
// one struct bridge_reply; where that is no error, the descriptors of bridge_files come with it.
// After that it says what happens to the NIC on the host, a line of text a message, and waits for
// the end of the socket: then it takes away what it made, and the bridge with it where that was
// made for a VM and this was the last one on it. It never sees the guest's memory, nor a frame.
#ifndef NET_BRIDGE_BRIDGE_H
#define NET_BRIDGE_BRIDGE_H

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#define BRIDGE_PAIRS_MAX 8u
#define BRIDGE_RESOLVERS_MAX 3u
#define BRIDGE_LABEL 64   /* bytes of a name, with its end */
#define BRIDGE_ADDRESS 32 /* the same of an address */

/* Text is as the user wrote it, for kvick-net to judge; "" where there is none. */
struct bridge_request {
	char bridge[BRIDGE_LABEL];
	char address[BRIDGE_ADDRESS]; /* of the host on it: "10.86.0.1/24" */
	char vm[BRIDGE_LABEL], nic[BRIDGE_LABEL];
	char ip[BRIDGE_ADDRESS]; /* of the guest */
	uint32_t pairs;          /* of queues: descriptors of the tap */
	uint32_t mtu;            /* 0: the bridge's */
	uint8_t mac[6];          /* the guest's */
	bool nat, dhcp, isolate, spoof_guard;
};

/* What the guest is to have; what is not known is zero. */
struct bridge_guest {
	struct in_addr address, gateway, resolver[BRIDGE_RESOLVERS_MAX];
	struct in6_addr address6;
	uint32_t prefix, prefix6;
};

struct bridge_reply {
	int32_t error;  /* an errno */
	char text[256]; /* its message */
	char tap[IFNAMSIZ];
	struct bridge_guest guest;
};

/*
 * The lock is held by whoever has the descriptor: the NIC counts as there for as long as the VM's
 * process lives. After it come the tap's, one a pair of queues.
 */
enum bridge_files { BRIDGE_LOCK, BRIDGE_TAP, BRIDGE_FILES_MAX = BRIDGE_TAP + BRIDGE_PAIRS_MAX };

#define BRIDGE_LINE_MAX 256 /* bytes of a message after the reply */

#endif
