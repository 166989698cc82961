/* What a thread may still ask of the kernel: a seccomp filter that traps everything else. */
#ifndef KVMSHIM_TESTS_CLIENTS_CONFINE_H
#define KVMSHIM_TESTS_CLIENTS_CONFINE_H

#include <stddef.h>

/*
 * From now on the calling thread may make the system calls in `calls`, `number` of them, and ioctl
 * with the requests in `ioctls`. Anything else ends the program with SIGSYS.
 */
void confine(const unsigned *calls, size_t number, const unsigned long *ioctls, size_t requests);

#endif
