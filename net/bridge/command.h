// SPDX-License-Identifier: MIT
// kvick net create|ls|rm: bridges that stay.
#ifndef NET_BRIDGE_COMMAND_H
#define NET_BRIDGE_COMMAND_H

/* argv[0] is the word after `kvick net`. The exit status. */
int command_run(int argc, char **argv);

#endif
