// SPDX-License-Identifier: MIT
// What the assembler and the C part of a guest must agree on.
#ifndef TESTS_GUESTS_MACHINE_H
#define TESTS_GUESTS_MACHINE_H

#define SEL_KERNEL_CODE32 0x08
#define SEL_KERNEL_CODE 0x10
#define SEL_KERNEL_DATA 0x18
#define SEL_USER_DATA 0x23
#define SEL_USER_CODE 0x2b
#define SEL_TSS 0x30 /* the first processor's; the next one's is 16 further */

#define FLAGS_START 0x0002 /* interrupts off */
#define CPUS_MAX 4
#define STACK_SIZE 16384
#define VECTORS 64
#define AP_CODE 0x10000 /* a page below 1 MiB that no loader uses */

#endif
