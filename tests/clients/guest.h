/* The guests of the .S files: each lies between two symbols, `NAME` and `NAME_end`. */
#ifndef KVMSHIM_TESTS_CLIENTS_GUEST_H
#define KVMSHIM_TESTS_CLIENTS_GUEST_H

#include <stdint.h>
#include <string.h>

#define GUEST(name) extern const uint8_t name[], name##_end[]

/* Copies guest `name` to `destination`. */
#define LOAD_GUEST(destination, name) memcpy((destination), (name), (name##_end) - (name))

/* real_guests.S; all are entered at the start with data segments at 0 and 4 GiB limits. */
GUEST(count_guest);
GUEST(spin_guest);
GUEST(mailbox_guest);
GUEST(sum_guest);

#define SPIN_COUNTER 0x800
#define SPIN_STOP 0x804
#define MAILBOX_REQUEST 0x1000
#define MAILBOX_REPLY 0x1004
#define MAILBOX_END 0xffffffff

/* protected_guest.S, longmode_guest.S; both are loaded and entered at GUEST_CODE. */
GUEST(protected_guest);
GUEST(longmode_guest);

#define GUEST_CODE 0x1000

#endif
