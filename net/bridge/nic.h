// SPDX-License-Identifier: MIT
// A guest's NIC on a bridge: its tap, what it may send, the address that it has.
#ifndef NET_BRIDGE_NIC_H
#define NET_BRIDGE_NIC_H

#include "net/bridge/host.h"

struct nic_wish {
	struct bridge_wish bridge;
	char vm[BRIDGE_LABEL], nic[BRIDGE_LABEL];
	struct subnet ip; /* none: one is chosen, always the same if it is free */
	uint32_t pairs, mtu;
	uint8_t mac[6];
	bool isolate, spoof_guard;
};

struct nic {
	struct nic_state state;
	struct bridge_state bridge;
	int files[BRIDGE_FILES_MAX]; /* enum bridge_files; -1: none */
	unsigned count;              /* of them */
};

/* Makes it and says what the guest is to have. 0, or -errno with a message and nothing left. */
int nic_make(struct nic *n, const struct nic_wish *w, struct bridge_guest *guest);

/* Closes its files: from then on the tap is there for as long as the VM has it. */
void nic_let_go(struct nic *n);

/* Takes away what was made for it, and the bridge with it if it was the last one there. */
void nic_remove(struct nic *n);

#endif
