/* What firecracker.c and its guest both know. */
#ifndef KVMSHIM_TESTS_CLIENTS_FIRECRACKER_GUEST_H
#define KVMSHIM_TESTS_CLIENTS_FIRECRACKER_GUEST_H

#define BASE 0x100000
#define ZERO_PAGE 0x7000
#define START_INFO_MAGIC 0x336ec578

/* Guest-physical words that both sides use. */
#define COUNTER 0x2000	/* counts up while the guest waits for GO */
#define GO 0x2008
#define REQUEST 0x2010	/* to the device, which sets the reply to one more */
#define REPLY 0x2014
#define INTERRUPTS 0x2018 /* of the device */
#define TICKS 0x201c	/* of the timer */
#define APS 0x2020	/* application processors that have started */
#define HIGH 0x100001000 /* in the memory above 4 GiB */
#define HIGH_VALUE 0x1122334455667788

#define DEVICE 0xd0000000
#define DEVICE_MAGIC 0x74726976
#define DEVICE_STATUS 0x70
#define DEVICE_NOTIFY 0x50
#define DEVICE_GSI 5

#define SERIAL_PORT 0x3f8
#define KEYBOARD_PORT 0x64
#define KEYBOARD_RESET 0xfe

#define ROUNDS 50

#ifndef __ASSEMBLER__
#include "guest.h"

GUEST(firecracker_guest);
extern const uint8_t firecracker_pvh[];
#endif

#endif
